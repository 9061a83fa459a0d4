"""An archive from anywhere: a whole bundle inside the target folder, or one line and nothing at all."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from collector.bundle import archive
from collector.bundle.archive_rules import Limits
from collector.errors import QuantcaseError
from tests.fuzz.bundles import whole
from tests.fuzz.guard import one_line

__all__ = ["one", "seeds"]

# Small, so that a bomb is told as one before it takes seconds.
_LIMITS = Limits(members=200, total_bytes=8 << 20)


@cache
def seeds() -> list[bytes]:
    """A small bundle in both formats."""
    with tempfile.TemporaryDirectory(prefix="qc-fuzz-") as room:
        return [archive.pack(whole()[2], Path(room) / f"x{suffix}").file.read_bytes() for suffix in archive.FORMATS]


def one(data: bytes) -> None:
    """Unpack. Only QuantcaseError may come of it, and then nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="qc-fuzz-") as name:
        room = Path(name)
        (room / "archive").write_bytes(data)
        (room / "out").mkdir()
        (room / "out" / "mine").write_text("mine")
        try:
            found = archive.unpack(room / "archive", room / "out", limits=_LIMITS)
        except QuantcaseError as e:
            one_line(e)
            left = {"mine"}
        else:
            left = {"mine", found.folder.name}
        assert {p.name for p in (room / "out").iterdir()} == left
        assert {p.name for p in room.iterdir()} == {"archive", "out"}
        assert (room / "out" / "mine").read_text() == "mine"
