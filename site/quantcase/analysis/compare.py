"""A variant against the baseline at one load point: how much, how sure, and whether it is a difference at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quantcase.analysis.co_location import together
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.points import LEAST, METRICS, THROUGHPUT, Key, cell_estimates
from quantcase.analysis.servers import gpu_counts, mixed, per_gpu
from quantcase.catalog import Case

__all__ = [
    "HIGHER_IS_BETTER", "PER_GPU", "ROPE", "Comparison", "Kind", "comparisons", "holds", "judge", "of_cost", "regions",
]  # fmt: skip

Kind = Literal["faster", "slower", "equivalent", "negligible", "inconclusive"]

# Region of practical equivalence: a ratio within 1 +- this is no difference that anybody would act on.
ROPE: dict[str, float] = {
    THROUGHPUT: 0.03,
    "ttft_ms_p50": 0.05,
    "tpot_ms_p50": 0.05,
    "e2e_ms_p50": 0.05,
    "ttft_ms_p95": 0.10,
    "e2e_ms_p95": 0.10,
    "e2e_ms_p99": 0.10,
}
PER_GPU = "throughput_tok_s_per_gpu"  # throughput of a server / its GPUs; judged by the region of throughput
HIGHER_IS_BETTER = {THROUGHPUT, PER_GPU}
_ALPHA = 0.05
_MOST_REPEATS = 200  # beyond that "about N more" is no plan


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
    p: float = math.nan  # of the ratio being 1, as it is
    adjusted_p: float = math.nan  # the same, for as many comparisons as are read at once (Holm)
    rope: float = 0.0  # the region that it was judged by
    more_repeats: int | None = None  # inconclusive: about so many more of each side would decide it
    gpus: tuple[int, int] = (1, 1)  # of the variant's server, of the baseline's


def judge(metric: str, ratio: float, low: float, high: float, rope: float | None = None) -> Kind:
    """The class of a ratio: the interval decides, not the point.

    Wholly inside the region of equivalence: `equivalent`, or `negligible` when it excludes 1. Wholly outside on one
    side: `faster` or `slower`. All else, an unknown interval included: `inconclusive`.
    """
    if math.isnan(low) or math.isnan(high) or math.isnan(ratio):
        return "inconclusive"
    bound = math.log1p(ROPE[metric] if rope is None else rope)
    a, b = math.log(low), math.log(high)
    if -bound <= a and b <= bound:
        return "equivalent" if a <= 0 <= b else "negligible"
    if a > bound or b < -bound:
        return "faster" if (a > 0) == (metric in HIGHER_IS_BETTER) else "slower"
    return "inconclusive"


def holds(metric: str, low: float, high: float, rope: float) -> bool:
    """Whether the interval leaves out every change for the worse that is beyond the region (non-inferiority).

    So it is with whatever is faster, equivalent or negligible by `judge`, and with much that `judge` must leave open:
    +8 % (+2 to +14 %) of throughput is not known to be a gain, and it is known to be no loss.
    """
    bound = math.log1p(rope)
    if math.isnan(low) or math.isnan(high):
        return False
    return math.log(low) >= -bound if metric in HIGHER_IS_BETTER else math.log(high) <= bound


def regions(case: Case, known: Mapping[Key, Mapping[str, Estimate]]) -> dict[str, float]:
    """The region of equivalence of each metric, widened to what the control (A/A) differs by from the baseline.

    The widest |log ratio| of the control over all load points counts: what a second copy of the baseline differs by is
    what this set-up cannot tell apart.
    """
    found = dict(ROPE)
    control = case.study.control
    for (_, _, metric), arms in known.items():
        if metric in found and control in arms and case.baseline in arms:
            a, b = arms[control].value, arms[case.baseline].value
            if a > 0 and b > 0:
                found[metric] = max(found[metric], math.expm1(abs(math.log(a / b))))
    return found


def comparisons(case: Case, known: Mapping[Key, Mapping[str, Estimate]] | None = None) -> list[Comparison]:
    """Every measured variant against the baseline, at every load point, for every metric that has a region.

    Percentiles with too few requests (LEAST) on either side are left out. Where several variants and load points are
    read at once, a few of many true ties would look different by chance: `faster` and `slower` also need a p below
    0.05 after Holm's correction over all comparisons of the metric in the case. Where the variants differ in their
    number of GPUs, throughput per GPU is compared besides (`PER_GPU`): it is like for like, a server's is not. Load
    points that were measured beside other servers are compared with others alone only where `co_location` allows it.
    """
    all_known = dict(cell_estimates(case) if known is None else known)
    widths, servers, beside = regions(case, all_known), gpu_counts(case), together(case)
    if mixed(case):
        widths[PER_GPU] = widths[THROUGHPUT]
        speeds = {(w, load): arms for (w, load, metric), arms in all_known.items() if metric == THROUGHPUT}
        all_known |= {(*at, PER_GPU): per_gpu(arms, servers) for at, arms in speeds.items()}
    found: list[Comparison] = []
    for variant in case.measured_variants():
        if variant == case.baseline:
            continue
        for workload, at in case.points_of_load():
            if not beside.comparable((variant, workload.name, at.name), (case.baseline, workload.name, at.name)):
                continue
            for metric, rope in widths.items():
                arms = all_known.get((workload.name, at.name, metric), {})
                if variant not in arms or case.baseline not in arms:
                    continue
                counts = [_requests(case, v, workload.name, at.name) for v in (variant, case.baseline)]
                if metric in METRICS and min(counts) < LEAST[METRICS[metric][1]]:
                    continue
                value, low, high, p = ratio(arms[variant], arms[case.baseline])
                runs = (
                    _runs(case, variant, workload.name, at.name),
                    _runs(case, case.baseline, workload.name, at.name),
                )
                kind = judge(metric, value, low, high, rope)
                found.append(
                    Comparison(
                        variant, workload.name, at.name, at.amount, metric, value, low, high, runs, kind, p, p, rope,
                        gpus=(servers[variant], servers[case.baseline]),
                    )
                )  # fmt: skip
    return [_with_more(c) for c in _holm(found, case.study.control)]


def of_cost(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of throughput that a cost follows: per GPU where servers differ in GPUs, for each is paid."""
    each = [c for c in found if c.metric == PER_GPU]
    return each or [c for c in found if c.metric == THROUGHPUT]


def _holm(found: Sequence[Comparison], control: str) -> list[Comparison]:
    """Holm's step-down over the comparisons of one metric; the control is no claim and does not count."""
    adjusted: dict[int, float] = {}
    for metric in {c.metric for c in found}:
        family = sorted(
            (c.p, i) for i, c in enumerate(found) if c.metric == metric and c.variant != control and not math.isnan(c.p)
        )
        highest = 0.0
        for rank, (p, i) in enumerate(family):
            highest = max(highest, min(1.0, p * (len(family) - rank)))
            adjusted[i] = highest
    after = []
    for i, c in enumerate(found):
        p = adjusted.get(i, c.p)
        unsure = c.kind in ("faster", "slower") and not p < _ALPHA
        after.append(replace(c, adjusted_p=p, kind="inconclusive" if unsure else c.kind))
    return after


def _with_more(c: Comparison) -> Comparison:
    """About how many more repeats would decide an inconclusive comparison, if its ratio stays where it is.

    The half width shrinks with the root of the repeats; it must become the distance from the ratio to the nearer edge
    of the region: r' = r (half width / distance)^2.
    """
    if c.kind != "inconclusive" or math.isnan(c.low) or c.ratio <= 0:
        return c
    half = (math.log(c.high) - math.log(c.low)) / 2
    distance = abs(abs(math.log(c.ratio)) - math.log1p(c.rope))
    repeats = min(c.runs)
    needed = repeats * (half / distance) ** 2 if distance > 0 else math.inf
    if needed - repeats > _MOST_REPEATS:
        return c
    return replace(c, more_repeats=max(1, math.ceil(needed - 1e-9) - repeats))


def _requests(case: Case, variant: str, workload: str, load: str) -> int:
    return case.ok_counts.get((variant, workload, load), 0)


def _runs(case: Case, variant: str, workload: str, load: str) -> int:
    return case.cell_counts.get((variant, workload, load), 0)
