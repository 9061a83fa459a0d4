"""Locust's own files in a bundle, and what a step of the load test comes to.

A variant has three: `loadtest_<variant>_stats.csv` (Locust's `_stats.csv`), `..._history.csv` (`_stats_history.csv`,
with `--csv-full-history`) and `..._failures.csv`. What their columns are, by Locust's documentation ("Retrieve test
statistics in CSV format") and its `locust/stats.py` of 2.47:

- A **request** counts once it has ended, well or not. `Request Count` holds the failed ones, and so do all times.
- **Times** run from the send to the end of the whole answer, in ms. Locust keeps them rounded to two significant
  digits (147 as 150, 3432 as 3400) and takes percentiles of these: two that differ by less than 5 % may be the same.
- `_stats.csv`: one row per name and one `Aggregated`; `50%`, `95%`, `99%` are of **all** its requests. Our locustfile
  names every request after the step in which it was sent, so a row is a step. What is sent while a step settles (its
  first fifth, at least 1 s) goes under `between steps`.
- `_stats_history.csv`: about one row a second and name. `Timestamp` is in whole seconds, `User Count` of that moment.
  `Requests/s` and `Failures/s` are means over about ten seconds, up to two before the last answer. With
  `--csv-full-history` the percentiles are of a **sliding window** of about the last ten seconds
  (`CURRENT_RESPONSE_TIME_PERCENTILE_WINDOW`; without that option of the run so far), so after a change of users they
  mix two steps. `Total Request Count` and `Total Failure Count` count from the start of the test.

Hence a step's percentiles, requests and failures come from its row of `_stats.csv`; its requests per second are the
difference of `Total Request Count` over the rows of the history that show its user count, without their first fifth.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from collector.bundle.manifest import write_atomic
from collector.errors import QuantcaseError

__all__ = ["BETWEEN", "Failure", "LoadTest", "Step", "done", "entry", "names", "read", "save", "settle_s"]

BETWEEN = "between steps"  # the name of requests that belong to no step
_SETTLE = 0.2  # of a step, before it counts
_STAMP_S = 1  # the history's stamps are whole seconds
_LEAST_ROWS = 3  # of a user count in the history: fewer are the way from one step to the next
_MOST_BYTES = 64 << 20
_MOST_STEPS = 1000
_KINDS = ("stats", "history", "failures")

Count = Annotated[int, Meta(ge=0, le=10**12)]
Ms = Annotated[float, Meta(ge=0, le=1e12)]
RowT = TypeVar("RowT", bound=Struct)


class _Stats(Struct):
    name: str = field(name="Name")
    requests: Count = field(name="Request Count")
    failures: Count = field(name="Failure Count")
    p50: Ms | None = field(name="50%", default=None)
    p95: Ms | None = field(name="95%", default=None)
    p99: Ms | None = field(name="99%", default=None)


class _History(Struct):
    stamp: Annotated[int, Meta(ge=0, le=10**11)] = field(name="Timestamp")
    users: Annotated[int, Meta(ge=0, le=10**6)] = field(name="User Count")
    name: str = field(name="Name")
    requests: Count = field(name="Total Request Count")
    failures: Count = field(name="Total Failure Count")


class _Failed(Struct):
    name: str = field(name="Name")
    error: str = field(name="Error")
    count: Count = field(name="Occurrences")


class Step(Struct, frozen=True, kw_only=True):
    """One step. Times are of all its requests, failed ones included, as Locust rounds them; None without a request."""

    users: int
    requests: int  # sent in the step after it had settled, and ended
    failures: int  # of these
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    rps: float | None  # requests that ended per second, failed ones included, after the first fifth of the step
    seconds: float  # behind rps


class Failure(Struct, frozen=True):
    """What went wrong, and how often. `error` is what Locust was told: untrusted text."""

    step: str
    error: str
    count: int


class LoadTest(Struct, frozen=True):
    """The load test of one variant."""

    variant: str
    steps: list[Step]  # fewest users first
    failures: list[Failure]  # most frequent first
    requests: int  # of the whole test, between the steps too
    failed: int
    seconds: float  # from the first row of the history to the last with users


def settle_s(step_s: float) -> float:
    """Seconds at the start of a step that do not count: users start, and answers of the step before come in."""
    return max(1.0, _SETTLE * step_s)


def entry(users: int) -> str:
    """The name of a step's requests in Locust's statistics."""
    return f"{users} users"


def names(variant: str) -> tuple[str, str, str]:
    """The files of a variant: statistics, history, failures."""
    stats, history, failures = (f"loadtest_{variant}_{kind}.csv" for kind in _KINDS)
    return stats, history, failures


def done(folder: Path, variant: str) -> bool:
    """Whether the variant's load test is in the bundle. The history is written last, so it says so."""
    return (folder / names(variant)[1]).is_file()


def save(
    folder: Path, variant: str, *, stats: Path, history: Path, failures: Path, clean: Callable[[str], str]
) -> LoadTest:
    """Take Locust's files into a bundle, as they are but for secrets, and read them.

    Args:
        clean: takes secrets and addresses out of a text; used on every field of the failures.

    Raises:
        QuantcaseError: they are not what Locust writes; then nothing is written.
    """
    texts = [_text(path) for path in (stats, history, failures)]
    out = io.StringIO()
    csv.writer(out).writerows([[clean(cell) for cell in row] for row in csv.reader(io.StringIO(texts[2], newline=""))])
    texts[2] = out.getvalue()
    found = _load_test(variant, texts, names(variant))
    for number in (2, 0, 1):
        write_atomic(folder / names(variant)[number], texts[number].encode())
    return found


def read(folder: Path, variant: str) -> LoadTest | None:
    """The load test of a variant; None where there is none.

    Raises:
        QuantcaseError: a file is missing, too large, not UTF-8, or not what Locust writes: file and line.
    """
    if not any((folder / name).is_file() for name in names(variant)):
        return None
    return _load_test(variant, [_text(folder / name) for name in names(variant)], names(variant))


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without an end
            raise QuantcaseError(f"{path.name} is no plain file", fix="a load test has three files")
        if path.stat().st_size > _MOST_BYTES:
            raise QuantcaseError(f"{path.name} is larger than {_MOST_BYTES >> 20} MiB")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise QuantcaseError(f"{path.name} is not UTF-8 text") from None
    except OSError as e:
        raise QuantcaseError(f"{path.name}: {e.strerror or e}", fix="a load test has three files") from None


def _load_test(variant: str, texts: Sequence[str], where: Sequence[str]) -> LoadTest:
    stats = list(_rows(texts[0], _Stats, where[0]))
    history = [r for r in _rows(texts[1], _History, where[1]) if r.name == "Aggregated"]
    failed = list(_rows(texts[2], _Failed, where[2]))
    totals = [r for r in stats if r.name == "Aggregated"]
    if len(totals) != 1 or not history:
        raise QuantcaseError(f"{where[0] if history else where[1]} has no row for all requests (Aggregated)")
    _sane(stats, history, where)
    by_step = {int(m[1]): r for r in stats if (m := re.fullmatch(r"([1-9]\d{0,6}) users", r.name, re.ASCII))}
    runs = _runs(history)
    users = sorted(by_step.keys() | runs.keys())
    if not users or len(users) > _MOST_STEPS:
        raise QuantcaseError(f"{where[0]} holds {len(users)} steps", fix="rows named `10 users`, `20 users`, ...")
    failures = [Failure(r.name, r.error, r.count) for r in sorted(failed, key=lambda r: (-r.count, r.error, r.name))]
    last = max((i for i, r in enumerate(history) if r.users), default=0)
    return LoadTest(
        variant, [_step(u, by_step.get(u), runs.get(u, [])) for u in users], failures, totals[0].requests,
        totals[0].failures, _elapsed(history[: last + 1]),
    )  # fmt: skip


def _sane(stats: Sequence[_Stats], history: Sequence[_History], where: Sequence[str]) -> None:
    """What Locust cannot have written."""
    seen = set()
    for r in stats:
        times = [t for t in (r.p50, r.p95, r.p99) if t is not None]
        if r.failures > r.requests:
            raise QuantcaseError(f"{where[0]}: {r.name[:40]!r}: {r.failures} of {r.requests} requests failed")
        if times != sorted(times):
            raise QuantcaseError(f"{where[0]}: {r.name[:40]!r}: its percentiles do not rise")
        if r.name in seen:
            raise QuantcaseError(f"{where[0]}: {r.name[:40]!r} stands twice")
        seen.add(r.name)
    for a, b in itertools.pairwise(history):
        if b.requests < a.requests or b.failures < a.failures:
            raise QuantcaseError(f"{where[1]}: at {b.stamp} a count is lower than in the row before")


def _runs(history: Sequence[_History]) -> dict[int, list[_History]]:
    """The longest stretch of rows of each user count."""
    found: dict[int, list[_History]] = {}
    stretch: list[_History] = []
    for row in history:
        stretch = [*stretch, row] if stretch and stretch[-1].users == row.users else [row]
        if row.users and len(stretch) >= max(_LEAST_ROWS, len(found.get(row.users, [])) + 1):
            found[row.users] = stretch
    return found


def _step(users: int, row: _Stats | None, run: Sequence[_History]) -> Step:
    kept = run[math.ceil(_SETTLE * len(run)) :]
    seconds = _elapsed(kept)
    rps = (kept[-1].requests - kept[0].requests) / seconds if seconds > 0 else None
    if row is None or not row.requests:
        return Step(
            users=users, requests=0, failures=0, p50_ms=None, p95_ms=None, p99_ms=None, rps=rps, seconds=seconds
        )
    return Step(
        users=users, requests=row.requests, failures=row.failures, p50_ms=row.p50, p95_ms=row.p95, p99_ms=row.p99,
        rps=rps, seconds=seconds,
    )  # fmt: skip


def _elapsed(rows: Sequence[_History]) -> float:
    """Seconds from the first row to the last. Locust pauses a second between two rows, which is finer than its stamps
    of whole seconds. Where the stamps say more than their rounding can (a starved machine), they are right.
    """
    if len(rows) < 2:
        return 0.0
    stamps, pauses = rows[-1].stamp - rows[0].stamp, len(rows) - 1
    return float(stamps if stamps > pauses + _STAMP_S else pauses)


def _rows(text: str, kind: type[RowT], where: str) -> Iterator[RowT]:
    """The rows of one file. Columns that are not asked for are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""))
    wanted = [f.encode_name for f in msgspec.structs.fields(kind)]
    try:
        header = next(reader, [])
        if missing := [name for name in wanted if name not in header]:
            raise QuantcaseError(f"{where} has no column {missing[0]!r}", fix="a CSV as Locust writes it")
        places = [(name, header.index(name)) for name in wanted]
        for fields in reader:
            if not fields:
                continue
            line = f"{where} line {reader.line_num}"
            if len(fields) != len(header):
                raise QuantcaseError(f"{line}: {len(fields)} fields, the header has {len(header)}")
            data = {name: fields[i] for name, i in places if fields[i] != "N/A"}  # of a row without a request
            try:
                row = msgspec.convert(data, kind, strict=False)
            except msgspec.ValidationError as e:
                raise QuantcaseError(f"{line}: {e}") from None
            if any(isinstance(v, float) and not math.isfinite(v) for v in msgspec.structs.astuple(row)):
                raise QuantcaseError(f"{line}: a number is not finite")
            yield row
    except csv.Error as e:
        raise QuantcaseError(f"{where} line {reader.line_num}: {e}") from None
