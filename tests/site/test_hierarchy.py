"""Intervals cover what they say, by simulation; a thing is no different from itself; a real difference is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quantcase.analysis.compare import ROPE, judge
from quantcase.analysis.hierarchy import Runs, bootstrap_variance, estimates, ratio, span
from quantcase.analysis.points import THROUGHPUT

DRAWS = 1000
Z95 = 1.6448536269514722


def arm(rng: np.random.Generator, starts: int, repeats: int, start_cv: float, run_cv: float, at: float = 100.0) -> Runs:
    """A variant whose true figure is `at`, with effects of start and repeat on the logarithm."""
    by_start = {
        s: list(at * np.exp(rng.normal(0, start_cv) + rng.normal(0, run_cv, repeats))) for s in range(1, starts + 1)
    }
    return Runs(float(np.mean([x for v in by_start.values() for x in v])), by_start)


def test_the_interval_of_three_runs_is_students() -> None:
    low, high = span(estimates({"a": Runs(100.0, {1: [98.0, 100.0, 102.0]})})["a"])
    spread = np.std(np.log([98, 100, 102]), ddof=1)
    assert math.log(high / low) / 2 == pytest.approx(4.302653 * spread / math.sqrt(3), rel=1e-6)  # 2.48 s


def test_one_run_has_no_interval() -> None:
    alone = estimates({"a": Runs(100.0, {1: [100.0]}, requests=1e-4)})["a"]
    assert all(map(math.isnan, span(alone)))
    assert judge(THROUGHPUT, *ratio(alone, alone)[:3]) == "inconclusive"


@pytest.mark.parametrize(
    ("starts", "repeats", "start_cv"),
    [(1, 3, 0.0), (1, 5, 0.0), (2, 3, 0.01), (2, 3, 0.02), (3, 2, 0.01), (3, 3, 0.02)],
)
def test_throughput_and_ratio_intervals_cover_the_truth_93_to_97_times_in_a_hundred(
    starts: int, repeats: int, start_cv: float
) -> None:
    """Four variants, a run-to-run spread of 1 %, and starts that differ by as much or twice that."""
    rng = np.random.default_rng(starts * 10 + repeats)
    covered = ratios = 0
    for _ in range(DRAWS):
        found = estimates({name: arm(rng, starts, repeats, start_cv, 0.01) for name in "abcd"})
        low, high = span(found["a"])
        covered += low <= 100 <= high
        _, low, high, _ = ratio(found["b"], found["a"])
        ratios += low <= 1 <= high
    assert 0.93 <= covered / DRAWS <= 0.97
    assert 0.93 <= ratios / DRAWS <= 0.97


def test_pooling_repeats_over_starts_that_differ_would_be_far_too_sure() -> None:
    """Why starts are a level of their own: taken as six repeats, two starts of three cover far less than 95 %."""
    rng = np.random.default_rng(5)
    naive = 0
    for _ in range(DRAWS):
        one = arm(rng, 2, 3, 0.02, 0.01)
        flat = Runs(one.value, {1: [x for v in one.by_start.values() for x in v]})
        low, high = span(estimates({"a": flat})["a"])
        naive += low <= 100 <= high
    assert naive / DRAWS < 0.85


@pytest.mark.parametrize(("p", "run_cv"), [(50, 0.0), (50, 0.02), (95, 0.0), (95, 0.02)])
def test_percentile_intervals_cover_the_truth_93_to_97_times_in_a_hundred(p: float, run_cv: float) -> None:
    """Five repeats of 40 requests whose latency spreads by 25 %, with and without a difference between repeats."""
    rng = np.random.default_rng(int(p) + int(1000 * run_cv))
    spread = 0.25
    truth = math.exp({50: 0.0, 95: Z95}[int(p)] * math.hypot(spread, run_cv))
    covered = 0
    for draw in range(DRAWS):
        runs = [np.exp(rng.normal(0, run_cv) + rng.normal(0, spread, 40)) for _ in range(5)]
        noise = bootstrap_variance([list(r) for r in runs], [p], str(draw), draws=200)[0]
        by_start = {1: [float(np.percentile(r, p)) for r in runs]}
        low, high = span(estimates({"a": Runs(float(np.percentile(np.concatenate(runs), p)), by_start, noise)})["a"])
        covered += low <= truth <= high
    assert 0.93 <= covered / DRAWS <= 0.97


def test_a_plain_hierarchical_bootstrap_counts_the_noise_of_requests_twice() -> None:
    """The comparison that decided against it: repeats drawn again, then requests within them, 95 % by its own word."""
    rng = np.random.default_rng(3)
    widths = []
    for draw in range(60):
        runs = [np.exp(rng.normal(0, 0.25, 40)) for _ in range(5)]
        drawn = []
        for _ in range(400):
            picked = [runs[i] for i in rng.integers(0, 5, 5)]
            drawn.append(np.log(np.median(np.concatenate([r[rng.integers(0, 40, 40)] for r in picked]))))
        ours = bootstrap_variance([list(r) for r in runs], [50], str(draw), draws=400)[0]
        widths.append(np.var(drawn, ddof=1) / ours)
    assert np.median(widths) > 1.5


def test_the_draws_follow_from_the_data_so_that_a_page_is_the_same_twice() -> None:
    runs = [[1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 9.0]]
    assert bootstrap_variance(runs, [50, 95], "k") == bootstrap_variance(runs, [50, 95], "k")
    assert bootstrap_variance(runs, [50], "k") != bootstrap_variance(runs, [50], "other")


@pytest.mark.parametrize(("starts", "repeats"), [(1, 3), (2, 3)])
def test_a_variant_is_hardly_ever_called_different_from_itself(starts: int, repeats: int) -> None:
    rng = np.random.default_rng(11)
    called = 0
    for _ in range(DRAWS):
        found = estimates({name: arm(rng, starts, repeats, 0.01, 0.03) for name in "ab"})
        called += judge(THROUGHPUT, *ratio(found["b"], found["a"])[:3]) in ("faster", "slower")
    assert called / DRAWS <= 0.05


def test_a_planted_slowdown_of_5_percent_is_found() -> None:
    """Run-to-run spread 0.7 %, five repeats: 5 % lies beyond the region of 3 %, and is called so nearly every time."""
    rng = np.random.default_rng(13)
    found = 0
    for _ in range(500):
        arms = estimates({"a": arm(rng, 1, 5, 0, 0.007), "b": arm(rng, 1, 5, 0, 0.007, at=95.0)})
        found += judge(THROUGHPUT, *ratio(arms["b"], arms["a"])[:3]) == "slower"
    assert found / 500 > 0.9


@pytest.mark.parametrize(
    ("metric", "interval", "kind"),
    [
        (THROUGHPUT, (1.20, 1.10, 1.30), "faster"),
        ("ttft_ms_p50", (1.20, 1.10, 1.30), "slower"),
        (THROUGHPUT, (1.00, 0.99, 1.01), "equivalent"),
        (THROUGHPUT, (1.02, 1.01, 1.025), "negligible"),
        (THROUGHPUT, (1.05, 0.99, 1.11), "inconclusive"),
        (THROUGHPUT, (1.05, math.nan, math.nan), "inconclusive"),
        ("e2e_ms_p95", (0.80, 0.75, 0.85), "faster"),
        ("e2e_ms_p95", (0.95, 0.92, 0.98), "negligible"),
    ],
)
def test_the_interval_decides_the_class(metric: str, interval: tuple[float, float, float], kind: str) -> None:
    assert judge(metric, *interval) == kind


def test_regions_are_as_the_methodology_says() -> None:
    assert (ROPE[THROUGHPUT], ROPE["tpot_ms_p50"], ROPE["e2e_ms_p95"]) == (0.03, 0.05, 0.10)
