"""What the comparison plan before a run and the one checked after it share: classes of formats, states, arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from collector.bundle.read import Variant
from collector.bundle.schema import VariantRow
from collector.gpus import GpuProfile

__all__ = [
    "EACH_ITS_OWN", "OF_QUANTIZATION", "SAMPLING", "Fixed", "Format", "State", "format_of", "name_list", "options",
]  # fmt: skip

State = Literal["ok", "look", "bad", "none"]
_PLAIN_KV = ("auto", "f16", "bf16", "float16", "bfloat16", "f32")
# What a server start always has for itself, and what a quantization may need; a difference in these is no confounder.
EACH_ITS_OWN = {"--host", "--port", "--served-model-name", "--alias", "-m", "--model", "--revision"}
OF_QUANTIZATION = {
    "--quantization", "-q", "--kv-cache-dtype", "--calculate-kv-scales", "--dtype", "--load-format", "-ctk", "-ctv",
    "--cache-type-k", "--cache-type-v", "--tokenizer", "--hf-config-path",
}  # fmt: skip
SAMPLING = ("--generation-config", "--override-generation-config", "--temp", "--top-k", "--top-p", "--repeat-penalty")


@dataclass(frozen=True)
class Format:
    """What a variant quantizes, as asked for: its classes in the plan's sense, and its tensors."""

    variant: str
    classes: tuple[str, ...]  # fp16, int8, int4, kv, fp8, gguf, other
    tensors: tuple[str, ...]  # weights, activations, KV cache


def format_of(v: Variant, profile: GpuProfile | None, served: VariantRow | None = None) -> Format:
    """What a variant quantizes on that card: by the study, and by the kernel where it has served."""
    weights, tensors = _weights(v)
    fallback = served is not None and (
        served.kernel_class == "fallback" or "marlin" in (served.kernel_path or "").lower()
    )
    if weights == "fp8" and (fallback or (profile is not None and profile.kind == "gpu" and not profile.fp8_native)):
        tensors = ("weights",)  # without FP8 tensor cores the weights are unpacked and computed in 16 bits
    if v.kv_dtype in _PLAIN_KV:
        return Format(v.name, (weights,), tensors)
    return Format(v.name, ("kv",) if weights == "fp16" else (weights, "kv"), (*tensors, "KV cache"))


def _weights(v: Variant) -> tuple[str, tuple[str, ...]]:
    method = v.method.lower()
    if method == "none" or re.fullmatch(r"gguf:(b?f16|f32)", method):
        return "fp16", ()
    if method.startswith("gguf"):
        return "gguf", ("weights",)
    named = re.search(r"w(\d+)a(\d+)", method)
    tensors = ("weights", "activations") if named and int(named[2]) < 16 else ("weights",)
    if "fp8" in method:
        return "fp8", tensors if named else ("weights", "activations")
    bits = float(named[1]) if named else v.bits or (4.0 if method in ("awq", "gptq", "bitsandbytes") else 0.0)
    if "fp4" in method or bits not in (4, 8) or (bits == 4 and len(tensors) > 1):
        return "other", tensors
    return ("int8" if bits == 8 else "int4"), tensors


@dataclass(frozen=True)
class Fixed:
    """One fixed variable: ok (same in all variants), look, bad (differs) or none (not recorded), and what was seen."""

    name: str
    state: State
    seen: str


def name_list(values: Iterable[str], most: int = 6) -> str:
    """Names in a row, each once; beyond `most` only how many more there are."""
    found = list(dict.fromkeys(values))
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def options(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """A command line's options with their values; what stands before the first option is left out."""
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", argument):
            name, _, value = argument.partition("=")
            found[name] = (value,) if value else ()
        elif name:
            found[name] += (argument,)
    return found
