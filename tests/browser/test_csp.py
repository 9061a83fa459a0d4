"""Every kind of page under its Content-Security-Policy: no violation, no other host, and everything still works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.kinds import KINDS, address, opened

pytestmark = pytest.mark.browser

WATCH = """addEventListener("securitypolicyviolation", (e) => {
  console.error(`CSP ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`);
});"""


@contextmanager
def obedient(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page that must break no rule, say no error and ask nobody else, until the test lets it go."""
    context = browser.new_context(**options)
    context.add_init_script(WATCH)
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    ours = (f"http://{url.split('/', 3)[2]}/", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(ours) else problems.append(r.url))
    page.goto(url, wait_until="load")
    yield page
    page.wait_for_load_state("networkidle")
    assert problems == []
    context.close()


def policy(page: Page) -> dict[str, list[str]]:
    """Directive -> its sources."""
    content = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content") or ""
    return {name: rest for name, *rest in (part.split() for part in content.split(";"))}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_page_obeys(browser: Browser, site: tuple[str, str], kind: str) -> None:
    with obedient(browser, address(site, kind)) as page:
        rules = policy(page)
        assert rules["default-src"] == ["'none'"]
        assert rules["script-src"] == rules["connect-src"] == ["'self'"]
        assert rules["style-src"] == (["'self'", "'unsafe-inline'"] if kind == "notebook" else ["'self'"])
        others = {source for name, sources in rules.items() for source in sources if name != "style-src"}
        assert others == {"'none'", "'self'", "data:"}
        # It must stand before anything that it governs.
        assert page.evaluate(
            """() => { const meta = document.querySelector("meta[http-equiv]");
            const parts = [...document.querySelectorAll("script, link, style")];
            return parts.every((e) => meta.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING); }"""
        )
        page.mouse.wheel(0, 20_000)


def test_an_injected_script_does_not_run(browser: Browser, site: tuple[str, str]) -> None:
    """The policy is in force: a test that obeys no policy would pass, too."""
    with opened(browser, address(site, "case")) as page:
        page.evaluate(
            """() => { const s = document.createElement("script"); s.textContent = "window.stolen = 1";
            document.body.append(s);
            const i = document.createElement("div"); i.innerHTML = "<img src=x onerror='window.stolen = 2'>";
            document.body.append(i); }"""
        )
        page.wait_for_timeout(200)
        assert page.evaluate("window.stolen") is None
        # What Playwright evaluates may use eval; what the page does later may not.
        made = "try { window.made = new Function('return 1')() } catch { window.made = 'refused' }"
        page.evaluate(f"() => {{ setTimeout(() => {{ {made} }}) }}")
        page.wait_for_timeout(100)
        assert page.evaluate("window.made") == "refused"


def test_search_palette_and_charts_work_under_it(browser: Browser, site: tuple[str, str]) -> None:
    with obedient(browser, address(site, "case"), color_scheme="light") as page:
        page.locator("form[data-md-component=palette] label:not([hidden])").click()
        page.keyboard.press("s")
        page.keyboard.type("throughput")
        page.locator(".md-search-result__item").first.wait_for()
        page.keyboard.press("Escape")
        explore = page.locator(".qc-chart-tools button").first
        explore.scroll_into_view_if_needed()
        explore.click()
        page.locator(".qc-live svg").first.wait_for()


def test_a_dark_system_gets_a_dark_page_before_it_is_painted(browser: Browser, site: tuple[str, str]) -> None:
    """Material's bundle would set it later; the page would flash."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.route("**/bundle.*.js", lambda route: route.abort())
    page.goto(address(site, "home"), wait_until="load")
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    context.close()


def test_the_readers_choice_of_colours_lasts(browser: Browser, site: tuple[str, str]) -> None:
    with obedient(browser, address(site, "home"), color_scheme="light") as page:
        for _ in range(3):
            if page.locator("body[data-md-color-scheme=slate]").count():
                break
            page.locator("form[data-md-component=palette] label:not([hidden])").click()
        page.goto(address(site, "case"), wait_until="networkidle")
        assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
