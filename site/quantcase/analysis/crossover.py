"""The load at which a variant stops (or starts) being faster than the baseline, with its interval.

Weight-only formats read fewer bytes per token, which pays while the memory is the limit; at high load the arithmetic
is, and their unpacking costs. So the ratio of throughputs falls with concurrency, and somewhere may cross 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from quantcase.analysis.compare import Comparison
from quantcase.analysis.points import THROUGHPUT

__all__ = ["Crossover", "crossing", "crossover", "crossovers"]


@dataclass(frozen=True)
class Crossover:
    """Where the ratio crosses 1. `low` and `high` bound it; nan where the bound lies outside what was measured."""

    variant: str
    workload: str
    at: float
    low: float
    high: float
    stops: bool  # True: faster below, slower above; False: the other way round


def crossing(points: Sequence[tuple[float, float]]) -> tuple[float, bool] | None:
    """(load, falling) where a line through (load, ratio) crosses 1 for the last time; None when it does not.

    Between two measured loads the logarithm of the ratio is taken as linear in the logarithm of the load.
    """
    found = None
    known = [(x, math.log(r)) for x, r in points if x > 0 and r > 0]
    for (x0, y0), (x1, y1) in pairwise(known):
        if y0 == y1 or (y0 > 0) == (y1 > 0):
            continue
        share = y0 / (y0 - y1)
        found = (math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0))), y0 > y1)
    return found


def crossover(variant: str, workload: str, rows: Sequence[tuple[float, float, float, float]]) -> Crossover | None:
    """The crossover of (load, ratio, low, high) rows in order of load; None when the ratio does not cross 1.

    Its interval are the loads at which the lower and the upper end of the ratio's own interval cross 1.
    """
    middle = crossing([(x, r) for x, r, _, _ in rows])
    if middle is None:
        return None
    at, stops = middle
    ends = []
    for i in (2, 3):
        if any(math.isnan(row[i]) for row in rows):
            ends.append(math.nan)
            continue
        end = crossing([(row[0], row[i]) for row in rows])
        ends.append(end[0] if end is not None and end[1] == stops else math.nan)
    low, high = ends if stops else ends[::-1]  # a falling ratio: its lower end crosses first
    return Crossover(variant, workload, at, low, high, stops)


def crossovers(comparisons: Sequence[Comparison], workload: str) -> list[Crossover]:
    """The crossovers of all variants in one workload."""
    mine = [c for c in comparisons if c.workload == workload and c.metric == THROUGHPUT]
    found = []
    for variant in dict.fromkeys(c.variant for c in mine):
        rows = sorted((c.amount, c.ratio, c.low, c.high) for c in mine if c.variant == variant and c.load != "trace")
        if (one := crossover(variant, workload, rows)) is not None:
            found.append(one)
    return found
