"""CSV files that somebody else wrote: bounded, and every fault named by file, line and column."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection
from pathlib import Path

from collector.bundle.imported import ImportedFile
from collector.errors import QuantcaseError
from collector.importers.reading import file_of, read_bytes, short

__all__ = ["Row", "Sheet", "read_sheet", "sheet_of", "slug"]

_MOST_ROWS = 50_000  # of one file: these are summaries, not requests
_MOST_COLUMNS = 500
_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)


def slug(words: str, taken: Collection[str] = (), most: int = 40) -> str:
    """Words as the name of a workload or a part of a variant's: lower case, and none of those that are taken."""
    base = re.sub(r"[^a-z0-9._]+", "-", words.lower()[:500])[:most].strip("-._") or "unnamed"
    name, n = base, 1
    while name in taken:
        n += 1
        name = f"{base[: most - 1 - len(str(n))]}-{n}"
    return name


class Row:
    """One line of a CSV by the names of its columns. An empty field and `N/A` are no value."""

    __slots__ = ("_values", "where")

    def __init__(self, where: str, values: dict[str, str]) -> None:
        self.where = where
        self._values = values

    def fault(self, problem: str, column: str = "", fix: str = "is it the tool's own file?") -> QuantcaseError:
        """The error to raise about this line, or a column of it."""
        at = f", column {short(column)!r}" if column else ""
        return QuantcaseError(f"{self.where}{at}: {problem}", fix=fix)

    def text(self, column: str, most: int = 2_000) -> str:
        """A field as it stands, cut at `most` characters; empty where there is none."""
        return self._values.get(column, "").strip()[:most]

    def columns(self) -> list[str]:
        """The names of the columns, in their order."""
        return list(self._values)

    def has(self, column: str) -> bool:
        """Whether there is a value in that column."""
        return self.text(column) not in ("", "N/A")

    def number(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high], with a decimal point.

        Raises:
            QuantcaseError: there is no value, it is no such number, or it is out of bounds.
        """
        if not self.has(column):
            raise self.fault("has no value", column)
        value = self.text(column)
        if not _NUMBER.fullmatch(value):
            fix = "write numbers with a decimal point" if _COMMA.fullmatch(value) else "is it the tool's own file?"
            raise self.fault(f"{short(value)!r} is no number", column, fix)
        found = float(value)
        if not math.isfinite(found):
            raise self.fault(f"{short(value)!r} is too large a number", column)
        if not low <= found <= high:
            raise self.fault(f"{found:g} is not between {low:g} and {high:g}", column, "is the unit right?")
        return found

    def optional(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float | None:
        """The same; None where there is no value."""
        return self.number(column, low=low, high=high) if self.has(column) else None

    def count(self, column: str, most: int = 10**12) -> int:
        """A whole number from 0."""
        found = self.number(column, low=0, high=most)
        if found != int(found):
            raise self.fault(f"{found:g} is no whole number", column)
        return int(found)


class Sheet:
    """A CSV file: the names of its columns and its rows."""

    def __init__(self, name: str, columns: list[str], rows: list[Row]) -> None:
        self.name = name
        self.columns = columns
        self.rows = rows

    def need(self, *columns: str) -> None:
        """Raises QuantcaseError when one of these columns is not there."""
        for column in columns:
            if column not in self.columns:
                raise QuantcaseError(
                    f"{self.name} line 1: no column {short(column)!r}",
                    fix=f"it has {short(', '.join(self.columns), 200)}",
                )


def read_sheet(path: Path, delimiter: str = ",") -> tuple[Sheet, ImportedFile]:
    """A CSV file with a header, and what is recorded of it.

    Raises:
        QuantcaseError: it cannot be read, is not UTF-8, has no header, a column twice, a line of another length than
            the header, or too much of anything.
    """
    data = read_bytes(path)
    return sheet_of(data, short(path.name), delimiter), file_of(path, data)


def sheet_of(data: bytes, name: str, delimiter: str = ",") -> Sheet:
    """The same of bytes that were read already."""
    try:
        text = data.decode("utf-8-sig")  # spreadsheets begin UTF-8 with a mark
    except UnicodeDecodeError as e:
        raise QuantcaseError(f"{name} is not UTF-8 text (byte {e.start:,})", fix="save it as CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [c.strip() for c in next(reader, [])]
        if not any(header):
            raise QuantcaseError(f"{name} is empty", fix="a CSV with a header was expected")
        if len(header) > _MOST_COLUMNS:
            raise QuantcaseError(f"{name} line 1: {len(header):,} columns, more than {_MOST_COLUMNS}")
        for column in header:
            if header.count(column) > 1:
                raise QuantcaseError(f"{name} line 1: column {short(column)!r} stands twice", fix="rename one")
        rows: list[Row] = []
        for fields in reader:
            if not any(f.strip() for f in fields):
                continue
            where = f"{name} line {reader.line_num}"
            if len(fields) != len(header):
                raise QuantcaseError(
                    f"{where}: {len(fields)} fields, the header has {len(header)}", fix="is the file whole?"
                )
            if len(rows) >= _MOST_ROWS:
                raise QuantcaseError(f"{where}: more than {_MOST_ROWS:,} rows", fix="import fewer at once")
            rows.append(Row(where, dict(zip(header, fields, strict=True))))
    except csv.Error as e:
        raise QuantcaseError(f"{name} line {reader.line_num}: {e}", fix="is it a CSV, and whole?") from None
    return Sheet(name, header, rows)
