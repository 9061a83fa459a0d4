"""How a fleet's folder begins, and how a fleet is taken up again from it."""

from __future__ import annotations

import datetime
from pathlib import Path

from collector import __version__
from collector import study as studies
from collector.bundle.door import clean_study
from collector.bundle.manifest import write_atomic
from collector.errors import QuantcaseError, UsageFault
from collector.fleet import index as indexes
from collector.fleet import schedule
from collector.fleet import study as fleets
from collector.fleet.index import Index, TaskEntry
from collector.study import Study

__all__ = ["begun", "check_prices", "gone_on_with", "unfinished", "written"]


def begun(file: Path, out: Path, key: str, now: datetime.datetime) -> tuple[Path, Index, dict[int, Study]]:
    """A new fleet: where it will lie, its index, and its studies. Nothing is written yet.

    Raises:
        UsageFault: the file, or a study, cannot be understood; or a fleet of that id lies there already.
    """
    fleet, asked = fleets.load(file)
    folder = out / fleet.id
    if folder.exists():
        raise UsageFault(f"{folder} is there already", fix=f"collect fleet --resume {folder}, or choose another id")
    started = now.isoformat(timespec="seconds")
    index = Index(id=fleet.id, title=fleet.title, key=key, started=started, collector_version=__version__)
    schedule.plan(index, asked, now.date())
    return folder, index, {number: one.study for number, one in enumerate(asked, 1)}


def written(folder: Path, index: Index, given: dict[int, Study]) -> None:
    """The folder with the index and every study as resolved, without secrets: all that a continuation needs."""
    folder.mkdir(parents=True)
    for number, study in given.items():
        write_atomic(_file(folder, number), studies.dumps(clean_study(study)).encode())
    indexes.write(folder, index)


def gone_on_with(folder: Path) -> tuple[Index, dict[int, Study]]:
    """The index of a fleet that was begun, and its studies with secrets out of this environment.

    Raises:
        QuantcaseError: it is complete, of another version, or its files are not there.
    """
    index = indexes.read(folder)
    if not unfinished(index):
        raise QuantcaseError(f"{folder.name} is complete already", fix="nothing to resume")
    if index.collector_version != __version__:
        problem = f"{folder.name} was begun by quantcase {index.collector_version}, this is {__version__}"
        raise QuantcaseError(problem, fix="go on with that version")
    found = {}
    for run in index.runs:
        file = _file(folder, run.number)
        if not file.is_file():
            raise QuantcaseError(f"{file} is missing", fix="copy the fleet's folder again")
        found[run.number] = fleets.with_secrets(studies.loads(file.read_text("utf-8"), file.name), file.name)
    return index, found


def _file(folder: Path, number: int) -> Path:
    return folder / f"study-{number}.toml"


def check_prices(index: Index, max_usd: float | None) -> None:
    """Raises UsageFault when dollars are named and a run has no price to count them by."""
    for run in index.runs:
        if max_usd is not None and run.usd_per_hour is None:
            problem = f"--max-usd needs a price per hour, run {run.number} ({run.gpu} {run.study}) has none"
            raise UsageFault(problem, fix="add [runs.price], or use --until")


def unfinished(index: Index) -> list[TaskEntry]:
    """Server starts that are missing: not what the engine could not do in a bundle that is complete nevertheless."""
    complete = {b.name for b in index.bundles if b.state == "complete"}
    return [
        t
        for t in index.tasks
        if t.state in ("waiting", "running") or (t.state == "failed" and t.bundle not in complete)
    ]
