"""The whole path through the real command line, on the replay engine: run, kill, resume, stop, check, show."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from collector.bundle.check import check
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


def test_kill_9_at_any_moment_then_resume_without_repeating(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("run", study_file, "--gpu", "demo", "--out", out)
    cells = lambda: next(iter(out.glob("*/cells.csv")), None)  # noqa: E731
    until(lambda: (c := cells()) is not None and len(c.read_text().splitlines()) > 2)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    folder = bundle_in(out)
    until(lambda: not processes(str(study_file.parent)))  # the engine died with the collector
    said = collect("check", folder)
    assert said.returncode == 1
    assert "interrupted" in said.stdout
    done = {(r.variant, r.load, r.repeat) for r in open_bundle(folder).cells()}
    before = [r for r in open_bundle(folder).requests() if (r.variant, r.load, r.repeat) in done]
    resumed = collect("run", "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert check(folder) == []
    after = open_bundle(folder)
    assert len(after.cells()) == 8
    assert [
        r for r in after.requests() if (r.variant, r.start, r.load, r.repeat) in {(*d[:1], 1, *d[1:]) for d in done}
    ]
    for row in before:
        assert row in after.requests()
    assert len(after.environment().sessions) == 2
    assert "nothing to do" in collect("run", "--resume", folder).stdout


def test_ctrl_c_closes_the_bundle_and_says_how_to_go_on(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start("run", study_file, "--gpu", "demo", "--out", out)
    until(lambda: any(len(c.read_text().splitlines()) > 1 for c in out.glob("*/cells.csv")))
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
