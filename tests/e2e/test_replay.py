"""The whole path through the real command line, on the replay engine: run, kill, resume, stop, check, show."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from tests.e2e.tools import STUDY, collect, processes, start, until
from tests.makers import make_bundle


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    source = make_bundle(tmp_path / "source", only=("bf16", "awq"))
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(source=source))
    return path


def bundle_in(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def test_run_check_show(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = collect("run", study_file, "--gpu", "demo", "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert "bundle complete" in ran.stdout
    folder = bundle_in(out)
    assert folder.name.endswith("-demo-tiny")
    checked = collect("check", folder)
    assert (checked.returncode, "ok (simulated" in checked.stdout) == (0, True), checked.stdout
    shown = collect("show", folder)
    assert "bf16" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    bundle = open_bundle(folder)
    assert bundle.info.grade == "simulated"
    assert len(bundle.cells()) == 8
    assert {r.status for r in bundle.requests()} == {"ok"}
    assert len(bundle.client().cells) == 8
    assert not processes(str(study_file.parent))


def lines_of_requests(folder: Path) -> list[str]:
    """The rows as they stand on disk: plain while it is written, packed once the bundle is closed."""
    plain = folder / "requests.csv"
    data = plain.read_bytes() if plain.is_file() else gzip.decompress((folder / "requests.csv.gz").read_bytes())
    return data.decode().splitlines()


def cells_on_disk(out: Path) -> int:
    return sum(len(c.read_text().splitlines()) - 1 for c in out.glob("*/cells.csv"))


def test_kill_9_at_any_moment_then_resume_without_repeating(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("run", study_file, "--gpu", "demo", "--out", out)
    until(lambda: cells_on_disk(out) >= 2)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    folder = bundle_in(out)
    until(lambda: not processes(str(study_file.parent)))  # the engine died with the collector
    said = collect("check", folder)
    assert said.returncode == 1
    assert "interrupted" in said.stdout
    killed = open_bundle(folder)
    done = {(r.variant, r.start, r.workload, r.load, r.repeat) for r in killed.cells()}
    assert 2 <= len(done) < 8
    keys = [(r.variant, r.start, r.workload, r.load, r.repeat) for r in killed.requests()]
    before = [line for line, key in zip(lines_of_requests(folder)[1:], keys, strict=False) if key in done]
    assert len(before) >= 2 * 6
    resumed = collect("run", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert errors(check(folder)) == []
    after = open_bundle(folder)
    assert {(r.variant, r.start, r.workload, r.load, r.repeat) for r in after.cells()} >= done
    assert len(after.cells()) == 8
    lines = lines_of_requests(folder)
    assert [line for line in lines if line in set(before)] == before  # as they were, once, in their order
    assert len(set(lines)) == len(lines) == 1 + 4 * 6 + 4 * 24
    assert Counter((r.variant, r.load) for r in after.cells()) == dict.fromkeys(
        [("bf16", "c1"), ("bf16", "c8"), ("awq", "c1"), ("awq", "c8")], 2
    )
    assert len(after.environment().sessions) == 2
    assert not processes(str(study_file.parent))
    assert "nothing to do" in collect("run", "--resume", folder).stdout


def test_ctrl_c_twice_does_no_more_than_once(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("run", study_file, "--gpu", "demo", "--out", out)
    until(lambda: cells_on_disk(out) >= 1)
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=60)
    assert (running.returncode, len(stderr.strip().splitlines())) == (1, 1), stderr
    assert [f.level for f in check(bundle_in(out))] == ["interrupted"]
    until(lambda: not processes(str(study_file.parent)), 10)


def test_ctrl_c_closes_the_bundle_and_says_how_to_go_on(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("run", study_file, "--gpu", "demo", "--out", out)
    until(lambda: cells_on_disk(out) >= 1)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    folder = bundle_in(out)
    assert running.returncode == 1
    assert f"collect run --resume {folder}" in stderr
    assert len(stderr.strip().splitlines()) == 1
    manifest = json.loads((folder / "datapackage.json").read_text())
    assert manifest["quantcase"]["status"] == "interrupted"
    assert manifest["resources"]
    assert not processes(str(study_file.parent))
    assert [f.level for f in check(folder)] == ["interrupted"]


def test_only_so_many_minutes(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = collect("run", study_file, "--gpu", "demo", "--out", out, "--max-minutes", "0.05")
    assert ran.returncode == 1
    assert "--resume" in ran.stderr
    assert [f.level for f in check(bundle_in(out))] == ["interrupted"]


def test_a_variant_that_crashes_is_tried_again_by_resume_and_the_others_are_kept(
    study_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    text = study_file.read_text()
    # One variant's engine is told to end at once, by its own environment; the other is measured.
    broken = text.replace('model = "x/y-awq"', 'model = "x/y-awq"\nenv = { PYTHONHOME = "/nowhere" }')
    study_file.write_text(broken)
    ran = collect("run", study_file, "--gpu", "demo", "--out", out)
    assert ran.returncode == 1
    folder = bundle_in(out)
    assert f"collect run --resume {folder}" in ran.stderr
    assert [v.exit_state for v in open_bundle(folder).variants()] == ["ok", "crash"]
    assert len(open_bundle(folder).cells()) == 4
    (folder / "study.toml").write_text((folder / "study.toml").read_text().replace('PYTHONHOME = "/nowhere"', ""))
    resumed = collect("run", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert [(v.variant, v.start, v.exit_state) for v in open_bundle(folder).variants()] == [
        ("bf16", 1, "ok"), ("awq", 1, "crash"), ("awq", 2, "ok"),
    ]  # fmt: skip
    assert errors(check(folder)) == []
