"""Test data made by a seed: bundles whose rows follow a simple queueing rule. No figure here was measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from collector.bundle import metrics
from collector.bundle.answers import QualityItem
from collector.bundle.schema import (
    CellRow,
    ChunkGapRow,
    ClientCell,
    Environment,
    Grade,
    RequestRow,
    Session,
    Status,
    TelemetryRow,
    VariantRow,
    rounded,
)
from collector.bundle.write import BundleWriter
from collector.study import Load, Study, Variant, Workload, loads

STUDY = """
id = "h200-shape"
title = "Llama-3.1-8B on one H200: BF16 against FP8, AWQ and FP8 KV (made by a seed)"
gpu = "h200"
base_model = "meta-llama/Llama-3.1-8B-Instruct"
baseline = "bf16"
weights = "{weights}"
repeats = 3
context_tokens = 4096
next_steps = ["Run an evaluation benchmark for quality", "Test longer contexts (4k, 8k tokens)"]
[engine]
name = "vllm"
args = ["--gpu-memory-utilization", "0.9", "--max-num-seqs", "64"]
[price]
usd_per_hour = 3.59
source = "made up for a test"
date = "2026-11-21"
[[variants]]
name = "bf16"
model = "meta-llama/Llama-3.1-8B-Instruct"
[[variants]]
name = "fp8"
model = "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"
method = "fp8"
bits = 8
[[variants]]
name = "awq"
model = "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"
method = "awq"
bits = 4
[[variants]]
name = "bf16-fp8kv"
model = "meta-llama/Llama-3.1-8B-Instruct"
kv_dtype = "fp8"
[[workloads]]
name = "chat"
title = "Chat"
input_tokens = 256
output_tokens = 128
concurrency = [1, 8, 16]
requests_per_stream = 6
min_requests = 24
[[workloads]]
name = "batch"
title = "Batch summarization"
api = "completions"
input_tokens = 1024
output_tokens = 256
concurrency = [16, 32]
"""

SPEED = {"bf16": 1.0, "fp8": 0.66, "awq": 0.55, "bf16-fp8kv": 1.02, "bf16-2": 0.66, "fp8-2": 0.45}  # time a token
WEIGHTS_GIB = {"bf16": 14.99, "fp8": 8.49, "awq": 5.37, "bf16-fp8kv": 14.99, "bf16-2": 14.99, "fp8-2": 8.49}


def quality_items(suite: str, count: int, task: str, tasks: int) -> list[QualityItem]:
    """Prompts whose answer is 4, dealt to so many tasks."""
    return [
        QualityItem(
            suite=suite, task=f"{task}{i % tasks}", prompt_id=f"{suite}/{i}", prompt_sha256="0" * 64, prompt="?",
            reference="4", scorer="number",
        )
        for i in range(count)
    ]  # fmt: skip


def study(weights: str = "dummy") -> Study:
    return loads(STUDY.format(weights=weights), "test")


def gpu_study(weights: str = "dummy") -> Study:
    """The question "does FP8 save a GPU?": BF16 on two GPUs is the baseline, beside it BF16 and FP8 on one."""
    whole = study(weights)
    two = replace(whole.variants[0], name="bf16-2", tensor_parallel=2)
    return replace(whole, baseline="bf16-2", variants=[two, *whole.variants[:2]])


def repeat_rows(
    variant: str, workload: Workload, load: Load, repeat: int, rng: random.Random, t0: float, start: int = 1,
    speed: Mapping[str, float] | None = None,
) -> list[RequestRow]:  # fmt: skip
    """A closed loop in which each slot sends its next request when the last one ended."""
    concurrency = load.concurrency or 1
    free = [t0 + 0.0005 * i for i in range(concurrency)]
    rows = []
    for index in range(workload.requests(load)):
        slot = min(range(concurrency), key=lambda i: free[i])
        begun = free[slot] + rng.uniform(0, 0.0003)
        ttft = (14 + 1.1 * concurrency) * rng.lognormvariate(0, 0.12)
        tpot = 6.4 * (speed or SPEED).get(variant, 1.0) * (1 + 0.012 * concurrency) * rng.lognormvariate(0, 0.02)
        e2e = ttft + tpot * (workload.output_tokens - 1)
        free[slot] = begun + e2e / 1000
        e2e, ttft = round(e2e, 3), round(ttft, 3)
        rows.append(
            rounded(
                RequestRow(
                    variant=variant,
                    start=start,
                    workload=workload.name,
                    load=load.name,
                    repeat=repeat,
                    index=index,
                    started_s=begun,
                    ttft_ms=ttft,
                    first_chunk_ms=max(0.0, ttft - 0.2),
                    tpot_ms=(e2e - ttft) / (workload.output_tokens - 1),
                    e2e_ms=e2e,
                    input_tokens=workload.input_tokens + rng.randint(-3, 3),
                    output_tokens=workload.output_tokens,
                    chunks=workload.output_tokens,
                    finish_reason="length",
                    status="ok",
                )
            )
        )
    return rows


def over_gpus(row: VariantRow, v: Variant) -> VariantRow:
    """The row of a server with its GPUs: VRAM is their sum, tokens are the server's, what the engine says is of one."""
    share, n = WEIGHTS_GIB.get(v.name, 10.0) / v.gpus, v.gpus
    return replace(
        row, gpus=n, tensor_parallel=v.tensor_parallel, pipeline_parallel=v.pipeline_parallel,
        data_parallel=v.data_parallel, gpu_indices="|".join(str(i) for i in range(n)), weights_gib=share,
        kv_cache_gib=112.0 - share, kv_cache_tokens=int(n * (112.0 - share) * 2**30 / 131072),
        vram_idle_mib=4.0 * n, vram_loaded_mib=128_840.0 * n, vram_peak_mib=129_010.0 * n - 100 * (n - 1),
        vram_peak_fullest_mib=129_010.0,
    )  # fmt: skip


def variant_row(v: Variant, start: int = 1) -> VariantRow:
    weights = WEIGHTS_GIB.get(v.name, 10.0)
    kernel = {
        "fp8": "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod",
        "awq": "MarlinLinearKernel for AutoAWQMarlinLinearMethod",
    }
    kv = 112.0 - weights
    return VariantRow(
        variant=v.name,
        start=start,
        exit_state="ok",
        engine="vllm",
        engine_version="0.26.0",
        model=v.model,
        method=v.method,
        bits=v.bits,
        kv_dtype=v.kv_dtype,
        quantization_requested=None if v.method == "none" else v.method,
        quantization_applied=None if v.method == "none" else v.method,
        kernel_path=kernel.get(v.name),
        kernel_class="optimized" if v.name in kernel else "unknown",
        attention_backend="FLASH_ATTN",
        evidence=f"(made by a seed) Using {kernel[v.name]}" if v.name in kernel else None,
        argv='["vllm", "serve", "model"]',
        spawn_s=0.0,
        port_s=38.0,
        weights_s=1.4,
        compile_s=17.3,
        graphs_s=4.0,
        healthy_s=72.0 if v.name == "bf16" else 80.0,
        first_token_s=73.1,
        vram_idle_mib=4.0,
        vram_loaded_mib=128_840.0,
        vram_peak_mib=129_010.0,
        weights_gib=weights,
        kv_cache_gib=kv,
        activations_gib=1.13,
        graphs_gib=0.89,
        kv_cache_tokens=int(kv * 2**30 / (65536 if v.kv_dtype == "fp8" else 131072)),
        max_concurrency=200.0,
    )


def make_bundle(
    out: Path,
    *,
    name: str = "2026-11-21-h200-h200-shape",
    weights: str = "dummy",
    grade: Grade = "measured",
    seed: int = 1,
    status: Status = "complete",
    only: tuple[str, ...] | None = None,
    asked: Study | None = None,
    speed: Mapping[str, float] | None = None,
    unfit: Mapping[str, str] | None = None,
    beside: Mapping[str, int] | None = None,
) -> Path:
    """Write a whole bundle through the real writer. `only` leaves other variants unmeasured.

    Servers take the GPUs that the study says (`gpu_study`); no row of such a bundle was measured either, all are made
    by the seed. `speed`: time a token, by variant; `unfit`: variant -> the engine's words for running out of memory;
    `beside`: variant -> servers beside it.
    """
    rng = random.Random(seed)
    s = asked or study(weights)
    planned = len(s.variants) * len(s.cells()) * s.repeats
    most = max(v.gpus for v in s.variants)
    environment = Environment(
        gpu_asked=s.gpu,
        gpu_found="NVIDIA H200",
        sessions=[
            Session(
                session=1,
                started="2026-11-21T01:00:00+00:00",
                wall_unix_s=1.0,
                monotonic_s=1.0,
                gpus=[
                    {"index": i, "name": "NVIDIA H200", "vram_mib": 143771, "driver": "580.159.04"} for i in range(most)
                ],
                interconnect=[
                    {"a": a, "b": b, "path": "nvlink", "nvlinks": 18, "p2p": True}
                    for a, b in itertools.combinations(range(most), 2)
                ],
                host={"cpu": "made by a seed", "cores": 16},
                software={"vllm": "0.26.0"},
            )
        ],
    )
    w = BundleWriter.create(out / name, s, grade=grade, gpu=s.gpu, cells_planned=planned, environment=environment)
    t = 100.0
    for v in s.variants:
        if only and v.name not in only:
            continue
        row = variant_row(v) if most == 1 else over_gpus(variant_row(v), v)
        if words := (unfit or {}).get(v.name):
            w.set_variant(replace(row, exit_state="oom", error=words))
            continue
        w.set_variant(row)
        for workload, load in s.cells():
            for repeat in range(1, s.repeats + 1):
                rows = repeat_rows(v.name, workload, load, repeat, rng, t, speed=speed)
                t = max(r.started_s + (r.e2e_ms or 0) / 1000 for r in rows) + 0.5
                cell = replace(metrics.cell(rows, load, workload), co_located=(beside or {}).get(v.name))
                key = {"variant": v.name, "start": 1, "workload": workload.name, "load": load.name}
                gap = ChunkGapRow(**key, repeat=repeat, upper_ms=7.0, count=len(rows) * (workload.output_tokens - 1))  # type: ignore[arg-type]
                w.add_repeat(rows, [gap], cell)
                w.client.cells.append(
                    ClientCell(**key, repeat=repeat, loop_lag_ms_p50=0.1, loop_lag_ms_p99=0.4, cpu_pct=9.0)  # type: ignore[arg-type]
                )
                for i in range(5):
                    w.add_telemetry(
                        TelemetryRow(t_s=t + i / 10, gpu=0, vram_used_mib=128_900.0, power_w=420.0 + rng.uniform(-9, 9))
                    )
        w.add_log(v.name, 1, f"log of {v.name}, made by a seed\n")
    w.close(status)
    return w.folder


def cell_row(**more: Any) -> CellRow:
    """A cell with only what a test needs."""
    given = {"variant": "bf16", "start": 1, "workload": "open", "load": "r2", "repeat": 1, "n": 10, "ok": 10}
    return CellRow(**{**given, "errors": 0, "timeouts": 0, "cut": 0, **more})
