"""`predictions.json`: what the person expected of one variant, written down before anything was measured.

The file is written once and never changed: unlike notes.md it is no file that `collect seal` renews.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.tables import read_text
from collector.errors import QuantcaseError
from collector.expectations import P95, Answers, HelpsMoreAt, Ttft

__all__ = [
    "P95",
    "PREDICTIONS",
    "Answers",
    "HelpsMoreAt",
    "Predictions",
    "Ttft",
    "read_predictions",
    "write_predictions",
]

PREDICTIONS = "predictions.json"
_MOST_BYTES = 64 << 10
_FIX = "it is written by `collect run --predict`, and not by hand"


class Predictions(Struct, kw_only=True, forbid_unknown_fields=True):
    """predictions.json."""

    written_at: str  # ISO 8601, UTC
    late: bool  # written when a measured row stood in the bundle already
    answers: Answers

    def written(self) -> datetime.datetime:
        """`written_at` as a time."""
        return datetime.datetime.fromisoformat(self.written_at)


def read_predictions(folder: Path) -> Predictions | None:
    """The predictions of a bundle; None where nobody made any. The file may come from anywhere.

    Raises:
        QuantcaseError: no plain file, too large, not JSON of this form, or a time that is not in UTC.
    """
    path = folder / PREDICTIONS
    if path.is_symlink():
        raise QuantcaseError(f"{PREDICTIONS} is not a plain file", fix="a bundle holds plain files only")
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{PREDICTIONS} is larger than {_MOST_BYTES >> 10} KiB", fix=_FIX)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Predictions)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise QuantcaseError(f"{PREDICTIONS} cannot be read: {' '.join(str(e).split())}", fix=_FIX) from None
    try:
        when = found.written()
    except ValueError:
        raise QuantcaseError(f"{PREDICTIONS}: `written_at` is no time", fix=_FIX) from None
    if when.utcoffset() != datetime.timedelta(0):
        raise QuantcaseError(f"{PREDICTIONS}: `written_at` is not in UTC", fix=_FIX)
    answers = msgspec.structs.replace(found.answers, quality_failures=_clean(found.answers.quality_failures))
    return msgspec.structs.replace(found, answers=answers)


def write_predictions(folder: Path, answers: Answers, *, now: datetime.datetime | None = None) -> Predictions:
    """Write the predictions of an open bundle, whole or not at all. `late` follows from what the bundle holds.

    Raises:
        QuantcaseError: they stand already, nothing was answered, or an answer is none of its kind.
    """
    if (folder / PREDICTIONS).exists():
        raise QuantcaseError(f"{folder.name} has its predictions already", fix="they are made once, and kept")
    if not answers.given:
        raise QuantcaseError("the predictions answer no question", fix="answer at least one")
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    made = Predictions(
        written_at=moment.isoformat(timespec="seconds"),
        late=_measured(folder),
        answers=msgspec.structs.replace(answers, quality_failures=_clean(answers.quality_failures)),
    )
    try:  # the types hold for what is read; what is written goes the same way
        msgspec.convert(msgspec.to_builtins(made), Predictions)
    except msgspec.ValidationError as e:
        raise QuantcaseError(f"the predictions cannot be written: {e}", fix="mend that answer") from None
    manifests.write_atomic(folder / PREDICTIONS, msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    return made


def _measured(folder: Path) -> bool:
    """Whether the bundle holds a measured row: a request, a cell, or an answer."""
    tables = [folder / name for name in ("requests.csv", "requests.csv.gz", "cells.csv")]
    if any(path.is_file() and len(read_text(path)[0].split("\n", 2)) > 2 for path in tables):
        return True
    answers = folder / "quality.jsonl"
    return answers.is_file() and answers.stat().st_size > 0


def _clean(words: str) -> str:
    """One line of printable text: no control characters, no marks that turn the reading direction."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())
