"""The rows of the costs page, for any price, use, mix, budget and number of GPUs; `Inputs()` gives the static tables.

`cost_case` gathers what a case measured, rounded to six digits (twice what is shown, so that multiplying does not show
the rounding): it goes into the page as JSON, and assets/costs.js makes the same rows from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from quantcase.analysis.co_location import together
from quantcase.analysis.compare import Comparison, judge, of_cost, regions
from quantcase.analysis.cost import (
    Part,
    Span,
    bill_per_month,
    mix_cost,
    mix_saving,
    outside,
    requests_per_day,
    saving,
    usd_per_million,
    usd_per_requests,
)
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.points import THROUGHPUT, Key, Point, pick
from quantcase.analysis.servers import gpus_of
from quantcase.catalog import Case

__all__ = [
    "Arm",
    "Budget",
    "CostCase",
    "Inputs",
    "Lane",
    "MixRow",
    "Pair",
    "Row",
    "cost_case",
    "document",
    "mix",
    "rows",
]

Limit = Literal["ttft", "e2e"]
_TAILS: dict[Limit, tuple[str, str]] = {
    "ttft": ("ttft_due_ms_p95", "ttft_ms_p95"),
    "e2e": ("e2e_due_ms_p95", "e2e_ms_p95"),
}
_UNMET = "no load point with a p95 within the budget"
_NO_BASE = "no saving shown (the baseline has no load point to compare with)"


@dataclass(frozen=True)
class Arm:
    """A variant at a load point: throughput in tok/s, p95 in ms; None where too few requests carry a p95."""

    speed: Span
    ttft: Span | None
    e2e: Span | None


@dataclass(frozen=True)
class Pair:
    """What a variant saves against the baseline, each at a load point of its own; None: no interval."""

    saving: Span | None
    decided: bool  # faster or slower, beyond the noise and beyond chance
    words: str  # why no saving is stated


@dataclass(frozen=True)
class Lane:
    """A workload of a case, its load points lightest first. `usual` is the one that counts without a budget."""

    name: str
    output_tokens: int
    loads: list[str]  # in words
    usual: int
    arms: dict[str, list[Arm | None]]
    pairs: dict[str, list[list[Pair | None]]]  # variant -> its load point -> the baseline's


@dataclass(frozen=True)
class CostCase:
    """What the costs page knows of a case. `price` is USD an hour of one GPU, None where nobody gave one; `gpus` are
    those of one server, by variant (1 where it is not in there).
    """

    id: str
    grade: str
    price: float | None
    baseline: str
    variants: list[str]
    region: float
    lanes: list[Lane]
    gpus: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """A p95 that a load point may not exceed, ms."""

    limit: Limit
    ms: float


@dataclass(frozen=True)
class Inputs:
    """What a reader may change. `prices`: case id -> USD an hour of one GPU; `gpus`: servers, each with the GPUs that
    it was measured with; `weights`: workload -> parts of all requests.
    """

    prices: Mapping[str, float] = field(default_factory=dict)
    use: float = 1.0
    gpus: float = 1
    rate: float = 1.0  # units of the reader's currency in a dollar
    budget: Budget | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One variant on one workload. `missing` says why there are no figures."""

    case: str
    workload: str
    variant: str
    load: str
    missing: str = ""
    per_1m_tokens: Span | None = None
    per_1k_requests: float = math.nan
    per_1m_requests: float = math.nan
    saving: Span | None = None
    words: str = ""
    ttft: Span | None = None
    e2e: Span | None = None


@dataclass(frozen=True)
class MixRow:
    """One variant on the mix. `bar` is its cost and interval on a scale of 0 to 100 over the case's variants."""

    case: str
    variant: str
    missing: str = ""
    per_1m_tokens: Span | None = None
    per_1k_requests: Span | None = None
    saving: Span | None = None
    words: str = ""
    requests_per_day: Span | None = None
    bill_per_month: float = math.nan
    bar: Span | None = None


def cost_case(
    case: Case, price: float | None, points: Sequence[Point], comparisons: Sequence[Comparison],
    known: Mapping[Key, Mapping[str, Estimate]], words: Mapping[tuple[str, str, str], str],
) -> CostCase:  # fmt: skip
    """Gather a case. `words` says, by (variant, workload, load), why a comparison states no saving.

    Where a budget puts variant and baseline on different load points, their ratio is judged as any other, with its p
    multiplied by the number of such pairs in the case (Bonferroni): a reader may look at all of them.
    """
    variants = case.measured_variants()
    claim = case.sound and case.bundle.info.grade != "simulated"
    region = regions(case, known)[THROUGHPUT]
    same = {(c.variant, c.workload, c.load): c for c in of_cost(comparisons)}
    beside, counts = together(case), {v: gpus_of(case, v) for v in variants}
    lanes = []
    pairs = sum(len(case.loads(w.name)) ** 2 * max(1, len(variants) - 1) for w in case.study.workloads)
    for w in case.study.workloads:
        loads = case.loads(w.name)
        arms = {v: [_arm(points, v, w.name, load.name) for load in loads] for v in variants}
        if not any(a for found in arms.values() for a in found):
            continue
        carried = [i for i in range(len(loads)) if (arms.get(case.baseline) or [None] * len(loads))[i] is not None]
        table: dict[str, list[list[Pair | None]]] = {}
        for v in variants:
            if v == case.baseline:
                continue
            table[v] = [
                [
                    _pair(same.get((v, w.name, a.name)), words.get((v, w.name, a.name), ""), claim)
                    if a == b
                    else _across(
                        known, (w.name, a.name, v), (w.name, b.name, case.baseline), region, pairs, claim, counts
                    )
                    if beside.comparable((v, w.name, a.name), (case.baseline, w.name, b.name))
                    else None
                    for b in loads
                ]
                for a in loads
            ]
        usual = carried[-1] if carried else len(loads) - 1
        lanes.append(Lane(w.name, w.output_tokens, [load.words for load in loads], usual, arms, table))
    rounded = None if price is None else _six(price)
    return CostCase(case.id, case.bundle.info.grade, rounded, case.baseline, variants, _six(region), lanes, counts)


def _arm(points: Sequence[Point], variant: str, workload: str, load: str) -> Arm | None:
    speed = pick(points, variant, workload, load, THROUGHPUT)
    if speed is None or not speed.value > 0:
        return None

    def tail(limit: Limit) -> Span | None:
        found = (pick(points, variant, workload, load, metric) for metric in _TAILS[limit])
        point = next((p for p in found if p is not None), None)  # from the time due, where there is one
        return _span(point) if point is not None and point.shown else None

    return Arm(_span(speed), tail("ttft"), tail("e2e"))


def _span(point: Point) -> Span:
    return _six(point.value), _six(point.low), _six(point.high)


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _pair(c: Comparison | None, words: str, claim: bool) -> Pair | None:
    if c is None:
        return None
    if math.isnan(c.low):
        return Pair(None, False, "one run: no interval")
    return _claimed((c.ratio, c.low, c.high), c.kind in ("faster", "slower"), words, claim)


def _across(
    known: Mapping[Key, Mapping[str, Estimate]], ours: Key, theirs: Key, region: float, pairs: int, claim: bool,
    counts: Mapping[str, int],
) -> Pair | None:  # fmt: skip
    """Variant and baseline at different load points; `ours` and `theirs` are workload, load, variant. Per GPU."""
    a, b = (known.get((w, load, THROUGHPUT), {}).get(v) for w, load, v in (ours, theirs))
    if a is None or b is None:
        return None
    mine, base = (replace(e, value=e.value / counts[k[2]]) for e, k in ((a, ours), (b, theirs)))
    value, low, high, p = ratio(mine, base)
    if math.isnan(low):
        return Pair(None, False, "one run: no interval")
    kind = judge(THROUGHPUT, value, low, high, region)
    return _claimed((value, low, high), kind in ("faster", "slower") and p * pairs < 0.05, "", claim)


def _claimed(found: Span, decided: bool, words: str, claim: bool) -> Pair:
    share, low, high = (_six(x) for x in saving(found))
    if not claim:
        return Pair((share, low, high), False, "no saving shown (the evidence carries no verdict)")
    return Pair((share, low, high), decided, "" if decided else words or "no saving shown (within the noise)")


def document(cases: Sequence[CostCase]) -> dict[str, Any]:
    """The cases as JSON for the page: nan becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return None if math.isnan(value) else value
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return {"cases": [plain(asdict(c)) for c in cases]}


def choose(lane: Lane, variant: str, budget: Budget | None) -> int | None:
    """The load point that counts: the usual one, or the heaviest whose p95 is within the budget; None without one."""
    arms = lane.arms.get(variant, [])
    if budget is None:
        return lane.usual if lane.usual < len(arms) and arms[lane.usual] is not None else None
    for i in range(len(arms) - 1, -1, -1):
        arm = arms[i]
        tail = None if arm is None else arm.ttft if budget.limit == "ttft" else arm.e2e
        if tail is not None and tail[0] <= budget.ms:
            return i
    return None


def rows(case: CostCase, inputs: Inputs) -> list[Row]:
    """Every variant on every workload; none where the case has no price."""
    price = _price(case, inputs)
    if price is None:
        return []
    found = []
    for lane in case.lanes:
        base = choose(lane, case.baseline, inputs.budget)
        for variant in case.variants:
            at = choose(lane, variant, inputs.budget)
            arm = None if at is None else lane.arms[variant][at]
            if at is None or arm is None:
                if inputs.budget is not None:
                    found.append(Row(case.id, lane.name, variant, "", _UNMET))
                continue
            hour = price * case.gpus.get(variant, 1)
            value, high, low = (usd_per_million(hour, x, inputs.use) * inputs.rate for x in arm.speed)
            share, words = _saved(case, lane, variant, at, base)
            found.append(
                Row(
                    case.id, lane.name, variant, lane.loads[at], "", (value, low, high),
                    usd_per_requests(value, lane.output_tokens, 1_000),
                    usd_per_requests(value, lane.output_tokens, 1_000_000), share, words, arm.ttft, arm.e2e,
                )
            )  # fmt: skip
    return found


def _price(case: CostCase, inputs: Inputs) -> float | None:
    return inputs.prices.get(case.id, case.price)


def _saved(case: CostCase, lane: Lane, variant: str, at: int, base: int | None) -> tuple[Span | None, str]:
    """(saving, "") where one is stated, else (None, why not)."""
    if variant == case.baseline:
        return None, "baseline"
    pair = None if base is None else lane.pairs[variant][at][base]
    if pair is None:
        return None, _NO_BASE
    return (pair.saving, "") if pair.decided else (None, pair.words)


def mix(case: CostCase, inputs: Inputs) -> list[MixRow]:
    """Every variant on the reader's mix of this case's workloads; none where the case has no price."""
    price = _price(case, inputs)
    lanes = [(lane, w) for lane in case.lanes if (w := inputs.weights.get(lane.name, 1.0)) > 0]
    if price is None or not lanes:
        return []
    whole = math.fsum(w for _, w in lanes)
    base = _parts(case, lanes, case.baseline, inputs, whole)
    found = []
    for variant in case.variants:
        parts = _parts(case, lanes, variant, inputs, whole)
        if parts is None:
            missing = _UNMET if inputs.budget else "not measured on every workload of the mix"
            found.append(MixRow(case.id, variant, missing))
            continue
        hour = price * case.gpus.get(variant, 1)
        value, low, high = (x * inputs.rate for x in mix_cost(parts, hour, inputs.use))
        tokens = math.fsum(p.share * p.output_tokens for p in parts)
        share, words = _mix_saved(case, lanes, variant, base, inputs)
        found.append(
            MixRow(
                case.id, variant, "", (value, low, high),
                (value * tokens / 1000, low * tokens / 1000, high * tokens / 1000), share, words,
                requests_per_day(parts, inputs.gpus, inputs.use), bill_per_month(hour, inputs.gpus) * inputs.rate,
            )
        )  # fmt: skip
    return _with_bars(found)


def _parts(
    case: CostCase, lanes: Sequence[tuple[Lane, float]], variant: str, inputs: Inputs, whole: float
) -> list[Part] | None:
    parts = []
    for lane, weight in lanes:
        at = choose(lane, variant, inputs.budget)
        arm = None if at is None else lane.arms[variant][at]
        if arm is None:
            return None
        parts.append(Part(weight / whole, lane.output_tokens, arm.speed))
    return parts


def _mix_saved(
    case: CostCase, lanes: Sequence[tuple[Lane, float]], variant: str, base: list[Part] | None, inputs: Inputs
) -> tuple[Span | None, str]:
    """Stated when the whole interval lies outside the region of equivalence.

    A part whose own difference is not decided carries no claim: its interval is widened to reach 0.
    """
    if variant == case.baseline:
        return None, "baseline"
    savings, words = [], ""
    for lane, _ in lanes:
        at, theirs = (choose(lane, v, inputs.budget) for v in (variant, case.baseline))
        pair = None if at is None or theirs is None else lane.pairs[variant][at][theirs]
        if base is None or pair is None:
            return None, _NO_BASE
        if pair.saving is None:
            return None, pair.words
        share, low, high = pair.saving
        savings.append(pair.saving if pair.decided else (share, min(low, 0.0), max(high, 0.0)))
        words = words or pair.words
    assert base is not None  # noqa: S101 - every lane has a part, or the loop has returned
    found = mix_saving(base, savings)
    if outside(found, case.region):
        return found, ""
    return None, words if len(lanes) == 1 else "no saving shown (within the noise)"


def _with_bars(found: Sequence[MixRow]) -> list[MixRow]:
    ends = [row.per_1m_tokens for row in found if row.per_1m_tokens]
    most = max((x for span in ends for x in span if not math.isnan(x)), default=1.0)
    made = []
    for row in found:
        span = row.per_1m_tokens
        bar = None if span is None else (100 * span[0] / most, 100 * span[1] / most, 100 * span[2] / most)
        made.append(MixRow(**{**row.__dict__, "bar": bar}))
    return made
