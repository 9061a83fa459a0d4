"""The page about another GPU: the analysis' own figures, each with its label, and refusals with their reasons."""

from __future__ import annotations

import re

import msgspec
import pytest

from collector import gpus
from collector.bundle.read import open_bundle
from quantcase.analysis.points import Point, points
from quantcase.analysis.projection import TPOT, projections
from quantcase.catalog import Case
from quantcase.pages import projection as page_of
from quantcase.pages.view import CaseView, Options
from quantcase.text import number
from tests.makers import make_bundle
from tests.real import RESULTS


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    bundle = open_bundle(make_bundle(tmp_path_factory.mktemp("results"), weights="real"))
    return Case(bundle, bundle.study(), [])


@pytest.fixture(scope="module")
def measured(case: Case) -> list[Point]:
    """The case's points, worked out once."""
    return points(case)


def render(case: Case, measured: list[Point], options: Options | None = None) -> str:
    view = CaseView(case, options or Options())
    vars(view)["points"] = measured  # what the view would work out again
    return page_of.page(view)


LABELLED = re.compile(r'<span class="qc-estimate">estimate [\d,.]+–[\d,.]+</span>')


def cells_of(page: str, name: str) -> tuple[list[str], list[list[str]]]:
    inner = page.split(f'id="table-{name}"')[1].split("</table>")[0]
    head = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", inner)
    body = inner.split("<tbody>")[1]
    return head, [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r) for r in re.findall(r"<tr>(.*?)</tr>", body)]


def test_the_cells_are_those_of_the_analysis_and_every_figure_there_says_estimate(
    case: Case, measured: list[Point]
) -> None:
    page, p = render(case, measured), projections(case, measured)[0]
    head, rows = cells_of(page, "estimate-h100")
    there = [i for i, name in enumerate(head) if name.endswith("there") or " there " in name]
    assert len(there) == 4
    assert len(rows) == 4 * 5
    for cells in rows:
        for i in there:
            assert LABELLED.fullmatch(cells[i]), cells
    found = p.find("fp8", "chat", "c8", TPOT)
    assert found is not None
    line = next(r for r in rows if r[0] == "chat, concurrency 8" and ">fp8<" in r[1])
    assert line[there[0]] == page_of.estimated(found.low, found.high)
    assert line[there[0] - 1].startswith(number(found.here.value))
    _, memory = cells_of(page, "estimate-h100-memory")
    assert all(LABELLED.fullmatch(r[2]) for r in memory)
    _, held = cells_of(page, "estimate-held-out")
    assert all(LABELLED.fullmatch(r[4]) for r in held)


def test_no_estimate_is_on_the_page_outside_its_label(case: Case, measured: list[Point]) -> None:
    """Every low and high of every estimate, taken out with its label, is gone from every table of another card."""
    page = render(case, measured)
    tables = re.findall(r'<div class="qc-table" id="table-estimate-([a-z0-9-]+)">(.*?)</div>', page)
    plain = {name: LABELLED.sub("", body) for name, body in tables}
    for p in projections(case, measured):
        for e in p.estimates:
            for value in (e.low, e.high):
                shown = number(value)
                if len(shown) > 4:  # shorter ones may also be a measured figure
                    assert f"–{shown}<" not in plain[p.target.name]
                    assert f"{shown}–" not in re.sub(r"<small>.*?</small>", "", plain[p.target.name])


def test_charts_draw_the_estimate_dashed_and_call_it_so(case: Case, measured: list[Point]) -> None:
    page = render(case, measured)
    drawn = re.findall(r"<figure.*?</figure>", page)
    assert drawn
    for figure in drawn:
        assert "stroke-dasharray" in figure
        assert "estimate: " in figure
        assert "measured: H200" in figure
        assert re.search(r'aria-label="[^"]*estimate [\d,.]+ to [\d,.]+ on', figure)
    assert len(re.findall(r'\bid="([^"]+)"', page)) == len(set(re.findall(r'\bid="([^"]+)"', page)))


def test_a_price_is_the_publishers_where_one_is_set_and_none_is_said(
    case: Case, measured: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = render(case, measured, Options(prices=(("h100", 2.5),)))
    _, cards = cells_of(page, "estimate-cards")
    mine = next(r for r in cards if r[0].startswith("H100"))
    assert mine[4] == "2.50"
    assert "mkdocs" in mine[5]
    bare = {n: msgspec.structs.replace(p, price_usd_per_hour=None) for n, p in gpus.load().items()}
    monkeypatch.setattr(gpus, "load", lambda: bare)
    page = render(case, measured)
    assert "no price" in cells_of(page, "estimate-h100")[1][0][8]


def test_a_refusal_stands_on_the_page_with_card_and_reason(case: Case, measured: list[Point]) -> None:
    _, rows = cells_of(render(case, measured), "estimate-refused")
    fp8 = next(r for r in rows if r[0] == "fp8" and "A100" in r[2])
    assert fp8[1] == "all"
    assert "FP8 is native on one card" in fp8[3].replace("&#45;", "-")


@pytest.mark.parametrize("name", ["2026-11-21-cpu-cpu", "2025-10-09-gh200-shimmy-moe"])
def test_a_case_that_carries_nothing_gets_a_sentence_and_no_figure(name: str) -> None:
    bundle = open_bundle(RESULTS / name)
    page = page_of.page(CaseView(Case(bundle, bundle.study(), []), Options()))
    assert "Nothing is estimated from this case" in page
    assert "qc-estimate" not in page
    assert "<table" not in page
    assert "<figure" not in page


def test_hostile_names_stay_text(case: Case, measured: list[Point], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case.bundle.manifest, "title", "<script>alert(1)</script> {{ 7 }}")
    page = render(case, measured)
    assert "<script" not in page
    assert "{{" not in page
