"""Does the method hold where it can be tested: on the GPU that was measured? Figures are held out and said again.

Two things can be held out on one card, both of TPOT, both with the bytes of a step in the place of the bandwidth:

- **load**: a heavier load point of a variant from its lightest: the step reads the KV cache of more tokens;
- **weights**: a variant from the baseline at the lightest load: the step reads fewer bytes of weights. That crosses
  kernel paths on purpose, which an estimate for another GPU never does: it shows why.

With the share f of the time that must be reading (`projection.memory_share`) and the bytes growing by q, the time
grows by something between 1 + f (q - 1) and q; then the margin for the same architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from collector.bundle.read import Load, Workload
from collector.bundle.schema import VariantRow
from quantcase.analysis.points import Point, pick
from quantcase.analysis.projection import MARGINS, READ_SHARE, TPOT, memory_share
from quantcase.analysis.projection_rules import case_reason, known
from quantcase.catalog import Case

__all__ = ["HeldOut", "held_out", "said"]

GIB = 2**30


@dataclass(frozen=True)
class HeldOut:
    """One measured figure, and what the method says of it without having seen it."""

    kind: Literal["load", "weights"]
    variant: str
    workload: str
    load: str
    origin: Point  # what it was said from
    measured: Point
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.measured.value <= self.high

    @property
    def error(self) -> float:
        """How far outside the interval the measured figure lies, as a share of it; 0 inside, positive above."""
        if self.inside:
            return 0.0
        end = self.high if self.measured.value > self.high else self.low
        return self.measured.value / end - 1


def held_out(case: Case, points: Sequence[Point]) -> list[HeldOut]:
    """Every figure that can be held out; empty where nothing of the case may be carried over."""
    if case_reason(case):
        return []
    facts = known(case)
    closed = [(w, load) for w, load in case.points_of_load() if load.concurrency is not None]
    if not closed:
        return []
    first, lightest = min(closed, key=lambda x: (x[1].amount, x[0].input_tokens))
    found = []
    base = case.served(case.baseline)
    for name in case.measured_variants():
        row, origin = case.served(name), pick(points, name, first.name, lightest.name, TPOT)
        if row is None or origin is None or facts.reasons[name]:
            continue
        for workload, load in closed:
            measured = pick(points, name, workload.name, load.name, TPOT)
            if measured is None or measured == origin or (name, workload.name, load.name) in facts.limited:
                continue
            growth = [_bytes(row, workload, load, s) / _bytes(row, first, lightest, s) for s in (1.0, READ_SHARE)]
            low, high = said(case, row, first, lightest, origin, (min(growth), max(growth)))
            found.append(HeldOut("load", name, workload.name, load.name, origin, measured, low, high))
        from_base = pick(points, case.baseline, first.name, lightest.name, TPOT)
        if name == case.baseline or base is None or from_base is None or facts.reasons.get(case.baseline, "none"):
            continue
        if row.kv_dtype != base.kv_dtype:
            continue  # the weights are the same bytes: nothing is held out
        ratio = _bytes(row, first, lightest, 1.0) / _bytes(base, first, lightest, 1.0)
        low, high = said(case, base, first, lightest, from_base, (ratio, ratio))
        found.append(HeldOut("weights", name, first.name, lightest.name, from_base, origin, low, high))
    return found


def said(
    case: Case, row: VariantRow, workload: Workload, load: Load, origin: Point, growth: tuple[float, float]
) -> tuple[float, float]:
    """What a time becomes when a step's bytes grow by something in `growth`: (low, high), the margin included."""
    if case.profile is None:
        raise ValueError(f"{case.id}: no profile of {case.bundle.info.gpu}; ask case_reason first")
    share = min(1.0, memory_share(row, case.profile, workload, load.concurrency or 1, origin.value, per_token=False))
    ends = [g for q in growth for g in (q, 1 + share * (q - 1))]
    margin = MARGINS[TPOT][0]
    return origin.value * min(ends) * (1 - margin), origin.value * max(ends) * (1 + margin)


def _bytes(row: VariantRow, workload: Workload, load: Load, read_share: float) -> float:
    """Bytes that a decode step reads: weights, and the KV cache of all requests at their mean length."""
    if not row.weights_gib or not row.kv_cache_gib or not row.kv_cache_tokens:
        raise ValueError(f"{row.variant}: the engine stated no weights or no KV pool; ask variant_reason first")
    context = workload.input_tokens + workload.output_tokens / 2
    kv = row.kv_cache_gib / row.kv_cache_tokens
    return GIB * (read_share * row.weights_gib + (load.concurrency or 1) * context * kv)
