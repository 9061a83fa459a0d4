"""Reads a bundle, whole or killed half way, into typed rows. What the site and the terminal stand on."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.answers import LikelihoodRow, Mark, QualityItem, QualityRow
from collector.bundle.answers_write import ITEMS, LIKELIHOOD, ROWS, read_lines
from collector.bundle.marks import read_marks
from collector.bundle.schema import (
    FORMAT,
    TABLES,
    CellRow,
    ChunkGapRow,
    ClientFacts,
    EngineMetricRow,
    Environment,
    Manifest,
    RequestRow,
    TelemetryRow,
    VariantRow,
)
from collector.bundle.tables import read_text, rows_from_text
from collector.errors import QuantcaseError
from collector.study import Load, Study, Variant, Workload
from collector.study import loads as study_from_toml

# Study and the error come along, because this package is all that the site may import of the collector.
__all__ = [
    "Bundle",
    "LikelihoodRow",
    "Load",
    "Mark",
    "QualityItem",
    "QualityRow",
    "QuantcaseError",
    "Study",
    "Variant",
    "Workload",
    "is_bundle",
    "open_bundle",
]

RowT = TypeVar("RowT", bound=Struct)
_AGAIN = "copy the bundle again"


def is_bundle(folder: Path) -> bool:
    """Whether a folder claims to be a bundle."""
    return (folder / manifests.MANIFEST).is_file()


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle.

    Raises:
        QuantcaseError: no bundle, or of a newer format than this version reads.
    """
    manifest = manifests.read(folder)
    if manifest.quantcase.format > FORMAT:
        raise QuantcaseError(
            f"{folder.name} is of format {manifest.quantcase.format}, this version reads up to {FORMAT}",
            fix="install a newer quantcase",
        )
    return Bundle(folder, manifest)


class Bundle:
    """A bundle on disk. Tables are read when asked for; a missing or torn table gives the rows that are there."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.info = manifest.quantcase

    @property
    def id(self) -> str:
        return self.manifest.name

    def created(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.manifest.created)

    def study(self) -> Study:
        """The study as it was asked.

        Raises:
            QuantcaseError: there is none, or it is no study.
        """
        path, where = self.folder / "study.toml", f"{self.folder.name}/study.toml"
        if not path.is_file():  # also of a pipe, which would be waited for without an end
            raise QuantcaseError(f"{where} is missing", fix=_AGAIN)
        try:
            return study_from_toml(path.read_text("utf-8"), where)
        except UnicodeDecodeError:
            raise QuantcaseError(f"{where} is not UTF-8 text", fix=_AGAIN) from None

    def environment(self) -> Environment:
        return self._document("environment.json", Environment, Environment(gpu_asked=self.info.gpu))

    def client(self) -> ClientFacts:
        return self._document("client.json", ClientFacts, ClientFacts())

    def variants(self) -> list[VariantRow]:
        return self._rows("variants", VariantRow)

    def requests(self) -> list[RequestRow]:
        return self._rows("requests", RequestRow)

    def chunk_gaps(self) -> list[ChunkGapRow]:
        return self._rows("chunk_gaps", ChunkGapRow)

    def cells(self) -> list[CellRow]:
        return self._rows("cells", CellRow)

    def telemetry(self) -> list[TelemetryRow]:
        return self._rows("telemetry", TelemetryRow)

    def engine_metrics(self) -> list[EngineMetricRow]:
        return self._rows("engine_metrics", EngineMetricRow)

    def quality_items(self) -> list[QualityItem]:
        """What was asked; empty where quality was not measured."""
        return read_lines(self.folder / ITEMS, QualityItem, self.folder.name)

    def quality(self) -> list[QualityRow]:
        """What was answered."""
        return read_lines(self.folder / ROWS, QualityRow, self.folder.name)

    def likelihood(self) -> list[LikelihoodRow]:
        """How likely each server start found the fixed texts."""
        packed = self.folder / LIKELIHOOD
        plain = self.folder / LIKELIHOOD.removesuffix(".gz")
        return read_lines(packed if packed.is_file() else plain, LikelihoodRow, self.folder.name)

    def marks(self) -> list[Mark]:
        """What a person says of the answers; empty without a marks.csv."""
        return read_marks(self.folder)

    def notes(self) -> str:
        """The person's own words; text, never markup to be trusted."""
        path = self.folder / "notes.md"
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    def log(self, variant: str, start: int) -> str:
        """The engine's log of one server start; empty when there is none."""
        path = self.folder / "logs" / f"{variant}-{start}.log.gz"
        return read_text(path)[0] if path.is_file() else ""

    def table_path(self, table: str) -> Path | None:
        """Where a table lies now: packed in a closed bundle, plain in an open or killed one."""
        packed = self.folder / TABLES[table].path
        plain = self.folder / TABLES[table].path.removesuffix(".gz")
        # While packing is under way both may exist; the plain one is whole until it is removed.
        return plain if plain.is_file() else packed if packed.is_file() else None

    def columns_of(self, table: str) -> set[str]:
        """The columns that a table's file holds: an older collector wrote fewer."""
        path = self.table_path(table)
        return set(read_text(path)[0].split("\n", 1)[0].strip().split(",")) if path else set()

    def _rows(self, table: str, row: type[RowT]) -> list[RowT]:
        path = self.table_path(table)
        return rows_from_text(read_text(path)[0], row, f"{self.folder.name}/{path.name}") if path else []

    def _document(self, name: str, kind: type[RowT], empty: RowT) -> RowT:
        path = self.folder / name
        if not path.is_file():
            return empty
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise QuantcaseError(f"{self.folder.name}/{name} cannot be read: {e}", fix=_AGAIN) from None
