"""The comparison page in a real browser: its formulas are Python's, its pickers, its address, and what it refuses."""

from __future__ import annotations

import functools
import itertools
import json
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import markdown
import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from scipy import stats

from quantcase.analysis.between import between, compared, differences, newcombe, side_of
from quantcase.analysis.between_document import CaseDocument, Published
from quantcase.catalog import load
from quantcase.pages import compare
from quantcase.pages.view import CaseView, Options
from quantcase.text import number, signed_percent
from tests.browser.test_site import opened
from tests.real import cases
from tests.site.test_history import SLOWER_FP8, a_run

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CPU, H200, GH200 = "2026-11-21-cpu-cpu", "2026-11-21-h200-h200-shape", "2025-10-09-gh200-shimmy-moe"
PAIR = "2026-11-21-h200-h200-pair"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'"
HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Compare</title>
<link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="{policy}; img-src data:">
<link rel="stylesheet" href="../assets/quantcase.css"><link rel="stylesheet" href="../assets/compare.css">
<script src="../assets/between.js" defer></script><script src="../assets/compare.js" defer></script>
</head><body class="md-typeset">{body}</body></html>"""


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaseDocument]:
    """The project's own bundles, and two seeded runs of one study, the second simulated."""
    out = tmp_path_factory.mktemp("runs")
    a_run(out, 1)
    a_run(out, 2, engine="0.27.0", speed=SLOWER_FP8, grade="simulated")
    shown = [*load(out).cases, *cases(CPU, H200, PAIR, GH200)]
    return {d.case: d for d in compare.documents([CaseView(c, Options()) for c in shown])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, docs: dict[str, CaseDocument]) -> Path:
    """A site of one page, under a policy that allows no inline script and no other host."""
    out = tmp_path_factory.mktemp("page")
    bad = msgspec.json.decode(msgspec.json.encode(docs["run-1"]), type=CaseDocument)
    bad = msgspec.structs.replace(bad, case="hostile", title="<img src=x onerror=alert(1)>")
    for variant in bad.variants.values():
        variant.what["checkpoint"] = "<img src=x onerror=alert(1)>"
        variant.fixed["Engine"]["version"] = "</script><script>alert(1)</script>"
    found = [*docs.values(), bad]
    body = markdown.markdown(compare.page(found).split("---\n", 2)[2], extensions=["tables"])
    shutil.copytree(ROOT / "site" / "quantcase" / "assets", out / "assets")
    (out / "compare" / "cases").mkdir(parents=True)
    (out / "compare" / "index.html").write_text(HTML.format(policy=POLICY, body=body))
    for name, text in compare.files(found):
        (out / "compare" / name).write_text(text)
    (out / "compare" / "cases" / f"{GH200}.js").unlink()  # a file that did not arrive
    return out


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/compare/index.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page for calling its formulas."""
    with opened(browser, url, bypass_csp=True) as found:
        yield found


def at(url: str, a: str, b: str) -> str:
    return f"{url}#a={a}&b={b}"


@contextmanager
def chosen(browser: Browser, url: str, a: str, b: str, **options: Any) -> Iterator[Page]:
    """The page at two variants, their figures drawn."""
    with opened(browser, at(url, a, b), **options) as page:
        expect(page.locator(".qc-count")).to_contain_text("A: ")
        yield page


def plain(value: Any) -> Any:
    """As JSON has it: null for nan, lists for tuples."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def assert_alike(theirs: Any, ours: Any, where: str) -> None:
    """The same words, and numbers to nine digits."""
    if isinstance(ours, dict):
        assert set(theirs) == set(ours), where
        for key, value in ours.items():
            assert_alike(theirs[key], value, f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(theirs) == len(ours), where
        for i, value in enumerate(ours):
            assert_alike(theirs[i], value, f"{where}[{i}]")
    elif isinstance(ours, float) and theirs is not None:
        assert theirs == pytest.approx(ours, rel=1e-8, abs=1e-300), where
    else:
        assert theirs == ours, where


# -- the formulas ------------------------------------------------------------------------------------------------------


def test_students_t_is_scipys(page: Page) -> None:
    freedoms = [1, 1.3, 2, 2.7, 4, 9.09, 30, 137.5, 999, 1001, 12_345.6, 1e6, 2e6]
    sizes = [0, 1e-6, 0.01, 0.5, 1, 1.96, 2.776, 5, 12, 40]
    script = "([fs, ts]) => fs.map(f => [quantcaseBetween.tQuantile(f), ts.map(t => quantcaseBetween.tTail(t, f))])"
    for freedom, (quantile, tails) in zip(freedoms, page.evaluate(script, [freedoms, sizes]), strict=True):
        assert quantile == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)
        assert tails == pytest.approx([2 * stats.t.sf(t, freedom) for t in sizes], rel=1e-7)


def test_ratios_are_pythons_on_a_grid(page: Page) -> None:
    figures = [Published(v, s, f, level) for v in (0.3, 2655.0) for s in (0.0, 1e-6, 0.02)
               for f, level in ((2.0, "repeats"), (3.0, "starts"), (1e6, "requests"))]  # fmt: skip
    figures += [Published(100.0), Published(0.0, 0.1, 2.0, "repeats"), Published(7.0, low=6.0, high=9.0)]
    grid = list(itertools.product(figures, figures, (True, False)))
    ours = [plain(between(a.estimate, b.estimate, same_case=same)) for a, b, same in grid]
    sent = [[msgspec.to_builtins(a), msgspec.to_builtins(b), same] for a, b, same in grid]
    theirs = page.evaluate("grid => JSON.parse(JSON.stringify(grid.map(g => quantcaseBetween.ratio(...g))))", sent)
    assert_alike(theirs, ours, "grid")


def test_differences_of_shares_are_pythons_on_a_grid(page: Page) -> None:
    shares = [(r, n) for n in (1, 7, 80, 5000) for r in {0, 1, n // 2, n}]
    grid = list(itertools.product(shares, shares))
    theirs = page.evaluate(
        "grid => grid.map(g => quantcaseBetween.newcombe(...g))", [[list(a), list(b)] for a, b in grid]
    )
    for (a, b), found in zip(grid, theirs, strict=True):
        assert found == pytest.approx(newcombe(a, b), rel=1e-9, abs=1e-9)


def test_every_line_and_difference_is_pythons(page: Page, docs: dict[str, CaseDocument]) -> None:
    """Real and seeded cases, each variant against each: words, figures, what is refused and what is withheld."""
    sides = [side_of(d, v) for d in docs.values() for v in list(d.variants)[:3]]
    index = next(text for name, text in compare.files(list(docs.values())) if name == "cases.js")
    inner = json.loads(json.loads(index.split(".push(", 1)[1].removesuffix(");\n")))
    script = """([index, docs, pairs]) => {
      const side = ([c, name]) => ({ case: docs[c], name, variant: docs[c].variants[name] });
      return JSON.parse(JSON.stringify(pairs.map(([a, b]) => [quantcaseBetween.compared(index, side(a), side(b)),
        quantcaseBetween.differences(index, side(a), side(b))])));
    }"""
    pairs = [(a, b) for a, b in itertools.product(sides, sides) if a is not b]
    assert len(pairs) > 100
    sent = {c: json.loads(msgspec.json.encode(d)) for c, d in docs.items()}
    names = [[[a.case.case, a.name], [b.case.case, b.name]] for a, b in pairs]
    for (a, b), (lines, found) in zip(pairs, page.evaluate(script, [inner, sent, names]), strict=True):
        where = f"{a.case.case}/{a.name} and {b.case.case}/{b.name}"
        assert_alike(lines, [plain(asdict(x)) for x in compared(a, b)], where)
        assert_alike(found, [plain(asdict(x)) for x in differences(a, b)], where)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_bundles_figures(browser: Browser, url: str, docs: dict[str, CaseDocument]) -> None:
    with chosen(browser, url, f"{H200}/bf16", f"{H200}/fp8") as page:
        row = page.locator("#table-cells-chat tbody tr").filter(has_text="concurrency 16").first
        assert row.locator("td").nth(0).inner_text() == "Throughput (tok/s)"
        for cell, variant in ((1, "bf16"), (2, "fp8")):
            value = docs[H200].variants[variant].cells["chat"]["c16"].figures["throughput_tok_s"].value
            assert row.locator("td").nth(cell).inner_text().startswith(number(value, 4))
        words = row.locator("td").nth(3).inner_text()
        assert words.startswith("+36.3 %")
        assert "▲ faster" in words
        assert "(+23.7 to +50.1 %)" in words
        assert "No fixed variable that moves figures was seen to differ" in page.locator(".qc-banner").inner_text()


def test_a_change_that_rounds_to_zero_has_no_sign(browser: Browser, url: str, docs: dict[str, CaseDocument]) -> None:
    loaded = [docs[H200].variants[v].singles["vram_loaded_mib"] for v in ("bf16", "w8a8-int8")]
    assert 0.9995 < loaded[1] / loaded[0] < 1
    with chosen(browser, url, f"{H200}/bf16", f"{H200}/w8a8-int8") as page:
        row = page.locator("#table-once tbody tr").filter(has_text="VRAM loaded")
        assert row.locator("td").nth(2).inner_text().startswith("0.0 %\n")
    assert signed_percent(loaded[1] / loaded[0]) == "0.0 %"


def test_the_keyboard_chooses_and_the_address_keeps_it(browser: Browser, url: str) -> None:
    with chosen(browser, url, f"{H200}/bf16", f"{H200}/fp8") as page:
        page.locator("select").nth(3).focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator(".qc-count")).to_have_text(f"A: bf16 of {H200}. B: awq of {H200}.")
        assert page.url.endswith(f"#a={H200}/bf16&b={H200}/awq")
        page.reload()
        expect(page.locator(".qc-count")).to_have_text(f"A: bf16 of {H200}. B: awq of {H200}.")
        for select in page.locator("select").all():
            assert select.evaluate("e => e.labels.length") == 1


def test_what_differs_stands_above_the_figures_and_the_grades_are_in_sight(browser: Browser, url: str) -> None:
    with chosen(browser, url, "run-1/bf16", "run-2/fp8") as page:
        banner = page.locator(".qc-banner")
        assert "Engine (version 0.26.0 against 0.27.0" in banner.inner_text()
        assert banner.evaluate("e => !!(e.compareDocumentPosition(document.querySelector('.qc-table')) & 4)")
        sides = page.locator(".qc-side").all_inner_texts()
        assert "MEASURED" in sides[0]
        assert "DUMMY WEIGHTS" in sides[0]
        assert "simulated: replayed timings, nothing was measured" in sides[1]
        words = page.locator("#table-cells-chat tbody tr").first.locator("td").nth(3).inner_text()
        assert "no word: simulated timings are no measurement" in words
        assert page.locator(".qc-delta[data-class=faster], .qc-delta[data-class=slower]").count() == 0


def test_servers_that_share_no_card_are_on_two_boxes_and_one_with_two_cards_is_not(
    browser: Browser, url: str, docs: dict[str, CaseDocument]
) -> None:
    ours, theirs = (docs[case].variants["bf16"].boxes for case in (PAIR, H200))
    both = docs[PAIR].variants["bf16-two"].boxes
    assert ours != both
    with chosen(browser, url, f"{PAIR}/bf16", f"{PAIR}/bf16-two") as page:
        assert page.locator(".qc-banner", has_text="different boxes").count() == 0
    with chosen(browser, url, f"{PAIR}/bf16-two", f"{H200}/bf16") as page:
        words = page.locator(".qc-banner", has_text="different boxes").inner_text()
        assert words.startswith(f"A and B were measured on different boxes: A on {both[0]}, B on {theirs[0]}.")


def test_two_machines_with_other_workloads_are_refused_in_words(browser: Browser, url: str) -> None:
    with chosen(browser, url, f"{H200}/bf16", f"{CPU}/f16") as page:
        assert "GPU NVIDIA H200 against none" in page.locator(".qc-banner").inner_text()
        refused = page.locator("#table-cells-chat .qc-refused")
        assert refused.count() == page.locator("#table-cells-chat tbody tr").count()
        assert "input_tokens 256 against 64" in refused.first.inner_text()


def test_it_works_from_a_folder(browser: Browser, folder: Path) -> None:
    address = (folder / "compare" / "index.html").as_uri()
    page = browser.new_page()
    page.goto(at(address, f"{CPU}/f16", f"{CPU}/q4_k_m"))
    expect(page.locator(".qc-count")).to_have_text(f"A: f16 of {CPU}. B: q4_k_m of {CPU}.")
    assert "Accuracy" in page.locator("#table-once").inner_text()
    page.close()


def test_without_javascript_the_cases_and_the_pairs_are_there(browser: Browser, url: str) -> None:
    with opened(browser, url, java_script_enabled=False) as page:
        assert "needs JavaScript" in page.locator(".qc-compare").inner_text()
        assert page.locator("select").count() == 0
        for case in (CPU, H200, PAIR, GH200, "run-1"):
            assert page.locator(f'#table-compare-cases a[href="../cases/{case}/"]').count() == 1
        assert page.locator("#table-pairs tbody tr").count() >= 1


def test_a_listed_pair_opens_side_by_side(browser: Browser, url: str) -> None:
    with opened(browser, url) as page:
        expect(page.locator(".qc-count")).to_contain_text("A: ")
        page.locator("#table-pairs a", has_text="side by side").first.click()
        place = page.locator(".qc-pair").first
        a, b = (str(place.get_attribute(f"data-{k}")).split("/") for k in "ab")
        expect(page.locator(".qc-count")).to_have_text(f"A: {a[1]} of {a[0]}. B: {b[1]} of {b[0]}.")


def test_figures_that_did_not_arrive_are_a_sentence(browser: Browser, url: str, docs: dict[str, CaseDocument]) -> None:
    page = browser.new_page()
    variant = next(iter(docs[GH200].variants))
    page.goto(at(url, f"{GH200}/{variant}", f"{H200}/bf16"))
    expect(page.locator(".qc-count")).to_contain_text("could not be loaded")
    assert page.locator(".qc-compare-out").inner_text() == ""
    page.close()


@pytest.mark.parametrize("words", ["#a=nope/x&b=nope/y", f"#a={H200}/bf16&b={H200}/nope", "#a=%3Cimg%3E&b="])
def test_an_address_of_nothing_is_told(browser: Browser, url: str, words: str) -> None:
    with opened(browser, url + words) as page:
        expect(page.locator(".qc-count")).to_contain_text("The address names a variant that is not here")


def test_the_same_variant_twice_is_told(browser: Browser, url: str) -> None:
    with chosen(browser, url, f"{H200}/bf16", f"{H200}/bf16") as page:
        assert "A and B are the same variant" in page.locator(".qc-compare-out").inner_text()


def test_hostile_text_stays_text(browser: Browser, url: str) -> None:
    with chosen(browser, url, "run-1/bf16", "hostile/fp8") as page:
        assert "<img src=x onerror=alert(1)>" in page.locator("#table-what").inner_text()
        assert "</script><script>alert(1)</script>" in page.locator(".qc-banner").inner_text()
        assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_does_not_scroll_sideways(browser: Browser, url: str, width: int) -> None:
    with chosen(browser, url, f"{H200}/bf16", f"{CPU}/f16", viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_projects_own_site_has_the_page(browser: Browser, site: tuple[str, str]) -> None:
    root, case = site
    with chosen(browser, f"{root}/compare/", f"{case}/bf16", f"{case}/awq") as page:
        assert page.locator(".qc-compare-out .qc-table").count() == 5
    with opened(browser, f"{root}/history/") as page:
        assert "No study has been run twice" in page.locator(".qc-none").first.inner_text()
