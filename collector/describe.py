"""What a server says of itself, as its row in variants.csv."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from collector.bundle.schema import VariantRow
from collector.engines.base import EngineFacts, Server
from collector.engines.facts import judge
from collector.engines.last_words import without_frames
from collector.probes.redact import redact, redact_argv
from collector.study import Variant

__all__ = ["describe", "first_row", "log_tail"]

_FACTS = (
    "quantization_requested", "quantization_applied", "kernel_path", "kernel_class", "attention_backend",
    "weights_gib", "kv_cache_gib", "kv_cache_tokens", "max_concurrency", "graphs_gib", "activations_gib",
)  # fmt: skip
_TIMES = ("spawn_s", "port_s", "weights_s", "compile_s", "graphs_s", "healthy_s")


def first_row(variant: Variant, start: int, engine: str) -> VariantRow:
    """The row of a server start before anything is known of it: it counts as crashed until it serves."""
    return VariantRow(
        variant=variant.name,
        start=start,
        exit_state="crash",
        engine=engine,
        model=_public_model(variant.model),
        revision=variant.revision or None,
        method=variant.method,
        bits=variant.bits,
        kv_dtype=variant.kv_dtype,
        argv="[]",
        gpus=variant.gpus,
        tensor_parallel=variant.tensor_parallel,
        pipeline_parallel=variant.pipeline_parallel,
        data_parallel=variant.data_parallel,
    )


def describe(row: VariantRow, server: Server, baseline: EngineFacts | None) -> None:
    """Fill in what the engine's log, its metrics and its checkpoint say. `baseline` is None for the baseline itself."""
    facts = server.facts()
    if baseline is not None:
        facts = judge(facts, baseline, requested=row.method)
    row.engine_version = facts.version
    for name in _FACTS:
        setattr(row, name, getattr(facts, name))
    if row.data_parallel and row.data_parallel > 1:  # each replica states its own
        if row.kv_cache_tokens is not None:
            row.kv_cache_tokens *= row.data_parallel
        if row.max_concurrency is not None:
            row.max_concurrency *= row.data_parallel
    proof = facts.evidence.get("kernel_class") or facts.evidence.get("kernel_path")
    row.evidence = redact(proof.text) if proof else None
    for name in _TIMES:
        setattr(row, name, getattr(server.timeline, name))
    for name, value in server.model_facts().items():
        if value is not None:
            setattr(row, name, value)
    row.argv = json.dumps(redact_argv(server.argv))


def log_tail(log_path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        lines = [line[:400] for line in log_path.read_text("utf-8", "replace").splitlines() if line.strip()]
        return without_frames(lines[-400:])[-12:]
    return []


def _public_model(model: str) -> str:
    """A hub id as it is; of a local path only its last part, for the rest is nobody's business."""
    return Path(model).name if model.startswith((os.sep, ".", "~")) else model
