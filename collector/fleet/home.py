"""What came home of a lost box's bundle: closed, and judged by its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collector.bundle import manifest as manifests
from collector.bundle.schema import Status
from collector.bundle.stress import read_stress
from collector.bundle.write import BundleWriter
from collector.due import Due, WantedOf, everywhere
from collector.errors import QuantcaseError
from collector.fleet.index import TaskEntry
from collector.loadtest import once as load_test
from collector.quality.judge import passes_due
from collector.stress import left

__all__ = ["seal"]

_ALL = 99  # more passes than there ever are


def seal(folder: Path, tasks: Sequence[TaskEntry], *, stress: bool) -> tuple[Status | None, list[TaskEntry]]:
    """Close what came home, so that it is whole and says how far it got; finished repeats stay.

    Returns the bundle's status (None where nothing came home, or its study needs a secret: it stays open, and can be
    read), and those of the tasks whose rows are all there: they are done, whether the box lived to say so or not.
    """
    try:
        if manifests.read(folder).quantcase.status == "complete":
            return "complete", []
        writer = BundleWriter.resume(folder)
    except QuantcaseError:
        return None, []
    done = [t for t in tasks if _measured(writer, t)]
    status: Status = "interrupted" if _missing(writer, stress=stress) else "complete"
    writer.close(status)
    return status, done


def _measured(writer: BundleWriter, task: TaskEntry) -> bool:
    study = writer.study
    if task.kind == "stress":
        return not left(study, read_stress(writer.folder), task.variant)
    if task.kind == "planned":
        repeats = everywhere(min(task.round, study.starts) * study.repeats)
        return not _open(writer, task.variant, repeats, task.round)
    counts = {(f.variant, f.workload, f.load): f.repeats for f in task.further}
    return not Due(study, writer, ()).cells_left(task.variant, lambda v, w, load: counts.get((v, w, load), 0))


def _open(writer: BundleWriter, variant: str, wanted: WantedOf, passes: int) -> bool:
    study, grade = writer.study, writer.manifest.quantcase.grade
    return (
        Due(study, writer, ()).cells_left(variant, wanted)
        or load_test.due(study.loadtest, writer, variant)
        or any(n <= passes for n in passes_due(study, writer, variant, grade=grade))
    )


def _missing(writer: BundleWriter, *, stress: bool) -> bool:
    """Whether a run would go on with it: as it says of itself at its end."""
    study = writer.study
    due, enough = Due(study, writer, ()), everywhere(study.starts * study.repeats)
    names = [v.name for v in study.variants if not due.ended(v.name)]
    if any(_open(writer, name, enough, _ALL) for name in names):
        return True
    if not stress or writer.manifest.quantcase.grade == "simulated":
        return False
    return any(left(study, read_stress(writer.folder), name) for name in names)
