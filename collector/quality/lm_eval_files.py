"""The files that lm-evaluation-harness leaves: found by their names, opened with a limit, their damage named.

What samples and results mean is for `lm_eval_results`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from collector.errors import QuantcaseError

__all__ = [
    "AGAIN",
    "Found",
    "decode",
    "find_results",
    "find_samples",
    "lines",
    "plain_text",
    "results",
    "summary",
    "table",
]

MAX_BYTES = 200_000_000  # of one file
MAX_SAMPLES = 1_000_000  # of one folder

AGAIN = "run lm_eval again with --log_samples and --output_path"
_DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
_SAMPLES = re.compile(rf"samples_(?P<task>.+?)(?:_(?P<date>{_DATE}))?\.jsonl")
_RESULTS = re.compile(rf"results_(?P<date>{_DATE})\.json")


class Found(Struct, frozen=True):
    """A file, and what its name says."""

    path: Path
    date: str  # as it sorts; empty where the name has none
    task: str = ""


def find_samples(folder: Path) -> list[Found]:
    """All samples files below `folder`, by their paths."""
    return _find(folder, "samples_*.jsonl", _SAMPLES)


def find_results(folder: Path) -> list[Found]:
    """All results files below `folder`, by their paths."""
    return _find(folder, "results_*.json", _RESULTS)


def lines(path: Path, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place and object. A blank line is passed over.

    Raises:
        QuantcaseError: a line holds no JSON object, or there are too many.
    """
    held = 0
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            held += 1
            where = f"{path} line {number}"
            if held > most:
                raise QuantcaseError(f"{where}: more than {MAX_SAMPLES:,} samples in all", fix="ask fewer documents")
            value = decode(raw)
            if value is None and not raw.endswith(b"\n"):
                raise QuantcaseError(f"{where}: the file is cut off in its last line", fix=f"copy it again, or {AGAIN}")
            if not isinstance(value, dict):
                raise QuantcaseError(f"{where}: is no JSON object", fix="copy the file again")
            yield where, value


def summary(source: Found) -> dict[str, Any]:
    """The results file of the same run; empty when it is not there."""
    path = source.path.with_name(f"results_{source.date}.json")
    return results(path) if source.date and path.is_file() else {}


def results(path: Path) -> dict[str, Any]:
    """A results file; its tables are tables.

    Raises:
        QuantcaseError: it is too large or damaged.
    """
    with _open(path) as file:
        value = decode(file.read())
    if not isinstance(value, dict):
        raise QuantcaseError(f"{path} is no JSON object, or is cut off", fix="copy it again")
    for key in ("config", "versions", "n-samples", "n-shot", "higher_is_better"):
        if not isinstance(value.get(key, {}), dict):
            raise QuantcaseError(f"{path}: {key} is no table", fix="is it a results file of lm-eval?")
    return value


def table(value: dict[str, Any], key: str) -> dict[str, Any]:
    """The table under that key; empty when there is none."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def decode(data: bytes) -> Any:
    """The value, or None where there is none. Python's own parser: lm-eval writes NaN and Infinity as Python does."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def plain_text(value: str) -> str:
    """The text as UTF-8 can hold it: JSON may spell half a character."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _find(folder: Path, glob: str, pattern: re.Pattern[str]) -> list[Found]:
    out = []
    for path in sorted(folder.rglob(glob)):
        if (m := pattern.fullmatch(path.name)) and path.is_file():
            groups = m.groupdict()
            out.append(Found(path, groups.get("date") or "", plain_text(groups.get("task") or "")))
    return out


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as e:
        raise QuantcaseError(f"{path} cannot be read: {e.strerror or e}") from None
    if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
        file.close()
        raise QuantcaseError(f"{path} holds {size:,} bytes, more than {MAX_BYTES:,}", fix="ask fewer documents")
    return file
