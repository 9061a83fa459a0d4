"""What a fleet measures beyond its studies' plan: extra rounds and the stress. Pure functions over the index.

An extra round and the stress go on with what one box has measured: where that box is lost, they are not made up for on
another one, for which everything would have to be measured anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from collector.bundle.schema import CellRow, Grade
from collector.design import imprecise, order
from collector.fleet.index import BundleEntry, Index, TaskEntry
from collector.fleet.order import Further
from collector.run import MOST_EXTRA_ROUNDS
from collector.study import Study

__all__ = ["add_stress", "extend", "stranded"]

_STRESS_ROUNDS = 2  # a server that broke on one ladder is started anew for the other


def add_stress(
    index: Index, bundle: BundleEntry, study: Study, grade: Grade, variants: Sequence[str] | None = None
) -> None:
    """One server start more for each variant, or for these, that pushes it until it breaks. None for a replay, which
    breaks at nothing that is real.
    """
    if not index.run(bundle.run).stress or grade == "simulated":
        return
    number = max(t.round for t in index.tasks_of(bundle.name)) + _STRESS_ROUNDS
    for name in order(study, number):
        if variants is None or name in variants:
            _add(index, TaskEntry(number=0, bundle=bundle.name, variant=name, round=number, kind="stress"))


def extend(index: Index, bundle: BundleEntry, study: Study, cells: Sequence[CellRow]) -> str:
    """Another round of what is not known well enough, when all rounds of a bundle so far are measured and at home.

    It has those variants and the baseline, and those cells. Returns what came of it in words; nothing before its time.

    Args:
        study: of this bundle, with its variants alone.
        cells: all rows of it.
    """
    target = index.run(bundle.run).until_precise
    tasks = [t for t in index.tasks_of(bundle.name) if t.kind != "stress"]
    if target is None or any(t.state in ("waiting", "running") for t in tasks):
        return ""
    given_up = {t.variant for t in tasks if t.state != "done"}
    if study.baseline in given_up:
        bundle.precision = "no ratio: the baseline was not measured whole"
        return bundle.precision
    left = [i for i in imprecise(study, cells, target) if i.variant not in given_up]
    made = len({t.round for t in tasks if t.kind == "precise"})
    if not left:
        bundle.precision = f"every ratio is known to {target:.1%}"
    elif made >= MOST_EXTRA_ROUNDS:
        bundle.precision = f"{MOST_EXTRA_ROUNDS} extra rounds were not enough for {target:.1%}"
    if not left or made >= MOST_EXTRA_ROUNDS:
        return bundle.precision
    widest = max(left, key=lambda i: i.half_width)
    number = max(t.round for t in tasks) + 1
    variants = {i.variant for i in left} | {study.baseline}
    points = list(dict.fromkeys((i.workload, i.load) for i in left))
    done = Counter((c.variant, c.workload, c.load) for c in cells)
    for name in order(study, number):
        if name in variants:
            further = [Further(name, w, load, done[(name, w, load)] + study.repeats) for w, load in points]
            task = TaskEntry(number=0, bundle=bundle.name, variant=name, round=number, kind="precise", further=further)
            _add(index, task)
    bundle.cells_planned += len(variants) * len(points) * study.repeats
    bundle.state, bundle.precision = "running", ""
    return (
        f"{len(left)} ratios are not known to {target:.1%} yet, least {widest.variant} {widest.workload} {widest.load} "
        f"(±{widest.half_width:.1%}): extra round {number}"
    )


def _add(index: Index, task: TaskEntry) -> None:
    task.number = len(index.tasks) + 1
    index.tasks.append(task)


def stranded(index: Index, lost: BundleEntry, tasks: Sequence[TaskEntry]) -> None:
    """Extra rounds and the stress of variants whose plan a lost box had measured. Where another box of the run stresses
    the variant, too, it stands for the lost one; the rest is failed.
    """
    why = f"{index.box(lost.box or '').reason}; what was planned is measured, and only that box could go on with it"
    for task in tasks:
        same = [
            t
            for b in index.bundles
            if b.run == lost.run and b is not lost
            for t in index.tasks_of(b.name)
            if task.kind == "stress" and (t.kind, t.variant) == ("stress", task.variant)
        ]
        if done := next((t for t in same if t.state == "done"), None):
            task.state, task.reason = "moved", f"measured in {done.bundle} already"
        elif not any(t.state in ("waiting", "running") for t in same):
            task.state, task.reason = "failed", why
