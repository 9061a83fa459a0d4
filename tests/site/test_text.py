"""Untrusted text stays text, and numbers read as they should."""

from __future__ import annotations

import html
import math

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcase.text import notes_html, number, signed_percent, span, text

HOSTILE = [
    "<script>alert(1)</script>", "**bold** _it_ `code`", "[x](javascript:alert(1))", "{{ 7 * 7 }} {% raw %}",
    "| a | b |", "# heading", '" onmouseover="x', "--8<-- \"/etc/passwd\"", "![](http://x/y.png)", "{: .cls }",
    "&lt;b&gt;",
]  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_text_comes_out_as_it_went_in(words: str) -> None:
    page = markdown.markdown(f"before {text(words)} after", extensions=["tables", "attr_list", "md_in_html"])
    assert html.unescape(page) == f"<p>before {' '.join(words.split())} after</p>"


@given(st.text(max_size=80))
def test_any_text_comes_out_as_it_went_in(words: str) -> None:
    safe = text(words)
    assert not set(safe) & set("<>{}[]()*_`|!\"'\\")
    assert html.unescape(safe) == " ".join(words.split()) or "\x00" in words or _odd(words)


def _odd(words: str) -> bool:
    """Characters that HTML itself replaces: no escape brings them through."""
    return any(
        ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or 0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE
        for c in words
    )


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(1234.5, 4, "1,234"), (1234.5, 6, "1,234.50"), (0.04321, 3, "0.0432"), (15.0, 3, "15.0"), (896912, 3, "896,912"),
     (None, 3, "–"), (math.nan, 3, "–"), (0, 3, "0"), (-2.5, 2, "−2.5")],
)  # fmt: skip
def test_numbers(value: float | None, digits: int, shown: str) -> None:
    assert number(value, digits) == shown


def test_changes_and_intervals() -> None:
    assert signed_percent(1.363) == "+36.3 %"
    assert signed_percent(0.9) == "−10.0 %"
    assert span(2655.2, 2590.0, 2720.0, 4) == "2,655 <small>(2,590–2,720)</small>"
    assert span(2655.2, math.nan, math.nan, 4) == "2,655"


def test_notes_are_markdown_without_anything_that_acts() -> None:
    made = notes_html("# Mine\n\n**good** <script>x</script> [l](http://x) ![i](y) <b onclick=x>b</b>\n\n- a\n")
    assert "<h3>Mine</h3>" in made
    assert "<strong>good</strong>" in made
    assert "<li>a</li>" in made
    for word in ("script", "href", "src", "onclick", "<img"):
        assert word not in made
