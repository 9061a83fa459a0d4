"""Bundles of one seeded study on several GPU types and boxes, for the tests of the GPU pages. Nothing is measured."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.bundle.manifest import read, resources, write
from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment, TelemetryRow, VariantRow
from collector.bundle.tables import header_line, row_line
from collector.study import Price, Study, Variant
from tests import makers

CARDS = {"a": "0e45c4e493bdf8e7", "b": "e89ff6daf9fdaa3a", "c": "77aa11223344bbcc", "d": "1234567890abcdef"}
POWER_W = 400.0


def small(gpu: str = "h200", usd: float = 3.59) -> Study:
    """Two variants at few loads, so that a run is made in a moment."""
    asked = makers.study()
    chat = msgspec.structs.replace(
        asked.workload("chat"), concurrency=[4, 8], min_requests=36, output_tokens=32, e2e_limit_ms=3000.0
    )
    batch = msgspec.structs.replace(asked.workload("batch"), concurrency=[8], min_requests=36, output_tokens=32)
    price = Price(usd_per_hour=usd, source=f"made up for {gpu}", date="2026-11-21")
    return msgspec.structs.replace(asked, gpu=gpu, variants=asked.variants[:2], workloads=[chat, batch], price=price)


def a_box(
    out: Path, name: str, *, gpu: str = "h200", device: str = "NVIDIA H200", card: str = "a", usd: float = 3.59,
    times: float = 1.0, day: int = 1, seed: int = 1, gpus: int = 1, asked: Study | None = None,
    kernel: Mapping[str, str] | None = None, telemetry: str = "counter", **more: Any,
) -> Path:  # fmt: skip
    """One bundle. `times`: how long every token takes, against the maker's own; `card`: a key of `CARDS`, or empty.

    `gpus`: of every server. `telemetry`: `counter`, `power` (a card without an energy counter) or `none`.
    """
    row, study = makers.variant_row, asked or small(gpu, usd)
    wide = [msgspec.structs.replace(v, tensor_parallel=gpus) for v in study.variants]

    def served(v: Variant, start: int = 1) -> VariantRow:
        made = row(v, start)
        return msgspec.structs.replace(made, kernel_path=(kernel or {}).get(v.name, made.kernel_path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers, "variant_row", served)
        speed = {k: times * v for k, v in makers.SPEED.items()}
        asked = msgspec.structs.replace(study, variants=wide)
        folder = makers.make_bundle(out, name=name, seed=seed, asked=asked, speed=speed, **more)
    environment = msgspec.json.decode((folder / "environment.json").read_bytes(), type=Environment)
    environment.gpu_found = device
    for i, found in enumerate(environment.sessions[0].gpus):
        found |= {"name": device} | ({"uuid_sha256": f"{i or CARDS[card][0]}{CARDS[card][1:]}"} if card else {})
    (folder / "environment.json").write_bytes(msgspec.json.encode(environment))
    _telemetry(folder, gpus, telemetry)
    manifest = read(folder)
    manifest.created = f"2026-11-{day:02d}T00:00:00.000+00:00"
    manifest.resources = resources(folder)
    write(folder, manifest)
    return folder


def _telemetry(folder: Path, gpus: int, kind: str) -> None:
    """A sample every 0.5 s of every GPU, at a constant power, from before the first cell to after the last."""
    cells = open_bundle(folder).cells()
    last = max(c.window_end_s or 0.0 for c in cells)
    rows = []
    for step in range(int(2 * last) + 4):
        at = step / 2
        for gpu in range(gpus if kind != "none" else 0):
            counter = 1000.0 + POWER_W * at if kind == "counter" else None
            rows.append(TelemetryRow(t_s=at, gpu=gpu, vram_used_mib=128_900.0, power_w=POWER_W, energy_j=counter))
    written = header_line(TelemetryRow) + "".join(row_line(r) for r in rows)
    (folder / "telemetry.csv.gz").write_bytes(gzip.compress(written.encode(), mtime=0))
