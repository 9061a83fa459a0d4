"""The real `collect`, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

COLLECT = [sys.executable, "-m", "collector.cli"]

STUDY = """
id = "tiny"
title = "Replay of a bundle made by a seed"
gpu = "demo"
base_model = "x/y"
baseline = "bf16"
weights = "dummy"
repeats = 2
[engine]
name = "replay"
source = "{source}"
[[variants]]
name = "bf16"
model = "x/y"
[[variants]]
name = "awq"
model = "x/y-awq"
method = "awq"
[[workloads]]
name = "chat"
input_tokens = 64
output_tokens = 24
concurrency = [1, 8]
requests_per_stream = 3
min_requests = 6
"""


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}


def collect(*arguments: object, cwd: Path | None = None, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = [*COLLECT, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment(), cwd=cwd, check=False
    )


def start(*arguments: object) -> subprocess.Popen[str]:
    """Run beside the test."""
    command = [*COLLECT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes(word: str) -> list[str]:
    """Command lines of live processes that hold a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if word in line and str(os.getpid()) != entry.name:
                found.append(line)
    return found
