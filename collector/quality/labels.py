"""Classification: texts with labels out of a CSV or JSONL file, a data set of a hub, or the generated intents."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.bundle.answers import QualityItem
from collector.errors import QuantcaseError, UsageFault
from collector.quality import intents
from collector.quality.items import item, read_object

__all__ = ["from_file", "from_hub", "generated", "items"]

_MOST_BYTES = 200 << 20
_MOST_LABELS = 200


def items(suite: str, pairs: list[tuple[str, str]]) -> list[QualityItem]:
    """One item a text; every label of the set stands in every prompt, in one order.

    Raises:
        UsageFault: fewer than two labels, or so many that no prompt can hold them.
    """
    labels = sorted({label for _, label in pairs})
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


def from_hub(dataset: str, text_column: str, label_column: str, count: int) -> list[tuple[str, str]]:
    """The first pairs of a Hugging Face data set's test split (or its first split), with the library `datasets`.

    Raises:
        QuantcaseError: the library is missing, or the hub cannot be reached: then name a local file.
    """
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise QuantcaseError(
            f"data set {dataset} needs the library `datasets`", fix="pip install datasets, or name a local `file`"
        ) from None
    try:
        splits = datasets.load_dataset(dataset)
    except Exception as e:  # whatever the hub's library raises: what matters is that it could not be had
        raise QuantcaseError(
            f"data set {dataset} cannot be had: {type(e).__name__}", fix="name a local `file` of the suite instead"
        ) from e
    split = splits["test"] if "test" in splits else splits[next(iter(splits))]
    missing = [c for c in (text_column, label_column) if c not in split.column_names]
    if missing:
        raise UsageFault(f"{dataset} has no column {missing[0]}", fix=f"columns: {', '.join(split.column_names)}")
    names = getattr(split.features[label_column], "names", None)
    pairs = []
    for row in split.select(range(min(count, len(split)))):
        value = row[label_column]
        pairs.append((str(row[text_column]), names[value] if names and isinstance(value, int) else str(value)))
    return pairs
