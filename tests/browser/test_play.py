"""The calculators in a real browser: the page's own figures at the defaults, the same formulas as Python over a grid,
state in the address, the keyboard, and words for those who cannot see the change."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from quantcase.analysis.cost_table import Budget, Inputs, document, mix, rows
from quantcase.analysis.fit import CONSTANTS, Ask, estimate, fit
from quantcase.pages import costs
from quantcase.pages import fit as fit_page
from quantcase.pages.view import CaseView, Options
from quantcase.signs import written_in
from quantcase.text import number, percent, span
from tests.browser.test_site import opened
from tests.real import CPU, cases

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
COSTS = "import(new URL('../assets/quantcase/costs.js', location.href).href)"
PLAY = "import(new URL('../assets/quantcase/play.js', location.href).href)"
FIT = "import(new URL('../assets/quantcase/fit.js', location.href).href)"
# A finished page joins figures and units by U+00A0 (signs.joined); the calculators write plain spaces.
WORDS = r"textContent.replaceAll('\u00a0', ' ')"
TABLE = f"id => [...document.querySelectorAll(`#table-${{id}} tbody tr`)].map(r => [...r.cells].map(c => c.{WORDS}))"
DRAWN = "() => [...document.querySelectorAll('.qc-bar')].map(b => b.innerHTML)"


def plain(value: Any) -> Any:
    """As JSON has it: nan is null, tuples are lists."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def same(ours: Any, theirs: Any) -> bool:
    """Equal, figures to 12 digits."""
    if isinstance(ours, dict):
        return set(ours) == set(theirs) and all(same(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, float) or isinstance(theirs, float):
        return ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=1e-12)
    return bool(ours == theirs)


def field(page: Page, words: str) -> Any:
    return page.locator(".qc-play").get_by_label(words, exact=True)


def status(page: Page) -> str:
    return page.locator(".qc-play [role=status]").inner_text()


@pytest.mark.parametrize("signs", ["site", "german"])
def test_at_the_defaults_the_calculator_shows_what_the_page_says(
    browser: Browser, signs: str, request: pytest.FixtureRequest
) -> None:
    site = request.getfixturevalue(signs)
    with opened(browser, f"{site[0]}/costs/") as page:
        before, bars = [page.evaluate(TABLE, t) for t in ("costs", "mix")], page.evaluate(DRAWN)
        assert len(before[0]) == 8
        assert len(before[1]) == 4
        page.locator(".qc-play button").click()  # draws everything anew
        assert [page.evaluate(TABLE, t) for t in ("costs", "mix")] == before
        assert page.evaluate(DRAWN) == bars
        field(page, "Use, %").fill("50")
        assert page.evaluate(TABLE, "costs") != before[0]
        assert page.evaluate(DRAWN) == bars  # beside each other nothing has changed
        field(page, "Use, %").fill("100")
        assert [page.evaluate(TABLE, t) for t in ("costs", "mix")] == before


def test_both_languages_make_the_same_rows_over_a_grid(browser: Browser, site: tuple[str, str]) -> None:
    shown = [costs.cost_of(CaseView(c, Options())) for c in cases(CPU, "2026-11-21-h200-h200-shape")]
    priced = [replace(c, price=c.price or 0.07) for c in shown if c.lanes]
    assert len(priced) == 2
    priced[0] = replace(priced[0], gpus={v: 1 + i % 3 for i, v in enumerate(priced[0].variants)})
    budgets = (None, Budget("e2e", 700), Budget("e2e", 100), Budget("ttft", 125.5), Budget("ttft", 1))
    mixes: tuple[dict[str, float], ...] = ({}, {"chat": 0}, {"chat": 0.3, "batch": 7})
    grid = [
        Inputs({priced[0].id: price} if price else {}, use, gpus, rate, budget, weights)
        for price, (use, gpus, rate), budget, weights in itertools.product(
            (None, 1.237), ((1.0, 1, 1.0), (0.37, 7, 0.913)), budgets, mixes
        )
    ]
    js = f"async ([d, g]) => {{ const m = await {COSTS};"
    js += " return d.cases.flatMap(c => g.map(i => [m.rows(c, i), m.mix(c, i)])); }"
    with opened(browser, f"{site[0]}/costs/") as page:
        theirs = page.evaluate(js, [document(priced), [plain(asdict(i)) for i in grid]])
    ours = [(rows(c, i), mix(c, i)) for c in priced for i in grid]
    assert len(theirs) == len(ours) == len(priced) * 60
    for mine, other in zip(ours, theirs, strict=True):
        assert same([[plain(asdict(r)) for r in part] for part in mine], other)
    stated = [r.saving for found, _ in ours for r in found]
    assert any(stated)
    assert not all(stated)


def test_both_languages_write_a_figure_alike(browser: Browser, site: tuple[str, str]) -> None:
    values = [0.0, 0.5, 2.5, 0.125, 12.25, 12.35, 999.5, 1234.5, 1235.5, 3.2e9, -0.0423, -17.25, 99.95, 0.09995, 1e-7]
    values += [math.exp(i / 7) * (-1) ** i for i in range(-120, 120)]
    spans = [(v, v - w * abs(v), v + w * abs(v)) for v in values for w in (0.0, 1e-9, 0.0004, 0.03, 0.4, 2.0)]
    with opened(browser, f"{site[0]}/costs/") as page:
        js = f"async ([v, s]) => {{ const m = await {PLAY};"
        js += " return [v.map(x => [m.number(x), m.number(x, 4)]), s.map(x => m.spanWords(x).join(' ').trim())]; }"
        figures, intervals = page.evaluate(js, [values, spans])
    assert figures == [[number(v), number(v, 4)] for v in values]
    assert intervals == [re.sub("</?small>", "", span(*s)) for s in spans]


def test_the_fit_of_any_model_is_the_same_in_both_languages(browser: Browser, site: tuple[str, str]) -> None:
    data = plain(fit_page.document([]))
    cards = [g["memory"] for g in data["gpus"]]
    formats = ("bf16", "awq", "q4_k_m")
    asks = [Ask(1.0, 1, 1, 0.9), Ask(2.0, 3001, 50, 1.0), Ask(2.0, 131_072, 3, 0.5)]
    js = f"async ([d, names, asks]) => {{ const m = await {FIT}, c = d.constants; return d.shapes.flatMap(s =>"
    js += " d.formats.filter(f => names.includes(f.key)).flatMap(f => asks.flatMap(a => d.gpus.map(g =>"
    js += " m.fit(s, f, a, g.memory, m.estimate(s, a.contexts, c), c.block))))); }"
    with opened(browser, f"{site[0]}/fit/") as page:
        theirs = page.evaluate(js, [data, formats, [asdict(a) for a in asks]])
    ours = [
        fit(shape, fit_page.formats()[name], ask, memory, estimate(shape, ask.contexts))
        for shape in fit_page.shapes().values()
        for name in formats
        for ask in asks
        for memory in cards
    ]
    assert len(theirs) == len(ours)
    assert {f.verdict for f in ours} == {"fits", "does not fit", "depends on overhead"}
    for mine, other in zip(ours, theirs, strict=True):
        assert same(plain(asdict(mine)), other)
    assert CONSTANTS.block == 16


def test_both_languages_write_a_figure_alike_in_german(browser: Browser, german: tuple[str, str]) -> None:
    values = [0.5, 1234.5, -17.25, 3.2e9, 1e-7, 0.09995]
    with opened(browser, f"{german[0]}/costs/") as page:
        js = f"async v => {{ const m = await {PLAY};"
        js += " return [v.map(x => m.number(x)), v.map(x => m.spanWords([x, x - 0.25, x + 0.25]).join(' ')),"
        js += " v.map(x => m.percent(x)), m.localized('2.5 requests/s, vLLM 0.20.2, 2026-11-21')]; }"
        found = page.evaluate(js, values)
        typed = ["3,59", "1.234,5", "1234,5", "0", ",5", "3.59", "1.23,4", "1e5", "x", "", "1.234"]
        read = page.evaluate(f"async v => {{ const m = await {PLAY}; return v.map(x => m.typedNumber(x)); }}", typed)
    with written_in("de"):
        ours = [number(v) for v in values]
        assert found[:3] == [
            ours, [re.sub("</?small>", "", span(v, v - 0.25, v + 0.25)) for v in values], [percent(v) for v in values],
        ]  # fmt: skip
    assert found[3] == "2,5 requests/s, vLLM 0.20.2, 2026-11-21"
    assert [None if math.isnan(x) else x for x in read] == [
        3.59, 1234.5, 1234.5, 0, 0.5, None, None, None, None, None, 1234,
    ]  # fmt: skip


def test_the_calculator_reads_and_writes_decimal_commas_and_the_pages_currency(
    browser: Browser, german: tuple[str, str]
) -> None:
    with opened(browser, f"{german[0]}/costs/") as page:
        assert page.locator(".qc-rate").count() == 1
        stated = page.locator(".qc-rate").inner_text().replace("\u00a0", " ")
        assert "Amounts in EUR at 0,92 EUR for 1 USD (ECB, 2026-11-20)" in stated
        assert "EUR" in str(page.locator("#table-costs thead").text_content())
        price = field(page, german[1])
        assert (price.input_value(), field(page, "Units in 1 USD").input_value()) == ("3,59", "0,92")
        before = page.evaluate(TABLE, "costs")
        price.fill("7.18")
        assert price.get_attribute("aria-invalid") == "true"
        assert page.evaluate(TABLE, "costs") == before
        price.fill("7,18")
        assert price.get_attribute("aria-invalid") is None
        after = page.evaluate(TABLE, "costs")
        assert dollars(after[0][3]) == pytest.approx(2 * dollars(before[0][3]), rel=0.01)
        assert f"price.{german[1]}=7.18" in page.url  # the address is for machines
        field(page, "Units in 1 USD").fill("0,5")
        assert "at 0,5 EUR for 1 USD, your own rate" in page.locator(".qc-rate").inner_text().replace("\u00a0", " ")
        page.locator(".qc-play button").click()
        assert page.locator(".qc-rate").inner_text().replace("\u00a0", " ") == stated
        assert page.evaluate(TABLE, "costs") == before
    with opened(browser, f"{german[0]}/fit/") as page:
        table = page.evaluate(TABLE, "fit")
        field(page, "Tokens in a context").fill("4096")
        assert page.evaluate(TABLE, "fit") != table
        page.locator(".qc-play button").click()
        assert page.evaluate(TABLE, "fit") == table


def dollars(cell: str) -> float:
    return float(cell.split()[0].replace(".", "").replace(",", "."))


def test_what_is_typed_is_kept_in_the_address_and_comes_back(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, f"{site[0]}/costs/") as page:
        field(page, site[1]).fill("7.18")  # twice the bundle's 3.59
        field(page, "Label").fill("EUR")
        field(page, "Units in 1 USD").fill("0.5")
        field(page, "p95 of").select_option("e2e")
        field(page, "Milliseconds").fill("1500")
        changed, said, url = page.evaluate(TABLE, "costs"), status(page), page.url
        assert "ms=1500" in url
        assert "EUR" in str(page.locator("#table-costs thead").text_content())
        assert "EUR per 1M output tokens" in said
    with opened(browser, url) as page:
        assert page.evaluate(TABLE, "costs") == changed
        assert status(page) == said
        assert field(page, "Label").input_value() == "EUR"
        page.locator(".qc-play button").click()
        assert "?" not in page.url
        assert "EUR" not in str(page.locator("#table-costs thead").text_content())


def test_an_address_that_makes_no_sense_is_read_as_the_defaults(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, f"{site[0]}/costs/") as page:
        usual = page.evaluate(TABLE, "costs")
    bad = "use=-3&gpus=x&rate=0&ms=NaN&limit=%3Cimg%3E&mix.chat=-1&cur=%3Cimg%20src%3Dx%3E&__proto__=1"
    with opened(browser, f"{site[0]}/costs/?{bad}") as page:
        assert page.evaluate(TABLE, "costs") == usual
        assert page.locator("main img").count() == 0


def test_a_budget_leaves_only_load_points_that_meet_it(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, f"{site[0]}/costs/?limit=e2e&ms=950") as page:
        met = [r for r in page.evaluate(TABLE, "costs") if r[3][0].isdigit()]
        assert met
        assert all(float(r[8].split()[0].replace(",", "")) <= 950 for r in met)
        assert "rows have no load point within the budget" in status(page)


def test_it_works_from_the_keyboard_and_says_what_is_wrong(browser: Browser, site: tuple[str, str]) -> None:
    with opened(browser, f"{site[0]}/costs/") as page:
        before = page.evaluate(TABLE, "mix")
        field(page, "Use, %").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type("25")
        after = page.evaluate(TABLE, "mix")
        assert float(after[0][2].split()[0]) == pytest.approx(4 * float(before[0][2].split()[0]), rel=0.01)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('label').textContent") == "Servers"
        page.keyboard.press("Control+A")
        page.keyboard.type("0")
        assert field(page, "Servers").get_attribute("aria-invalid") == "true"
        assert page.evaluate(TABLE, "mix") == after
        region = page.locator(".qc-play [role=status]")
        assert region.get_attribute("aria-live") == "polite"


def test_the_fit_page_begins_with_its_own_figures_and_follows_the_reader(
    browser: Browser, site: tuple[str, str]
) -> None:
    sums = f"[...document.querySelectorAll('.qc-sum li')].map(l => l.{WORDS})"
    with opened(browser, f"{site[0]}/fit/") as page:
        table, lines = page.evaluate(TABLE, "fit"), page.evaluate(sums)
        field(page, "Model").select_option("llama-3_1-70b")
        assert "fits on 2 of 13 cards" not in status(page)
        assert page.evaluate(TABLE, "fit") != table
        assert "estimated, not measured" in page.evaluate(sums)[2]
        page.locator(".qc-play button").click()
        assert page.evaluate(TABLE, "fit") == table
        assert page.evaluate(sums) == lines
        field(page, "Format").select_option("awq")
        field(page, "Tokens in a context").fill("4096")
        assert "4.160 bits" in page.evaluate(sums)[0]
        assert field(page, "Bits per weight, with scales").input_value() == "4.16"
        url, shown = page.url, page.evaluate(TABLE, "fit")
    with opened(browser, url) as page:
        assert page.evaluate(TABLE, "fit") == shown
        assert page.locator("h2 .qc-fit-what").inner_text() == "Llama-3.1-8B, AWQ, group 128"


def test_a_model_of_one_s_own_is_reckoned_from_its_shape(browser: Browser, site: tuple[str, str]) -> None:
    own = "model=own&parameters=8.03026&layers=40&hidden=4096&intermediate=14336&heads=32&kv_heads=8&head_dim=128"
    with opened(browser, f"{site[0]}/fit/?{own}&vocabulary=128256&tied=0&gpu=l4&tokens=1024&contexts=4") as page:
        said = page.evaluate("[...document.querySelectorAll('.qc-sum li')].map(l => l.textContent)")
        assert "40 layers" in said[1]
        assert f"{2 * 40 * 8 * 128 * 2:,} bytes a token" in said[1]
        assert "estimated" in said[2]
        assert "NVIDIA L4" in said[4]
        assert "your own model" in status(page)
        page.get_by_text("The model's shape", exact=True).scroll_into_view_if_needed()
        field(page, "Layers").fill("20")
        assert "20 layers" in page.evaluate("document.querySelectorAll('.qc-sum li')[1].textContent")


@pytest.mark.parametrize("path", ["costs/", "fit/"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_narrow_phone_and_need_no_script(
    browser: Browser, site: tuple[str, str], path: str, scheme: Any
) -> None:
    narrow = {"width": 320, "height": 700}
    with opened(browser, f"{site[0]}/{path}", viewport=narrow, color_scheme=scheme) as page:
        assert page.locator(".qc-play").is_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
        page.emulate_media(media="print")
        assert not page.locator(".qc-play").is_visible()
    with opened(browser, f"{site[0]}/{path}", java_script_enabled=False) as page:
        assert page.locator(".qc-table").first.is_visible()
        assert not page.locator(".qc-play").is_visible()


@pytest.mark.parametrize("path", ["costs/?use=50", "fit/?tokens=4096"])
def test_the_scripts_live_under_a_strict_policy(browser: Browser, site: tuple[str, str], path: str) -> None:
    """Only our own files, nothing inline: the pages' data block is no script, so it may stay."""
    context = browser.new_context()
    page = context.new_page()
    policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"

    def served(route: Any) -> None:
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": policy}
        route.fulfill(response=answer, headers=headers)

    page.route("**/*", served)
    page.goto(f"{site[0]}/{path}", wait_until="load")
    page.wait_for_selector(".qc-play:not([hidden])")
    assert status(page)
    assert json.loads(page.locator("script[type='application/json'][id$='-data']").inner_text())
    context.close()
