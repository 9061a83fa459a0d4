"""Who measures what where, decided without Ray."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from collector import gpus
from collector import study as studies
from collector.bundle.manifest import MANIFEST
from collector.design import order
from collector.errors import QuantcaseError
from collector.fleet import index as indexes
from collector.fleet import schedule
from collector.fleet.index import BoxEntry, BundleEntry, Index
from collector.fleet.limits import Limits
from collector.fleet.order import Ended
from collector.fleet.schedule import Spot
from collector.fleet.start import unfinished
from collector.fleet.study import Asked, FleetRun
from collector.fleet.view import overview
from collector.study import Price, Study

DAY = datetime.date(2026, 11, 21)
A, B, C = (Spot(box=name * 12) for name in "abc")


def planned(boxes: int = 2, price: float | None = 2.0, starts: int = 2) -> tuple[Index, dict[int, Study]]:
    """The demo study (bf16, fp8, awq) on so many boxes."""
    study = msgspec.structs.replace(studies.load("demo"), starts=starts)
    if price is not None:
        study.price = Price(usd_per_hour=price, source="a test", date="2026-11-21")
    index = Index(id="f", title="A fleet", key="0" * 8, started="now", collector_version="0")
    schedule.plan(index, [Asked(FleetRun(gpu="demo", boxes=boxes), gpus.get("demo"), study)], DAY)
    return index, {1: study}


def place(
    index: Index, spots: list[Spot], given: dict[int, Study], today: datetime.date = DAY
) -> list[tuple[str, str | None]]:
    """As the driver does: who gets a box is held, and known."""
    taken = schedule.place(index, spots, given, today)
    known = {b.box for b in index.boxes}
    index.boxes += [BoxEntry(box=b.box, gpu="demo") for b in taken if b.box is not None and b.box not in known]
    return [(b.name, b.box) for b in taken]


def busy(*spots: Spot) -> list[Spot]:
    return [msgspec.structs.replace(s, free=False) for s in spots]


def measure(index: Index, bundle: str, starts: int | None = None, variants: str = "bf16 fp8 awq") -> None:
    """That many server starts go well."""
    for task in index.tasks_of(bundle)[:starts]:
        if task.variant in variants.split() and task.state == "waiting":
            last = [t for t in index.tasks_of(bundle) if t.state == "waiting"] == [task]
            schedule.ended(index, [task], Ended(done=True, status="complete" if last else "interrupted"))


def states(index: Index, bundle: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for task in index.tasks_of(bundle):
        found.setdefault(task.variant, set()).add(task.state)
    return found


def test_a_bundle_per_box_in_the_studys_own_order() -> None:
    index, given = planned()
    assert [b.name for b in index.bundles] == ["2026-11-21-demo-demo", "2026-11-21-demo-demo-2"]
    for bundle in index.bundles:
        tasks = [(t.round, t.variant) for t in index.tasks_of(bundle.name)]
        assert tasks == [(n, v) for n in (1, 2) for v in order(given[1], n)]
    assert [b.cells_planned for b in index.bundles] == [3 * 3 * 3 * 2] * 2  # variants, cells, repeats, starts


def test_quality_passes_have_rounds_of_their_own() -> None:
    study = msgspec.structs.replace(studies.load("cpu"), starts=1)
    rounds = list(schedule.steps(study, "measured"))
    assert rounds[len(study.variants) :] == [(2, study.baseline)]
    assert len(list(schedule.steps(study, "simulated"))) == len(study.variants)


def test_two_boxes_of_a_run_are_two_machines() -> None:
    index, given = planned()
    assert place(index, [A], given) == [("2026-11-21-demo-demo", A.box)]
    second = index.bundles[1]
    assert (second.state, {t.reason for t in index.tasks_of(second.name)}) == (
        "failed",
        {"no box for it: the cluster has no other free box of type demo"},
    )
    index, given = planned()
    assert place(index, [A, *busy(B)], given) == [("2026-11-21-demo-demo", A.box)]
    assert index.bundles[1].state == "waiting"  # B will be free
    assert place(index, [*busy(A), B], given) == [("2026-11-21-demo-demo-2", B.box)]


def test_a_gpu_run_wants_its_cards_and_its_ray_type() -> None:
    index, given = planned(boxes=1)
    index.runs[0].gpu, index.runs[0].ray_type = "h200", "H200"
    wrong = [Spot(box="x", profiles=("l4",), types=("L4",)), Spot(box="y", profiles=("h200",), types=("other",))]
    assert place(index, [*wrong, *busy(Spot(box="z", profiles=("h200",), types=("H200",)))], given) == []
    assert index.bundles[0].state == "waiting"
    assert place(index, [*wrong, Spot(box="z", profiles=("h200",), types=("H200",))], given)[0][1] == "z"


def lost(spots: list[Spot]) -> tuple[Index, dict[int, Study], BundleEntry]:
    """Box A is gone after bf16 and the second variant of round 1; B is under way."""
    index, given = planned()
    place(index, spots, given)
    measure(index, "2026-11-21-demo-demo", starts=2)
    schedule.lose(index, A.box, "the box was lost")
    return index, given, index.bundles[0]


def test_what_a_lost_box_had_not_finished_goes_with_the_baseline_to_a_spare_box() -> None:
    index, given, gone = lost([A, B, C])
    done = {v for v, state in states(index, gone.name).items() if "done" in state}
    assert len(done) == 2
    assert place(index, [C, *busy(B)], given) == [("2026-11-21-demo-demo-3", C.box)]
    new = index.bundle("2026-11-21-demo-demo-3")
    assert (new.continues, new.variants) == (gone.name, ["bf16", "fp8", "awq"])  # round 2 of all was open
    assert {t.state for t in index.tasks_of(gone.name)} == {"done", "moved"}
    assert len(index.tasks_of(new.name)) == 6
    assert place(index, [C, *busy(B)], given) == []


def test_a_bundle_begun_after_midnight_bears_the_day_it_was_begun() -> None:
    index, given, _ = lost([A, B, C])
    assert place(index, [C, *busy(B)], given, DAY + datetime.timedelta(days=1)) == [("2026-11-22-demo-demo", C.box)]


def test_only_unfinished_variants_go() -> None:
    index, given = planned(starts=1)
    place(index, [A, B, C], given)
    first = index.bundles[0]
    tasks = index.tasks_of(first.name)
    measure(index, first.name, starts=2)
    schedule.lose(index, A.box, "gone")
    place(index, [C, *busy(B)], given)
    (new,) = (b for b in index.bundles if b.continues)
    assert set(new.variants) == {"bf16", tasks[2].variant}
    assert [(t.round, t.variant) for t in index.tasks_of(new.name)] == [(1, "bf16"), (1, tasks[2].variant)]


def test_a_lost_box_waits_for_one_that_is_busy_with_another_run() -> None:
    index, given, gone = lost([A, B])
    assert place(index, [*busy(B, C)], given) == []
    assert "waiting" in states(index, gone.name)["bf16"]


def test_without_a_spare_box_the_other_one_of_the_run_stands_for_it() -> None:
    index, given, gone = lost([A, B])
    place(index, busy(B), given)
    assert "waiting" in states(index, gone.name)["bf16"]  # B has not measured everything yet
    measure(index, index.bundles[1].name)
    assert index.bundles[1].state == "complete"
    assert place(index, [B], given) == []
    assert {t.state for t in index.tasks_of(gone.name)} == {"done", "moved"}
    assert {t.reason for t in index.tasks_of(gone.name) if t.state == "moved"} == {
        "measured in 2026-11-21-demo-demo-2 already"
    }
    assert schedule.over(index)
    assert not unfinished(index)


def test_a_box_with_the_baseline_takes_only_what_it_lacks() -> None:
    """B measures what was left of A (bf16 and one more); then D is lost with another variant: B has its baseline."""
    index, given = planned(starts=1)
    place(index, [A, B], given)
    first, second = index.bundles
    open_first = index.tasks_of(first.name)[2].variant
    measure(index, first.name, starts=2)
    schedule.lose(index, A.box, "gone")
    place(index, [C, *busy(B)], given)
    (spare,) = (b for b in index.bundles if b.continues)
    measure(index, spare.name)
    assert spare.state == "complete"
    open_second = next(v for v in ("fp8", "awq") if v != open_first)
    measure(index, second.name, variants=f"bf16 {open_first}")
    schedule.lose(index, B.box, "gone, too")
    assert place(index, [C], given) == [(spare.name, C.box)]
    assert set(spare.variants) == {"bf16", "fp8", "awq"}
    waiting = [(t.variant, t.round) for t in index.tasks_of(spare.name) if t.state == "waiting"]
    assert waiting == [(open_second, 1)]
    assert states(index, second.name)[open_second] == {"moved"}
    assert spare.cells_planned == 3 * 3 * 3


def test_with_no_box_left_it_is_reported_and_tried_again_later() -> None:
    index, given = planned(boxes=1)
    place(index, [A], given)
    schedule.lose(index, A.box, "the box was lost")
    place(index, [], given)
    assert {t.reason for t in index.tasks} == {"the box was lost; no other free box of type demo"}
    assert schedule.over(index)
    assert len(unfinished(index)) == 6
    schedule.again(index)
    assert place(index, [B], given) == [("2026-11-21-demo-demo-2", B.box)]


def test_what_the_engine_cannot_do_is_not_tried_on_every_box() -> None:
    index, given = planned(boxes=1)
    place(index, [A, B], given)
    task = next(t for t in index.tasks if t.variant == "fp8")
    schedule.ended(
        index, [task], Ended(done=True, failed={"fp8": "out of memory"}, hopeless=("fp8",), status="interrupted")
    )
    assert states(index, index.bundles[0].name)["fp8"] == {"failed"}
    measure(index, index.bundles[0].name)
    assert index.bundles[0].state == "complete"
    assert not unfinished(index)  # a finding, and recorded


def test_a_start_that_was_cut_waits() -> None:
    index, given = planned(boxes=1)
    place(index, [A], given)
    index.tasks[0].state = "running"
    schedule.ended(
        index, [index.tasks[0]], Ended(done=False, ended_by="the time of 2 min is spent", status="interrupted")
    )
    assert (index.tasks[0].state, index.tasks[0].reason) == ("waiting", "the time of 2 min is spent")
    assert index.next_task(index.tasks[0].bundle) is index.tasks[0]


def test_the_index_comes_back_as_it_was(tmp_path: Path) -> None:
    index, given, _ = lost([A, B, C])
    place(index, [C, *busy(B)], given)
    indexes.write(tmp_path, index)
    assert indexes.read(tmp_path) == index
    assert not (tmp_path / MANIFEST).exists()
    (tmp_path / indexes.FILE).write_text('{"format": 1}')
    with pytest.raises(QuantcaseError, match=r"fleet.json cannot be read: Object missing required field `id`"):
        indexes.read(tmp_path)
    with pytest.raises(QuantcaseError, match=r"no fleet.json; name the folder of a fleet"):
        indexes.read(tmp_path / "nowhere")


def test_the_table_fits_into_80_columns() -> None:
    index, given, _ = lost([A, B, C])
    place(index, [C, *busy(B)], given)
    index.tasks_of("2026-11-21-demo-demo-2")[0].state = "running"
    index.title = "A title of a fleet that is long enough to need more than a single line of eighty columns"
    index.boxes[0].usd, index.boxes[0].minutes = 1.5, 45.0
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(overview(index))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(shown.get().split())
    for words in ("bf16, round 1", "box lost, 4 starts moved", A.box[:8], "45.0 box minutes, $1.50", "0/54"):
        assert words in text
    assert f"box {A.box}: lost: the box was lost" in text


def test_limits_count_all_boxes() -> None:
    index, _ = planned()
    index.boxes = [BoxEntry(box="a", gpu="demo", usd=1.0), BoxEntry(box="b", gpu="demo", usd=2.0)]
    now = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
    limits = Limits(max_usd=5.0, by=now + datetime.timedelta(minutes=90))
    assert limits.minutes_left(index, now, usd_per_minute=0.04) == pytest.approx(50)  # 2 of 5 dollars are left
    assert limits.for_task(index, now, usd_per_minute=0.04) == pytest.approx(49)  # and a minute to end in
    assert limits.minutes_left(index, now, usd_per_minute=0.01) == pytest.approx(90)
    assert limits.spent(index, now) == ""
    index.boxes[0].usd = 3.0
    assert limits.spent(index, now) == "the money of $5 is spent"
    assert limits.spent(Index(id="f", title="", key="", started="", collector_version=""), now.replace(hour=14)) == (
        "the time is over"
    )
