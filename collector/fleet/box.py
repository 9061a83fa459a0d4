"""What runs on a node, called by Ray: say what the box is, measure, tell what lies here, stop. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from collector import __version__
from collector.engines.process import die_with_parent
from collector.fleet.mirror import Have, Piece, Source, hashes
from collector.fleet.order import Ended, Facts, Said, Told, Work
from collector.gpus import recognise
from collector.probes.nvml import Gpus

__all__ = ["clear", "fetch", "measure", "probe", "root", "stop"]

_POLL_S = 0.5
_CLOSE_S = 180.0  # an engine may take a minute to end, and tables are packed then
_GONE = "the bundle is no longer on the box"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Ray sets these for its workers; an engine below one would be slower for it, or behave in another way.
_OF_RAY = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT", "SPT_NOENV", "PYTHONUNBUFFERED")


def root() -> Path:
    """Where bundles lie on this box while they are measured."""
    if named := os.environ.get("QUANTCASE_FLEET_DIR"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "quantcase" / "fleet"


def probe(fleet: str, node_id: str, *, cards: bool) -> Facts:
    """What this box is.

    A box is told by its cards where Ray counts any there, because these are what is measured: their UUIDs stay when Ray
    is started anew. Otherwise it is told by Ray's number of the node. Both are hashed.
    """
    mark, profiles, note = node_id, [], ""
    if cards:
        with Gpus.open() as found:
            uuids = sorted(c.uuid_sha256 for c in found.cards if c.uuid_sha256)
            profiles = sorted({p.name for c in found.cards if (p := recognise(c.name, c.vram_mib))})
            mark, note = "|".join(uuids) or node_id, found.problem
    box = hashlib.sha256(f"quantcase-box|{mark}".encode()).hexdigest()[:12]
    here = root() / fleet / box
    lying = tuple(sorted(p.name for p in here.iterdir() if p.is_dir())) if here.is_dir() else ()
    if not _at_usual_priority():
        note = f"Ray runs its workers at nice {os.nice(0)}: start it with RAY_worker_niceness=0"
    return Facts(box=box, version=__version__, profiles=tuple(profiles), bundles=lying, note=note)


def _at_usual_priority() -> bool:
    """Ray lowers its workers' priority (nice 15), and the engine and the client would inherit that."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    return os.getpriority(os.PRIO_PROCESS, 0) <= 0


def measure(work: Work, have: Have) -> Iterator[Told]:
    """Run the collector on that bundle, tell all that is new in it twice a second, and at last how it ended."""
    folder = root() / work.fleet / work.box / work.bundle
    folder.parent.mkdir(parents=True, exist_ok=True)
    if have and not folder.is_dir():
        yield Ended(done=False, problem=_GONE)  # begun anew, it would take the rows at home with it
        return
    yield Said("")  # this box has the order: whoever gave it need not wonder
    halt = _halt(work.fleet, work.box, work.bundle)
    halt.unlink(missing_ok=True)
    _at_usual_priority()
    source = Source(folder, have)
    with tempfile.TemporaryDirectory(prefix="quantcase-fleet-") as scratch:
        answer = Path(scratch) / "ended.json"
        with _collector(folder, answer, work) as (process, lines):
            asked = False
            while process.poll() is None:
                time.sleep(_POLL_S)
                if not asked and halt.is_file():
                    asked = True
                    process.terminate()
                yield from _said(lines)
                if folder.is_dir():
                    yield from source.changes()
            yield from _said(lines)
            if folder.is_dir():
                yield from source.changes()
        if answer.is_file():
            ended = msgspec.json.decode(answer.read_bytes(), type=Ended)
        else:
            ended = Ended(done=False, problem=f"the collector ended with code {process.returncode}")
        yield msgspec.structs.replace(ended, hashes=hashes(folder) if folder.is_dir() else {})


@contextlib.contextmanager
def _collector(
    folder: Path, answer: Path, work: Work
) -> Iterator[tuple[subprocess.Popen[bytes], queue.SimpleQueue[str]]]:
    """The collector as a child that is told to end when this process ends, in whatever way: it ends its engine then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "collector.fleet.child", str(folder), str(answer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
        preexec_fn=die_with_parent,  # of the thread that forks: Ray runs tasks on a worker's main thread
    )
    assert process.stdin is not None  # noqa: S101 - both were asked for
    assert process.stdout is not None  # noqa: S101
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(work))
            process.stdin.close()
        yield process, lines
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(5)


def _read(pipe: IO[bytes], lines: queue.SimpleQueue[str]) -> None:
    for raw in pipe:
        lines.put(raw.decode("utf-8", "replace").rstrip())


def _said(lines: queue.SimpleQueue[str]) -> Iterator[Said]:
    with contextlib.suppress(queue.Empty):
        while True:
            yield Said(lines.get_nowait())


def _environment() -> dict[str, str]:
    """The environment as it was when Ray was started on this box, with the cards that Ray gave us."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k not in _OF_RAY}
    with contextlib.suppress(OSError, KeyError):
        raylet = Path(f"/proc/{os.environ['RAY_RAYLET_PID']}/environ").read_bytes()
        before = dict(p.split("=", 1) for p in raylet.decode("utf-8", "replace").split("\0") if "=" in p)
        env |= {k: before[k] for k in _OF_RAY if k in before}
    given = env.get(_VISIBLE, "").split(",")
    if all(g.isdigit() for g in given):
        env[_VISIBLE] = ",".join(sorted(given, key=int))  # the same card first, every time
    elif given == [""]:
        env.pop(_VISIBLE, None)
    return env


def fetch(fleet: str, box: str, bundle: str, have: Have) -> Iterator[Piece]:
    """All of a bundle here that home does not have."""
    yield from Source(root() / fleet / box / bundle, have).changes()


def stop(fleet: str, box: str, bundle: str) -> None:
    """Let what measures that bundle end cleanly."""
    halt = _halt(fleet, box, bundle)
    halt.parent.mkdir(parents=True, exist_ok=True)
    halt.touch()


def clear(fleet: str, box: str) -> None:
    """Remove a fleet's folder from this box: all of it is at home."""
    shutil.rmtree(root() / fleet / box, ignore_errors=True)
    with contextlib.suppress(OSError):
        (root() / fleet).rmdir()


def _halt(fleet: str, box: str, bundle: str) -> Path:
    return root() / fleet / box / f"{bundle}.stop"
