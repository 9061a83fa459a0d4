"""Classification: texts with labels out of a CSV or JSONL file, or the generated intents; a hub's are in `hub`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.bundle.answers import QualityItem
from collector.errors import UsageFault
from collector.quality import intents
from collector.quality.items import item, read_object

__all__ = ["from_file", "generated", "items", "names"]

_MOST_BYTES = 200 << 20
_MOST_LABELS = 200


def names(pairs: list[tuple[str, str]], known: list[str]) -> list[str]:
    """The labels that are asked about: those that the set is known to have, else those of its texts; in one order."""
    return sorted({*known, *(label for _, label in pairs)})


def items(suite: str, pairs: list[tuple[str, str]], known: list[str] | None = None) -> list[QualityItem]:
    """One item a text; every label of the set (`known` names them all) stands in every prompt, in one order.

    Raises:
        UsageFault: fewer than two labels, or so many that no prompt can hold them.
    """
    labels = names(pairs, known or [])
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise UsageFault(
            f"suite {suite}: the set has {len(labels)} labels, 2 to {_MOST_LABELS} can be asked",
            fix="check label_column",
        )
    return [
        item(suite, "classification", n, prompt(text, labels), reference=label, scorer="label", output_tokens=24)
        for n, (text, label) in enumerate(pairs)
    ]


def prompt(text: str, labels: list[str]) -> str:
    """The question for one text."""
    return f"Labels: {', '.join(labels)}\nMessage: {text}\nReply with the one label that fits the message."


def generated(count: int, seed: int) -> list[tuple[str, str]]:
    """The 23 intents of `collector.quality.intents`."""
    return intents.texts(count, seed)


def from_file(path: Path, text_column: str, label_column: str, count: int) -> list[tuple[str, str]]:
    """The first `count` (text, label) pairs of a CSV (with a header) or JSONL file.

    Raises:
        UsageFault: no such file, a column that it does not have, or nothing in it.
    """
    if not path.is_file():
        raise UsageFault(f"no file {path}", fix="check `file` of the suite")
    if path.stat().st_size > _MOST_BYTES:
        raise UsageFault(f"{path.name} is larger than {_MOST_BYTES >> 20} MiB", fix="take a part of it")
    pairs: list[tuple[str, str]] = []
    try:
        for row in _rows(path):
            if text_column not in row or label_column not in row:
                missing = text_column if text_column not in row else label_column
                raise UsageFault(f"{path.name} has no column {missing}", fix=f"columns: {_columns(row)}")
            label = "" if row[label_column] is None else str(row[label_column]).strip()
            if not label:
                raise UsageFault(f"{path.name}: row {len(pairs) + 1} has no {label_column}", fix="label it or drop it")
            pairs.append((str(row[text_column]), label))
            if len(pairs) == count:
                break
    except UnicodeDecodeError:
        raise UsageFault(f"{path.name} is not UTF-8 text", fix="save it as UTF-8") from None
    except (csv.Error, ValueError) as e:
        raise UsageFault(
            f"{path.name} cannot be read: {e}", fix="a CSV with a header, or one JSON object a line"
        ) from None
    if not pairs:
        raise UsageFault(f"{path.name} holds no rows", fix="a CSV with a header, or one JSON object a line")
    return pairs


def _columns(row: dict[str, Any]) -> str:
    """The columns in one short line: where a file has no header, they are its first row."""
    said = " ".join(", ".join(map(str, row)).split())
    return said if len(said) <= 200 else f"{said[:197]}..."


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as f:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            for number, line in enumerate(f, 1):
                if line.strip():
                    yield read_object(line, number)
        else:
            for row in csv.DictReader(f):
                yield {k: v or "" for k, v in row.items() if k is not None}
