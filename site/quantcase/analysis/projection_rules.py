"""When a measured figure may not be carried over to another GPU, and why: one sentence a reason, empty where it may.

An estimate scales what was measured. That holds only while the other card runs the same kernels on the same bytes, so
whatever changes the kernel, the data type or the regime is refused, never guessed at. Which kernel vLLM takes on which
compute capability is read from its sources (get_min_capability, 0.33): Machete on exactly 9.0, native FP8 from 8.9,
no INT8 W8A8 from 10.0, BF16 from 8.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from collector import gpus
from collector.bundle.read import Load, Variant, Workload
from collector.bundle.schema import VariantRow
from collector.gpus import GpuProfile
from quantcase.analysis.points import Point
from quantcase.analysis.servers import gpus_of
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = ["Known", "arguments", "case_reason", "kernel_reason", "known", "load_reason", "option", "variant_reason"]

_FP8 = ("fp8", "w8a8-fp8")
_FOUR_BIT = ("awq", "gptq", "w4a16")
_MIXTURE = re.compile(r"moe|mixtral|expert|gpt-oss|deepseek-v[23]|-a\d+b", re.I)
_PREEMPTED = "requests were preempted here: a full KV cache is a regime of its own"


@dataclass(frozen=True)
class Known:
    """What holds for every target, read once: why a variant is refused (empty: it is not), where the client limited."""

    reasons: Mapping[str, str]
    limited: frozenset[tuple[str, str, str]]


def known(case: Case) -> Known:
    """What of a case holds for every other GPU."""
    preempted = {m.variant for m in case.bundle.engine_metrics() if m.value > 0 and _preemptions(m.series)}
    reasons = {
        name: variant_reason(case, case.study.variant(name)) or (_PREEMPTED if name in preempted else "")
        for name in case.measured_variants()
    }
    return Known(reasons, limited_loads(case))


def case_reason(case: Case) -> str:
    """Why nothing of this case may be estimated for another GPU; empty when something may."""
    profile, info = case.profile, case.bundle.info
    if info.grade != "measured":
        return f"its figures are {info.grade}, and only what this collector measured itself is carried over"
    if not case.sound:
        return "the bundle has faults"
    if profile is None:
        return f"there is no profile of the GPU {info.gpu}, so nothing is known of its memory bandwidth"
    if profile.kind == "cpu":
        return "it was measured on a CPU: a GPU runs other kernels from another memory, and no ratio spans that"
    if profile.kind != "gpu" or profile.simulated:
        return "it was not measured on a GPU"
    if profile.bandwidth_gb_s is None or profile.memory_gib is None or _sixteen(profile) is None:
        return f"the profile of {profile.name} has no bandwidth, no memory size or no arithmetic peak"
    return _other_card(case, profile)


def _other_card(case: Case, profile: GpuProfile) -> str:
    """Whether the driver named the card that the bundle names; an old bundle that says nothing is believed."""
    seen: list[tuple[str, float | None]] = []
    environment = case.bundle.environment()
    for session in environment.sessions:
        for gpu in session.gpus:
            name, size = gpu.get("name"), gpu.get("vram_mib")
            if isinstance(name, str):
                seen.append((name, float(size) if isinstance(size, int | float) else None))
    if not seen and environment.gpu_found:
        seen.append((environment.gpu_found, None))
    for name, size in seen:
        known_as = gpus.recognise(name, size)
        if known_as is None or known_as.name != profile.name:
            return f"the run names the GPU {profile.name}, and the driver reported {name}"
    return ""


def variant_reason(case: Case, variant: Variant) -> str:
    """Why no figure of a variant may be carried to any other GPU, by its server start and command line."""
    row = case.served(variant.name)
    if row is None:
        return "it did not serve"
    if row.engine != "vllm":
        return f"it was served by {row.engine}, whose kernels on another GPU are not known here"
    argv = arguments(row)
    if argv is None:
        return "its command line cannot be read"
    if gpus_of(case, variant.name) > 1:
        return "it ran on several GPUs: their link is part of the time"
    if any(a.startswith(("--speculative", "--cpu-offload", "--kv-transfer", "--kv-offload")) for a in argv):
        return "speculative decoding or offload: its step is not one read of the weights from the card's memory"
    if _MIXTURE.search(" ".join([row.model, variant.model, case.study.base_model, row.kernel_path or ""])):
        return "a mixture of experts: only some of the weights are read in a step"
    if variant.method != "none" and row.kernel_class != "optimized":
        return f"its kernel is {row.kernel_class.replace('_', ' ')}: what another card would run is not known"
    if not row.weights_gib or not row.kv_cache_gib or not row.kv_cache_tokens:
        return "the engine did not state its weights and its KV pool"
    return ""


def _preemptions(series: str) -> bool:
    return series.startswith("vllm:num_preemptions")


def kernel_reason(variant: Variant, row: VariantRow, source: GpuProfile, target: GpuProfile) -> str:
    """Why another card would run another kernel or data type; cards of one compute capability run the same."""
    here, there = source.capability, target.capability
    if here is None or there is None:
        return "its compute capability is not known, so its kernels are not either"
    if here == there:
        return ""
    if source.bf16_native != target.bf16_native:
        return "other kernel path: one of the two cards has no BF16"
    if row.kv_dtype != "auto":
        return "other kernel path: the attention kernel of a quantized KV cache is chosen by the architecture"
    kernel = row.kernel_path or ""
    if variant.method == "none":
        return ""
    if variant.method in _FP8:
        if source.fp8_native == target.fp8_native:
            return ""
        return "other kernel path: FP8 is native on one card and unpacked to 16 bits on the other (native from 8.9)"
    if variant.method == "w8a8-int8":
        if there >= 10 or target.int8_tops is None:
            return "vLLM has no INT8 W8A8 kernel for that card (none from compute capability 10.0)"
        return ""
    if variant.method in _FOUR_BIT:
        if "Machete" in kernel:
            return "other kernel path: the Machete kernel measured here exists on compute capability 9.0 only"
        if "Marlin" in kernel:
            return "other kernel path: vLLM takes Machete instead of Marlin on that card" if there == 9.0 else ""
    return "the kernel path of this format on that card is not known"


def load_reason(
    case: Case,
    facts: Known,
    variant: str,
    workload: Workload,
    load: Load,
    speed: Point | None,
    kv_tokens_least: float,
) -> str:
    """Why one load point of a variant is not carried over to a card that offers so many KV tokens at the least."""
    if load.concurrency is None:
        return "requests arrive by a clock, so throughput follows the clock and latency the queue"
    if (variant, workload.name, load.name) in facts.limited:
        return "the client was the limit here"
    if speed is None or speed.runs < 2 or math.isnan(speed.low):
        return "too few measurements: one repeat has no interval"
    cells = case.cells
    mine = cells[(cells["variant"] == variant) & (cells["workload"] == workload.name) & (cells["load"] == load.name)]
    if (mine["ok"] < mine["n"]).any():
        return "requests failed here"
    if (mine["steady"] == "no").any():
        return "latency had a trend here: the load was not steady"
    need = load.concurrency * (float(mine["input_tokens_mean"].max()) + workload.output_tokens)
    if not need <= kv_tokens_least:
        return (
            f"its KV cache may not fit: {need:,.0f} tokens are wanted at once, {max(0.0, kv_tokens_least):,.0f} have "
            "room at the least"
        )
    return ""


def arguments(row: VariantRow) -> list[str] | None:
    """The engine's command line; None when it is not a list of strings."""
    try:
        return msgspec.json.decode(row.argv, type=list[str])
    except msgspec.DecodeError:
        return None


def option(argv: Sequence[str], name: str) -> str | None:
    """The last value of `--name value` or `--name=value`."""
    found = None
    for i, item in enumerate(argv):
        if item.startswith(f"{name}="):
            found = item.partition("=")[2]
        elif item == name and i + 1 < len(argv):
            found = argv[i + 1]
    return found


def _sixteen(profile: GpuProfile) -> gpus.Figure | None:
    return profile.bf16_tflops or profile.fp16_tflops
