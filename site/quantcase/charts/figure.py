"""A chart as a figure of the page: inline SVG that shows without JavaScript and takes its colours from CSS."""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import vl_convert

from quantcase.charts import cache as disk
from quantcase.charts.interactive import Live, attribute, document, rounded
from quantcase.charts.theme import CONFIG, SENTINELS

__all__ = ["Figure", "render", "slug"]


_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")


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

    `live` says what a reader may do with the interactive view beyond reading tooltips.
    """
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "config": CONFIG, **rounded(spec)}
    # Vega cuts long labels between UTF-16 halves, and vl-convert then refuses the text: such characters are drawn as □.
    drawn = _BEYOND_BMP.sub("□", json.dumps(whole, sort_keys=True, ensure_ascii=False))
    return Figure(name, _follow_page(_draw(drawn), name, alt), whole, alt, caption, document(spec, live or Live()))


@lru_cache(maxsize=64)  # those of one page twice; all of them would be every SVG of every case
def _draw(spec: str) -> str:
    """The SVG of a spec; drawn once however often it is shown, and kept on disk for the next build."""
    return disk.kept(spec, ".svg", lambda: str(vl_convert.vegalite_to_svg(spec)))


def _follow_page(svg: str, name: str, alt: str) -> str:
    """Colours become CSS variables, the size that of the column, ids unique."""
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
