"""Untrusted text stays text, and numbers read as they should."""

from __future__ import annotations

import html
import math
import re

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantcase.signs import joined
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
     (None, 3, "–"), (math.nan, 3, "–"), (0, 3, "0"), (-2.5, 2, "−2.5"), (9.996, 3, "10.0"), (999.96, 4, "1,000"),
     (0.000994, 3, "0.000994"), (0.0000094, 3, "9.40 × 10⁻⁶"), (-1.2e-9, 2, "−1.2 × 10⁻⁹"), (math.inf, 3, "∞"),
     (-math.inf, 3, "−∞"), (-1234, 3, "−1,234")],
)  # fmt: skip
def test_numbers(value: float | None, digits: int, shown: str) -> None:
    assert number(value, digits) == shown


def test_changes_and_intervals() -> None:
    assert signed_percent(1.363) == "+36.3 %"
    assert signed_percent(0.9) == "−10.0 %"
    assert span(2655.2, 2590.0, 2720.0, 4) == "2,655 <small>(2,590–2,720)</small>"
    assert span(2655.2, math.nan, math.nan, 4) == "2,655"
    assert signed_percent(math.nan) == signed_percent(math.inf) == "–"
    assert signed_percent(12.5) == "+1,150.0 %"


@pytest.mark.parametrize(
    ("value", "low", "high", "digits", "shown"),
    [
        (887.4, 432.1, 1819.0, 4, "887 (432–1,819)"),  # half is 693: no decimal is carried
        (199.3, 194.0, 204.7, 4, "199.3 (194.0–204.7)"),  # half is 5.35: one is
        (10.2, 9.48, 11.04, 3, "10.2 (9.5–11.0)"),  # never more than three digits of the value
        (1.02, 1.0, 1.04, 3, "1.02 (1.00–1.04)"),  # the ends as fine as the value
        (1.0, 0.9996, 1.0004, 3, "1.0000 (0.9996–1.0004)"),  # the ends must differ
        (-0.01, -0.5, 0.4, 3, "−0.01 (−0.50 to 0.40)"),
        (5.0, 5.0, 5.0, 3, "5.00 (5.00–5.00)"),
        (0.0000012, 0.0000011, 0.0000013, 2, "1.2 × 10⁻⁶ (1.1 × 10⁻⁶–1.3 × 10⁻⁶)"),
    ],
)
def test_a_value_has_the_digits_that_its_interval_carries(
    value: float, low: float, high: float, digits: int, shown: str
) -> None:
    assert re.sub(r"</?small>", "", span(value, low, high, digits)) == shown


@given(st.floats(1, 1e9), st.floats(1e-3, 0.9), st.integers(2, 5))
def test_value_and_ends_are_rounded_alike_and_to_the_nearest(value: float, share: float, digits: int) -> None:
    exact = (value, value * (1 - share), value * (1 + share))
    parts = re.findall(r"[\d,]+(?:\.\d+)?", span(*exact, digits))
    (places,) = {len(part.partition(".")[2]) for part in parts}
    for given_, part in zip(exact, parts, strict=True):
        assert abs(given_ - float(part.replace(",", ""))) <= 0.5 * 10.0**-places + 1e-6
    assert parts[1] != parts[2]


def test_notes_are_markdown_without_anything_that_acts() -> None:
    made = notes_html("# Mine\n\n**good** <script>x</script> [l](http://x) ![i](y) <b onclick=x>b</b>\n\n- a\n")
    assert "<h3>Mine</h3>" in made
    assert "<strong>good</strong>" in made
    assert "<li>a</li>" in made
    for word in ("script", "href", "src", "onclick", "<img"):
        assert word not in made


@pytest.mark.parametrize(
    "words",
    [
        "gains 36.3~% and 13~%, of 8.49~GiB (141~GB) in 629~ms;", f"{text('95')}~{text('%')} intervals",
        "2,655 <small>(2,590–2,720)</small>~tok/s", "1.2 × 10⁻⁷~s.", "0.41~$ per 1M tokens", "no number, but Use,~%",
        "1,980~MHz (5th to 95th)", text("1.5") + "~" + text("tok/s"), "in 3~h 20~min",
        # words, times, lists, what begins like a unit: a line may break there
        "5 more repeats", "in 2026 to 2027", "n = 36, too few", "3 servers", "9 min(r)", "top 5 s/he",
        "GiB 5", "k 8 Bits",
    ],
)  # fmt: skip
def test_a_figure_and_its_unit_stay_on_one_line(words: str) -> None:
    page = f"<p>{words.replace('~', ' ')}</p>"
    assert joined(page) == f"<p>{words.replace('~', chr(0xA0))}</p>"
    assert joined(joined(page)) == joined(page)


@pytest.mark.parametrize(
    "page",
    [
        '<td data-value="13.4 %" title="8 GiB">13</td>', "<pre><code>i = 7 % 3\n<span>5 s</span></code></pre>",
        "<code>sleep 5 s</code>", '<script type="application/json">["13.4 %"]</script>',
        '<div class="clipboard-copy-txt" id="x">i = 7 % 3</div>', "<style>a { width: 5 % }</style>",
    ],
)  # fmt: skip
def test_what_scripts_and_shells_read_keeps_its_spaces(page: str) -> None:
    assert joined(f"{page}<p>1 %</p>{page}") == f"{page}<p>1\u00a0%</p>{page}"
