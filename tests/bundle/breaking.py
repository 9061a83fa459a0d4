"""A sound bundle that holds everything a rule can be about, and the tools to break it in one place.

Breakers register themselves with `@breaks(rule id)`; `tests/bundle/test_rules.py` runs each on a copy of its own.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from collector.bundle import manifest as manifests
from collector.bundle import metrics
from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.predictions import Answers, write_predictions
from collector.bundle.read import open_bundle
from collector.bundle.schema import (
    TABLES,
    ChunkGapRow,
    ClientCell,
    ClientFacts,
    EngineMetricRow,
    Environment,
    Manifest,
    RequestRow,
    Session,
    TelemetryRow,
    rounded,
)
from collector.bundle.stress import StressRow, append_row
from collector.bundle.tables import header_line, row_line
from collector.study import Load, Study, dumps, loads
from tests import makers

__all__ = ["BREAKERS", "Box", "Breaker", "breaks", "sound_bundle"]


@dataclass(frozen=True)
class Breaker:
    """What breaks one rule, and the rules that cannot but break with it."""

    act: Callable[[Box], None]
    also: frozenset[str]


BREAKERS: dict[str, Breaker] = {}


def breaks(rule: str, *also: str) -> Callable[[Callable[[Box], None]], Callable[[Box], None]]:
    """Register what breaks a rule."""

    def register(act: Callable[[Box], None]) -> Callable[[Box], None]:
        assert rule not in BREAKERS, rule
        BREAKERS[rule] = Breaker(act, frozenset(also))
        return act

    return register


def asked() -> Study:
    """Two variants, one load point, enough requests for a p99."""
    whole = loads(makers.STUDY.format(weights="real"), "test")
    chat = replace(whole.workload("chat"), concurrency=[16], requests_per_stream=8)
    return replace(whole, variants=whole.variants[:2], workloads=[chat])


class Box:
    """A bundle that can be changed. `save` writes what was loaded, renews what follows from it, and every hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bundle = open_bundle(folder)
        self.study = bundle.study()
        self.variants, self.requests, self.cells = bundle.variants(), bundle.requests(), bundle.cells()
        self.gaps, self.telemetry = bundle.chunk_gaps(), bundle.telemetry()
        self.engine_metrics = bundle.engine_metrics()
        self.client, self.environment = bundle.client().cells, bundle.environment()
        self.items, self.answers, self.likelihood = bundle.quality_items(), bundle.quality(), bundle.likelihood()

    def settle(self) -> None:
        """Make cells, gaps and what the client counted follow from the requests."""
        found: dict[tuple[str, int, str, str, int], list[RequestRow]] = defaultdict(list)
        for r in self.requests:
            found[(r.variant, r.start, r.workload, r.load, r.repeat)].append(r)
        limits = {w.name: w for w in self.study.workloads}
        self.cells, self.gaps, self.client = [], [], []
        for key, rows in found.items():
            load = Load.of(key[3])
            assert load is not None
            ok = [r for r in rows if r.status == "ok"]
            self.cells.append(metrics.cell(rows, load, limits.get(key[2])))
            names = dict(zip(("variant", "start", "workload", "load", "repeat"), key, strict=True))
            gaps = sum(r.chunks - 1 for r in ok)
            self.gaps.append(ChunkGapRow(**names, upper_ms=7.0, count=gaps))  # type: ignore[arg-type]
            tokens = sum(r.output_tokens or 0 for r in ok)
            self.client.append(
                ClientCell(
                    **names,  # type: ignore[arg-type]
                    loop_lag_ms_p50=0.1,
                    loop_lag_ms_p99=0.4,
                    cpu_pct=9.0,
                    tokens_per_chunk=1.0,
                    concurrency_asked=16,
                    concurrency_reached=16,
                    usage_tokens=tokens,
                    content_chunks=tokens,
                    engine_tokens=float(tokens),
                    engine_prefix_hit_tokens=0.0,
                    client_limited=False,
                )
            )

    def write(self) -> None:
        """Every table and document as it stands in memory."""
        tables: dict[str, list[Any]] = {
            "variants": self.variants, "requests": self.requests, "cells": self.cells, "chunk_gaps": self.gaps,
            "telemetry": self.telemetry, "engine_metrics": self.engine_metrics,
        }  # fmt: skip
        for name, rows in tables.items():
            table = TABLES[name]
            self.text(table.path, header_line(table.row) + "".join(row_line(r) for r in rows))
        self.text("study.toml", dumps(self.study))
        floor = open_bundle(self.folder).client().loopback_floor_ms
        self.json("client.json", ClientFacts(loopback_floor_ms=floor, cells=self.client))
        self.json("environment.json", self.environment)
        for path, lines in (
            ("quality_items.jsonl", self.items),
            ("quality.jsonl", self.answers),
            ("likelihood.jsonl.gz", self.likelihood),
        ):
            self.text(path, "".join(msgspec.json.encode(r).decode() + "\n" for r in lines))

    def text(self, path: str, words: str) -> None:
        """A file's text, packed where its name says so."""
        data = words.encode()
        (self.folder / path).write_bytes(gzip.compress(data, 1, mtime=0) if path.endswith(".gz") else data)

    def json(self, path: str, document: Any) -> None:
        self.text(path, msgspec.json.encode(document).decode() + "\n")

    def change_json(self, path: str, change: Callable[[Any], None]) -> None:
        """Change a document as raw JSON: what the types would refuse can be written, too."""
        value = json.loads((self.folder / path).read_text())
        change(value)
        self.text(path, json.dumps(value) + "\n")

    def seal(self, **info: Any) -> None:
        """Renew the manifest: hashes, counts, and what `info` says of it."""
        self.seal_with(lambda m: replace(m, quantcase=replace(m.quantcase, **info)))

    def seal_with(self, change: Callable[[Manifest], Manifest]) -> None:
        manifest = manifests.read(self.folder)
        manifest.resources = manifests.resources(self.folder)
        manifest.quantcase.cells_done = len(self.cells)
        manifests.write(self.folder, change(manifest))

    def save(self, *, settle: bool = False) -> None:
        """Write it all and seal it."""
        if settle:
            self.settle()
        self.write()
        self.seal()

    # -- what breakers do often ----------------------------------------------------------------------------------

    def of(self, variant: str, repeat: int | None = None) -> list[RequestRow]:
        """The requests of a variant, or of one repeat of it."""
        return [r for r in self.requests if r.variant == variant and repeat in (None, r.repeat)]

    def change(self, rows: list[RequestRow], **more: Any) -> None:
        """Other values in some request rows, by field or by a function of the row; everything else follows."""
        mine = {id(r) for r in rows}
        self.requests = [
            rounded(replace(r, **{k: v(r) if callable(v) else v for k, v in more.items()})) if id(r) in mine else r
            for r in self.requests
        ]
        self.save(settle=True)

    def copy(self, rows: list[RequestRow], **more: Any) -> None:
        """Further rows: those, but for some fields."""
        self.requests += [replace(r, **more) for r in rows]
        self.save(settle=True)

    def variant(self, name: str, **more: Any) -> None:
        self.variants = [replace(v, **more) if v.variant == name else v for v in self.variants]
        self.save()

    def session(self, index: int, **more: Any) -> None:
        sessions = self.environment.sessions
        sessions[index] = replace(sessions[index], **more)
        self.save()

    def card(self, index: int, **more: Any) -> None:
        """Other facts of the card of one session."""
        self.session(index, gpus=[{**self.environment.sessions[index].gpus[0], **more}])

    def sample(self, index: int, **more: Any) -> None:
        self.telemetry[index] = replace(self.telemetry[index], **more)
        self.save()

    def seen(self, index: int, **more: Any) -> None:
        self.client[index] = replace(self.client[index], **more)
        self.save()


def resent(rows: list[RequestRow]) -> list[RequestRow]:
    """The rows as a closed loop of 16 would have sent them with the times that they have now."""
    free = [rows[0].started_s] * 16
    sent = []
    for r in rows:
        slot = min(range(16), key=lambda i: free[i])
        sent.append(rounded(replace(r, started_s=free[slot] + 0.0001)))
        free[slot] += 0.0002 + (r.e2e_ms or 0) / 1000
    return sent


def sound_bundle(out: Path) -> Path:
    """A complete measured bundle with telemetry, answers, marks, predictions and a stress test."""
    folder = makers.make_bundle(out, asked=asked(), weights="real")
    box = Box(folder)
    zero = open_bundle(folder).created().timestamp()
    gpu = {
        "index": 0, "name": "NVIDIA H200", "uuid_sha256": "0e45c4e493bdf8e7", "vram_mib": 143771.0,
        "driver": "580.159.04", "cuda": "13.0", "power_limit_w": 700.0,
    }  # fmt: skip
    facts: dict[str, Any] = {"gpus": [gpu], "host": {"cpu": "made by a seed"}, "software": {"vllm": "0.26.0"}}
    box.environment = Environment(
        gpu_asked="h200",
        gpu_found="NVIDIA H200",
        sessions=[
            Session(session=n, started="", wall_unix_s=zero + at, monotonic_s=1000.0 + at, minutes=30.0, **facts)
            for n, at in ((1, 0.0), (2, 2000.0))
        ],
    )
    box.telemetry = []
    for cell in box.cells:
        assert cell.window_start_s is not None
        for i in range(20):
            t = cell.window_start_s + 0.1 * i
            box.telemetry.append(
                TelemetryRow(
                    t_s=t,
                    gpu=0,
                    vram_used_mib=128_900.0,
                    utilisation_pct=97.0,
                    power_w=420.0,
                    energy_j=420.0 * t,
                    sm_clock_mhz=1980.0,
                    memory_clock_mhz=3201.0,
                    temperature_c=55.0,
                )
            )
    box.engine_metrics = [EngineMetricRow(t_s=101.0, variant="bf16", start=1, series="vllm:running", value=16.0)]
    prompts = [f"exact/dates/{n}" for n in range(3)]
    box.items = [
        QualityItem(suite=s, task="dates", prompt_id=p.replace("exact", s), prompt_sha256="0" * 64)
        for s in ("exact", "likelihood")
        for p in prompts
    ]
    for variant in ("bf16", "fp8"):
        same: dict[str, Any] = {"variant": variant, "start": 1, "task": "dates", "prompt_sha256": "0" * 64}
        box.answers += [QualityRow(**same, suite="exact", prompt_id=p, score=1.0) for p in prompts]
        box.likelihood += [
            LikelihoodRow(**same, suite="likelihood", prompt_id=p.replace("exact", "likelihood"), logprobs=[-0.5])
            for p in prompts
        ]
    box.text("marks.csv", "variant,prompt_id,mark,remark\nfp8,exact/dates/1,good,\n")
    write_predictions(folder, Answers(variant="fp8", ttft="same"))
    step: dict[str, Any] = {"variant": "fp8", "start": 1, "ladder": "context", "concurrency": 1, "input_tokens": 512}
    append_row(folder, StressRow(**step, step=1, output_tokens=16, n=4, ok=4, errors=0, timeouts=0, verdict="good"))
    box.save(settle=True)
    return folder
