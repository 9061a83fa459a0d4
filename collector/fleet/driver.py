"""The driver: places bundles on boxes, gives each its next server start, and brings home what they measure."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError
from collector.fleet import beyond, home, schedule
from collector.fleet import index as indexes
from collector.fleet.cluster import Cluster, Lost
from collector.fleet.index import BoxEntry, BundleEntry, Index, TaskEntry
from collector.fleet.limits import Limits
from collector.fleet.mirror import Mirror, Piece
from collector.fleet.order import Ended, Said, Told, Work
from collector.fleet.view import View
from collector.prepare import narrowed
from collector.probes.redact import redact
from collector.study import Study, dumps

__all__ = ["Driver"]

_ALL_MEASURED = "all that was planned is measured"
_LEFT = "the box is not in the cluster any more"
_TURN_S = 0.5
_LOOK_S = 2.0
_TRIES = 2  # a task that fails on a live box is tried once more there, then the box is given up
_BEGIN_S = 300.0  # Ray lists a dead node for a while, and an order to it waits for ever
_LEAST_MINUTES = 0.05  # less is left than a server start could use


class _Held(Struct):
    """A box that is at work."""

    bundle: BundleEntry
    tasks: list[TaskEntry] = field(default_factory=list)  # of the order that it carries out
    told: bool = False  # it has said something since it has that order
    asked: float = 0.0

    @property
    def words(self) -> str:
        """What it is at."""
        return f"{', '.join(t.variant for t in self.tasks)}: {self.tasks[0].words}"


class Driver:
    """One fleet, or its continuation.

    Args:
        folder: of the fleet, where the index and the bundles' mirrors lie.
        studies: of the runs, by number, with their secrets.
        stopping: whether somebody asked to stop.
    """

    def __init__(
        self,
        cluster: Cluster,
        index: Index,
        studies: dict[int, Study],
        folder: Path,
        limits: Limits,
        view: View,
        stopping: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._studies = studies
        self._folder = folder
        self._limits = limits
        self._view = view
        self._asked_to_stop = stopping
        self._held: dict[str, _Held] = {}
        self._stop = ""
        self._ticked = time.monotonic()
        self._looked = self._wrote = -1e9

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Measure until nothing is left that could be done, or a limit is reached."""
        self._save()
        while True:
            self._tick()
            if reason := self._limits.spent(self._index, _now()) or ("stopped" if self._asked_to_stop() else ""):
                self._halt(reason)
            if time.monotonic() - self._looked > _LOOK_S:
                self._look()
            for box in list(self._held):
                self._advance(box)
            self._wonder()
            for box, told in self._cluster.told(_TURN_S):
                self._take(box, told)
            self._view.show(self._index)
            if not self._held and (self._stop or schedule.over(self._index)):
                break
        self._close()

    def fetch(self) -> None:
        """What earlier drivers left on the boxes comes home first; boxes that are gone are lost."""
        alive = {s.box for s in self._cluster.look()}
        for entry in self._index.boxes:
            if entry.box not in alive:
                continue
            if entry.state != "released":
                entry.state, entry.reason = "released", ""
            for name in self._cluster.facts(entry.box).bundles:
                if name in [b.name for b in self._index.bundles]:
                    self._fetch(entry.box, name)
        for bundle in self._index.bundles:
            if bundle.box is not None and bundle.box not in alive and self._index.next_task(bundle.name):
                self._lose(bundle.box, _LEFT)
        schedule.again(self._index)

    def _look(self) -> None:
        """Which boxes live; what waits is placed on those that are free."""
        self._looked = time.monotonic()
        spots = self._cluster.look()
        for line in list(self._cluster.refused.values()):
            self._view.once(redact(line))
        if self._stop:
            return
        alive = {s.box for s in spots}
        for box in [b for b, held in self._held.items() if not held.tasks and b not in alive]:
            self._lose(box, _LEFT)  # it died between two server starts: no task tells of it
            self._release(box, "lost")
        for box, held in list(self._held.items()):
            if held.tasks and not held.told and box not in alive:
                self._fault(box, held, _LEFT, alive=False)
        for bundle in self._index.bundles:
            if bundle.state == "waiting" and bundle.box is not None and bundle.box not in alive:
                self._lose(bundle.box, _LEFT)
        today = datetime.datetime.now(datetime.UTC).date()
        for bundle in schedule.place(self._index, spots, self._studies, today):
            assert bundle.box is not None  # noqa: S101 - place gives one
            if not self._cluster.hold(bundle.box):
                self._view.once(f"box {bundle.box} is in use by others: waiting for it")
                bundle.state = "waiting"
                if not bundle.cells_done:
                    bundle.box = None
                continue
            self._hold(bundle, bundle.box)
        self._save()

    def _hold(self, bundle: BundleEntry, box: str) -> None:
        run = self._index.run(bundle.run)
        known = [b for b in self._index.boxes if b.box == box]
        entry = known[0] if known else BoxEntry(box=box, gpu=run.gpu)
        if not known:
            self._index.boxes.append(entry)
        entry.state, entry.reason, entry.gpus = "held", "", self._cluster.cards(box)
        entry.note = redact(self._cluster.facts(box).note)
        self._held[box] = _Held(bundle)
        self._view.say(box, f"{bundle.name}: {', '.join(bundle.variants)}")
        if entry.note:
            self._view.once(f"WARNING box {box}: {entry.note}")

    def _advance(self, box: str) -> None:
        """Give a box that waits its next server start, or let it go."""
        held = self._held[box]
        if held.tasks:
            return
        tasks = [] if self._stop else self._index.next_order(held.bundle.name)
        minutes = self._limits.for_task(self._index, _now(), self._usd_per_minute())
        if tasks and minutes is not None and minutes < _LEAST_MINUTES:
            self._halt("no time or money is left for another server start")
            tasks = []
        if not tasks:
            self._release(box)
            return
        run, first = self._index.run(held.bundle.run), tasks[0]
        work = Work(
            fleet=self._index.folder, box=box, bundle=held.bundle.name, gpu=run.gpu, study=dumps(self._study(held)),
            variants=tuple(t.variant for t in tasks), round=first.round, max_minutes=minutes,
            further=tuple(f for t in tasks for f in t.further), stress=first.kind == "stress",
            side_by_side=run.side_by_side and len(tasks) > 1,
        )  # fmt: skip
        for task in tasks:
            task.state, task.reason = "running", ""
        held.tasks, held.told, held.asked = tasks, False, time.monotonic()
        self._view.say(box, held.words)
        self._cluster.measure(work, self._mirror(held.bundle.name).have())
        self._save()

    def _study(self, held: _Held) -> Study:
        """All that a bundle measures."""
        return narrowed(self._studies[held.bundle.run], tuple(held.bundle.variants))

    def _wonder(self) -> None:
        """A box that does not take up its order is given up: what a dead node was sent would wait for ever."""
        for box, held in list(self._held.items()):
            if held.tasks and not held.told and time.monotonic() - held.asked > _BEGIN_S:
                self._fault(box, held, f"the box did not take up its order within {_BEGIN_S:g} s", alive=False)

    def _release(self, box: str, state: str = "released") -> None:
        held = self._held.pop(box)
        if held.bundle.state == "running":
            held.bundle.state = "interrupted"
        self._index.box(box).state = state  # type: ignore[assignment]
        self._cluster.release(box)
        self._save()

    # -- what boxes tell -----------------------------------------------------------------------------------------

    def _take(self, box: str, told: Told | Lost) -> None:
        held = self._held[box]
        held.told = True
        if isinstance(told, Piece):
            self._write(held, told)
        elif isinstance(told, Said):
            self._view.say(box, redact(told.line))
        elif isinstance(told, Ended):
            self._ended(box, held, told)
        else:
            self._fault(box, held, told.reason, alive=told.alive)

    def _write(self, held: _Held, piece: Piece) -> None:
        mirror = self._mirror(held.bundle.name)
        try:
            mirror.take(piece)
        except QuantcaseError as e:
            self._view.once(str(e))  # the hashes at the end tell what is missing at home
        if piece.path == "cells.csv":
            self._count(held.bundle)
            self._save(now=False)

    def _count(self, bundle: BundleEntry) -> None:
        cells = self._folder / bundle.name / "cells.csv"
        bundle.cells_done = max(cells.read_bytes().count(b"\n") - 1, 0) if cells.is_file() else 0

    def _ended(self, box: str, held: _Held, told: Ended) -> None:
        mirror, tasks = self._mirror(held.bundle.name), held.tasks
        if told.hashes and (wrong := mirror.differs(told.hashes)):
            self._view.say(box, f"{len(wrong)} files differ at home: fetching them")
            try:
                self._fetch(box, held.bundle.name)
            except QuantcaseError as e:
                self._fault(box, held, str(e), alive=True)
                return
            if mirror.differs(told.hashes):
                self._fault(box, held, f"{wrong[0]} does not come home whole", alive=True)
                return
        self._count(held.bundle)
        if told.problem:
            self._fault(box, held, told.problem, alive=True)
            return
        held.tasks = []
        schedule.ended(self._index, tasks, _cleaned(told))
        for task in (t for t in tasks if t.state == "failed"):
            self._view.say(box, f"{task.variant} failed: {task.reason}")
        self._extend(box, held)
        if any(t.state == "waiting" for t in tasks) and not self._stop:
            self._halt(told.ended_by)
        self._save()

    def _extend(self, box: str, held: _Held) -> None:
        """Extra rounds follow from the rows, all of which are at home. Before the index is saved: none is forgotten."""
        if self._index.run(held.bundle.run).until_precise is None:
            return
        try:
            cells = open_bundle(self._folder / held.bundle.name).cells()
        except QuantcaseError as e:
            self._view.say(box, f"no extra rounds: {redact(str(e))}")
            return
        if words := beyond.extend(self._index, held.bundle, self._study(held), cells):
            self._view.say(box, words)

    def _fault(self, box: str, held: _Held, reason: str, *, alive: bool) -> None:
        """The box's or the collector's fault, not the engine's: once more on a live box, else on another one."""
        reason = redact(reason)
        self._view.say(box, f"{held.words}: {reason}")
        tasks, held.tasks = held.tasks, []
        for task in tasks:
            task.tries += 1
            task.state, task.reason = "waiting", reason
        if alive and (max(t.tries for t in tasks) < _TRIES or self._stop):
            self._save()
            return
        self._lose(box, reason)
        self._release(box, "lost")

    def _lose(self, box: str, reason: str) -> None:
        schedule.lose(self._index, box, reason)
        for bundle in self._index.bundles:
            if bundle.box == box and bundle.state == "interrupted":
                self._seal(bundle)
        self._view.say(box, f"lost: {reason}")

    def _seal(self, bundle: BundleEntry) -> None:
        """Close what came home of it. What its rows tell is known; an extra round that was cut leaves it complete."""
        waiting = [t for t in self._index.tasks_of(bundle.name) if t.state == "waiting"]
        status, done = home.seal(self._folder / bundle.name, waiting, stress=self._index.run(bundle.run).stress)
        for task in done:
            task.state, task.reason = "done", ""
        self._count(bundle)
        if status == "complete" and not any(t.state == "waiting" and t.kind != "precise" for t in waiting):
            bundle.state = "complete"

    def _fetch(self, box: str, name: str) -> None:
        mirror = self._mirror(name)
        for piece in self._cluster.fetch(box, name, mirror.have()):
            mirror.take(piece)
        self._count(self._index.bundle(name))

    def _mirror(self, name: str) -> Mirror:
        return Mirror(self._folder / name)

    # -- money, time, the end ------------------------------------------------------------------------------------

    def _usd_per_minute(self) -> float:
        """Of all boxes that are held."""
        return sum(self._price(box) or 0.0 for box in self._held)

    def _price(self, box: str) -> float | None:
        price = self._index.run(self._held[box].bundle.run).usd_per_hour
        return None if price is None else price * max(self._index.box(box).gpus, 1) / 60

    def _tick(self) -> None:
        """Every held box is paid for, whatever it does."""
        now = time.monotonic()
        minutes, self._ticked = (now - self._ticked) / 60, now
        for box, held in self._held.items():
            price = self._price(box)
            entries: list[tuple[BoxEntry | TaskEntry, float]] = [(self._index.box(box), minutes)]
            entries += [(task, minutes / len(held.tasks)) for task in held.tasks]
            for entry, share in entries:
                entry.minutes += share
                if price is not None:
                    entry.usd = (entry.usd or 0.0) + share * price

    def _halt(self, reason: str) -> None:
        if not self._stop:
            self._stop = reason
            self._view.once(f"{reason}: ending the servers")
            for box, held in self._held.items():
                if held.tasks:
                    self._cluster.stop(box, held.bundle.name)

    def _close(self) -> None:
        left = [t for t in self._index.tasks if t.state in ("waiting", "failed")]
        self._index.ended_by = self._stop or (_ALL_MEASURED if not left else f"{len(left)} server starts are missing")
        self._save()
        if not left:  # else a continuation finds its bundles where they are
            alive = {s.box for s in self._cluster.look()}
            for entry in self._index.boxes:
                if entry.state == "released" and entry.box in alive:
                    try:
                        self._cluster.clear(entry.box)
                    except QuantcaseError as e:
                        self._view.once(redact(str(e)))

    def _save(self, *, now: bool = True) -> None:
        """The index, whole; a mere step forward at most once a second."""
        if now or time.monotonic() - self._wrote > 1:
            self._wrote = time.monotonic()
            self._index.updated = _now().isoformat(timespec="seconds")
            indexes.write(self._folder, self._index)


def _cleaned(told: Ended) -> Ended:
    told.failed.update({name: redact(why) for name, why in told.failed.items()})
    return told


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
