"""The interval of a percentile of independent values."""

from __future__ import annotations

import math
import random

import pytest

from quantcase.analysis.intervals import percentile_interval
from quantcase.analysis.points import LEAST


@pytest.mark.parametrize(("p", "least"), [(95, 72), (99, 368)])
def test_a_percentile_has_an_upper_end_only_with_enough_requests(p: float, least: int) -> None:
    assert math.isnan(percentile_interval([float(i) for i in range(least - 1)], p)[1])
    assert not math.isnan(percentile_interval([float(i) for i in range(least + 1)], p)[1])
    assert LEAST[p] > least


def test_the_percentile_interval_covers_the_true_percentile() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(1500):
        low, high = percentile_interval([rng.expovariate(1) for _ in range(150)], 95)
        hits += low <= -math.log(0.05) <= high
    assert hits / 1500 > 0.94
