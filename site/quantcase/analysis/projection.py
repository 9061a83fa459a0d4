"""What a measured case says of another GPU: intervals from the ratios of memory bandwidth and arithmetic.

A decode step reads the weights once and does its arithmetic: t = max(bytes / (eta_m BW), flops / (eta_c F)) + t0, with
BW and F the card's bandwidth and arithmetic peak, eta the shares of them that are reached, t0 the fixed rest (roofline;
Williams, Waterman and Patterson, CACM 52(4), 2009). On another card the first part grows by r_m = BW / BW', the second
by r_c = F / F', and t0 stays. How a measured time splits into the three is not known, so the interval holds every
split that is possible:

    t' / t lies between  f r_m + (1 - f) min(r_m, r_c, 1)  and  f r_m + (1 - f) max(r_m, r_c, 1)

where f is the share of t that must be reading weights: READ_SHARE of their bytes at no more than ETA_MEMORY of the
peak, in the steps that hold no prompt. It counts only where arithmetic cannot be the limit on either card; otherwise,
and for TTFT, f is 0. What remains is that eta and t0 differ between cards: the interval is widened by MARGINS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from collector import gpus
from collector.bundle.read import Load, Variant, Workload
from collector.bundle.schema import VariantRow
from collector.gpus import Figure, GpuProfile
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.points import THROUGHPUT, Point, pick
from quantcase.analysis.projection_rules import (
    Known,
    arguments,
    case_reason,
    kernel_reason,
    known,
    load_reason,
    option,
)
from quantcase.catalog import Case

__all__ = [
    "COST", "ETA_COMPUTE", "ETA_MEMORY", "KV_ERROR", "MARGINS", "READ_SHARE", "TPOT", "TTFT", "Bounds", "Estimate",
    "Projection", "Ratios", "Refusal", "bits_of", "factor", "kv_capacity", "memory_share", "project", "projections",
    "ratios",
]  # fmt: skip

GIB = 2**30
TPOT, TTFT, COST = "tpot_ms_p50", "ttft_ms_p50", "usd_per_1m_output_tokens"
ETA_MEMORY = 0.92  # the most of the bandwidth that decoding was seen to reach
ETA_COMPUTE = 0.30  # the least of the arithmetic peak that matrix products were seen to reach
READ_SHARE = 0.75  # the input embedding is a lookup: 7 % of Llama-3.1-8B in BF16, 18 % in 4 bits
# (same architecture, other architecture), set by judgement: without any measurement on the target a simulator with
# learned efficiencies is 12.8 % (TPOT) and 15.4 % (TTFT) off in the median, a plain roofline 22 % a kernel
# (KernelSight-LM, arXiv 2606.28565).
MARGINS: dict[str, tuple[float, float]] = {TPOT: (0.15, 0.30), THROUGHPUT: (0.15, 0.30), TTFT: (0.20, 0.40)}
_PROMPT_CHUNK = 2048  # tokens of a prompt that a step takes where --max-num-batched-tokens is not given: vLLM's least
KV_ERROR = 0.05
_USABLE = (0.91, 0.995)  # share of the VRAM that an engine sees where it was not recorded: with ECC, without


@dataclass(frozen=True)
class Bounds:
    """A closed interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Ratios:
    """This card's time over the other's: of memory traffic (r_m) and of arithmetic (r_c, kernel's type and 16 bits)."""

    memory: Bounds
    compute: Bounds
    same_architecture: bool


@dataclass(frozen=True)
class Estimate:
    """One figure for another GPU, low to high, beside what was measured here. Never without the word estimate."""

    variant: str
    workload: str
    load: str
    amount: float
    metric: str
    here: Point
    low: float
    high: float


@dataclass(frozen=True)
class Refusal:
    """What is not estimated, and why. `workload` and `load` are empty where it is the whole variant."""

    variant: str
    workload: str
    load: str
    reason: str


@dataclass(frozen=True)
class Projection:
    """All that is said of one other GPU. `kv_tokens` is the KV capacity there, by variant."""

    target: GpuProfile
    memory_ratio: Bounds  # its bandwidth over this card's
    same_architecture: bool
    usd_per_hour: float | None
    estimates: list[Estimate] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    kv_tokens: dict[str, Bounds] = field(default_factory=dict)

    def find(self, variant: str, workload: str, load: str, metric: str) -> Estimate | None:
        """One estimate; None where it was refused."""
        key = (variant, workload, load, metric)
        return next((e for e in self.estimates if (e.variant, e.workload, e.load, e.metric) == key), None)


def projections(case: Case, points: Sequence[Point], prices: Mapping[str, float] | None = None) -> list[Projection]:
    """The case on every other GPU that has a profile: those of the same architecture first, then as in gpus.toml.

    `prices` are USD per hour by profile name, instead of the profile's own. Empty where `case_reason` gives a reason.
    """
    source = case.profile
    if source is None or case_reason(case):
        return []
    others = [p for p in gpus.load().values() if p.kind == "gpu" and p.name != source.name]
    others.sort(key=lambda p: p.architecture != source.architecture)
    facts, given = known(case), prices or {}
    made = [project(case, points, source, t, given.get(t.name), facts) for t in others]
    return [p for p in made if p is not None]


def project(
    case: Case,
    points: Sequence[Point],
    source: GpuProfile,
    target: GpuProfile,
    usd_per_hour: float | None = None,
    facts: Known | None = None,
) -> Projection | None:
    """The case on one other GPU; None where a card has no bandwidth figure. `facts` spare reading the case again."""
    if source.bandwidth_gb_s is None or target.bandwidth_gb_s is None:
        return None
    there = _over(_figure(target.bandwidth_gb_s), _figure(source.bandwidth_gb_s))
    if usd_per_hour is None and target.price_usd_per_hour is not None:
        usd_per_hour = target.price_usd_per_hour.value
    found = Projection(target, there, _same_architecture(source, target), usd_per_hour)
    facts = facts or known(case)
    for name in case.measured_variants():
        variant = case.study.variant(name)
        row = case.served(name)
        reason = facts.reasons[name]
        if row is None or reason:
            found.refusals.append(Refusal(name, "", "", reason or "it did not serve"))
            continue
        scale = ratios(variant, source, target)
        kv = kv_capacity(row, source, target)
        reason = kernel_reason(variant, row, source, target)
        if not reason and (scale is None or kv is None):
            reason = "the profile lacks the arithmetic peak or the memory size that it would take"
        if not reason and kv is not None and kv.low < case.study.context_tokens:
            reason = (
                f"it may not fit: beside weights, activations and graphs there is room for {max(0.0, kv.low):,.0f} KV "
                f"tokens at the least, one request may hold {case.study.context_tokens:,}"
            )
        if reason or scale is None or kv is None:
            found.refusals.append(Refusal(name, "", "", reason))
            continue
        found.kv_tokens[name] = kv
        for workload, load in case.points_of_load():
            _one(found, (case, facts, points), (variant, row, workload, load), (source, target, scale))
    return found


def _one(
    found: Projection,
    measured: tuple[Case, Known, Sequence[Point]],
    what: tuple[Variant, VariantRow, Workload, Load],
    cards: tuple[GpuProfile, GpuProfile, Ratios],
) -> None:
    """Add the estimates of one load point, or why there are none."""
    case, facts, points = measured
    variant, row, workload, load = what
    source, target, scale = cards
    key = (variant.name, workload.name, load.name)
    speed = pick(points, *key, THROUGHPUT)
    if speed is None and not any(pick(points, *key, m) for m in (TPOT, TTFT)):
        return
    reason = load_reason(case, facts, variant.name, workload, load, speed, found.kv_tokens[variant.name].low)
    if reason or speed is None or load.concurrency is None:
        found.refusals.append(Refusal(*key, reason))
        return
    sure = _memory_bound(variant, row, load.concurrency, source) and _memory_bound(
        variant, row, load.concurrency, target
    )
    period_ms = 1000 * load.concurrency / speed.low  # the longest that the measurement allows
    tpot, ttft = pick(points, *key, TPOT), pick(points, *key, TTFT)
    shares = {
        THROUGHPUT: memory_share(row, source, workload, load.concurrency, period_ms, per_token=True),
        TPOT: memory_share(row, source, workload, load.concurrency, _high(tpot), per_token=False),
    }
    if any(share > 1 for share in shares.values()):
        reason = "a step here is shorter than reading the weights takes: not all of them are read in every step"
        found.refusals.append(Refusal(*key, reason))
        return
    for metric, point in ((THROUGHPUT, speed), (TPOT, tpot), (TTFT, ttft)):
        if point is None or not point.shown:
            continue
        grown = factor(shares.get(metric, 0.0) if sure else 0.0, scale)
        margin = MARGINS[metric][0 if scale.same_architecture else 1]
        low, high = _spread(point)
        if metric == THROUGHPUT:  # tokens per second: the reciprocal of a time
            bounds = Bounds(low / (grown.high * (1 + margin)), high / (grown.low * (1 - margin)))
        else:
            bounds = Bounds(low * grown.low * (1 - margin), high * grown.high * (1 + margin))
        found.estimates.append(Estimate(*key, load.amount, metric, point, bounds.low, bounds.high))
        if metric == THROUGHPUT and found.usd_per_hour is not None:
            usd = [usd_per_million(found.usd_per_hour, x) for x in (bounds.high, bounds.low)]
            found.estimates.append(Estimate(*key, load.amount, COST, point, usd[0], usd[1]))


def factor(share: float, scale: Ratios) -> Bounds:
    """How a time grows on the other card, when `share` of it is sure to be memory traffic; see the head.

    Holds every split of the rest between memory, arithmetic and what stays as it is, over the range of both figures.
    """
    m, c = scale.memory, scale.compute
    return Bounds(
        share * m.low + (1 - share) * min(m.low, c.low, 1.0), share * m.high + (1 - share) * max(m.high, c.high, 1.0)
    )


def memory_share(
    row: VariantRow, source: GpuProfile, workload: Workload, concurrency: int, time_ms: float, *, per_token: bool
) -> float:
    """The share of a measured time per token that reading the weights takes at the least; above 1: it cannot be.

    `time_ms` is TPOT, or with `per_token` the whole answer's time over its tokens. While a request is answered the
    other `concurrency - 1` slots take in a prompt each, in so many steps as its length and the step's room need, and
    one more where it straddles two; those steps are not counted.
    """
    if not row.weights_gib or source.bandwidth_gb_s is None or not time_ms > 0:
        return 0.0
    room = option(arguments(row) or [], "--max-num-batched-tokens") or ""
    chunk = int(room) if room.isdecimal() and int(room) > 0 else _PROMPT_CHUNK
    prompt_steps = math.ceil(workload.input_tokens / chunk) + 1
    steps = workload.output_tokens - 1
    plain = max(0, steps - (concurrency - 1) * prompt_steps)
    read_ms = 1000 * READ_SHARE * row.weights_gib * GIB / (ETA_MEMORY * 1e9 * _figure(source.bandwidth_gb_s).high)
    return plain / (workload.output_tokens if per_token else steps) * read_ms / time_ms


def ratios(variant: Variant, source: GpuProfile, target: GpuProfile) -> Ratios | None:
    """r_m and r_c with the range of the profiles' figures; None where a profile lacks one.

    Arithmetic counts in the kernel's own type and in 16 bits, because attention and the output head stay in 16 bits.
    """
    compute = [(_peak(variant, card), _sixteen(card)) for card in (source, target)]
    if (
        source.bandwidth_gb_s is None
        or target.bandwidth_gb_s is None
        or any(f is None for pair in compute for f in pair)
    ):
        return None
    memory = _over(_figure(source.bandwidth_gb_s), _figure(target.bandwidth_gb_s))
    both = [_over(_figure(a), _figure(b)) for a, b in zip(*compute, strict=True) if a is not None and b is not None]
    arithmetic = Bounds(min(b.low for b in both), max(b.high for b in both))
    return Ratios(memory, arithmetic, _same_architecture(source, target))


def kv_capacity(row: VariantRow, source: GpuProfile, target: GpuProfile) -> Bounds | None:
    """KV tokens that fit on the other card: this card's pool less what the engine has less of memory there, +-5 %.

    vLLM takes a share of the card and gives what weights, activations and graphs leave to the KV pool; those three
    are the same bytes on both cards. None where a size is not known.
    """
    here, there = source.memory_gib, _memory(target)
    if here is None or there is None or not row.kv_cache_gib or not row.kv_cache_tokens:
        return None
    try:
        use = float(option(arguments(row) or [], "--gpu-memory-utilization") or 0.9)
    except ValueError:
        return None
    per_gib = row.kv_cache_tokens / row.kv_cache_gib
    low, high = (max(0.0, row.kv_cache_gib - use * (here - gib)) * per_gib for gib in (there.low, there.high))
    return Bounds(low * (1 - KV_ERROR), high * (1 + KV_ERROR))


def bits_of(variant: Variant) -> float | None:
    """Bits of a stored weight; None where nobody stated them."""
    return 16.0 if variant.method == "none" else variant.bits


def _memory_bound(variant: Variant, row: VariantRow, concurrency: int, card: GpuProfile) -> bool:
    """Whether a decode step of that many requests must be memory-bound on a card.

    Its arithmetic, 2 flops a weight and request at ETA_COMPUTE of the peak, must take less than its reads at the peak.
    The number of weights is taken as if all had the variant's bits, which is never too few.
    """
    bits, peak = bits_of(variant), _peak(variant, card)
    if not bits or peak is None or card.bandwidth_gb_s is None or not row.weights_gib:
        return False
    read = READ_SHARE * row.weights_gib * GIB
    flops = 2 * row.weights_gib * GIB * 8 / bits * concurrency
    return flops / (ETA_COMPUTE * 1e12 * _figure(peak).low) <= read / (1e9 * _figure(card.bandwidth_gb_s).high)


def _peak(variant: Variant, card: GpuProfile) -> Figure | None:
    """Peak of the type that the kernel computes in: 4-bit weights are unpacked to 16 bits."""
    if variant.method in ("fp8", "w8a8-fp8") and card.fp8_native:
        return card.fp8_tflops
    return card.int8_tops if variant.method == "w8a8-int8" else _sixteen(card)


def _sixteen(card: GpuProfile) -> Figure | None:
    return card.bf16_tflops or card.fp16_tflops


def _memory(card: GpuProfile) -> Bounds | None:
    """GiB that an engine sees: as recorded, else the share of the VRAM that it is with and without ECC."""
    if card.usable_gib:
        return _figure(card.usable_gib)
    if card.vram_gb is None:
        return None
    size = _figure(card.vram_gb)
    return Bounds(size.low * _USABLE[0], size.high * _USABLE[1])


def _same_architecture(source: GpuProfile, target: GpuProfile) -> bool:
    return bool(source.architecture) and source.architecture == target.architecture


def _figure(figure: Figure) -> Bounds:
    """A profile's figure with the range of its source."""
    low, high = (figure.value if x is None else x for x in (figure.low, figure.high))
    return Bounds(min(low, figure.value), max(high, figure.value))


def _over(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(a.low / b.high, a.high / b.low)


def _spread(point: Point) -> tuple[float, float]:
    """The measured interval, or the value where there is none."""
    low, high = (point.value if math.isnan(x) else x for x in (point.low, point.high))
    return low, high


def _high(point: Point | None) -> float:
    return math.nan if point is None else _spread(point)[1]
