"""Every other file of a bundle by its reader: documents, lines of answers, marks, predictions, stress, load tests."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from collector.bundle import imported, loadtest, manifest
from collector.bundle.marks import read_marks
from collector.bundle.predictions import read_predictions
from collector.bundle.read import Bundle
from collector.bundle.stress import outcome, problems, read_stress
from collector.errors import QuantcaseError
from tests.fuzz.bundles import texts, whole
from tests.fuzz.guard import one_line

__all__ = ["one", "seeds"]

_Read = Callable[[Path], Any]


def _bundle(folder: Path) -> Bundle:
    return Bundle(folder, manifest.read(whole()[0]))


def _stress(folder: Path) -> None:
    rows = read_stress(folder)
    outcome(rows)
    for where, words in problems(rows, ["bf16", "fp8"]):
        assert where
        assert words


_READERS: dict[str, _Read] = {
    "datapackage.json": manifest.read,
    "environment.json": lambda f: _bundle(f).environment(),
    "client.json": lambda f: _bundle(f).client(),
    "quality_items.jsonl": lambda f: _bundle(f).quality_items(),
    "quality.jsonl": lambda f: _bundle(f).quality(),
    "likelihood.jsonl.gz": lambda f: _bundle(f).likelihood(),
    "study.toml": lambda f: _bundle(f).study(),
    "marks.csv": read_marks,
    "predictions.json": read_predictions,
    "stress.jsonl": _stress,
    "imported.json": imported.read_document,
    "imported.csv": imported.read_rows,
    "loadtest_fp8_stats.csv": lambda f: loadtest.read(f, "fp8"),
    "loadtest_fp8_history.csv": lambda f: loadtest.read(f, "fp8"),
    "loadtest_fp8_failures.csv": lambda f: loadtest.read(f, "fp8"),
}
_NAMES = tuple(_READERS)


@cache
def seeds() -> list[bytes]:
    """The files of small real bundles; the first byte is the number of the file."""
    return [bytes([_NAMES.index(name)]) + text for name, text in texts() if name in _NAMES]


def one(data: bytes) -> None:
    """Read the file that the first byte names. Only QuantcaseError may come of it."""
    name, content = _NAMES[data[0] % len(_NAMES) if data else 0], data[1:]
    with tempfile.TemporaryDirectory(prefix="qc-fuzz-") as room:
        folder = Path(room)
        if name.startswith("loadtest"):  # a load test has three files; the other two are sound
            for path in whole()[3].glob("loadtest_fp8_*"):
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / name).write_bytes(gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else content)
        try:
            _READERS[name](folder)
        except QuantcaseError as e:
            one_line(e)
