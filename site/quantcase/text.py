"""Numbers and untrusted text as they stand on a page."""

from __future__ import annotations

import math
import re

import markdown
import nh3

from collector.bundle.read import Load

__all__ = ["load_words", "notes_html", "number", "signed_percent", "span", "text"]

_PLAIN = re.compile(r"[^A-Za-z0-9 ]")
_NOTE_TAGS = {"p", "ul", "ol", "li", "strong", "em", "code", "pre", "blockquote", "h3", "h4", "h5", "h6", "br", "hr"}


def text(value: object) -> str:
    """Text that stays text: every character but letters, digits and spaces as a numeric entity.

    Escaping HTML would not be enough: Markdown, its extensions and macro plugins read the page after us.
    """
    return _PLAIN.sub(lambda m: f"&#{ord(m[0])};", " ".join(str(value).split()))


def load_words(name: str) -> str:
    """A load point in words, as safe text: `concurrency 16` for c16."""
    load = Load.of(name)
    return text(load.words if load else name)


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits (an int whole) and thousands separators; a dash when there is none."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{min(places, 6)}f}"
    return shown.replace("-", "−")


def span(value: float | None, low: float, high: float, digits: int = 3) -> str:
    """A value with its interval, `2,655 (2,590–2,720)`; without one when it is unknown."""
    if value is None or math.isnan(value) or math.isnan(low) or math.isnan(high):
        return number(value, digits)
    return f"{number(value, digits)} <small>({number(low, digits)}–{number(high, digits)})</small>"


def signed_percent(ratio: float) -> str:
    """A ratio as a signed change, `+36.3 %`."""
    change = 100 * (ratio - 1)
    sign = "−" if change < 0 else "+"
    return f"{sign}{abs(change):.1f} %"


def notes_html(source: str) -> str:
    """A person's own Markdown as clean HTML: no links, images, scripts or attributes; headings start at h3."""
    stripped = re.sub(r"<!--.*?-->", "", source, flags=re.S)
    lowered = re.sub(r"^(#{1,4})(?=\s)", lambda m: "#" * min(6, len(m[1]) + 2), stripped, flags=re.M)
    return nh3.clean(markdown.markdown(lowered), tags=_NOTE_TAGS, attributes={})
