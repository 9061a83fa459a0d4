"""How the words of a model card are dressed: as a page of the site, or as a README.md for the Hub.

A page has HTML tables and coloured words. A README has Markdown tables, because it is read raw, too, and the Hub throws
attributes away. Text of a bundle stays text in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantcase import html
from quantcase.analysis.card import clean
from quantcase.analysis.compare import Comparison
from quantcase.analysis.cost import saving
from quantcase.analysis.points import Point
from quantcase.html import Column, change, kind_words
from quantcase.pages.cost import saving_cell
from quantcase.pages.quality import grade_badge
from quantcase.text import number, percent, span, text

__all__ = ["PAGE", "README", "Dress"]

_GRADES = {"pass": "pass", "caution": "caution", "fail": "fail", "unknown": "not measurable"}
_MOST = 1000  # characters of one text: a hostile one fills no page
# Entities of text() that a README may have back as characters, so that it can be read raw: inside a line none of these
# makes markup. A full stop stays encoded after www, an underscore at the edge of a word, a colon within one.
_HARMLESS = re.compile(
    r"&#(?:37|40|41|43|44|45|47|61);|(?<![wW]{3})&#46;|(?<=[A-Za-z0-9])&#95;(?=[A-Za-z0-9])"
    r"|&#58;(?= |$)|(?<=[0-9])&#58;(?=[0-9])"
)


@dataclass(frozen=True)
class Dress:
    """One way to dress a card. `safe` takes any text, `again` takes text that text() made safe."""

    safe: Callable[[object], str]
    again: Callable[[str], str]
    table: Callable[[str, Sequence[Column], Sequence[Sequence[str]]], str]
    value: Callable[[Point, int], str]  # with so many significant digits, and its 95 % interval where there is one
    change: Callable[[Comparison | None], str]
    saving: Callable[[Comparison | None], str]
    none: Callable[[str], str]
    grade: Callable[[str], str]


def _readable(safe: str) -> str:
    return _HARMLESS.sub(lambda m: chr(int(m[0][2:-1])), safe)


def _pipes(name: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Cells are safe already, so none holds a pipe or a line's end."""
    if not rows:
        raise ValueError(f"table {name} has no rows: say so in a sentence instead")
    head = [[c.title for c in columns], ["---:" if c.figures else "---" for c in columns]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*head, *rows])


def _value_words(p: Point, digits: int) -> str:
    if p.low != p.low or p.high != p.high:
        return number(p.value, digits)
    return f"{number(p.value, digits)} ({number(p.low, digits)} to {number(p.high, digits)})"


def _change_words(c: Comparison | None) -> str:
    return "–" if c is None else f"{change(c)}, {kind_words(c)}"


def _saving_html(c: Comparison | None) -> str:
    return "–" if c is None else saving_cell(c)


def _saving_words(c: Comparison | None) -> str:
    """saving_cell() without its markup."""
    if c is None:
        return "–"
    if c.low != c.low:
        return "one run: no interval"
    if c.kind not in ("faster", "slower"):
        return f"no saving shown ({kind_words(c)})"
    share, low, high = saving((c.ratio, c.low, c.high))
    return f"{percent(share)} ({percent(low)} to {percent(high)})"


PAGE = Dress(
    safe=lambda value: text(clean(value, _MOST)),
    again=lambda safe: safe,
    table=html.table,
    value=lambda p, digits: span(p.value, p.low, p.high, digits),
    change=html.delta,
    saving=_saving_html,
    none=html.none,
    grade=grade_badge,
)
README = Dress(
    safe=lambda value: _readable(text(clean(value, _MOST))),
    again=_readable,
    table=_pipes,
    value=_value_words,
    change=_change_words,
    saving=_saving_words,
    none=lambda sentence: sentence,
    grade=lambda grade: f"**{_GRADES[grade]}**",
)
