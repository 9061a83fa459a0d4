"""Judges one answer against one reference. Every scorer is a pure function of two texts, so anybody can score again.

A scorer takes the answer as the model gave it: with "Answer:" before it, in bold, in a code fence, with a full stop.
It does not take a right value that stands somewhere in a wrong answer: what counts is the last thing said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

__all__ = ["SCORERS", "Judged", "ScorerName", "problem_of", "score"]

ScorerName = Literal["number", "text", "lines", "json", "label", "criterion", "contains"]
Problem = Literal["", "empty", "repeated", "invalid", "cut"]

# Neither a part of a word nor of a date: 2024-02-25 is no number.
_NUMBER = re.compile(
    r"(?<![\w.,])(?<!\d[-\u2212])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w|[.,\u2212-]\d)",
)
_LEAD = re.compile(r"^(?:the\s+)?(?:final\s+)?(?:answer|result|output)(?:\s+is)?\s*[:=]\s*", re.IGNORECASE)
_STOP = re.compile(r"(?<=.)[.!]$")
_FENCE = re.compile(r"```(?:[\w+-]*[ \t]*\n)?(.*?)(?:```|\Z)", re.DOTALL)
_REPEATED_SHARE = 0.5  # of all groups of four words; an answer that counts to ten has none
_LEAST_WORDS = 16


class Judged(Struct, frozen=True):
    """What a scorer says: 1 or 0, what it read as the answer, and what is wrong with the answer's form, if anything."""

    score: float
    parsed: str | None
    problem: Problem = ""


def score(scorer: ScorerName, output: str, reference: str) -> Judged:
    """Judge `output`. An empty answer is wrong whatever was asked.

    Raises:
        KeyError: no scorer of that name.
    """
    judge = SCORERS[scorer]
    if not output.strip():
        return Judged(0.0, None, "empty")
    judged = judge(output, reference)
    if not judged.problem and repeats_itself(output):
        return Judged(judged.score, judged.parsed, "repeated")
    return judged


def problem_of(output: str, finish_reason: str | None) -> Problem:
    """What is wrong with the form of an answer that nobody scores."""
    if not output.strip():
        return "empty"
    if repeats_itself(output):
        return "repeated"
    return "cut" if finish_reason == "length" else ""


def repeats_itself(text: str) -> bool:
    """Whether more than half of the groups of four words have stood before: the usual sign of a broken model."""
    words = text.split()
    if len(words) < _LEAST_WORDS:
        longest = max((len(w) for w in words), default=0)
        return longest > 200 and len(set(text)) < 20  # one endless word
    groups = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return 1 - len(set(groups)) / len(groups) > _REPEATED_SHARE


def _plain(text: str) -> str:
    """One line without the dress that models give it: lead-in, bold, quotes, backticks, final full stop."""
    line = text.replace("**", "").replace("__", "").strip()
    line = _STOP.sub("", _LEAD.sub("", line))
    for quote in "\"'`":
        if len(line) > 1 and line[0] == line[-1] == quote:
            line = _STOP.sub("", line[1:-1])
    return " ".join(line.split())


def _inside(output: str) -> str:
    """What stands in the last code fence, or the whole answer."""
    fenced = _FENCE.findall(output)
    return str(fenced[-1]) if fenced else output


def _lines(output: str) -> list[str]:
    return [line for line in (_plain(raw) for raw in _inside(output).strip().splitlines()) if line]


def number(output: str, reference: str) -> Judged:
    """The last number said, by value: 1,024 and 1024.0 are the same."""
    found = _NUMBER.findall(_plain(output))
    if not found:
        return Judged(0.0, None, "invalid")
    value = found[-1].replace(",", "").replace("\u2212", "-")
    return Judged(float(float(value) == float(reference)), value)


def text(output: str, reference: str) -> Judged:
    """The last line, without regard to case and dress."""
    lines = _lines(output)
    if not lines:
        return Judged(0.0, None, "invalid")
    return Judged(float(lines[-1].casefold() == _plain(reference).casefold()), lines[-1])


def lines(output: str, reference: str) -> Judged:
    """All lines in their order, case and all: for answers whose form is the task."""
    got = [" ".join(line.split()) for line in _inside(output).strip().splitlines() if line.strip()]
    wanted = [" ".join(line.split()) for line in reference.strip().splitlines()]
    return Judged(float(got == wanted), "\n".join(got))


def json_value(output: str, reference: str) -> Judged:
    """The JSON value in the answer, key by key and type by type: "34" is not 34, and one key more is one too many."""
    body = _inside(output).strip()
    start = min((i for i in (body.find("{"), body.find("[")) if i >= 0), default=-1)
    if start < 0:
        return Judged(0.0, None, "invalid")
    try:
        value, _ = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_none_such).raw_decode(body[start:])
        said = json.dumps(value, ensure_ascii=False, sort_keys=True)
    except (ValueError, RecursionError):
        return Judged(0.0, None, "invalid")
    said = said.encode("utf-8", "replace").decode("utf-8")  # "\\ud800" is JSON, and no text that can be written down
    return Judged(float(_same(value, json.loads(reference))), said)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once each: a key said twice has no single value."""
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _none_such(constant: str) -> Any:
    """NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is no JSON")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    return type(a) is type(b) and a == b


def label(output: str, reference: str) -> Judged:
    """The first line as a label: case, quotes and - or _ or blanks between words do not matter."""
    lines = _lines(output)
    if not lines:
        return Judged(0.0, None, "invalid")
    got = as_label(lines[0])
    return Judged(float(got == as_label(reference)), got)


def as_label(text: str) -> str:
    """A label in one spelling."""
    return re.sub(r"[\s_-]+", "_", text.strip().casefold()).strip("_:.")


def contains(output: str, reference: str) -> Judged:
    """The reference stands in the answer as whole words."""
    pattern = r"(?<!\w)" + r"\s+".join(re.escape(w) for w in reference.split()) + r"(?!\w)"
    found = re.search(pattern, output, re.IGNORECASE)
    return Judged(float(found is not None), found[0] if found else None)


class Criterion(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What can be checked of a free answer. Each group of `all_of` needs one of its words; none of `none_of` may be."""

    all_of: list[list[str]] = []
    none_of: list[str] = []
    pattern: str = ""  # a regular expression that must be found
    most_words: int = 0
    least_words: int = 0


def criterion(output: str, reference: str) -> Judged:
    """A free answer against a `Criterion` in JSON; `parsed` names what was missed."""
    wanted = msgspec.json.decode(reference.encode(), type=Criterion)
    words = len(output.split())
    missed = ["/".join(group) for group in wanted.all_of if not any(contains(output, w).score for w in group)]
    missed += [f"not {w}" for w in wanted.none_of if contains(output, w).score]
    if wanted.pattern and not re.search(wanted.pattern, output, re.IGNORECASE | re.DOTALL):
        missed.append(wanted.pattern)
    if wanted.most_words and words > wanted.most_words:
        missed.append(f"at most {wanted.most_words} words")
    if words < wanted.least_words:
        missed.append(f"at least {wanted.least_words} words")
    return Judged(float(not missed), f"missed: {'; '.join(missed)}" if missed else "met")


SCORERS: dict[str, Callable[[str, str], Judged]] = {
    "number": number,
    "text": text,
    "lines": lines,
    "json": json_value,
    "label": label,
    "criterion": criterion,
    "contains": contains,
}
