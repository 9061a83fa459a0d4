"""A bundle, read once, for the rules: rows, documents, what of it cannot be read, and what is there to be judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cached_property, partial
from typing import TypeVar, cast

from collector import gpus
from collector.bundle import imported, loadtest
from collector.bundle import manifest as manifests
from collector.bundle.answers import LikelihoodRow, Mark, QualityItem, QualityRow
from collector.bundle.co_location import CO_LOCATION, CoLocation, read_co_location
from collector.bundle.predictions import PREDICTIONS, Predictions, read_predictions
from collector.bundle.read import Bundle
from collector.bundle.schema import (
    CellRow,
    ChunkGapRow,
    ClientCell,
    ClientFacts,
    EngineMetricRow,
    Environment,
    RequestRow,
    TelemetryRow,
    VariantRow,
)
from collector.bundle.stress import STRESS, StressRow, read_stress
from collector.bundle.tables import read_text, rows_from_text
from collector.errors import QuantcaseError
from collector.study import Load, Study

__all__ = ["CellKey", "Facts", "gpu_indices", "key_of", "place"]

CellKey = tuple[str, int, str, str, int]  # variant, start, workload, load, repeat
T = TypeVar("T")


def key_of(row: RequestRow | CellRow | ChunkGapRow | ClientCell) -> CellKey:
    """The repeat of a cell that a row belongs to."""
    return (row.variant, row.start, row.workload, row.load, row.repeat)


def gpu_indices(row: VariantRow) -> list[int]:
    """Which GPUs of the box served a variant; empty where that was not recorded, or is no list of numbers."""
    parts = (row.gpu_indices or "").split("|")
    return [int(p) for p in parts] if all(p.isdecimal() and len(p) < 5 for p in parts) else []


def place(key: CellKey) -> str:
    """A repeat of a cell in words."""
    variant, start, workload, load, repeat = key
    return f"{variant} {workload} {load} repeat {repeat} (start {start})"


class Facts:
    """Everything that rules ask about. A file that cannot be read leaves its rows empty and stands in `unreadable`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.info = bundle.info
        self.unreadable: list[tuple[str, str, str]] = []  # where, what is wrong, what to do
        self.torn: list[str] = []  # tables whose text ends in the middle
        self.headers: dict[str, list[str]] = {}  # table -> its columns as written
        self.files: list[str] | None = self._read("", lambda: manifests.list_files(bundle.folder), None)
        self.study: Study | None = self._read("study.toml", bundle.study, None)
        self.variants = self._table("variants", VariantRow)
        self.requests = self._table("requests", RequestRow)
        self.cells = self._table("cells", CellRow)
        self.gaps = self._table("chunk_gaps", ChunkGapRow)
        self.telemetry = self._table("telemetry", TelemetryRow)
        self.engine_metrics = self._table("engine_metrics", EngineMetricRow)
        self.environment = self._read("environment.json", bundle.environment, Environment(gpu_asked=self.info.gpu))
        self.client = self._read("client.json", bundle.client, ClientFacts())
        self.items: list[QualityItem] = self._read("quality_items.jsonl", bundle.quality_items, [])
        self.answers: list[QualityRow] = self._read("quality.jsonl", bundle.quality, [])
        self.likelihood: list[LikelihoodRow] = self._read("likelihood.jsonl.gz", bundle.likelihood, [])
        self.marks: list[Mark] = self._read("marks.csv", bundle.marks, [])
        self.predictions: Predictions | None = self._read(PREDICTIONS, lambda: read_predictions(bundle.folder), None)
        self.co_location: CoLocation | None = self._read(CO_LOCATION, lambda: read_co_location(bundle.folder), None)
        self.stress: list[StressRow] = self._read(STRESS, lambda: read_stress(bundle.folder), [])
        self.imported_document: imported.ImportedDocument | None = self._read(
            imported.DOCUMENT, lambda: imported.read_document(bundle.folder), None
        )
        self.imported_rows: list[imported.ImportedRow] = self._read(
            imported.TABLE, lambda: imported.read_rows(bundle.folder), []
        )
        for name in self.variant_names:
            self._read(loadtest.names(name)[0], partial(loadtest.read, bundle.folder, name), None)

    def _read(self, where: str, ask: Callable[[], T], empty: T) -> T:
        """What `ask` gives; `empty`, and a line in `unreadable`, where it cannot be read."""
        try:
            return ask()
        except QuantcaseError as e:
            self.unreadable.append((where or self.bundle.id, e.problem, e.fix))
        except (OSError, UnicodeDecodeError) as e:
            self.unreadable.append((where or self.bundle.id, f"cannot be read: {e}", ""))
        return empty

    def _table(self, name: str, row: type[T]) -> list[T]:
        path = self.bundle.table_path(name)
        if path is None:
            return []

        def read() -> list[T]:
            text, whole = read_text(path)
            self.headers[name] = text.split("\n", 1)[0].strip().split(",")
            if not whole:
                self.torn.append(path.name)
            return cast(list[T], rows_from_text(text, row, path.name))

        return self._read(path.name, read, [])

    @property
    def asked(self) -> Study:
        """The study, for rules that need one.

        Raises:
            QuantcaseError: it cannot be read: the rule does not say that it needs it.
        """
        if self.study is None:
            raise QuantcaseError("study.toml cannot be read")
        return self.study

    # -- what rules share ----------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the run was closed, so that the manifest lists every file."""
        return bool(self.bundle.manifest.resources)

    @cached_property
    def zero(self) -> float | None:
        """When the bundle was created, in seconds of Unix time: the zero of every stamp; None where it says no time."""
        try:
            return self.bundle.created().timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    @cached_property
    def variant_names(self) -> list[str]:
        return [v.name for v in self.study.variants] if self.study else []

    @cached_property
    def by_cell(self) -> dict[CellKey, list[RequestRow]]:
        """The requests of each repeat of a cell."""
        found: dict[CellKey, list[RequestRow]] = defaultdict(list)
        for r in self.requests:
            found[key_of(r)].append(r)
        return dict(found)

    @cached_property
    def by_point(self) -> dict[tuple[str, str, str], list[RequestRow]]:
        """The `ok` requests of all repeats of a variant at a load point, by (variant, workload, load)."""
        found: dict[tuple[str, str, str], list[RequestRow]] = defaultdict(list)
        for r in self.requests:
            if r.status == "ok":
                found[(r.variant, r.workload, r.load)].append(r)
        return dict(found)

    @cached_property
    def known_cells(self) -> dict[CellKey, list[RequestRow]]:
        """`by_cell`, less what is of a variant, workload or load that the study does not know (rules of their own)."""
        if self.study is None:
            return {}
        workloads = {w.name for w in self.study.workloads}
        names = set(self.variant_names)
        return {k: v for k, v in self.by_cell.items() if k[0] in names and k[2] in workloads and Load.of(k[3])}

    @cached_property
    def profile(self) -> gpus.GpuProfile | None:
        """The profile of the GPU that the bundle names; None for one that this version does not know."""
        return gpus.load().get(self.info.gpu)

    @cached_property
    def cards_mib(self) -> dict[int, float]:
        """Memory of each card that the driver named, MiB, by index: of the largest session where they differ."""
        found: dict[int, float] = {}
        for session in self.environment.sessions:
            for card in session.gpus:
                index, size = card.get("index"), card.get("vram_mib")
                if isinstance(index, int) and isinstance(size, int | float):
                    found[index] = max(float(size), found.get(index, 0.0))
        return found

    @cached_property
    def busy(self) -> list[tuple[str, TelemetryRow]]:
        """Samples taken inside a steady window while the card was at work (50 % or more), with the variant served.

        Of each card only the windows of variants that it served count: servers may run side by side. Samples and
        windows are walked together, both in the order of time: linear once they are sorted.
        """
        on = {(v.variant, v.start): gpu_indices(v) for v in self.variants}
        windows = sorted(
            (c.window_start_s, c.window_end_s, c.variant, c.start)
            for c in self.cells
            if c.window_start_s is not None and c.window_end_s is not None
        )
        samples: dict[int, list[TelemetryRow]] = defaultdict(list)
        for s in sorted(self.telemetry, key=lambda s: s.t_s):
            samples[s.gpu].append(s)
        found: list[tuple[str, TelemetryRow]] = []
        for gpu, rows in samples.items():
            mine = [w for w in windows if gpu in (on.get((w[2], w[3])) or [gpu])]
            at = 0
            for sample in rows:
                while at < len(mine) and mine[at][1] < sample.t_s:
                    at += 1
                loaded = sample.utilisation_pct is None or sample.utilisation_pct >= 50
                if loaded and at < len(mine) and mine[at][0] <= sample.t_s:
                    found.append((mine[at][2], sample))
        return sorted(found, key=lambda pair: pair[1].t_s)

    @cached_property
    def has(self) -> frozenset[str]:
        """What is there to be judged, in the words that rules use for their `needs`."""
        parts = {
            "study": self.study is not None,
            "files": self.files is not None,
            "closed": self.closed,
            "created": self.zero is not None,
            "complete": self.info.status == "complete",
            # Figures that a reader is asked to believe: replayed timings and other people's tables are told apart.
            "believed": self.info.grade in ("measured", "imported"),
            "measured": self.info.grade == "measured",
            "published": self.info.grade == "published",
            "variants": bool(self.variants),
            "requests": bool(self.requests),
            "cells": bool(self.cells),
            "gaps": bool(self.gaps),
            "telemetry": bool(self.telemetry),
            "energy": any(t.energy_j is not None for t in self.telemetry),
            "engine_metrics": bool(self.engine_metrics),
            "client": bool(self.client.cells),
            "sessions": bool(self.environment.sessions),
            "cards": bool(self.cards_mib),
            "bandwidth": self.profile is not None and self.profile.bandwidth_gb_s is not None,
            "price": self.study is not None and self.study.price is not None,
            "items": bool(self.items),
            "answers": bool(self.answers or self.likelihood),
            "likelihood": bool(self.likelihood),
            "marks": bool(self.marks),
            "predictions": self.predictions is not None,
            "stress": bool(self.stress),
            "imported": self.imported_document is not None or bool(self.imported_rows),
        }
        return frozenset(word for word, there in parts.items() if there)
