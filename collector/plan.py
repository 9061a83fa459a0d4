"""What a study would take on a card, before anything is launched: what fits, how long, what it costs.

Weights and KV bytes are exact; activations, graphs and context are estimates (+-30 %), and so is time (roofline with
the bounds below). What cannot be estimated says so: a model without a known shape has no number here.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from msgspec import Struct
from rich.table import Table
from rich.text import Text

from collector import shapes
from collector.gpus import GpuProfile
from collector.study import Load, Price, Study, Variant, Workload

__all__ = ["Estimate", "Plan", "VariantPlan", "Verdict", "for_profile", "gates", "plan", "plan_table"]

Verdict = Literal["fits", "tight", "does not fit", "unsupported", "unknown"]

GIB = 1024**3
_BLOCK_TOKENS = 16  # KV is handed out in blocks of this many tokens (vLLM's default)
_CONTEXT_GIB = 0.75  # CUDA context and what is not torch's: 0.5 to 1.0
_GRAPHS_GIB = 0.9  # captured graphs: 0.3 to 1.5
_SPREAD = 0.3
_OPEN_LOOP_SLACK = 1.2
_ENGINE_START_S = (40.0, 120.0, 300.0)  # low: seen on an H200 without weights to read (vLLM 0.26)


class Estimate(Struct, frozen=True):
    """A number with its bounds."""

    low: float
    mid: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.low + other.low, self.mid + other.mid, self.high + other.high)

    def times(self, factor: float) -> Estimate:
        return Estimate(self.low * factor, self.mid * factor, self.high * factor)


# Share of the peak reached in memory traffic and in arithmetic, and the fixed time of a step (s): slow to fast.
_ETA_MEMORY = Estimate(0.6, 0.8, 0.92)
_ETA_COMPUTE = Estimate(0.3, 0.5, 0.7)
_STEP_S = Estimate(0.003, 0.002, 0.001)
_STEP_EAGER_S = Estimate(0.015, 0.010, 0.005)


class VariantPlan(Struct, kw_only=True):
    """One variant on the card. GiB; None where it cannot be known."""

    variant: str
    model: str
    verdict: Verdict
    reason: str
    weights_gib: float | None = None
    activations_gib: float | None = None
    graphs_gib: float | None = None
    context_gib: float | None = None
    kv_gib: float | None = None  # for the heaviest load point
    kv_pool_gib: float | None = None  # what is left for KV
    kv_pool_tokens: int | None = None
    minimum_gib: float | None = None  # all of the above for the heaviest load point
    minutes: Estimate | None = None
    notes: list[str] = msgspec.field(default_factory=list)


class Plan(Struct, kw_only=True):
    """A study on a card. `minutes` and `cost_usd` are None when one variant's time is unknown."""

    study: str
    gpu: str
    memory_gib: float | None
    utilisation: float
    budget_gib: float | None  # what the engine may take: memory x utilisation
    load_points: list[str]
    cells: int
    requests: int
    variants: list[VariantPlan]
    minutes: Estimate | None = None
    cost_usd: Estimate | None = None
    price: Price | None = None
    notes: list[str] = msgspec.field(default_factory=list)


class _Settings(Struct, frozen=True):
    """What the engine's arguments say that bears on memory."""

    utilisation: float
    max_num_seqs: int
    batched_tokens: int
    eager: bool


def for_profile(study: Study, profile: GpuProfile) -> Study:
    """The study as run on that card: another card than the study's brings its own name and price."""
    if study.gpu == profile.name:
        return study
    figure = profile.price_usd_per_hour
    price = Price(usd_per_hour=figure.value, source=figure.source, date=figure.date) if figure else None
    return msgspec.structs.replace(study, gpu=profile.name, price=price)


def plan(study: Study, profile: GpuProfile, *, memory_gib: float | None = None) -> Plan:
    """Plan `study` on the card of `profile`. `memory_gib` is the card's real memory when a driver told it."""
    study = for_profile(study, profile)
    memory = memory_gib if memory_gib is not None else profile.memory_gib
    if study.engine.name != "vllm" or profile.kind != "gpu":
        memory = None  # llama.cpp, a replay and somebody's endpoint have no share of VRAM to plan with
    settings = _settings(study.engine.args, memory)
    variants = [_variant(study, v, profile, memory) for v in study.variants]
    times = [v.minutes for v in variants if v.verdict not in ("does not fit", "unsupported")]
    minutes: Estimate | None = None
    if times and all(t is not None for t in times):
        minutes = sum((t for t in times if t is not None), Estimate(0, 0, 0))
    cells = study.cells()
    notes = ["time leaves out downloads and the quality suite"] if minutes else []
    if memory is not None and memory_gib is None and not profile.usable_gib:
        notes.append("memory is taken as 98 % of the card's VRAM")
    notes += [
        f"{name.replace('_', ' ')} of {profile.name}: {figure.source}"
        for name, figure in profile.figures().items()
        if not figure.verified
    ]
    return Plan(
        study=study.id,
        gpu=profile.name,
        memory_gib=memory,
        utilisation=settings.utilisation,
        budget_gib=None if memory is None else memory * settings.utilisation,
        load_points=[f"{w.name} {load.name}" for w, load in cells],
        cells=len(cells) * len(study.variants) * study.repeats * study.starts,
        requests=sum(w.requests(load) for w, load in cells) * study.repeats * study.starts * len(study.variants),
        variants=variants,
        minutes=minutes,
        cost_usd=minutes.times(study.price.usd_per_hour / 60) if minutes and study.price else None,
        price=study.price,
        notes=notes,
    )


def gates(variant: Variant, profile: GpuProfile) -> list[tuple[Literal["refused", "slower", "info"], str]]:
    """What the card's compute capability means for a variant in vLLM (its get_min_capability, 0.33)."""
    cc = profile.capability
    if cc is None:
        return []
    found: list[tuple[Literal["refused", "slower", "info"], str]] = []
    method = variant.method
    minimum = {
        "awq": 7.5,
        "gptq": 6.0,
        "w4a16": 7.5,
        "fp8": 7.5,
        "w8a8-fp8": 7.5,
        "w8a8-int8": 7.5,
        "bitsandbytes": 7.0,
    }
    if method in minimum and cc < minimum[method]:
        found.append(("refused", f"{method} needs compute capability {minimum[method]}, the card has {cc}"))
    elif method == "gptq" and cc < 7.5:
        found.append(("slower", "GPTQ below 7.5 has the Exllama kernel only"))
    elif method in ("fp8", "w8a8-fp8") and not profile.fp8_native:
        found.append(("slower", "no FP8 tensor cores below 8.9: weight-only (W8A16, Marlin), no gain in arithmetic"))
    elif method == "w8a8-int8" and cc >= 10.0:
        found.append(("refused", "vLLM has no INT8 W8A8 on compute capability 10.0 and above"))
    elif method in ("w4a16", "gptq") and cc == 9.0:
        found.append(("info", "4-bit weights can use the Machete kernel here"))
    if not profile.bf16_native and not {"half", "float16"} & set(variant.args):
        found.append(("info", "no BF16 below 8.0: served in FP16, another data type than a BF16 baseline elsewhere"))
    return found


def _settings(args: list[str], memory_gib: float | None) -> _Settings:
    # vLLM's own defaults differ by card; 8,192 was seen on an H200, 2,048 is its default on smaller ones (from memory).
    large = memory_gib is not None and memory_gib >= 70
    return _Settings(
        utilisation=float(_option(args, "--gpu-memory-utilization") or 0.9),
        max_num_seqs=int(_option(args, "--max-num-seqs") or 256),
        batched_tokens=int(_option(args, "--max-num-batched-tokens") or (8192 if large else 2048)),
        eager="--enforce-eager" in args,
    )


def _option(args: list[str], name: str) -> str | None:
    """The last value of `--name value` or `--name=value`."""
    found = None
    for i, item in enumerate(args):
        if item.startswith(f"{name}="):
            found = item.partition("=")[2]
        elif item == name and i + 1 < len(args):
            found = args[i + 1]
    return found


def _variant(study: Study, variant: Variant, profile: GpuProfile, memory: float | None) -> VariantPlan:
    settings = _settings([*study.engine.args, *variant.args], memory)
    rules = gates(variant, profile)
    result = VariantPlan(
        variant=variant.name,
        model=variant.model,
        verdict="unknown",
        reason="",
        notes=[text for level, text in rules if level != "refused"],
    )
    shape = shapes.find(variant.model, study.base_model)
    if shape is None:
        result.reason = f"cannot estimate, no shape for {variant.model}"
        return result
    weights, kv = shape.weight_bytes(variant.method, variant.bits), shape.kv_bytes_per_token(variant.kv_dtype)
    if weights is None or kv is None:
        what = f"method {variant.method}" if weights is None else f"KV data type {variant.kv_dtype}"
        result.reason = f"cannot estimate, bits of {what} are not known"
        return result
    result.weights_gib = weights / GIB
    if profile.kind == "gpu":
        result.minutes = _minutes(study, variant, shape, profile, settings, kv)
    if memory is None:
        result.reason = "no GPU memory to plan with"
    else:
        _memory(result, study, shape, settings, memory * settings.utilisation, kv)
    refused = [text for level, text in rules if level == "refused"]
    if refused:
        result.verdict, result.reason = "unsupported", refused[0]
    if result.verdict in ("does not fit", "unsupported"):
        result.minutes = None  # it will not be measured
    return result


def _memory(
    result: VariantPlan, study: Study, shape: shapes.ModelShape, settings: _Settings, budget: float, kv: float
) -> None:
    """Fill in the memory of `result` and judge it against `budget` (GiB)."""
    assert result.weights_gib is not None  # noqa: S101 - the caller has just set it
    activations = settings.batched_tokens * 2 * (shape.hidden_size + shape.intermediate_size) * 2
    logits = settings.max_num_seqs * shape.vocab_size * 4
    result.activations_gib = (activations + logits) / GIB
    result.graphs_gib = 0.0 if settings.eager else _GRAPHS_GIB
    result.context_gib = _CONTEXT_GIB
    heaviest = max(
        min(load.concurrency or settings.max_num_seqs, settings.max_num_seqs)
        * _blocks(w.input_tokens + w.output_tokens)
        for w, load in study.cells()
    )
    result.kv_gib = heaviest * kv / GIB
    one_request = _blocks(study.context_tokens) * kv / GIB
    overhead = result.activations_gib + result.graphs_gib + result.context_gib
    result.minimum_gib = result.weights_gib + overhead + result.kv_gib
    result.kv_pool_gib = max(0.0, budget - result.weights_gib - overhead)
    result.kv_pool_tokens = math.floor(result.kv_pool_gib * GIB / kv)
    low, high = ((1 + sign * _SPREAD) * overhead + result.weights_gib for sign in (-1, 1))
    if result.weights_gib > budget:
        result.verdict = "does not fit"
        result.reason = f"the weights alone are {result.weights_gib:.1f} GiB, the engine may take {budget:.1f}"
    elif low + one_request > budget:
        result.verdict = "does not fit"
        result.reason = (
            f"no room for one request of {study.context_tokens} tokens: {low + one_request:.1f} GiB at the least, "
            f"the engine may take {budget:.1f}"
        )
    elif high + max(result.kv_gib, one_request) <= budget:
        result.verdict = "fits"
        result.reason = f"{result.minimum_gib:.1f} of {budget:.1f} GiB at the heaviest load"
    else:
        result.verdict = "tight"
        result.reason = (
            "the heaviest load may queue or preempt"
            if result.minimum_gib > budget
            else f"{result.minimum_gib:.1f} of {budget:.1f} GiB, within the error of the estimate"
        )


def _blocks(tokens: int) -> int:
    return math.ceil(tokens / _BLOCK_TOKENS) * _BLOCK_TOKENS


def _minutes(
    study: Study, variant: Variant, shape: shapes.ModelShape, profile: GpuProfile, settings: _Settings, kv: float
) -> Estimate | None:
    """Time of a variant with its start, minutes; None where the card's bandwidth or arithmetic is not known."""
    tflops = _compute_tflops(variant, profile)
    streamed = shape.streamed_bytes(variant.method, variant.bits)
    if tflops is None or streamed is None or profile.bandwidth_gb_s is None:
        return None
    bandwidth = profile.bandwidth_gb_s.value * 1e9
    seconds = []
    for which, start in zip(("high", "mid", "low"), _ENGINE_START_S, strict=True):  # fast to slow
        memory, compute, step = (
            getattr(bound, which) for bound in (_ETA_MEMORY, _ETA_COMPUTE, _STEP_EAGER_S if settings.eager else _STEP_S)
        )
        seconds.append(
            study.starts
            * (
                start
                + sum(
                    _cell_seconds(
                        study, w, load, shape, streamed, kv, memory * bandwidth, compute * tflops * 1e12, step
                    )
                    for w, load in study.cells()
                )
            )
        )
    return Estimate(*seconds).times(1 / 60)


def _compute_tflops(variant: Variant, profile: GpuProfile) -> float | None:
    """Peak of the data type that the kernels compute in, not of the one that the weights are stored in."""
    sixteen = profile.bf16_tflops or profile.fp16_tflops
    figure = sixteen
    if variant.method in ("fp8", "w8a8-fp8") and profile.fp8_native:
        figure = profile.fp8_tflops or sixteen
    elif variant.method == "w8a8-int8":
        figure = profile.int8_tops or sixteen
    return figure.value if figure else None


def _cell_seconds(
    study: Study,
    w: Workload,
    load: Load,
    shape: shapes.ModelShape,
    streamed: float,
    kv: float,
    bandwidth: float,
    flops: float,
    step: float,
) -> float:
    """All repeats of one load point with their warm-up: waves of `concurrency` requests, each wave one decode of the
    whole batch after a prefill of each.
    """
    if load.concurrency is None:  # requests arrive by a clock; the warm-up and the last answers come on top
        return study.repeats * w.duration_s * _OPEN_LOOP_SLACK
    concurrency = load.concurrency
    parameters = shape.parameters - shape.embedding_parameters
    context = w.input_tokens + w.output_tokens / 2
    decode = max((streamed + concurrency * context * kv) / bandwidth, 2 * parameters * concurrency / flops) + step
    attention = 2 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * w.input_tokens**2
    prefill = max((2 * parameters * w.input_tokens + attention) / flops, streamed / bandwidth) + step
    wave = w.output_tokens * decode + concurrency * prefill
    waves = study.repeats * math.ceil(w.requests(load) / concurrency) + w.warmup_requests
    return waves * wave


_STYLE: dict[Verdict, str] = {
    "fits": "green",
    "tight": "yellow",
    "does not fit": "red",
    "unsupported": "red",
    "unknown": "dim",
}


def plan_table(plan: Plan) -> Table:
    """The plan as a table of at most 80 columns; GiB throughout, times and costs with their bounds."""
    card = f"{plan.memory_gib:.1f} GiB, engine takes {plan.budget_gib:.1f}" if plan.budget_gib else "no GPU memory"
    table = Table(
        title=f"{plan.study} on {plan.gpu} ({card})", caption=_caption(plan), width=80, caption_justify="left"
    )
    table.add_column("variant", no_wrap=True, max_width=12)
    for name in ("weights", "KV", "rest", "need"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("minutes", justify="right", no_wrap=True)
    table.add_column("verdict", ratio=1)
    for v in plan.variants:
        rest = [x for x in (v.activations_gib, v.graphs_gib, v.context_gib) if x is not None]
        verdict = Text(v.verdict, style=_STYLE[v.verdict]).append(f": {v.reason}", style="default")
        for note in v.notes:
            verdict.append(f"\n{note}", style="dim")
        table.add_row(
            Text(v.variant),
            _gib(v.weights_gib),
            _gib(v.kv_gib),
            _gib(sum(rest) if rest else None),
            _gib(v.minimum_gib),
            f"{v.minutes.low:.0f}-{v.minutes.high:.0f}" if v.minutes else "?",
            verdict,
        )
    return table


def _caption(plan: Plan) -> Text:
    lines = [f"{len(plan.load_points)} load points, {plan.cells} cells with repeats, {plan.requests} requests"]
    if plan.minutes:
        lines.append(f"about {plan.minutes.mid:.0f} minutes ({plan.minutes.low:.0f} to {plan.minutes.high:.0f})")
    else:
        lines.append("time: unknown")
    if plan.cost_usd and plan.price:
        at = f"at {plan.price.usd_per_hour:.2f} $/h ({plan.price.source}, {plan.price.date})"
        lines.append(f"about {plan.cost_usd.mid:.2f} $ ({plan.cost_usd.low:.2f} to {plan.cost_usd.high:.2f}) {at}")
    return Text("\n".join([*lines, *plan.notes]))


def _gib(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"
