"""The samples browser in a real browser, fed with hostile answers."""

from __future__ import annotations

import functools
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from quantcase.pages.samples import files, section
from tests.site.test_samples import HOSTILE, hostile_case

pytestmark = pytest.mark.browser

ASSETS = Path(__file__).parents[2] / "site" / "quantcase" / "assets"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Quality</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="quantcase.css"><link rel="stylesheet" href="quality.css">
<style>html {{ font-size: 20px }} body {{ margin: 1rem; font-family: sans-serif; background: #fff }}
[data-md-color-scheme=slate] {{ background: #1e2129 }}</style></head>
<body data-md-color-scheme="{scheme}"><div class="md-typeset"><h1>Quality</h1><div style="height:{above}px"></div>
{block}</div><script src="quality.js"></script></body></html>"""
SHOWN = ".qc-samples-live article"
COUNT = ".qc-count"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page for each scheme, one with the samples far below, and one whose files are missing."""
    work = tmp_path_factory.mktemp("samples")
    case = hostile_case(work / "results", "fp8,exact/numbers/4,bad,<b>off</b>\n")
    public = work / "public"
    for name, scheme, above in (("light", "default", 0), ("dark", "slate", 0), ("far", "default", 3000),
                                ("bare", "default", 0)):  # fmt: skip
        folder = public / name
        (folder / "samples").mkdir(parents=True)
        block = section(case)
        (folder / "index.html").write_text(PAGE.format(scheme=scheme, above=above, block=block), "utf-8")
        for asset in ("quantcase.css", "quality.css", "quality.js"):
            shutil.copy(ASSETS / asset, folder / asset)
        for file, words in files(case) if name != "bare" else ():
            (folder / "samples" / file).write_text(words, "utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(public)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the files it asked for. Nothing may run, complain, open a dialog or ask another host."""
    context = browser.new_context(**options)
    page = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "404" not in m.text else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("dialog", lambda d: problems.append(d.message))
    page.on("request", lambda r: (problems if not r.url.startswith("http://127.0.0.1") else asked).append(r.url))
    page.goto(url, wait_until="load")
    yield page, asked
    assert page.evaluate("window.hacked") is None
    assert problems == []
    context.close()


def ids(page: Page) -> list[str]:
    return [str(node.get_attribute("id")) for node in page.locator(SHOWN).all()]


def test_nothing_hostile_runs_and_every_text_is_shown_as_it_came(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/light/") as (page, _):
        expect(page.locator(COUNT)).to_have_text("42 of 42 (page 1 of 5)")
        seen = ""
        for number in range(5):
            expect(page.locator(COUNT)).to_contain_text(f"page {number + 1} ")
            seen += "\0".join(page.locator(".qc-samples-live .qc-text").evaluate_all("a => a.map(e => e.textContent)"))
            if number < 4:
                page.get_by_role("button", name="Next").first.click()
        for words in HOSTILE:
            assert words[:2900] in seen
        assert page.locator(".qc-samples script, .qc-samples img, .qc-samples b, .qc-samples iframe").count() == 0
        assert page.locator('.qc-samples a:not([href^="#sample="])').count() == 0


@pytest.mark.parametrize("width", [390, 719, 720, 1280])
@pytest.mark.parametrize("script", [True, False])
def test_no_page_scrolls_sideways(browser: Browser, pages: str, width: int, script: bool) -> None:
    view = {"width": width, "height": 844}
    with opened(browser, f"{pages}/light/", viewport=view, java_script_enabled=script) as (page, _):
        if not script:
            assert page.locator(".qc-samples-static article").first.is_visible()
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width
            return
        for _ in range(5):
            expect(page.locator(SHOWN).first).to_be_visible()
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width
            following = page.get_by_role("button", name="Next").first
            if following.is_enabled():
                following.click()
                page.wait_for_timeout(80)
        columns = page.locator(SHOWN).first.locator(".qc-column")
        one, two = columns.nth(0).bounding_box(), columns.nth(1).bounding_box()
        assert one is not None
        assert two is not None
        assert (one["x"] == two["x"]) == (width < 720)


def test_an_override_does_not_turn_what_stands_beside_it(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/light/") as (page, _):
        expect(page.locator(SHOWN).first).to_be_visible()
        assert page.locator(".qc-text").evaluate_all("a => a.every(e => e.dir === 'auto')")
        for part in (".qc-text", ".qc-text ins", ".qc-samples bdi"):
            kind = page.locator(part).first.evaluate("e => getComputedStyle(e).unicodeBidi")
            assert kind == "isolate", part


def test_filters_and_paging(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/light/") as (page, asked):
        count, task, variant, show = page.locator(COUNT), *(page.get_by_label(n) for n in ("Task", "Variant", "Show"))
        expect(count).to_have_text("42 of 42 (page 1 of 5)")
        assert page.get_by_role("button", name="Previous").first.is_disabled()
        assert page.locator(SHOWN).count() == 10
        task.select_option("exact/numbers")
        expect(count).to_have_text("30 of 42 (page 1 of 3)")
        assert ids(page) == [f"sample=exact/numbers/{n}" for n in range(10)]
        page.get_by_role("button", name="Next").first.click()
        expect(count).to_have_text("30 of 42 (page 2 of 3)")
        assert ids(page) == [f"sample=exact/numbers/{n}" for n in range(10, 20)]
        assert page.evaluate("location.hash") == "#samples:task=exact/numbers&page=2"
        page.get_by_role("button", name="Next").last.click()
        expect(count).to_have_text("30 of 42 (page 3 of 3)")
        assert page.get_by_role("button", name="Next").first.is_disabled()
        show.select_option("differs")
        expect(count).to_have_text("20 of 42 (page 1 of 2)")
        show.select_option("lost")
        expect(count).to_have_text("20 of 42 (page 1 of 2)")
        show.select_option("gained")
        expect(count).to_have_text("0 of 42")
        expect(page.locator(".qc-samples-live")).to_have_text("No sample is like that.")
        show.select_option("marked")
        expect(count).to_have_text("1 of 42 (page 1 of 1)")
        expect(page.locator(SHOWN)).to_contain_text("Marked bad: <b>off</b>")
        variant.select_option("awq")
        expect(count).to_have_text("0 of 42")
        task.select_option("exact")
        show.select_option("failed")
        expect(count).to_have_text(f"{len(HOSTILE)} of 42 (page 1 of 1)")
        expect(page.locator(SHOWN).first.locator(".qc-failed")).to_contain_text("! failed: ")
        assert page.evaluate("location.hash") == "#samples:task=exact&variant=awq&show=failed"
        page.reload()
        expect(count).to_have_text(f"{len(HOSTILE)} of 42 (page 1 of 1)")
        assert (task.input_value(), variant.input_value(), show.input_value()) == ("exact", "awq", "failed")
        chunks = [url for url in asked[: asked.index(f"{pages}/light/", 1)] if url.endswith(".json")]
        assert sorted(chunks) == [f"{pages}/light/samples/{n}.json" for n in ("0", "1", "index")]  # each once


def test_a_sample_reads_side_by_side(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/light/#sample=exact/numbers/4") as (page, _):
        sample = page.locator(f'{SHOWN}[id="sample=exact/numbers/4"]')
        expect(sample).to_be_visible()
        base, variant = sample.locator(".qc-column").all()
        assert "bf16 (baseline) ✓ right" in base.inner_text()
        assert "fp8 ✗ wrong" in variant.inner_text()
        assert variant.locator("del").inner_text().strip() == "4."
        assert variant.locator("ins").inner_text().strip() == "5."
        more = sample.get_by_role("button", name="Whole prompt")
        assert more.get_attribute("aria-expanded") == "false"
        height = "e => e.clientHeight"
        before = sample.locator(".qc-prompt").evaluate(height)
        more.click()
        assert more.get_attribute("aria-expanded") == "true"
        assert sample.locator(".qc-prompt").evaluate(height) > before
        page.get_by_label("Task").select_option("sanity/tone")
        expect(page.locator(SHOWN)).to_have_count(3)
        first = page.locator(SHOWN).first
        assert first.locator("mark").inner_text() == " \U0001f600"  # counted in characters, not in UTF-16 units
        assert "Leaves the baseline at token 3." in first.inner_text()
        assert first.get_by_role("button", name="Whole prompt").count() == 0


def test_a_permalink_shows_its_sample(browser: Browser, pages: str) -> None:
    wanted = "exact/<script>window.hacked=1</script>/0"
    for place in ("exact/numbers/17", wanted):
        with opened(browser, f"{pages}/far/#sample={quote(place, safe='/')}&variant=awq") as (page, _):
            sample = page.locator(".qc-wanted")
            expect(sample).to_have_attribute("id", f"sample={place}")
            expect(sample).to_be_in_viewport()
            assert "awq" in sample.locator(".qc-column").nth(1).inner_text()
            assert page.locator(f"[id={json.dumps(f'sample={place}')}]").count() == 1  # not a second one in the static
            page.locator(SHOWN).first.locator("header a").click()
            expect(page.locator(".qc-wanted")).to_have_attribute("id", ids(page)[0])
    with opened(browser, f"{pages}/light/#sample=no-such") as (page, _):
        expect(page.locator(COUNT)).to_contain_text("There is no sample of that name.")


@pytest.mark.parametrize("hash_", [
    "#samples:show=constructor&page=-3&variant=nobody", "#samples:page=9999", "#samples:", "#sample=%E0%A4%A",
    "#sample=",
])  # fmt: skip
def test_a_strange_hash_does_no_harm(browser: Browser, pages: str, hash_: str) -> None:
    with opened(browser, f"{pages}/light/{hash_}") as (page, _):
        expect(page.locator(COUNT)).to_contain_text("42 of 42 (page")
        assert page.get_by_label("Variant").input_value() == "fp8"


def test_nothing_is_loaded_before_it_is_seen_or_asked_for(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/far/") as (page, asked):
        page.wait_for_timeout(200)
        assert not [url for url in asked if url.endswith(".json")]
        page.locator(".qc-samples").scroll_into_view_if_needed()
        expect(page.locator(COUNT)).to_contain_text("42 of 42")
        loaded = [url for url in asked if url.endswith(".json")]
        assert loaded == [f"{pages}/far/samples/{name}.json" for name in ("index", "0")]
    with opened(browser, f"{pages}/far/") as (page, _):
        page.evaluate("document.querySelector('.qc-samples select').focus({preventScroll: true})")
        expect(page.locator(COUNT)).to_contain_text("42 of 42")


def test_without_its_files_the_static_samples_stay(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/bare/") as (page, _):
        expect(page.locator(COUNT)).to_contain_text("could not be loaded")
        assert page.locator(".qc-samples-static article").count() == 12
        assert page.locator(".qc-samples-static article").first.is_visible()


def test_paper_holds_the_static_samples_and_no_controls(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/dark/") as (page, _):
        expect(page.locator(SHOWN).first).to_be_visible()
        assert not page.locator(".qc-samples-static").is_visible()
        page.emulate_media(media="print")
        assert page.locator(".qc-samples-static article").first.is_visible()
        assert not page.locator(SHOWN).first.is_visible()
        assert not page.locator(".qc-samples-bar").is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_controls_have_names_and_the_count_is_announced(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/light/") as (page, _):
        expect(page.get_by_role("status")).to_have_text("42 of 42 (page 1 of 5)")
        assert page.get_by_role("combobox").count() == 3
        assert page.locator(".qc-samples button:not([type=button])").count() == 0
        assert page.get_by_role("navigation", name="Pages of samples").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(browser: Browser, pages: str, scheme: str, tmp_path: Path) -> None:
    with opened(browser, f"{pages}/{scheme}/", viewport={"width": 1280, "height": 900}) as (page, _):
        expect(page.locator(SHOWN).first).to_be_visible()
        colours = "e => [getComputedStyle(e).color, getComputedStyle(e.closest('article')).backgroundColor]"
        for part in (".qc-text", ".qc-right", ".qc-wrong", ".qc-label", ".qc-samples-note", ".qc-text ins"):
            ink, paper = page.locator(f"{SHOWN} {part}").first.evaluate(colours)
            assert _contrast(ink, paper) >= 4.5, part
        assert len(page.screenshot(path=str(tmp_path / f"{scheme}.png"), full_page=True)) > 20_000


def _contrast(one: str, two: str) -> float:
    """The WCAG contrast of two CSS colours."""
    light = []
    for colour in (one, two):
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)
