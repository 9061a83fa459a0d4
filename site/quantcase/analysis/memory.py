"""Where the card's memory goes, by the engine's own word, and what the driver sees of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import pandas as pd

from collector.bundle.schema import VariantRow
from quantcase.analysis.servers import gpu_counts
from quantcase.catalog import Case

__all__ = [
    "COARSE_GIB", "PARTS", "SMALLEST", "Leader", "Memory", "lighter", "lightest", "memory", "roomier", "roomiest",
    "stated", "vram",
]  # fmt: skip

COARSE_GIB = 0.25  # vLLM states weights to 0.01 GiB of allocated memory: below this that is off by more than 2 %
SMALLEST = 0.02  # a change of memory smaller than this share of the baseline's is not called one; see `lightest`

PARTS = {"weights": "weights_gib", "kv_cache": "kv_cache_gib", "activations": "activations_gib", "graphs": "graphs_gib"}


def vram(case: Case) -> pd.DataFrame:
    """One row per variant and part that the engine stated: `variant, part, gib`. Of several starts the first counts."""
    rows = [
        (name, part, value)
        for name in _served(case)
        for part, column in PARTS.items()
        if (row := stated(case, name)) is not None and (value := getattr(row, column)) is not None
    ]
    return pd.DataFrame(rows, columns=["variant", "part", "gib"])


@dataclass(frozen=True)
class Memory:
    """The memory of one variant that served, and its ratios to the baseline's (nan where either is not stated).

    `row.weights_gib` is what the engine states; of a vLLM model under `COARSE_GIB` the size of its files (`by_files`).
    `saved_gib` is what the weights take less than the baseline's. `kv_spread` is how far apart the KV capacities of two
    starts of one variant of this case were, as a share of the smaller; 0 where no variant started twice. The control is
    the baseline again. The figures of a server over several GPUs are of one of them, but for the KV tokens: there is no
    ratio between servers of unlike GPUs.
    """

    row: VariantRow
    by_files: bool
    weights_ratio: float
    kv_tokens_ratio: float
    saved_gib: float = math.nan
    kv_spread: float = 0.0
    control: bool = False


@dataclass(frozen=True)
class Leader:
    """The variant that gains most of one kind of memory, its ratio to the baseline's, and those as good as it."""

    memory: Memory
    ratio: float
    tied: tuple[str, ...]


def memory(case: Case) -> list[Memory]:
    """One entry per variant that served, the baseline first. Of several server starts the first that served counts."""
    base = stated(case, case.baseline)
    rows = [row for name in _served(case) if (row := stated(case, name)) is not None]
    spread = _kv_spread(case)
    counts, found = gpu_counts(case), []
    for row in rows:
        like = base if counts[row.variant] == counts[case.baseline] else None
        found.append(
            Memory(
                row,
                row != case.served(row.variant),
                _ratio(row.weights_gib, like.weights_gib if like else None),
                _ratio(row.kv_cache_tokens, like.kv_cache_tokens if like else None),
                _less(row.weights_gib, like.weights_gib if like else None),
                spread,
                row.variant == case.study.control,
            )
        )
    return found


def lightest(found: Iterable[Memory], left_out: Collection[str] = ()) -> Leader | None:
    """The variant whose weights take the smallest share of the baseline's; None where no change is large enough.

    Memory figures are read from one log line of a server start, so there is no interval: what they are uncertain by is
    how they are written and how far two starts of one configuration lie apart. vLLM writes weights to 0.01 GiB, which
    is 2 % of the least that is read from its log (`COARSE_GIB`). Two starts gave the same weights and KV capacities
    0.2 to 0.4 % apart wherever this project's own H200 bundles hold two (FP8, AWQ, GPTQ, FP8 KV cache). A change is
    called one from 2 % of the baseline's (`SMALLEST`), five times that spread, and, of KV capacity, only beyond the
    spread that the case's own starts show. By the same measure variants are `tied` with the best.

    Args:
        found: of one case, as `memory` gives it. The baseline and the control are never named.
        left_out: variants that are not to be named, such as those that lose quality: what they save is no gain.
    """
    return _leader([(m, m.weights_ratio) for m in found if lighter(m) and m.row.variant not in left_out], 1.0)


def roomiest(found: Iterable[Memory], left_out: Collection[str] = ()) -> Leader | None:
    """The variant whose KV cache holds the most tokens against the baseline's, by the same rule as `lightest`."""
    return _leader([(m, m.kv_tokens_ratio) for m in found if roomier(m) and m.row.variant not in left_out], -1.0)


def lighter(m: Memory) -> bool:
    """Whether a variant's weights take surely less than the baseline's; see `lightest`."""
    return not m.control and m.weights_ratio < 1 - SMALLEST


def roomier(m: Memory) -> bool:
    """Whether a variant's KV cache surely holds more tokens than the baseline's; see `lightest`."""
    return not m.control and m.kv_tokens_ratio > 1 + max(SMALLEST, m.kv_spread)


def _leader(found: Sequence[tuple[Memory, float]], sign: float) -> Leader | None:
    """The one of the smallest ratio, or with sign -1 the largest."""
    if not found:
        return None
    ordered = sorted(found, key=lambda pair: sign * pair[1])
    (top, best), others = ordered[0], ordered[1:]
    tied = [m.row.variant for m, ratio in others if max(ratio, best) / min(ratio, best) < 1 + SMALLEST]
    return Leader(top, best, tuple(tied))


def _kv_spread(case: Case) -> float:
    """The largest range of KV capacity over the starts of one variant, as a share of its smallest."""
    seen: defaultdict[str, list[int]] = defaultdict(list)
    for row in case.variants:
        if row.exit_state == "ok" and row.kv_cache_tokens:
            seen[row.variant].append(row.kv_cache_tokens)
    return max((max(x) / min(x) - 1 for x in seen.values()), default=0.0)


def stated(case: Case, variant: str) -> VariantRow | None:
    """The start whose memory speaks for a variant, the first that served; None where none did.

    Its `weights_gib` is what every page, chart and score shows: the engine's word, or the size of the files where that
    word is too coarse (`COARSE_GIB`).
    """
    row = case.served(variant)
    if row is None or row.engine != "vllm" or row.checkpoint_bytes is None:
        return row
    if row.weights_gib is None or row.weights_gib >= COARSE_GIB:
        return row
    return msgspec.structs.replace(row, weights_gib=row.checkpoint_bytes / 2**30)


def _ratio(ours: float | None, theirs: float | None) -> float:
    return ours / theirs if ours is not None and theirs else math.nan


def _less(ours: float | None, theirs: float | None) -> float:
    return theirs - ours if ours is not None and theirs is not None else math.nan


def _served(case: Case) -> list[str]:
    names = [v.name for v in case.study.variants if case.served(v.name) is not None]
    return sorted(names, key=lambda n: n != case.baseline)
