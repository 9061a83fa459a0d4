"""Who is measured when, and when it is enough."""

from __future__ import annotations

import math
import random
import time

import msgspec
import pytest
from scipy import stats

from collector.budget import Budget, OutOfBudget
from collector.bundle.student import t_quantile, t_tail
from collector.design import imprecise, order, with_control
from collector.errors import UsageFault
from collector.prepare import designed, share
from collector.study import Price, dumps, loads
from tests.makers import cell_row, study


@pytest.mark.parametrize("df", [1, 1.5, 2, 3, 4.7, 10, 30, 300])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.9995])
def test_students_t_agrees_with_scipy(p: float, df: float) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9)
    assert t_tail(t_quantile(p, df), df) == pytest.approx(1 - p, rel=1e-9)


def test_each_round_has_every_variant_once_in_an_order_that_follows_from_the_seed() -> None:
    s = study()
    names = {v.name for v in s.variants}
    rounds = [order(s, n) for n in range(1, 30)]
    assert all(set(r) == names and len(r) == len(names) for r in rounds)
    assert rounds[0][0] == s.baseline
    assert rounds == [order(s, n) for n in range(1, 30)]
    assert len({tuple(r) for r in rounds}) > 5
    assert {r[0] for r in rounds} == names  # nobody is always first
    assert order(msgspec.structs.replace(s, seed=99), 2) != order(s, 2) or order(
        msgspec.structs.replace(s, seed=98), 2
    ) != order(s, 2)


def test_the_control_is_the_baseline_under_another_name() -> None:
    s = with_control(study())
    base, again = s.variant(s.baseline), s.variant(s.control)
    assert (again.model, again.args, again.method, again.kv_dtype) == (
        base.model, base.args, base.method, base.kv_dtype,
    )  # fmt: skip
    assert with_control(s) is s
    assert loads(dumps(s)) == s
    with pytest.raises(UsageFault, match="no variant beside the baseline"):
        loads(dumps(msgspec.structs.replace(study(), control="nobody")))


def cells(speeds: dict[str, list[list[float]]]) -> list:  # type: ignore[type-arg]
    """variant -> one list of throughputs a server start."""
    return [
        cell_row(variant=v, start=s, repeat=r, workload="chat", load="c1", throughput_tok_s=x)
        for v, starts in speeds.items()
        for s, values in enumerate(starts, 1)
        for r, x in enumerate(values, 1)
    ]


def test_what_is_not_known_well_enough_is_told_by_welchs_interval() -> None:
    rng = random.Random(3)
    a, b = ([rng.gauss(100, 2) for _ in range(4)] for _ in range(2))
    la, lb = ([math.log(x) for x in v] for v in (a, b))
    test = stats.ttest_ind(la, lb, equal_var=False)
    low, high = test.confidence_interval(0.95)
    half = math.expm1((high - low) / 2)
    s = study()
    (found,) = imprecise(s, cells({"bf16": [a], "fp8": [b]}), half * 0.99)
    assert found.half_width == pytest.approx(half, rel=1e-9)
    assert imprecise(s, cells({"bf16": [a], "fp8": [b]}), half * 1.01) == []


def test_with_two_starts_on_both_sides_the_starts_are_the_unit_and_one_repeat_tells_nothing() -> None:
    s = study()
    quiet = cells({"bf16": [[100, 100.1], [104, 104.1]], "fp8": [[130, 130.1], [135, 135.1]]})
    (found,) = imprecise(s, quiet, 0.03)
    assert found.half_width > 0.1  # as four repeats they would look precise to 4 %
    (alone,) = imprecise(s, cells({"bf16": [[100.0]], "fp8": [[130.0]]}), 0.03)
    assert alone.half_width == math.inf


def test_a_budget_ends_before_it_is_spent_and_says_which() -> None:
    price = Price(usd_per_hour=3600.0, source="a test", date="2026-11-21")  # a dollar a second
    budget = Budget(minutes=10, usd=5, price=price)
    budget.keep(1.0)
    with pytest.raises(OutOfBudget, match=r"money of \$5"):
        budget.keep(4.5)
    with pytest.raises(OutOfBudget, match=r"time of 0\.01 min"):
        Budget(minutes=0.01, usd=5, price=price).keep(1.0)
    time.sleep(0.02)
    assert 0 < (budget.usd or 0) < 5
    with pytest.raises(UsageFault, match="needs a price"):
        Budget(minutes=None, usd=5, price=None)


@pytest.mark.parametrize(("text", "value"), [("3%", 0.03), ("0.03", 0.03), ("2.5 %", 0.025)])
def test_shares(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["3", "x", "0", "100%", "-1%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageFault, match="is no share"):
        share(text)


def test_the_command_line_has_the_last_word_on_the_design() -> None:
    s = designed(study(), quick=True, repeats=None, starts=2, control=True)
    assert (s.repeats, s.starts, bool(s.control)) == (1, 2, True)
