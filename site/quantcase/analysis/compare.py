"""A variant against the baseline at one load point: how much, how sure, and whether it is a difference at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from quantcase.analysis.intervals import ratio_interval
from quantcase.catalog import Case

__all__ = ["ROPE", "Comparison", "Kind", "comparisons", "judge"]

Kind = Literal["better", "worse", "equivalent", "negligible", "inconclusive"]

# Region of practical equivalence: a ratio within 1 +- this is no difference that anybody would act on.
ROPE: dict[str, float] = {
    "throughput_tok_s": 0.03,
    "ttft_ms_p50": 0.05,
    "tpot_ms_p50": 0.05,
    "e2e_ms_p50": 0.05,
    "ttft_ms_p95": 0.10,
    "e2e_ms_p95": 0.10,
    "e2e_ms_p99": 0.10,
}
HIGHER_IS_BETTER = {"throughput_tok_s"}


@dataclass(frozen=True)
class Comparison:
    """Variant / baseline for one metric at one load point. `low` and `high` bound the ratio (95 %), nan if unknown."""

    variant: str
    workload: str
    load: str
    amount: float  # of the load, as in Point
    metric: str
    ratio: float
    low: float
    high: float
    runs: tuple[int, int]
    kind: Kind


def judge(metric: str, ratio: float, low: float, high: float) -> Kind:
    """The class of a ratio: the interval decides, not the point.

    Wholly inside the region of equivalence: `equivalent`, or `negligible` when it excludes 1. Wholly outside on one
    side: `better` or `worse`. All else, an unknown interval included: `inconclusive`.
    """
    if math.isnan(low) or math.isnan(high) or math.isnan(ratio):
        return "inconclusive"
    bound = math.log1p(ROPE[metric])
    a, b = math.log(low), math.log(high)
    if -bound <= a and b <= bound:
        return "equivalent" if a <= 0 <= b else "negligible"
    if a > bound or b < -bound:
        return "better" if (a > 0) == (metric in HIGHER_IS_BETTER) else "worse"
    return "inconclusive"


def comparisons(case: Case) -> list[Comparison]:
    """Every measured variant against the baseline, at every load point, for every metric that has a region."""
    found = []
    for variant in case.measured_variants():
        if variant == case.baseline:
            continue
        for workload, at in case.points_of_load():
            load = at.name
            for metric in ROPE:
                ours = _runs(case.cells, variant, workload.name, load, metric)
                theirs = _runs(case.cells, case.baseline, workload.name, load, metric)
                if not ours or not theirs:
                    continue
                ratio, low, high = ratio_interval(ours, theirs)
                runs = (len(ours), len(theirs))
                kind = judge(metric, ratio, low, high)
                found.append(Comparison(variant, workload.name, load, at.amount, metric, ratio, low, high, runs, kind))
    return found


def _runs(cells: pd.DataFrame, variant: str, workload: str, load: str, metric: str) -> list[float]:
    """The metric of each repeat, over all server starts."""
    mine = cells[(cells["variant"] == variant) & (cells["workload"] == workload) & (cells["load"] == load)]
    return [float(v) for v in mine[metric].dropna()]
