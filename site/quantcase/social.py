"""Preview cards for links that are shared: one small PNG a case, drawn from the case's own headline.

Drawn by vl-convert, which the charts need anyway; no font is fetched.
"""

from __future__ import annotations

import html
import textwrap
import zlib
from functools import cache

import vl_convert

from quantcase.charts import fonts
from quantcase.pages.findings import headline
from quantcase.pages.view import CaseView

__all__ = ["SIZE", "card", "case_card", "site_card", "uri"]

SIZE = (1200, 630)  # what Open Graph consumers ask for; opengraph.xyz and the platforms' own guides name it
_FONT = "DejaVu Sans, Liberation Sans, Arial, sans-serif"
_MOST_TITLE, _MOST_LINES = 3, 6


def uri(case: str) -> str:
    """The card's path in the site."""
    return f"cases/{case}/card.png"


def case_card(view: CaseView) -> bytes:
    """The card of a case: its title, its answer, its grade. What a page may not say, its card does not say either."""
    info = view.case.bundle.info
    weights = "dummy weights" if info.weights == "dummy" else "real weights"
    foot = f"Evidence: {info.grade}, {weights}. Intervals at 95 %."
    return card(view.case.title, html.unescape(headline(view)), foot)


def site_card() -> bytes:
    """The card of every page that is of no case."""
    return card("Quantcase", "Should we quantize this model? Measured answers, one case per model and machine.", "")


@cache
def card(title: str, answer: str, foot: str) -> bytes:
    """A PNG of SIZE with three texts, cut to what fits."""
    lines = [_text(90, 110, 26, "#9fc3d8", "Quantcase")]
    y = 185
    for line in _wrapped(title, 40, _MOST_TITLE):
        lines.append(_text(90, y, 46, "#ffffff", line, weight="bold"))
        y += 58
    y += 22
    for line in _wrapped(answer, 68, _MOST_LINES):
        lines.append(_text(90, y, 28, "#dfeaf1", line))
        y += 38
    lines.append(_text(90, 580, 24, "#9fc3d8", _wrapped(foot, 80, 1)[0] if foot else ""))
    w, h = SIZE
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
        f'<rect width="{w}" height="{h}" fill="#12344a"/><rect x="0" y="0" width="18" height="{h}" fill="#e08a3c"/>'
        f"{''.join(lines)}</svg>"
    )
    fonts.ready()
    return _smaller(bytes(vl_convert.svg_to_png(svg, scale=1.0)))


def _smaller(png: bytes) -> bytes:
    """The same picture packed tighter: vl-convert packs fast, and a card is asked for by phones."""
    head, at, data = png[:8], 8, b""
    chunks: list[tuple[bytes, bytes]] = []
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        data += body if kind == b"IDAT" else b""
        chunks += [] if kind == b"IDAT" else [(kind, body)]
        at += 12 + length
    chunks.insert(len(chunks) - 1, (b"IDAT", zlib.compress(zlib.decompress(data), 6)))
    packed = (len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks)
    return head + b"".join(packed)


def _wrapped(words: str, width: int, most: int) -> list[str]:
    printable = "".join(c if c.isprintable() else " " for c in words)
    return textwrap.wrap(" ".join(printable.split()), width, max_lines=most, placeholder=" …") or [""]


def _text(x: int, y: int, size: int, fill: str, words: str, weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" font-family="{_FONT}" font-size="{size}" font-weight="{weight}" fill="{fill}">'
        f"{html.escape(words)}</text>"
    )
