"""What `collect check` prints: counts, then one line a finding with the id of its rule; or the same as JSON.

Names of files and variants may come from anywhere: what could move a terminal's cursor is replaced.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector.bundle.check import LEVELS, RULES, Fault, Outcome, Rule
from collector.bundle.read import open_bundle
from collector.bundle.rules import FAMILIES
from collector.errors import QuantcaseError

__all__ = ["counts", "found_json", "found_text", "passes", "rules_json", "rules_text", "verdict"]

_SHOWN = 10  # findings of one rule, before the rest are counted
_PLURAL = {"error": "errors", "interrupted": "interrupted", "warning": "warnings", "note": "notes"}


def passes(said: Outcome, *, strict: bool, allow_interrupted: bool = False) -> bool:
    """Whether a bundle passes: nothing graver than a note, or than a warning where not `strict`.

    Args:
        allow_interrupted: an unfinished run passes, too, when all that is there is sound.
    """
    failing = {"error", *(() if allow_interrupted else ("interrupted",)), *(("warning",) if strict else ())}
    return not any(f.level in failing for f in said.faults)


def verdict(said: Outcome) -> str:
    """The bundle in one word or two."""
    levels = {f.level for f in said.faults}
    return "not sound" if "error" in levels else "interrupted" if "interrupted" in levels else "ok"


def counts(said: Outcome) -> str:
    """How many rules passed, and how many findings of each level there are, in words."""
    number = Counter(f.level for f in said.faults)
    told = [f"{number[x]} {x if number[x] == 1 else _PLURAL[x]}" for x in LEVELS if number[x] and x != "interrupted"]
    silent = len(RULES) - len(said.applied)
    rules = f"{len(said.passed)} of {len(said.applied)} rules passed, {silent} did not apply"
    return ", ".join([rules, *told]) if said.faults else f"{rules}, nothing was found"


def found_text(folder: Path, said: Outcome, width: int | None) -> str:
    """One bundle's findings. Lines are wrapped at `width`; with None each finding is one line, however long."""
    lines = [_one_line(f"{folder.name}: {verdict(said)}{_facts(folder)}"), _fold(f"  {counts(said)}", width, 2)]
    for fault, more in _shortened(said.faults):
        head = f"  {fault.rule:<6} {fault.level:<11} "
        tail = f" (and {more:,} more of {fault.rule}: --json lists all)" if more else ""
        fix = f"; {fault.fix}" if fault.fix else ""
        lines.append(_fold(f"{head}{_one_line(f'{fault.where}: {fault.problem}{fix}{tail}')}", width, len(head)))
    return "\n".join(lines)


def _shortened(faults: Sequence[Fault]) -> Iterator[tuple[Fault, int]]:
    """The findings to show; the last shown of a rule with how many more there are."""
    total = Counter(f.rule for f in faults)
    shown: Counter[str] = Counter()
    for fault in faults:
        shown[fault.rule] += 1
        if shown[fault.rule] <= _SHOWN:
            yield fault, total[fault.rule] - _SHOWN if shown[fault.rule] == _SHOWN else 0


def _facts(folder: Path) -> str:
    try:
        bundle = open_bundle(folder)
    except QuantcaseError:
        return ""
    info = bundle.info
    files = len(bundle.manifest.resources)
    return f" ({info.grade}, weights {info.weights}, {info.cells_done} cell repeats, {files} files)"


def _one_line(words: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


def _fold(line: str, width: int | None, indent: int) -> str:
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True, tabsize=1
    )


def found_json(found: Sequence[tuple[Path, Outcome]], *, strict: bool, allow_interrupted: bool = False) -> str:
    """Every finding of every bundle, with the rules that passed and those that did not apply."""
    bundles = [
        {
            "bundle": folder.name,
            "verdict": verdict(said),
            "passes": passes(said, strict=strict, allow_interrupted=allow_interrupted),
            "findings": [msgspec.to_builtins(f) for f in said.faults],
            "passed": _sorted(said.passed),
            "not_applied": _sorted(RULES.keys() - said.applied),
        }
        for folder, said in found
    ]
    return _document({"strict": strict, "allow_interrupted": allow_interrupted, "bundles": bundles})


def rules_json() -> str:
    """The rule book."""
    parts = ("id", "level", "sentence", "why", "fix")
    return _document({"rules": [{part: getattr(r, part) for part in parts} for r in RULES.values()]})


def rules_text(width: int) -> str:
    """The rule book, a family at a time."""
    lines: list[str] = []
    for number, title in FAMILIES.items():
        lines += ["", title] if lines else [title]
        lines += [_rule_line(r, width) for r in RULES.values() if r.family == number]
    return "\n".join(lines)


def _rule_line(rule: Rule, width: int) -> str:
    head = f"  {rule.id:<6} {rule.level:<11} "
    return _fold(f"{head}{rule.sentence}", width, len(head))


def _sorted(ids: frozenset[str] | set[str]) -> list[str]:
    return sorted(ids, key=lambda i: RULES[i].number)


def _document(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
