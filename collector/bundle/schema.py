"""The result bundle, format 1: every file, every column, its unit and its meaning, in one place.

Rows are msgspec structs. A column's unit, meaning and written precision live in its annotation, and everything that
needs to know about columns asks here: the writer (header, rounding), the reader (types), `collect check`, and the
Table Schema in `datapackage.json`. Definitions of the metrics themselves are in `collector.bundle.metrics`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

__all__ = [
    "FORMAT",
    "TABLES",
    "CellRow",
    "ChunkGapRow",
    "ClientCell",
    "ClientFacts",
    "Column",
    "EngineMetricRow",
    "Environment",
    "Grade",
    "KernelClass",
    "Manifest",
    "QuantcaseInfo",
    "RequestRow",
    "Resource",
    "Status",
    "Table",
    "TelemetryRow",
    "VariantRow",
    "Weights",
    "columns",
    "rounded",
]

FORMAT = 1

Grade = Literal["measured", "imported", "published", "simulated"]
Weights = Literal["real", "dummy"]
Status = Literal["complete", "interrupted", "failed"]
ExitState = Literal["ok", "oom", "crash", "unsupported"]
RequestStatus = Literal["ok", "error", "timeout", "cut"]
Steady = Literal["yes", "no", "short"]
KernelClass = Literal["optimized", "slow", "fallback", "not_applied", "unknown"]


def _col(meaning: str, unit: str = "", decimals: int | None = None) -> Meta:
    return Meta(description=meaning, extra={"unit": unit, "decimals": decimals})


Name = Annotated[str, _col("variant, as named in study.toml")]
Start = Annotated[int, _col("server start: one life of the engine process, counted from 1 within a variant")]
Workload = Annotated[str, _col("workload, as named in study.toml")]
Load = Annotated[str, _col("load point: c16 is concurrency 16, r2.5 is 2.5 requests/s")]
Repeat = Annotated[int, _col("repeat of the cell, counted from 1 within a server start")]
Ms = Annotated[float, _col("", "ms", 3)]


class VariantRow(Struct, kw_only=True):
    """variants.csv: one variant x server start."""

    variant: Name
    start: Start
    exit_state: Annotated[ExitState, _col("how this server start ended")]
    error: Annotated[str | None, _col("why it did not end well, in one line")] = None
    engine: Annotated[str, _col("engine that served it")]
    engine_version: Annotated[str | None, _col("engine version, as the engine states it")] = None
    model: Annotated[str, _col("checkpoint: hub id or file name")]
    revision: Annotated[str | None, _col("checkpoint revision")] = None
    config_sha256: Annotated[str | None, _col("sha256 of the checkpoint's config.json, or of the GGUF file")] = None
    checkpoint_bytes: Annotated[int | None, _col("size of the checkpoint's weight files", "bytes")] = None
    method: Annotated[str, _col("quantization as asked for in study.toml; `none` for the baseline")]
    bits: Annotated[float | None, _col("bits per weight, as asked for or as the file states", "bits", 3)] = None
    kv_dtype: Annotated[str, _col("data type of the KV cache, as asked for; `auto` follows the model")]
    quantization_requested: Annotated[str | None, _col("quantization named in the engine's log as asked for")] = None
    quantization_applied: Annotated[str | None, _col("quantization that the engine's log proves was applied")] = None
    kernel_path: Annotated[str | None, _col("kernel named in the engine's log")] = None
    kernel_class: Annotated[KernelClass, _col("what that kernel is")] = "unknown"
    attention_backend: Annotated[str | None, _col("attention backend named in the engine's log")] = None
    evidence: Annotated[str | None, _col("the log line behind kernel_path and kernel_class")] = None
    argv: Annotated[str, _col("full command line of the engine, as a JSON list, secrets removed")]
    spawn_s: Annotated[float | None, _col("process spawned, from the start of this server start", "s", 3)] = None
    port_s: Annotated[float | None, _col("port open, from spawn", "s", 3)] = None
    weights_s: Annotated[float | None, _col("time to load the weights, as the engine states it", "s", 3)] = None
    compile_s: Annotated[float | None, _col("time to compile, as the engine states it", "s", 3)] = None
    graphs_s: Annotated[float | None, _col("time to capture graphs, as the engine states it", "s", 3)] = None
    healthy_s: Annotated[float | None, _col("healthy, from spawn", "s", 3)] = None
    first_token_s: Annotated[float | None, _col("first token of the first request, from spawn", "s", 3)] = None
    vram_idle_mib: Annotated[float | None, _col("device memory used before the engine started (NVML)", "MiB", 1)] = None
    vram_loaded_mib: Annotated[float | None, _col("device memory used once healthy (NVML)", "MiB", 1)] = None
    vram_peak_mib: Annotated[float | None, _col("highest device memory used while measuring (NVML)", "MiB", 1)] = None
    vram_buffers_mib: Annotated[
        float | None, _col("llama.cpp: model + KV + compute buffers on CUDA0, as its log states them", "MiB", 2)
    ] = None
    weights_gib: Annotated[float | None, _col("weights, as the engine states it", "GiB", 5)] = None
    kv_cache_gib: Annotated[float | None, _col("KV cache pool, as the engine states it", "GiB", 5)] = None
    activations_gib: Annotated[float | None, _col("peak activations or compute buffers", "GiB", 5)] = None
    graphs_gib: Annotated[float | None, _col("captured graphs, as the engine states it", "GiB", 5)] = None
    kv_cache_tokens: Annotated[int | None, _col("KV capacity", "tokens")] = None
    max_concurrency: Annotated[float | None, _col("full-length requests that fit at once", "requests", 2)] = None
    # Of a server over several GPUs: vram_*_mib above are sums over its GPUs, weights_gib and the other figures that the
    # engine states are of one of them (its first worker), kv_cache_tokens is of the whole server.
    gpus: Annotated[int | None, _col("GPUs that served it: tensor x pipeline x data parallel", "GPUs")] = None
    tensor_parallel: Annotated[int | None, _col("GPUs that share each layer", "GPUs")] = None
    pipeline_parallel: Annotated[int | None, _col("stages that the layers are divided into", "stages")] = None
    data_parallel: Annotated[int | None, _col("replicas behind one address", "replicas")] = None
    gpu_indices: Annotated[str | None, _col("which GPUs of the box (NVML), joined by |")] = None
    vram_peak_fullest_mib: Annotated[
        float | None, _col("highest device memory used on the fullest of its GPUs (NVML)", "MiB", 1)
    ] = None


class RequestRow(Struct, kw_only=True):
    """requests.csv.gz: one measured request. Warm-up is not in it."""

    variant: Name
    start: Start
    workload: Workload
    load: Load
    repeat: Repeat
    index: Annotated[int, _col("order of issue within the repeat, from 0")]
    started_s: Annotated[float, _col("time of the send, since the bundle was created", "s", 6)]
    ttft_ms: Annotated[float | None, _col("send to first non-empty content or reasoning text", "ms", 3)] = None
    first_chunk_ms: Annotated[float | None, _col("send to the first byte of any chunk", "ms", 3)] = None
    tpot_ms: Annotated[float | None, _col("(last content - first content) / (output_tokens - 1)", "ms", 5)] = None
    e2e_ms: Annotated[float | None, _col("send to last content", "ms", 3)] = None
    input_tokens: Annotated[int | None, _col("prompt tokens, by the server's usage", "tokens")] = None
    output_tokens: Annotated[int | None, _col("output tokens, by the server's usage", "tokens")] = None
    chunks: Annotated[int, _col("content chunks received", "chunks")] = 0
    finish_reason: Annotated[str | None, _col("as the server states it")] = None
    status: Annotated[RequestStatus, _col("ok, error, timeout, or cut (stopped by us)")]
    error: Annotated[str | None, _col("what went wrong, in one line")] = None
    due_s: Annotated[float | None, _col("open loop: when it was to be sent, since the bundle was created", "s", 6)] = (
        None
    )
    cached_tokens: Annotated[
        int | None, _col("prompt tokens from the prefix cache, by the server's usage", "tokens")
    ] = None


class ChunkGapRow(Struct, kw_only=True):
    """chunk_gaps.csv: histogram of times between content chunks, one row a non-empty bucket."""

    variant: Name
    start: Start
    workload: Workload
    load: Load
    repeat: Repeat
    upper_ms: Annotated[float, _col("upper edge of the bucket (log-spaced); the lower edge is the next lower", "ms", 4)]
    count: Annotated[int, _col("chunk gaps in the bucket", "gaps")]


class CellRow(Struct, kw_only=True):
    """cells.csv: one cell x repeat, recomputable from requests.csv.gz (see collector.bundle.metrics)."""

    variant: Name
    start: Start
    workload: Workload
    load: Load
    repeat: Repeat
    n: Annotated[int, _col("requests issued", "requests")]
    ok: Annotated[int, _col("requests that ended well", "requests")]
    errors: Annotated[int, _col("requests with status error", "requests")]
    timeouts: Annotated[int, _col("requests with status timeout", "requests")]
    cut: Annotated[int, _col("requests stopped by us", "requests")]
    window_start_s: Annotated[float | None, _col("steady window: concurrency first reached", "s", 6)] = None
    window_end_s: Annotated[float | None, _col("steady window: last request issued", "s", 6)] = None
    throughput_tok_s: Annotated[float | None, _col("output tokens in the steady window / its length", "tok/s", 4)] = (
        None
    )
    whole_run_tok_s: Annotated[float | None, _col("all output tokens / (first send to last content)", "tok/s", 4)] = (
        None
    )
    whole_run_req_s: Annotated[float | None, _col("ok requests / (first send to last content)", "requests/s", 4)] = None
    goodput_req_s: Annotated[float | None, _col("ok requests within the limits / whole run", "requests/s", 4)] = None
    input_tokens_mean: Annotated[float | None, _col("mean prompt length of ok requests", "tokens", 2)] = None
    output_tokens_mean: Annotated[float | None, _col("mean output length of ok requests", "tokens", 2)] = None
    ttft_ms_p50: Annotated[float | None, _col("median TTFT of ok requests", "ms", 3)] = None
    ttft_ms_p95: Annotated[float | None, _col("95th percentile of TTFT", "ms", 3)] = None
    ttft_ms_p99: Annotated[float | None, _col("99th percentile of TTFT", "ms", 3)] = None
    tpot_ms_p50: Annotated[float | None, _col("median TPOT of ok requests", "ms", 4)] = None
    tpot_ms_p95: Annotated[float | None, _col("95th percentile of TPOT", "ms", 4)] = None
    tpot_ms_p99: Annotated[float | None, _col("99th percentile of TPOT", "ms", 4)] = None
    e2e_ms_p50: Annotated[float | None, _col("median E2E of ok requests", "ms", 3)] = None
    e2e_ms_p95: Annotated[float | None, _col("95th percentile of E2E", "ms", 3)] = None
    e2e_ms_p99: Annotated[float | None, _col("99th percentile of E2E", "ms", 3)] = None
    steady: Annotated[Steady | None, _col("whether latency stood still inside the window; short: too few to tell")] = (
        None
    )
    offered_req_s: Annotated[float | None, _col("open loop: requests due per second", "requests/s", 4)] = None
    late_ms_p99: Annotated[
        float | None, _col("open loop: 99th percentile of (sent - due), the client's own", "ms", 3)
    ] = None
    ttft_due_ms_p50: Annotated[float | None, _col("open loop: median of due to first content", "ms", 3)] = None
    ttft_due_ms_p95: Annotated[float | None, _col("open loop: 95th percentile of due to first content", "ms", 3)] = None
    ttft_due_ms_p99: Annotated[float | None, _col("open loop: 99th percentile of due to first content", "ms", 3)] = None
    e2e_due_ms_p50: Annotated[float | None, _col("open loop: median of due to last content", "ms", 3)] = None
    e2e_due_ms_p95: Annotated[float | None, _col("open loop: 95th percentile of due to last content", "ms", 3)] = None
    e2e_due_ms_p99: Annotated[float | None, _col("open loop: 99th percentile of due to last content", "ms", 3)] = None
    co_located: Annotated[
        int | None, _col("other servers that were measured meanwhile on other GPUs of the box", "servers")
    ] = None


class TelemetryRow(Struct, kw_only=True):
    """telemetry.csv.gz: one sample of one GPU."""

    t_s: Annotated[float, _col("time of the sample, since the bundle was created", "s", 3)]
    gpu: Annotated[int, _col("GPU index on the box")]
    vram_used_mib: Annotated[float | None, _col("device memory used", "MiB", 1)] = None
    utilisation_pct: Annotated[float | None, _col("share of time a kernel ran", "%", 1)] = None
    power_w: Annotated[float | None, _col("board power", "W", 1)] = None
    energy_j: Annotated[float | None, _col("total energy counter, since the driver loaded", "J", 1)] = None
    sm_clock_mhz: Annotated[float | None, _col("SM clock", "MHz", 0)] = None
    memory_clock_mhz: Annotated[float | None, _col("memory clock", "MHz", 0)] = None
    temperature_c: Annotated[float | None, _col("GPU temperature", "degC", 1)] = None
    throttle_reasons: Annotated[str | None, _col("NVML's clock event reasons, names joined by |")] = None


class EngineMetricRow(Struct, kw_only=True):
    """engine_metrics.csv.gz: one series of one scrape of the engine's /metrics."""

    t_s: Annotated[float, _col("time of the scrape, since the bundle was created", "s", 3)]
    variant: Name
    start: Start
    series: Annotated[str, _col("metric name as exported, with the labels that tell its series apart")]
    value: Annotated[float, _col("value as exported")]


class ClientFacts(Struct, kw_only=True, omit_defaults=False):
    """client.json: is the client to be trusted? One entry a cell x repeat, plus what holds for the whole run."""

    loopback_floor_ms: float | None = None
    cells: list[ClientCell] = msgspec.field(default_factory=list)


class ClientCell(Struct, kw_only=True):
    """What the client saw of itself during one repeat of one cell."""

    variant: str
    start: int
    workload: str
    load: str
    repeat: int
    loop_lag_ms_p50: float | None = None
    loop_lag_ms_p99: float | None = None
    cpu_pct: float | None = None
    tokens_per_chunk: float | None = None
    concurrency_asked: int | None = None
    concurrency_reached: int | None = None
    usage_tokens: int | None = None  # output tokens by the usage of each reply
    content_chunks: int | None = None  # content chunks counted; with one token a chunk the same number
    engine_tokens: float | None = None  # output tokens by the engine's own counter, over this repeat
    engine_prefix_hit_tokens: float | None = None  # prompt tokens that the engine took from its prefix cache
    late_ms_p99: float | None = None  # open loop: sent after due
    workers: int = 1
    client_limited: bool | None = None  # None: written before this was decided on the box
    limited_by: str | None = None


class Session(Struct, kw_only=True):
    """One stretch of measuring: a run that is resumed has several, possibly on other boxes of the same kind."""

    session: int
    started: str
    wall_unix_s: float
    monotonic_s: float
    gpus: list[dict[str, Any]] = msgspec.field(default_factory=list)
    interconnect: list[dict[str, Any]] = msgspec.field(default_factory=list)  # one entry a pair of GPUs
    host: dict[str, Any] = msgspec.field(default_factory=dict)
    software: dict[str, Any] = msgspec.field(default_factory=dict)
    ended_by: str | None = None  # what ended this stretch: all measured, precise enough, out of time or money, stopped
    minutes: float | None = None
    usd: float | None = None  # minutes x the study's price x the GPUs that were held


class Environment(Struct, kw_only=True):
    """environment.json: hardware and software, without names, keys or paths."""

    gpu_asked: str
    gpu_found: str | None = None
    fleet: str | None = None  # the fleet that it was measured in, by its id
    box: str | None = None  # which physical box of the fleet: a hash
    sessions: list[Session] = msgspec.field(default_factory=list)


class Resource(Struct, kw_only=True, omit_defaults=True):
    """One file of the bundle, as Data Package v2 describes it."""

    name: str
    path: str
    bytes: int
    hash: str
    mediatype: str = "application/octet-stream"
    description: str = ""
    schema: dict[str, Any] | None = None


class QuantcaseInfo(Struct, kw_only=True):
    """What a reader must know before it believes a number."""

    format: int
    grade: Grade
    weights: Weights
    status: Status
    gpu: str
    study: str
    collector_version: str
    cells_planned: int
    cells_done: int
    manifest_sha256: str = ""


class Manifest(Struct, kw_only=True):
    """datapackage.json."""

    name: str
    title: str
    created: str
    quantcase: QuantcaseInfo
    resources: list[Resource] = msgspec.field(default_factory=list)
    profile: str = msgspec.field(default="https://datapackage.org/profiles/2.0/datapackage.json", name="$schema")


class Table(Struct, frozen=True):
    """A CSV of the bundle: its path when closed, its row type, and what it holds."""

    path: str
    row: type[Struct]
    holds: str


TABLES: dict[str, Table] = {
    "variants": Table("variants.csv", VariantRow, "one row per variant and server start"),
    "requests": Table("requests.csv.gz", RequestRow, "one row per measured request"),
    "chunk_gaps": Table("chunk_gaps.csv", ChunkGapRow, "histograms of the times between content chunks"),
    "cells": Table("cells.csv", CellRow, "the summary per cell and repeat"),
    "telemetry": Table("telemetry.csv.gz", TelemetryRow, "GPU samples"),
    "engine_metrics": Table("engine_metrics.csv.gz", EngineMetricRow, "the engine's own metrics"),
}


class Column(Struct, frozen=True):
    """One column of a table, as the annotation of its field says."""

    name: str
    kind: Literal["string", "integer", "number"]
    required: bool
    unit: str
    meaning: str
    decimals: int | None


_KINDS: dict[type, Literal["string", "integer", "number"]] = {str: "string", int: "integer", float: "number"}
_cache: dict[type[Struct], tuple[Column, ...]] = {}


def columns(row: type[Struct]) -> tuple[Column, ...]:
    """The columns of a row type in their written order."""
    if row not in _cache:
        hints = typing.get_type_hints(row, include_extras=True)
        _cache[row] = tuple(_column(name, hints[name]) for name in row.__struct_fields__)
    return _cache[row]


def _column(name: str, hint: Any) -> Column:
    meta = next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)), Meta())
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    options: Iterable[Any] = (inner,)
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        options = typing.get_args(inner)
    required = type(None) not in options
    base = next(o for o in options if o is not type(None))
    kind = "string" if typing.get_origin(base) is Literal else _KINDS[base]
    extra = meta.extra or {}
    return Column(name, kind, required, extra.get("unit", ""), meta.description or "", extra.get("decimals"))


R = TypeVar("R", bound=Struct)


def rounded(row: R) -> R:
    """The row with every number as it will be written: what is computed from rows is computed from these."""
    changes = {
        c.name: round(value, c.decimals)
        for c in columns(type(row))
        if c.decimals is not None and (value := getattr(row, c.name)) is not None
    }
    return msgspec.structs.replace(row, **changes)
