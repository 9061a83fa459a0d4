"""What a page weighs before anything is asked for, and that nothing moves while it loads."""

from __future__ import annotations

import gzip
import html
import re
import time
import urllib.request
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page, Response, Route, ViewportSize

from tests.browser.kinds import KINDS, address, opened

pytestmark = pytest.mark.browser

SHIFTS = """window.moved = 0;
new PerformanceObserver((list) => {
  for (const e of list.getEntries()) if (!e.hadRecentInput) window.moved += e.value;
}).observe({ type: "layout-shift", buffered: true });"""
PHONE: ViewportSize = {"width": 412, "height": 823}
MOST_KB = 350
SEARCH = "/search/search_index.json"


def weighed(page: Page, url: str) -> dict[str, int]:
    """Address -> bytes as a server sends them that packs what is text."""
    seen: list[Response] = []
    page.on("response", lambda r: seen.append(r))  # Playwright takes no builtin
    page.goto(url, wait_until="networkidle")
    return {r.url: _sent(r) for r in seen if r.url.startswith("http")}


def _sent(response: Response) -> int:
    body = response.body()
    return len(body) if response.url.endswith((".png", ".gz")) else min(len(body), len(gzip.compress(body, 6)))


def late(route: Route) -> None:
    """A script that comes when the page is painted already, and all after it: a header that it makes to be sorted by
    takes the room that it took."""
    time.sleep(0.15)
    route.continue_()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_light_and_stands_still(browser: Browser, site: tuple[str, str], kind: str) -> None:
    context = browser.new_context(viewport=PHONE)
    context.add_init_script(SHIFTS)
    page = context.new_page()
    page.route("**/assets/quantcase/tables.js", late)
    parts = weighed(page, address(site, kind))
    assert not [u for u in parts if u.endswith((SEARCH, "vega.js"))]
    assert sum(parts.values()) < MOST_KB * 1000, parts
    assert page.evaluate("window.moved") == 0
    context.close()


def test_only_the_scripts_of_a_pages_parts_are_loaded(browser: Browser, site: tuple[str, str]) -> None:
    loaded = {}
    for kind in ("methodology", "case", "compare", "log"):
        page = browser.new_page()
        parts = weighed(page, address(site, kind))
        ours = [urlparse(u).path for u in parts if "/assets/quantcase/" in u]
        loaded[kind] = {path.rpartition("/")[2] for path in ours if path.endswith(".js")}
        page.close()
    common = {"start.js", "quantcase.js", "tables.js"}
    assert loaded["methodology"] == common
    assert loaded["case"] == common | {"charts.js"}
    assert loaded["compare"] == common | {"between.js", "compare.js"}
    assert "balance.js" in loaded["log"]


@pytest.mark.parametrize("how", ["key", "click", "result"])
def test_the_search_index_comes_when_the_search_is_opened(browser: Browser, site: tuple[str, str], how: str) -> None:
    page = browser.new_page()
    mark = "?h=throughput" if how == "result" else ""
    parts = weighed(page, address(site, "methodology") + mark)
    if how == "result":  # a page reached from a result marks the words that were looked for
        assert any(u.endswith(SEARCH) for u in parts)
        assert page.locator("article mark").count() > 0
    else:
        with page.expect_response(lambda r: r.url.endswith(SEARCH)):
            page.keyboard.press("/") if how == "key" else page.locator(".md-search__input").click()
        page.keyboard.type("interval")
        page.locator(".md-search-result__item").first.wait_for()
    page.close()


def test_every_page_describes_itself(browser: Browser, site: tuple[str, str]) -> None:
    said = {}
    for kind in KINDS:
        with urllib.request.urlopen(address(site, kind)) as answer:  # noqa: S310
            found = re.search(r'<meta name="description" content="([^"]*)"', answer.read().decode())
        said[kind] = html.unescape(found[1]) if found else ""
    with opened(browser, address(site, "case"), java_script_enabled=False) as page:
        assert page.locator("meta[name=description]").get_attribute("content") == said["case"]
        assert page.locator(".qc-answer").first.inner_text()[:40] in said["case"]
    assert all(20 < len(words) <= 200 for words in said.values()), said
    own = {kind: words for kind, words in said.items() if kind not in ("home", "not found")}
    assert len(set(own.values())) == len(own)
