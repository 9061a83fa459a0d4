"""The load test as rows of a table: each variant at each number of users, and what must be said beside the figures.

What the figures are (percentiles of rounded times, failed requests among them) is said in `collector.bundle.loadtest`.
One test a variant and no times of single requests: there is no interval, so no two variants are compared here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from collector.bundle.loadtest import LoadTest, read
from collector.bundle.read import QuantcaseError
from quantcase.analysis.points import LEAST
from quantcase.catalog import Case

__all__ = ["PERCENTILES", "Error", "Row", "Summary", "batch_limit", "errors", "frame", "load_tests", "rows", "summary"]

PERCENTILES = {50: "median", 95: "95th percentile", 99: "99th percentile"}
_LEVELS_OFF = 0.05  # less than so much more throughput for more users is worth a word
# What a server is told of how many requests it may run at once: vLLM, SGLang, llama.cpp.
_LIMITS = ("--max-num-seqs", "--max-running-requests", "--parallel", "-np")


@dataclass(frozen=True)
class Row:
    """One variant at one number of users."""

    variant: str
    method: str
    batch: int | None  # requests that the server runs at once at most; None where its command line does not say
    users: int
    requests: int
    failures: int
    rps: float | None
    ms: dict[int, float | None]  # by percentile; None where no request stands behind it
    shown: dict[int, bool]  # whether enough requests stand behind it
    notes: list[str]  # may hold names of the bundle: to be made safe


@dataclass(frozen=True)
class Error:
    """One kind of failure of a variant, over all its steps."""

    variant: str
    error: str
    count: int


@dataclass(frozen=True)
class Summary:
    """All load tests of a case in one line. Pairs are the least and the most."""

    users: tuple[int, int]
    steps: int  # different numbers of users
    minutes: tuple[float, float]  # of one test
    requests: int


def load_tests(case: Case) -> tuple[list[LoadTest], list[str]]:
    """(the load tests of a case, the baseline first, then in the study's order; what is wrong with those that cannot be
    read). One torn file must not cost the other variants their rows.
    """
    names = sorted((v.name for v in case.study.variants), key=lambda n: n != case.baseline)
    found, faults = [], []
    for name in names:
        try:
            test = read(case.bundle.folder, name)
        except QuantcaseError as e:
            faults.append(e.problem)
        else:
            found += [test] if test is not None else []
    return found, faults


def summary(tests: Sequence[LoadTest]) -> Summary:
    """What was run; there must be a test."""
    users = {step.users for test in tests for step in test.steps}
    minutes = [test.seconds / 60 for test in tests]
    return Summary(
        (min(users), max(users)), len(users), (min(minutes), max(minutes)), sum(test.requests for test in tests)
    )


def rows(case: Case, tests: Sequence[LoadTest]) -> list[Row]:
    """Every variant at every number of users, as the steps came."""
    found = []
    for test in tests:
        method, batch = case.study.variant(test.variant).method, batch_limit(_argv(case, test.variant))
        before: Row | None = None
        for step in test.steps:
            ms = {50: step.p50_ms, 95: step.p95_ms, 99: step.p99_ms}
            shown = {p: step.requests >= LEAST[p] for p in ms}
            row = Row(
                test.variant, method, batch, step.users, step.requests, step.failures, step.rps, ms, shown, notes=[]
            )
            row.notes.extend(_notes(row, before))
            found.append(row)
            before = row
    return found


def _notes(row: Row, before: Row | None) -> list[str]:
    """What a reader must know of one row; each follows from its figures."""
    found = []
    if not row.requests:
        return ["no request that was sent in this step came to an end"]
    if row.failures == row.requests:
        found.append("every request failed")
    elif row.failures:
        found.append(f"{100 * row.failures / row.requests:.1f} % failed; these are in RPS and in the percentiles")
    if row.batch is not None and row.users > row.batch:
        found.append(f"more users than the server runs at once ({row.batch}): some wait")
    if before is not None and before.rps and row.rps is not None and row.rps < (1 + _LEVELS_OFF) * before.rps:
        signed = f"{100 * (row.rps / before.rps - 1):+.1f}".replace("-", "−")
        found.append(f"RPS {signed} % against {before.users} users")
    return found


def _argv(case: Case, variant: str) -> list[str]:
    """The command line with which a variant served; what the study asks for where none is recorded."""
    served = case.served(variant)
    if served is not None:
        try:
            argv = json.loads(served.argv)
        except ValueError:
            argv = None
        if isinstance(argv, list) and argv:
            return [str(word) for word in argv]
    return [*case.study.engine.args, *case.study.variant(variant).args]


def batch_limit(argv: Sequence[str]) -> int | None:
    """How many requests the server may run at once, by its command line; the last word counts."""
    limit = None
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in _LIMITS:
            value = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
            limit = int(value) if re.fullmatch(r"[1-9][0-9]{0,6}", value) else limit
    return limit


def frame(found: Sequence[Row]) -> pd.DataFrame:
    """`variant, users, percentile, ms`: the medians and 95th percentiles that enough requests stand behind."""
    points = [
        (row.variant, row.users, PERCENTILES[p], row.ms[p])
        for row in found
        for p in (50, 95)
        if row.shown[p] and row.ms[p] is not None
    ]
    return pd.DataFrame(points, columns=["variant", "users", "percentile", "ms"])


def errors(tests: Sequence[LoadTest]) -> list[Error]:
    """What failed, by variant, the most frequent first; steps together."""
    found = []
    for test in tests:
        counts: dict[str, int] = {}
        for f in test.failures:
            counts[f.error] = counts.get(f.error, 0) + f.count
        found += [Error(test.variant, e, n) for e, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))]
    return found
