"""Every kind of page for everybody: axe finds nothing, the keyboard goes everywhere, 320 px are enough, nothing moves.

axe.min.js is axe-core 4.14.1 as npm has it (MPL 2.0, its notice stands in the file).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.kinds import KINDS, address, opened

pytestmark = pytest.mark.browser

AXE = Path(__file__).with_name("axe.min.js").read_text("utf-8")
# Everything at once: what is folded is opened, what is laid out only near the screen is laid out.
SPREAD = """() => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const style = document.createElement("style");
  style.textContent = "* { content-visibility: visible !important; }";
  document.head.append(style);
}"""
FOCUSABLE = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((e) => !e.disabled && !e.hidden && e.tabIndex >= 0 && e.type !== "radio")
  .filter((e) => e.checkVisibility({ visibilityProperty: true })
    && !e.closest(".md-search__output, .md-skip") && e.getClientRects().length)
  .map((e, i) => { e.dataset.stop = i; return i; })"""


def faults(page: Page, rules: str = "") -> list[str]:
    """What axe has to say of the page as it is, by all its rules. A notebook's cells are its converter's, not ours."""
    page.evaluate(AXE)
    ask = (
        f"axe.run({{exclude: [['.jupyter-wrapper']]}}, {{{rules} resultTypes: ['violations']}}).then(r => r.violations)"
    )
    found: list[dict[str, Any]] = page.evaluate(ask)
    return [f"{v['id']}: {n['target']} {n['html'][:120]}: {n['any'] or n['all'] or n['none']}" [:600]
            for v in found for n in v["nodes"][:4]]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def spread(browser: Browser, site: tuple[str, str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """Every kind of page with everything at once, on a light screen. A test that changes it puts it back."""
    options: dict[str, Any] = {"color_scheme": "light", "reduced_motion": "reduce", "bypass_csp": True}
    with opened(browser, address(site, request.param), **options) as page:
        page.evaluate(SPREAD)
        yield page


def test_axe_finds_nothing(spread: Page) -> None:
    assert spread.locator("body").get_attribute("data-md-color-scheme") == "default"
    assert faults(spread) == []


def test_axe_finds_no_fault_of_colour_in_the_dark(spread: Page) -> None:
    """The page is the same in all but its colours."""
    spread.emulate_media(color_scheme="dark")
    spread.locator("body[data-md-color-scheme=slate]").wait_for()
    assert faults(spread, "runOnly: ['color-contrast', 'link-in-text-block'],") == []
    spread.emulate_media(color_scheme="light")
    spread.locator("body[data-md-color-scheme=default]").wait_for()


def test_320_pixels_are_enough(spread: Page) -> None:
    usual = spread.viewport_size
    assert usual is not None
    spread.set_viewport_size({"width": 320, "height": 640})
    assert spread.evaluate("document.scrollingElement.scrollWidth") <= 320
    spread.set_viewport_size(usual)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_what_opens(browser: Browser, site: tuple[str, str], scheme: str) -> None:
    phone: dict[str, Any] = {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
    }
    with opened(browser, address(site, "methodology"), **phone) as page:
        page.get_by_role("button", name="Navigation").click()
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Search", exact=True).click()
        page.keyboard.type("throughput")
        page.locator(".md-search-result__item").first.wait_for()
        assert faults(page) == []


@pytest.mark.parametrize("kind", ["home", "case", "quality", "compare", "costs", "fit", "log", "methodology"])
def test_the_tab_key_reaches_everything_and_shows_where_it_is(
    browser: Browser, site: tuple[str, str], kind: str
) -> None:
    with opened(browser, address(site, kind), viewport={"width": 1300, "height": 900}) as page:
        wanted = set(page.evaluate(FOCUSABLE))
        unseen = []
        reached: set[int] = set()
        for _ in range(len(wanted) + 40):
            page.keyboard.press("Tab")
            at = page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e);
                const shown = s.outlineStyle !== "none" || s.boxShadow !== "none" || e.matches("input");
                return [e.dataset.stop ?? null, shown,
                        e.outerHTML.slice(0, 100)]; }"""
            )
            if at[0] is not None:
                reached.add(int(at[0]))
                unseen += [] if at[1] else [at[2]]
            if reached == wanted:
                break
        missed = "ids => ids.map(i => document.querySelector(`[data-stop='${i}']`)?.outerHTML.slice(0, 99))"
        left = page.evaluate(missed, sorted(wanted - reached))
        assert left == []
        assert unseen == []


def test_the_menu_of_a_phone_opens_and_closes_by_keyboard(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, address(site, "case"), viewport={"width": 390, "height": 844}) as page:
        button = page.get_by_role("button", name="Navigation")
        assert button.get_attribute("aria-expanded") == "false"
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        page.locator(".md-sidebar--primary .md-nav__link:focus").wait_for()
        page.keyboard.press("Escape")
        assert button.get_attribute("aria-expanded") == "false"
        assert button.evaluate("e => e === document.activeElement")


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_without_javascript(browser: Browser, site: tuple[str, str], kind: str) -> None:
    with opened(browser, address(site, kind), java_script_enabled=False) as page:
        assert page.locator("h1").is_visible()
        assert len(page.locator("article").inner_text()) > 150
        assert all(figure.is_visible() for figure in page.locator("figure.qc-figure svg").all()[:2])
        page.set_viewport_size({"width": 390, "height": 844})
        menu = page.locator("label.md-header__button[for=__drawer]")
        assert menu.is_visible()
        menu.click()
        assert page.locator(".md-sidebar--primary .md-nav__link:visible").count()


def test_nothing_moves_for_those_who_ask_for_that(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, address(site, "case"), reduced_motion="reduce") as page:
        moving = page.evaluate(
            """[...document.querySelectorAll("*")].map((e) => getComputedStyle(e))
            .filter((s) => parseFloat(s.transitionDuration) > 0 || (s.animationName !== "none")).length"""
        )
        assert moving == 0


@pytest.mark.parametrize(
    "kind", ["case", "quality", "log", "data", "costs", "history", "compare", "plan", "projection"]
)
def test_paper_holds_whole_tables_and_what_was_folded(browser: Browser, site: tuple[str, str], kind: str) -> None:
    with opened(browser, address(site, kind), viewport={"width": 680, "height": 960}) as page:  # A4 within its margins
        page.emulate_media(media="print")
        wide = page.evaluate(
            """[...document.querySelectorAll("article table, article svg, article pre")]
            .filter((e) => e.getClientRects().length)
            .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map((e) => (e.closest("[id]")?.id ?? "") + " " + Math.round(e.getBoundingClientRect().right))"""
        )
        assert wide == []
        assert page.evaluate(
            """[...document.querySelectorAll("article details:not(.qc-tools details)")].every((d) => !d.offsetHeight
            || [...d.children].filter((c) => c.tagName !== "SUMMARY" && getComputedStyle(c).display !== "none")
               .every((c) => c.checkVisibility()))"""
        )
        assert not page.locator(".md-header").is_visible()
