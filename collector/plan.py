"""What a study would take on a card, before anything is launched: what fits, how long, what it costs.

Weights and KV bytes are exact; activations, graphs and context are estimates (+-30 %), and so is time
(`plan_time.py`). What cannot be estimated says so: a model without a known shape has no number here.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from msgspec import Struct

from collector import shapes
from collector.bundle.planned import Estimate, Plan, TimeLine, VariantPlan
from collector.gpus import GpuProfile
from collector.plan_quality import Asked, asked
from collector.plan_time import speeds, times, total
from collector.study import Price, Study, Variant

__all__ = ["for_profile", "gates", "plan"]

GIB = 1024**3
_BLOCK_TOKENS = 16  # KV is handed out in blocks of this many tokens (vLLM's default)
_CONTEXT_GIB = 0.75  # CUDA context and what is not torch's: 0.5 to 1.0
_GRAPHS_GIB = 0.9  # captured graphs: 0.3 to 1.5
_SPREAD = 0.3
_NOT_MEASURED = ("does not fit", "unsupported")


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


def plan(study: Study, profile: GpuProfile, *, memory_gib: float | None = None, stress: bool = False) -> Plan:
    """Plan `study` on the card of `profile`.

    Args:
        memory_gib: the card's real memory when a driver told it.
        stress: count the time of `collect run --stress`, too.
    """
    study = for_profile(study, profile)
    memory = memory_gib if memory_gib is not None else profile.memory_gib
    if study.engine.name != "vllm" or profile.kind != "gpu":
        memory = None  # llama.cpp, a replay and somebody's endpoint have no share of VRAM to plan with
    settings = _settings(study.engine.args, memory)
    suites = asked(study) if study.weights == "real" and study.engine.name != "replay" else []
    variants = [_variant(study, v, profile, memory, suites, stress=stress) for v in study.variants]
    parts = _together([v.times for v in variants if v.verdict not in _NOT_MEASURED])
    minutes = total(parts) if profile.kind == "gpu" else None
    cells = study.cells()
    held = max(v.gpus for v in study.variants)
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
        times=parts,
        minutes=minutes,
        cost_usd=minutes.times(held * study.price.usd_per_hour / 60) if minutes and study.price else None,
        price=study.price,
        notes=_notes(study, profile, parts, minutes, assumed=memory is not None and memory_gib is None),
    )


def _together(each: list[list[TimeLine]]) -> list[TimeLine]:
    """The parts of all variants by name. One that is unknown for a variant is unknown for all."""
    found: dict[str, list[TimeLine]] = {}
    for lines in each:
        for line in lines:
            found.setdefault(line.what, []).append(line)
    made = []
    for same in found.values():
        known = [line.minutes for line in same if line.minutes is not None]
        minutes = sum(known, Estimate(0, 0, 0)) if len(known) == len(same) else None
        # The baseline's words say most: it alone has a second pass and a start for it.
        words = next((line.assumption for line in same if line.minutes is None), max(same, key=_length).assumption)
        made.append(msgspec.structs.replace(same[0], minutes=minutes, assumption=words))
    return made


def _length(line: TimeLine) -> int:
    return len(line.assumption)


def _notes(
    study: Study, profile: GpuProfile, parts: list[TimeLine], minutes: Estimate | None, *, assumed: bool
) -> list[str]:
    notes = []
    if minutes:
        unknown = [line.what for line in parts if line.minutes is None and line.counted]
        notes.append(f"time leaves out {', '.join(['downloads', *unknown])}")
    if study.quality and (study.weights == "dummy" or study.engine.name == "replay"):
        notes.append("the quality suites are not asked: nobody's answers (dummy weights, or a replay)")
    if assumed and not profile.usable_gib:
        notes.append("memory is taken as 98 % of the card's VRAM")
    notes += [
        f"{name.replace('_', ' ')} of {profile.name}: {figure.source}"
        for name, figure in profile.figures().items()
        if not figure.verified
    ]
    return notes


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


def _variant(
    study: Study, variant: Variant, profile: GpuProfile, memory: float | None, suites: list[Asked], *, stress: bool
) -> VariantPlan:
    settings = _settings([*study.engine.args, *variant.args], memory)
    rules = gates(variant, profile)
    result = VariantPlan(
        variant=variant.name,
        model=variant.model,
        verdict="unknown",
        reason="",
        notes=[text for level, text in rules if level != "refused"],
        gpus=variant.gpus,
    )
    if variant.gpus > 1:
        result.notes.append(f"{variant.gpus} GPUs: memory is of each one, traffic between them is in no figure")
    shape = shapes.find(variant.model, study.base_model)
    weights = shape.weight_bytes(variant.method, variant.bits) if shape else None
    kv = shape.kv_bytes_per_token(variant.kv_dtype) if shape else None
    known = None
    if shape is None:
        result.reason = f"cannot estimate, no shape for {variant.model}"
    elif weights is None or kv is None:
        what = f"method {variant.method}" if weights is None else f"KV data type {variant.kv_dtype}"
        result.reason = f"cannot estimate, bits of {what} are not known"
    else:
        parts = variant.tensor_parallel * variant.pipeline_parallel  # a replica's weights and KV are divided by these
        result.weights_gib = weights / parts / GIB
        if profile.kind == "gpu":
            known = speeds(variant, shape, profile, kv=kv, eager=settings.eager)
        if memory is None:
            result.reason = "no GPU memory to plan with"
        else:
            _memory(result, study, variant, shape, settings, memory * settings.utilisation, kv / parts)
    refused = [text for level, text in rules if level == "refused"]
    if refused:
        result.verdict, result.reason = "unsupported", refused[0]
    if result.verdict not in _NOT_MEASURED:
        result.times = times(
            study, variant.name, known, suites=suites, most_running=settings.max_num_seqs, stress=stress
        )
        result.minutes = total(result.times)
    return result


def _memory(
    result: VariantPlan,
    study: Study,
    variant: Variant,
    shape: shapes.ModelShape,
    settings: _Settings,
    budget: float,
    kv: float,
) -> None:
    """Fill in the memory of `result`, of each of its GPUs, and judge it against one GPU's `budget` (GiB).

    `kv` are the bytes that a token takes on one of them.
    """
    assert result.weights_gib is not None  # noqa: S101 - the caller has just set it
    activations = settings.batched_tokens * 2 * (shape.hidden_size + shape.intermediate_size) * 2
    logits = settings.max_num_seqs * shape.vocab_size * 4
    result.activations_gib = (activations + logits) / GIB
    result.graphs_gib = 0.0 if settings.eager else _GRAPHS_GIB
    result.context_gib = _CONTEXT_GIB
    heaviest = max(
        min(math.ceil((load.concurrency or settings.max_num_seqs) / variant.data_parallel), settings.max_num_seqs)
        * _blocks(w.input_tokens + w.output_tokens)
        for w, load in study.cells()
    )
    result.kv_tokens, result.kv_gib = heaviest, heaviest * kv / GIB
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
