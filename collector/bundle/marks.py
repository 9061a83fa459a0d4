"""`marks.csv`: a person's own judgement of single answers, written by hand beside the automatic scores."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from collector.bundle.answers import Mark
from collector.errors import QuantcaseError

__all__ = ["MARKS", "read_marks"]

MARKS = "marks.csv"
_MOST_BYTES = 8 << 20
_FIELDS = ("variant", "prompt_id", "mark", "remark")


def read_marks(folder: Path) -> list[Mark]:
    """The marks of a bundle; the last of several for one answer counts.

    Raises:
        QuantcaseError: a line that is no mark, by its number.
    """
    path = folder / MARKS
    if not path.is_file():
        return []
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{MARKS} is larger than {_MOST_BYTES >> 20} MiB", fix="it holds one line an answer")
    found: dict[tuple[str, str], Mark] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f)
            missing = [name for name in _FIELDS[:3] if name not in (reader.fieldnames or [])]
            if missing:
                raise QuantcaseError(f"{MARKS} has no column {missing[0]}", fix=f"columns: {', '.join(_FIELDS)}")
            for number, row in enumerate(reader, 2):
                kept = {k: (row.get(k) or "").strip() for k in _FIELDS}
                kept["mark"] = kept["mark"].lower()
                try:
                    mark = msgspec.convert(kept, Mark)
                except msgspec.ValidationError:
                    raise QuantcaseError(
                        f"{MARKS} line {number}: {kept['mark'][:40]!r} is no mark", fix="marks: good, minor, bad"
                    ) from None
                found[(mark.variant, mark.prompt_id)] = mark
    except (UnicodeDecodeError, csv.Error) as e:
        raise QuantcaseError(f"{MARKS} cannot be read: {e}", fix="a CSV in UTF-8 with a header") from None
    return list(found.values())
