"""The comparison plan's questions, answered from the rows: room for contexts, the roofline, where unpacking costs, and
the numbers at which to roll back. Words made here may hold a bundle's own strings: pages make them safe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quantcase.analysis.compare import Comparison
from quantcase.analysis.plan_checks import formats
from quantcase.analysis.plan_common import name_list
from quantcase.analysis.points import Point, pick
from quantcase.analysis.servers import gpu_counts
from quantcase.analysis.verdict import Verdict
from quantcase.catalog import Case

__all__ = [
    "ERRORS", "LENGTH_RATIO", "LIMIT", "Capacity", "Dequantization", "Rollback", "Roof", "capacity", "dequantization",
    "rollbacks", "roofs",
]  # fmt: skip

_HALF = 0.5  # below half of a roof, what a step costs besides (launches, scheduling, others' prefill) weighs more
# Rollback: a fifth above the upper end of what was measured; answers a tenth shorter or longer; failed requests.
LIMIT, LENGTH_RATIO, ERRORS = 1.2, (0.9, 1.1), 0.005
_GIB = 2**30


@dataclass(frozen=True)
class Capacity:
    """Whether memory for contexts was short for the baseline: what was asked of it against what it had."""

    asked_tokens: int | None  # largest closed load: requests in flight x longest prompt and answer
    held_tokens: int | None  # KV capacity by the engine's word
    usage: float | None  # most of the KV cache in use, share, by the engine's /metrics
    preemptions: float | None

    @property
    def bound(self) -> bool | None:
        """Preempted, or more than 90 % in use; None where neither was recorded."""
        if self.usage is None and self.preemptions is None:
            return None
        return (self.preemptions or 0) > 0 or (self.usage or 0) > 0.9


def capacity(case: Case) -> Capacity:
    """The baseline's KV cache at the highest closed load."""
    rows = case.requests[(case.requests["variant"] == case.baseline) & (case.requests["status"] == "ok")]
    asked = [
        load.concurrency * int((cell["input_tokens"] + cell["output_tokens"]).max())
        for workload, load in case.points_of_load()
        if load.concurrency
        and len(cell := rows[(rows["workload"] == workload.name) & (rows["load"] == load.name)])
        and (cell["input_tokens"] + cell["output_tokens"]).notna().any()
    ]
    seen: dict[str, list[float]] = {"kv_cache_usage_perc": [], "num_preemptions_total": []}
    for row in case.bundle.engine_metrics():
        name = row.series.split("{")[0].removeprefix("vllm:")
        if row.variant == case.baseline and name in seen:
            seen[name].append(row.value)
    base = case.served(case.baseline)
    usage, preempted = (max(values, default=None) for values in seen.values())
    return Capacity(max(asked, default=None), base.kv_cache_tokens if base else None, usage, preempted)


@dataclass(frozen=True)
class Roof:
    """Where one variant's decode stands under the card's two roofs at one load point; an estimate from these inputs.

    A decode step reads the weights and every running request's K/V, and computes two operations a weight and request
    (roofline; Williams et al. 2009): t >= max((W + B S k) / BW, 2 N B / F).
    """

    variant: str
    workload: str
    load: str
    tpot: Point
    bytes_gb: float  # W + B S k: weights as the engine states them, B requests of S tokens (prompt and half the answer)
    bandwidth_share: float  # of the profile's bandwidth
    compute_share: float | None  # of the dense rate in `computes`; None where weights cannot be counted
    computes: str  # BF16, FP16, FP8 or INT8

    @property
    def bound(self) -> str:
        """The nearer roof, bandwidth or compute; neither where not even half of it is reached."""
        nearer = "compute" if (self.compute_share or 0) > self.bandwidth_share else "bandwidth"
        return nearer if max(self.compute_share or 0, self.bandwidth_share) >= _HALF else "neither"


def roofs(case: Case, found: Sequence[Point]) -> tuple[list[Roof], str]:
    """Every measured variant at the lightest and the heaviest closed load, and why some or all are left out."""
    profile = case.profile
    if case.bundle.info.grade != "measured":
        return [], f"no estimate: the timings are {case.bundle.info.grade}, not measured on this card"
    if profile is None or profile.kind != "gpu" or profile.bandwidth_gb_s is None:
        return [], "no estimate: the profile of this machine states no memory bandwidth"
    counts = gpu_counts(case)
    if counts[case.baseline] > 1:
        return [], "no estimate: the baseline is spread over several cards, and the profile is that of one"
    closed = sorted((load.concurrency, w.name, load.name) for w, load in case.points_of_load() if load.concurrency)
    if not closed:
        return [], "no estimate: no closed load was measured, so the number of running requests is not known"
    base = case.served(case.baseline)
    plain = base is not None and base.method == "none" and base.weights_gib is not None
    weights = base.weights_gib * _GIB / 2 if plain and base and base.weights_gib else None  # 16 bits each
    kinds = {f.variant: f for f in formats(case)}
    rates = {
        "BF16": profile.bf16_tflops, "FP16": profile.fp16_tflops, "FP8": profile.fp8_tflops, "INT8": profile.int8_tops,
    }  # fmt: skip
    made, without, spread = [], [], list[str]()
    for variant in case.measured_variants():
        row, form = case.served(variant), kinds[variant]
        if counts[variant] > 1:
            spread.append(variant)
            continue
        if row is None or row.weights_gib is None or not row.kv_cache_gib or not row.kv_cache_tokens:
            without.append(variant)
            continue
        computes = "BF16" if rates["BF16"] else "FP16"
        if "activations" in form.tensors:
            computes = "FP8" if "fp8" in form.classes else "INT8"
        rate = rates[computes]
        for requests, workload, load in dict.fromkeys((closed[0], closed[-1])):
            tpot = pick(found, variant, workload, load, "tpot_ms_p50")
            cell = case.requests[
                (case.requests["variant"] == variant) & (case.requests["workload"] == workload)
                & (case.requests["load"] == load) & (case.requests["status"] == "ok")
            ]  # fmt: skip
            context = float(cell["input_tokens"].mean() + cell["output_tokens"].mean() / 2)
            if tpot is None or not tpot.shown or not tpot.value > 0 or math.isnan(context):
                without.append(f"{variant} {workload} {load}")
                continue
            per_token = row.kv_cache_gib * _GIB / row.kv_cache_tokens
            moved = row.weights_gib * _GIB + requests * context * per_token
            step_s = tpot.value / 1000
            compute = 2 * weights * requests / step_s / (rate.value * 1e12) if weights and rate else None
            share = moved / step_s / (profile.bandwidth_gb_s.value * 1e9)
            made.append(Roof(variant, workload, load, tpot, moved / 1e9, share, compute, computes))
    why = [f"weights, KV cache or decode speed were not recorded: {name_list(without)}"] if without else []
    if spread:
        why.append(f"spread over several cards, and the profile is that of one: {name_list(spread)}")
    return made, "; ".join(why)


@dataclass(frozen=True)
class Dequantization:
    """What a variant's prefill (TTFT) and decode (TPOT) cost against the baseline's, and where a price shows."""

    variant: str
    workload: str
    load: str
    ttft: Comparison
    tpot: Comparison

    @property
    def where(self) -> str:
        """What both comparisons say together; nothing is said of a cause."""
        kinds = {"prefill": self.ttft.kind, "decode": self.tpot.kind}
        same = {"equivalent": "unchanged", "negligible": "unchanged"}
        return ", ".join(f"{name} {same.get(kind, kind)}" for name, kind in kinds.items())


def dequantization(case: Case, claims: Sequence[Comparison]) -> list[Dequantization]:
    """TTFT beside TPOT of every variant, at the lightest and the heaviest load of each workload."""
    known = {(c.variant, c.workload, c.load, c.metric): c for c in claims}
    made = []
    for variant in dict.fromkeys(c.variant for c in claims):
        for workload in case.study.workloads:
            loads = [load.name for load in case.loads(workload.name)]
            for load in dict.fromkeys((*loads[:1], *loads[-1:])):
                ttft, tpot = (known.get((variant, workload.name, load, f"{m}_ms_p50")) for m in ("ttft", "tpot"))
                if ttft is not None and tpot is not None:
                    made.append(Dequantization(variant, workload.name, load, ttft, tpot))
    return made


@dataclass(frozen=True)
class Rollback:
    """Beyond these a deployment is no longer what was measured; a limit is None where none can be had."""

    variant: str
    workload: str
    load: str
    ttft: Point | None
    tpot: Point | None
    e2e: Point | None
    ttft_limit_ms: float | None
    tpot_limit_ms: float | None
    e2e_limit_ms: float | None


def rollbacks(case: Case, found: Sequence[Point], verdicts: Sequence[Verdict]) -> list[Rollback]:
    """Limits at the heaviest load for what is faster or recommended: 1.2 x the upper interval end of each p95, or the
    study's own limit where that is lower.
    """
    made = []
    for v in verdicts:
        c = v.evidence
        if c is None or v.kind == "avoid" or v.rule == "client-limited":
            continue
        if c.kind != "faster" and v.kind != "recommend":
            continue
        workload = case.study.workload(v.workload)
        own = (workload.ttft_limit_ms, workload.tpot_limit_ms, workload.e2e_limit_ms)
        ttft, tpot, e2e = (pick(found, v.variant, v.workload, c.load, f"{m}_ms_p95") for m in ("ttft", "tpot", "e2e"))
        bounds = (_limit(point, limit) for point, limit in zip((ttft, tpot, e2e), own, strict=True))
        made.append(Rollback(v.variant, v.workload, c.load, ttft, tpot, e2e, *bounds))
    return made


def _limit(point: Point | None, own: float | None) -> float | None:
    measured = LIMIT * point.high if point and point.shown and not math.isnan(point.high) else None
    return min((x for x in (measured, own) if x is not None), default=None)
