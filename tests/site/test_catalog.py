"""Which folders below `results` are cases: bundles, and those of fleets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from quantcase.analysis.gpus_boxes import boxes_of
from quantcase.catalog import folders, load
from tests.makers import make_bundle


def test_bundles_of_a_fleet_are_cases_among_the_others(tmp_path: Path) -> None:
    one = make_bundle(tmp_path, only=("bf16",))
    fleet = tmp_path / "two-boxes"
    shutil.copytree(one, fleet / "2026-11-21-h200-of-a-fleet")
    assert [p.name for p in folders(tmp_path)[0]] == [one.name]  # a folder of folders is no fleet by itself
    (fleet / "fleet.json").write_text("{}")
    found, refused = folders(tmp_path)
    assert sorted(p.name for p in found) == sorted([one.name, "2026-11-21-h200-of-a-fleet"])
    assert refused == []


def test_two_bundles_of_one_name_are_named_and_neither_is_shown(tmp_path: Path) -> None:
    one = make_bundle(tmp_path, only=("bf16",))
    shutil.copytree(one, tmp_path / "fleet" / one.name)
    (tmp_path / "fleet" / "fleet.json").write_text("{}")
    found, refused = folders(tmp_path)
    assert found == []
    assert refused == [(one.name, "two bundles have that name, one of them in a fleet's folder: rename one")]


def test_a_box_without_a_card_is_told_by_its_fleet(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16",))
    path = folder / "environment.json"
    said = json.loads(path.read_text())
    said["box"] = "5d41402abc4b2a76"
    for session in said["sessions"]:
        session["gpus"] = []
    path.write_text(json.dumps(said))
    (case,) = load(tmp_path).cases
    assert boxes_of(case)["bf16"] == ["box 5d41402a"]


def test_words_that_are_not_sealed_are_told_and_take_no_verdict_away(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "fp8"))
    (folder / "notes.md").write_text("what I saw\n")
    (case,) = load(tmp_path).cases
    assert [(f.rule, f.level, f.where) for f in case.faults if f.level == "error"] == [("Q203", "error", "notes.md")]
    assert case.sound
    with (folder / "client.json").open("a") as f:
        f.write("\n")
    (case,) = load(tmp_path).cases
    assert not case.sound
