"""One row per variant, load point and metric: the value, its interval, how many runs and requests carry it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import pandas as pd

from collector.bundle.metrics import percentile
from collector.bundle.read import Load
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.hierarchy import Estimate, Runs, bootstrap_variance, estimates, span
from quantcase.analysis.intervals import percentile_interval
from quantcase.catalog import Case

__all__ = ["LEAST", "METRICS", "THROUGHPUT", "Key", "Point", "cell_estimates", "frame", "pick", "points"]

THROUGHPUT = "throughput_tok_s"
# metric -> (column of requests.csv, percentile)
METRICS: dict[str, tuple[str, float]] = {
    "ttft_ms_p50": ("ttft_ms", 50),
    "ttft_ms_p95": ("ttft_ms", 95),
    "tpot_ms_p50": ("tpot_ms", 50),
    "tpot_ms_p95": ("tpot_ms", 95),
    "e2e_ms_p50": ("e2e_ms", 50),
    "e2e_ms_p95": ("e2e_ms", 95),
    "e2e_ms_p99": ("e2e_ms", 99),
}
# Open loops: from the time a request was due, so that waiting to be sent is part of it.
_DUE = {
    "ttft_due_ms_p50": ("ttft_due_ms", 50.0),
    "ttft_due_ms_p95": ("ttft_due_ms", 95.0),
    "e2e_due_ms_p95": ("e2e_due_ms", 95.0),
}
# Ok requests that a percentile needs to be shown: 72 and 368 bound it at all (95 %), a few more make it worth reading.
LEAST: dict[float, int] = {50: 2, 95: 100, 99: 400}


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
    shown: bool = True  # False: too few requests for this percentile (LEAST)
    starts: int = 1  # server starts behind it


Key = tuple[str, str, str]  # workload, load, metric


def cell_estimates(case: Case) -> dict[Key, dict[str, Estimate]]:
    """(workload, load, metric) -> variant -> estimate, for throughput and every percentile."""
    found: dict[Key, dict[str, Estimate]] = {}
    ok = _with_due(case.requests[case.requests["status"] == "ok"])
    groups = dict(iter(ok.groupby(["variant", "workload", "load"], sort=False)))
    for workload, at in case.points_of_load():
        cells = case.cells[(case.cells["workload"] == workload.name) & (case.cells["load"] == at.name)]
        by_metric: dict[str, dict[str, Runs]] = {}
        for variant in case.measured_variants():
            mine = cells[cells["variant"] == variant]
            by_metric.setdefault(THROUGHPUT, {}).update(_speeds(variant, mine))
            rows = groups.get((variant, workload.name, at.name))
            if rows is not None:
                for metric, runs in _percentiles(rows, f"{variant}/{workload.name}/{at.name}").items():
                    by_metric.setdefault(metric, {})[variant] = runs
        for metric, arms in by_metric.items():
            if arms:
                found[(workload.name, at.name, metric)] = estimates(arms)
    return found


def _speeds(variant: str, cells: pd.DataFrame) -> dict[str, Runs]:
    by_start: dict[int, list[float]] = {}
    for start, value in cells[["start", THROUGHPUT]].dropna().to_numpy().tolist():
        by_start.setdefault(int(start), []).append(float(value))
    flat = [v for values in by_start.values() for v in values]
    return {variant: Runs(math.fsum(flat) / len(flat), by_start)} if flat else {}


def _with_due(ok: pd.DataFrame) -> pd.DataFrame:
    """Latencies from the time due, where there is one."""
    wait_ms = 1000 * (ok["started_s"] - ok["due_s"])
    return ok.assign(ttft_due_ms=ok["ttft_ms"] + wait_ms, e2e_due_ms=ok["e2e_ms"] + wait_ms)


def _percentiles(rows: pd.DataFrame, key: str) -> dict[str, Runs]:
    """Every percentile of one variant at one load point, with each repeat's own and what the requests alone explain."""
    found: dict[str, Runs] = {}
    wanted = {**METRICS, **_DUE} if rows["due_s"].notna().any() else METRICS
    repeats = [(int(run["start"].iloc[0]), run) for _, run in rows.groupby(["start", "repeat"])]
    for column in dict.fromkeys(c for c, _ in wanted.values()):
        runs = [(start, [float(v) for v in run[column].dropna()]) for start, run in repeats]
        flat = [v for _, values in runs for v in values]
        metrics = [(m, p) for m, (c, p) in wanted.items() if c == column]
        noise = bootstrap_variance([values for _, values in runs], [p for _, p in metrics], f"{key}/{column}")
        for (metric, p), variance in zip(metrics, noise, strict=True):
            value = percentile(flat, p)
            if value is None:
                continue
            by_start: dict[int, list[float]] = {}
            for start, values in runs:
                if (own := percentile(values, p)) is not None:
                    by_start.setdefault(start, []).append(own)
            found[metric] = Runs(value, by_start, variance)
    return found


def points(
    case: Case, usd_per_hour: float | None = None, known: dict[Key, dict[str, Estimate]] | None = None
) -> list[Point]:
    """All load points of a case, the baseline first.

    Throughput is the mean over repeats of the steady-window figure; percentiles pool the ok requests of all repeats;
    intervals: `hierarchy`. Cost follows from throughput and `usd_per_hour`, and has no points without a price. `known`
    are the case's estimates, when they have been worked out already.
    """
    found: list[Point] = []
    all_estimates = cell_estimates(case) if known is None else known
    for variant in case.measured_variants():
        for workload, at in case.points_of_load():
            cells = _at(case.cells, variant, workload.name, at.name)
            rows = _at(case.requests, variant, workload.name, at.name)
            n, starts = int((rows["status"] == "ok").sum()), int(cells["start"].nunique())

            def point(
                metric: str, bounds: tuple[float, float, float], runs: int, unit: str, source: str, shown: bool = True,
                key: tuple[str, str, str, float] = (variant, workload.name, at.name, at.amount),
                behind: tuple[int, int] = (n, starts),
            ) -> Point:  # fmt: skip
                return Point(*key, metric, *bounds, behind[0], runs, unit, source, shown, behind[1])

            speed = all_estimates.get((workload.name, at.name, THROUGHPUT), {}).get(variant)
            if speed is not None:
                low, high = span(speed)
                runs = int(cells[THROUGHPUT].notna().sum())
                found.append(point(THROUGHPUT, (speed.value, low, high), runs, "tok/s", "cells.csv"))
                if usd_per_hour is not None:
                    usd = [usd_per_million(usd_per_hour, v) if v > 0 else math.nan for v in (speed.value, high, low)]
                    unit, cost = "USD/1M output tokens", (usd[0], usd[1], usd[2])
                    found.append(point("usd_per_1m_output_tokens", cost, runs, unit, "cells.csv"))
            for metric, (_, p) in {**METRICS, **_DUE}.items():
                estimate = all_estimates.get((workload.name, at.name, metric), {}).get(variant)
                if estimate is not None:
                    low, high = span(estimate)
                    if len(cells) == 1:  # one repeat: what its requests say of it, if they were independent
                        low, high = percentile_interval(_values(rows, metric), p)
                    bounds = (estimate.value, low, high)
                    found.append(point(metric, bounds, len(cells), "ms", "requests.csv.gz", n >= LEAST[p]))
    return found


def _values(rows: pd.DataFrame, metric: str) -> list[float]:
    """The values of the ok requests behind a percentile."""
    ok = _with_due(rows[rows["status"] == "ok"])
    return [float(v) for v in ok[{**METRICS, **_DUE}[metric][0]].dropna()]


def frame(found: Sequence[Point]) -> pd.DataFrame:
    """The points that are shown as a table with a column per field, and `at`: the load in words."""
    shown = [p for p in found if p.shown]
    table = pd.DataFrame([astuple(p) for p in shown], columns=[f.name for f in fields(Point)])
    words = {name: load.words if (load := Load.of(name)) else name for name in set(table["load"])}
    return table.assign(at=table["load"].map(words))


def _at(table: pd.DataFrame, variant: str, workload: str, load: str) -> pd.DataFrame:
    return table[(table["variant"] == variant) & (table["workload"] == workload) & (table["load"] == load)]


def pick(found: Sequence[Point], variant: str, workload: str, load: str, metric: str) -> Point | None:
    """One point, or None when it was not measured."""
    key = (variant, workload, load, metric)
    return next((p for p in found if (p.variant, p.workload, p.load, p.metric) == key), None)
