"""The samples browser: every answer beside the baseline's, as small JSON files and as a few static ones on the page.

Prompts, answers and names of tasks are hostile. In JSON they are strings that quality.js puts into text nodes; on the
page every character of them but letters, digits and spaces is a numeric entity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec

from collector.bundle.read import QualityItem, QualityRow
from collector.bundle.redaction import read_redacted
from quantcase.analysis.paired import first_difference
from quantcase.catalog import Case
from quantcase.html import none
from quantcase.text import fixed, text

__all__ = ["files", "section", "segments", "taken_out"]

CHUNK = 25  # items a file: a page of the browser needs one or two
_STATIC = 12  # samples that stand on the page itself
_STATIC_CHARS = 1000
_MOST_CHARS = 4000
_TAIL_CHARS = 1000  # of a long prompt its end stays too: there stands the question
_MOST_WORDS = 2000
_MOST_PAIRS = 40  # of equal words, for each word of a text: a diff of "the the the ..." would take seconds
_WORD = re.compile(r"\s*\S+|\s+")
_DIGITS = re.compile(r"([0-9]+)")
_SPACE = re.compile(r"(\s)")
_SAYS = {True: ("right", "✓ right"), False: ("wrong", "✗ wrong"), None: ("unscored", "unscored")}
_TAGS = {"=": ("", ""), "+": ("<ins>", "</ins>"), "-": ("<del>", "</del>")}
_TAKEN_OUT = (
    "The texts were taken out: prompts, references and answers are not shown here and are in none of the files that "
    "this site offers, while verdicts and figures are those of the whole run."
)


@dataclass(frozen=True)
class _Sample:
    """One item and the first pass's answers to it, the baseline's first."""

    item: QualityItem
    rows: dict[str, QualityRow]
    base: QualityRow | None
    case: Case

    @cached_property
    def others(self) -> list[QualityRow]:
        return [row for row in self.rows.values() if row is not self.base]

    @cached_property
    def differs(self) -> list[str]:
        """Variants that answered otherwise; a failure is no answer."""
        base = self.base
        if base is None or base.status != "ok":
            return []
        return [r.variant for r in self.others if r.status == "ok" and (r.output or "") != (base.output or "")]

    def entry(self) -> dict[str, Any]:
        """What the index says of it: enough to filter by."""
        before = _right(self.base) if self.base else None
        return {
            "id": self.item.prompt_id,
            "suite": self.item.suite,
            "task": self.item.task,
            "differs": self.differs,
            "lost": [r.variant for r in self.others if before is True and _right(r) is False],
            "gained": [r.variant for r in self.others if before is False and _right(r) is True],
            "failed": [name for name, r in self.rows.items() if r.status != "ok"],
            "marked": [name for name in self.rows if (name, self.item.prompt_id) in self.case.marks],
        }

    def document(self) -> dict[str, Any]:
        """All of it."""
        item = self.item
        any_row = self.base or next(iter(self.rows.values()))
        prompt = _asked(item) or any_row.prompt or ""
        reference = item.reference if item.reference is not None else any_row.reference
        if item.scorer == "criterion" and reference is not None:
            reference = _criterion_words(reference)
        made: dict[str, Any] = {
            "id": item.prompt_id,
            "suite": item.suite,
            "task": item.task,
            "prompt": _both_ends(prompt),
            "reference": None if reference is None else reference[:_MOST_CHARS],
            "answers": [self._answer(row) for row in self.rows.values()],
        }
        if len(prompt) > _MOST_CHARS or len(reference or "") > _MOST_CHARS:
            made["cut"] = True
        return made

    def _answer(self, row: QualityRow) -> dict[str, Any]:
        mark = self.case.marks.get((row.variant, self.item.prompt_id))
        own, base = row.output or "", self.base
        comparable = base is not None and base.status == "ok" and row.status == "ok"
        if base is row:
            parts = [("=", own)] if own else []
        elif comparable and base is not None:
            parts = segments(base.output or "", own)
        else:
            parts = [("+", own)] if own else []
        kept, cut = _kept(parts)
        made: dict[str, Any] = {
            "variant": row.variant,
            "right": _right(row),
            "status": row.status,
            "error": None if row.error is None else row.error[:_MOST_CHARS],
            "problem": row.problem,
            "parsed": None if row.parsed is None else row.parsed[:_MOST_CHARS],
            "mark": mark.mark if mark else None,
            "remark": mark.remark[:_MOST_CHARS] if mark else "",
            "segments": kept,
        }
        if cut:
            made["cut"] = True
        if comparable and base is not None and base is not row and (first := _first(base, row)):
            made["first"] = first
        return made


def taken_out(case: Case) -> bool:
    """Whether this is a copy without its texts (`collect redact`, or a site's `redact: [texts]`)."""
    said = read_redacted(case.bundle.folder)
    return said is not None and said.texts


def files(case: Case) -> Iterator[tuple[str, str]]:
    """(name, JSON text): `index.json` to filter by, and the items themselves in `0.json`, `1.json`, ...; nothing where
    the texts were taken out.
    """
    if taken_out(case):
        return
    found = _samples(case)
    names = _names(case)
    index = {
        "baseline": case.baseline,
        "variants": [n for n in names if n != case.baseline],
        "chunk": CHUNK,
        "items": [s.entry() for s in found],
    }
    yield "index.json", _json(index)
    for number, start in enumerate(range(0, len(found), CHUNK)):
        yield f"{number}.json", _json([s.document() for s in found[start : start + CHUNK]])


def section(case: Case) -> str:
    """The block that quality.js fills. Without JavaScript, and on paper, it holds the first samples itself."""
    if taken_out(case):
        return none(_TAKEN_OUT)
    found = _samples(case)
    if not found:
        return none("No answers were recorded: there is nothing to read side by side.")
    shown = [s for s in found if s.differs][:_STATIC]
    shown += [s for s in found if not s.differs][: _STATIC - len(shown)]
    articles = "".join(_article(s) for s in shown)
    which = "those that differ from the baseline come first" if shown[0].differs else "none differs from the baseline"
    words = f"{len(shown)} of {fixed(len(found))} samples; {which}."
    return (
        '<div class="qc-samples" data-src="samples/">'
        f'<div class="qc-samples-static"><p class="qc-samples-note">{words}</p>{articles}</div></div>'
    )


def segments(baseline: str, own: str) -> list[tuple[str, str]]:
    """Own text in pieces: "=" stands in both, "+" only here, "-" only in the baseline. Words carry the space before."""
    if baseline == own:
        return [("=", own)] if own else []
    a, b = _WORD.findall(baseline), _WORD.findall(own)
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    left, right = a[head : len(a) - tail], b[head : len(b) - tail]
    found = [("=", "".join(a[:head]))]
    if _cheap(len(a), len(b), left, right):
        for kind, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
            if kind == "equal":
                found.append(("=", "".join(left[i:j])))
            else:
                found += [("-", "".join(left[i:j])), ("+", "".join(right[k:m]))]
    else:
        found += [("-", "".join(left)), ("+", "".join(right))]
    found.append(("=", "".join(a[len(a) - tail :])))
    return [(op, piece) for op, piece in found if piece]


def _cheap(words: int, others: int, left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether the words between the common ends can be matched without the page waiting for it."""
    if max(words, others) > _MOST_WORDS or not left or not right:
        return False
    here = Counter(right)
    return sum(count * here[word] for word, count in Counter(left).items()) <= _MOST_PAIRS * max(len(left), len(right))


def _names(case: Case) -> list[str]:
    """Variants that were asked, the baseline first, then in the study's order."""
    asked = {variant for variant, number in case.answers if number == 1}
    return sorted((v.name for v in case.study.variants if v.name in asked), key=lambda n: n != case.baseline)


def _samples(case: Case) -> list[_Sample]:
    """Every item that has an answer, in the study's order of suites; texts that were only scored have none."""
    order = {suite.title: n for n, suite in enumerate(case.study.quality)}
    first = [(name, case.answers[name, 1]) for name in _names(case)]
    found = []
    for item in case.quality_items.values():
        rows = {name: answers[item.prompt_id] for name, answers in first if item.prompt_id in answers}
        if rows and item.scorer != "likelihood":
            found.append(_Sample(item, rows, rows.get(case.baseline), case))
    found.sort(key=lambda s: (order.get(s.item.suite, len(order)), s.item.suite, _natural(s.item.prompt_id)))
    return found


def _natural(words: str) -> tuple[list[str | tuple[int, str]], str]:
    """2 before 10. Digits are compared by their count, then as text: nobody's id is too long a number."""
    parts: list[str | tuple[int, str]] = []
    for n, part in enumerate(_DIGITS.split(words)):
        digits = part.lstrip("0")
        parts.append((len(digits), digits) if n % 2 else part)
    return parts, words


def _right(row: QualityRow) -> bool | None:
    """Right, wrong, or neither: not scored, failed, or a score between."""
    if row.status != "ok" or row.score is None or 0 < row.score < 1:
        return None
    return row.score >= 1


def _asked(item: QualityItem) -> str:
    """The prompt; a conversation as lines that begin with who speaks."""
    if item.prompt is not None or item.messages is None:
        return item.prompt or ""
    return "\n".join(f"{m.get('role', '')}: {_content(m.get('content'))}" for m in item.messages)


def _content(content: object) -> str:
    """A message's text; of one in parts the texts, and the kinds of what is no text."""
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    return "" if content is None else str(content)


def _part(part: object) -> str:
    if isinstance(part, dict):
        return str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]"
    return str(part)


def _both_ends(prompt: str) -> str:
    """A long prompt without its middle."""
    if len(prompt) <= _MOST_CHARS:
        return prompt
    gap = f"\n[... {len(prompt) - _MOST_CHARS:,} characters and more are left out ...]\n"
    return prompt[: _MOST_CHARS - _TAIL_CHARS - len(gap)] + gap + prompt[-_TAIL_CHARS:]


def _kept(parts: Iterable[tuple[str, str]], most: int = _MOST_CHARS) -> tuple[list[tuple[str, str]], bool]:
    """The first `most` characters of the answer, and at most as many that are only in the baseline."""
    room = {True: most, False: most}  # by whether the text is the answer's own
    kept, cut = [], False
    for op, piece in parts:
        own = op != "-"
        if len(piece) > room[own]:
            cut = True
        if piece[: room[own]]:
            kept.append((op, piece[: room[own]]))
        room[own] -= min(room[own], len(piece))
        if cut and not room[True]:
            break
    return kept, cut


def _first(base: QualityRow, row: QualityRow) -> dict[str, Any] | None:
    """The first token that differs, and where it stands in the answer when its tokens spell the answer.

    Offsets count characters, not UTF-16 units.
    """
    if not base.tokens or not row.tokens:
        return None
    at = first_difference(base.tokens, row.tokens)
    if at is None:
        return None
    token = row.tokens[at] if at < len(row.tokens) else ""
    found: dict[str, Any] = {"position": at, "token": token[:_MOST_CHARS]}
    before = "".join(row.tokens[:at])
    if token and (row.output or "").startswith(before + token):
        found["at"] = len(before)
    return found


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


# -- what stands on the page itself ------------------------------------------------------------------------------------


def _article(sample: _Sample) -> str:
    shown = sample.document()
    name = text(shown["id"])
    link = text("#sample=" + quote(shown["id"], safe="/"))
    asked = f"{_label('Prompt')}{_box(_safe(_short(shown['prompt'])), 'qc-prompt')}"
    if shown["reference"] is not None:
        asked += f"{_label('Reference')}{_box(_safe(_short(shown['reference'])), 'qc-reference')}"
    columns = "".join(_column(a, sample) for a in shown["answers"])
    return (
        f'<article class="qc-sample" id="sample={name}"><header><a href="{link}"><bdi>{name}</bdi></a></header>'
        f'{asked}<div class="qc-columns">{columns}</div></article>'
    )


def _column(answer: dict[str, Any], sample: _Sample) -> str:
    variant, status = answer["variant"], answer["status"]
    base = sample.base is not None and variant == sample.base.variant
    if status == "ok":
        kind, says = _SAYS[answer["right"]]
    else:
        kind, says = "failed", f"! failed: <bdi>{text(_short(answer['error'] or status))}</bdi>"
    verdict = f'<span class="qc-says qc-{kind}">{says}</span>'
    if answer["problem"]:
        verdict += f' <span class="qc-says qc-problem">! {text(answer["problem"])}</span>'
    title = f"<strong><bdi>{text(variant)}</bdi></strong>{' (baseline)' if base else ''}"
    comparable = sample.base is not None and sample.base.status == "ok" and status == "ok"
    same = comparable and not base and variant not in sample.differs
    if same:
        body = '<p class="qc-samples-note">= the same as the baseline</p>'
    else:
        parts, cut = _kept(answer["segments"], _STATIC_CHARS)
        words = _marked(parts, answer.get("first"))
        body = _box(words) if words else '<p class="qc-samples-note">(empty)</p>' if status == "ok" else ""
        body += '<p class="qc-samples-note">cut here</p>' if cut or answer.get("cut") else ""
    return f'<section class="qc-column"><header>{title} {verdict}</header>{body}{_notes(answer)}</section>'


def _notes(answer: dict[str, Any]) -> str:
    lines = []
    if first := answer.get("first"):
        ends = "" if first["token"] else ": it ends there"
        lines.append(f"Leaves the baseline at token {first['position'] + 1}{ends}.")
    if answer["mark"]:
        remark = f": <bdi>{text(_short(answer['remark']))}</bdi>" if answer["remark"] else "."
        lines.append(f"Marked {text(answer['mark'])}{remark}")
    return "".join(f'<p class="qc-samples-note">{line}</p>' for line in lines)


def _marked(parts: Iterable[tuple[str, str]], first: dict[str, Any] | None) -> str:
    """The pieces as HTML, with the first token that differs in a <mark>."""
    start = first.get("at", -1) if first else -1
    end = start + len(first["token"]) if first and start >= 0 else start
    at, made = 0, []
    for op, piece in parts:
        before, after = _TAGS[op]
        inside = _safe(piece)
        if op != "-":
            low, high = max(0, start - at), min(len(piece), end - at)
            if low < high:
                inside = f"{_safe(piece[:low])}<mark>{_safe(piece[low:high])}</mark>{_safe(piece[high:])}"
            at += len(piece)
        made.append(f"{before}{inside}{after}")
    return "".join(made)


def _label(words: str) -> str:
    return f'<p class="qc-label">{words}</p>'


def _box(safe: str, kind: str = "") -> str:
    return f'<div class="qc-text{f" {kind}" if kind else ""}" dir="auto">{safe}</div>'


def _short(words: str) -> str:
    return words if len(words) <= _STATIC_CHARS else f"{words[: _STATIC_CHARS - 2]} …"


def _safe(words: str) -> str:
    """text() that keeps every space and line."""
    return "".join(
        text(part) if not part.isspace() else part if part == " " else f"&#{ord(part)};"
        for part in _SPACE.split(words)
        if part
    )


def _criterion_words(reference: str) -> str:
    """A criterion as a person would say it; the JSON itself where it is of another shape."""
    try:
        c = msgspec.json.decode(reference.encode())
        said = ["one of: " + ", ".join(group) for group in c.get("all_of", [])]
        said += [f"not: {word}" for word in c.get("none_of", [])]
        said += [f"matches {c['pattern']}"] if c.get("pattern") else []
        said += [f"at least {c['least_words']} words"] if c.get("least_words") else []
        said += [f"at most {c['most_words']} words"] if c.get("most_words") else []
    except (msgspec.DecodeError, AttributeError, TypeError, UnicodeEncodeError):
        return reference
    return "; ".join(said) or reference
