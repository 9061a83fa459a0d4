"""One rule says what is lightest and what has most room, and every page says the same."""

from __future__ import annotations

import html
import math
import re

import pytest

from collector.bundle.schema import VariantRow
from quantcase.analysis.memory import Memory, lighter, lightest, memory, roomier, roomiest, stated
from quantcase.analysis.offer_evidence import Seen
from quantcase.analysis.offer_evidence import lightest as lightest_of_all
from quantcase.catalog import Catalog, load
from quantcase.pages import case as case_page
from quantcase.pages import home, learned, log, log_findings, same_bits
from quantcase.pages.findings import headline, vram_finding
from quantcase.pages.view import CaseView, Options
from tests.real import RESULTS

SHAPE, SMALL = "2026-11-21-h200-h200-shape", "2026-11-21-h200-small-model"


def seen(
    name: str, weights: float = math.nan, tokens: float = math.nan, *, control: bool = False, spread: float = 0.0
) -> Memory:
    row = VariantRow(
        variant=name, start=1, exit_state="ok", engine="vllm", model=name, method="fp8", kv_dtype="auto", argv="[]"
    )
    return Memory(row, False, weights, tokens, kv_spread=spread, control=control)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(RESULTS)


def view_of(catalog: Catalog, name: str) -> CaseView:
    return CaseView(next(c for c in catalog.cases if c.id == name), Options())


def plain(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


def test_a_change_of_less_than_two_percent_is_none() -> None:
    assert lightest([seen("bf16", 1.0), seen("a", 0.981)]) is None
    assert roomiest([seen("bf16", tokens=1.0), seen("a", tokens=1.019)]) is None
    assert lightest([]) is None
    found = lightest([seen("a", 0.979)])
    assert found is not None
    assert (found.memory.row.variant, found.ratio, found.tied) == ("a", 0.979, ())


def test_what_two_starts_of_one_configuration_differ_by_is_no_gain() -> None:
    assert not roomier(seen("a", tokens=1.04, spread=0.05))
    assert roomier(seen("a", tokens=1.06, spread=0.05))


def test_those_less_than_two_percent_from_the_best_are_as_good() -> None:
    found = roomiest([seen("a", tokens=1.100), seen("b", tokens=1.110), seen("c", tokens=1.087)])
    assert found is not None
    assert (found.memory.row.variant, found.tied) == ("b", ("a",))  # 1.110 / 1.087 is 1.021


def test_neither_the_control_nor_what_is_left_out_is_named() -> None:
    rows = [seen("again", 0.5, control=True), seen("int2", 0.2), seen("fp8", 0.5), seen("unknown")]
    found = lightest(rows, {"int2"})
    assert found is not None
    assert found.memory.row.variant == "fp8"
    assert not lighter(rows[0])
    assert lightest(rows, {"int2", "fp8"}) is None


def test_the_starts_of_the_real_bundles_are_as_far_apart_as_the_rule_says(catalog: Catalog) -> None:
    view = view_of(catalog, SHAPE)
    assert view.memory[0].kv_spread == pytest.approx(952864 / 949584 - 1)  # the two starts of fp8: 0.35 %
    assert 5 * view.memory[0].kv_spread < 0.02


def test_each_page_names_the_same_variant_with_the_same_figure(catalog: Catalog) -> None:
    for view in (CaseView(case, Options()) for case in catalog.cases if case.bundle.info.grade == "measured"):
        least = view.lightest
        assert least is not None
        name, change = least.memory.row.variant, f"{100 * (1 - least.ratio):.1f} %"
        gib = view.memory[0].row.weights_gib
        assert gib is not None
        assert least.memory.row.weights_gib == pytest.approx(gib * least.ratio)
        card = plain(str(home._card(view, "")["facts"]))
        assert f"'lightest weights', '{name}" in card
        shown = plain(case_page._answer(view))
        assert f"weights −{change} with {name}" in shown
        assert f"The lightest weights are those of {name}" in plain(vram_finding(view))
        if not view.answer.withheld:
            assert f"The weights of {name} take" in plain(" ".join(learned._memory(view)))
        assert f"The lightest weights: {name}" in plain(log_findings._savings(view, []))
        if "For memory" in headline(view):
            assert f"For memory: {change} less for the weights with {name}" in plain(headline(view))


def test_a_variant_that_loses_quality_saves_nothing(catalog: Catalog) -> None:
    view = view_of(catalog, SMALL)
    assert min(view.memory, key=lambda m: m.weights_ratio).row.variant == "2bit-channel"
    assert view.lightest is not None
    assert view.lightest.memory.row.variant == "w4a16-g128"
    assert "What 2bit-channel would save is not counted: its answers lose quality." in plain(vram_finding(view))
    assert "2bit-channel: weights" not in plain(log._worked(view))


def test_weights_too_small_for_the_engines_word_are_the_same_on_every_page(catalog: Catalog) -> None:
    view = view_of(catalog, SMALL)
    row = stated(view.case, "fp8")
    assert row is not None
    assert row.weights_gib == pytest.approx(30962712 / 2**30)  # the log says 0.06
    observed = plain(log._observations(view, "fp8"))
    assert "weights 0.0288 GiB, the size of its files" in observed
    assert "−44.7 %, memory saved 0.0233 GiB" in observed
    assert "Weights: 0.0288 and 0.0288 GiB" in plain(same_bits.section(view, {}))  # fp8 against w8a8-int8
    matrix = plain(home.cases_page([view]))
    assert re.search(r"fp8 chat, concurrency 16 1,841 .* 0\.0288 measured", matrix)
    assert "0.0600" not in matrix


def test_the_lightest_of_all_cases_is_one_that_its_case_names(catalog: Catalog) -> None:
    views = [view_of(catalog, SHAPE), view_of(catalog, SMALL)]
    found = lightest_of_all([Seen(v.case, v.verdicts, v.quality_verdicts, v.memory) for v in views])
    assert found is not None
    case, leader = found
    assert (case.id, leader.memory.row.variant) == (SMALL, "w4a16-g128")  # −66.7 % against gptq's −64.1 %
    assert memory(case)[0].row.variant == case.baseline
