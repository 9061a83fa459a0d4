"""What is left of quality against what the weights take: every variant that was asked, and which none other beats."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from quantcase.analysis.memory import memory
from quantcase.analysis.quality import Quality
from quantcase.analysis.servers import gpus_of
from quantcase.catalog import Case

__all__ = ["COLUMNS", "frontier", "quality_by_size"]

COLUMNS = ["variant", "gib", "recovery", "low", "high", "n", "right", "front"]


def quality_by_size(case: Case, found: Sequence[Quality]) -> pd.DataFrame:
    """One row per variant whose accuracy and weights are known, the baseline first: weights in GiB as the engine
    states them, recovery (accuracy / the baseline's, a share) with its 95 % interval, n prompts, how many were right.

    The baseline is 1 by definition and has no interval. `front`: no other is as good and smaller, or better and as
    small, by the estimates alone. Servers over more or fewer GPUs than the baseline's are left out. Empty where there
    is nothing to set against the baseline.
    """
    whole = gpus_of(case, case.baseline)  # the engine states weights of one GPU: shares of a model are no sizes of it
    weights = {
        m.row.variant: m.row.weights_gib
        for m in memory(case)
        if m.row.weights_gib is not None and gpus_of(case, m.row.variant) == whole
    }
    rows: list[tuple[object, ...]] = []
    for q in found:
        a, gib = q.accuracy, weights.get(q.variant)
        if a is None or a.recovery is None or gib is None or q.variant == case.study.control:
            continue
        if not rows and case.baseline in weights:
            rows.append((case.baseline, weights[case.baseline], 1.0, None, None, a.n, a.baseline_right))
        rows.append((q.variant, gib, a.recovery, a.recovery_low, a.recovery_high, a.n, a.variant_right))
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    table[["low", "high"]] = table[["low", "high"]].apply(pd.to_numeric)
    pairs = [(float(g), float(r)) for g, r in zip(table["gib"], table["recovery"], strict=True)]
    return table.assign(front=frontier(pairs))


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (size, quality) whether no other is at most as large and at least as good, and better in one."""
    return [
        not any(s <= size and q >= quality and (s, q) != (size, quality) for s, q in points) for size, quality in points
    ]
