"""The built site in a real browser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page that must load without a console error and without asking another host."""
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
    assert problems == []
    context.close()


def test_home_answers_and_leads_to_the_case(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/") as page:
        assert page.locator(".qc-card").first.is_visible()
        assert "throughput" in page.locator(".qc-answer").first.inner_text()
        page.locator(".qc-card h3 a").first.click()
        page.wait_for_url(f"**/cases/{case}/")
        assert page.locator("h1").is_visible()


def test_the_case_shows_charts_and_switches_to_dark(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", color_scheme="light") as page:
        chart = page.locator("figure.qc-figure svg").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 100
        assert page.locator("figure.qc-figure svg path").count() > 20
        label = page.locator("figure.qc-figure svg text").first
        colour = "e => getComputedStyle(e).fill"
        light, paper = label.evaluate(colour), page.evaluate("getComputedStyle(document.body).backgroundColor")
        for _ in range(3):
            if page.locator("body[data-md-color-scheme=slate]").count():
                break
            page.locator("form[data-md-component=palette] label:not([hidden])").click()
        assert page.locator("body[data-md-color-scheme=slate]").count() == 1
        assert label.evaluate(colour) != light
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_tables_sort_and_the_page_fits_a_phone(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", viewport={"width": 390, "height": 844}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        head = page.locator("#table-vram thead th").nth(1)
        head.click()
        cells = page.locator("#table-vram tbody tr td:nth-child(2)").all_inner_texts()
        numbers = [float(c) for c in cells]
        assert numbers == sorted(numbers, reverse=True)


def test_everything_shows_without_javascript(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", java_script_enabled=False) as page:
        assert page.locator("figure.qc-figure svg").first.is_visible()
        assert page.locator("#table-vram").is_visible()


@pytest.mark.parametrize("path", ["methodology/", "offers/quantization-health-check/", "costs/", "guide/commands/"])
def test_every_other_page_opens_cleanly(browser: Browser, site: tuple[str, str], path: str) -> None:
    with opened(browser, f"{site[0]}/{path}") as page:
        assert page.locator("h1").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_prints(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        assert page.pdf(format="A4").startswith(b"%PDF")
        page.emulate_media(media="print")
        assert not page.locator(".md-header").is_visible()
        assert page.locator("figure.qc-figure svg").first.is_visible()


def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    paths = ["", "cases/", f"cases/{case}/", f"cases/{case}/data/", "costs/", "methodology/", "architecture/"]
    paths += [f"guide/{name}/" for name in ("quickstart", "rented-gpu", "studies", "commands", "bundle", "publish")]
    for path in [*paths, "notebooks/open-a-bundle/", "offers/quantization-health-check/"]:
        with opened(browser, f"{url}/{path}", viewport={"width": 390, "height": 844}) as page:
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, path


def test_a_chart_on_a_phone_scrolls_inside_its_own_frame(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", viewport={"width": 390, "height": 844}) as page:
        for frame in page.locator(".qc-chart").all():
            box, figure = frame.bounding_box(), frame.locator("..").bounding_box()
            assert box is not None
            assert figure is not None
            assert figure["x"] <= box["x"]
            assert box["x"] + box["width"] <= figure["x"] + figure["width"] <= 390
        frame = page.locator(".qc-chart").first
        frame.scroll_into_view_if_needed()  # what is out of sight is laid out when it comes near
        page.wait_for_timeout(300)
        assert frame.evaluate("e => { e.scrollLeft = 999; return e.scrollLeft }") > 50


def test_the_trust_panel_opens_below_the_answer(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        check = page.locator(".qc-check").first
        assert not check.is_visible()
        page.locator("details.qc-trust > summary").click()
        assert check.is_visible()


def test_paper_is_light_whatever_the_screen_was(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    parts = {"body": "color", ".qc-table td": "color", ".qc-card": "background-color", "figure svg text": "fill",
             "figure svg path[fill*=series], figure svg path[stroke*=series]": "fill"}  # fmt: skip
    inks = []
    for scheme in ("light", "dark"):
        with opened(browser, f"{url}/cases/{case}/", color_scheme=scheme) as page:
            if scheme == "dark":
                assert page.locator("body[data-md-color-scheme=slate]").count() == 1
            page.emulate_media(media="print", color_scheme=scheme)
            style = "([part, what]) => getComputedStyle(document.querySelector(part)).getPropertyValue(what)"
            inks.append([page.evaluate(style, list(item)) for item in parts.items()])
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") != "dark"
    assert inks[0] == inks[1]


def test_the_address_of_a_version_that_is_gone_leads_to_its_case(browser: Browser, site: tuple[str, str]) -> None:
    """A host answers any address that is not there with 404.html."""
    url, case = site
    context = browser.new_context()
    page = context.new_page()
    with urllib.request.urlopen(f"{url}/404.html", timeout=10) as reply:  # noqa: S310
        missing = reply.read().decode()
    page.route("**/versions/0123456789ab/", lambda r: r.fulfill(status=404, body=missing, content_type="text/html"))
    page.goto(f"{url}/cases/{case}/versions/0123456789ab/")
    place = page.locator(".qc-gone")
    expect(place).to_be_visible()
    assert case in place.inner_text()
    place.locator("a").click()
    page.wait_for_url(f"{url}/cases/{case}/")
    page.goto(f"{url}/404.html")
    expect(place).to_be_hidden()
    context.close()
