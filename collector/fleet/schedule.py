"""Who measures what where: pure functions over the index. Ray carries out what is decided here.

A bundle is one box's. Its tasks are server starts in the study's own interleaved order, one after another there. When a
box is lost, what it had not finished goes, with the baseline, to a box that has none of that run yet; where there is
none, to a box that has the baseline already, as more variants of its bundle. Extra rounds and the stress: beyond.py.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from collector import gpus
from collector.bundle.schema import Grade
from collector.design import order
from collector.engines import registry
from collector.fleet import beyond
from collector.fleet.index import BundleEntry, Index, RunEntry, TaskEntry
from collector.fleet.order import Ended
from collector.fleet.study import Asked
from collector.prepare import narrowed
from collector.quality.judge import passes_wanted
from collector.study import Study

__all__ = ["Spot", "again", "ended", "lose", "over", "place", "plan", "steps"]

Studies = Mapping[int, Study]  # by the run's number


class Spot(Struct, frozen=True, kw_only=True):
    """A live box of the cluster."""

    box: str
    profiles: tuple[str, ...] = ()  # of its cards
    types: tuple[str, ...] = ()  # accelerator types and custom resources that Ray knows it by
    free: bool = True


def steps(study: Study, grade: Grade, variants: Sequence[str] | None = None) -> Iterator[tuple[int, str]]:
    """(round, variant) of every server start, as a single run would make them; only of these variants if any are given.

    The rounds after the study's own starts are quality passes that need a server start of their own.
    """
    passes = {v.name: passes_wanted(study, v.name, grade=grade) for v in study.variants}
    for number in range(1, max(study.starts, *passes.values()) + 1):
        for name in order(study, number):
            if (number <= study.starts or passes[name] >= number) and (variants is None or name in variants):
                yield number, name


def plan(index: Index, asked: Sequence[Asked], today: datetime.date) -> None:
    """Enter every run, bundle and server start that was asked for."""
    for number, one in enumerate(asked, 1):
        price = one.study.price
        entry = RunEntry(
            number=number, gpu=one.profile.name, study=one.study.id, boxes=one.run.boxes, ray_type=one.run.ray_type,
            usd_per_hour=price.usd_per_hour if price else None, price_source=price.source if price else "",
            until_precise=one.run.precision, side_by_side=one.run.side_by_side, stress=one.run.stress,
        )  # fmt: skip
        index.runs.append(entry)
        for _ in range(entry.boxes):
            _add(index, entry, one.study, today)


def _add(index: Index, run: RunEntry, study: Study, day: datetime.date, continues: str = "") -> BundleEntry:
    base, n = f"{day:%Y-%m-%d}-{run.gpu}-{study.id}", 1
    name, known = base, {b.name for b in index.bundles}
    while name in known:
        n += 1
        name = f"{base}-{n}"
    entry = BundleEntry(name=name, run=run.number, variants=[v.name for v in study.variants], continues=continues)
    index.bundles.append(entry)
    _add_tasks(index, entry, study)
    return entry


def _add_tasks(index: Index, entry: BundleEntry, study: Study, variants: Sequence[str] | None = None) -> None:
    grade = registry.engine(study.engine.name).grade
    for number, variant in steps(study, grade, variants):
        index.tasks.append(TaskEntry(number=len(index.tasks) + 1, bundle=entry.name, variant=variant, round=number))
    extra = sum(len(t.further) for t in index.tasks_of(entry.name)) * study.repeats
    entry.cells_planned = study.cells_planned + extra
    beyond.add_stress(index, entry, study, grade, variants)


def place(index: Index, spots: Sequence[Spot], studies: Studies, today: datetime.date) -> list[BundleEntry]:
    """Give boxes to what waits for one; returns the bundles that a free box begins or goes on with now.

    What no box of the cluster can take is marked failed, with the reason. A new bundle bears today's date.
    """
    gone = {b.box for b in index.boxes if b.state == "lost"}  # Ray may not know it yet
    spots = [s for s in spots if s.box not in gone]
    free = [s for s in spots if s.free]
    taken: list[BundleEntry] = []

    def take(bundle: BundleEntry, spot: Spot) -> None:
        free.remove(spot)
        bundle.box, bundle.state = spot.box, "running"
        taken.append(bundle)

    for bundle in [b for b in index.bundles if _lost(index, b)]:
        if (moved := _move(index, bundle, spots, free, studies, today)) is not None:
            take(*moved)
    for bundle in [b for b in index.bundles if b.state == "waiting" and b.box is not None]:
        if spot := next((s for s in free if s.box == bundle.box), None):
            take(bundle, spot)
    for bundle in [b for b in index.bundles if b.state == "waiting" and b.box is None]:
        fresh = _fresh(index, index.run(bundle.run), spots)
        if spot := next((s for s in fresh if s in free), None):
            take(bundle, spot)
        elif not fresh:
            why = f"no box for it: the cluster has no {'other ' if _used(index, bundle.run) else ''}free box of type "
            _fail(index, bundle, why + index.run(bundle.run).gpu)
    return taken


def _fits(run: RunEntry, spot: Spot) -> bool:
    if run.ray_type and run.ray_type not in spot.types:
        return False
    return gpus.get(run.gpu).kind != "gpu" or run.gpu in spot.profiles


def _used(index: Index, run: int) -> set[str]:
    return {b.box for b in index.bundles if b.run == run and b.box is not None}


def _fresh(index: Index, run: RunEntry, spots: Sequence[Spot]) -> list[Spot]:
    """Boxes of the right type that measure or measured nothing of this run: a second bundle there is no second box."""
    used = _used(index, run.number)
    return [s for s in spots if _fits(run, s) and s.box not in used]


def _fail(index: Index, bundle: BundleEntry, reason: str) -> None:
    for task in index.tasks_of(bundle.name):
        if task.state == "waiting":
            task.state, task.reason = "failed", reason
    if bundle.state == "waiting":
        bundle.state = "failed"


def _move(
    index: Index,
    lost: BundleEntry,
    spots: Sequence[Spot],
    free: Sequence[Spot],
    studies: Studies,
    today: datetime.date,
) -> tuple[BundleEntry, Spot] | None:
    """Find another box for what a lost one had not finished: a new bundle and its box, where one is to be begun now."""
    waiting = [t for t in index.tasks_of(lost.name) if t.state == "waiting"]
    run, study = index.run(lost.run), studies[lost.run]
    needed = list(dict.fromkeys(t.variant for t in waiting if t.kind == "planned"))
    beyond.stranded(index, lost, [t for t in waiting if t.variant not in needed])
    open_tasks = [t for t in waiting if t.variant in needed]
    if not open_tasks:
        return None
    fresh = _fresh(index, run, spots)
    if spot := next((s for s in fresh if s in free), None):
        new = _add(index, run, narrowed(study, (study.baseline, *needed)), today, lost.name)
        _moved(open_tasks, f"measured anew in {new.name}: {index.box(lost.box or '').reason}")
        return new, spot
    if not fresh:  # else one that is busy now will be free
        alive = {s.box for s in spots}
        others = [b for b in index.bundles if b.run == lost.run and b.box in alive]
        if not others:
            reason = index.box(lost.box or "").reason
            _fail(index, lost, f"{reason}; no other free box of type {run.gpu}")
        for other in others:
            if _take_over(index, other, open_tasks, study):
                break
    return None


def _take_over(index: Index, other: BundleEntry, open_tasks: Sequence[TaskEntry], study: Study) -> bool:
    """Let a box that measured this run already stand for the lost one; False while it is not known whether it can."""
    there = [t for t in index.tasks_of(other.name) if t.variant in other.variants]
    if not all(t.state in ("done", "failed") for t in there):
        return False
    for task in (t for t in open_tasks if t.variant in other.variants):
        if all(t.state == "done" for t in there if (t.variant, t.kind) == (task.variant, task.kind)):
            _moved([task], f"measured in {other.name} already")
        else:
            task.state, task.reason = "failed", f"failed in {other.name}, too"
    lacking = list(dict.fromkeys(t.variant for t in open_tasks if t.variant not in other.variants))
    if lacking:
        other.variants = [v.name for v in study.variants if v.name in (*other.variants, *lacking)]
        _add_tasks(index, other, narrowed(study, tuple(other.variants)), lacking)
        other.state = "waiting"
        _moved([t for t in open_tasks if t.variant in lacking], f"measured in {other.name}")
    return True


def _moved(tasks: Sequence[TaskEntry], reason: str) -> None:
    for task in tasks:
        task.state, task.reason = "moved", reason


def ended(index: Index, tasks: Sequence[TaskEntry], told: Ended) -> None:
    """Enter how the server starts of one order ended. What the engine could not do is not tried again in this fleet."""
    bundle = index.bundle(tasks[0].bundle)
    for task in tasks:
        reason = told.failed.get(task.variant, "")
        if reason or task.variant in told.hopeless:
            reason = reason or "the engine or the card cannot serve it"
            for later in index.tasks_of(task.bundle):
                if later.variant == task.variant and later.state in ("running", "waiting"):
                    later.state, later.reason = "failed", reason
        elif told.done:
            task.state, task.reason = "done", ""
        else:
            task.state, task.reason = "waiting", told.problem or told.ended_by
    if index.next_task(bundle.name) is None:
        bundle.state = told.status if told.status in ("complete", "failed") else "interrupted"  # type: ignore[assignment]


def lose(index: Index, box: str, reason: str) -> None:
    """A box is gone or of no use: what it has not finished waits for another one."""
    entry = index.box(box)
    entry.state, entry.reason = "lost", reason
    for bundle in index.bundles:
        if bundle.box == box and bundle.state in ("running", "waiting"):
            bundle.state = "interrupted"
            for task in index.tasks_of(bundle.name):
                if task.state == "running":
                    task.state, task.reason = "waiting", reason


def again(index: Index) -> None:
    """A fleet that is gone on with tries again what failed; what was under way waits."""
    for task in index.tasks:
        if task.state in ("running", "failed"):
            task.state, task.tries = "waiting", 0
    for bundle in index.bundles:
        if index.next_task(bundle.name) and not _lost(index, bundle):
            bundle.state = "waiting"
    index.ended_by = ""


def _lost(index: Index, bundle: BundleEntry) -> bool:
    return bundle.box is not None and index.box(bundle.box).state == "lost"


def over(index: Index) -> bool:
    """Whether nothing is left that this cluster could do."""
    return not any(t.state in ("waiting", "running") for t in index.tasks)
