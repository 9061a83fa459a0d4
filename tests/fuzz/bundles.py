"""The small whole bundles that are damaged, made once a process, and the text of every file in them."""

from __future__ import annotations

import atexit
import gzip
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.small import small_bundles

__all__ = ["texts", "whole"]


@cache
def whole() -> list[Path]:
    """The bundles of `small_bundles`, in a folder that goes with the process."""
    room = Path(tempfile.mkdtemp(prefix="qc-fuzz-whole-"))
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    return small_bundles(room)


@cache
def texts() -> list[tuple[str, bytes]]:
    """(name, contents unpacked) of every file that differs in kind; of the large ones the first lines."""
    found = []
    for folder in whole():
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            kept = (
                b"".join(data.splitlines(keepends=True)[:4]) if ".csv" in path.name or ".jsonl" in path.name else data
            )
            found.append((path.name, kept[:40_000]))
    return found
