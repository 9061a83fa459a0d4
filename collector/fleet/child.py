"""The collector as the child of a Ray task: one order, a server start or several side by side, on a bundle of this box.

`python -m collector.fleet.child FOLDER ANSWER` reads its order from standard input (it may hold secrets), shows its
progress on standard output, and writes how it ended into ANSWER. It ends, and its engine with it, when the task does.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from collector import cards, gpus
from collector.bundle import manifest as manifests
from collector.bundle.door import clean_study
from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.stress import read_stress
from collector.bundle.write import BundleWriter
from collector.engines import registry
from collector.errors import QuantcaseError, UsageFault
from collector.fleet.order import Ended, Work
from collector.gpus import GpuProfile
from collector.probes.nvml import Gpus
from collector.probes.redact import REMOVED
from collector.run import Run
from collector.side_by_side import places as room
from collector.stress import left
from collector.study import EngineSpec, Study, Variant, dumps, loads

__all__ = ["main", "prepared"]

_RELEASE_S = 150.0  # an engine of an order before this one may take a minute to end


def prepared(folder: Path, work: Work, study: Study) -> None:
    """The bundle as it must stand before a run goes on with it: created, or widened by variants that came from another
    box, and open: what goes beyond the plan follows on a bundle that was complete.
    """
    if not (folder / manifests.MANIFEST).is_file():
        writer = BundleWriter.create(
            folder,
            study,
            grade=registry.engine(study.engine.name).grade,
            gpu=work.gpu,
            cells_planned=study.cells_planned,
            environment=Environment(gpu_asked=work.gpu, fleet=work.fleet, box=work.box),
        )
        writer.close("interrupted")
        return
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    wider = [v.name for v in bundle.study().variants] != [v.name for v in study.variants]
    if wider:
        manifests.write_atomic(folder / "study.toml", dumps(clean_study(study)).encode())
        manifest.quantcase.cells_planned = max(study.cells_planned, manifest.quantcase.cells_done)
    if wider or (_beyond(work) and manifest.quantcase.status == "complete"):
        manifest.quantcase.status = "interrupted"
        manifest.resources = []
        manifests.write(folder, manifest)


def _beyond(work: Work) -> bool:
    return work.stress or bool(work.further)


def _give_secrets(study: Study, *variants: str) -> None:
    """What the bundle's study was written down without, into the environment, where the engine inherits it."""
    clean = clean_study(study)
    parts: list[tuple[EngineSpec | Variant, EngineSpec | Variant]] = [(clean.engine, study.engine)]
    for part, given in [*parts, *((clean.variant(v), study.variant(v)) for v in variants)]:
        os.environ |= {key: given.env[key] for key, value in part.env.items() if REMOVED in value}
    for other, given_other in zip(clean.variants, study.variants, strict=True):  # asked for, never used
        for key in (k for k, value in other.env.items() if REMOVED in value):
            os.environ.setdefault(key, given_other.env[key])


def _wait_until_free(folder: Path) -> None:
    """An earlier order's collector may still be closing its engine here."""
    deadline = time.monotonic() + _RELEASE_S
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.2)
    except OSError:
        return  # a file system without locks
    finally:
        os.close(held)


def _measure(folder: Path, work: Work) -> Ended:
    study = loads(work.study, "study")
    profile = gpus.get(work.gpu)
    _give_secrets(study, *work.variants)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        _wait_until_free(folder)
    prepared(folder, work, study)
    if manifests.read(folder).quantcase.status == "complete" and not _beyond(work):
        return Ended(done=True, status="complete")
    places = _places(work, study, profile) if work.side_by_side else None
    run = Run(
        study,
        profile,
        out=folder.parent,
        resume=folder,
        only=work.variants,
        through_round=work.round,
        further={(f.variant, f.workload, f.load): f.repeats for f in work.further} if work.further else None,
        stress=work.stress,
        max_minutes=work.max_minutes,
        gpus=places,
        side_by_side=places is not None,
    )
    import uvloop

    measured = f"round {work.round} is measured"  # what a run says that nothing has cut short

    async def guarded() -> Ended:
        task = asyncio.ensure_future(run.execute(Console(soft_wrap=True, no_color=True, force_terminal=False)))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        outcome = await task
        done = outcome.ended_by == measured
        if work.stress and done:
            for name in _not_stressed(folder, study, work):
                outcome.failed.setdefault(name, "the stress came to no end: see the box's log")
        return Ended(
            done=done,
            status=outcome.status,
            ended_by=outcome.ended_by,
            failed=outcome.failed,
            hopeless=tuple(v.variant for v in open_bundle(folder).variants() if v.exit_state in ("oom", "unsupported")),
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(guarded())


def _places(work: Work, study: Study, profile: GpuProfile) -> tuple[int, ...] | None:
    """The GPUs of this box where two servers find room on them; else None, and one is measured after the other."""
    with Gpus.open() as found:
        if profile.kind == "gpu":
            pool = cards.usable(profile, found)
        else:  # a replay has no card: as many places as Ray gave it
            given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            pool = tuple(int(index) for index in given if index.isdigit())
    try:
        room([study.variant(name) for name in (*work.variants, study.baseline)], pool)
    except UsageFault:
        sys.stdout.write(f"side by side: no room for two servers on {len(pool)} GPUs: one at a time\n")
        return None
    return pool


def _not_stressed(folder: Path, study: Study, work: Work) -> list[str]:
    """Variants with a ladder that has no end yet: their servers did not start again, or broke too often."""
    if open_bundle(folder).info.grade == "simulated":
        return []
    rows = read_stress(folder)
    return [name for name in work.variants if left(study, rows, name)]


def main() -> None:
    """Arguments: the bundle's folder and the file for the answer, an `Ended` without hashes."""
    folder, answer = map(Path, sys.argv[1:])
    try:
        ended = _measure(folder, msgspec.json.decode(sys.stdin.buffer.read(), type=Work))
    except QuantcaseError as e:
        ended = Ended(done=False, problem=str(e))
    except (asyncio.CancelledError, KeyboardInterrupt):
        ended = Ended(done=False, status="interrupted", ended_by="stopped")
    manifests.write_atomic(answer, msgspec.json.encode(ended))


if __name__ == "__main__":
    main()
