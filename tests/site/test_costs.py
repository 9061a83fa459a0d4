"""The costs page: the formulas, mixes, budgets, when a saving is stated, and what stands in the page."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path

import pytest

from collector.bundle.read import open_bundle
from quantcase.analysis.cost import (
    Part,
    bill_per_month,
    mix_cost,
    mix_saving,
    outside,
    requests_per_day,
    saving,
    usd_per_million,
)
from quantcase.analysis.cost_table import Arm, Budget, CostCase, Inputs, Lane, Pair, mix, rows
from quantcase.catalog import load
from quantcase.pages import costs
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle
from tests.real import RESULTS

ROOT = Path(__file__).parents[2]


def arm(speed: float, e2e: float | None = None) -> Arm:
    """A variant at a load point; throughput +- 10 %."""
    tail = None if e2e is None else (e2e, 0.9 * e2e, 1.1 * e2e)
    return Arm((speed, 0.9 * speed, 1.1 * speed), None, tail)


def lane(name: str, tokens: int, pair: Pair) -> Lane:
    """Two load points: base 100 and 200 tok/s, fast 200 and 400; the heavier is slower to answer."""
    arms: dict[str, list[Arm | None]] = {
        "base": [arm(100, 500), arm(200, 1500)],
        "fast": [arm(200, None), arm(400, 900)],
    }
    return Lane(name, tokens, ["concurrency 1", "concurrency 8"], 1, arms, {"fast": [[pair] * 2] * 2})


HALF = Pair((0.5, 0.4, 0.6), True, "")
UNSURE = Pair((0.5, -0.1, 0.7), False, "no saving shown (inconclusive)")


def case(*lanes: Lane, price: float | None = 3.6) -> CostCase:
    return CostCase("a-case", "measured", price, "base", ["base", "fast"], 0.03, list(lanes))


def test_the_hour_is_spread_over_what_was_put_out_and_half_the_use_costs_twice() -> None:
    assert usd_per_million(3.6, 1000) == pytest.approx(1.0)
    assert usd_per_million(3.6, 1000, use=0.5) == pytest.approx(2.0)
    assert saving((2.0, 1.6, 2.5)) == pytest.approx((0.5, 0.375, 0.6))
    assert bill_per_month(3.6, 2) == pytest.approx(3.6 * 2 * 730)


def test_a_mix_costs_what_its_requests_cost_over_the_tokens_they_put_out() -> None:
    # Three requests of 100 tokens at 1,000 tok/s to one of 500 at 2,000: 0.3 s + 0.25 s of the card for 800 tokens.
    parts = [Part(0.75, 100, (1000, 900, 1100)), Part(0.25, 500, (2000, 1800, 2200))]
    seconds, tokens = 0.75 * 0.1 + 0.25 * 0.25, 0.75 * 100 + 0.25 * 500
    value, low, high = mix_cost(parts, 3.6)
    assert value == pytest.approx(3.6 / 3600 * seconds / tokens * 1e6)
    assert (low, high) == pytest.approx((value / 1.1, value / 0.9))
    assert requests_per_day(parts, 2, 0.5)[0] == pytest.approx(86_400 / seconds)


def test_a_cost_times_the_requests_of_a_month_is_the_bill_of_a_month() -> None:
    """The two ways to the same sum: per request, and by the hour."""
    row = next(r for r in mix(case(lane("chat", 128, HALF)), Inputs(use=0.4, gpus=3)) if r.variant == "fast")
    assert row.per_1k_requests is not None
    assert row.requests_per_day is not None
    requests = row.requests_per_day[0] * 730 / 24
    assert row.per_1k_requests[0] / 1000 * requests == pytest.approx(row.bill_per_month)


def test_the_saving_of_a_mix_is_that_of_its_costs_and_of_one_workload_its_own() -> None:
    base = [Part(0.5, 100, (1000, 900, 1100)), Part(0.5, 300, (500, 450, 550))]
    ours = [Part(0.5, 100, (1500, 900, 1100)), Part(0.5, 300, (600, 450, 550))]
    found = mix_saving(base, [saving((1.5, 1.4, 1.6)), saving((1.2, 1.1, 1.3))])
    assert found[0] == pytest.approx(1 - mix_cost(ours, 1)[0] / mix_cost(base, 1)[0])
    assert found[1] < found[0] < found[2]
    assert mix_saving(base[:1], [(0.3, 0.2, 0.4)]) == pytest.approx((0.3, 0.2, 0.4))


def test_a_saving_is_outside_the_noise_only_when_its_whole_interval_is() -> None:
    assert outside((0.10, 0.03, 0.20), 0.03)  # a ratio of at least 1.0309
    assert not outside((0.10, 0.029, 0.20), 0.03)  # of at least 1.0299
    assert outside((-0.10, -0.20, -0.031), 0.03)
    assert not outside((-0.10, -0.20, -0.03), 0.03)
    assert not outside((0.0, math.nan, math.nan), 0.03)


def test_without_a_budget_the_usual_load_counts_and_with_one_the_heaviest_that_meets_it() -> None:
    c = case(lane("chat", 128, HALF))
    assert [r.load for r in rows(c, Inputs())] == ["concurrency 8"] * 2
    met = rows(c, Inputs(budget=Budget("e2e", 1000)))
    assert [(r.variant, r.load) for r in met] == [("base", "concurrency 1"), ("fast", "concurrency 8")]
    assert met[0].per_1m_tokens is not None
    assert met[0].per_1m_tokens[0] == pytest.approx(10.0)  # 3.6 $ / 360,000 tokens
    unmet = rows(c, Inputs(budget=Budget("e2e", 600)))
    # fast has no p95 at concurrency 1, so nobody knows whether it would meet the budget there.
    assert [r.missing for r in unmet] == ["", "no load point with a p95 within the budget"]
    none = rows(c, Inputs(budget=Budget("e2e", 1)))
    assert all(r.missing and r.per_1m_tokens is None for r in none)
    assert rows(c, Inputs(budget=Budget("e2e", 500)))[0].missing == ""  # exactly the budget is within it


def test_a_budget_that_the_baseline_meets_nowhere_leaves_no_saving() -> None:
    slow = lane("chat", 128, HALF)
    slow.arms["base"] = [arm(100, 5000), arm(200, 9000)]
    base, fast = rows(case(slow), Inputs(budget=Budget("e2e", 1000)))
    assert base.missing
    assert fast.per_1m_tokens is not None
    assert (fast.saving, fast.words) == (None, "no saving shown (the baseline has no load point to compare with)")


def test_price_use_and_currency_scale_figures_and_intervals_alike() -> None:
    c = case(lane("chat", 128, HALF))
    plain, other = rows(c, Inputs()), rows(c, Inputs(prices={"a-case": 7.2}, use=0.5, rate=0.9))
    for a, b in zip(plain, other, strict=True):
        assert a.per_1m_tokens is not None
        assert b.per_1m_tokens == pytest.approx(tuple(3.6 * x for x in a.per_1m_tokens))
        assert b.saving == a.saving
    assert rows(case(lane("chat", 128, HALF), price=None), Inputs()) == []
    assert len(rows(case(lane("chat", 128, HALF), price=None), Inputs(prices={"a-case": 1}))) == 2


def test_a_part_that_is_not_decided_lends_the_mix_no_claim() -> None:
    both = case(lane("chat", 128, HALF), lane("batch", 128, UNSURE))
    fast = mix(both, Inputs())[1]
    # Equal shares of equal cost: half of (0.4 to 0.6) and half of (-0.1 to 0.7).
    assert fast.saving == pytest.approx((0.5, 0.15, 0.65))
    alone = mix(both, Inputs(weights={"chat": 0, "batch": 3}))[1]
    assert (alone.saving, alone.words) == (None, "no saving shown (inconclusive)")
    assert mix(both, Inputs(weights={"chat": 5, "batch": 0}))[1].saving == pytest.approx((0.5, 0.4, 0.6))
    assert mix(both, Inputs(weights={"chat": 0, "batch": 0})) == []


def view(folder: Path, options: Options | None = None) -> CaseView:
    found = next(c for c in load(folder.parent).cases if c.id == folder.name)
    return CaseView(found, options or Options())


def cells(page: str, name: str) -> list[list[str]]:
    body = page.split(f'id="table-{name}"')[1].split("<tbody>")[1].split("</tbody>")[0]
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", c)).strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in body.split("<tr>")[1:]
    ]


def test_the_page_holds_the_real_bundle_s_costs_worked_out_from_its_rows() -> None:
    folder = RESULTS / "2026-11-21-h200-h200-shape"
    page = costs.page([view(folder)])
    speeds = [
        c.throughput_tok_s
        for c in open_bundle(folder).cells()
        if (c.variant, c.workload, c.load) == ("fp8", "batch", "c32") and c.throughput_tok_s is not None
    ]
    mean = sum(speeds) / len(speeds)
    row = next(r for r in cells(page, "costs") if r[1:3] == ["batch, concurrency 32", "fp8"])
    assert row[3].split()[0] == f"{1e6 * 6.35 / 3600 / mean:.3f}"
    assert row[5] == f"{1e6 * 6.35 / 3600 / mean * 256 / 1000:.3f}"
    awq = next(r for r in cells(page, "costs") if r[1:3] == ["chat, concurrency 16", "awq"])
    assert awq[4] == "no saving shown (inconclusive, about 1 more repeat)"
    assert len(cells(page, "mix")) == 6
    assert [r[7] for r in cells(page, "mix")] == [f"{6.35 * 730:,.0f}"] * 6


def test_a_replayed_bundle_states_no_saving(tmp_path: Path) -> None:
    made = cells(costs.page([view(make_bundle(tmp_path, grade="simulated"))]), "costs")
    assert {r[4] for r in made} == {"baseline", "no saving shown (the evidence carries no verdict)"}
    real = cells(costs.page([view(make_bundle(tmp_path / "real", grade="measured"))]), "costs")
    assert any("%" in r[4] for r in real)


def test_data_in_the_page_cannot_leave_its_element_and_comes_back_whole() -> None:
    hostile = {"cases": ["</script><img onerror=x>", "{{ config }}", "a&b\n `*_<!--", "é\U0001f600", '\\"']}
    made = costs.embedded("data", hostile)
    inside = re.fullmatch(r'<script type="application/json" id="data">(.*)</script>', made)
    assert inside is not None
    assert json.loads(inside[1]) == hostile
    assert not re.search(r"[<>&`*!\n]|\{\{|\{%", inside[1])


def test_no_case_and_no_price_are_sentences() -> None:
    assert "There is no case yet" in costs.page([])
    assert "costs-calculator" not in costs.page([])
