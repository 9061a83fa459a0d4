"""Times between content chunks as a log-spaced histogram: small, and enough for any percentile of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["GAP_EDGES_MS", "gap_histogram"]


def _edges() -> list[float]:
    """Upper edges from 0.01 ms to about 100 s, 20 a decade: a bucket is 12 % wide."""
    return [round(10 ** (i / 20), 4) for i in range(-40, 101)]


GAP_EDGES_MS: list[float] = _edges()


def gap_histogram(gaps_ms: Sequence[float]) -> dict[float, int]:
    """Counts of chunk gaps by upper edge (ms) of log-spaced buckets; gaps above the last edge count in it."""
    counts: dict[float, int] = {}
    ordered = sorted(gaps_ms)
    at = 0
    while at < len(ordered):  # gaps of a stream are alike: from bucket to bucket, not from gap to gap
        edge = GAP_EDGES_MS[min(bisect_left(GAP_EDGES_MS, ordered[at]), len(GAP_EDGES_MS) - 1)]
        end = len(ordered) if edge == GAP_EDGES_MS[-1] else bisect_right(ordered, edge, at)
        counts[edge] = end - at
        at = end
    return counts
