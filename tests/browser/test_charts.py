"""The interactive view of charts in a real browser: on demand, from this site alone, under a strict policy, by file."""

from __future__ import annotations

import functools
import json
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from quantcase.charts import Figure
from quantcase.charts.bundle import vega_js
from tests.site.test_charts import all_charts, points

pytestmark = pytest.mark.browser

ASSETS = Path(__file__).parents[2] / "site" / "quantcase" / "assets"
HOSTILE = "<img src=x onerror=window.hacked=1>{{7*7}}'"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Charts</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="quantcase.css"><link rel="stylesheet" href="charts.css">
<link rel="stylesheet" href="page.css">
</head><body data-md-color-scheme="{scheme}"><div class="md-typeset">
{figures}</div><script src="charts.js"></script></body></html>"""
STYLE = """html { font-size: 20px } body { margin: 0 1rem; font: 0.8rem sans-serif; background: #fff }
[data-md-color-scheme=slate] { background: #1e2129 }"""
# No eval, no inline script, no inline style, no other host, and nothing may be fetched at all.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'none'; base-uri 'none'"
PLURAL = "throughput"
LIVE = ".qc-live svg"
# The height of the smallest words in pixels, turned ones by their width.
SMALLEST = """all => Math.min(...all.filter(e => e.textContent.trim()).map(e => e.getBoundingClientRect())
  .map(box => Math.min(box.width < 8 ? Infinity : box.width, box.height)))"""


class _Strict(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def figures() -> list[Figure]:
    """One of each family, with a hostile variant among them."""
    return all_charts(["bf16", "fp8", HOSTILE])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages light and dark, and one without vega.js."""
    public = tmp_path_factory.mktemp("charts")
    shown = "\n".join(f.html() for f in figures())
    for name, scheme in (("light", "default"), ("dark", "slate"), ("bare", "default")):
        (public / name).mkdir()
        (public / name / "index.html").write_text(PAGE.format(scheme=scheme, figures=shown), "utf-8")
        (public / name / "page.css").write_text(STYLE)
        for asset in ("quantcase.css", "charts.css", "charts.js"):
            shutil.copy(ASSETS / asset, public / name / asset)
        if name != "bare":
            (public / name / "vega.js").write_text(vega_js(), "utf-8")
    return public


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Strict, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def opened(browser: Browser, url: str, known: str = "", **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page, and what it asked for. Nothing may complain (but for `known`), and no other host be asked."""
    context = browser.new_context(**options)
    page = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: asked.append(r.url))
    page.goto(url, wait_until="load")
    yield page, asked
    assert page.evaluate("window.hacked") is None
    assert [p for p in problems if not known or known not in p] == []
    assert [u for u in asked if not u.startswith((url.split("/light")[0][:16], "data:"))] == []
    context.close()


def figure(page: Page, name: str) -> Any:
    return page.locator(f'figure[id*="{name}"]')


def open_live(page: Page, name: str) -> Any:
    box = figure(page, name)
    box.get_by_role("button", name="Interactive").click()
    expect(box.get_by_role("button", name="Interactive")).to_have_attribute("aria-pressed", "true", timeout=15_000)
    expect(box.locator(LIVE)).to_be_visible()
    return box


def test_vega_is_loaded_once_and_only_when_it_is_asked_for(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/") as (page, asked):
        assert figure(page, PLURAL).locator(".qc-chart svg").is_visible()
        assert not any(u.endswith("vega.js") for u in asked)
        for name in (PLURAL, "vram", "cost"):
            box = open_live(page, name)
            assert not box.locator(".qc-chart").is_visible()
        assert sum(u.endswith("vega.js") for u in asked) == 1
        box.get_by_role("button", name="Interactive").click()
        assert box.locator(".qc-chart svg").is_visible()
        assert not box.locator(".qc-live").is_visible()


@pytest.mark.parametrize("width", [320, 1280])
def test_every_chart_opens_and_fits(browser: Browser, address: str, width: int) -> None:
    with opened(browser, f"{address}/light/", viewport={"width": width, "height": 800}) as (page, _):
        for made in figures():
            box = open_live(page, made.name)
            room = box.locator(".qc-live").bounding_box()
            drawn = box.locator(LIVE).bounding_box()
            assert drawn["width"] <= room["width"] + 2, made.name
            assert drawn["width"] >= 0.8 * room["width"], made.name
            assert box.locator(f"{LIVE} text").evaluate_all(SMALLEST) >= 10, made.name
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_a_point_says_its_figures_as_they_stand_in_the_table(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/") as (page, _):
        box = open_live(page, PLURAL)
        box.locator(f"{LIVE} .mark-symbol path").last.hover()
        tip = box.locator(".qc-chart-tip")
        expect(tip).to_be_visible()
        table = points(["bf16", "fp8", HOSTILE])
        row = table[(table["variant"] == HOSTILE) & (table["load"] == "c16") & (table["metric"] == "throughput_tok_s")]
        words = tip.inner_text()
        assert HOSTILE in words
        assert "concurrency 16" in words
        assert f"{float(row['value'].iloc[0]):,.0f}" in words
        page.keyboard.press("Escape")
        box.get_by_role("button", name="Interactive").focus()
        page.keyboard.press("Escape")
        assert not tip.is_visible()


def test_series_are_hidden_and_shown_by_key(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/") as (page, _):
        box = open_live(page, PLURAL)
        marks = box.locator(f"{LIVE} .mark-symbol path")
        assert marks.count() == 9
        fp8 = box.get_by_role("button", name="fp8", exact=True)
        fp8.focus()
        page.keyboard.press("Enter")
        expect(marks).to_have_count(6)
        assert fp8.get_attribute("aria-pressed") == "false"
        page.keyboard.press("Space")
        expect(marks).to_have_count(9)
        assert box.get_by_role("group", name="Series shown").locator("bdi").all_inner_texts() == [
            "bf16",
            "fp8",
            HOSTILE,
        ]


def ticks(box: Any) -> list[str]:
    """The words on both axes; Vega keeps no order among them."""
    return sorted(box.locator(f"{LIVE} .role-axis-label text").all_text_contents())


def test_axes_zoom_by_button_and_wheel_and_go_back(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/") as (page, _):
        for name in (PLURAL, "distribution"):
            box = open_live(page, name)
            before = ticks(box)
            box.get_by_role("button", name="Zoom in").click()
            page.wait_for_timeout(150)
            closer = ticks(box)
            assert closer != before, name
            box.get_by_role("button", name="Reset").click()
            page.wait_for_timeout(150)
            assert ticks(box) == before, name
            box.locator(LIVE).scroll_into_view_if_needed()
            place = box.locator(LIVE).bounding_box()
            page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 3)
            page.mouse.wheel(0, -120)
            page.wait_for_timeout(150)
            assert ticks(box) == before, f"{name}: a wheel alone scrolls the page"
            place = box.locator(LIVE).bounding_box()
            page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 3)
            page.keyboard.down("Control")
            page.mouse.wheel(0, -120)
            page.keyboard.up("Control")
            page.wait_for_timeout(150)
            assert ticks(box) != before, name
        assert open_live(page, "cost").get_by_role("button", name="Zoom in").count() == 0  # bars start at zero


def test_colours_follow_the_palette_while_it_is_open(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/dark/") as (page, _):
        box = open_live(page, PLURAL)
        colours = "all => all.map(e => getComputedStyle(e).fill)"
        marks = box.locator(f"{LIVE} .mark-symbol path, {LIVE} text")
        dark = marks.evaluate_all(colours)
        page.evaluate("document.body.dataset.mdColorScheme = 'default'")
        light = marks.evaluate_all(colours)
        assert len(set(light)) >= 4
        assert not set(light) & set(dark)
        seen = (
            figure(page, "vram")
            .locator(".qc-chart svg path[fill*=series]")
            .first.evaluate("e => getComputedStyle(e).fill")
        )
        assert seen.startswith("rgb(")


def test_it_works_from_a_file(browser: Browser, folder: Path) -> None:
    with opened(browser, (folder / "light" / "index.html").as_uri()) as (page, _):
        box = open_live(page, PLURAL)
        assert box.locator(f"{LIVE} .mark-symbol path").count() == 9


def test_without_vega_the_drawn_chart_stays_and_a_sentence_says_why(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/bare/", known="404") as (page, asked):
        box = figure(page, PLURAL)
        for turn in (1, 2):
            box.get_by_role("button", name="Interactive").click()
            expect(box.get_by_role("status")).to_have_text(
                "The interactive view could not be loaded. The chart above shows the same figures."
            )
            assert box.locator(".qc-chart svg").is_visible()
            assert sum(u.endswith("vega.js") for u in asked) == turn  # asked again: a network may come back


def test_without_javascript_there_is_no_button_and_on_paper_the_drawn_chart(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/", java_script_enabled=False) as (page, _):
        assert page.locator("button").count() == 0
        assert figure(page, PLURAL).locator(".qc-chart svg").is_visible()
    with opened(browser, f"{address}/light/") as (page, _):
        box = open_live(page, PLURAL)
        page.emulate_media(media="print")
        assert box.locator(".qc-chart svg").is_visible()
        assert not box.locator(".qc-live").is_visible()
        assert not box.locator("button").first.is_visible()


def test_drawn_charts_are_legible_on_a_phone(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}/light/", viewport={"width": 320, "height": 640}) as (page, _):
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
        for frame in page.locator(".qc-chart").all():
            assert frame.locator("svg text").evaluate_all(SMALLEST) >= 10
            if frame.evaluate("e => e.scrollWidth > e.clientWidth"):
                assert frame.get_attribute("tabindex") == "0"


def test_what_the_browser_gets_is_the_theme_and_no_more(folder: Path) -> None:
    vega = (folder / "light" / "vega.js").read_text("utf-8")
    assert vega.startswith("/*! Vega")
    assert "BSD-3-Clause" in vega
    config = json.loads(vega.rsplit("config: ", 1)[1].split(" };")[0]) if "config: " in vega else None
    assert config is None or config["axis"]["labelColor"] == "var(--qc-text)"
    assert math.isclose(len(vega) / 1e6, 0.9, rel_tol=0.1)
