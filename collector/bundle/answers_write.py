"""Writes the quality files of an open bundle, an answer at a time, and knows what is still to be asked.

Every row is on disk when it counts as done. A run that was killed leaves at most one torn line at the end of a file,
which opening cuts off.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.manifest import write_atomic
from collector.bundle.tables import pack, read_text
from collector.errors import QuantcaseError

__all__ = ["ITEMS", "LIKELIHOOD", "ROWS", "AnswerStore", "read_lines"]

ITEMS, ROWS, LIKELIHOOD = "quality_items.jsonl", "quality.jsonl", "likelihood.jsonl.gz"
RowT = TypeVar("RowT", bound=Struct)
_PLAIN_LIKELIHOOD = LIKELIHOOD.removesuffix(".gz")


def read_lines(path: Path, kind: type[RowT], where: str) -> list[RowT]:
    """The rows of a JSONL file, packed or not; an empty list where there is none.

    Raises:
        QuantcaseError: a line that is no row of that kind, by its number.
    """
    if not path.is_file():
        return []
    text, whole = read_text(path)  # bounded: a packed file from anywhere must not fill the memory
    if not whole and path.suffix == ".gz":
        raise QuantcaseError(f"{where}/{path.name} cannot be unpacked", fix="copy the bundle again")
    rows = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            rows.append(msgspec.json.decode(line, type=kind))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise QuantcaseError(f"{where}/{path.name} line {number}: {e}") from None
    return rows


class AnswerStore:
    """The quality files of one open bundle."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        packed, plain = folder / LIKELIHOOD, folder / _PLAIN_LIKELIHOOD
        if packed.is_file() and not plain.is_file():
            write_atomic(plain, read_text(packed)[0].encode())
        packed.unlink(missing_ok=True)
        for name in (ITEMS, ROWS, _PLAIN_LIKELIHOOD):
            _cut_torn_line(folder / name)
        self._items: defaultdict[str, dict[str, QualityItem]] = defaultdict(dict)
        self._done: set[tuple[str, int, str]] = set()  # variant, pass, prompt
        self._finished: set[tuple[str, int]] = set()
        for item in read_lines(folder / ITEMS, QualityItem, folder.name):
            self._items[item.suite][item.prompt_id] = item
        for row in read_lines(folder / ROWS, QualityRow, folder.name):
            self._done.add((row.variant, row.repeat, row.prompt_id))
        for scored in read_lines(folder / _PLAIN_LIKELIHOOD, LikelihoodRow, folder.name):
            self._done.add((scored.variant, scored.repeat, scored.prompt_id))

    def has_items(self, suite: str) -> bool:
        """Whether a suite's items are settled."""
        return bool(self._items.get(suite))

    def items_of(self, suite: str) -> list[QualityItem]:
        return list(self._items[suite].values())

    def add_items(self, suite: str, items: list[QualityItem]) -> None:
        """Settle items; those that stand already stay as they are."""
        new = [i for i in items if i.prompt_id not in self._items[suite]]
        self._append(ITEMS, new)
        self._items[suite] |= {i.prompt_id: i for i in new}

    def missing(self, suite: str, variant: str, number: int) -> list[QualityItem]:
        """The items of a suite that this pass has no row of."""
        return [i for i in self.items_of(suite) if (variant, number, i.prompt_id) not in self._done]

    def whole(self, variant: str, number: int, suites: list[str]) -> bool:
        """Whether a pass has a row for every item of these suites, or went through them all in this run."""
        if (variant, number) in self._finished:
            return True
        return all(self.has_items(s) and not self.missing(s, variant, number) for s in suites)

    def finish(self, variant: str, number: int) -> None:
        """A pass went through all suites; of one that has no items that is all that there is to know."""
        self._finished.add((variant, number))

    def add(self, row: QualityRow) -> None:
        self._append(ROWS, [row])
        self._done.add((row.variant, row.repeat, row.prompt_id))

    def add_likelihood(self, row: LikelihoodRow) -> None:
        self._append(_PLAIN_LIKELIHOOD, [row])
        self._done.add((row.variant, row.repeat, row.prompt_id))

    def close(self) -> None:
        """Put the rows into one order, so that equal answers give equal files, and pack what is large."""
        for name, kind in ((ROWS, QualityRow), (_PLAIN_LIKELIHOOD, LikelihoodRow)):
            path = self._folder / name
            if path.is_file():
                rows = read_lines(path, kind, self._folder.name)
                rows.sort(key=lambda r: (r.variant, r.repeat, r.prompt_id))
                write_atomic(path, b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
        plain = self._folder / _PLAIN_LIKELIHOOD
        if plain.is_file():
            pack(plain, self._folder / LIKELIHOOD)

    def _append(self, name: str, rows: list[RowT]) -> None:
        if rows:
            with (self._folder / name).open("ab") as f:
                f.write(b"".join(msgspec.json.encode(r) + b"\n" for r in rows))


def _cut_torn_line(path: Path) -> None:
    """A last line without its end was being written when the run was killed."""
    if path.is_file():
        raw = path.read_bytes()
        if raw and not raw.endswith(b"\n"):
            path.write_bytes(raw[: raw.rfind(b"\n") + 1])
