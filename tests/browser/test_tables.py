"""Tables and charts in a real browser: sorted, copied, linked, explained, scrolled by keyboard, read unscripted."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_site import opened

pytestmark = pytest.mark.browser

HOSTILE = """
<div class="qc-frame"><div class="qc-scroll" role="region" tabindex="0" aria-label="Made up">
<div class="qc-table" id="table-made-up"><table><caption>Made up</caption>
<thead><tr><th scope="col">Name</th><th scope="col" class="num">Value (ms)</th></tr></thead><tbody>
<tr><th scope="row">q10</th><td class="num">1&#8239;234.5 <small>(1,200–1,300)</small></td></tr>
<tr><th scope="row">=HYPERLINK(&quot;x&quot;)</th><td class="num">–</td></tr>
<tr><th scope="row">q2_k|*b*</th><td class="num">−3.5</td></tr>
<tr><th scope="row">–</th><td class="num">9.40 × 10⁻⁶</td></tr>
<tr><th scope="row">Q9</th><td class="num">n = 36, too few</td></tr>
<tr><th scope="row">+1+1</th><td class="num"><span class="qc-change">+36.3 %</span></td></tr>
</tbody></table></div></div><div class="qc-tools"></div></div>
"""


def frame(name: str) -> str:
    return f".qc-frame:has(> * #{name}, > #{name})"


def column(page: Page, table: str, nth: int) -> list[str]:
    cells = page.locator(f"#{table} tbody tr > :nth-child({nth})").all_text_contents()
    return [" ".join(c.split()) for c in cells]


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def insert(page: Page) -> None:
    """A table with all that cells may hold, put on the page and dressed by the site's own script."""
    page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", HOSTILE)
    page.add_script_tag(url=page.locator("script[src*='tables.js']").get_attribute("src") or "")


def test_a_header_sorts_by_click_and_says_so(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        head = page.locator("#table-vram thead th").nth(1)
        before = column(page, "table-vram", 2)
        assert before == ["15.0", "8.49", "5.37", "15.0"]
        head.get_by_role("button", name="Weights (GiB)").click()
        assert column(page, "table-vram", 2) == ["15.0", "15.0", "8.49", "5.37"]
        assert head.get_attribute("aria-sort") == "descending"
        expect(page.locator(".qc-voice")).to_have_text("Sorted by Weights (GiB), descending.")
        head.get_by_role("button").click()
        assert column(page, "table-vram", 2) == ["5.37", "8.49", "15.0", "15.0"]
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_role("button").click()
        assert column(page, "table-vram", 2) == before
        assert head.get_attribute("aria-sort") is None
        expect(page.get_by_role("status").filter(has_text="original order")).to_have_count(1)


def test_decimal_commas_are_sorted_by_value(browser: Browser, german: tuple[str, str]) -> None:
    """1.234,5 is more than 999,9, and 0,625 is not 625."""
    url, case = german
    cells = "".join(f"<tr><th>{i}</th><td class='num'>{x}</td></tr>" for i, x in enumerate(
        ["999,9", "1.234,5 (1.200–1.300)", "0,625", "−17,3 %", "1,2 × 10⁻⁷", "2.000"]
    ))  # fmt: skip
    table = "<div class='qc-table' id='table-signs'><table><thead><tr><th>N</th><th class='num'>V</th></tr></thead>"
    with opened(browser, f"{url}/cases/{case}/") as page:
        head = page.locator("#table-vram thead th").nth(1)
        head.get_by_role("button", name="Weights (GiB)").click()
        assert column(page, "table-vram", 2) == ["15,0", "15,0", "8,49", "5,37"]
        made = f"{table}<tbody>{cells}</tbody></table></div>"
        page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", made)
        page.add_script_tag(url=page.locator("script[src*='tables.js']").get_attribute("src") or "")
        page.locator("#table-signs thead th").nth(1).get_by_role("button").click()
        assert column(page, "table-signs", 1) == ["5", "1", "0", "2", "4", "3"]


def test_a_header_sorts_by_keyboard_and_only_one_is_marked(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        heads = page.locator("#table-vram thead th")
        heads.nth(0).get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert column(page, "table-vram", 1) == ["awq", "bf16", "bf16-fp8kv", "fp8"]
        assert heads.nth(0).get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert heads.nth(0).get_attribute("aria-sort") is None
        assert heads.nth(1).get_attribute("aria-sort") == "descending"
        assert heads.nth(1).get_by_role("button").evaluate("e => e === document.activeElement")


def test_numbers_sort_by_value_words_by_the_alphabet_and_dashes_last(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        insert(page)
        name, value = page.locator("#table-made-up thead button").all()
        value.click()
        down = ["1 234.5 (1,200–1,300)", "+36.3 %", "9.40 × 10⁻⁶", "−3.5", "n = 36, too few", "–"]
        assert column(page, "table-made-up", 2) == down
        value.click()
        assert column(page, "table-made-up", 2) == [*reversed(down[:4]), *down[4:]]
        name.click()
        assert [c for c in column(page, "table-made-up", 1) if c[0] in "qQ–"] == ["q2_k|*b*", "Q9", "q10", "–"]
        assert column(page, "table-made-up", 1)[-1] == "–"


def test_a_table_is_copied_as_csv_that_a_spreadsheet_takes_for_no_formula(
    browser: Browser, site: tuple[str, str]
) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", permissions=["clipboard-read", "clipboard-write"]) as page:
        tools = page.locator(frame("table-vram"))
        tools.get_by_role("button", name="Copy as CSV").click()
        expect(tools.get_by_role("button", name="Copied")).to_be_visible()
        rows = list(csv.reader(io.StringIO(clipboard(page))))
        assert rows[0][:3] == ["Variant", "Weights (GiB)", "Δ weights"]
        assert [r[:3] for r in rows[1:3]] == [["bf16", "15.0", "–"], ["fp8", "8.49", "−43.4 %"]]
        assert len(rows) == 5
        expect(page.locator(".qc-voice")).to_have_text("Copied as CSV.")
        insert(page)
        page.locator(frame("table-made-up")).get_by_role("button", name="Copy as CSV").click()
        expect(page.locator(".qc-voice")).to_have_text("Copied as CSV.")
        made = dict(list(csv.reader(io.StringIO(clipboard(page))))[1:])
        assert made['\'=HYPERLINK("x")'] == "–"
        assert made["'+1+1"] == "+36.3 %"
        assert "q10" in made


def test_a_table_is_copied_as_markdown_in_which_text_stays_text(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator(frame("table-vram")).get_by_role("button", name="Copy as Markdown").click()
        expect(page.locator(".qc-voice")).to_have_text("Copied as Markdown.")
        lines = clipboard(page).splitlines()
        assert lines[0].startswith("| Variant | Weights (GiB) | Δ weights |")
        assert lines[1].startswith("| --- | ---: | ---: |")
        assert lines[3].startswith("| fp8 | 8.49 | −43.4 % |")
        insert(page)
        page.locator(frame("table-made-up")).get_by_role("button", name="Copy as Markdown").click()
        expect(page.locator(frame("table-made-up")).get_by_role("button", name="Copied")).to_be_visible()
        assert "| q2_k\\|\\*b\\* | −3.5 |" in clipboard(page)


def test_links_beneath_land_on_tables_and_charts(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        for name in ("table-cost", "fig-vram"):
            page.locator(f'a.qc-permalink[href="#{name}"]').click()
            assert page.url.endswith(f"#{name}")
            expect(page.locator(f"#{name}")).to_be_in_viewport()
    with opened(browser, f"{url}/cases/{case}/#table-cost") as page:
        expect(page.locator("#table-cost")).to_be_in_viewport()
        top = page.locator("#table-cost").bounding_box()
        header = page.locator(".md-header").bounding_box()
        assert top is not None
        assert header is not None
        assert top["y"] >= header["height"]


def test_a_link_into_something_folded_opens_it(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/#table-trust") as page:
        expect(page.locator("#table-trust")).to_be_in_viewport()


def test_how_opens_and_leads_to_its_definition(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/") as page:
        how = page.locator(frame("table-load-chat")).locator("details.qc-how")
        assert not how.locator("dl").is_visible()
        how.locator("summary").focus()
        page.keyboard.press("Enter")
        assert how.locator("dl").is_visible()
        assert "over all repeats of the cell" in how.inner_text()
        how.get_by_role("link", name="methodology").click()
        page.wait_for_url("**/methodology/#what-a-cell-is")
        expect(page.locator("#what-a-cell-is")).to_be_in_viewport()


@pytest.mark.parametrize("path", ["", "cases/", "costs/", "cases/{}/", "cases/{}/log/", "cases/{}/cards/fp8/"])
def test_data_is_a_file_of_the_site(browser: Browser, site: tuple[str, str], path: str) -> None:
    url, case = site
    with opened(browser, f"{url}/{path.format(case)}") as page:
        links = {str(a.evaluate("a => a.href")) for a in page.locator(".qc-tools a:not(.qc-permalink)").all()}
        assert any(link.endswith(("/cells.csv", "/study.toml")) for link in links)
        for link in links:
            assert page.request.get(link).status == 200, link
            if "#" in link:
                anchor = link.partition("#")[2]
                assert f'id="{anchor}"' in page.request.get(link).text(), link


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_320_px_only_the_box_scrolls_and_the_first_column_stays(
    browser: Browser, site: tuple[str, str], scheme: Any
) -> None:
    url, case = site
    view = {"width": 320, "height": 700}
    with opened(browser, f"{url}/cases/{case}/", viewport=view, color_scheme=scheme) as page:
        for how in page.locator("details.qc-how > summary").all()[:6]:
            if how.is_visible():
                how.click()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
        box = page.locator(".qc-scroll:has(#table-vram)")
        box.scroll_into_view_if_needed()  # what is out of sight is laid out when it comes near
        page.wait_for_timeout(300)
        assert box.evaluate("e => e.scrollWidth > e.clientWidth")
        box.focus()
        expect(box).to_be_focused()
        assert page.get_by_role("region", name="Memory by variant").count() == 1
        first, second = (page.locator("#table-vram tbody tr").nth(1).locator(f":nth-child({n})") for n in (1, 2))
        before, moving = first.bounding_box(), second.bounding_box()
        for _ in range(50):  # waiting inside the page would need eval, which its policy forbids
            page.keyboard.press("ArrowRight")
            if box.evaluate("e => e.scrollLeft") > 40:
                break
            page.wait_for_timeout(100)
        after, moved = first.bounding_box(), second.bounding_box()
        assert before is not None
        assert after is not None
        assert moving is not None
        assert moved is not None
        assert abs(before["x"] - after["x"]) < 1
        assert moved["x"] < moving["x"] - 40
        paper = first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", paper), "what moves beneath must not shine through"
        assert 40 <= after["width"] <= 160
        assert after["height"] <= 60, "a name is not broken letter by letter"


@pytest.mark.parametrize("path", ["", "costs/", "cases/{}/data/", "cases/{}/log/", "cases/{}/notes/", "cases/{}/plan/"])
def test_no_frame_is_wider_than_320_px_without_a_script(browser: Browser, site: tuple[str, str], path: str) -> None:
    """With scripts: tests/browser/test_axe.py."""
    url, case = site
    view = {"width": 320, "height": 700}
    with opened(browser, f"{url}/{path.format(case)}", viewport=view, java_script_enabled=False) as page:
        frames = [f.bounding_box() for f in page.locator(".qc-scroll").all() if f.is_visible()]
        assert all(f is not None and f["x"] + f["width"] <= 320 for f in frames)


def test_without_javascript_tables_are_read_linked_and_explained(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", java_script_enabled=False) as page:
        assert page.locator("#table-vram tbody tr").count() == 4
        assert page.locator("#table-vram caption").text_content() == "Memory by variant"
        assert page.locator(".qc-tools button, .qc-sort").count() == 0
        tools = page.locator(frame("table-vram")).locator(".qc-tools")
        tools.scroll_into_view_if_needed()
        assert tools.get_by_role("link", name="Data: variants.csv").is_visible()
        tools.locator(".qc-how > summary").click()
        assert "a reading has no interval" in (tools.text_content() or "")


def test_what_does_not_scroll_is_no_stop_of_the_tab_key(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", viewport={"width": 1600, "height": 900}) as page:
        page.wait_for_function(
            "!document.querySelector('.qc-scroll:has(#table-configuration)').hasAttribute('tabindex')"
        )
        boxes = [box for box in page.locator(".qc-scroll, .qc-chart").all() if box.is_visible()]
        assert len(boxes) > 15
        for box in boxes:
            scrolls = box.evaluate("e => e.scrollWidth > e.clientWidth")
            assert (box.get_attribute("tabindex") == "0") == scrolls


def test_paper_and_high_contrast(browser: Browser, site: tuple[str, str]) -> None:
    url, case = site
    with opened(browser, f"{url}/cases/{case}/", forced_colors="active") as page:
        badge = page.locator("#table-load-chat .qc-delta").first
        assert badge.evaluate("e => getComputedStyle(e).borderTopWidth") == "1px"
        assert page.locator("#fig-vram").evaluate("e => getComputedStyle(e).forcedColorAdjust") == "none"
        page.emulate_media(media="print")
        assert not page.locator(".qc-tools").first.is_visible()
        assert page.locator("#table-vram").is_visible()
        assert page.locator(".qc-scroll:has(#table-vram)").evaluate("e => getComputedStyle(e).overflowX") == "visible"
