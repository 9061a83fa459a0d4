"""Hardware and software of one session, as environment.json holds them.

Never in it: the host's or user's name, paths, addresses, environment variables (but those few by which GPUs talk to
each other, see `interconnect.settings`).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import collector
from collector.bundle.schema import Session
from collector.probes.interconnect import links, settings
from collector.probes.nvml import Gpus
from collector.probes.packages import PACKAGES, engine_packages, package_versions, vllm_plugins
from collector.probes.redact import redact

__all__ = ["PACKAGES", "capture", "host_facts", "package_versions", "software_facts"]

_CONTAINER_MARKS = ("docker", "kubepods", "containerd", "libpod", "lxc")


def capture(
    gpus: Gpus,
    engine: Mapping[str, str] | None = None,
    *,
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    session: int = 1,
    wall_unix_s: float | None = None,
    monotonic_s: float | None = None,
) -> Session:
    """The environment now. `engine` adds what an engine says of itself ({"vllm": "0.26.0"}): it may live in another
    Python than ours. `command` is the engine's command line where it is a Python program, `env` what is set for it: the
    versions of its packages and plugins are read by its own interpreter. Wall and monotonic time are one pair, so that
    times of the bundle can be put on the clock.
    """
    wall = time.time() if wall_unix_s is None else wall_unix_s
    return Session(
        session=session,
        started=datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds"),
        wall_unix_s=wall,
        monotonic_s=time.monotonic() if monotonic_s is None else monotonic_s,
        gpus=[msgspec.to_builtins(card) for card in gpus.cards],
        interconnect=[msgspec.to_builtins(link) for link in links(gpus)],
        host=host_facts(),
        software={**software_facts(engine, command, env), **(settings(env or {}) if len(gpus) > 1 else {})},
    )


def host_facts() -> dict[str, Any]:
    """CPU, memory, kernel, system. A fact that the host does not tell is None."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": _ram_gib(),
        "architecture": platform.machine(),
        "kernel": redact(f"{platform.system()} {platform.release()}"),
        "os": _os_name(),
        "container": _in_container(),
    }


def software_facts(
    engine: Mapping[str, str] | None = None, command: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Python, collector with its git revision, what is installed of PACKAGES, and plugins of vLLM (`packages`).

    What the engine's own Python has, where that is another one than ours, stands under `engine NAME`.
    """
    facts: dict[str, Any] = {"python": platform.python_version(), "collector": collector.__version__}
    revision, changed = _git()
    if revision:
        facts["collector_revision"] = revision
        facts["collector_changed"] = changed
    facts.update(package_versions())
    facts.update(vllm_plugins())
    facts.update(engine_packages(command, env or {}))
    facts.update({name: redact(version) for name, version in (engine or {}).items()})
    return facts


def _cpu_model() -> str | None:
    text = _read("/proc/cpuinfo")
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or None


def _ram_gib() -> float | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return round(int(found[1]) / 1024**2, 1) if found else None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _in_container() -> bool:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    return any(mark in _read("/proc/1/cgroup") for mark in _CONTAINER_MARKS)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""  # not Linux, or not allowed: the fact is unknown


def _git() -> tuple[str | None, bool]:
    """Revision of the checkout that the collector runs from, and whether files of it were changed."""
    root = Path(collector.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, False
    try:
        revision = _run_git(root, "rev-parse", "HEAD")
        return revision, bool(_run_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, False  # no git here, or not our checkout


def _run_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
