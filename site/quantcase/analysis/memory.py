"""Where the card's memory goes, by the engine's own word, and what the driver sees of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import pandas as pd

from collector.bundle.schema import VariantRow
from quantcase.catalog import Case

__all__ = ["COARSE_GIB", "PARTS", "Memory", "memory", "vram"]

COARSE_GIB = 0.25  # vLLM states weights to 0.01 GiB of allocated memory: below this that is off by more than 2 %

PARTS = {"weights": "weights_gib", "kv_cache": "kv_cache_gib", "activations": "activations_gib", "graphs": "graphs_gib"}


def vram(case: Case) -> pd.DataFrame:
    """One row per variant and part that the engine stated: `variant, part, gib`. Of several starts the first counts."""
    rows = [
        (name, part, value)
        for name in _served(case)
        for part, column in PARTS.items()
        if (row := _row(case, name)) is not None and (value := getattr(row, column)) is not None
    ]
    return pd.DataFrame(rows, columns=["variant", "part", "gib"])


@dataclass(frozen=True)
class Memory:
    """The memory of one variant that served, and its ratios to the baseline's (nan where either is not stated).

    `row.weights_gib` is what the engine states; of a vLLM model under `COARSE_GIB` the size of its files (`by_files`).
    """

    row: VariantRow
    by_files: bool
    weights_ratio: float
    kv_tokens_ratio: float


def memory(case: Case) -> list[Memory]:
    """One entry per variant that served, the baseline first. Of several server starts the first that served counts."""
    base = _row(case, case.baseline)
    rows = [row for name in _served(case) if (row := _row(case, name)) is not None]
    return [
        Memory(
            row,
            row != case.served(row.variant),
            _ratio(row.weights_gib, base.weights_gib if base else None),
            _ratio(row.kv_cache_tokens, base.kv_cache_tokens if base else None),
        )
        for row in rows
    ]


def _row(case: Case, variant: str) -> VariantRow | None:
    row = case.served(variant)
    if row is None or row.engine != "vllm" or row.checkpoint_bytes is None:
        return row
    if row.weights_gib is None or row.weights_gib >= COARSE_GIB:
        return row
    return msgspec.structs.replace(row, weights_gib=row.checkpoint_bytes / 2**30)


def _ratio(ours: float | None, theirs: float | None) -> float:
    return ours / theirs if ours is not None and theirs else math.nan


def _served(case: Case) -> list[str]:
    names = [v.name for v in case.study.variants if case.served(v.name) is not None]
    return sorted(names, key=lambda n: n != case.baseline)
