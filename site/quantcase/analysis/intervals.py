"""Intervals: of a mean over runs, of a percentile of requests, of a ratio of two means of runs. All at 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

__all__ = ["mean_interval", "percentile_interval", "ratio_interval"]

LEVEL = 0.95


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of a mean; (nan, nan) for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt(_variance(values) / n)
    return _mean(values) - half, _mean(values) + half


def percentile_interval(values: Sequence[float], p: float) -> tuple[float, float]:
    """Distribution-free interval of the p-th percentile (0..100): two order statistics.

    The ranks l < u are chosen so that P(l <= K < u) >= 95 % for K ~ Binomial(n, p). An end that would lie outside the
    sample is nan: with n = 60, a p99 has no upper end. Requests of one run share a queue, so the true interval is
    rather wider than this one.
    """
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    ordered = sorted(values)
    tail = (1 - LEVEL) / 2
    low = int(stats.binom.ppf(tail, n, p / 100))
    high = int(stats.binom.ppf(1 - tail, n, p / 100)) + 1
    return (ordered[low - 1] if low >= 1 else math.nan, ordered[high - 1] if high <= n else math.nan)


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """(ratio, low, high) of the geometric means of two sets of runs, by Welch's t on the logarithms.

    (ratio, nan, nan) when a side has fewer than two runs; all nan when one has none or holds a value that is not
    positive.
    """
    if not ours or not theirs or min(*ours, *theirs) <= 0:
        return math.nan, math.nan, math.nan
    a, b = [math.log(v) for v in ours], [math.log(v) for v in theirs]
    difference = _mean(a) - _mean(b)
    if len(a) < 2 or len(b) < 2:
        return math.exp(difference), math.nan, math.nan
    va, vb = _variance(a) / len(a), _variance(b) / len(b)
    if va + vb == 0:
        return (math.exp(difference),) * 3
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(va + vb)
    return math.exp(difference), math.exp(difference - half), math.exp(difference + half)
