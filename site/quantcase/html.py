"""Tables and badges as HTML: cells are prepared strings, nothing is worked out here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantcase.analysis.compare import Comparison
from quantcase.text import signed_percent, text

__all__ = ["Column", "badge", "banner", "delta", "none", "table"]

_SHAPES = {"better": "▲", "worse": "▼", "equivalent": "=", "negligible": "≈", "inconclusive": "?"}
_WORDS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "negligible": "negligible",
    "inconclusive": "inconclusive",
}


@dataclass(frozen=True)
class Column:
    """A header, and whether its cells are figures (right-aligned)."""

    title: str
    figures: bool = False


def table(name: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """An HTML table in one block. Cells must be safe already (text(), number(), badge()); there must be rows."""
    if not rows:
        raise ValueError(f"table {name} has no rows: say so in a sentence instead")
    head = "".join(f'<th scope="col"{_num(c)}>{c.title}</th>' for c in columns)
    body = []
    for row in rows:
        first, *rest = zip(columns, row, strict=True)
        cells = f'<th scope="row"{_num(first[0])}>{first[1]}</th>'
        cells += "".join(f"<td{_num(c)}>{value}</td>" for c, value in rest)
        body.append(f"<tr>{cells}</tr>")
    note = f"<caption>{caption}</caption>" if caption else ""
    inner = f"<table>{note}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="qc-table" id="table-{name}">{inner}</div>'


def _num(column: Column) -> str:
    return ' class="num"' if column.figures else ""


def delta(comparison: Comparison | None) -> str:
    """A change against the baseline: shape, word, colour, and its interval in the tooltip and to screen readers."""
    if comparison is None:
        return "–"
    c = comparison
    shown = signed_percent(c.ratio)
    interval = (
        "one run: no interval" if c.low != c.low else f"95 %: {signed_percent(c.low)} to {signed_percent(c.high)}"
    )
    word = f"{_SHAPES[c.kind]} {_WORDS[c.kind]}"
    return f'{shown} <span class="qc-delta" data-class="{c.kind}" title="{interval}">{word}</span>'


def badge(grade: str) -> str:
    """The grade of evidence."""
    return f'<span class="qc-grade" data-grade="{text(grade)}">{text(grade)}</span>'


def banner(kind: str, words: str) -> str:
    """A line that must not be overlooked; `words` must be safe already."""
    return f'<div class="qc-banner" data-kind="{kind}" role="note">{words}</div>'


def none(sentence: str) -> str:
    """The honest sentence that stands where there is no data."""
    return f'<p class="qc-none">{sentence}</p>'
