"""Tables, changes and colours: headers have a scope, a change has sign, shape and word, and every ink can be read."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from importlib import resources

import pytest

from quantcase.analysis.compare import Comparison, Kind
from quantcase.analysis.points import THROUGHPUT, Point
from quantcase.html import Column, badge, delta, figure, none, table

PLAIN = re.compile(r"<[^>]+>")


def words(cell: str) -> str:
    return html.unescape(PLAIN.sub("", cell)).strip()


def change(kind: Kind, ratio: float, low: float, high: float, more: int | None = None) -> Comparison:
    return Comparison("fp8", "chat", "c16", 16.0, THROUGHPUT, ratio, low, high, (3, 3), kind, more_repeats=more)


def test_headers_name_their_columns_and_rows_and_figures_are_marked() -> None:
    made = table("speed", [Column("Variant"), Column("tok/s", True)], [["bf16", "2,655"], ["fp8", "3,618"]], "Quiet.")
    assert made.startswith('<div class="qc-table" id="table-speed"><table><caption>Quiet.</caption><thead>')
    assert '<th scope="col">Variant</th><th scope="col" class="num">tok/s</th>' in made
    assert '<tr><th scope="row">fp8</th><td class="num">3,618</td></tr>' in made
    assert "\n" not in made


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="say so in a sentence"):
        table("empty", [Column("Variant")], [])
    assert none("Nothing was measured.") == '<p class="qc-none">Nothing was measured.</p>'


@pytest.mark.parametrize(
    ("kind", "ratio", "low", "high", "more", "shown"),
    [
        ("faster", 1.363, 1.237, 1.501, None, "+36.3 % ▲ faster (+23.7 to +50.1 %)"),
        ("slower", 0.9, 0.88, 0.92, None, "−10.0 % ▼ slower (−12.0 to −8.0 %)"),
        ("equivalent", 1.001, 0.99, 1.012, None, "+0.1 % = equivalent (−1.0 to +1.2 %)"),
        ("negligible", 1.01, 1.005, 1.015, None, "+1.0 % ≈ different, negligible (+0.5 to +1.5 %)"),
        ("inconclusive", 0.983, 0.879, 1.099, 2, "−1.7 % ? inconclusive (−12.1 to +9.9 %), about 2 more repeats"),
        ("inconclusive", 1.1, math.nan, math.nan, None, "+10.0 % ? inconclusive (one run: no interval)"),
    ],
)
def test_a_change_has_its_sign_a_shape_a_word_and_its_interval(
    kind: Kind, ratio: float, low: float, high: float, more: int | None, shown: str
) -> None:
    made = delta(change(kind, ratio, low, high, more))
    assert words(made) == shown
    assert f'data-class="{kind}"' in made


def test_no_comparison_is_a_dash_and_a_percentile_of_too_few_says_so() -> None:
    assert delta(None) == "–"
    assert figure(None) == "–"
    point = Point("fp8", "chat", "c1", 1.0, "e2e_ms_p95", 123.4, 120.0, 126.0, 36, 3, "ms", "requests", shown=False)
    assert words(figure(point)) == "n = 36, too few"
    assert figure(replace(point, shown=True)) == "123"


def test_a_grade_is_text() -> None:
    assert "<script>" not in badge("<script>")
    assert words(badge("measured")) == "measured"


# -- colours -----------------------------------------------------------------------------------------------------------


def palettes() -> dict[str, dict[str, str]]:
    """The variables of both schemes as the style sheet sets them."""
    css = resources.files("quantcase").joinpath("assets", "quantcase.css").read_text("utf-8")
    found = {}
    for name, start in (("light", r":root"), ("dark", r'\[data-md-color-scheme="slate"\]')):
        block = re.search(start + r"\s*\{(.*?)\}", css, re.S)
        assert block
        found[name] = dict(re.findall(r"--qc-([\w-]+):\s*(#[0-9a-f]{6})", block[1]))
    return found


def contrast(one: str, two: str) -> float:
    """The WCAG 2.2 contrast ratio of two colours."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


INKS = [(ink, paper) for ink in ("text", "soft", "accent") for paper in ("card", "info-bg")]
INKS += [(kind, paper) for kind in ("good", "bad", "warn") for paper in ("card", f"{kind}-bg", "info-bg")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), INKS)
def test_every_ink_can_be_read_on_its_paper(scheme: str, ink: str, paper: str) -> None:
    """WCAG 2.2 AA, text: 4.5 to 1."""
    colours = palettes()[scheme]
    assert contrast(colours[ink], colours[paper]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_line_of_a_chart_can_be_seen(scheme: str) -> None:
    """WCAG 2.2 AA, graphics: 3 to 1; a shape and a direct label tell them apart besides."""
    colours = palettes()[scheme]
    faint = [n for n in range(8) if contrast(colours[f"series-{n}"], colours["card"]) < 3]
    assert faint == []


def test_the_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
