"""Rows to CSV text and back, exactly as the schema says."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from collector.bundle.schema import columns
from collector.errors import QuantcaseError

__all__ = ["decode_rows", "header_line", "pack", "read_text", "row_line", "rows_from_text"]

R = TypeVar("R", bound=Struct)

_MOST_DIGITS = 18  # of a whole number: what has more does not fit into 64 bits, in pandas and elsewhere
_MOST = 1e100  # of any figure: none is near it, and sums and squares of what is smaller are finite
# One bundle file unpacked is never larger than this; a gzip bomb ends here instead of in the machine's memory.
MAX_TEXT_BYTES = 2 * 1024**3


def _line(values: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def header_line(row: type[Struct]) -> str:
    """The CSV header of a row type, with its newline."""
    return _line([c.name for c in columns(row)])


def row_line(row: Struct) -> str:
    """One row as a CSV line with its newline. None is the empty field; line breaks inside text become spaces."""
    values = []
    for column in columns(type(row)):
        value = getattr(row, column.name)
        if value is None:
            values.append("")
        elif column.kind == "string":
            values.append(" ".join(value.replace("\x00", "").split("\r")).replace("\n", " "))
        elif column.decimals is not None:
            values.append(_number(value, column.decimals))
        else:
            values.append(repr(value) if column.kind == "number" else str(value))
    return _line(values)


def _number(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_text(path: Path) -> tuple[str, bool]:
    """The text of a CSV or CSV.gz and whether it is whole. A torn gzip or a torn last line gives what is readable.

    Raises:
        QuantcaseError: the file unpacks to more than MAX_TEXT_BYTES.
    """
    whole = True
    if path.suffix == ".gz":
        pieces: list[bytes] = []
        size = 0
        try:
            with gzip.open(path, "rb") as f:
                while piece := f.read(1 << 20):
                    size += len(piece)
                    if size > MAX_TEXT_BYTES:
                        raise QuantcaseError(f"{path.name} unpacks to more than {MAX_TEXT_BYTES >> 30} GiB")
                    pieces.append(piece)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            whole = False
        data = b"".join(pieces)
    else:
        data = path.read_bytes()
    if not data.endswith(b"\n"):
        whole = False
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", "replace"), whole


def rows_from_text(text: str, row: type[R], where: str) -> list[R]:
    """All rows of a CSV text. Raises QuantcaseError naming the file, the line and the column."""
    return list(decode_rows(text, row, where))


def decode_rows(text: str, row: type[R], where: str) -> Iterator[R]:
    """The rows one by one; see rows_from_text. Columns that this version does not know are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader)
    except StopIteration:
        raise QuantcaseError(f"{where}: the file is empty", fix="a header was expected") from None
    except csv.Error as e:
        raise QuantcaseError(f"{where} line 1: {e}") from None
    missing = [c.name for c in columns(row) if c.required and c.name not in header]
    if missing:
        raise QuantcaseError(f"{where}: column {missing[0]} is missing")
    known = {c.name: c for c in columns(row)}
    wanted = [(i, known[name]) for i, name in enumerate(header) if name in known]
    figures = [(i, c) for i, c in wanted if c.kind != "string"]
    try:
        for fields in reader:
            if len(fields) != len(header):
                raise QuantcaseError(
                    f"{where} line {reader.line_num}: {len(fields)} fields, the header has {len(header)}"
                )
            for i, c in figures:
                if (len(fields[i]) > _MOST_DIGITS or "e" in fields[i]) and _too_large(fields[i], c.kind):
                    raise QuantcaseError(f"{where} line {reader.line_num}: column {c.name}: the number is too large")
            data = {c.name: fields[i] for i, c in wanted if fields[i] != "" or (c.required and c.kind == "string")}
            try:
                yield msgspec.convert(data, row, strict=False)
            except msgspec.ValidationError as e:
                raise QuantcaseError(f"{where} line {reader.line_num}: {_plain(e)}") from None
    except csv.Error as e:
        raise QuantcaseError(f"{where} line {reader.line_num}: {e}") from None


def _too_large(text: str, kind: str) -> bool:
    try:
        return len(text) > _MOST_DIGITS if kind == "integer" else _MOST < abs(float(text)) < math.inf
    except ValueError:
        return False  # no number at all: the decoder says so


def _plain(e: msgspec.ValidationError) -> str:
    text, _, path = str(e).partition(" - at `$.")
    return f"column {path.rstrip('`')}: {text}" if path else text


def pack(plain: Path, packed: Path) -> None:
    """Compress a finished file into its packed form and remove it; after a crash one of the two is whole."""
    temporary = packed.with_name(packed.name + ".tmp")
    with plain.open("rb") as source, temporary.open("wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        raw.flush()
        os.fsync(raw.fileno())
    temporary.replace(packed)
    plain.unlink()
