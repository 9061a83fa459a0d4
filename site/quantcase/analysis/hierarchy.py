"""How sure a figure is when requests stand in repeats and repeats in server starts.

Requests of one repeat share a queue, and repeats of one server start share its memory layout, its captured graphs and
its clocks: they are not independent, and pooling them as if they were understates the error (Kalibera and Jones, ISMM
2013). So each level gives its own estimate of the variance of the logarithm of a figure, and the largest counts:

- **requests**: the variance of the pooled percentile when the requests of each repeat are drawn again from that repeat
  (bootstrap, 1,000 draws); none for throughput, which is one number a repeat;
- **repeats**: the variance of the repeats' own figures / their number, with n - 1 degrees of freedom;
- **starts**: the variance of the starts' means, pooled over all variants at the same load point (each has few starts,
  together they have enough) / the number of starts of this variant, with sum(S - 1) degrees of freedom.

The interval is exp(log figure +- t sqrt(variance)) with the degrees of freedom of the level that counted. Taking the
largest instead of the sum matters: the spread of repeats holds that of requests already, and the spread of starts holds
both. A plain hierarchical bootstrap (draw starts, then repeats, then requests) adds them up: with 3 to 5 repeats its
intervals covered 99 % where 95 % was said (tests/site/test_hierarchy.py keeps the comparison).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["LEVEL", "Estimate", "Runs", "bootstrap_variance", "estimates", "ratio", "span"]

LEVEL = 0.95
_DRAWS = 1000
_SHORT = 1 << 16
_MANY = 1e6  # degrees of freedom of what is known from many requests

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """One variant at one load point: the figure over everything, and that of each repeat by server start.

    `value` is what is shown (a pooled percentile, or the mean of the repeats). `requests` is the variance of log(value)
    that the requests alone explain; 0 where there is one number a repeat.
    """

    value: float
    by_start: Mapping[int, Sequence[float]]
    requests: float = 0.0

    @property
    def logs(self) -> list[list[float]]:
        """log of each repeat's figure, one list a start; figures that are not positive are left out."""
        return [logs for v in self.by_start.values() if (logs := [math.log(x) for x in v if x > 0])]


@dataclass(frozen=True)
class Estimate:
    """A figure with the variance of its logarithm and the degrees of freedom behind it; nan where it cannot be had."""

    value: float
    variance: float
    freedom: float
    level: str  # which level counted: requests, repeats, starts

    @property
    def known(self) -> bool:
        return not math.isnan(self.variance)


def estimates(arms: Mapping[str, Runs]) -> dict[str, Estimate]:
    """The estimate of each arm (variant) at one load point; taken together, for starts are pooled over arms."""
    pooled, freedom = _start_variance(arms)
    return {name: _estimate(runs, pooled, freedom) for name, runs in arms.items()}


def _estimate(runs: Runs, pooled: float, start_freedom: int) -> Estimate:
    logs = runs.logs
    flat = [x for start in logs for x in start]
    found: list[tuple[float, float, str]] = []
    if runs.requests > 0:
        found.append((runs.requests, _MANY, "requests"))
    if len(flat) >= 2:
        found.append((float(np.var(flat, ddof=1)) / len(flat), len(flat) - 1, "repeats"))
    if start_freedom >= 1 and logs:
        found.append((pooled / len(logs), start_freedom, "starts"))
    if len(flat) < 2:  # one repeat tells nothing of the spread of repeats, whatever its requests say
        return Estimate(runs.value, math.nan, math.nan, "none")
    variance, freedom, level = max(found)
    return Estimate(runs.value, variance, freedom, level)


def _start_variance(arms: Mapping[str, Runs]) -> tuple[float, int]:
    """(variance of a start's mean, degrees of freedom), pooled over the arms; (0, 0) where no arm has two starts."""
    total, freedom = 0.0, 0
    for runs in arms.values():
        means = [float(np.mean(start)) for start in runs.logs]
        if len(means) >= 2:
            total += float(np.var(means, ddof=1)) * (len(means) - 1)
            freedom += len(means) - 1
    return (total / freedom, freedom) if freedom else (0.0, 0)


def span(estimate: Estimate, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a figure; (nan, nan) when its variance is not known."""
    if not estimate.known or estimate.value <= 0:
        return math.nan, math.nan
    half = _half(estimate.variance, estimate.freedom, level)
    return estimate.value * math.exp(-half), estimate.value * math.exp(half)


def _half(variance: float, freedom: float, level: float) -> float:
    return _quantile((1 + level) / 2, freedom) * math.sqrt(variance)


@lru_cache(maxsize=4096)
def _quantile(p: float, freedom: float) -> float:
    """The quantile of Student's t, without the checks of `scipy.stats.t.ppf`, which take longer than the figure."""
    return float(special.stdtrit(freedom, p))


def ratio(ours: Estimate, theirs: Estimate, level: float = LEVEL) -> tuple[float, float, float, float]:
    """(ratio, low, high, p) of two figures; p is that of the ratio being 1, two-sided. nan where it cannot be had.

    The variances add up; degrees of freedom after Welch and Satterthwaite, except that two arms whose starts were
    pooled share one estimate and its degrees of freedom.
    """
    if ours.value <= 0 or theirs.value <= 0:
        return math.nan, math.nan, math.nan, math.nan
    at = math.log(ours.value / theirs.value)
    if not ours.known or not theirs.known:
        return math.exp(at), math.nan, math.nan, math.nan
    a, b = ours.variance, theirs.variance
    if a + b == 0:
        return math.exp(at), math.exp(at), math.exp(at), 1.0 if at == 0 else 0.0
    if ours.level == theirs.level == "starts":
        freedom = ours.freedom
    else:
        freedom = (a + b) ** 2 / (a**2 / ours.freedom + b**2 / theirs.freedom)
    half = _half(a + b, freedom, level)
    p = 2 * float(special.stdtr(freedom, -abs(at) / math.sqrt(a + b)))
    return math.exp(at), math.exp(at - half), math.exp(at + half), p


def bootstrap_variance(
    runs: Sequence[Sequence[float]], percentiles: Sequence[float], key: str, draws: int = _DRAWS
) -> list[float]:
    """Variance of the log of pooled percentiles when each run's requests are drawn again from that run.

    `key` seeds the draws: the same data give the same page. Linear interpolation, as everywhere.
    """
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    pooled: Array = np.concatenate([np.asarray(run, dtype=float) for run in runs]) if runs else np.empty(0)
    if not pooled.size:
        return [math.nan] * len(percentiles)
    # Places in the pooled order are drawn and sorted instead of the values: whole numbers sort several times as fast.
    order = np.argsort(pooled, kind="stable")
    values, places = pooled[order], np.empty(pooled.size, np.uint16 if pooled.size <= _SHORT else np.uint32)
    places[order] = np.arange(pooled.size)
    ordered = np.empty((draws, pooled.size), places.dtype)
    begin = 0
    for size in map(len, runs):
        if size:
            ordered[:, begin : begin + size] = places[begin : begin + size][rng.integers(0, size, size=(draws, size))]
        begin += size
    ordered.sort(axis=1)
    found = []
    for p in percentiles:
        rank = (ordered.shape[1] - 1) * p / 100
        low = math.floor(rank)
        high = min(low + 1, ordered.shape[1] - 1)
        below, above = values[ordered[:, low]], values[ordered[:, high]]
        at = below + (above - below) * (rank - low)
        found.append(float(np.var(np.log(np.maximum(at, 1e-12)), ddof=1)))
    return found
