"""Tables and badges as HTML: cells are prepared strings, nothing is worked out here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantcase.analysis.compare import PER_GPU, Comparison
from quantcase.analysis.points import Point
from quantcase.text import number, signed_percent, signed_percents, text

__all__ = ["Column", "badge", "banner", "change", "delta", "figure", "interval", "kind_words", "none", "table"]

_SHAPES = {"faster": "▲", "slower": "▼", "equivalent": "=", "negligible": "≈", "inconclusive": "?"}


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
    """A change against the baseline: the figure, its interval, and one of five words with shape and colour."""
    if comparison is None:
        return "–"
    c = comparison
    word = "different, negligible" if c.kind == "negligible" else c.kind
    return (
        f'<span class="qc-change">{signed_percent(c.ratio)}</span> '
        f'<span class="qc-delta" data-class="{c.kind}">{_SHAPES[c.kind]} {word}</span> '
        f'<small class="qc-span">{interval(c)}{_needed(c)}</small>'
    )


def interval(c: Comparison) -> str:
    """The interval of a change, `(+33.1 to +39.4 %)`, and of servers with unlike GPUs how many each has."""
    if c.low != c.low:
        return f"(one run: no interval{_servers(c)})"
    return f"({signed_percents(c.low, c.high)}{_servers(c)})"


def _servers(c: Comparison) -> str:
    ours, theirs = c.gpus
    if ours == theirs:
        return ""
    return f"; {'per GPU, ' if c.metric == PER_GPU else ''}{ours} GPU{'s' if ours > 1 else ''} against {theirs}"


def change(c: Comparison) -> str:
    """A change in a sentence: the figure and its interval."""
    return f"{signed_percent(c.ratio)} {interval(c)}"


def figure(point: Point | None, digits: int = 3) -> str:
    """A measured value for a table, or why it is not shown."""
    if point is None:
        return "–"
    if not point.shown:
        return f'<span class="qc-few" title="too few requests for this percentile">n = {point.n}, too few</span>'
    return number(point.value, digits)


def kind_words(c: Comparison) -> str:
    """faster, slower, equivalent, different but negligible, or inconclusive and how much is missing."""
    if c.kind == "negligible":
        return "different, negligible"
    return f"inconclusive{_needed(c)}" if c.kind == "inconclusive" else c.kind


def _needed(c: Comparison) -> str:
    if c.more_repeats is None:
        return ""
    return f", about {c.more_repeats} more repeat{'s' if c.more_repeats != 1 else ''}"


def badge(grade: str) -> str:
    """The grade of evidence."""
    return f'<span class="qc-grade" data-grade="{text(grade)}">{text(grade)}</span>'


def banner(kind: str, words: str) -> str:
    """A line that must not be overlooked; `words` must be safe already."""
    return f'<div class="qc-banner" data-kind="{kind}" role="note">{words}</div>'


def none(sentence: str) -> str:
    """The honest sentence that stands where there is no data."""
    return f'<p class="qc-none">{sentence}</p>'
