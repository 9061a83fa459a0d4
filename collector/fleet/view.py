"""What a person sees of a fleet: one table of all boxes, live on a terminal, and lines everywhere else."""

from __future__ import annotations

import re
import time
from types import TracebackType

from rich import box as boxes
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from collector.fleet.index import BundleEntry, Index

__all__ = ["View", "overview"]

_STAMP = re.compile(r"^\d\d:\d\d:\d\d ")
_MOST_FAULTS = 12


def overview(index: Index) -> RenderableType:
    """All boxes, and below what went wrong. 80 columns hold it."""
    table = Table(
        box=boxes.SIMPLE_HEAD, title=Text(f"{index.title} ({index.id})"), title_justify="left", pad_edge=False
    )
    for name in ("box", "gpu", "study", "state"):
        table.add_column(name, no_wrap=name in ("box", "gpu"), overflow="fold")
    for name in ("cells", "min", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for bundle in index.bundles:
        run = index.run(bundle.run)
        tasks = index.tasks_of(bundle.name)
        usd = [t.usd for t in tasks if t.usd is not None]
        table.add_row(
            Text(bundle.box[:8] if bundle.box else "-"),
            Text(run.gpu),
            Text(run.study),
            Text(_state(index, bundle)),
            f"{bundle.cells_done}/{bundle.cells_planned}",
            f"{sum(t.minutes for t in tasks):.1f}",
            f"{sum(usd):.2f}" if usd else "-",
        )
    return Group(table, *(Text(line) for line in _below(index)))


def _state(index: Index, bundle: BundleEntry) -> str:
    tasks = index.tasks_of(bundle.name)
    if running := [t for t in tasks if t.state == "running"]:
        return f"{', '.join(t.variant for t in running)}, {running[0].words}"
    if bundle.box is not None and index.box(bundle.box).state == "lost":
        moved = sum(t.state == "moved" for t in tasks)
        return f"box lost, {moved} starts moved" if moved else "box lost"
    failed = sum(t.state == "failed" for t in tasks)
    return f"{bundle.state}, {failed} starts failed" if failed else bundle.state


def _below(index: Index) -> list[str]:
    held = sum(b.state == "held" for b in index.boxes)
    minutes = sum(b.minutes for b in index.boxes)
    usd = "" if index.usd is None else f", ${index.usd:.2f}"
    limit = "" if index.max_usd is None else f" of ${index.max_usd:g}"
    by = f", until {index.until}" if index.until else ""
    done = sum(t.state == "done" for t in index.tasks)
    lines = [
        f"{done} of {len(index.tasks)} server starts done, {held} boxes held, {minutes:.1f} box minutes{usd}{limit}{by}"
    ]
    lines += [f"run {r.number} ({r.gpu} {r.study}): {r.wishes}" for r in index.runs if r.wishes]
    lines += [f"{b.name}: {b.precision}" for b in index.bundles if b.precision]
    lines += [f"box {b.box}: lost: {b.reason}" for b in index.boxes if b.state == "lost"]
    lines += [f"box {b.box}: {b.note}" for b in index.boxes if b.note]
    faults = _faults(index)
    lines += faults[:_MOST_FAULTS]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"and {len(faults) - _MOST_FAULTS} more, in fleet.json")
    if index.ended_by:
        lines.append(f"ended because {index.ended_by}")
    return lines


def _faults(index: Index) -> list[str]:
    """Reasons, each with the server starts that share it."""
    sharing: dict[tuple[str, str, str], list[str]] = {}
    for task in (t for t in index.tasks if t.reason):
        sharing.setdefault((task.bundle, task.state, task.reason), []).append(
            f"{task.variant} {task.words.removeprefix('round ')}"
        )
    return [f"{bundle}: {', '.join(who)}: {state}: {why}" for (bundle, state, why), who in sharing.items()]


class View:
    """Use as a context manager while the fleet is measured."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._began = time.monotonic()
        self._told: set[str] = set()

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, index: Index) -> None:
        """The table as it stands now, on a terminal."""
        if self._live is not None:
            self._live.update(overview(index), refresh=True)

    def say(self, box: str, line: str) -> None:
        """A line about a box that stays."""
        text = _STAMP.sub("", line).strip()
        if text:
            self._print(f"{box[:8]} {text}")

    def once(self, line: str) -> None:
        """A line that is not repeated."""
        if line not in self._told:
            self._told.add(line)
            self._print(line)

    def _print(self, text: str) -> None:
        stamp = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self._began))
        self._console.print(f"[dim]{stamp}[/dim] {escape(text)}", highlight=False, soft_wrap=True)
