"""The driver over rows that lie at home: what they ask for next, and what they say of a box that is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from collector import gpus
from collector import study as studies
from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from collector.bundle.schema import CellRow, Environment
from collector.bundle.stress import StressRow, append_row, outcome, read_stress
from collector.bundle.write import BundleWriter
from collector.describe import first_row
from collector.fleet import child, driver, home
from collector.fleet.driver import Driver
from collector.fleet.index import Index
from collector.fleet.limits import Limits
from collector.fleet.order import Ended, Further, Work
from collector.fleet.view import View
from collector.prepare import narrowed
from collector.stress import ladders
from collector.study import Study, Workload, dumps, loads
from tests.fleet.test_beyond import planned, row
from tests.fleet.test_driver import Boxes

SPEED = {"f16": 100.0, "q8_0": 150.0, "q4_k_m": 200.0}


def write(folder: Path, study: Study, rows: Sequence[CellRow]) -> BundleWriter:
    """A bundle that is begun or gone on with, as a box's collector would; it is open."""
    gone_on = folder.is_dir()
    writer = BundleWriter.resume(folder) if gone_on else BundleWriter.create(
        folder, study, grade="measured", gpu="cpu", cells_planned=study.cells_planned,
        environment=Environment(gpu_asked="cpu"),
    )  # fmt: skip
    for made in rows:
        writer.add_repeat([], [], made)
        served = first_row(study.variant(made.variant), made.start, study.engine.name)
        served.exit_state = "ok"
        writer.set_variant(served)
    return writer


class Measuring(Boxes):
    """A box whose rows are at home the moment it has its order. Starts differ by 20 % until the fourth."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Ended(done=True, status="complete"), lives=99)
        self._folder = folder
        self.orders: list[Work] = []

    def measure(self, work: Work, _have: object) -> None:
        super().measure(work, {})
        self.orders.append(work)
        folder = self._folder / work.bundle
        if folder.is_dir():
            child.prepared(folder, work, loads(work.study))
        done = open_bundle(folder).cells() if folder.is_dir() else []
        begun = {v: max((c.start for c in done if c.variant == v), default=0) for v in work.variants}
        noise = [0.8, 1.2, 1.0]
        made = [
            row(v, n + 1, r, SPEED[v] * (noise[n] if n < 2 and v == "q8_0" else 1 + 0.001 * n))
            for v, n in begun.items() for r in (1, 2)
        ]  # fmt: skip
        study = loads(work.study)
        whole = len(done) + len(made) >= study.cells_planned
        write(folder, study, made).close("complete" if whole else "interrupted")


def driven(boxes: Boxes, folder: Path, index: Index, given: dict[int, Study]) -> None:
    with View(Console(quiet=True)) as view:
        limits = Limits(max_usd=None, by=None)
        Driver(boxes, index, given, folder, limits, view, lambda: False).run()  # type: ignore[arg-type]


def test_the_driver_orders_extra_rounds_until_the_rows_at_home_are_precise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_LOOK_S", -1.0)
    monkeypatch.setattr(Boxes, "clear", lambda *_: None, raising=False)
    index, given = planned(until_precise="20%", side_by_side=True)
    boxes = Measuring(tmp_path)
    driven(boxes, tmp_path, index, given)
    (bundle,) = index.bundles
    plan, extra = boxes.orders[:2], boxes.orders[2:]
    assert [set(w.variants) for w in plan] == [{"f16", "q8_0", "q4_k_m"}] * 2
    assert all(w.side_by_side and not w.further for w in plan)
    assert [set(w.variants) for w in extra] == [{"f16", "q8_0"}] * len(extra)
    for number, work in enumerate(extra, 3):
        assert set(work.further) == {Further(v, "chat", "c4", 2 * number) for v in work.variants}
    assert bundle.precision == "every ratio is known to 20.0%"
    assert (bundle.state, index.ended_by) == ("complete", "all that was planned is measured")
    cells = open_bundle(tmp_path / bundle.name).cells()
    assert len(cells) == bundle.cells_done == bundle.cells_planned == 12 + 4 * len(extra)
    assert len(extra) >= 2


class Dead(Boxes):
    """A box that Ray lists and that never takes up its order."""

    def told(self, _timeout_s: float) -> Iterator[tuple[str, Ended]]:
        yield from ()


def test_a_box_that_does_not_take_up_its_order_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_BEGIN_S", 0.0)
    monkeypatch.setattr(driver, "_LOOK_S", -1.0)
    index, given = planned()
    boxes = Dead(Ended(done=True), lives=99)
    driven(boxes, tmp_path, index, given)
    assert (len(boxes.asked), boxes.released) == (1, 1)
    assert index.box("a").reason == "the box did not take up its order within 0 s"
    assert {t.state for t in index.tasks} == {"failed"}


# -- a box that is gone ----------------------------------------------------------------------------------------------


def rows(*names: str, starts: int = 1) -> list[CellRow]:
    return [row(v, s, r, SPEED[v]) for v in names for s in range(1, starts + 1) for r in (1, 2)]


def left_of(index: Index, folder: Path) -> set[tuple[str, int, str]]:
    """Server starts that are not done when the box of the first bundle is lost; all of it had been ordered."""
    _, done = home.seal(folder, index.tasks, stress=index.runs[0].stress)
    return {(t.variant, t.round, t.kind) for t in index.tasks if t not in done}


def test_of_a_round_side_by_side_only_what_was_not_measured_is_left(tmp_path: Path) -> None:
    index, given = planned(side_by_side=True, starts=1)
    folder = tmp_path / index.bundles[0].name
    write(folder, given[1], [*rows("f16", "q4_k_m"), row("q8_0", 1, 1, 150.0)])  # the box dies: it is never closed
    assert left_of(index, folder) == {("q8_0", 1, "planned")}
    bundle = open_bundle(folder)
    assert (bundle.info.status, len(bundle.cells())) == ("interrupted", 5)


def test_a_bundle_whose_box_died_after_its_last_row_is_complete(tmp_path: Path) -> None:
    index, given = planned(starts=2)
    folder = tmp_path / index.bundles[0].name
    write(folder, given[1], [*rows("f16", starts=2), *rows("q8_0")])
    assert left_of(index, folder) == {(v, n, "planned") for v, n in (("q8_0", 2), ("q4_k_m", 1), ("q4_k_m", 2))}
    assert open_bundle(folder).info.status == "interrupted"
    write(folder, given[1], [*rows("q8_0", "q4_k_m", starts=2)[2:]])
    assert left_of(index, folder) == set()
    assert open_bundle(folder).info.status == "complete"


def test_a_stress_without_its_end_is_left_and_the_bundle_interrupted(tmp_path: Path) -> None:
    index, given = planned(starts=1, stress=True)
    folder = tmp_path / index.bundles[0].name
    write(folder, given[1], rows(*SPEED))
    for name in ("f16", "q8_0"):
        for ladder, steps in ladders(given[1]).items():
            bad = StressRow(
                variant=name, start=1, ladder=ladder, step=1, concurrency=steps[0].concurrency, verdict="refused",
                input_tokens=steps[0].input_tokens, output_tokens=steps[0].output_tokens, n=8, ok=0, errors=8,
                timeouts=0,
            )  # fmt: skip
            append_row(folder, bad)
    assert {(v, kind) for v, _, kind in left_of(index, folder)} == {("q4_k_m", "stress")}
    assert open_bundle(folder).info.status == "interrupted"


def test_an_extra_round_that_was_cut_leaves_its_bundle_complete(tmp_path: Path) -> None:
    index, given = planned(starts=1, until_precise="3%")
    folder = tmp_path / index.bundles[0].name
    write(folder, given[1], [*rows(*SPEED), row("f16", 2, 1, 100.0)]).close("complete")
    work = Work(
        fleet="f", box="b", bundle=folder.name, gpu=gpus.get("cpu").name, study="", variants=("f16",), round=2,
        further=(Further("f16", "chat", "c4", 4),),
    )  # fmt: skip
    child.prepared(folder, work, given[1])
    assert open_bundle(folder).info.status == "interrupted"  # open again, while it is measured
    extra = index.tasks[0]
    extra.kind, extra.round, extra.further = "precise", 2, list(work.further)
    status, done = home.seal(folder, [extra], stress=False)
    assert (status, done) == ("complete", [])


def test_what_never_came_home_is_not_judged(tmp_path: Path) -> None:
    index, _ = planned()
    assert home.seal(tmp_path / "nothing", index.tasks, stress=False) == (None, [])


# -- the stress, by the real child on a real engine ------------------------------------------------------------------


def test_a_stress_order_opens_the_measured_bundle_and_pushes_until_it_breaks(tmp_path: Path) -> None:
    """llama.cpp, few open files: the ladder of requests in flight is short."""
    study = narrowed(studies.load("cpu"), ("f16",))
    chat = Workload(name="chat", concurrency=[4], input_tokens=32, output_tokens=8)  # without limits that it might miss
    study = msgspec.structs.replace(
        study, workloads=[chat], repeats=1, starts=1, quality=[], loadtest=None, context_tokens=256
    )
    folder, answer = tmp_path / "2026-11-21-cpu-cpu", tmp_path / "answer.json"
    write(folder, study, [row("f16", 1, 1, 100.0)]).close("complete")
    work = Work(
        fleet="f", box="b", bundle=folder.name, gpu="cpu", study=dumps(study), variants=("f16",), round=3, stress=True
    )
    command = f"ulimit -n 80; exec {sys.executable} -m collector.fleet.child {folder} {answer}"
    ran = subprocess.run(
        ["/bin/bash", "-c", command], input=msgspec.json.encode(work), capture_output=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    ended = msgspec.json.decode(answer.read_bytes(), type=Ended)
    assert (ended.done, ended.status, ended.failed, ended.problem) == (True, "complete", {}, "")
    climbs = outcome(read_stress(folder))
    broke = climbs["f16", "context"].first_bad
    assert broke is not None
    assert (broke.start, broke.verdict, broke.input_tokens) == (2, "refused", 512)
    assert [s.concurrency for s in climbs["f16", "concurrency"].steps] == [4, 8, 16]
    assert {f.rule for f in errors(check(folder))} == {"Q508"}  # the row of this test has no requests
