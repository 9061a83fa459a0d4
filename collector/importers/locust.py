"""Locust's CSV files: `PREFIX_stats.csv`, and where they are there `_stats_history.csv` and `_failures.csv`.

Read against Locust 2.47 (`locust/stats.py`: `StatsCSV`, `StatsEntry`, `bucket_response_time`) and files that it wrote.

- A request counts once it has ended, well or not: counts and **all times hold the failed ones**.
- A response time runs from the send to the end of the whole answer; of a request that asked for a stream and did not
  read it inside Locust's own client it ends with the headers. Locust cannot know of tokens.
- Percentiles and the median are taken of times **rounded to two significant digits** (147 as 150, 3432 as 3400), so
  that `100%` may be more than the maximum. Mean, minimum and maximum are not rounded.
- `Requests/s` of a name is its requests / the time of the **whole** test, ramp-up included, whenever it was asked.
- The files are written about once a second: the last second's requests may be missing in any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from collector.bundle.imported import ImportedFile
from collector.errors import QuantcaseError
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.delimited import Row, Sheet, read_sheet, slug
from collector.importers.parts import MOST_MS, error_line
from collector.importers.reading import short

__all__ = ["IMPORTER", "Locust"]

_ALL = "Aggregated"
_TOGETHER = "all-requests"  # the workload of that row where there are several names
_AGAIN = "run Locust with --csv PREFIX --csv-full-history and name its files"
_MOST_NAMES = 1_000
_HELD = 0.8  # share of the history's rows at the highest user count, below which a load is not one
_AT_ONCE = 1.1  # by Little's law, requests in flight per user, above which users are told to have had several
_UNIT = 100.0  # above this the times cannot be milliseconds
_STEP = re.compile(r"[1-9]\d{0,6} users", re.ASCII)  # our own load test names its requests after the step
_PERCENTILE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_WITH_FAILED = "send to the end of the whole answer, in ms, of all requests that ended, failed ones included"
_ROUNDED = "times rounded to two significant digits (147 as 150, 3432 as 3400)"
_STATISTICS = {
    "Median Response Time": ("median", "ms", f"median of the {_ROUNDED}: {_WITH_FAILED}"),
    "Average Response Time": ("mean", "ms", f"mean time, not rounded: {_WITH_FAILED}"),
    "Min Response Time": ("min", "ms", f"shortest time, not rounded: {_WITH_FAILED}"),
    "Max Response Time": ("max", "ms", f"longest time, not rounded: {_WITH_FAILED}"),
}
_RATES = {
    "Requests/s": ("requests_per_s", "requests/s", "requests that ended, failed ones included / the whole test's time"),
    "Failures/s": ("failures_per_s", "requests/s", "requests that failed / the whole test's time, ramp-up included"),
    "Average Content Size": ("content_bytes", "bytes", "mean length of an answer's body, failed requests included"),
}


class _Files(Struct, kw_only=True):
    """One test's files."""

    stats: Sheet | None = None
    history: Sheet | None = None
    failures: Sheet | None = None
    read: list[ImportedFile] = field(default_factory=list)


class _Users(Struct, frozen=True):
    """What the history says of the load."""

    words: str  # `8 users`, `1 to 50 users`, `users unknown`
    most: int | None
    began: float | None


class Locust:
    """Reads the CSV files of one test with Locust."""

    name = "locust"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """One point a name of requests, and one of all together where there are several; see `Importer.read`."""
        files = _sort(paths)
        stats = files.stats
        if stats is None:
            raise QuantcaseError("there is no _stats.csv of Locust among the files", fix=_AGAIN)
        out = Imported(tool=self.name, tool_version=None, files=files.read, points=[])
        rows = _by_name(stats)
        total = next((r for (_, name), r in rows.items() if name == _ALL), None)
        if total is None:
            raise QuantcaseError(f"{stats.name} has no row for all requests ({_ALL})", fix="is the file whole?")
        users = _users(files.history, out)
        named = {key: r for key, r in rows.items() if key[1] != _ALL and r.count("Request Count")}
        failures = _failures(files.failures, total.count("Failure Count"), out)
        steps = any(_STEP.fullmatch(name) for _, name in named)
        workloads: dict[str, str] = {}
        for key, row in named.items():
            point = _point(row, key, failures, users)
            if steps:
                point.load = short(key[1], 60)
            elif len(named) > 1:
                point.workload = slug(" ".join(key), [*workloads, _TOGETHER])
                workloads[point.workload] = short(" ".join(key).strip())
            out.points.append(point)
        if len(named) != 1:
            together = _point(total, None, failures, users)
            together.workload = _TOGETHER if workloads else ""
            out.points.append(together)
        for workload, words in workloads.items():
            out.notes.append(f"Workload {workload} is {words}.")
        if len(named) > 1:
            out.notes.append(
                f"The figures of all requests mix {len(named)} names: their percentiles are of all of them together."
            )
        _little(total, users, out)
        out.missing += [
            "Locust's version, the server, the model and the GPU are not in the files.",
            "Locust knows no tokens: there are no TTFT, no TPOT and no tok/s.",
            "Single requests are not in the files: nothing is computed by our own definitions.",
        ]
        out.notes.append("The files are written once a second: requests of the last second may not be in them.")
        return out


def _sort(paths: Sequence[Path]) -> _Files:
    """The files by what their headers say they are."""
    found = _Files()
    listed: list[Path] = []
    for path in paths:
        listed += sorted(p for p in path.glob("*.csv") if p.is_file()) if path.is_dir() else [path]
    for path in listed:
        sheet, file = read_sheet(path)
        columns = set(sheet.columns)
        if {"Timestamp", "User Count", "Total Request Count"} <= columns:
            kind = "history"
        elif {"Request Count", "Failure Count", "Median Response Time"} <= columns:
            kind = "stats"
        elif {"Name", "Error", "Occurrences"} <= columns:
            kind = "failures"
        elif {"Count", "Message", "Traceback"} <= columns:
            found.read.append(file)  # errors of the locustfile itself: they are not requests
            continue
        else:
            raise QuantcaseError(f"{sheet.name} line 1: its columns are not those of a CSV of Locust", fix=_AGAIN)
        if getattr(found, kind) is not None:
            raise QuantcaseError(
                f"{getattr(found, kind).name} and {sheet.name} are both {kind}", fix="import one test at a time"
            )
        setattr(found, kind, sheet)
        found.read.append(file)
    return found


def _by_name(stats: Sheet) -> dict[tuple[str, str], Row]:
    stats.need("Type", "Name", "Average Response Time", "Min Response Time", "Max Response Time", "Requests/s")
    rows: dict[tuple[str, str], Row] = {}
    for row in stats.rows:
        key = row.text("Type", 60), row.text("Name", 500)
        if key in rows:
            raise row.fault(f"{short(key[1])!r} stands twice")
        rows[key] = row
    if len(rows) > _MOST_NAMES:
        raise QuantcaseError(f"{stats.name} holds {len(rows):,} names", fix="give requests one name each (`name=`)")
    return rows


def _point(row: Row, key: tuple[str, str] | None, failures: dict[tuple[str, str], dict[str, int]],
           users: _Users) -> Point:  # fmt: skip
    requests, failed = row.count("Request Count"), row.count("Failure Count")
    if failed > requests:
        raise row.fault(f"{failed} of {requests} requests failed", "Failure Count")
    messages: dict[str, int] = {}
    for of, errors in failures.items():
        if key is None or of == key:
            for error, n in errors.items():
                messages[error] = messages.get(error, 0) + n
    most_often = sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:10]
    point = Point(
        load=users.words, requests=requests, ok=requests - failed, failed=failed, messages=dict(most_often),
        began_unix_s=users.began,
    )  # fmt: skip
    point.figures = list(_figures(row, requests))
    return point


def _figures(row: Row, n: int) -> Iterator[Figure]:
    if not n:
        return
    _sane(row)
    for column, (statistic, unit, definition) in _STATISTICS.items():
        if row.has(column):
            metric = Metric(name=f"locust.{statistic}_ms", unit=unit, definition=definition)
            yield Figure(metric=metric, statistic=statistic, value=row.number(column, low=0, high=MOST_MS), n=n)
    for column in row.columns():
        if (m := _PERCENTILE.fullmatch(column)) and row.has(column):
            definition = f"{m[1]} % of the {_ROUNDED} are at most this: {_WITH_FAILED}"
            metric = Metric(name=f"locust.p{m[1]}_ms", unit="ms", definition=definition)
            yield Figure(metric=metric, statistic=f"p{m[1]}", value=row.number(column, low=0, high=MOST_MS), n=n)
    for column, (name, unit, definition) in _RATES.items():
        if row.has(column):
            metric = Metric(name=f"locust.{name}", unit=unit, definition=definition)
            yield Figure(metric=metric, statistic="mean", value=row.number(column, low=0, high=1e12), n=n)


def _sane(row: Row) -> None:
    """What Locust cannot have written: percentiles that fall, a mean outside of minimum and maximum."""
    before = -1.0
    for column in sorted((c for c in row.columns() if _PERCENTILE.fullmatch(c)), key=lambda c: float(c[:-1])):
        if not row.has(column):
            continue
        value = row.number(column, low=0, high=MOST_MS)
        if value < before:
            raise row.fault(f"{value:g} ms is less than a lower percentile", column)
        before = value
    low, mean, high = (
        row.number(c, low=0, high=MOST_MS) for c in ("Min Response Time", "Average Response Time", "Max Response Time")
    )
    if not low - 0.01 <= mean <= high + 0.01:
        raise row.fault(f"{mean:g} ms is not between minimum {low:g} and maximum {high:g}", "Average Response Time")


def _failures(sheet: Sheet | None, failed: int, out: Imported) -> dict[tuple[str, str], dict[str, int]]:
    """(method, name) -> message -> how often. Locust's statistics count them; this says what they were."""
    if sheet is None:
        if failed:
            out.missing.append(f"{failed} requests failed; why is in _failures.csv, which is not among the files.")
        return {}
    sheet.need("Method", "Name", "Error", "Occurrences")
    found: dict[tuple[str, str], dict[str, int]] = {}
    told = 0
    for row in sheet.rows:
        errors = found.setdefault((row.text("Method", 60), row.text("Name", 500)), {})
        error, n = error_line(row.text("Error", 4_000)), row.count("Occurrences")
        errors[error] = errors.get(error, 0) + n
        told += n
    if told != failed:
        out.notes.append(f"{sheet.name} tells of {told} failures, the statistics count {failed}.")
    return found


def _users(history: Sheet | None, out: Imported) -> _Users:
    """How many users there were, and whether their number stood still."""
    if history is None:
        out.missing.append("How many users there were is in _stats_history.csv, which is not among the files.")
        return _Users("users unknown", None, None)
    rows = [r for r in history.rows if r.text("Name") == _ALL]
    counts = [r.count("User Count", 10**7) for r in rows]
    stamps = [r.number("Timestamp", low=0, high=1e11) for r in rows]
    if stamps != sorted(stamps):
        raise QuantcaseError(f"{history.name}: its timestamps do not rise", fix="import one test at a time")
    active = [c for c in counts if c]
    if not active:
        out.missing.append(f"{history.name} shows no user: how many there were cannot be told.")
        return _Users("users unknown", None, stamps[0] if stamps else None)
    most = max(active)
    seconds = stamps[-1] - stamps[0]
    out.facts |= {"users_most": str(most), "seconds": f"{seconds:g}"}
    out.notes.append("Of the history only users and time are kept: its times are of a sliding window, or so far.")
    if active.count(most) >= _HELD * len(active):
        return _Users(f"{most} users", most, stamps[0])
    out.notes.append(
        f"Users went from {min(active)} to {most}: figures that are not of one step mix all these loads, and "
        f"{most} users were there in {active.count(most)} of {len(active)} seconds."
    )
    return _Users(f"{min(active)} to {most} users", most, stamps[0])


def _little(total: Row, users: _Users, out: Imported) -> None:
    """Requests per second x mean time is what was in flight: more than the users means another unit, or several each.

    Raises:
        QuantcaseError: it is so much more that the times are not milliseconds.
    """
    if users.most is None or not total.count("Request Count"):
        return
    mean = total.number("Average Response Time", low=0, high=MOST_MS)
    in_flight = total.number("Requests/s", low=0, high=1e9) * mean / 1000
    if in_flight > _UNIT * users.most:
        raise total.fault(
            f"{mean:g} ms at {total.text('Requests/s', 20)} requests/s are {in_flight:.3g} in flight, of {users.most} "
            "users",
            "Average Response Time",
            "are its times in milliseconds?",
        )
    if in_flight > _AT_ONCE * users.most:
        out.notes.append(f"On average {in_flight:.1f} requests were in flight: users had several each.")


IMPORTER = Locust()
