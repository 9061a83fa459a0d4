"""Writes a bundle so that a crash at any moment leaves one that can be read and resumed.

Every text passes `collector.bundle.door` first, which takes secrets and names out.

While a run is on, tables are plain CSV, appended and flushed row by row, beside a manifest that says `interrupted`.
A repeat of a cell counts as done when its row stands in cells.csv, which is written after its requests are on disk.
`close()` packs the large tables and writes the manifest last. `resume()` drops the rows of unfinished repeats.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TypeVar

import msgspec
from msgspec import Struct

from collector import __version__
from collector.bundle import manifest as manifests
from collector.bundle.door import CleanAnswers, clean_environment, clean_row, clean_study, restored
from collector.bundle.predictions import write_predictions
from collector.bundle.schema import (
    FORMAT,
    TABLES,
    CellRow,
    ChunkGapRow,
    ClientCell,
    ClientFacts,
    EngineMetricRow,
    Environment,
    Grade,
    Manifest,
    QuantcaseInfo,
    RequestRow,
    Status,
    TelemetryRow,
    VariantRow,
)
from collector.bundle.tables import header_line, pack, read_text, row_line, rows_from_text
from collector.errors import QuantcaseError
from collector.probes.redact import redact
from collector.study import Study
from collector.study import dumps as study_toml
from collector.study import loads as study_from_toml

__all__ = ["BundleWriter", "CellKey", "bundle_name"]

RowT = TypeVar("RowT", bound=Struct)
CellKey = tuple[str, int, str, str, int]  # variant, start, workload, load, repeat

_NOTES = """# Notes

<!-- Your own words. Predictions before the run, observations after it. `collect seal` renews the hash of this file. -->

## Before: what I expect

## After: what I saw

## What I learned
"""


def bundle_name(out: Path, gpu: str, study_id: str, today: datetime.date) -> str:
    """`<date>-<gpu>-<study>`; `-2`, `-3` ... when that name is taken."""
    base = f"{today:%Y-%m-%d}-{gpu}-{study_id}"
    name, n = base, 1
    while (out / name).exists():
        n += 1
        name = f"{base}-{n}"
    return name


def _key(row: RequestRow | ChunkGapRow | CellRow | ClientCell) -> CellKey:
    return (row.variant, row.start, row.workload, row.load, row.repeat)


class BundleWriter:
    """An open bundle. Use `create` or `resume`, then the `add_*` methods, then `close`."""

    def __init__(self, folder: Path, study: Study, manifest: Manifest, environment: Environment) -> None:
        self.folder = folder
        self.study = study
        self.manifest = manifest
        self.environment = environment
        self.variants: list[VariantRow] = []
        self.cells: list[CellRow] = []
        self.client = ClientFacts()
        self.answers = CleanAnswers(folder)
        self._files: dict[str, IO[str]] = {}
        self._lock = threading.Lock()

    # -- opening -------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, folder: Path, study: Study, *, grade: Grade, gpu: str, cells_planned: int, environment: Environment
    ) -> BundleWriter:
        """Start a bundle in a folder that does not exist yet."""
        folder.mkdir(parents=True)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        info = QuantcaseInfo(
            format=FORMAT,
            grade=grade,
            weights=study.weights,
            status="interrupted",
            gpu=gpu,
            study=study.id,
            collector_version=__version__,
            cells_planned=cells_planned,
            cells_done=0,
        )
        self = cls(
            folder,
            study,
            Manifest(name=folder.name, title=redact(study.title), created=now, quantcase=info),
            environment,
        )
        manifests.write_atomic(folder / "study.toml", study_toml(clean_study(study)).encode())
        (folder / "notes.md").write_text(_NOTES, "utf-8")
        if study.predictions is not None and study.predictions.given:
            write_predictions(folder, study.predictions)
        self._open_tables()
        self._save_documents()
        manifests.write(folder, self.manifest)  # says `interrupted` until close() says otherwise
        return self

    @classmethod
    def resume(cls, folder: Path) -> BundleWriter:
        """Open an interrupted bundle to go on with it. Rows of repeats that were not finished are dropped.

        Raises:
            QuantcaseError: not a bundle, one that is complete already, or one whose study needs a secret that was taken
                out and is not in the environment.
        """
        manifest = manifests.read(folder)
        if manifest.quantcase.status == "complete":
            raise QuantcaseError(f"{folder.name} is complete already", fix="nothing to resume")
        where = f"{folder.name}/study.toml"
        study = restored(study_from_toml((folder / "study.toml").read_text("utf-8"), where), where)
        environment = msgspec.json.decode((folder / "environment.json").read_bytes(), type=Environment)
        self = cls(folder, study, manifest, environment)
        manifest.quantcase.status = "interrupted"
        manifest.resources = []
        self._unpack_tables()
        self.cells = self._rows("cells", CellRow)
        self.variants = self._rows("variants", VariantRow)
        if (folder / "client.json").is_file():
            self.client = msgspec.json.decode((folder / "client.json").read_bytes(), type=ClientFacts)
        done = self.done()
        self.client.cells = [c for c in self.client.cells if _key(c) in done]
        requests = [r for r in self._rows("requests", RequestRow) if _key(r) in done]
        gaps = [g for g in self._rows("chunk_gaps", ChunkGapRow) if _key(g) in done]
        self._rewrite("requests", requests)
        self._rewrite("chunk_gaps", gaps)
        for table in ("telemetry", "engine_metrics", "cells"):
            self._rewrite(table, self._rows(table, TABLES[table].row))
        self._open_tables()
        manifests.write(folder, manifest)
        return self

    def done(self) -> set[CellKey]:
        """The repeats that are finished: measured, on disk, and summed up in cells.csv."""
        return {_key(c) for c in self.cells}

    def created(self) -> datetime.datetime:
        """When the bundle was created: the zero of every `_s` time stamp in it."""
        return datetime.datetime.fromisoformat(self.manifest.created)

    # -- adding --------------------------------------------------------------------------------------------------

    def add_repeat(self, requests: Sequence[RequestRow], gaps: Sequence[ChunkGapRow], cell: CellRow) -> None:
        """One finished repeat of a cell: its requests and gaps reach the disk before its row in cells.csv does."""
        self._append("requests", requests)
        self._append("chunk_gaps", gaps)
        self._sync("requests", "chunk_gaps")
        self._append("cells", [cell])
        self._sync("cells")
        self.cells.append(cell)

    def add_telemetry(self, row: TelemetryRow) -> None:
        self._append("telemetry", [row])

    def add_engine_metrics(self, row: EngineMetricRow) -> None:
        self._append("engine_metrics", [row])

    def set_variant(self, row: VariantRow) -> None:
        """Add or replace the row of a variant's server start; the small table is rewritten whole."""
        row = clean_row(row)
        key = (row.variant, row.start)
        self.variants = [v for v in self.variants if (v.variant, v.start) != key] + [row]
        lines = [header_line(VariantRow), *(row_line(v) for v in self.variants)]
        manifests.write_atomic(self.folder / "variants.csv", "".join(lines).encode())

    def add_log(self, variant: str, start: int, text: str) -> None:
        """The engine's log of a server start; secrets are taken out here."""
        path = self.folder / "logs" / f"{variant}-{start}.log.gz"
        path.parent.mkdir(exist_ok=True)
        manifests.write_atomic(path, gzip.compress(redact(text).encode("utf-8", "replace"), mtime=0))

    def save_documents(self) -> None:
        """Write environment.json and client.json as they stand now."""
        self._save_documents()

    # -- closing -------------------------------------------------------------------------------------------------

    def close(self, status: Status) -> None:
        """Pack the tables and write the manifest with every hash, last.

        Raises:
            OSError: the disk took no more. What stands on it is an open bundle, which can be resumed.
        """
        try:
            for f in self._files.values():
                f.flush()
                os.fsync(f.fileno())
        finally:
            for f in self._files.values():
                with contextlib.suppress(OSError):  # told already by the flush; a torn last row is dropped by resume
                    f.close()
            self._files.clear()
        self._save_documents()
        self.answers.close()
        for table in TABLES.values():
            if table.path.endswith(".gz"):
                pack(self._plain(table.path), self.folder / table.path)
        info = self.manifest.quantcase
        info.status = status
        info.cells_done = len(self.cells)
        if status == "complete" or info.cells_done > info.cells_planned:  # searches and extra rounds add cells
            info.cells_planned = max(info.cells_planned, info.cells_done)
        self.manifest.resources = manifests.resources(self.folder)
        manifests.write(self.folder, self.manifest)

    # -- inside --------------------------------------------------------------------------------------------------

    def _plain(self, path: str) -> Path:
        return self.folder / path.removesuffix(".gz")

    def _open_tables(self) -> None:
        for name, table in TABLES.items():
            path = self._plain(table.path)
            if not path.exists():
                manifests.write_atomic(path, header_line(table.row).encode())
            if name != "variants":
                self._files[name] = path.open("a", encoding="utf-8", newline="")

    def _append(self, table: str, rows: Iterable[Struct]) -> None:
        text = "".join(row_line(clean_row(r)) for r in rows)
        with self._lock:  # telemetry comes from a thread of each server's own
            f = self._files[table]
            f.write(text)
            f.flush()

    def _sync(self, *tables: str) -> None:
        for table in tables:
            os.fsync(self._files[table].fileno())

    def _rows(self, table: str, row: type[RowT]) -> list[RowT]:
        path = self._plain(TABLES[table].path)
        return rows_from_text(read_text(path)[0], row, path.name) if path.is_file() else []

    def _rewrite(self, table: str, rows: Iterable[Struct]) -> None:
        spec = TABLES[table]
        lines = [header_line(spec.row), *(row_line(r) for r in rows)]
        manifests.write_atomic(self._plain(spec.path), "".join(lines).encode())

    def _unpack_tables(self) -> None:
        """A bundle closed as `interrupted` has packed tables; an open one is plain again."""
        for table in TABLES.values():
            packed = self.folder / table.path
            if table.path.endswith(".gz") and packed.is_file():
                if not self._plain(table.path).is_file():
                    manifests.write_atomic(self._plain(table.path), read_text(packed)[0].encode())
                packed.unlink()

    def _save_documents(self) -> None:
        for name, document in (
            ("environment.json", clean_environment(self.environment)),
            ("client.json", self.client),
        ):
            data = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
            manifests.write_atomic(self.folder / name, data)
