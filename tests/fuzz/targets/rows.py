"""The CSV tables: rows that are read can be written and read again; all else is one line with file and line."""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from collector.bundle.imported import ImportedRow
from collector.bundle.schema import TABLES
from collector.bundle.tables import header_line, row_line, rows_from_text
from collector.errors import QuantcaseError
from tests.fuzz.bundles import texts
from tests.fuzz.guard import Broken, one_line

__all__ = ["one", "seeds"]

_KINDS: tuple[type[Struct], ...] = (*(t.row for t in TABLES.values()), ImportedRow)
_PATHS = (*(t.path for t in TABLES.values()), "imported.csv")


@cache
def seeds() -> list[bytes]:
    """The tables of small real bundles; the first byte is the number of the table."""
    return [bytes([_PATHS.index(name)]) + text for name, text in texts() if name in _PATHS]


def one(data: bytes) -> None:
    """Read the rows of the table that the first byte names. Only QuantcaseError may come of it."""
    kind = _KINDS[data[0] % len(_KINDS)] if data else _KINDS[0]
    try:
        rows = rows_from_text(data[1:].decode("utf-8", "replace"), kind, "x.csv")
    except QuantcaseError as e:
        if not one_line(e).startswith("x.csv"):
            raise Broken(f"it does not say where: {e}") from e
        return
    text = header_line(kind) + "".join(map(row_line, rows))
    again = rows_from_text(text, kind, "y.csv")
    assert header_line(kind) + "".join(map(row_line, again)) == text, "what is written is read otherwise"
