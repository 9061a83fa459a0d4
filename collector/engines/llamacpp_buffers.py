"""What llama.cpp puts on which device: the buffers that its log names, and what its command line moves off the GPU.

A variant's VRAM is the sum of three buffers on CUDA0: weights, KV cache, working memory. That is how the published
tables of GGUF quantizations count it, so that baseline and offload can be compared without the driver.

Lines come as weights, then context (output, KV), then working memory. Working memory is reserved again and again, so a
device's last word stands; KV of one context may come in several lines (sliding windows have a cache of their own), so
these are added. A second context (a draft model's) is added to the first. A dry run, which newer versions make to see
what fits, names every weight buffer with 0.00 MiB and does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct, field

__all__ = ["DeviceBuffer", "Offload", "device_buffers", "offload", "vram_mib"]

Kind = Literal["model", "kv", "compute", "output"]

_LINE_CHARS = 2_000  # such a line has about a hundred; of a longer one only the beginning is read
_ANSI = re.compile(r"\x1b\[[0-9;]{0,16}[A-Za-z]")
_TAIL = r"\s{1,40}([A-Za-z0-9_]{1,40})\s{1,4}"
_MIB = r"buffer size =\s{1,20}([0-9]{1,9}(?:\.[0-9]{1,4})?) MiB"
# kind -> line. Each names the versions that print it, as far as their logs were seen.
_LINES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    # `llm_load_tensors: CUDA0 buffer size` until 2024, `... model buffer size` since, without `llm_` from b4500 on
    ("model", re.compile(rf"load_tensors:{_TAIL}(?:model )?{_MIB}")),
    # llama_kv_cache_init (2024), llama_kv_cache_unified (2025), llama_kv_cache (b6500 and later)
    ("kv", re.compile(rf"llama_kv_cache(?:_init|_unified)?:{_TAIL}KV {_MIB}")),
    # models with a recurrent state keep their context there
    ("kv", re.compile(rf"llama_memory_recurrent:{_TAIL}RS {_MIB}")),
    # llama_new_context_with_model (2024), llama_init_from_model (early 2025), llama_context, sched_reserve (b8000+)
    (
        "compute",
        re.compile(
            rf"(?:llama_new_context_with_model|llama_init_from_model|llama_context|sched_reserve):{_TAIL}compute {_MIB}"
        ),
    ),
    (
        "output",
        re.compile(rf"(?:llama_new_context_with_model|llama_init_from_model|llama_context):{_TAIL}output {_MIB}"),
    ),
)


class DeviceBuffer(Struct, frozen=True):
    """Memory that llama.cpp holds on one device for one purpose, MiB."""

    device: str  # CUDA0, CPU, CPU_Mapped (the file itself), CPU_REPACK, CUDA_Host (pinned RAM) ...
    kind: Kind
    mib: float


class _Context(Struct):
    """One context: what is added up, and what a later line replaces."""

    added: list[DeviceBuffer] = field(default_factory=list)
    compute: dict[str, float] = field(default_factory=dict)


class _Load(Struct):
    """One loading of a model with the contexts made on it."""

    model: list[DeviceBuffer] = field(default_factory=list)
    contexts: list[_Context] = field(default_factory=list)

    def counts(self) -> bool:
        """False for a dry run."""
        return not self.model or any(b.mib > 0 for b in self.model)


def device_buffers(log: str) -> list[DeviceBuffer]:
    """One entry per device and kind in the order of the log, MiB. Empty when the log names no buffer.

    A server that unloads its model and loads it again is counted twice: read the log of one loading.
    """
    loads: list[_Load] = []
    for device, kind, mib in _found(log):
        if kind == "model":
            if not loads or loads[-1].contexts:
                loads.append(_Load())
            loads[-1].model.append(DeviceBuffer(device, kind, mib))
            continue
        if not loads:
            loads.append(_Load())
        contexts = loads[-1].contexts
        if not contexts or (kind != "compute" and contexts[-1].compute):
            contexts.append(_Context())
        if kind == "compute":
            contexts[-1].compute[device] = mib
        else:
            contexts[-1].added.append(DeviceBuffer(device, kind, mib))
    total: dict[tuple[str, Kind], float] = {}
    for buffer in (b for load in loads if load.counts() for b in _all(load)):
        key = (buffer.device, buffer.kind)
        total[key] = total.get(key, 0.0) + buffer.mib
    return [DeviceBuffer(device, kind, round(mib, 4)) for (device, kind), mib in total.items()]


def _all(load: _Load) -> Iterator[DeviceBuffer]:
    yield from load.model
    for context in load.contexts:
        yield from context.added
        for device, mib in context.compute.items():
            yield DeviceBuffer(device, "compute", mib)


def _found(log: str) -> Iterator[tuple[str, Kind, float]]:
    for whole in log.split("\n"):
        if "buffer size" not in whole:
            continue
        line = _ANSI.sub("", whole[:_LINE_CHARS])
        for kind, regex in _LINES:
            if match := regex.search(line):
                yield match[1], kind, float(match[2])
                break


def vram_mib(buffers: Sequence[DeviceBuffer], device: str = "CUDA0") -> float | None:
    """Weights + KV cache + working memory on `device`, MiB; None when nothing lies there (a run without a GPU).

    The formula is that of the published GGUF tables: "VRAM calculated as sum of three CUDA0 buffers". The output
    buffer is pinned RAM of the host and is left out.
    """
    there = [b.mib for b in buffers if b.device == device and b.kind in ("model", "kv", "compute")]
    return round(sum(there), 4) if there else None


class Offload(Struct, frozen=True):
    """What a llama.cpp command line says of the place of weights and KV cache; None and False where it says nothing."""

    gpu_layers: str | None = None  # a number of layers, `auto` or `all`, as given
    cpu_moe: bool = False  # all experts stay in the host's memory
    n_cpu_moe: int | None = None  # experts of the first N layers stay there
    overrides: tuple[str, ...] = ()  # tensors by pattern, `exps=CPU`
    kv_on_cpu: bool = False

    @property
    def experts_on_cpu(self) -> bool:
        """Whether any expert weights were asked to stay in the host's memory."""
        named = any(o.rpartition("=")[2].upper() == "CPU" for rule in self.overrides for o in rule.split(","))
        return self.cpu_moe or bool(self.n_cpu_moe) or named


_VALUES = {
    "-ngl": "gpu_layers", "--gpu-layers": "gpu_layers", "--n-gpu-layers": "gpu_layers",
    "-ncmoe": "n_cpu_moe", "--n-cpu-moe": "n_cpu_moe",
    "-ot": "overrides", "--override-tensor": "overrides",
}  # fmt: skip
_SWITCHES = {"-cmoe": "cpu_moe", "--cpu-moe": "cpu_moe", "-nkvo": "kv_on_cpu", "--no-kv-offload": "kv_on_cpu"}


def offload(argv: Sequence[str]) -> Offload:
    """The offload flags of a command line. Of a flag given twice the last counts; `--override-tensor` adds up."""
    given: dict[str, str] = {}
    overrides: list[str] = []
    switches: set[str] = set()
    for flag, value in pairwise([*argv, ""]):
        name = flag.replace("_", "-") if flag.startswith("--") else flag  # llama.cpp takes both spellings
        if name in _SWITCHES:
            switches.add(_SWITCHES[name])
        elif _VALUES.get(name) == "overrides" and value:
            overrides.append(value)
        elif name in _VALUES and value:
            given[_VALUES[name]] = value
    experts = given.get("n_cpu_moe", "")
    return Offload(
        gpu_layers=given.get("gpu_layers"),
        cpu_moe="cpu_moe" in switches,
        n_cpu_moe=int(experts) if re.fullmatch(r"[0-9]{1,6}", experts) else None,
        overrides=tuple(overrides),
        kv_on_cpu="kv_on_cpu" in switches,
    )
