"""What would spoil a run on this box, each with its mend. Looks, changes nothing, and works without a GPU."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from collector import gpus as profiles
from collector import shapes
from collector.engines.process import port_is_free
from collector.gpus import GpuProfile
from collector.probes.environment import host_facts
from collector.probes.nvml import GpuInfo, Gpus
from collector.probes.redact import redact
from collector.study import Study

__all__ = ["Finding", "Level", "diagnose", "doctor_table"]

Level = Literal["ok", "warning", "error"]

GIB = 1024**3
_FREE_MIB = 600  # a card without work shows some hundred MiB at most
_RESULTS_GIB = 1.0  # a bundle is some ten MiB; logs before packing are larger
_OPEN_FILES = 1024  # sockets, logs and libraries of a run with 32 streams, twice over
_SLOWED = {
    "hw_slowdown",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "reliability",
}


class Finding(Struct, frozen=True):
    """One thing looked at. `fix` is empty where nothing needs doing."""

    level: Level
    what: str
    detail: str
    fix: str = ""


def diagnose(
    profile: GpuProfile | None = None,
    study: Study | None = None,
    engine_command: Sequence[str] | None = None,
    *,
    gpus: Gpus | None = None,
    gpu_index: int = 0,
    ports: Sequence[int] = (8000,),
    results: Path | None = None,
) -> list[Finding]:
    """Look at driver, card, engine, ports, disk and limits.

    Args:
        profile: the card that the run is for; None looks at what is there.
        study: what will be run; tells the engine and how much is downloaded.
        engine_command: how the engine is started; default: the study's, or the engine's usual one.
        gpus: the cards; default: ask the driver.
        ports: ports that the run will use.
        results: the folder that bundles go to; default: the current one.
    """
    found: list[Finding] = []
    own = gpus is None
    cards = gpus if gpus is not None else Gpus.open()
    try:
        if profile is None or profile.kind == "gpu":
            found += _gpu(cards, gpu_index, profile)
        else:
            found.append(Finding("ok", "GPU", f"profile {profile.name} needs none"))
    finally:
        if own:
            cards.close()
    found += _engine(study, engine_command)
    found += [_port(p) for p in ports]
    found += _disk(study, results or Path.cwd())
    found += [_open_files(), _ram(study)]
    return [Finding(f.level, f.what, redact(f.detail), redact(f.fix)) for f in found]


def _gpu(cards: Gpus, index: int, profile: GpuProfile | None) -> list[Finding]:
    if not len(cards):
        level: Level = "error" if profile else "warning"
        fix = "run on a box with an NVIDIA GPU and driver; in a container, start it with --gpus all; or --gpu cpu"
        return [Finding(level, "driver", cards.problem or "no GPU found", fix)]
    if index >= len(cards):
        return [Finding("error", "GPU", f"there is no GPU {index}, the box has {len(cards)}", "name another")]
    card = cards.cards[index]
    found = [Finding("ok", "driver", f"{card.driver or 'unknown version'}, CUDA {card.cuda or 'unknown'}")]
    found.append(_named(card, profile))
    found += _occupied(cards, index)
    found += _settings(cards, card)
    return found


def _named(card: GpuInfo, profile: GpuProfile | None) -> Finding:
    seen = profiles.recognise(card.name, card.vram_mib)
    size = f", {card.vram_mib / 1024:.1f} GiB" if card.vram_mib else ""
    told = f"{card.name}{size}"
    if profile is None:
        detail = f"{told}, profile {seen.name}" if seen else f"{told}, no profile"
        return Finding("ok" if seen else "warning", "GPU", detail, "" if seen else "name a profile with --gpu")
    if seen is not None and seen.name == profile.name:
        return Finding("ok", "GPU", f"{told} is {profile.name}")
    fix = f"use --gpu {seen.name}" if seen else "use --allow-other-gpu to record both"
    return Finding("error", "GPU", f"found {told}, the run is for {profile.name} ({profile.title})", fix)


def _occupied(cards: Gpus, index: int) -> list[Finding]:
    found = []
    others = cards.processes(index)
    used = cards.used_mib(index)
    if others:
        pids = ", ".join(str(p.pid) for p in others[:8])
        found.append(
            Finding("error", "GPU is free", f"{len(others)} other processes on it: pid {pids}", "end them, or wait")
        )
    if used is None:
        found.append(Finding("warning", "GPU memory", "the driver does not tell", "compare the first run by hand"))
    elif used > _FREE_MIB:
        fix = "end what holds it; a process outside this container is not listed"
        found.append(Finding("warning" if others else "error", "GPU memory", f"{used:.0f} MiB in use", fix))
    else:
        found.append(Finding("ok", "GPU memory", f"{used:.0f} MiB in use"))
    return found


def _settings(cards: Gpus, card: GpuInfo) -> list[Finding]:
    found = []
    reasons = cards.throttle_reasons(card.index)
    slowed = sorted(_SLOWED & set((reasons or "").split("|")))
    if slowed:
        found.append(
            Finding("error", "clocks", f"slowed down: {', '.join(slowed)}", "cool the card; see its power supply")
        )
    else:
        top = f"up to {card.sm_clock_max_mhz:.0f} MHz" if card.sm_clock_max_mhz else "maximum unknown"
        found.append(Finding("ok", "clocks", f"{top}, not slowed down" if reasons is not None else top))
    limit, default = card.power_limit_w, card.power_limit_default_w
    if limit is not None and default is not None and limit < 0.98 * default:
        fix = "raise it (nvidia-smi -pl), or keep it and say so: the figures hold for this limit"
        found.append(Finding("warning", "power limit", f"{limit:.0f} W, the card's default is {default:.0f} W", fix))
    elif limit is not None:
        found.append(Finding("ok", "power limit", f"{limit:.0f} W"))
    if card.persistence is False:
        fix = "nvidia-smi -pm 1: without it the driver unloads between starts and first starts are slower"
        found.append(Finding("warning", "persistence mode", "off", fix))
    if card.mig:
        found.append(Finding("warning", "MIG", "on: the run sees a slice of the card", "switch it off, or say so"))
    if card.ecc is not None:
        found.append(Finding("ok", "ECC", "on" if card.ecc else "off"))
    return found


def _engine(study: Study | None, command: Sequence[str] | None) -> list[Finding]:
    name = study.engine.name if study else "vllm"
    if name == "replay":
        return [Finding("ok", "engine", "the replay engine comes with the collector")]
    if name == "endpoint":
        return [Finding("ok", "engine", "attached by URL: checked at the start of the run")]
    given = list(command or (study.engine.command if study else []))
    if not given and name == "llamacpp":
        return [_package("xllamacpp", "pip install 'quantcase[cpu]', or set engine.command to a llama-server")]
    program = (given or ["vllm"])[0]
    where = shutil.which(program)
    if where is None:
        fix = f"pip install 'quantcase[{name}]', or set engine.command" if name == "vllm" else "mend engine.command"
        return [Finding("error", "engine", f"{Path(program).name} is not installed or not on PATH", fix)]
    if not given:
        beside = _package("vllm", "it runs in another Python: its version is read from its log")
        return [beside if beside.level == "ok" else Finding("ok", "engine", _version_of(where))]
    return [Finding("ok", "engine", _version_of(where))]


def _package(name: str, fix: str) -> Finding:
    try:
        return Finding("ok", "engine", f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding("error", "engine", f"{name} is not installed", fix)


def _version_of(program: str) -> str:
    """What the program says to --version, its last line; engines warn first."""
    name = Path(program).name
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return f"{name}, version unknown"
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return f"{name} {lines[-1][:60]}" if lines and done.returncode == 0 else f"{name}, version unknown"


def _port(port: int) -> Finding:
    if port_is_free(port):
        return Finding("ok", f"port {port}", "free")
    return Finding("error", f"port {port}", "taken", "end what listens there, or choose another port")


def _disk(study: Study | None, results: Path) -> list[Finding]:
    free = _free_gib(results)
    low = free < _RESULTS_GIB
    found = [
        Finding(
            "error" if low else "ok", "disk for results", f"{free:.1f} GiB free", "free some, or --out" if low else ""
        )
    ]
    if study is None or study.engine.name != "vllm" or study.weights == "dummy":
        return found
    needed, unknown = _download_gib(study)
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    free = _free_gib(cache)
    detail = f"{free:.1f} GiB free, the models take {needed:.1f} GiB in all"
    if unknown:
        detail += f" and {unknown} of unknown size"
    # What the cache holds already counts twice here, hence a warning and not an error.
    short = free < needed * 1.05
    fix = "free some, or point HF_HOME at a larger disk; models already there need no room" if short else ""
    return [*found, Finding("warning" if short else "ok", "disk for models", detail, fix)]


def _download_gib(study: Study) -> tuple[float, int]:
    """Size of the study's checkpoints that are not local folders, GiB, and how many are of unknown size."""
    total, unknown, seen = 0.0, 0, set()
    for v in study.variants:
        if v.model in seen or Path(v.model).exists():
            continue
        seen.add(v.model)
        shape = shapes.find(v.model, study.base_model)
        size = shape.weight_bytes(v.method, v.bits) if shape else None
        if size is None:
            unknown += 1
        else:
            total += size / GIB
    return total, unknown


def _free_gib(folder: Path) -> float:
    """Free space where the folder is, or will be made."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / GIB


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= _OPEN_FILES:
        return Finding("ok", "open files", "unlimited" if limit == resource.RLIM_INFINITY else str(limit))
    return Finding("warning", "open files", f"limit {limit}", f"ulimit -n {4 * _OPEN_FILES}")


def _ram(study: Study | None) -> Finding:
    ram = host_facts()["ram_gib"]
    if ram is None:
        return Finding("warning", "RAM", "the host does not tell")
    sizes = []
    for v in study.variants if study else []:
        shape = shapes.find(v.model, study.base_model) if study else None
        if shape and (size := shape.weight_bytes(v.method, v.bits)):
            sizes.append(size / GIB)
    if sizes and ram < max(sizes):
        fix = "loading may swap; take a box with more memory"
        return Finding("warning", "RAM", f"{ram:.0f} GiB, the largest checkpoint is {max(sizes):.1f} GiB", fix)
    return Finding("ok", "RAM", f"{ram:.0f} GiB")


_STYLE: dict[Level, str] = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor_table(findings: Sequence[Finding]) -> Table:
    """The findings as a table of at most 80 columns, the mend under each fault."""
    table = Table(width=80)
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True, max_width=18)
    table.add_column("found", ratio=1)
    for f in findings:
        detail = Text(f.detail)
        if f.fix:
            detail.append(f"\n{f.fix}", style="bold")
        table.add_row(Text(f.level, style=_STYLE[f.level]), Text(f.what), detail)
    return table
