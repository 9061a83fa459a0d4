"""The experiment log's figures: what ran, each experiment's rows, and the best configurations by rules that are stated.

A configuration is a variant at a load point. The rules, each within one workload:

- latency: the lowest 95th percentile of E2E; throughput: the most output tokens/s; cost: the most requests/s and GPU of
  the server, which is the least USD a request at any price, since the hour of a GPU costs the same for every variant;
- balance: the Pareto front over throughput, p95 and the memory of the weights first, then of these the highest
  S = g prod r_k^w_k. r_k are ratios to one reference, the baseline at its highest load; the mean is geometric, so the
  order does not depend on which reference it is. Weights and quality factors g: `WEIGHTS` and `QUALITY`, nowhere else.

Variants that did not serve, were not quantized after all, or failed on quality take no part, nor the control, nor a
load point at which the client was the limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collector.bundle.read import Load, Workload
from quantcase.analysis.hierarchy import Runs, estimates, span
from quantcase.analysis.memory import stated
from quantcase.analysis.points import THROUGHPUT, Point, pick
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.servers import gpus_of
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = [
    "QUALITY", "SWING", "WEIGHTS", "Balance", "Choice", "Experiment", "Figure", "Kind", "Row", "Score", "Status",
    "balance", "best", "eligible", "excluded", "experiment_rows", "kind_of", "matrix", "pareto", "usd_per_request",
]  # fmt: skip

Status = Literal["pending", "in progress", "complete", "failed", "skipped"]
Kind = Literal["chat", "batch", "long"]
# Weights of the balance score: throughput, 1 / TPOT, KV capacity, 1 / cost of a request; each set sums to 1.
WEIGHTS: dict[Kind, dict[str, float]] = {
    "chat": {"throughput": 0.2, "tpot": 0.4, "kv": 0.2, "cost": 0.2},
    "batch": {"throughput": 0.4, "tpot": 0.0, "kv": 0.1, "cost": 0.5},
    "long": {"throughput": 0.2, "tpot": 0.2, "kv": 0.4, "cost": 0.2},
}
# What a grade of quality leaves of the score. Not measured counts as caution: a loss is not ruled out.
QUALITY = {"pass": 1.0, "caution": 0.9, "unknown": 0.9, "not measured": 0.9, "fail": 0.0}
SWING = 0.5  # a weight is moved by so much either way to see whether the order holds
_LONG_TOKENS = 16_000


@dataclass(frozen=True)
class Experiment:
    """One variant's line of the matrix. `done` and `planned` count cell repeats over all server starts."""

    variant: str
    status: Status
    reason: str
    done: int
    planned: int


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval (nan where it cannot be had) and the repeats behind it."""

    value: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Row:
    """One configuration: a variant at a load point. Latencies are E2E in ms; what was not measured is None."""

    variant: str
    workload: str
    load: Load
    n: int  # requests that ended well
    failed: int  # errors, timeouts and requests that were cut
    mean_ms: Figure | None
    req_s: Figure | None  # requests that ended well / whole run, mean over repeats
    weights_gib: float | None
    kv_tokens: int | None
    tok_s: Point | None
    p95: Point | None
    p99: Point | None
    tpot: Point | None  # median
    gpus: int = 1  # of the server


@dataclass(frozen=True)
class Choice:
    """The best of `out_of` configurations. `tied`: those whose interval meets the best one's, or has no interval."""

    row: Row
    tied: list[Row]
    out_of: int


@dataclass(frozen=True)
class Score:
    """The balance score of one configuration. The interval holds the error of its own figures, not the reference's."""

    row: Row
    value: float
    low: float
    high: float
    quality: float  # the factor g
    ratios: dict[str, float]  # part -> ratio to the reference, each the better the higher
    halves: dict[str, float]  # part -> half its interval as a logarithm; nan where it is not known


@dataclass(frozen=True)
class Balance:
    """The Pareto front of one workload, scored, best first."""

    scores: list[Score]
    tied: list[Score]  # whose interval meets the best one's, or where either has none
    reference: Row
    weights: dict[str, float]  # of the parts that count; they sum to 1
    dimensions: list[str]  # of the front
    kind: Kind  # whose weights these are
    asked: dict[str, float]  # the same as `WEIGHTS` has them: of every part that all of these have, 0 included
    unstable: list[str] = field(default_factory=list)  # weights which, moved by half, put another first


def matrix(case: Case) -> list[Experiment]:
    """Every variant of the study with its state, as the rows of variants.csv and cells.csv tell it."""
    return [_experiment(case, v.name) for v in case.study.variants]


def _experiment(case: Case, variant: str) -> Experiment:
    counts = case.cells[case.cells["variant"] == variant].groupby(["workload", "load"]).size().to_dict()
    each, points = case.study.repeats * case.study.starts, case.study.cells()
    done, planned = sum(counts.values()), each * len(points)
    starts, whole = case.starts(variant), case.bundle.info.status == "complete"
    failed = [s for s in starts if s.exit_state != "ok"]
    words = f"{failed[-1].exit_state}: {failed[-1].error or 'no reason recorded'}" if failed else ""
    # A closed run may hold fewer repeats than asked for (precise enough, out of budget), but no load point less.
    least = 1 if whole else each
    missing = sum(counts.get((w.name, at.name), 0) < least for w, at in points)
    lacks = f"{missing} of {len(points)} load points not fully measured{'; ' if words else ''}{words}"
    if not starts:
        state: tuple[Status, str] = ("skipped", "the run ended without it") if whole else ("pending", "not started yet")
    elif case.served(variant) is None:
        state = "failed", words
    elif missing:
        state = ("in progress" if not whole else "failed" if words else "skipped"), lacks
    else:
        state = "complete", ""
    return Experiment(variant, *state, done, planned)


def kind_of(workload: Workload) -> Kind:
    """Which weights a workload goes by: long contexts, batch by its name (as on the case page), else chat."""
    if workload.input_tokens >= _LONG_TOKENS:
        return "long"
    return "batch" if re.match(r"(batch|offline|summar)", workload.name) else "chat"


def experiment_rows(case: Case, points: Sequence[Point]) -> list[Row]:
    """Every configuration that was measured: by workload, variant (the baseline first) and load."""
    found = []
    cells = _Grouped(case.cells)
    answered = _Grouped(case.requests[case.requests["status"] == "ok"].dropna(subset=["e2e_ms"]))
    timed = _Grouped(case.cells.dropna(subset=["whole_run_req_s"]))
    for workload in case.study.workloads:
        loads = case.loads(workload.name)
        figures = {at.name: _figures(case, answered, timed, workload.name, at.name) for at in loads}
        for variant in case.measured_variants():
            served = stated(case, variant)
            size = (served.weights_gib, served.kv_cache_tokens) if served else (None, None)
            gpus = gpus_of(case, variant)
            for at in loads:
                place = (variant, workload.name, at.name)
                if not len(cells.of(place, "n")):
                    continue
                ok, asked = int(cells.of(place, "ok").sum()), int(cells.of(place, "n").sum())
                latency, speed = (f.get(variant) for f in figures[at.name])
                tok_s, p95, p99, tpot = (pick(points, variant, workload.name, at.name, m) for m in _POINTS)
                found.append(
                    Row(variant, workload.name, at, ok, asked - ok, latency, speed, *size, tok_s, p95, p99, tpot, gpus)
                )
    return found


_POINTS = (THROUGHPUT, "e2e_ms_p95", "e2e_ms_p99", "tpot_ms_p50")


Array = NDArray[np.float64]


class _Grouped:
    """The columns of a table by variant, workload and load."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self._places = table.groupby(["variant", "workload", "load"], sort=False).indices

    def of(self, place: tuple[str, str, str], column: str) -> Array:
        """The values of a column there; empty where there are no rows."""
        places = self._places.get(place)
        values: Array = self._table[column].to_numpy()
        return values[places] if places is not None else values[:0]

    def by_start(self, place: tuple[str, str, str], column: str) -> dict[int, list[float]]:
        """The mean of each repeat, by its server start."""
        start, repeat, values = (self.of(place, c) for c in ("start", "repeat", column))
        found: dict[int, list[float]] = {}
        for s, r in sorted({*zip(start.tolist(), repeat.tolist(), strict=True)}):
            found.setdefault(int(s), []).append(float(values[(start == s) & (repeat == r)].mean()))
        return found


def _figures(
    case: Case, answered: _Grouped, timed: _Grouped, workload: str, load: str
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """(mean E2E in ms, requests/s) of every variant at one load point, with intervals by levels (`hierarchy`)."""
    latency, speed = dict[str, Runs](), dict[str, Runs]()
    for variant in case.measured_variants():
        place = (variant, workload, load)
        e2e, rate = answered.of(place, "e2e_ms"), timed.of(place, "whole_run_req_s")
        if n := len(e2e):
            mean, spread = float(e2e.mean()), float(e2e.var(ddof=1)) if n > 1 else 0.0
            latency[variant] = Runs(mean, answered.by_start(place, "e2e_ms"), spread / n / mean**2)  # delta method
        if len(rate):
            speed[variant] = Runs(float(rate.mean()), timed.by_start(place, "whole_run_req_s"))
    return _spanned(latency), _spanned(speed)


def _spanned(arms: Mapping[str, Runs]) -> dict[str, Figure]:
    runs = {name: sum(map(len, arm.by_start.values())) for name, arm in arms.items()}
    return {name: Figure(known.value, *span(known), runs[name]) for name, known in estimates(arms).items()}


def excluded(case: Case, judged: Mapping[str, QualityVerdict]) -> dict[str, str]:
    """Variants that no rule may choose, with the reason."""
    found = {}
    for variant in [v.name for v in case.study.variants]:
        served = case.served(variant)
        if variant == case.study.control:
            found[variant] = "the baseline again, as a control"
        elif served is None:
            found[variant] = "did not serve" if case.starts(variant) else "was not started"
        elif served.kernel_class == "not_applied":
            found[variant] = "the quantization that was asked for was not applied"
        elif variant in judged and judged[variant].grade == "fail":
            found[variant] = f"quality: {judged[variant].because}"
    return found


def eligible(case: Case, rows: Sequence[Row], workload: str, out: Mapping[str, str]) -> list[Row]:
    """The configurations of a workload among which the rules choose."""
    mine = [r for r in rows if r.workload == workload and r.variant not in out]
    return [r for r in mine if (r.variant, r.workload, r.load.name) not in limited_loads(case)]


def best(rows: Sequence[Row], by: Literal["latency", "throughput", "cost", "ratio"]) -> Choice | None:
    """The best configuration by one figure; None when none has it with enough requests behind it."""
    measure, sign = _MEASURES[by]
    known = [(value, r) for r in rows if (value := measure(r)) is not None]
    if not known:
        return None
    top, row = max(known, key=lambda k: sign * k[0].value)
    return Choice(row, [r for value, r in known if r is not row and _meet(top, value)], len(known))


def _p95(row: Row) -> Point | None:
    return row.p95 if row.p95 is not None and row.p95.shown else None


def _ratio(row: Row) -> Figure | None:
    """Output tokens/s and GPU for each ms of p95; its bounds are the worst and the best that both intervals allow."""
    x, t, g = row.tok_s, _p95(row), row.gpus
    if x is None or t is None or t.low == 0:
        return None
    return Figure(x.value / g / t.value, x.low / g / t.high, x.high / g / t.low, x.runs)


def _cheap(row: Row) -> Figure | None:
    """Requests/s for each GPU of the server: the reciprocal of what a request costs, but for the price."""
    x, g = row.req_s, row.gpus
    return Figure(x.value / g, x.low / g, x.high / g, x.runs) if x is not None else None


_MEASURES: dict[str, tuple[Callable[[Row], Point | Figure | None], int]] = {
    "latency": (_p95, -1),
    "throughput": (lambda r: r.tok_s, 1),
    "cost": (_cheap, 1),
    "ratio": (_ratio, 1),
}


def _meet(a: Point | Figure | Score, b: Point | Figure | Score) -> bool:
    """Whether two intervals meet; without an interval nothing can be told apart."""
    return not (a.high < b.low or b.high < a.low)


def usd_per_request(usd_per_hour: float, requests_per_second: float, requests: int = 1) -> float:
    """USD for so many requests: P / (3600 * X), P of all GPUs of the server, which is in use all the time."""
    return usd_per_hour / (3600 * requests_per_second) * requests


def pareto(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """(configurations that no other equals in everything and beats in something, the dimensions).

    Only those with throughput and a p95 are compared. The weights' memory counts where all state it, and is that of one
    GPU: where servers differ in GPUs their number counts instead, the fewer the better.
    """
    known = [(r, r.tok_s.value, -p95.value) for r in rows if r.tok_s is not None and (p95 := _p95(r)) is not None]
    mixed = len({r.gpus for r, _, _ in known}) > 1
    stated = not mixed and all(r.weights_gib is not None for r, _, _ in known)
    at = [(r, (x, y, float(-r.gpus) if mixed else -(r.weights_gib or 0.0) if stated else 0.0)) for r, x, y in known]
    front = [
        r
        for r, mine in at
        if not any(other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for _, other in at)
    ]
    return front, ["throughput", "E2E p95", *(["GPUs"] if mixed else ["memory of the weights"] if stated else [])]


def balance(rows: Sequence[Row], baseline: str, kind: Kind, grades: Mapping[str, str]) -> Balance | None:
    """The Pareto front scored; None without a front or without a measured baseline to be the reference."""
    front, dimensions = pareto(rows)
    references = [r for r in rows if r.variant == baseline and r.tok_s and r.tpot and r.req_s]
    if not front or not references:
        return None
    reference = max(references, key=lambda r: r.load.amount)
    weights = {k: w for k, w in WEIGHTS[kind].items() if w > 0}
    if any(not r.kv_tokens for r in (*front, reference)):
        weights.pop("kv", None)
    weights = _normal(weights)
    ready = [r for r in front if set(weights) <= set(_parts(r))]
    asked = {k: w for k, w in WEIGHTS[kind].items() if all(k in _parts(r) for r in (*ready, reference))}
    graded = {**dict(grades), baseline: "pass"}  # it is what the others are graded against
    given = {r.variant: QUALITY[graded.get(r.variant, "not measured")] for r in ready}

    def scored(by: Mapping[str, float]) -> list[Score]:
        return sorted((_score(r, reference, asked, by, given[r.variant]) for r in ready), key=lambda s: -s.value)

    scores = scored(weights)
    if not scores:
        return None
    moved = {k: [_normal({**weights, k: w * f}) for f in (1 - SWING, 1 + SWING)] for k, w in weights.items()}
    unstable = [k for k, each in moved.items() if any(scored(by)[0].row is not scores[0].row for by in each)]
    tied = [s for s in scores[1:] if _meet(scores[0], s)]
    return Balance(scores, tied, reference, weights, dimensions, kind, asked, unstable)


def _normal(weights: Mapping[str, float]) -> dict[str, float]:
    return {k: w / sum(weights.values()) for k, w in weights.items()}


def _parts(row: Row) -> dict[str, tuple[float, float]]:
    """Part -> (value, the better the higher; half its interval as a logarithm)."""
    found = {}
    for name, measured, power in (("throughput", row.tok_s, 1), ("tpot", row.tpot, -1), ("cost", _cheap(row), 1)):
        if measured is not None and measured.value > 0:
            known = measured.low > 0 and not math.isnan(measured.high)
            half = math.log(measured.high / measured.low) / 2 if known else math.nan
            found[name] = (measured.value**power, half)
    if row.kv_tokens:
        found["kv"] = (float(row.kv_tokens), 0.0)
    return found


def _score(row: Row, reference: Row, parts: Iterable[str], weights: Mapping[str, float], factor: float) -> Score:
    """S of one configuration. Its parts come from the same repeats, so their errors are added, not their squares."""
    mine, theirs = _parts(row), _parts(reference)
    ratios = {k: mine[k][0] / theirs[k][0] for k in parts}
    value = factor * math.exp(math.fsum(w * math.log(ratios[k]) for k, w in weights.items()))
    half = math.fsum(w * mine[k][1] for k, w in weights.items())
    halves = {k: mine[k][1] for k in parts}
    return Score(row, value, value * math.exp(-half), value * math.exp(half), factor, ratios, halves)
