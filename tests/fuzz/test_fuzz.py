"""A short, fixed stretch of fuzzing: `make fuzz` looks on, `python -m tests.fuzz.ten_thousand` does it in earnest."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from quantcase.charts import cache
from tests.fuzz.guard import Broken, Hang, one_line, time_limit
from tests.fuzz.run import TARGETS, seeded
from tests.fuzz.targets import words
from tests.fuzz.ten_thousand import Bundles, streams

CASES = {"archives": 40, "files": 150, "importers": 120, "study_toml": 100, "words": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_no_damage_raises_what_nobody_named(name: str) -> None:
    done, found = seeded(name, seed=1, cases=CASES.get(name, 250))
    assert not found, found
    assert done == CASES.get(name, 250)


def test_damaged_streams_give_outcomes_of_every_kind() -> None:
    said = list(streams(1, range(300)))
    assert [e for _, _, e in said if e] == []
    assert {verdict for _, verdict, _ in said} == {"ok", "error"}


def test_damaged_bundles_are_refused_or_shown_and_nothing_is_written_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_given", [tmp_path / "charts"])
    made = Bundles(tmp_path, seed=1)
    said = [made.one(number) for number in range(4)]
    assert any(verdict.endswith("refused") for verdict in said)
    assert all(verdict.split()[0] in ("error", "sound") for verdict in said)


def test_the_same_number_is_the_same_damage(tmp_path: Path) -> None:
    made = Bundles(tmp_path, seed=7)
    one, again = (made.damaged(3, tmp_path / name)[1] for name in ("a", "b"))
    assert one == again


def test_a_fault_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer's own test: with a hole in text() it finds one."""
    monkeypatch.setattr(words, "text", lambda value: str(value))
    _, found = seeded("words", seed=1, cases=20)
    assert found


def test_a_hang_is_told_and_an_error_of_two_lines_is_none() -> None:
    with pytest.raises(Hang), time_limit(0.05):
        time.sleep(5)
    with pytest.raises(Broken, match="not one line"):
        one_line("a\nb")
