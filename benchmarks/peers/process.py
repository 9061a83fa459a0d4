"""A peer's process tree on its own core, with what it cost."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = ["CORE", "Figures", "PeerFailed", "Ran", "installed", "run", "slope"]

Figures = dict[str, float]
CORE = 1
_LIMIT_S = 400


class PeerFailed(Exception):
    """The peer did not do what it was asked; the message is its own last word."""


class Ran(NamedTuple):
    """CPU seconds of the whole tree, and the memory of its largest process (children that were waited for)."""

    cpu_s: float
    rss_mb: float
    output: str


def installed(venv: Path, package: str) -> str | None:
    """The version of a package whose command is in an environment; None when it is not there."""
    if not (venv / "bin" / package).exists():
        return None
    code = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def run(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> Ran:
    """Run a command on one core. Raises PeerFailed when it ends badly or takes longer than six minutes."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            ["timeout", "-k", "5", str(_LIMIT_S), *command], stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
            env={**os.environ, **(env or {})}, preexec_fn=lambda: os.sched_setaffinity(0, {CORE}),
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    if process.returncode:
        lines = [line for line in text.splitlines() if line.strip()]
        raise PeerFailed(lines[-1][:160] if lines else f"exit code {process.returncode}")
    return Ran(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)


def slope(short: Ran, short_tokens: float, long: Ran, long_tokens: float) -> Figures:
    """CPU per token as the slope between two runs, so that start-up does not count; what is left is start-up."""
    per_token = (long.cpu_s - short.cpu_s) / (long_tokens - short_tokens)
    return {
        "cpu_s_per_million_tokens": per_token * 1e6,
        "startup_cpu_s": short.cpu_s - per_token * short_tokens,
        "rss_mb": long.rss_mb,
    }
