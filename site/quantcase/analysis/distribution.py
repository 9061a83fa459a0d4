"""The whole distribution of a latency, for a chart: which share of the requests was no slower than so many ms.

Of many requests only some are drawn, and those are real ones: an order statistic with its own share, never a value
between two. Where they are dense they are thinned; the slowest twentieth, which a reader looks at, keeps more.
"""

from __future__ import annotations

import math

import pandas as pd

from quantcase.catalog import Case

__all__ = ["METRICS", "distribution", "heaviest", "thinned"]

METRICS = ("ttft_ms", "e2e_ms")
_MOST = 48  # corners of one line; between two of them lies at most a thirtieth of the requests


def heaviest(case: Case, workload: str) -> str | None:
    """The highest load at which the baseline has answers; without one, the highest with any."""
    ok = case.requests[(case.requests["workload"] == workload) & (case.requests["status"] == "ok")]
    of_baseline = set(ok[ok["variant"] == case.baseline]["load"])
    have = of_baseline or set(ok["load"])
    return next((load.name for load in reversed(case.loads(workload)) if load.name in have), None)


def distribution(case: Case, workload: str, load: str) -> pd.DataFrame:
    """`variant, metric, ms, share, n`: the empirical distribution of TTFT and E2E over the ok requests of all repeats.

    `share` is the share of the n requests with at most `ms`. Failed requests have no latency and are not in it.
    """
    rows = case.requests
    here = rows[(rows["workload"] == workload) & (rows["load"] == load) & (rows["status"] == "ok")]
    found = []
    for variant in case.measured_variants():
        mine = here[here["variant"] == variant]
        for metric in METRICS:
            values = sorted(float(v) for v in mine[metric].dropna())
            n = len(values)
            found += [(variant, metric, values[rank - 1], rank / n, n) for rank in thinned(n)]
    return pd.DataFrame(found, columns=["variant", "metric", "ms", "share", "n"])


def thinned(n: int, most: int = _MOST) -> list[int]:
    """Which of n order statistics to draw, counted from 1: all where they are few, else the first, the last and
    evenly spaced ones, a third of them among the slowest 5 %."""
    if n <= most:
        return list(range(1, n + 1))
    tail_from = math.ceil(0.95 * n)
    body, tail = most - most // 3, most // 3
    ranks = {1 + round(i * (tail_from - 1) / (body - 1)) for i in range(body)}
    ranks |= {tail_from + round(i * (n - tail_from) / (tail - 1)) for i in range(tail)}
    return sorted(ranks)
