"""Real bundles cut down to a few cells, whole and sealed: what is damaged a thousand times must be small."""

from __future__ import annotations

import datetime
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from collector.bundle import loadtest, manifest
from collector.bundle.answers_write import ITEMS, LIKELIHOOD, ROWS
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.schema import TABLES
from collector.bundle.stress import StressRow, append_row
from collector.bundle.tables import header_line, row_line
from collector.importers.base import Hints, get
from collector.importers.form import Said
from collector.importers.store import Read, write_bundle
from collector.study import dumps, loads
from tests.makers import make_bundle, study

__all__ = ["cut", "seal", "small_bundles"]

ROOT = Path(__file__).parents[2]
_STAMPS = [(i, 2 if i < 10 else 8, 4 * i) for i in range(20)]  # seconds, users, requests so far
_LOCUST = (  # as Locust writes them; no figure here was measured
    "Name,Request Count,Failure Count,50%,95%,99%\n"
    "2 users,36,1,100,190,230\n8 users,36,3,120,260,300\nAggregated,76,4,110,240,290\n",
    "Timestamp,User Count,Name,Total Request Count,Total Failure Count\n"
    + "".join(f"{1_700_000_000 + i},{users},Aggregated,{n},{n // 20}\n" for i, users, n in _STAMPS),
    "Name,Error,Occurrences\n8 users,HTTP 503,4\n",
)
_VLLM = ROOT / "tests" / "samples" / "peers" / "vllm-0.26-bf16-with-failures.json"


def seal(folder: Path) -> None:
    """Write the manifest anew: every file as it lies there, every count as it is."""
    found = manifest.read(folder)
    done = len(open_bundle(folder).cells())
    found.quantcase.cells_planned = max(done, found.quantcase.cells_planned)
    found.quantcase.cells_done = done
    found.resources = manifest.resources(folder)
    manifest.write(folder, found)


def cut(source: Path, out: Path, *, variants: int = 2, loads_each: int = 2, items: int = 3) -> Path:
    """A bundle with the baseline and the next variants, the first workload at a few loads, and some answers."""
    bundle = open_bundle(source)
    asked: dict[str, Any] = msgspec.to_builtins(bundle.study())
    names = [v["name"] for v in asked["variants"]]
    rest = [n for n in names if n not in (asked["baseline"], asked["control"])]
    kept = {asked["baseline"], *rest[: variants - 1]}
    workload = asked["workloads"][0]
    workload["concurrency"], workload["rates"] = workload["concurrency"][:loads_each], workload["rates"][:loads_each]
    asked |= {"variants": [v for v in asked["variants"] if v["name"] in kept], "workloads": [workload], "control": ""}
    asked["predictions"] = None
    small = loads(json_to_toml(asked))
    points = {load.name for _, load in small.cells()}
    out.mkdir(parents=True)
    (out / "study.toml").write_text(dumps(small))

    def wanted(row: Any) -> bool:
        return bool(
            getattr(row, "variant", next(iter(kept))) in kept
            and getattr(row, "workload", workload["name"]) == workload["name"]
            and getattr(row, "load", next(iter(points))) in points
        )

    _tables(bundle, out, wanted)
    _answers(bundle, out, kept, items)
    client = bundle.client()
    client.cells = [c for c in client.cells if wanted(c)]
    (out / "client.json").write_bytes(msgspec.json.encode(client))
    for name in ("environment.json", "notes.md", "prompts.json", "published.csv"):
        if (source / name).is_file():
            shutil.copy(source / name, out / name)
    for log in sorted((source / "logs").glob("*.log.gz")):
        if log.name.rsplit("-", 1)[0] in kept:
            (out / "logs").mkdir(exist_ok=True)
            text = gzip.decompress(log.read_bytes())[:8_000]
            (out / "logs" / log.name).write_bytes(gzip.compress(text + b"\n", mtime=0))
    described = bundle.manifest
    described.name = out.name
    described.quantcase.cells_planned = sum(map(wanted, bundle.cells()))
    manifest.write(out, described)
    seal(out)
    return out


def json_to_toml(asked: dict[str, Any]) -> str:
    """A study's builtins as the TOML text of a study."""
    return dumps(msgspec.convert(asked, type(study())))


def _tables(bundle: Bundle, out: Path, wanted: Callable[[Any], bool]) -> None:
    for name, table in TABLES.items():
        rows: list[Struct] = [r for r in getattr(bundle, name)() if wanted(r)]
        if name in ("telemetry", "engine_metrics"):
            rows = rows[:: max(1, len(rows) // 30)]
        text = header_line(table.row) + "".join(row_line(r) for r in rows)
        data = text.encode()
        (out / table.path).write_bytes(gzip.compress(data, mtime=0) if table.path.endswith(".gz") else data)


def _answers(bundle: Bundle, out: Path, kept: set[str], items: int) -> None:
    asked: dict[str, list[Any]] = {}
    for item in bundle.quality_items():
        asked.setdefault(item.suite, []).append(item)
    chosen = [i for suite in asked.values() for i in suite[:items]]
    ids = {i.prompt_id for i in chosen}
    if not chosen:
        return

    def lines(rows: list[Any]) -> bytes:
        return b"".join(msgspec.json.encode(r) + b"\n" for r in rows)

    (out / ITEMS).write_bytes(lines(chosen))
    (out / ROWS).write_bytes(lines([r for r in bundle.quality() if r.variant in kept and r.prompt_id in ids]))
    likely = [r for r in bundle.likelihood() if r.variant in kept and r.prompt_id in ids]
    for row in likely:
        row.logprobs, row.top = row.logprobs[:24], row.top[:24]
    for item in chosen:
        if item.token_ids:
            item.token_ids = item.token_ids[:25]
    (out / ITEMS).write_bytes(lines(chosen))
    (out / LIKELIHOOD).write_bytes(gzip.compress(lines(likely), mtime=0))


def _with_everything(out: Path) -> Path:
    """A made bundle with every optional file: marks, predictions, stress, a load test."""
    asked: dict[str, Any] = msgspec.to_builtins(study("real"))
    asked["variants"], asked["workloads"] = asked["variants"][:2], asked["workloads"][:1]
    asked["workloads"][0]["concurrency"] = [1, 8]
    asked["repeats"] = 2
    made = make_bundle(out, name="2026-11-21-h200-made", asked=msgspec.convert(asked, type(study())))
    (made / "marks.csv").write_text("variant,prompt_id,mark,remark\n")
    answers = {"variant": "fp8", "vram_reduction_pct": 45.0, "quality_failures": "arithmetic"}
    predictions = {"written_at": "2026-11-21T00:00:00+00:00", "late": False, "answers": answers}
    (made / "predictions.json").write_text(json.dumps(predictions))
    given: dict[str, Any] = {"start": 1, "input_tokens": 256, "output_tokens": 64, "errors": 0, "timeouts": 0}
    for variant in ("bf16", "fp8"):
        for step, verdict in ((1, "good"), (2, "died")):
            row = {"variant": variant, "ladder": "concurrency", "step": step, "concurrency": 8 * step, "n": 8}
            row |= {"ok": 8 if verdict == "good" else 3, "verdict": verdict, "words": "out of memory", "after": ""}
            append_row(made, msgspec.convert({**given, **row}, StressRow))
        for target, text in zip(loadtest.names(variant), _LOCUST, strict=True):
            (made / target).write_text(text)
    seal(made)
    return made


def _imported(out: Path) -> Path:
    said = Said(baseline="bf16", gpu="h200", base_model="meta-llama/Llama-3.1-8B-Instruct")
    read = Read(variant="bf16", imported=get("vllm-bench").read([_VLLM], Hints()))
    return write_bundle([read], out, said, today=datetime.date(2026, 11, 21))


def small_bundles(out: Path) -> list[Path]:
    """All that is damaged: two measured bundles cut down, a published one, a made one with every file, an imported."""
    results = ROOT / "results"
    return [
        cut(results / "2026-11-21-h200-small-model", out / "2026-11-21-h200-small-model"),
        cut(results / "2026-11-21-h200-h200-shape-2", out / "2026-11-21-h200-shape"),
        Path(shutil.copytree(results / "2025-10-09-gh200-shimmy-moe", out / "2025-10-09-gh200-shimmy-moe")),
        _with_everything(out),
        _imported(out),
    ]
