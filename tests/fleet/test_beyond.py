"""Extra rounds, the stress, and whole rounds as one order: decided without Ray."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from collector import gpus
from collector import study as studies
from collector.bundle.schema import CellRow
from collector.design import order
from collector.fleet import beyond, schedule
from collector.fleet.index import BundleEntry, Index, TaskEntry
from collector.fleet.order import Ended, Further
from collector.fleet.schedule import Spot
from collector.fleet.start import unfinished
from collector.fleet.study import Asked, FleetRun
from collector.fleet.view import overview
from collector.prepare import narrowed
from collector.run import MOST_EXTRA_ROUNDS
from collector.study import Study
from tests.fleet.test_schedule import DAY, A, B, busy, place, states

NAMES = ("f16", "q8_0", "q4_k_m")


def planned(boxes: int = 1, starts: int = 2, **wishes: object) -> tuple[Index, dict[int, Study]]:
    """Three variants of the CPU study, which is really measured, on so many boxes; one cell, two repeats."""
    study = narrowed(studies.load("cpu"), NAMES)
    chat = msgspec.structs.replace(study.workloads[0], concurrency=[4])
    study = msgspec.structs.replace(study, starts=starts, repeats=2, workloads=[chat], quality=[], loadtest=None)
    index = Index(id="f", title="A fleet", key="0" * 8, started="now", collector_version="0")
    run = FleetRun(gpu="cpu", boxes=boxes, **wishes)  # type: ignore[arg-type]
    schedule.plan(index, [Asked(run, gpus.get("cpu"), study)], DAY)
    return index, {1: study}


def go_well(index: Index, bundle: BundleEntry, orders: int = 99, kind: str = "") -> None:
    """So many orders of a bundle are carried out, of that kind alone if one is named."""
    while orders and (tasks := index.next_order(bundle.name)) and kind in ("", tasks[0].kind):
        schedule.ended(index, tasks, Ended(done=True, status="complete"))
        orders -= 1


def row(variant: str, start: int, repeat: int, speed: float) -> CellRow:
    return CellRow(
        variant=variant, start=start, workload="chat", load="c4", repeat=repeat, n=8, ok=8, errors=0, timeouts=0,
        cut=0, throughput_tok_s=speed,
    )  # fmt: skip


def rows(study: Study, noise: dict[str, float], starts: int) -> list[CellRow]:
    """Two repeats a start; a variant's starts differ by its noise in turns."""
    return [
        row(v.name, s, r, 100 * (1 + noise.get(v.name, 0) * (-1) ** s))
        for s in range(1, starts + 1) for v in study.variants for r in (1, 2)
    ]  # fmt: skip


# -- extra rounds ----------------------------------------------------------------------------------------------------


def test_an_extra_round_has_the_open_variants_and_the_baseline_and_says_how_many_repeats_there_are_to_be() -> None:
    index, given = planned(until_precise="3%")
    (bundle,), study = index.bundles, given[1]
    go_well(index, bundle, orders=5)
    cells = rows(study, {"q4_k_m": 0.02}, starts=2)
    assert beyond.extend(index, bundle, study, cells) == ""  # a planned start is still to be made
    go_well(index, bundle)
    said = beyond.extend(index, bundle, study, cells)
    assert said.startswith("1 ratios are not known to 3.0% yet, least q4_k_m ")
    assert said.endswith(": extra round 3")
    extra = [t for t in index.tasks if t.kind == "precise"]
    assert [t.variant for t in extra] == [n for n in order(study, 3) if n in ("f16", "q4_k_m")]
    assert [t.further for t in extra] == [[Further(t.variant, "chat", "c4", 2 * 2 + 2)] for t in extra]
    assert (bundle.state, bundle.cells_planned) == ("running", 3 * 2 * 2 + 2 * 2)
    assert beyond.extend(index, bundle, study, cells) == ""  # one round at a time


def test_extra_rounds_end_when_all_is_known_or_they_were_enough() -> None:
    index, given = planned(until_precise="3%")
    (bundle,), study = index.bundles, given[1]
    go_well(index, bundle)
    wide = rows(study, {"q4_k_m": 0.2}, starts=2)
    for _ in range(MOST_EXTRA_ROUNDS):
        assert "extra round" in beyond.extend(index, bundle, study, wide)
        go_well(index, bundle)
    assert beyond.extend(index, bundle, study, wide) == "20 extra rounds were not enough for 3.0%"
    assert beyond.extend(index, bundle, study, rows(study, {}, starts=2)) == "every ratio is known to 3.0%"
    assert bundle.precision == "every ratio is known to 3.0%"
    assert (bundle.state, index.next_task(bundle.name)) == ("complete", None)
    assert not unfinished(index)


def test_what_could_not_be_measured_gets_no_extra_round() -> None:
    for failed, made in (("q4_k_m", {"f16", "q8_0"}), ("f16", set())):
        index, given = planned(until_precise="3%", starts=1)
        (bundle,) = index.bundles
        for task in index.tasks:
            why = {failed: "out of memory"} if task.variant == failed else {}
            schedule.ended(index, [task], Ended(done=True, failed=why))
        beyond.extend(index, bundle, given[1], rows(given[1], {"q8_0": 0.2, "q4_k_m": 0.2}, starts=2))
        assert {t.variant for t in index.tasks if t.kind == "precise"} == made
    assert bundle.precision == "no ratio: the baseline was not measured whole"


# -- side by side ----------------------------------------------------------------------------------------------------


def test_side_by_side_a_round_is_one_order_and_a_variant_that_failed_is_in_none() -> None:
    index, given = planned(side_by_side=True)
    (bundle,) = index.bundles
    first = index.next_order(bundle.name)
    assert [(t.variant, t.round) for t in first] == [(n, 1) for n in order(given[1], 1)]
    schedule.ended(index, first, Ended(done=True, failed={"q8_0": "crashed"}, status="interrupted"))
    assert Counter(t.state for t in first) == {"done": 2, "failed": 1}
    assert {(t.variant, t.round) for t in index.next_order(bundle.name)} == {("f16", 2), ("q4_k_m", 2)}
    alone, _ = planned()
    assert [t.variant for t in alone.next_order(alone.bundles[0].name)] == ["f16"]


def test_a_round_that_was_cut_waits_whole() -> None:
    index, _ = planned(side_by_side=True)
    (bundle,) = index.bundles
    bundle.state = "running"
    tasks = index.next_order(bundle.name)
    cut = Ended(done=False, ended_by="the time of 2 min is spent", failed={"q8_0": "crashed"}, status="interrupted")
    schedule.ended(index, tasks, cut)
    assert [t.variant for t in index.next_order(bundle.name)] == [t.variant for t in tasks if t.variant != "q8_0"]
    assert bundle.state == "running"


# -- the stress ------------------------------------------------------------------------------------------------------


def test_the_stress_is_one_more_start_of_each_variant_after_all_else() -> None:
    index, given = planned(stress=True, until_precise="3%", side_by_side=True)
    (bundle,) = index.bundles
    go_well(index, bundle, orders=2)
    assert [t.kind for t in index.next_order(bundle.name)] == ["stress"]  # alone, also where others stand side by side
    beyond.extend(index, bundle, given[1], rows(given[1], {"q8_0": 0.02}, starts=2))
    assert {t.kind for t in index.next_order(bundle.name)} == {"precise"}
    go_well(index, bundle, kind="precise")
    left = [t for t in index.tasks if t.state == "waiting"]
    assert {(t.variant, t.kind) for t in left} == {(n, "stress") for n in NAMES}
    go_well(index, bundle)
    assert bundle.state == "complete"


def test_a_replay_gets_no_stress() -> None:
    index = Index(id="f", title="", key="0" * 8, started="now", collector_version="0")
    schedule.plan(index, [Asked(FleetRun(gpu="demo", stress=True), gpus.get("demo"), studies.load("demo"))], DAY)
    assert {t.kind for t in index.tasks} == {"planned"}


def test_a_stress_that_failed_is_missing_and_tried_again() -> None:
    index, given = planned(stress=True, starts=1)
    (bundle,) = index.bundles
    place(index, [A], given)
    go_well(index, bundle, kind="planned")
    go_well(index, bundle, orders=2)
    (last,) = index.next_order(bundle.name)
    schedule.ended(index, [last], Ended(done=True, failed={last.variant: "no end"}, status="interrupted"))
    assert unfinished(index) == [last]
    schedule.again(index)
    assert index.next_order(bundle.name) == [last]


# -- lost boxes ------------------------------------------------------------------------------------------------------


def lost(spots: list[Spot], boxes: int, orders: int, **wishes: object) -> tuple[Index, dict[int, Study], BundleEntry]:
    """Box A is gone after so many server starts."""
    index, given = planned(boxes=boxes, starts=1, **wishes)
    place(index, spots, given)
    go_well(index, index.bundles[0], orders)
    index.bundles[0].state = "running"
    schedule.lose(index, A.box, "gone")
    return index, given, index.bundles[0]


def left_over(index: Index, bundle: BundleEntry) -> set[tuple[str, str, str]]:
    return {(t.variant, t.kind, t.state) for t in index.tasks_of(bundle.name) if t.state != "done"}


def test_nothing_is_measured_anew_for_the_stress_alone() -> None:
    index, given, gone = lost([A, B], 1, 4, stress=True)
    stressed = next(t.variant for t in index.tasks if t.kind == "stress" and t.state == "done")
    assert place(index, [B], given) == []
    assert left_over(index, gone) == {(n, "stress", "failed") for n in NAMES if n != stressed}
    (why,) = {t.reason for t in index.tasks if t.state == "failed"}
    assert why == "gone; what was planned is measured, and only that box could go on with it"
    assert len(unfinished(index)) == 2
    schedule.again(index)
    index.box(A.box).state, gone.state = "released", "waiting"  # it is back
    assert place(index, [A, B], given) == [(gone.name, A.box)]
    assert [t.kind for t in index.next_order(gone.name)] == ["stress"]


def test_the_stress_goes_along_with_a_variant_whose_plan_was_not_measured() -> None:
    index, given, gone = lost([A, B], 1, 2, stress=True)
    (open_variant,) = {t.variant for t in index.tasks if t.kind == "planned" and t.state == "waiting"}
    ((name, box),) = place(index, [B], given)
    assert box == B.box
    assert (open_variant, "stress", "moved") in left_over(index, gone)
    assert (open_variant, "planned", "moved") in left_over(index, gone)
    anew = Counter((t.variant, t.kind) for t in index.tasks_of(name))
    assert anew == {(v, kind): 1 for v in ("f16", open_variant) for kind in ("planned", "stress")}


def test_another_box_that_stresses_the_variant_stands_for_the_lost_one() -> None:
    index, given, gone = lost([A, B], 2, 3, stress=True)
    place(index, busy(B), given)
    assert left_over(index, gone) == {(n, "stress", "waiting") for n in NAMES}  # B has not come to it yet
    go_well(index, index.bundles[1])
    place(index, [B], given)
    assert left_over(index, gone) == {(n, "stress", "moved") for n in NAMES}
    assert not unfinished(index)


def test_a_box_that_stands_for_a_lost_one_has_failed_nothing_but_the_stress() -> None:
    index, given, gone = lost([A, B], 2, 2, stress=True)
    other = index.bundles[1]
    (open_variant,) = {t.variant for t in index.tasks_of(gone.name) if t.kind == "planned" and t.state == "waiting"}
    for task in index.tasks_of(other.name):
        why = {task.variant: "no end"} if (task.kind, task.variant) == ("stress", open_variant) else {}
        schedule.ended(index, [task], Ended(done=True, failed=why, status="interrupted"))
    place(index, [B], given)
    assert (open_variant, "planned", "moved") in left_over(index, gone)
    assert (open_variant, "stress", "failed") in left_over(index, gone)


def test_an_extra_round_of_a_lost_box_is_not_made_up_for() -> None:
    index, given = planned(boxes=1, starts=1, until_precise="3%")
    place(index, [A, B], given)
    (bundle,) = index.bundles
    go_well(index, bundle)
    beyond.extend(index, bundle, given[1], rows(given[1], {"q8_0": 0.2}, starts=2))
    schedule.lose(index, A.box, "gone")
    assert place(index, [B], given) == []
    assert left_over(index, bundle) == {(n, "precise", "failed") for n in ("f16", "q8_0")}


# -- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (TaskEntry(number=1, bundle="b", variant="v", round=2), "round 2"),
        (TaskEntry(number=1, bundle="b", variant="v", round=3, kind="precise"), "extra round 3"),
        (TaskEntry(number=1, bundle="b", variant="v", round=4, kind="stress"), "stress"),
    ],
)
def test_a_start_is_called_what_it_is(task: TaskEntry, words: str) -> None:
    assert task.words == words


def test_the_status_tells_what_was_asked_for_and_what_is_under_way() -> None:
    from rich.console import Console

    index, _ = planned(until_precise="3%", side_by_side=True, stress=True)
    for task in index.next_order(index.bundles[0].name):
        task.state = "running"
    index.bundles[0].precision = "every ratio is known to 3.0%"
    index.tasks[-1].state, index.tasks[-1].reason = "failed", "no end"
    console = Console(width=80, force_terminal=False)
    with console.capture() as shown:
        console.print(overview(index))
    assert max(map(len, shown.get().splitlines())) <= 80
    text = " ".join(shown.get().split())
    assert (
        f"run 1 (cpu {index.runs[0].study}): until every ratio is known to 3.0%, side by side, stress at last" in text
    )
    assert f"{index.bundles[0].name}: every ratio is known to 3.0%" in text
    assert f"{index.tasks[-1].variant} stress: failed: no end" in text
    running = [t.variant for t in index.tasks if t.state == "running"]
    assert f"{', '.join(running)}, round 1" in text
    assert "running" in states(index, index.bundles[0].name)[running[0]]
