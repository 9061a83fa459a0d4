"""Numbers and untrusted text as they stand on a page."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import markdown
import nh3

from collector.bundle.read import Load
from quantcase.signs import localized, signed

__all__ = [
    "counted", "fixed", "load_words", "notes_html", "number", "percent", "plain", "said", "signed_percent",
    "signed_percents", "span", "text",
]  # fmt: skip

_MOST_PLACES = 6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NOTE_TAGS = {"p", "ul", "ol", "li", "strong", "em", "code", "pre", "blockquote", "h3", "h4", "h5", "h6", "br", "hr"}


class _Entities(dict[int, str]):
    """Character -> what stands for it; made when it is first met."""

    def __missing__(self, point: int) -> str:
        c = chr(point)
        self[point] = c if c == " " or (c.isascii() and c.isalnum()) else f"&#{point};"
        return self[point]


_ENTITIES = _Entities()


def text(value: object) -> str:
    """Text that stays text: every character but letters, digits and spaces as a numeric entity.

    Escaping HTML would not be enough: Markdown, its extensions and macro plugins read the page after us.
    """
    return " ".join(str(value).split()).translate(_ENTITIES)


def said(words: str) -> str:
    """A sentence of our own analysis as safe text, its figures in the signs of the build's number language."""
    return text(localized(words))


def load_words(name: str) -> str:
    """A load point in words, as safe text: `concurrency 16` for c16."""
    load = Load.of(name)
    return said(load.words) if load else text(name)


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits (an int whole) and thousands separators; a dash when there is none.

    Digits before the decimal point are never rounded away. What six decimals cannot hold is written as a power of ten,
    so that nothing small is shown as zero. This and all below have the signs of the build's number language (`signs`).
    """
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, int):
        return signed(f"{value:,}".replace("-", "−"))
    places = _places(value, digits)
    if places > max(_MOST_PLACES, digits):
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return signed(f"{mantissa} × 10{str(int(power)).translate(_RAISED)}".replace("-", "−"))
    return fixed(value, min(places, _MOST_PLACES))


def span(value: float | None, low: float, high: float, digits: int = 3) -> str:
    """A value with its interval, `2,655 (2,590–2,720)`; without one when it is unknown.

    All three have the same decimals: no more than `digits` asks for, and no more than reach the second significant
    digit of half the interval, which is as far as it carries (GUM, JCGM 100:2008, 7.2.6); but always as many as its
    ends need to differ from each other.
    """
    if value is None or math.isnan(value) or math.isnan(low) or math.isnan(high):
        return number(value, digits)
    half, to = (high - low) / 2, "–" if low >= 0 else " to "  # a dash before a minus sign reads as a sign
    places = min(_places(value or half, digits), _places(half, 2)) if 0 < half < math.inf else _MOST_PLACES + 1
    if places > _MOST_PLACES:
        return f"{number(value, digits)} <small>({number(low, digits)}{to}{number(high, digits)})</small>"
    while places < _MOST_PLACES and fixed(low, places) == fixed(high, places):
        places += 1
    return f"{fixed(value, places)} <small>({fixed(low, places)}{to}{fixed(high, places)})</small>"


def signed_percent(ratio: float) -> str:
    """A ratio as a signed change, `+36.3 %`; a dash when there is none, no sign where it rounds to zero."""
    if not math.isfinite(ratio):
        return "–"
    change = 100 * (ratio - 1)
    shown = fixed(abs(change), 1)
    sign = "" if shown == fixed(0, 1) else "−" if change < 0 else "+"
    return f"{sign}{shown} %"


def signed_percents(low: float, high: float) -> str:
    """The interval of a ratio as that of a signed change, `+33.1 to +39.4 %`."""
    return f"{signed_percent(low).removesuffix(' %')} to {signed_percent(high)}"


def fixed(value: float | Decimal, places: int = 0) -> str:
    """A number with so many decimals and thousands separators, `1,234.5`; nothing is shown as minus zero."""
    shown = f"{value:,.{places}f}"
    return signed((shown.lstrip("-") if not shown.strip("-0.") else shown).replace("-", "−"))


def percent(share: float | None, places: int = 1) -> str:
    """A share as `12.3 %`: with a space before the sign, as everywhere on the pages (SI brochure, 5.4.7).

    A dash when there is none.
    """
    return "–" if share is None or share != share else f"{fixed(100 * share, places)} %"


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its word: `1 repeat`, `1,200 repeats`."""
    return f"{fixed(n)} {one if n == 1 else many or one + 's'}"


def plain(value: float | Decimal) -> str:
    """A number as short as it can be written, to six digits: `4.25`, `16`."""
    return signed(f"{value:g}".replace("-", "−"))


def _places(value: float, digits: int) -> int:
    """The decimals that `digits` significant digits of a value take, after it is rounded to them: 9.996 has 10.0."""
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def notes_html(source: str) -> str:
    """A person's own Markdown as clean HTML: no links, images, scripts or attributes; headings start at h3."""
    whole = source.encode("utf-8", "replace").decode("utf-8")  # halves of characters, out of JSON or file names
    stripped = re.sub(r"<!--.*?-->", "", whole, flags=re.S)
    lowered = re.sub(r"^(#{1,4})(?=\s)", lambda m: "#" * min(6, len(m[1]) + 2), stripped, flags=re.M)
    return nh3.clean(markdown.markdown(lowered), tags=_NOTE_TAGS, attributes={})
