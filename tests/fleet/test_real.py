"""Real raylets, the real command, the replay engine: measured on two boxes, one killed, the driver killed."""

from __future__ import annotations

import math
import os
import re
import signal
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.co_location import read_co_location
from collector.bundle.read import open_bundle
from collector.bundle.student import t_quantile
from collector.fleet import index as indexes
from collector.fleet.index import Index
from tests.e2e.tools import COLLECT, collect, environment, processes, until
from tests.e2e.tools import STUDY as STUDY_OF_ONE_START
from tests.fleet.cluster import Raylets
from tests.makers import make_bundle

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

STUDY = STUDY_OF_ONE_START.replace("repeats = 2", "repeats = 2\nstarts = 2") + "warmup_requests = 1\n"
FLEET = """
id = "{id}"
title = "Two boxes of one type"
[[runs]]
gpu = "demo"
study = "tiny.toml"
boxes = {boxes}
ray_type = "H200"
[runs.price]
usd_per_hour = 2.0
source = "a test"
date = "2026-11-21"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    source = make_bundle(folder / "source", only=("bf16", "awq"))
    (folder / "tiny.toml").write_text(STUDY.format(source=source))
    return folder


@pytest.fixture(scope="module")
def raylets(place: Path) -> Iterator[Raylets]:
    made = Raylets(place, 3)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            patch.setenv(name, made.environment[name])
        yield made
    made.close()


def asked(place: Path, name: str, boxes: int = 2) -> list[object]:
    file = place / f"{name}.toml"
    file.write_text(FLEET.format(id=name, boxes=boxes))
    return ["fleet", file, "--out", place / "out"]


def begin(*arguments: object) -> subprocess.Popen[str]:
    command = [*COLLECT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def cells(folder: Path) -> list[tuple[object, ...]]:
    return [(c.variant, c.start, c.workload, c.load, c.repeat) for c in open_bundle(folder).cells()]


def rows(folder: Path) -> list[str]:
    """Finished repeats as they stand on disk."""
    file = folder / "cells.csv"
    return file.read_text().splitlines()[1:] if file.is_file() else []


def throughputs(*folders: Path) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for folder in folders:
        for c in open_bundle(folder).cells():
            assert c.throughput_tok_s is not None
            found[c.variant, c.load].append(math.log(c.throughput_tok_s))
    return found


def nothing_runs(place: Path) -> None:
    until(lambda: not processes(str(place / "source")), 90)  # engines
    until(lambda: not processes("collector.fleet.child " + str(place)), 30)


def test_two_boxes_measure_what_one_run_measures(place: Path, raylets: Raylets) -> None:
    ran = collect(*asked(place, "pair"), "--ray", raylets.address, "--max-usd", 5, timeout=200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    folder = place / "out" / "pair"
    index = indexes.read(folder)
    one, two = (folder / b.name for b in index.bundles)
    assert [b.state for b in index.bundles] == ["complete", "complete"]
    assert len({b.box for b in index.bundles}) == 2
    for bundle in (one, two):
        assert not errors(check(bundle))
        environment = open_bundle(bundle).environment()
        assert environment.fleet == index.folder
        assert environment.box == index.bundle(bundle.name).box
        assert len(environment.sessions) == 4  # one server start each
    stayed = [p for n in range(3) for p in raylets.root(n).glob("pair-*/*/*")]
    assert not stayed, ran.stdout  # all is at home
    assert {b.gpus for b in index.boxes} == {2}
    assert 0 < (index.usd or 0) == pytest.approx(2 * 2 / 60 * sum(b.minutes for b in index.boxes), rel=0.01)

    alone = place / "alone"
    assert collect("run", place / "tiny.toml", "--gpu", "demo", "--out", alone).returncode == 0
    (single,) = alone.iterdir()
    assert sorted(cells(one)) == sorted(cells(single))
    assert cells(one) == cells(single), "the same interleaved order"
    ours, theirs = throughputs(one, two), throughputs(single)
    for cell, values in ours.items():
        other = theirs[cell]
        spread = [statistics.variance(v) / len(v) for v in (values, other)]
        freedom = sum(spread) ** 2 / sum(s**2 / (len(v) - 1) for s, v in zip(spread, (values, other), strict=True))
        half = t_quantile(0.9995, freedom) * math.sqrt(sum(spread))
        assert abs(statistics.fmean(values) - statistics.fmean(other)) <= half, cell
    shown = collect("fleet", "status", folder)
    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert shown.stdout.count("complete") == 2
    nothing_runs(place)


def test_killing_the_driver_loses_no_row_and_resume_finishes(place: Path, raylets: Raylets) -> None:
    driver = begin(*asked(place, "cut", boxes=1), "--ray", raylets.address)
    folder = place / "out" / "cut"
    until(lambda: sum(len(rows(p)) for p in folder.glob("*-tiny*")) >= 3, 120)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    nothing_runs(place)
    (bundle,) = folder.glob("*-tiny*")
    at_home = rows(bundle)
    (there,) = (p for n in range(3) for p in raylets.root(n).glob("cut-*/*/*-tiny*") if p.is_dir())
    measured = rows(there)
    assert set(at_home) <= set(measured)

    ended = collect("fleet", "--resume", folder, "--ray", raylets.address, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    index = indexes.read(folder)
    assert [b.state for b in index.bundles] == ["complete"]
    assert rows(bundle)[: len(measured)] == measured, "no row is lost, none is measured twice"
    assert len(set(cells(bundle))) == 16
    assert not errors(check(bundle))
    nothing_runs(place)


def test_a_round_side_by_side_and_extra_rounds_until_it_is_precise(place: Path, raylets: Raylets) -> None:
    """Ray gives a box two cards, hence two places. One repeat tells nothing: there has to be an extra round."""
    (place / "short.toml").write_text((place / "tiny.toml").read_text().replace("= 2\nstarts = 2", "= 1"))
    arguments = asked(place, "beyond", boxes=1)
    file = place / "beyond.toml"
    wishes = 'until_precise = "60%"\nside_by_side = true\nstress = true\n[runs.price]'
    file.write_text(file.read_text().replace("tiny.toml", "short.toml").replace("[runs.price]", wishes))
    ran = collect(*arguments, "--ray", raylets.address, timeout=200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    folder = place / "out" / "beyond"
    index = indexes.read(folder)
    (entry,) = index.bundles
    assert (entry.state, entry.precision) == ("complete", "every ratio is known to 60.0%")
    rounds = {t.round: t.kind for t in index.tasks}
    assert rounds.pop(1) == "planned"
    assert set(rounds.values()) == {"precise"}  # and no stress: a replay breaks at nothing
    bundle = open_bundle(folder / entry.name)
    assert not errors(check(bundle.folder))
    assert len(bundle.environment().sessions) == 1 + len(rounds), "a round is one order"
    assert len(set(cells(bundle.folder))) == entry.cells_done == entry.cells_planned == bundle.info.cells_planned
    tried = read_co_location(bundle.folder)
    assert tried is not None
    assert tried.places == 2
    assert ran.stdout.count("trying one cell alone and in company") == 1
    assert {c.co_located for c in bundle.cells()} == ({1} if tried.allowed else {None})
    shown = " ".join(collect("fleet", "status", folder).stdout.split())
    assert "run 1 (demo tiny): until every ratio is known to 60.0%, side by side, stress at last" in shown
    nothing_runs(place)


def killed(index: Index, raylets: Raylets) -> int:
    """The number of a node that measures now and is not the head."""
    running = {t.bundle for t in index.tasks if t.state == "running"}
    boxes = {b.box for b in index.bundles if b.name in running}
    return next(n for n in (1, 2) if any((raylets.root(n) / index.folder / str(b)).is_dir() for b in boxes))


def test_a_killed_node_costs_its_unfinished_cells_only(place: Path, raylets: Raylets) -> None:
    """Last, because the cluster has one node less afterwards."""
    driver = begin(*asked(place, "loss"), "--ray", raylets.address)
    folder = place / "out" / "loss"
    until(lambda: len(list(folder.glob("*/cells.csv"))) == 2, 120)
    until(lambda: all(len(rows(p)) >= 3 for p in folder.glob("*-tiny*")), 120)
    number = killed(indexes.read(folder), raylets)
    (box,) = (raylets.root(number) / indexes.read(folder).folder).iterdir()
    (lost,) = (folder / b.name for b in indexes.read(folder).bundles if b.box == box.name)
    before = rows(lost)
    raylets.kill(number)
    out, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, out

    index = indexes.read(folder)
    states = {b.name: b.state for b in index.bundles}
    assert states.pop(lost.name) == "interrupted"
    assert set(states.values()) == {"complete"}
    assert len(states) == 2
    assert rows(lost)[: len(before)] == before
    assert open_bundle(lost).info.status == "interrupted"
    assert not [f for f in check(lost) if f.level == "error"]
    (anew,) = (b for b in index.bundles if b.continues == lost.name)
    assert anew.box not in {b.box for b in index.bundles if b is not anew}
    unfinished = {t.variant for t in index.tasks_of(lost.name) if t.state == "moved"}
    assert unfinished
    assert set(anew.variants) == {"bf16", *unfinished}
    assert len(cells(folder / anew.name)) == 8 * len(anew.variants)
    assert index.box(box.name).state == "lost"
    text = (folder / indexes.FILE).read_text()
    assert "127.0.0.1" not in text
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", text)
    nothing_runs(place)
