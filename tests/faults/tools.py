"""The real `collect` against the fault server: studies, runs, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from collector.bundle.check import Outcome, outcome
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.schema import VariantRow
from tests.e2e.tools import COLLECT, environment, processes, until
from tests.faults.server import REPLIES, TOKENS

SERVER = Path(__file__).with_name("server.py")
TIMEOUT_S = 5.0  # of one request: long enough for a busy machine, short enough to wait for

_STUDY = """
id = "faults"
title = "A server that misbehaves on purpose"
gpu = "{gpu}"
base_model = "x/y"
baseline = "{baseline}"
weights = "dummy"
repeats = {repeats}
context_tokens = 256
[engine]
name = "vllm"
command = ["{python}", "{server}"]
start_timeout_s = 60
stop_timeout_s = {stop_s}
[engine.env]
FAULTS_SWITCH = "{switch}"
{variants}
[[workloads]]
name = "chat"
input_tokens = 32
output_tokens = {tokens}
concurrency = {concurrency}
requests_per_stream = 2
min_requests = {requests}
warmup_requests = 1
request_timeout_s = {timeout_s}
"""


def study(
    folder: Path,
    variants: Mapping[str, str],
    *,
    gpu: str = "cpu",
    repeats: int = 1,
    concurrency: Sequence[int] = (1, 2),
    requests: int = len(REPLIES),
    stop_s: float = 1.0,
) -> Path:
    """A study of variants (name: fault of its server), and the switch of the faults, which is on."""
    switch = folder / "faults-last"
    switch.touch()
    tables = "".join(f'[[variants]]\nname = "{name}"\nmodel = "{fault}"\n' for name, fault in variants.items())
    path = folder / "faults.toml"
    path.write_text(
        _STUDY.format(
            gpu=gpu, baseline=next(iter(variants)), repeats=repeats, python=sys.executable, server=SERVER,
            switch=switch, variants=tables, tokens=TOKENS, concurrency=list(concurrency), requests=requests,
            timeout_s=TIMEOUT_S, stop_s=stop_s,
        )
    )  # fmt: skip
    return path


def mended(folder: Path) -> None:
    """From now on nothing is wrong with the servers of that folder's studies."""
    (folder / "faults-last").unlink()


def bundle_in(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def last_starts(bundle: Bundle) -> dict[str, VariantRow]:
    """The row of each variant's last server start."""
    return {v.variant: v for v in bundle.variants()}


def cells_on_disk(out: Path) -> int:
    return sum(len(c.read_text().splitlines()) - 1 for c in out.glob("*/cells.csv"))


def rows_on_disk(folder: Path) -> set[str]:
    """All rows of finished repeats as they are read, to be found again later."""
    bundle = open_bundle(folder)
    done = {(c.variant, c.start, c.workload, c.load, c.repeat) for c in bundle.cells()}
    kept = [r for r in bundle.requests() if (r.variant, r.start, r.workload, r.load, r.repeat) in done]
    return {repr(row) for row in [*bundle.cells(), *kept]}


def levels(folder: Path) -> list[str]:
    """The grave findings of `collect check`: errors and `interrupted`, with their words for the report of a failure."""
    found: Outcome = outcome(folder)
    return [f"{f.level}" if f.level == "interrupted" else str(f) for f in found.faults if f.level in _GRAVE]


_GRAVE = ("error", "interrupted")


def nothing_left(folder: Path) -> None:
    """No server of ours runs any more; and with it its port and its memory are free."""
    until(lambda: not _ours(folder), 20)


def _ours(folder: Path) -> list[str]:
    """Servers whose study lies in that folder: they inherited the switch, and nobody else's did."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                if f"FAULTS_SWITCH={folder}".encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
    return found


def patched(code: str, *arguments: object) -> list[str]:
    """The command line of a `collect` with something of its world replaced by `code` before it starts."""
    return [sys.executable, "-c", f"{code}\nfrom collector.cli import main\nmain()", *map(str, arguments)]


def ran(
    command: Sequence[str], env: Mapping[str, str] | None = None, preexec: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with the environment of the tests and more."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**environment(), **(env or {})}, check=False,
        preexec_fn=preexec,
    )  # fmt: skip


def collected(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`collect` to its end."""
    return ran([*COLLECT, *map(str, arguments)], env)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of the error; the engine's last lines may stand before it."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  log: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: "), done.stderr
    return lines[0]


@contextlib.contextmanager
def serving(fault: str, *arguments: str, name: str = "m") -> Iterator[int]:
    """The fault server as a process of its own; gives its port."""
    command = [sys.executable, str(SERVER), fault, "--served-model-name", name, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[-1])
    finally:
        process.kill()
        process.communicate()


__all__ = [
    "SERVER", "TIMEOUT_S", "bundle_in", "cells_on_disk", "collected", "error_of", "last_starts", "levels", "mended",
    "nothing_left", "patched", "processes", "ran", "rows_on_disk", "serving", "study", "until",
]  # fmt: skip
