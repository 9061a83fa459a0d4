"""What runs on a node, without Ray around it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from collector import gpus
from collector import study as studies
from collector.bundle.co_location import CoLocated, CoLocation, write_co_location
from collector.bundle.read import open_bundle
from collector.fleet import box, child
from collector.fleet.order import Ended, Further, Said, Work
from collector.prepare import narrowed
from collector.study import Study

WORK = Work(fleet="f-1", box="b0", bundle="2026-11-21-demo-demo", gpu="demo", study="", variants=("bf16",), round=1)


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTCASE_FLEET_DIR", str(tmp_path / "there"))


def test_an_engine_below_ray_has_the_environment_that_ray_was_started_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_RAYLET_PID", str(os.getpid()))  # /proc tells what this process was started with
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "10,3,0")
    env = box._environment()
    assert not [k for k in env if k.startswith("RAY_")]
    assert "OMP_NUM_THREADS" not in env
    assert env["CUDA_VISIBLE_DEVICES"] == "0,3,10"  # the same card first, every time
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in box._environment()


def test_a_box_is_told_by_a_hash(tmp_path: Path) -> None:
    (tmp_path / "there" / "f-1").mkdir(parents=True)
    facts = box.probe("f-1", "0123abcd", cards=False)
    assert facts.box == box.probe("f-1", "0123abcd", cards=False).box
    assert "0123abcd" not in msgspec.json.encode(facts).decode()
    assert facts.bundles == ()
    (tmp_path / "there" / "f-1" / facts.box / "bundle").mkdir(parents=True)
    assert box.probe("f-1", "0123abcd", cards=False).bundles == ("bundle",)
    box.clear("f-1", facts.box)
    assert not (tmp_path / "there" / "f-1").exists()


def test_a_box_that_lost_the_bundle_does_not_begin_it_anew() -> None:
    told = list(box.measure(WORK, {"cells.csv": (4, "0" * 64)}))
    assert told == [Ended(done=False, problem="the bundle is no longer on the box")]


def test_a_bundle_is_widened_by_variants_of_another_box(tmp_path: Path) -> None:
    study = studies.load("demo")
    folder = tmp_path / WORK.bundle
    child.prepared(folder, WORK, narrowed(study, ("bf16", "fp8")))
    before = open_bundle(folder)
    assert (before.environment().fleet, before.environment().box, before.info.grade) == ("f-1", "b0", "simulated")
    assert before.info.cells_planned == 2 * 3 * 3
    child.prepared(folder, WORK, study)
    after = open_bundle(folder)
    assert [v.name for v in after.study().variants] == ["bf16", "fp8", "awq"]
    assert (after.info.cells_planned, after.info.status) == (3 * 3 * 3, "interrupted")


def test_a_secret_reaches_the_engine_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_" + "a" * 34
    study = studies.load("demo")
    study.engine.env["HF_TOKEN"] = secret
    monkeypatch.setenv("HF_TOKEN", "")  # taken back after the test
    child._give_secrets(study, "bf16")
    assert os.environ["HF_TOKEN"] == secret
    child.prepared(tmp_path / WORK.bundle, WORK, study)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def small(variants: tuple[str, ...], starts: int) -> Study:
    study = studies.load("demo")
    chat = msgspec.structs.replace(study.workloads[0], concurrency=[1], min_requests=2, output_tokens=16)
    return msgspec.structs.replace(narrowed(study, variants), workloads=[chat], repeats=1, starts=starts)


def test_the_collector_measures_one_start_and_all_of_it_is_told(tmp_path: Path) -> None:
    """One round of one variant by the real child; what is told makes the same bundle at home."""
    from collector.fleet.mirror import Mirror, Piece

    study = small(("bf16", "fp8"), starts=2)
    home = Mirror(tmp_path / "home")
    work = msgspec.structs.replace(WORK, study=studies.dumps(study))
    *told, last = box.measure(work, home.have())
    for piece in (t for t in told if isinstance(t, Piece)):
        home.take(piece)
    assert isinstance(last, Ended)
    assert (last.done, last.status, last.problem) == (True, "interrupted", "")
    assert home.differs(last.hashes) == []
    assert [(c.variant, c.start) for c in open_bundle(home.folder).cells()] == [("bf16", 1)]


def test_an_extra_round_side_by_side_has_its_cells_and_is_not_measured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the bundle has its trial already, it is not made again."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    study = small(("bf16", "fp8"), starts=1)
    folder = box.root() / WORK.fleet / WORK.box / WORK.bundle
    together = msgspec.structs.replace(
        WORK, study=studies.dumps(study), variants=("fp8", "bf16"), side_by_side=True,
        further=tuple(Further(v, study.workloads[0].name, "c1", 1) for v in ("bf16", "fp8")), round=2,
    )  # fmt: skip
    child.prepared(folder, together, study)
    figure = CoLocated(tok_s=1.0)
    tried = CoLocation(cell="c", alone=figure, together=figure, ratio=1.0, region=0.03, allowed=True, places=2)
    write_co_location(folder, tried)
    said: list[str] = []
    for _ in range(2):  # as after a lost connection: what is measured is measured
        *told, last = box.measure(together, {})
        assert isinstance(last, Ended)
        assert (last.done, last.status, last.problem) == (True, "complete", "")
        said += [t.line for t in told if isinstance(t, Said)]
    assert not [line for line in said if "trying one cell" in line]
    bundle = open_bundle(folder)
    assert {(c.variant, c.start, c.co_located) for c in bundle.cells()} == {("bf16", 1, 1), ("fp8", 1, 1)}
    assert len(bundle.variants()) == len(bundle.cells()) == 2


def test_without_room_for_two_servers_a_round_goes_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small(("bf16", "fp8"), starts=1)
    work = msgspec.structs.replace(WORK, variants=("bf16", "fp8"), side_by_side=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert child._places(work, study, gpus.get("demo")) == (3, 1)
    study.variants[1].tensor_parallel = 2
    assert child._places(work, study, gpus.get("demo")) is None
    assert capsys.readouterr().out == "side by side: no room for two servers on 2 GPUs: one at a time\n"
