"""The signs of numbers: which character parts the decimals, and which the thousands.

Every figure of a page is formatted in English and then given the signs of the build's number language. That language
is a setting of one build: `build.generate` and `build.make_case` set it around rendering from `Options.site.numbers`,
in whichever process they run, and nothing else does. It is a context variable, not a module's global, so that two
builds in one process (threads, tests) do not meet. Machine formats (case.json, llms.txt, downloads, the Markdown of
model cards for the hub, SVG coordinates, JSON in pages) do not pass through here.

A figure and its unit stand on one line. Everywhere up to the finished page they are parted by a plain space: in the
pages' Markdown (`collect site`), in case.json, CSV, llms.txt, the search index, and in what the copy buttons give. Only
the HTML that MkDocs writes gets no-break spaces, in one place (`joined`), so that no maker of text has to think of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

__all__ = ["SIGNS", "Language", "joined", "language", "localized", "signed", "written_in"]

Language = Literal["en", "de", "fr"]
# number language -> (decimal sign, group sign). fr: the narrow no-break space (Imprimerie nationale, U+202F).
SIGNS: dict[str, tuple[str, str]] = {"en": (".", ","), "de": (",", "."), "fr": (",", "\u202f")}
_NUMBER = re.compile(r"(?<![\w&#.,/])(?<!\w-)(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w/-]|[.,]\d)")
# The units of our pages; text() writes some of their characters as entities.
_UNITS = (
    r"[KMGT]i?B|[kMG]?bit|[kMG]Hz|[mµu]?s|min|h|[kM]?Wh?|[kM]?J|°C|USD|EUR|GBP|CHF|\$|tok"
    r"(?:(?:/|&#47;)(?:s|J|min|h))?"
)
# Left as it is: a tag with its attributes, and what scripts and shells read (a notebook's cell is there twice). Else
# the space before a unit, and before a per cent sign whatever stands before it: `Use, %`.
_SPACE = re.compile(
    r"<(?:(script|style|pre|code|kbd|textarea)\b.*?</\1>|div class=\"clipboard-copy-txt\".*?</div>|[^>]*>)"
    rf"| (?:(?=%|&#37;)|(?<=[0-9⁰¹²³⁴-⁹∞>)] )(?=(?:{_UNITS})(?![\w&/(-]|[.,]\d)))",
    re.S,
)
_LANGUAGE: ContextVar[str] = ContextVar("quantcase_number_language", default="en")


def language() -> str:
    """The number language of the build that is being made; `en` outside of one."""
    return _LANGUAGE.get()


@contextmanager
def written_in(chosen: str) -> Iterator[None]:
    """Figures made inside have the signs of this number language. Not around a `yield`: a generator's caller would
    write in it, too.

    Raises:
        KeyError: a language that is not in SIGNS.
    """
    SIGNS[chosen]
    token = _LANGUAGE.set(chosen)
    try:
        yield
    finally:
        _LANGUAGE.reset(token)


def signed(figure: str) -> str:
    """One formatted English figure, `+1,234.5 %`, with the build's signs. Only points and commas change."""
    chosen = _LANGUAGE.get()
    if chosen == "en":
        return figure
    point, group = SIGNS[chosen]
    return figure.translate({ord("."): point, ord(","): group})


def localized(words: str, chosen: str | None = None) -> str:
    """A sentence of ours with its English figures in the signs of a language, the build's unless one is given.

    Versions, dates, names with digits and paths are left alone. Not for text out of bundles.
    """
    point, group = SIGNS[chosen or _LANGUAGE.get()]
    if point == ".":
        return words
    return _NUMBER.sub(lambda m: m[0].translate({ord("."): point, ord(","): group}), words)


def joined(page: str) -> str:
    """A finished HTML page whose figures and units, `13.4 %`, `8.49 GiB`, `629 ms`, never part over two lines.

    The space between them becomes U+00A0; tags, scripts and code stay as they are, byte for byte. Takes about 15 ms for
    a page of a megabyte, and changes nothing the second time.
    """
    return _SPACE.sub(lambda m: m[0] if m[0][0] == "<" else "\u00a0", page)
