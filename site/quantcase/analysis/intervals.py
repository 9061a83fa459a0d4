"""The interval of a percentile of independent values: for a single repeat, where nothing is known of the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["percentile_interval"]

LEVEL = 0.95


def percentile_interval(values: Sequence[float], p: float) -> tuple[float, float]:
    """Distribution-free interval of the p-th percentile (0..100) of independent values: two order statistics.

    The ranks l < u are chosen so that P(l <= K < u) >= 95 % for K ~ Binomial(n, p). An end that would lie outside the
    sample is nan: with n = 60, a p99 has no upper end. Hence the least numbers of requests that a percentile needs.
    """
    from scipy import stats  # here: it takes half a second to import, and few cases ask

    n = len(values)
    if n == 0:
        return math.nan, math.nan
    ordered = sorted(values)
    tail = (1 - LEVEL) / 2
    low = int(stats.binom.ppf(tail, n, p / 100))
    high = int(stats.binom.ppf(1 - tail, n, p / 100)) + 1
    return (ordered[low - 1] if low >= 1 else math.nan, ordered[high - 1] if high <= n else math.nan)
