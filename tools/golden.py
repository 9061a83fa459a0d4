"""Writes the golden bundles of format 1 into tests/golden/format-1: `python -m tools.golden`.

They were made once, by the collector of the day on which format 1 was frozen, and are never made again: what stands
there is left as it is, only what is missing is written. Later versions read them in tests/bundle/test_golden.py.
`--figures` renews figures.json alone, after a change of the analysis that is meant to change figures.

No figure in them was measured: rows are drawn from a seed, and titles and notes say so. The imported one was read from
a real tool's file in tests/samples/peers, the published one holds its source's figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from collector.bundle import loadtest, manifest, metrics, schema
from collector.bundle.marks import MARKS
from collector.bundle.predictions import PREDICTIONS, write_predictions
from collector.bundle.redaction import Wish, redacted_copy
from collector.bundle.stress import StressRow, append_row
from collector.bundle.tables import row_line
from collector.bundle.write import BundleWriter
from collector.importers.base import Hints, get
from collector.importers.form import Said
from collector.importers.store import Read, write_bundle
from collector.study import Load, Study, Workload, loads
from quantcase import catalog
from quantcase.analysis.figures import case_document
from quantcase.pages.view import CaseView, Options
from tests.golden import answers, frozen
from tests.makers import repeat_rows, variant_row
from tools import published_seed002

__all__ = ["FIGURES", "FOLDER", "SCHEMA", "figures", "make", "snapshot"]

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "golden" / "format-1"
FIGURES, SCHEMA = "figures.json", "schema.json"
DAY = "2026-11-21"
CREATED = datetime.datetime(2026, 11, 21, 1, tzinfo=datetime.UTC)
_PEER = ROOT / "tests" / "samples" / "peers" / "vllm-0.32-completions.json"
_SALT = "71" * 32  # no secret: the golden copy has to come out the same each time
_NOTES = """# Notes

Made by tools/golden.py from a seed. No figure here was measured.

## What I learned

Nothing: {}.
"""

_STUDY = """
id = "{name}"
title = "Golden bundle of format 1, made by a seed: {what}"
gpu = "h200"
base_model = "meta-llama/Llama-3.1-8B-Instruct"
baseline = "bf16"
control = "{control}"
weights = "{weights}"
repeats = 2
context_tokens = 2048
question = "Does this bundle read as it did on the day it was made?"
next_steps = ["Read it again with the next version"]
[engine]
name = "vllm"
args = ["--max-num-seqs", "64"]
[price]
usd_per_hour = 3.59
source = "made up for the golden bundles"
date = "2026-11-21"
[[variants]]
name = "bf16"
model = "meta-llama/Llama-3.1-8B-Instruct"
[[variants]]
name = "fp8"
model = "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"
method = "fp8"
bits = 8
{more}
[[workloads]]
name = "chat"
title = "Chat"
input_tokens = 256
output_tokens = 64
concurrency = {loads}
ttft_limit_ms = 200
"""
_AGAIN = '[[variants]]\nname = "bf16-again"\nmodel = "meta-llama/Llama-3.1-8B-Instruct"\nnote = "A/A control"\n'
_OPEN = """
[[workloads]]
name = "arrivals"
title = "Arrivals"
api = "completions"
schedule = "poisson"
input_tokens = 128
output_tokens = 32
rates = [2.5]
duration_s = 12
"""
_JUDGED = """
[[quality]]
kind = "exact"
items = 8
[[quality]]
kind = "labels"
file = "intents.csv"
items = 4
[[quality]]
kind = "likelihood"
items = 6
[loadtest]
users_from = 2
users_to = 8
users_step = 6
step_s = 20.0
[predictions]
variant = "fp8"
vram_reduction_pct = 45.0
ttft = "same"
helps_more_at = "low"
p95_latency = "improves"
quality_failures = "arithmetic"
"""
_KV_USE = "vllm:kv_cache_usage_perc"
_STAMPS = [(i, 2 if i < 20 else 8, 3 * i) for i in range(40)]  # seconds, users, requests so far
_LOCUST = (
    "Type,Name,Request Count,Failure Count,50%,95%,99%\n"
    "POST,2 users,57,0,100,190,230\nPOST,8 users,60,3,120,260,300\n,Aggregated,117,3,110,240,290\n",
    "Timestamp,User Count,Type,Name,Total Request Count,Total Failure Count\n"
    + "".join(f"{1_700_000_000 + i},{users},,Aggregated,{n},{n // 40}\n" for i, users, n in _STAMPS),
    "Method,Name,Error,Occurrences\nPOST,8 users,HTTP 503,3\n",
)


def make(out: Path) -> list[Path]:
    """Write the bundles that are not there yet, then figures.json and schema.json if they are not; returns what was
    written.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for name, how in _makers():
        if not (out / name).exists():
            how(out)
            made.append(out / name)
    for name, text in ((SCHEMA, snapshot), (FIGURES, lambda: figures(out))):
        if not (out / name).exists():
            (out / name).write_text(text(), "utf-8")
            made.append(out / name)
    return made


def figures(folder: Path) -> str:
    """The figures and verdicts of each golden bundle, a figure a line."""
    said: dict[str, Any] = {}
    for case in sorted(catalog.load(folder).cases, key=lambda c: c.id):
        view = CaseView(case, Options())
        document = case_document(case, view.points, view.quality, view.quality_verdicts)
        verdicts = {name: v["verdict"] for name, v in document["quality"].items()}
        said[case.id] = {"verdicts": verdicts, "figures": document["figures"]}
    parts = []
    for name, one in said.items():
        rows = ",\n".join("   " + json.dumps(f, separators=(",", ":")) for f in one["figures"])
        parts.append(f' "{name}": {{\n  "verdicts": {json.dumps(one["verdicts"])},\n  "figures": [\n{rows}\n  ]\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def snapshot() -> str:
    """The tables and documents of the format as this version has them."""
    return frozen.dumps(frozen.contract()) + "\n"


def _makers() -> Iterator[tuple[str, Any]]:
    yield f"{DAY}-h200-golden-measured", _measured
    yield f"{DAY}-h200-golden-judged", lambda out: _judged(out, "golden-judged")
    yield f"{DAY}-h200-golden-interrupted", _interrupted
    yield f"{DAY}-cpu-golden-imported", _imported
    yield published_seed002.NAME, published_seed002.write
    yield f"{DAY}-h200-golden-redacted", _redacted


def _rng(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def _writer(out: Path, study: Study) -> BundleWriter:
    """An open bundle that was created at a fixed time."""
    session = schema.Session(
        session=1, started=CREATED.isoformat(), wall_unix_s=CREATED.timestamp(), monotonic_s=0.0,
        gpus=[{"index": 0, "name": "NVIDIA H200", "vram_mib": 143771, "driver": "580.159.04", "power_limit_w": 700}],
        host={"cpu": "made by a seed", "cores": 16, "ram_gib": 128}, software={"vllm": "0.26.0", "torch": "2.9.0"},
        ended_by="all measured", minutes=12.0, usd=0.72,
    )  # fmt: skip
    planned = len(study.variants) * len(study.cells()) * study.repeats
    writer = BundleWriter.create(
        out / f"{DAY}-{study.gpu}-{study.id}", study, grade="measured", gpu=study.gpu, cells_planned=planned,
        environment=schema.Environment(gpu_asked="h200", gpu_found="NVIDIA H200", sessions=[session]),
    )  # fmt: skip
    writer.manifest.created = CREATED.isoformat(timespec="milliseconds")
    if study.predictions is not None:
        (writer.folder / PREDICTIONS).unlink()
        write_predictions(writer.folder, study.predictions, now=CREATED)
    (writer.folder / "notes.md").write_text(_NOTES.format(study.title), "utf-8")
    (writer.folder / "prompts.json").write_text('{\n "fixed": 2.0,\n "per_word": 1.75\n}\n', "utf-8")
    manifest.write(writer.folder, writer.manifest)
    return writer


def _visit(writer: BundleWriter, name: str, rng: random.Random, t: float, repeats: int) -> float:
    """One server start of a variant at every load point, with all that is recorded beside; returns when it ended."""
    row = variant_row(writer.study.variant(name))
    row.revision, row.config_sha256, row.checkpoint_bytes = "0e9e39f", "ab" * 32, int((row.weights_gib or 0) * 2**30)
    writer.set_variant(row)
    writer.client.loopback_floor_ms = 0.21
    for workload, load in writer.study.cells():
        for repeat in range(1, repeats + 1):
            if load.concurrency is None:
                rows = _arrivals(name, workload, load, repeat, rng, t)
            else:
                rows = repeat_rows(name, workload, load, repeat, rng, t)
            began, t = t, max(r.started_s + (r.e2e_ms or 0) / 1000 for r in rows) + 0.5
            key: dict[str, Any] = {
                "variant": name, "start": 1, "workload": workload.name, "load": load.name, "repeat": repeat,
            }  # fmt: skip
            ok = [r for r in rows if r.status == "ok"]
            gaps = sum(r.chunks - 1 for r in ok)
            low = gaps // 3
            histogram = [
                schema.ChunkGapRow(**key, upper_ms=upper, count=n) for upper, n in ((7.0, low), (9.0, gaps - low)) if n
            ]
            cell = metrics.cell(rows, load, workload)
            writer.add_repeat(rows, histogram, cell)
            tokens = sum(r.output_tokens or 0 for r in ok)
            writer.client.cells.append(
                schema.ClientCell(
                    **key,
                    loop_lag_ms_p50=0.1,
                    loop_lag_ms_p99=0.4,
                    cpu_pct=9.0,
                    tokens_per_chunk=1.0,
                    concurrency_asked=load.concurrency,
                    concurrency_reached=load.concurrency,
                    usage_tokens=tokens,
                    content_chunks=tokens,
                    engine_tokens=float(tokens),
                    late_ms_p99=cell.late_ms_p99,
                    workers=1,
                    client_limited=False,
                )
            )
            for i in range(4):
                at = began + (i + 0.5) * (t - 0.5 - began) / 4
                writer.add_telemetry(
                    schema.TelemetryRow(
                        t_s=at,
                        gpu=0,
                        vram_used_mib=128_900.0,
                        utilisation_pct=98.0,
                        energy_j=1e6 + 420 * at,
                        power_w=420.0,
                        sm_clock_mhz=1980,
                        memory_clock_mhz=3201,
                        temperature_c=61,
                    )
                )
                for series, value in (
                    ("vllm:num_requests_running", load.concurrency or 2),
                    ("vllm:kv_cache_usage_perc", 0.04),
                ):
                    writer.add_engine_metrics(
                        schema.EngineMetricRow(t_s=at, variant=name, start=1, series=series, value=float(value))
                    )
    writer.add_log(name, 1, f"log of {name}, made by a seed\n")
    return t + 30


def _arrivals(
    name: str, workload: Workload, load: Load, repeat: int, rng: random.Random, t: float
) -> list[schema.RequestRow]:
    """An open loop: 30 requests on their own clock, one of which ends in an error."""
    closed = msgspec.structs.replace(workload, min_requests=30, requests_per_stream=2)
    rows = repeat_rows(name, closed, Load.closed(1), repeat, rng, t)
    due = t
    for row in rows:
        due += rng.expovariate(load.rate or 1.0)
        row.load, row.due_s, row.started_s = load.name, round(due, 6), round(due + rng.uniform(0, 0.0004), 6)
        row.cached_tokens = 16
    bad = rows[7]
    bad.status, bad.error, bad.finish_reason, bad.chunks = "error", "HTTP 503: made by a seed", None, 0
    bad.ttft_ms = bad.tpot_ms = bad.e2e_ms = bad.first_chunk_ms = bad.output_tokens = bad.cached_tokens = None
    return rows


def _study(
    name: str,
    what: str,
    *,
    more: str = "",
    after: str = "",
    weights: str = "real",
    control: str = "",
    loads_at: str = "[1]",
) -> Study:
    words = {"name": name, "what": what, "more": more, "weights": weights, "control": control, "loads": loads_at}
    return loads(_STUDY.format(**words) + after, name)


def _measured(out: Path) -> None:
    study = _study(
        "golden-measured", "a closed and an open loop, with an A/A control", more=_AGAIN, after=_OPEN, weights="dummy",
        control="bf16-again", loads_at="[1, 8]",
    )  # fmt: skip
    writer, rng, t = _writer(out, study), _rng(1), 100.0
    for variant in study.variants:
        t = _visit(writer, variant.name, rng, t, study.repeats)
    writer.close("complete")


def _judged(out: Path, name: str) -> Path:
    study = _study(name, "quality, likelihood, marks, stress, a load test and predictions", after=_JUDGED)
    writer, rng, t = _writer(out, study), _rng(2), 100.0
    for variant in study.variants:
        t = _visit(writer, variant.name, rng, t, study.repeats)
        for target, text in zip(loadtest.names(variant.name), _LOCUST, strict=True):
            (writer.folder / target).write_text(text, "utf-8")
        _stress(writer.folder, variant.name)
    second = variant_row(study.variant("bf16"), start=2)
    writer.set_variant(second)  # the control's server start: a second pass over the questions and nothing else
    writer.add_log("bf16", 2, "log of bf16, made by a seed\n")
    marks = answers.write(writer.answers, rng)
    (writer.folder / MARKS).write_text(marks, "utf-8")
    writer.close("complete")
    return writer.folder


def _stress(folder: Path, variant: str) -> None:
    for step in (1, 2):
        good, n = step == 1, 16 * step
        row = {
            "variant": variant, "start": 1, "ladder": "concurrency", "step": step, "concurrency": n, "n": n,
            "input_tokens": 256, "output_tokens": 64, "ok": n if good else 3, "errors": 0 if good else n - 3,
            "timeouts": 0, "preemptions": 0, "verdict": "good" if good else "died", "kv_usage_max": 0.5 * step,
            "words": "" if good else "torch.OutOfMemoryError: made by a seed", "after": "" if good else "gone",
            "throughput_tok_s": 900.5 if good else None, "ttft_ms_p95": 88.25 if good else None,
            "tpot_ms_p95": 9.5 if good else None,
        }  # fmt: skip
        append_row(folder, msgspec.convert(row, StressRow))


def _interrupted(out: Path) -> None:
    """Killed: tables are plain and open, the manifest lists nothing, and a request is half written."""
    study = _study("golden-interrupted", "a run that was killed", weights="dummy", loads_at="[1, 8]")
    writer = _writer(out, study)
    rng = _rng(3)
    t = _visit(writer, "bf16", rng, 100.0, 1)
    writer.set_variant(variant_row(study.variant("fp8")))
    writer.save_documents()
    for f in writer._files.values():  # as the end of the process does
        f.close()
    rows = repeat_rows("fp8", study.workloads[0], Load.closed(1), 1, rng, t)[:3]
    text = "".join(row_line(r) for r in rows)
    with (writer.folder / "requests.csv").open("a", encoding="utf-8") as f:
        f.write(text[: len(text) - 20])


def _imported(out: Path) -> None:
    said = Said(
        baseline="bf16", gpu="cpu", base_model="a tiny model", study="golden-imported", workload="chat",
        title="Golden bundle of format 1: read from a file of vLLM 0.32's benchmark",
    )  # fmt: skip
    read = Read(variant="bf16", imported=get("vllm-bench").read([_PEER], Hints()))
    folder = write_bundle([read], out, said, today=CREATED.date())
    described = manifest.read(folder)
    described.created = CREATED.isoformat(timespec="milliseconds")  # the file does not say when it was measured
    manifest.write(folder, described)


def _redacted(out: Path) -> None:
    with tempfile.TemporaryDirectory() as room:
        source = _judged(Path(room), "golden-redacted")
        salt = Path(room) / "salt"
        salt.write_text(_SALT, "ascii")
        redacted_copy(source, out, Wish(host=True, columns=("telemetry.power_w",)), salt_file=salt)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", action="store_true", help="renew figures.json alone")
    if parser.parse_args().figures:
        (FOLDER / FIGURES).unlink()
    make(FOLDER)
