"""A bundle that grows on a box, mirrored: nothing is lost, nothing is sent twice, and home can always read it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError
from collector.fleet import mirror
from collector.fleet.mirror import Mirror, Piece, Source, hashes
from collector.study import load
from tests.makers import make_bundle


def carry(source: Source, home: Mirror) -> int:
    """All changes, and how many bytes went."""
    sent = 0
    for piece in source.changes():
        home.take(piece)
        sent += len(piece.data)
    return sent


def test_appended_rows_alone_go_over(tmp_path: Path) -> None:
    box, home = tmp_path / "box", Mirror(tmp_path / "home")
    box.mkdir()
    (box / "cells.csv").write_text("a,b\n")
    source = Source(box, home.have())
    assert carry(source, home) == 4
    assert carry(source, home) == 0
    with (box / "cells.csv").open("a") as f:
        f.write("1,2\n")
    assert carry(source, home) == 4
    assert (home.folder / "cells.csv").read_text() == "a,b\n1,2\n"
    assert carry(Source(box, home.have()), home) == 0, "another driver begins with what lies at home"


def test_replaced_and_packed_and_torn_files(tmp_path: Path) -> None:
    box, home = tmp_path / "box", Mirror(tmp_path / "home")
    box.mkdir()
    (box / "doc.json").write_text("one")
    (box / "rows.csv").write_text("x" * 100)
    (box / "half.json.tmp").write_text("never sent")
    source = Source(box, home.have())
    carry(source, home)
    (box / "new").write_text("two!")
    (box / "new").replace(box / "doc.json")
    (box / "rows.csv.gz").write_bytes(b"packed")
    (box / "rows.csv").unlink()
    carry(source, home)
    assert home.differs(hashes(box)) == []
    assert sorted(p.name for p in home.folder.iterdir()) == ["doc.json", "rows.csv.gz"]
    (home.folder / "doc.json").write_text("tw")  # home was killed while it wrote
    (home.folder / "rows.csv.gz.tmp").write_bytes(b"pa")
    carry(Source(box, home.have()), home)
    assert home.differs(hashes(box)) == []


def test_large_files_go_in_pieces_that_ray_puts_into_its_reply(tmp_path: Path) -> None:
    box, home = tmp_path / "box", Mirror(tmp_path / "home")
    box.mkdir()
    data = random.Random(1).randbytes(3 * mirror.PIECE_BYTES + 17)
    (box / "requests.csv").write_bytes(data)
    pieces = list(Source(box, {}).changes())
    assert [len(p.data) for p in pieces] == [mirror.PIECE_BYTES] * 3 + [17]
    assert max(len(p.data) for p in pieces) < 100 * 1024
    for piece in pieces[:-1]:
        home.take(piece)
        assert not (home.folder / "requests.csv").exists(), "half a file is none"
    home.take(pieces[-1])
    assert (home.folder / "requests.csv").read_bytes() == data


def test_a_piece_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    home = Mirror(tmp_path)
    home.take(Piece("cells.csv", 0, b"abc", whole=True))
    with pytest.raises(QuantcaseError, match=r"cells.csv: a piece is missing"):
        home.take(Piece("cells.csv", 7, b"x"))


@pytest.mark.parametrize("path", ["../up.csv", "/etc/x", "a/../../b", ".hidden", "a//b", "", "a\nb", "logs/.."])
def test_a_box_chooses_no_place_outside_of_the_bundle(path: str, tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="is that box yours"):
        Mirror(tmp_path / "home").take(Piece(path, 0, b"x", whole=True))
    assert list(tmp_path.iterdir()) == []


def test_home_can_read_the_bundle_after_every_piece(tmp_path: Path) -> None:
    """The sums in cells.csv never come before their requests, and the manifest is last."""
    real = make_bundle(tmp_path / "real", only=("bf16",))
    rows = open_bundle(real)
    writer = BundleWriter.create(
        tmp_path / "box", load("demo"), grade="simulated", gpu="demo", cells_planned=9,
        environment=Environment(gpu_asked="demo", fleet="f-1", box="b"),
    )  # fmt: skip
    home = Mirror(tmp_path / "home")
    source = Source(writer.folder, home.have())
    requests = rows.requests()
    for seen, cell in enumerate(rows.cells(), 1):
        key = (cell.variant, cell.start, cell.workload, cell.load, cell.repeat)
        writer.add_repeat([r for r in requests if (r.variant, r.start, r.workload, r.load, r.repeat) == key], [], cell)
        for piece in source.changes():
            home.take(piece)
            if (home.folder / "datapackage.json").is_file():
                here = open_bundle(home.folder)
                known = {(r.variant, r.start, r.workload, r.load, r.repeat) for r in here.requests()}
                assert {(c.variant, c.start, c.workload, c.load, c.repeat) for c in here.cells()} <= known
        assert len(open_bundle(home.folder).cells()) == seen
    writer.close("interrupted")
    carry(source, home)
    assert home.differs(hashes(writer.folder)) == []
    assert open_bundle(home.folder).environment().fleet == "f-1"
