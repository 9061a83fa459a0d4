"""The driver over boxes that die at moments which no real cluster gives twice: what they tell is written down here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from collector.errors import QuantcaseError
from collector.fleet import driver
from collector.fleet.driver import Driver
from collector.fleet.index import Index
from collector.fleet.limits import Limits
from collector.fleet.mirror import Have, Piece
from collector.fleet.order import Ended, Facts, Work
from collector.fleet.schedule import Spot
from collector.fleet.view import View
from tests.fleet.test_schedule import planned


class Boxes:
    """One box in place of a Ray cluster: it lives for so many server starts, and tells the same of each."""

    def __init__(self, tells: Ended, lives: int) -> None:
        self._tells, self._lives = tells, lives
        self.refused: dict[str, str] = {}
        self.asked: list[tuple[str | int, ...]] = []
        self.released = 0
        self._waiting: str | None = None

    def look(self) -> list[Spot]:
        return [Spot(box="a", free=not self.asked)] if len(self.asked) < self._lives else []

    def hold(self, _name: str) -> bool:
        return True

    def cards(self, _name: str) -> int:
        return 0

    def facts(self, name: str) -> Facts:
        return Facts(box=name, version="0", profiles=(), bundles=())

    def measure(self, work: Work, _have: Have) -> None:
        self.asked.append((*work.variants, work.round))
        self._waiting = work.box

    def told(self, _timeout_s: float) -> Iterator[tuple[str, Ended]]:
        if self._waiting is not None:
            box, self._waiting = self._waiting, None
            yield box, self._tells

    def fetch(self, name: str, bundle: str, _have: Have) -> list[Piece]:
        raise QuantcaseError(f"box {name}: {bundle} could not be fetched: gone")

    def release(self, _name: str) -> None:
        self.released += 1


def driven(boxes: Boxes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(driver, "_LOOK_S", -1.0)  # at every turn
    index, studies = planned(boxes=1)
    with View(Console(quiet=True)) as view:
        limits = Limits(max_usd=None, by=None)
        Driver(boxes, index, studies, folder, limits, view, lambda: False).run()  # type: ignore[arg-type]
    return index


def test_a_box_that_dies_between_two_server_starts_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(Ended(done=True, status="interrupted"), lives=2)
    index = driven(boxes, tmp_path, monkeypatch)
    assert [t.state for t in index.tasks] == ["done", "done", *["failed"] * 4]
    assert index.box("a").state == "lost"
    assert {t.reason for t in index.tasks[2:]} == {
        "the box is not in the cluster any more; no other free box of type demo"
    }
    assert (len(boxes.asked), boxes.released) == (2, 1)


def test_a_box_that_dies_while_files_are_fetched_ends_no_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(Ended(done=True, status="interrupted", hashes={"cells.csv": "0" * 64}), lives=9)
    index = driven(boxes, tmp_path, monkeypatch)
    assert boxes.asked[0] == boxes.asked[1]  # once more on the box, then it is given up
    assert index.box("a").state == "lost"
    assert "could not be fetched" in index.box("a").reason
    assert {t.state for t in index.tasks} == {"failed"}
