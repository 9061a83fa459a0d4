"""A study on a card before it is run, as a document: what `collect plan` works out and a page of the site shows.

Every figure here is an estimate. What cannot be estimated is None, and a note or a reason says why.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from collector.study import Price

__all__ = ["Estimate", "Plan", "TimeLine", "VariantPlan", "Verdict"]

Verdict = Literal["fits", "tight", "does not fit", "unsupported", "unknown"]


class Estimate(Struct, frozen=True):
    """A number with its bounds."""

    low: float
    mid: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def times(self, factor: float) -> Estimate:
        return Estimate(self.low * factor, self.mid * factor, self.high * factor)


class TimeLine(Struct, frozen=True, kw_only=True):
    """One part of a run's time, with what it rests on. `minutes` is None where it cannot be known."""

    what: str  # server starts, load points, quality <suite>, load test, stress
    minutes: Estimate | None
    assumption: str
    counted: bool = True  # in the totals of variant and plan


class VariantPlan(Struct, kw_only=True):
    """One variant on the card. GiB on each of its GPUs; None where it cannot be known."""

    variant: str
    model: str
    verdict: Verdict
    reason: str
    weights_gib: float | None = None
    activations_gib: float | None = None
    graphs_gib: float | None = None
    context_gib: float | None = None
    kv_gib: float | None = None  # for the heaviest load point
    kv_tokens: int | None = None  # that it has to hold there
    kv_pool_gib: float | None = None  # what is left for KV
    kv_pool_tokens: int | None = None
    minimum_gib: float | None = None  # all of the above for the heaviest load point
    times: list[TimeLine] = msgspec.field(default_factory=list)
    minutes: Estimate | None = None
    notes: list[str] = msgspec.field(default_factory=list)
    gpus: int = 1

    @property
    def rest_gib(self) -> float | None:
        """What is neither weights nor KV: activations, captured graphs, the driver's context."""
        parts = [x for x in (self.activations_gib, self.graphs_gib, self.context_gib) if x is not None]
        return sum(parts) if parts else None


class Plan(Struct, kw_only=True):
    """A study on a card. `minutes` and `cost_usd` are None when the time of one variant's load points is unknown."""

    study: str
    gpu: str
    memory_gib: float | None
    utilisation: float
    budget_gib: float | None  # what the engine may take: memory x utilisation
    load_points: list[str]
    cells: int
    requests: int
    variants: list[VariantPlan]
    times: list[TimeLine] = msgspec.field(default_factory=list)  # over all variants that are to be measured
    minutes: Estimate | None = None
    cost_usd: Estimate | None = None
    price: Price | None = None
    notes: list[str] = msgspec.field(default_factory=list)
