"""Any CSV with one row a measured point, and a map (`--columns FILE.toml`) that says what its columns mean.

Nothing is guessed from the name of a column: a figure is read where the map names its column, unit and definition, and
is kept under the map's own name with `csv.` before it. None is compared with a metric of ours, because a definition
in words proves nothing of how a script counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collector.errors import QuantcaseError, UsageFault
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.column_map import UNITS, ColumnMap, Columns, load
from collector.importers.delimited import Row, Sheet, read_sheet, slug
from collector.importers.parts import error_line
from collector.importers.reading import short
from collector.study import Load

__all__ = ["IMPORTER", "PlainCsv"]

_APART = 100.0  # between a speed and what the times allow; more is another unit


class PlainCsv:
    """Reads CSV files by a map of their columns."""

    name = "csv"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """One point a row; see `Importer.read`. `hints.columns` names the map."""
        chosen = load(hints.columns)
        fixed = chosen.constants
        out = Imported(
            tool=self.name, tool_version=None, files=[], points=[], model=fixed.model, method=fixed.method,
            bits=fixed.bits, engine=fixed.engine, engine_version=fixed.engine_version or None,
        )  # fmt: skip
        unread: dict[str, None] = {}
        for path in paths:
            says = chosen.of_name(path.name)
            sheet, file = read_sheet(path, chosen.delimiter)
            out.files.append(file)
            places = _places(chosen, sheet)
            if not sheet.rows:
                raise QuantcaseError(f"{sheet.name} holds no row", fix="is the file whole?")
            for row in sheet.rows:
                out.points.append(_point(row, chosen, places, says, hints.load))
            unread |= dict.fromkeys(c for c in sheet.columns if c not in places.values())
            out.facts |= {f"file_name.{k}": v for k, v in says.items() if k not in ("workload", "variant")}
        if unread:
            out.notes.append(f"Columns that the map does not name were left out: {short(', '.join(unread), 300)}.")
        out.notes.append(
            f"Definitions come from the map{f' ({chosen.title})' if chosen.title else ''}, not from the files."
        )
        out.missing.append("Single requests are not in a CSV of points: nothing is computed by our own definitions.")
        for what in ("requests", "failed"):
            if what not in places:
                out.missing.append(f"How many requests {'failed' if what == 'failed' else 'there were'} is not stated.")
        return out


def _places(chosen: ColumnMap, sheet: Sheet) -> dict[str, str]:
    """What the map asks for -> the column that holds it: `concurrency`, or `metrics[0]`.

    Raises:
        QuantcaseError: no metric has a column, or one that is required has none.
    """
    found: dict[str, str] = {}
    for what in Columns.__struct_fields__:
        names = getattr(chosen.columns, what)
        if column := _first(names, sheet):
            found[what] = column
        elif isinstance(names, str) and names:  # a list says that it may have other names, or be missing
            sheet.need(names)
    for i, metric in enumerate(chosen.metrics):
        if column := _first(metric.column, sheet):
            found[f"metrics[{i}]"] = column
        elif metric.required:
            sheet.need(metric.column if isinstance(metric.column, str) else metric.column[0])
    if not any(what.startswith("metrics[") for what in found):
        first = chosen.metrics[0].column
        sheet.need(first if isinstance(first, str) else first[0])
    return found


def _first(names: str | list[str], sheet: Sheet) -> str:
    return next((n for n in ([names] if isinstance(names, str) else names) if n in sheet.columns), "")


def _point(row: Row, chosen: ColumnMap, places: dict[str, str], says: dict[str, str], said: str) -> Point:
    def word(what: str) -> str:
        return row.text(places[what], 200) if what in places else ""

    fixed = chosen.constants
    workload = word("workload") or says.get("workload", "") or fixed.workload
    label = word("variant") or says.get("variant", "") or fixed.variant
    point = Point(
        load=_load(row, chosen, places, said),
        label=slug(label, most=30) if label else "",
        workload=slug(workload) if workload else "",
        input_tokens=row.optional(places["input_tokens"], low=0, high=1e9) if "input_tokens" in places else None,
        output_tokens=row.optional(places["output_tokens"], low=0, high=1e9) if "output_tokens" in places else None,
    )
    _counts(point, row, places)
    n = point.requests if point.failed == 0 else None  # whether figures hold the failed ones no CSV says
    for i, m in enumerate(chosen.metrics):
        column = places.get(f"metrics[{i}]", "")
        value = row.optional(column, low=0 if m.unit != "score" else -1e6, high=UNITS[m.unit]) if column else None
        if value is not None:
            metric = Metric(name=f"csv.{m.name}", unit=m.unit, definition=f"{m.definition} (column {short(column)})")
            point.figures.append(Figure(metric=metric, statistic=m.statistic, value=value, n=n))
        elif m.required:
            raise row.fault("has no value, and the map requires one", column)
    if not point.figures:
        raise row.fault("has no figure in any column of the map", fix="fill the row, or remove it")
    _units(point, row, chosen)
    return point


def _load(row: Row, chosen: ColumnMap, places: dict[str, str], said: str) -> str:
    """The load point by a column, by the map, or as the person said (`c16`, `r2.5`)."""
    fixed = chosen.constants
    if "concurrency" in places and row.has(places["concurrency"]):
        if not (level := row.count(places["concurrency"], 10**6)):
            raise row.fault("is 0, no load", places["concurrency"], "name the requests in flight")
        return Load.closed(level).name
    if "rate" in places and row.has(places["rate"]):
        return Load.open(row.number(places["rate"], low=1e-6, high=1e6)).name
    if "load" in places and row.has(places["load"]):
        return short(row.text(places["load"]), 60)
    if fixed.concurrency is not None:
        return Load.closed(fixed.concurrency).name
    if fixed.rate is not None:
        return Load.open(fixed.rate).name
    if said and (load := Load.of(said)) is not None:
        return load.name
    raise row.fault("says no load", fix="map `concurrency`, `rate` or `load` to a column, or say --load c16")


def _counts(point: Point, row: Row, places: dict[str, str]) -> None:
    """Requests, those that ended well and those that failed: two of them give the third."""
    known = {w: row.count(places[w]) for w in ("requests", "ok", "failed") if w in places and row.has(places[w])}
    total, ok, failed = known.get("requests"), known.get("ok"), known.get("failed")
    if total is None and ok is not None and failed is not None:
        total = ok + failed
    if ok is None and total is not None and failed is not None:
        ok = total - failed
    if failed is None and total is not None and ok is not None:
        failed = total - ok
    if total is not None and ok is not None and failed is not None and (ok + failed != total or min(ok, failed) < 0):
        raise row.fault(f"{ok} ok and {failed} failed of {total} requests do not add up", fix="are the columns right?")
    point.requests, point.ok, point.failed = total, ok, failed
    if "error" in places and row.has(places["error"]):
        point.messages = {error_line(row.text(places["error"], 4_000)): failed or 1}


def _units(point: Point, row: Row, chosen: ColumnMap) -> None:
    """A closed loop of c requests of n tokens in t seconds gives about c n / t tok/s: far off is another unit.

    Raises:
        QuantcaseError: it is off by more than a hundred times.
    """
    load = Load.of(point.load)
    if load is None or load.concurrency is None or not point.output_tokens:
        return
    quantities = {(f"csv.{m.name}", m.statistic): m for m in chosen.metrics}
    by = {(q.quantity, f.statistic): f for f in point.figures if (q := quantities[f.metric.name, f.statistic]).quantity}
    speeds = [f for (quantity, _), f in by.items() if quantity == "throughput" and f.metric.unit == "tok/s"]
    times = [f for (quantity, _), f in by.items() if quantity == "e2e" and f.value > 0]
    scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
    for speed in speeds:
        for time in times:
            if time.metric.unit not in scale:
                raise UsageFault(f"{time.metric.name} is a time in {time.metric.unit}", fix='unit = "ms"')
            most = load.concurrency * point.output_tokens / (time.value * scale[time.metric.unit])
            if speed.value > _APART * most or (speed.value > 0 and speed.value < most / _APART):
                raise row.fault(
                    f"{speed.value:g} tok/s, but {load.concurrency} requests of {point.output_tokens:g} tokens in "
                    f"{time.value:g} {time.metric.unit} give about {most:.3g}",
                    fix="is one of the units wrong?",
                )


IMPORTER = PlainCsv()
