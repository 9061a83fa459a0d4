"""Opens files that somebody else wrote: bounded, and every fault named by the path to it.

A `Node` is a value of a JSON document with its place (`bf16.json: benchmarks[0].metrics.ttft`). Whatever is asked of
it either comes back typed and finite or raises one line that says where and what.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.bundle.imported import ImportedFile
from collector.errors import QuantcaseError

__all__ = ["MOST_BYTES", "MOST_REQUESTS", "Node", "file_of", "read_bytes", "read_json", "read_json_lines", "short"]

MOST_BYTES = 256 << 20  # of one file
MOST_REQUESTS = 2_000_000  # of one import
_MOST_LINE = 64 << 20
_SHOWN = 60


def short(value: object, most: int = _SHOWN) -> str:
    """A value as one line of bounded length, for a message."""
    text = " ".join(str(value)[: 4 * most].split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def read_bytes(path: Path) -> bytes:
    """The bytes of a plain file.

    Raises:
        QuantcaseError: it is not there, is no plain file, or is larger than MOST_BYTES.
    """
    try:
        if not path.is_file():
            raise QuantcaseError(f"{short(path)} is no file", fix="name the tool's result files")
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            data = f.read(MOST_BYTES + 1)
    except OSError as e:
        raise QuantcaseError(f"{short(path)} cannot be read: {e.strerror or e}") from None
    if len(data) > MOST_BYTES:
        raise QuantcaseError(f"{path.name} holds {size:,} bytes, more than {MOST_BYTES:,}", fix="export less detail")
    return data


def file_of(path: Path, data: bytes) -> ImportedFile:
    """What the bundle records of a file: its name without folders, its size, its hash."""
    return ImportedFile(name=short(path.name, 200), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _decode(data: bytes | str, where: str) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise QuantcaseError(f"{where}: its JSON is nested too deep", fix="is it the tool's own file?") from None
    except ValueError as e:  # also of bytes that are no UTF-8, and of endless integers
        raise QuantcaseError(f"{where} is not JSON: {short(e, 100)}", fix="copy the file again") from None


def read_json(path: Path) -> tuple[Node, ImportedFile]:
    """A JSON file as a node, with what is recorded of it.

    Raises:
        QuantcaseError: see `read_bytes`; or it is not JSON.
    """
    data = read_bytes(path)
    return Node(_decode(data, path.name), f"{short(path.name)}: "), file_of(path, data)


def read_json_lines(path: Path) -> tuple[list[Node], ImportedFile]:
    """The lines of a JSONL file as nodes; blank lines are passed over.

    Raises:
        QuantcaseError: see `read_bytes`; or a line is not JSON.
    """
    data = read_bytes(path)
    nodes = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        where = f"{short(path.name)} line {number}"
        if len(raw) > _MOST_LINE:
            raise QuantcaseError(f"{where} holds {len(raw):,} bytes", fix="export less detail")
        if raw.strip():
            nodes.append(Node(_decode(raw, where), f"{where}: "))
        if len(nodes) > MOST_REQUESTS:
            raise QuantcaseError(f"{where}: more than {MOST_REQUESTS:,} lines", fix="import fewer at once")
    return nodes, file_of(path, data)


class Node:
    """A value of a JSON document and the path to it."""

    __slots__ = ("value", "where")

    def __init__(self, value: Any, where: str) -> None:
        self.value = value
        self.where = where

    def fault(self, problem: str, fix: str = "is it the tool's own file, whole and unedited?") -> QuantcaseError:
        """The error to raise about this value."""
        return QuantcaseError(f"{self.where.rstrip(': .')}: {problem}", fix=fix)

    def __contains__(self, key: str) -> bool:
        """Whether the object has that key, with another value than null."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def __getitem__(self, key: str) -> Node:
        """The value under a key; an error when there is none."""
        if not isinstance(self.value, dict):
            raise self.fault("is no object")
        if key not in self.value:
            raise self.fault(f"has no `{key}`")
        return Node(self.value[key], self._below(key))

    def get(self, key: str) -> Node | None:
        """The value under a key; None when there is none or it is null."""
        if not isinstance(self.value, dict):
            raise self.fault("is no object")
        value = self.value.get(key)
        return None if value is None else Node(value, self._below(key))

    def items(self) -> Iterator[Node]:
        """The members of a list."""
        if not isinstance(self.value, list):
            raise self.fault("is no list")
        if len(self.value) > MOST_REQUESTS:
            raise self.fault(f"holds {len(self.value):,} entries, more than {MOST_REQUESTS:,}")
        return (Node(v, f"{self.where.rstrip(': ')}[{i}]") for i, v in enumerate(self.value))

    def keys(self) -> list[str]:
        """The keys of an object."""
        if not isinstance(self.value, dict):
            raise self.fault("is no object")
        return list(self.value)

    def number(self, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]; true and false are none."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(f"{short(value)!r} is no number")
        try:
            found = float(value)
        except OverflowError:
            raise self.fault("is too large a number") from None
        if not math.isfinite(found):
            raise self.fault(f"is {found}, no finite number")
        if not low <= found <= high:
            raise self.fault(f"{found:g} is not between {low:g} and {high:g}", "is the unit right?")
        return found

    def count(self, most: int = 10**12) -> int:
        """A whole number from 0."""
        found = self.number(low=0, high=most)
        if found != int(found):
            raise self.fault(f"{found:g} is no whole number")
        return int(found)

    def text(self, most: int = 2_000) -> str:
        """A text, cut at `most` characters, halves of characters replaced."""
        if not isinstance(self.value, str):
            raise self.fault(f"{short(self.value)!r} is no text")
        return self.value[:most].encode("utf-8", "replace").decode("utf-8")

    def _below(self, key: str) -> str:
        joint = "" if self.where.endswith(": ") else "."
        return f"{self.where}{joint}{short(key)}"
