"""How a table gets onto paper whole: its size of type, and whether its page is turned, by what cannot be broken in it.

A page cannot be scrolled. Words of ordinary length are kept whole; longer ones (hashes, paths, names) may break
anywhere. The widest word of each column, summed, tells how much width a table needs at the least.
"""

from __future__ import annotations

import html
import re

from quantcase.text import text

__all__ = ["fit", "fit_tables"]

_TABLE = re.compile(r'<div class="qc-table" id="([^"]*)">(<table>.*?</table>)</div>', re.S)
_ROW = re.compile(r"<tr>(.*?)</tr>", re.S)
_CELL = re.compile(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", re.S)
_TAG = re.compile(r"(<[^>]*>)")
# What the style sheet keeps on one line: badges, marks, names of variants, intervals.
_WHOLE = re.compile(r'<span class="qc-(?:delta|check|verdict|grade|change)"[^>]*>(.*?)</span>', re.S)
_SMALL = re.compile(r"<small>(.*?)</small>", re.S)
_WORD = re.compile(r"(?:&#?\w+;|[^\s&<>])+")
_MOST = 500  # characters of a cell
_LONGEST = 16  # characters of a word that is kept whole

_UPRIGHT_PT, _TURNED_PT = 500.0, 747.0  # A4 less the margins of report.css
_PADDING_PT = 7.0  # of a cell, both sides
_EM = 0.56  # mean width of a character of the report's font, bold and figures included
_SIZES = ((8.0, "m"), (7.2, "s"), (6.4, "xs"))
_SHORT = 10  # rows of a table that is moved to the next page rather than split


def fit(table: str) -> tuple[str, bool]:
    """The size class of a table (`m`, `s`, `xs`) and whether it needs a turned page."""
    widths = _widths(table)
    for room, turned in ((_UPRIGHT_PT, False), (_TURNED_PT, True)):
        for size, name in _SIZES:
            if sum(widths) * size * _EM + len(widths) * _PADDING_PT <= room:
                return name, turned
    return _SIZES[-1][1], True


def fit_tables(body: str) -> str:
    """Give every generated table its size and orientation, and let its long words break."""

    def placed(match: re.Match[str]) -> str:
        name, inner = match[1], _CELL.sub(_soften, match[2])
        size, turned = fit(match[2])
        kinds = f"qc-table qc-{size}{' qc-turned' if turned else ''}"
        kinds += " qc-short" if inner.count("<tr>") <= _SHORT else ""
        return f'<div class="{kinds}" id="{name}">{inner}</div>'

    return _TABLE.sub(placed, body)


def _widths(table: str) -> list[int]:
    """Characters of the widest unbreakable word, by column."""
    widths: list[int] = []
    for row in _ROW.findall(table):
        cells = [_widest(cell) for cell in _CELL.findall(row)]
        widths += [0] * (len(cells) - len(widths))
        widths = [max(pair) for pair in zip(widths, [*cells, *[0] * (len(widths) - len(cells))], strict=True)]
    return widths


def _widest(cell: str) -> int:
    kept = [len(html.unescape(_TAG.sub("", words))) for words in [*_WHOLE.findall(cell), *_SMALL.findall(cell)]]
    words = html.unescape(_TAG.sub(" ", _SMALL.sub(" ", _WHOLE.sub(" ", cell)))).split()
    return max([*kept, *(min(len(w), _LONGEST) for w in words)], default=0)


def _soften(cell: re.Match[str]) -> str:
    """Long words of a cell may break anywhere, very long ones are cut; tags are left alone."""

    def word(m: re.Match[str]) -> str:
        return f'<span class="qc-long">{m[0]}</span>' if len(html.unescape(m[0])) > _LONGEST else m[0]

    return "".join(p if p.startswith("<") else _WORD.sub(word, _cut(p)) for p in _TAG.split(cell[0]))


def _cut(piece: str) -> str:
    """A row must fit on a page: what an engine said at length is cut, and the cell says so."""
    words = html.unescape(piece)
    return piece if len(words) <= _MOST else f"{text(words[:_MOST])}… (cut: {len(words):,} characters in the bundle)"
