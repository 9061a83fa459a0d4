"""One row per variant, load point and metric: the value, its interval, how many runs and requests carry it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collector.bundle.metrics import percentile
from collector.bundle.read import Load
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.hierarchy import Estimate, Runs, bootstrap_variance, estimates, span
from quantcase.analysis.intervals import percentile_interval
from quantcase.analysis.servers import gpus_of
from quantcase.catalog import Case

__all__ = ["LEAST", "METRICS", "THROUGHPUT", "Key", "Point", "cell_estimates", "frame", "pick", "points"]

THROUGHPUT = "throughput_tok_s"
Array = NDArray[np.float64]
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


# Columns of requests that estimates are made of.
_NUMBERS = ("start", "repeat", "due_s", *dict.fromkeys(c for c, _ in (*METRICS.values(), *_DUE.values())))
_FIELDS = attrgetter(*(f.name for f in fields(Point)))
Key = tuple[str, str, str]  # workload, load, metric


def cell_estimates(case: Case) -> dict[Key, dict[str, Estimate]]:
    """(workload, load, metric) -> variant -> estimate, for throughput and every percentile."""
    found: dict[Key, dict[str, Estimate]] = {}
    ok = _with_due(case.requests[case.requests["status"] == "ok"])
    groups = ok.groupby(["variant", "workload", "load"], sort=False).indices
    columns = {name: ok[name].to_numpy(float) for name in _NUMBERS}
    speeds = _speeds(case)
    for workload, at in case.points_of_load():
        by_metric: dict[str, dict[str, Runs]] = {}
        for variant in case.measured_variants():
            of = (variant, workload.name, at.name)
            arms = by_metric.setdefault(THROUGHPUT, {})
            if of in speeds:
                arms[variant] = speeds[of]
            if of in groups:
                mine = {name: values[groups[of]] for name, values in columns.items()}
                for metric, runs in _percentiles(mine, "/".join(of)).items():
                    by_metric.setdefault(metric, {})[variant] = runs
        for metric, arms in by_metric.items():
            if arms:
                found[(workload.name, at.name, metric)] = estimates(arms)
    return found


def _speeds(case: Case) -> dict[tuple[str, str, str], Runs]:
    """(variant, workload, load) -> throughput, where any repeat has one."""
    columns = (case.cells[c].tolist() for c in ("variant", "workload", "load", "start", THROUGHPUT))
    found: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for variant, workload, load, start, value in zip(*columns, strict=True):
        if value == value:
            found.setdefault((variant, workload, load), {}).setdefault(int(start), []).append(float(value))
    flat = {of: [v for values in by_start.values() for v in values] for of, by_start in found.items()}
    return {of: Runs(math.fsum(flat[of]) / len(flat[of]), by_start) for of, by_start in found.items()}


def _with_due(ok: pd.DataFrame) -> pd.DataFrame:
    """Latencies from the time due, where there is one."""
    wait_ms = 1000 * (ok["started_s"] - ok["due_s"])
    return ok.assign(ttft_due_ms=ok["ttft_ms"] + wait_ms, e2e_due_ms=ok["e2e_ms"] + wait_ms)


def _percentiles(rows: dict[str, Array], key: str) -> dict[str, Runs]:
    """Every percentile of one variant at one load point, with each repeat's own and what the requests alone explain."""
    found: dict[str, Runs] = {}
    wanted = METRICS if np.isnan(rows["due_s"]).all() else {**METRICS, **_DUE}
    start, repeat = rows["start"], rows["repeat"]
    pairs = sorted(set(zip(start.tolist(), repeat.tolist(), strict=True)))
    repeats = [(int(s), np.flatnonzero((start == s) & (repeat == r))) for s, r in pairs]
    for column in dict.fromkeys(c for c, _ in wanted.values()):
        runs = [(s, [v for v in rows[column][at].tolist() if v == v]) for s, at in repeats]
        flat = [v for _, values in runs for v in values]
        metrics = [(m, p) for m, (c, p) in wanted.items() if c == column]
        noise = bootstrap_variance([values for _, values in runs], [p for _, p in metrics], f"{key}/{column}")
        for (metric, p), variance in zip(metrics, noise, strict=True):
            value = percentile(flat, p)
            if value is None:
                continue
            by_start: dict[int, list[float]] = {}
            for s, values in runs:
                if (own := percentile(values, p)) is not None:
                    by_start.setdefault(s, []).append(own)
            found[metric] = Runs(value, by_start, variance)
    return found


def points(
    case: Case, usd_per_hour: float | None = None, known: dict[Key, dict[str, Estimate]] | None = None
) -> list[Point]:
    """All load points of a case, the baseline first.

    Throughput is the mean over repeats of the steady-window figure; percentiles pool the ok requests of all repeats;
    intervals: `hierarchy`. Cost follows from throughput and `usd_per_hour`, the price of one GPU, times the GPUs of the
    server; it has no points without a price. `known` are the case's estimates, when they have been worked out already.
    """
    found: list[Point] = []
    all_estimates = cell_estimates(case) if known is None else known
    behind_cells = _behind(case)
    for variant in case.measured_variants():
        hour = usd_per_hour * gpus_of(case, variant) if usd_per_hour is not None else None
        for workload, at in case.points_of_load():
            of = (variant, workload.name, at.name)
            cells, spoken, starts = behind_cells.get(of, (0, 0, 0))
            n = case.ok_counts.get(of, 0)

            def point(
                metric: str, bounds: tuple[float, float, float], runs: int, unit: str, source: str, shown: bool = True,
                key: tuple[str, str, str, float] = (variant, workload.name, at.name, at.amount),
                behind: tuple[int, int] = (n, starts),
            ) -> Point:  # fmt: skip
                return Point(*key, metric, *bounds, behind[0], runs, unit, source, shown, behind[1])

            speed = all_estimates.get((workload.name, at.name, THROUGHPUT), {}).get(variant)
            if speed is not None:
                low, high = span(speed)
                found.append(point(THROUGHPUT, (speed.value, low, high), spoken, "tok/s", "cells.csv"))
                if hour is not None:
                    usd = [usd_per_million(hour, v) if v > 0 else math.nan for v in (speed.value, high, low)]
                    unit, cost = "USD/1M output tokens", (usd[0], usd[1], usd[2])
                    found.append(point("usd_per_1m_output_tokens", cost, spoken, unit, "cells.csv"))
            for metric, (_, p) in {**METRICS, **_DUE}.items():
                estimate = all_estimates.get((workload.name, at.name, metric), {}).get(variant)
                if estimate is not None:
                    low, high = span(estimate)
                    if cells == 1:  # one repeat: what its requests say of it, if they were independent
                        low, high = percentile_interval(_values(_at(case.requests, *of), metric), p)
                    bounds = (estimate.value, low, high)
                    found.append(point(metric, bounds, cells, "ms", "requests.csv.gz", n >= LEAST[p]))
    return found


def _behind(case: Case) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    """(variant, workload, load) -> repeats, those of them with a throughput, server starts."""
    columns = (case.cells[c].tolist() for c in ("variant", "workload", "load", "start", THROUGHPUT))
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for variant, workload, load, start, value in zip(*columns, strict=True):
        found.setdefault((variant, workload, load), []).append((start, value))
    return {of: (len(r), sum(v == v for _, v in r), len({s for s, _ in r})) for of, r in found.items()}


def _values(rows: pd.DataFrame, metric: str) -> list[float]:
    """The values of the ok requests behind a percentile."""
    ok = _with_due(rows[rows["status"] == "ok"])
    return [float(v) for v in ok[{**METRICS, **_DUE}[metric][0]].dropna()]


def frame(found: Sequence[Point]) -> pd.DataFrame:
    """The points that are shown as a table with a column per field, and `at`: the load in words."""
    shown = [p for p in found if p.shown]
    names = [f.name for f in fields(Point)]
    table = pd.DataFrame([_FIELDS(p) for p in shown], columns=names)
    words = {name: load.words if (load := Load.of(name)) else name for name in set(table["load"])}
    return table.assign(at=table["load"].map(words))


def _at(table: pd.DataFrame, variant: str, workload: str, load: str) -> pd.DataFrame:
    return table[(table["variant"] == variant) & (table["workload"] == workload) & (table["load"] == load)]


def pick(found: Sequence[Point], variant: str, workload: str, load: str, metric: str) -> Point | None:
    """One point, or None when it was not measured."""
    key = (variant, workload, load, metric)
    return next((p for p in found if (p.variant, p.workload, p.load, p.metric) == key), None)
