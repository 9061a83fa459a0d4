"""A chart as a figure of the page: inline SVG that shows without JavaScript and takes its colours from CSS."""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import vl_convert

from quantcase.charts import cache as disk
from quantcase.charts import fonts, quick
from quantcase.charts.interactive import Live, attribute, document, rounded
from quantcase.charts.theme import CONFIG, SENTINELS
from quantcase.signs import SIGNS, language, localized

__all__ = ["Figure", "render", "slug"]

quick.hurry()  # whoever draws comes by here

_SLIM = frozenset("abcdefghijklnopqrstuvxyz0123456789 -.,:_/")
_NARROW, _WIDE = 0.72, 1.15  # em; the widest letters of DejaVu, Liberation and Verdana are below
_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")
# vl-convert measures texts of a font that it does not know, as the page's own is, in this one, after a search for it.
_MEASURED_IN = "Times New Roman"


@dataclass(frozen=True)
class Figure:
    """A drawn chart. `alt` states its finding in words; `spec` is Vega-Lite as drawn, `live` as the browser gets it."""

    name: str
    svg: str
    spec: dict[str, Any]
    alt: str
    caption: str
    live: dict[str, Any]

    def html(self) -> str:
        """One line of HTML, so that Markdown leaves it alone."""
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure class="qc-figure" id="fig-{self.name}" data-spec=\'{attribute(self.live)}\'>'
            f'<div class="qc-chart">{self.svg}</div>{caption}</figure>'
        )


def slug(*parts: str) -> str:
    """A name for ids: letters, digits and dashes; unlike names stay unlike."""
    joined = "-".join(parts)
    plain = re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")
    return plain if plain == joined else f"{plain}-{hashlib.sha256(joined.encode()).hexdigest()[:6]}"


def render(spec: dict[str, Any], name: str, alt: str, caption: str, live: Live | None = None) -> Figure:
    """Draw a Vega-Lite spec. `name` must be unique on its page: ids inside the SVG are made from it.

    `alt` and `caption` are English: their figures get the signs of the build's number language here.
    `live` says what a reader may do with the interactive view beyond reading tooltips.
    """
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "config": CONFIG, **rounded(spec)}
    # Vega cuts long labels between UTF-16 halves, and vl-convert then refuses the text: such characters are drawn as □.
    drawn = _BEYOND_BMP.sub("□", json.dumps(_lean(whole), sort_keys=True, ensure_ascii=False))
    alt, caption = localized(alt), localized(caption)
    svg = _follow_page(_draw(drawn, language()), name, alt)
    return Figure(name, svg, whole, alt, caption, document(spec, live or Live()))


def _lean(spec: dict[str, Any]) -> dict[str, Any]:
    """The same picture in less time: without limits for labels that none can reach, and without words for each mark.

    A text with a limit is measured twice, and measuring texts is what most of a drawing's time goes to. Numbers never
    reach one; words do not when all of them are short. What Vega says of each mark is taken away later in any case.
    The font is the one in which texts are measured anyway; `_follow_page` names the page's own again.
    """
    config = {**spec["config"], "aria": False, "axisQuantitative": {"labelLimit": 0}, "font": _MEASURED_IN}
    if max(map(_width, _words(spec)), default=0.0) < min(CONFIG["axis"]["labelLimit"], CONFIG["legend"]["labelLimit"]):
        config |= {of: {**config[of], "labelLimit": 0} for of in ("axis", "legend")}
    return {**spec, "config": config}


def _words(spec: Any) -> Iterator[str]:
    """Every text in a spec that could be a label: values of rows, and of scales."""
    for rows in spec.get("datasets", {}).values():
        for row in rows:
            yield from (v for v in row.values() if isinstance(v, str))
    yield from _domains(spec)


def _domains(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("domain", "sort", "labelExpr") and isinstance(value, list | str):
                yield from (v for v in ([value] if isinstance(value, str) else value) if isinstance(v, str))
            elif key != "datasets":
                yield from _domains(value)
    elif isinstance(part, list):
        for value in part:
            yield from _domains(value)


@lru_cache(maxsize=4096)
def _width(text: str) -> float:
    """No fewer pixels than a label takes in any common font; infinite for what is not ASCII."""
    if not text.isascii():
        return math.inf
    size: float = CONFIG["axis"]["labelFontSize"]
    return size * sum(_NARROW if c in _SLIM else _WIDE for c in text)


@lru_cache(maxsize=64)  # those of one page twice; all of them would be every SVG of every case
def _draw(spec: str, numbers: str) -> str:
    """The SVG of a spec with the signs of a number language; drawn once however often it is shown, and kept on disk for
    the next build."""
    if numbers == "en":
        return disk.kept(spec, ".svg", lambda: _svg(spec))
    point, group = SIGNS[numbers]
    signs = {"decimal": point, "thousands": group, "grouping": [3], "currency": ["$", ""]}
    return disk.kept(f"{numbers}\n{spec}", ".svg", lambda: _svg(spec, format_locale=signs))


def _svg(spec: str, **more: Any) -> str:
    fonts.ready()
    return str(vl_convert.vegalite_to_svg(spec, **more))


def _follow_page(svg: str, name: str, alt: str) -> str:
    """Colours become CSS variables, the size that of the column, ids unique."""
    svg = svg.replace(f'font-family="{_MEASURED_IN}"', f'font-family="{CONFIG["font"]}"')
    for colour, variable in SENTINELS.items():
        svg = svg.replace(colour, f"var({variable})").replace(colour.upper(), f"var({variable})")
    svg = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{name}-{m[1]}"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{name}-{m[1]})", svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', lambda m: f'{m[1]}="#{name}-{m[2]}"', svg)
    head_end = svg.index(">")
    head = re.sub(r'\s(?:width|height|class|style)="[^"]*"', "", svg[:head_end])
    label = html.escape(alt, quote=True)
    svg = f'{head} role="img" aria-label="{label}"{svg[head_end:]}'
    # vl-convert's own aria labels repeat raw data for every mark: the one text alternative says it better.
    svg = re.sub(r'\s(?:aria-label|aria-roledescription|role)="[^"]*"(?=[^<]*>)', _keep_first(), svg)
    return " ".join(svg.split())


def _keep_first() -> Any:
    seen: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        key = match[0].strip().split("=")[0]
        if key in seen:
            return ""
        seen.add(key)
        return match[0]

    return replace
