"""Intervals cover what they say, by simulation, and agree with the textbook on small cases."""

from __future__ import annotations

import math
import random

import pytest

from quantcase.analysis.compare import ROPE, judge
from quantcase.analysis.intervals import mean_interval, percentile_interval, ratio_interval


def test_the_t_interval_of_three_runs() -> None:
    low, high = mean_interval([98.0, 100.0, 102.0])
    assert (high - low) / 2 == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-5)  # 2.48 s
    assert all(map(math.isnan, mean_interval([1.0])))


def test_the_t_interval_covers_the_mean_about_95_times_in_a_hundred() -> None:
    rng = random.Random(5)
    hits = 0
    for _ in range(2000):
        low, high = mean_interval([rng.gauss(50, 3) for _ in range(5)])
        hits += low <= 50 <= high
    assert 0.935 < hits / 2000 < 0.965


@pytest.mark.parametrize(("p", "least"), [(95, 72), (99, 368)])
def test_a_percentile_has_an_upper_end_only_with_enough_requests(p: float, least: int) -> None:
    assert math.isnan(percentile_interval([float(i) for i in range(least - 1)], p)[1])
    assert not math.isnan(percentile_interval([float(i) for i in range(least + 1)], p)[1])


def test_the_percentile_interval_covers_the_true_percentile() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(1500):
        low, high = percentile_interval([rng.expovariate(1) for _ in range(150)], 95)
        hits += low <= -math.log(0.05) <= high
    assert hits / 1500 > 0.94


def test_the_ratio_of_a_thing_to_itself_is_hardly_ever_called_a_difference() -> None:
    """A/A: with a run-to-run spread of 3 % and 3 repeats, at most about one in twenty may be called one."""
    rng = random.Random(11)
    called = 0
    for _ in range(2000):
        a, b = ([rng.gauss(100, 3) for _ in range(3)] for _ in range(2))
        called += judge("throughput_tok_s", *ratio_interval(a, b)) in ("better", "worse")
    assert called / 2000 < 0.05


def test_a_real_difference_is_found() -> None:
    rng = random.Random(13)
    found = 0
    for _ in range(500):
        a = [rng.gauss(130, 2) for _ in range(3)]
        b = [rng.gauss(100, 2) for _ in range(3)]
        found += judge("throughput_tok_s", *ratio_interval(a, b)) == "better"
    assert found / 500 > 0.95


@pytest.mark.parametrize(
    ("metric", "interval", "kind"),
    [
        ("throughput_tok_s", (1.20, 1.10, 1.30), "better"),
        ("ttft_ms_p50", (1.20, 1.10, 1.30), "worse"),
        ("throughput_tok_s", (1.00, 0.98, 1.02), "equivalent"),
        ("throughput_tok_s", (1.015, 1.005, 1.025), "negligible"),
        ("throughput_tok_s", (1.04, 1.01, 1.07), "inconclusive"),
        ("throughput_tok_s", (1.30, math.nan, math.nan), "inconclusive"),
        ("e2e_ms_p95", (0.80, 0.75, 0.85), "better"),
    ],
)
def test_the_interval_decides_not_the_point(metric: str, interval: tuple[float, float, float], kind: str) -> None:
    assert judge(metric, *interval) == kind


def test_every_region_is_the_documented_one() -> None:
    assert ROPE["throughput_tok_s"] == 0.03
    assert {v for k, v in ROPE.items() if k.endswith("p50")} == {0.05}
    assert {v for k, v in ROPE.items() if k.endswith(("p95", "p99"))} == {0.10}
