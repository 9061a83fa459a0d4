"""One row per variant, load point and metric: the value, its interval, how many runs and requests carry it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import pandas as pd

from collector.bundle.metrics import percentile
from collector.bundle.read import Load
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.intervals import mean_interval, percentile_interval
from quantcase.catalog import Case

__all__ = ["METRICS", "Point", "frame", "pick", "points"]

# metric -> (column of requests.csv, percentile)
METRICS: dict[str, tuple[str, float]] = {
    "ttft_ms_p50": ("ttft_ms", 50),
    "ttft_ms_p95": ("ttft_ms", 95),
    "tpot_ms_p50": ("tpot_ms", 50),
    "e2e_ms_p50": ("e2e_ms", 50),
    "e2e_ms_p95": ("e2e_ms", 95),
    "e2e_ms_p99": ("e2e_ms", 99),
}


@dataclass(frozen=True)
class Point:
    """One metric of one variant at one load point. `low` and `high` bound it at 95 %, nan where they cannot be had."""

    variant: str
    workload: str
    load: str
    amount: float  # what the load is: requests in flight (c16), or requests per second (r2.5)
    metric: str
    value: float
    low: float
    high: float
    n: int  # ok requests behind it
    runs: int  # repeats behind it
    unit: str
    source: str


def points(case: Case, usd_per_hour: float | None = None) -> list[Point]:
    """All load points of a case, the baseline first.

    Throughput is the mean over repeats of the steady-window figure, with a t interval over repeats. Percentiles pool
    the ok requests of all repeats, with an order-statistic interval. Cost follows from throughput and `usd_per_hour`,
    and has no points without a price.
    """
    found: list[Point] = []
    ok = case.requests[case.requests["status"] == "ok"]
    for variant in case.measured_variants():
        for workload, at in case.points_of_load():
            load = at.name
            runs = _at(case.cells, variant, workload.name, load)
            mine = _at(ok, variant, workload.name, load)

            def add(
                metric: str, value: float, bounds: tuple[float, float], n: int, runs: int, unit: str, source: str,
                key: tuple[str, str, str, float] = (variant, workload.name, load, at.amount),
            ) -> None:  # fmt: skip
                found.append(Point(*key, metric, value, *bounds, n, runs, unit, source))

            speeds = [float(v) for v in runs["throughput_tok_s"].dropna()]
            if speeds:
                value, bounds = math.fsum(speeds) / len(speeds), mean_interval(speeds)
                add("throughput_tok_s", value, bounds, len(mine), len(speeds), "tok/s", "cells.csv")
                if usd_per_hour is not None:
                    dollars = [usd_per_million(usd_per_hour, v) if v > 0 else math.nan for v in (value, *bounds[::-1])]
                    cost = (dollars[1], dollars[2])
                    unit = "USD/1M output tokens"
                    add("usd_per_1m_output_tokens", dollars[0], cost, len(mine), len(speeds), unit, "cells.csv")
            for metric, (column, p) in METRICS.items():
                values = [float(v) for v in mine[column].dropna()]
                value_at_p = percentile(values, p)
                if value_at_p is not None:
                    bounds = percentile_interval(values, p)
                    add(metric, value_at_p, bounds, len(values), len(runs), "ms", "requests.csv.gz")
    return found


def frame(found: Sequence[Point]) -> pd.DataFrame:
    """The points as a table with a column per field, and `at`: the load in words."""
    table = pd.DataFrame([astuple(p) for p in found], columns=[f.name for f in fields(Point)])
    words = {name: load.words if (load := Load.of(name)) else name for name in set(table["load"])}
    return table.assign(at=table["load"].map(words))


def _at(table: pd.DataFrame, variant: str, workload: str, load: str) -> pd.DataFrame:
    return table[(table["variant"] == variant) & (table["workload"] == workload) & (table["load"] == load)]


def pick(found: Sequence[Point], variant: str, workload: str, load: str, metric: str) -> Point | None:
    """One point, or None when it was not measured."""
    key = (variant, workload, load, metric)
    return next((p for p in found if (p.variant, p.workload, p.load, p.metric) == key), None)
