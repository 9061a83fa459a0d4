"""Untrusted words on a page: text() stays text in Markdown, Jinja and HTML; notes lose all that could act."""

from __future__ import annotations

import html
import re
from functools import cache

import markdown
import nh3

from quantcase.text import load_words, notes_html, text
from tests.fuzz.damage import MARKERS

__all__ = ["one", "seeds"]

_TAG = re.compile(r"<(/?)([a-zA-Z0-9]+)([^>]*)>")
_TAGS = {"p", "ul", "ol", "li", "strong", "em", "code", "pre", "blockquote", "h3", "h4", "h5", "h6", "br", "hr"}
_EXTENSIONS = ["admonition", "attr_list", "def_list", "footnotes", "md_in_html", "tables", "toc"]
_MOST = 20_000  # characters: Markdown is slow, and no parser of ours


@cache
def seeds() -> list[bytes]:
    """Words that mean something somewhere."""
    notes = (
        "# Title\n\n- a *b* **c** `d`\n\n> quote\n\n```\ncode\n```\n\n[a](b) ![c](d)\n\n<!-- x -->\n\n1. one\n2. two\n"
    )
    more = ("c16", "ramp1-8", '!!! note "x"', "[^1]: a", "{: #id .class onclick=x }", "&lt;b&gt;", "&#60;b&#62;", "~~~")
    return [w.encode() for w in (*MARKERS, notes, *more)]


def one(data: bytes) -> None:
    """Put `data` on a page in every way in which words come there. Must raise nothing."""
    words = data.decode("utf-8", "surrogateescape" if data[:1] == b"!" else "replace")[:_MOST]
    safe = text(words)
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|&#[0-9]+;)*", safe), safe
    safe.encode("ascii")
    load_words(words)
    if words.isprintable():
        assert html.unescape(safe) == " ".join(words.split())
    page = markdown.markdown(f"before\n\n<p>{safe}</p>\n\n{safe}\n", extensions=_EXTENSIONS)
    assert set(re.findall(r"</?([a-zA-Z0-9]+)", page)) <= {"p"}, page
    notes = notes_html(words)
    for _, name, attributes in _TAG.findall(notes):
        assert name in _TAGS, notes
        assert not attributes.strip(" /"), notes
    assert nh3.clean(notes, tags=_TAGS, attributes={}) == notes
