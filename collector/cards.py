"""Which GPUs of the box a run may use, which of them a server gets, and how the server is told."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from collector.errors import QuantcaseError, UsageFault
from collector.gpus import GpuProfile, recognise
from collector.probes.nvml import Gpus
from collector.study import Study, Variant

__all__ = ["check_parallel", "indices", "needed", "seen_by_engine", "usable"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def indices(text: str | None) -> tuple[int, ...] | None:
    """`0,1` or `all` of the command line as GPU indices; None where nothing (or `all`) is named.

    Raises:
        UsageFault: not a list of different numbers.
    """
    if text is None or text.strip().lower() == "all":
        return None
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0 or len(set(found)) < len(found):
        raise UsageFault(f"--gpus {text} names no GPUs", fix="their numbers as nvidia-smi has them, e.g. --gpus 0,1")
    return found


def usable(
    profile: GpuProfile,
    gpus: Gpus,
    *,
    named: Sequence[int] | None = None,
    allow_other: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> tuple[int, ...]:
    """The GPUs that this run may use, by NVML's index; none for profiles that need none.

    Those that are named, or else all of the profile's kind. What CUDA_VISIBLE_DEVICES hides from us (a scheduler's
    word: Slurm, Ray) is not ours to take.

    Raises:
        QuantcaseError: there is no GPU, another one than the one named, or one that is hidden or not there.
    """
    if profile.kind != "gpu":
        return tuple(named or ())  # a CPU's or a replay's servers have no card; the numbers are places side by side
    if not gpus.cards:
        raise QuantcaseError(
            f"--gpu {profile.name} needs an {profile.title}, and no NVIDIA GPU or driver was found on this machine",
            fix="run `collect doctor`, or try `--gpu cpu`, which needs no GPU",
        )
    ours = _visible(gpus, environment)
    for index in named or ():
        if index not in [c.index for c in gpus.cards]:
            raise UsageFault(f"--gpus {index}: this machine has {len(gpus)} GPUs, counted from 0", fix="see nvidia-smi")
        if index not in ours:
            raise QuantcaseError(f"--gpus {index}: {_VISIBLE} hides it", fix="ask your scheduler for it, or unset that")
    asked = [gpus.cards[i] for i in (named if named is not None else ours)]
    alike = [c for c in asked if (p := recognise(c.name, c.vram_mib)) is not None and p.name == profile.name]
    if len(alike) == len(asked) or (alike and named is None):
        return tuple(c.index for c in alike)
    if allow_other:
        return tuple(c.index for c in asked) if named is not None else (asked[0].index,)
    names = ", ".join(sorted({f"{d.name} ({d.vram_mib or 0:,.0f} MiB)" for d in asked if d not in alike}))
    raise QuantcaseError(
        f"--gpu {profile.name} names an {profile.title}, this machine has {names}",
        fix="use `--gpu auto`, or `--allow-other-gpu` to record both",
    )


def _visible(gpus: Gpus, environment: Mapping[str, str]) -> list[int]:
    """Indices that CUDA_VISIBLE_DEVICES leaves us. It counts as nvidia-smi does on boxes of equal cards, which is what
    CUDA_DEVICE_ORDER=PCI_BUS_ID makes sure of for our engines.

    Raises:
        QuantcaseError: it hides all, or is not to be read (MIG slices are named there by UUIDs that NVML counts apart).
    """
    text = environment.get(_VISIBLE)
    every = [c.index for c in gpus.cards]
    if text is None:
        return every
    found: list[int] = []
    for part in (p.strip() for p in text.split(",") if p.strip()):
        if part.startswith("GPU-"):
            named = [i for i in every if (uuid := gpus.uuid(i)) is not None and uuid.startswith(part)]
        else:
            named = [i for i in every if part == str(i)]
        if not named:
            break  # CUDA hides all that stand behind one that is not there
        found += [i for i in named if i not in found]
    if not found:
        raise QuantcaseError(
            f"{_VISIBLE}={text} leaves no GPU of this machine", fix="unset it, or name one that is here"
        )
    return found


_PARALLEL = {
    "--tensor-parallel-size": "tensor_parallel", "-tp": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel", "-pp": "pipeline_parallel",
    "--data-parallel-size": "data_parallel", "-dp": "data_parallel",
}  # fmt: skip


def check_parallel(study: Study) -> None:
    """Several GPUs are said in one way, which costs, memory and telemetry are counted by.

    Raises:
        UsageFault: they stand among the engine's arguments, or the engine is one that they are not measured with.
    """
    for variant in study.variants:
        if variant.gpus > 1 and study.engine.name == "llamacpp":
            problem = f"variant {variant.name}: several GPUs are measured with vLLM, not with llama.cpp"
            raise UsageFault(problem, fix='engine name = "vllm", or one GPU')
        for argument in (*study.engine.args, *variant.args):
            if key := _PARALLEL.get(argument.partition("=")[0].replace("_", "-")):
                raise UsageFault(
                    f"variant {variant.name}: {argument} stands among the engine's arguments",
                    fix=f"say `{key} = N` in the variant: costs and memory are counted by it",
                )


def needed(variants: Sequence[Variant], pool: Collection[int], profile: GpuProfile) -> int:
    """The GPUs of the largest server of these variants.

    Raises:
        QuantcaseError: the box has fewer for this run.
    """
    most = max(variants, key=lambda v: v.gpus)
    if profile.kind == "gpu" and most.gpus > len(pool):
        raise QuantcaseError(
            f"variant {most.name} takes {most.gpus} GPUs, this run may use {len(pool)} ({profile.title})",
            fix="leave it out with --variant, name more with --gpus, or rent a box that has them",
        )
    return most.gpus


def seen_by_engine(gpus: Gpus, cards: Sequence[int], variant: Variant, env: Mapping[str, str]) -> dict[str, str]:
    """What an engine's environment needs so that it takes just these cards; nothing on a box with one.

    Raises:
        UsageFault: the study says otherwise: telemetry would be of other cards than the server's.
    """
    if len(gpus) < 2 or not cards:
        return {}
    if _VISIBLE in env:
        raise UsageFault(
            f"variant {variant.name}: the study sets {_VISIBLE}, which is ours to set", fix="use --gpus instead"
        )
    return {_VISIBLE: ",".join(str(i) for i in cards), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
