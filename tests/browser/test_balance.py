"""The sliders of the best balance in a real browser: the page's own figures, and Python's at other weights."""

from __future__ import annotations

import functools
import html
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from quantcase.analysis import experiments
from quantcase.analysis.experiments import Balance
from quantcase.catalog import load
from quantcase.pages import log_balance
from quantcase.pages.view import CaseView, Options
from tests.real import RESULTS

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "site" / "quantcase" / "assets"
CASE = "2026-11-21-h200-h200-shape"
HOSTILE = "<img src=x onerror=window.hacked=1>"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log</title>
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; script-src 'self'; style-src 'self'; img-src data:">
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="quantcase.css"><link rel="stylesheet" href="balance.css"></head>
<body data-md-color-scheme="{scheme}"><div class="md-typeset"><h1>Log</h1>
{blocks}</div><script src="quantcase.js"></script><script src="balance.js"></script></body></html>"""
CHAT = ".qc-balance >> nth=0"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


def scored(view: CaseView, workload: str) -> tuple[Balance, int]:
    """The score as the log page has it, by the weights that experiments.py states at this moment."""
    rows = experiments.experiment_rows(view.case, view.points)
    mine = experiments.eligible(view.case, rows, workload, {})
    kind = experiments.kind_of(view.case.study.workload(workload))
    found = experiments.balance(mine, view.case.baseline, kind, {"fp8": "pass"})
    assert found is not None
    return found, len(mine)


def block(view: CaseView, workload: str) -> str:
    return log_balance.block(workload, *scored(view, workload))


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    """The recorded H200 run: its fronts have six and seven configurations, and near ones among them."""
    results = tmp_path_factory.mktemp("results")
    (results / CASE).symlink_to(RESULTS / CASE)
    return CaseView(load(results).cases[0], Options())


@pytest.fixture(scope="module")
def pages(view: CaseView, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page for each scheme: chat, batch, and one whose names are hostile."""
    public = tmp_path_factory.mktemp("public")
    found, count = scored(view, "chat")
    scores = [replace(s, row=replace(s.row, variant=f"{HOSTILE}{i}")) for i, s in enumerate(found.scores)]
    hostile = log_balance.block('a"&b', replace(found, scores=scores, tied=scores[1:]), count)
    blocks = "\n".join([block(view, "chat"), block(view, "batch"), hostile])
    for scheme in ("default", "slate"):
        (public / scheme).mkdir()
        (public / scheme / "index.html").write_text(PAGE.format(scheme=scheme, blocks=blocks), "utf-8")
        for asset in ("quantcase.css", "quantcase.js", "balance.css", "balance.js"):
            shutil.copy(ASSETS / asset, public / scheme / asset)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(public)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page that complains of nothing, asks no other host, and runs nothing of what it shows."""
    context = browser.new_context(**options)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on(
        "request", lambda r: problems.append(r.url) if not r.url.startswith(("http://127.0.0.1", "data:")) else None
    )
    page.goto(url, wait_until="load")
    yield page
    assert page.evaluate("window.hacked") is None
    assert problems == []
    context.close()


def said(markup: str) -> dict[str, list[str]]:
    """What a block says: each part that the script replaces, and every row of the table, as a reader sees them."""

    def plain(x: str) -> str:
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", x)).split())

    body = markup.split("<tbody>")[1].split("</tbody>")[0]
    parts = dict(re.findall(r'<span data-part="(\w+)">(.*?)</span>', markup))
    rows = [" | ".join(map(plain, re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r))) for r in body.split("</tr>")[:-1]]
    return {**{name: [plain(words)] for name, words in parts.items()}, "rows": rows}


def shown(box: Locator) -> dict[str, list[str]]:
    return said(box.evaluate("e => e.outerHTML"))


def slide(box: Locator, **weights: int) -> None:
    names = {"throughput": "throughput", "tpot": "1 / TPOT", "kv": "KV capacity", "cost": "1 / cost of a request"}
    for key, value in weights.items():
        box.get_by_label(names[key], exact=False).fill(str(value))


def test_at_the_pages_weights_the_figures_are_the_static_ones(browser: Browser, pages: str, view: CaseView) -> None:
    with opened(browser, f"{pages}/default/") as page:
        for place, workload in enumerate(("chat", "batch")):
            box = page.locator(".qc-balance").nth(place)
            static = said(block(view, workload))
            assert len(static["rows"]) > 5
            assert shown(box) == static  # worked out again when the sliders were made
            slide(box, cost=100)
            assert shown(box) != static
            box.get_by_role("button", name="Back to the page's weights").click()
            assert shown(box) == static
            assert "#" not in page.url


@pytest.mark.parametrize(
    "weights",
    [
        (100, 0, 0, 0),
        (0, 100, 0, 0),
        (0, 0, 0, 100),
        (5, 95, 0, 35),
        (20, 40, 100, 20),
        (50, 50, 50, 50),
        (0, 0, 95, 5),
    ],
)
def test_at_other_weights_they_are_those_of_python(
    browser: Browser, pages: str, view: CaseView, monkeypatch: pytest.MonkeyPatch, weights: tuple[int, ...]
) -> None:
    given = dict(zip(("throughput", "tpot", "kv", "cost"), weights, strict=True))
    monkeypatch.setitem(experiments.WEIGHTS, "chat", {k: w / 100 for k, w in given.items()})
    expected = said(block(view, "chat"))
    with opened(browser, f"{pages}/default/") as page:
        box = page.locator(CHAT)
        slide(box, **given)
        found = shown(box)
        assert list(zip(found["rows"], expected["rows"], strict=True)) == [(r, r) for r in expected["rows"]]
        assert found == expected
        assert box.get_by_role("status").inner_text().startswith(f"First: {found['first'][0].split(',')[0]}")


def test_the_state_is_in_the_address_and_comes_back(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/default/") as page:
        chat, batch = (page.locator(".qc-balance").nth(i) for i in range(2))
        slide(chat, tpot=0)
        slide(batch, kv=100)
        before, url = (shown(chat), shown(batch)), page.url
        assert "#balance:chat=throughput-20,tpot-0,kv-20,cost-20&batch=" in url
    with opened(browser, url) as page:
        chat, batch = (page.locator(".qc-balance").nth(i) for i in range(2))
        assert (shown(chat), shown(batch)) == before
        page.evaluate("location.hash = '#balance:batch=kv-5'")
        expect(chat.get_by_label("1 / TPOT")).to_have_value("40")
        expect(batch.get_by_label("KV capacity")).to_have_value("5")


@pytest.mark.parametrize(
    "hash_",
    ["#balance:chat=tpot-9999,x", "#balance:chat=throughput-0,tpot-0,kv-0,cost-0", "#balance:", "#balance:chat=%E0%A4",
     "#balance:chat=__proto__-5,constructor-7", "#balance:nobody=tpot-5", "#elsewhere"],
)  # fmt: skip
def test_a_hostile_address_changes_nothing_that_it_may_not(browser: Browser, pages: str, hash_: str) -> None:
    with opened(browser, f"{pages}/default/{hash_}") as page:
        values = page.locator(CHAT).locator("input").evaluate_all("all => all.map((i) => i.value)")
        assert values == ["20", "40", "20", "20"]


def test_the_keyboard_moves_the_weights_and_they_are_labelled(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/default/") as page:
        box = page.locator(CHAT)
        slider = box.get_by_role("slider", name="1 / TPOT")
        slider.focus()
        page.keyboard.press("ArrowRight")
        expect(slider).to_have_value("45")
        expect(slider).to_have_attribute("aria-valuetext", "0.43 of 1")
        page.keyboard.press("Home")
        expect(slider).to_have_value("0")
        expect(box.get_by_role("group")).to_have_accessible_name("Other weights for chat")
        box.get_by_role("button").press("Enter")
        expect(slider).to_have_value("40")


def test_no_weight_at_all_keeps_the_last_score(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/default/") as page:
        box = page.locator(CHAT)
        slide(box, throughput=0, kv=0, cost=0)
        before = shown(box)
        slide(box, tpot=0)
        assert shown(box) == before
        expect(box.get_by_role("status")).to_contain_text("Give at least one part a weight")


def test_hostile_names_stay_text(browser: Browser, pages: str) -> None:
    with opened(browser, f"{pages}/default/") as page:
        box = page.locator(".qc-balance").nth(2)
        slide(box, tpot=100)
        assert HOSTILE in box.locator("[data-part=first]").inner_text()
        assert box.locator("img").count() == 0
        expect(box.get_by_role("group")).to_have_accessible_name('Other weights for a"&b')


def test_without_javascript_the_text_stands(browser: Browser, pages: str, view: CaseView) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{pages}/default/")
    assert page.locator("fieldset").count() == 0
    first = said(block(view, "chat"))["first"][0]
    assert " ".join(page.locator(CHAT).locator("[data-part=first]").inner_text().split()) == first
    assert page.locator("#table-balance-chat tbody tr").first.is_visible()
    context.close()


def test_it_fits_a_narrow_phone_in_both_schemes_and_leaves_paper(browser: Browser, pages: str) -> None:
    for scheme in ("default", "slate"):
        with opened(browser, f"{pages}/{scheme}/", viewport={"width": 320, "height": 700}) as page:
            bar = page.locator(".qc-balance-bar").first
            box = bar.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 320
            page.emulate_media(media="print")
            assert not bar.is_visible()
