"""What another tool said, as it said it: `imported.csv` (its figures) and `imported.json` (where they come from).

Both are optional files of a bundle of grade `imported`. A figure keeps the tool's name in front of its own, because
the same name means different things in different tools; none of them is ever compared with a metric of ours. What a
tool recorded request by request is in requests.csv.gz, and cells.csv is computed from it by our own definitions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from collector.bundle.tables import read_text, rows_from_text
from collector.errors import QuantcaseError

__all__ = [
    "DOCUMENT",
    "FAILED_SHARE",
    "TABLE",
    "ImportedDocument",
    "ImportedFile",
    "ImportedRow",
    "ImportedSource",
    "PointCounts",
    "bad_points",
    "mostly_failed",
    "problems",
    "read_document",
    "read_rows",
]

TABLE = "imported.csv"
DOCUMENT = "imported.json"
FAILED_SHARE = 0.05  # above it a point's figures stand for what survived, and no verdict is given on them
_MOST_BYTES = 64 << 20


def _col(meaning: str, unit: str = "", decimals: int | None = None) -> Meta:
    return Meta(description=meaning, extra={"unit": unit, "decimals": decimals})


class ImportedRow(Struct, kw_only=True):
    """imported.csv: one figure as the tool states it."""

    variant: Annotated[str, _col("variant, as named in study.toml")]
    workload: Annotated[str, _col("workload, as named in study.toml")]
    load: Annotated[str, _col("load point, as in requests.csv.gz where it is one of ours; else the tool's own words")]
    repeat: Annotated[int, _col("run of the tool at that load point, counted from 1")]
    metric: Annotated[str, _col("the tool's name, a dot, and its name for the metric")]
    statistic: Annotated[str, _col("what of it: mean, p99, total, value ...")]
    value: Annotated[float, _col("as the tool states it")]
    unit: Annotated[str, _col("unit of the value")]
    n: Annotated[int | None, _col("how many requests or samples are behind it, where the tool says so")] = None
    definition: Annotated[str, _col("how the tool works it out")]
    tool: Annotated[str, _col("tool, and its version where the file states one")]


class ImportedFile(Struct, kw_only=True):
    """A file that was read."""

    name: str
    bytes: int
    sha256: str


class PointCounts(Struct, kw_only=True):
    """What became of the requests of one point, as the tool counts them; None where it does not say."""

    variant: str
    workload: str
    load: str
    repeat: int
    requests: int | None = None
    ok: int | None = None
    failed: int | None = None
    messages: dict[str, int] = msgspec.field(default_factory=dict)  # what went wrong -> how often
    rows: bool = False  # whether each request stands in requests.csv.gz


class ImportedSource(Struct, kw_only=True):
    """One reading of one tool's files."""

    tool: str
    tool_version: str | None  # None: the file does not say
    variants: list[str]
    files: list[ImportedFile]
    definitions: dict[str, str]  # metric, ours or the tool's -> how the tool works it out
    missing: list[str]  # what the files do not say, in sentences
    notes: list[str]  # what was converted, assumed or left out, in sentences
    facts: dict[str, str] = msgspec.field(default_factory=dict)  # what the file says of the run: backend, endpoint ...


class ImportedDocument(Struct, kw_only=True):
    """imported.json."""

    sources: list[ImportedSource]
    points: list[PointCounts]
    said: dict[str, str] = msgspec.field(default_factory=dict)  # what a person said, because no file does


def read_document(folder: Path) -> ImportedDocument | None:
    """Where the figures come from; None in a bundle that was not imported.

    Raises:
        QuantcaseError: the file is too large or is not such a document.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{DOCUMENT} is larger than {_MOST_BYTES >> 20} MiB", fix="copy the bundle again")
    try:
        return msgspec.json.decode(path.read_bytes(), type=ImportedDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise QuantcaseError(f"{DOCUMENT} cannot be read: {e}", fix="copy the bundle again") from None


def read_rows(folder: Path) -> list[ImportedRow]:
    """The figures; empty where there are none.

    Raises:
        QuantcaseError: the file is too large, or a row is no such row, by its line.
    """
    path = folder / TABLE
    if not path.is_file():
        return []
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{TABLE} is larger than {_MOST_BYTES >> 20} MiB", fix="copy the bundle again")
    return rows_from_text(read_text(path)[0], ImportedRow, TABLE)


def bad_points(document: ImportedDocument | None) -> list[PointCounts]:
    """The points of which more than 5 % of the requests failed, worst first: figures of what survived."""
    points = document.points if document else []
    bad = [p for p in points if p.requests and p.failed and p.failed / p.requests > FAILED_SHARE]
    return sorted(bad, key=lambda p: -(p.failed or 0) / (p.requests or 1))


def mostly_failed(document: ImportedDocument | None) -> list[PointCounts]:
    """The points of which more requests failed than did not: a throughput of theirs is none."""
    return [p for p in bad_points(document) if 2 * (p.failed or 0) > (p.requests or 0)]


def problems(
    document: ImportedDocument | None, rows: Sequence[ImportedRow], variants: Collection[str]
) -> Iterator[tuple[str, str]]:
    """(where, what is wrong) of imported figures: unknown variants, no definition, no number."""
    if rows and document is None:
        yield TABLE, f"{DOCUMENT} is missing: the figures have no source"
    for p in document.points if document else []:
        if p.variant not in variants:
            yield DOCUMENT, f"variant {p.variant} is not in study.toml"
    for line, row in enumerate(rows, 2):
        where = f"{TABLE} line {line}"
        if row.variant not in variants:
            yield where, f"variant {row.variant} is not in study.toml"
        if not row.definition or "." not in row.metric:
            yield where, f"{row.metric} has no definition or no tool in its name"
        if not math.isfinite(row.value):
            yield where, f"{row.metric} is {row.value}, no number"
