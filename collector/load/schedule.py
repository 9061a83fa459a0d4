"""When requests are due: evenly, at random, at a rising rate, or as in a recorded trace; and the rates of a search.

Pure functions. Times are seconds from the start of a repeat.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from collector.bundle.schema import CellRow
from collector.errors import UsageFault
from collector.study import Load, Workload

__all__ = ["Probe", "arrivals", "kept_up", "next_load", "probes", "read_trace", "settled", "within_slo"]

_MAX_TRACE_BYTES = 64 << 20
_MOST_PROBES = 12
_SLO_STEP = 1.1  # an SLO search ends when the highest rate that holds and the lowest that fails are this close


def arrivals(workload: Workload, load: Load, key: str) -> list[float]:
    """The times at which the requests of one repeat are due, rising.

    Constant: one every 1/rate seconds. Poisson: gaps drawn from the exponential distribution by `key`, so that every
    variant meets the same arrivals. Ramp: the rate rises in a straight line over the duration; the n-th request is due
    when the integral of the rate reaches n. Trace: as the file says.
    """
    if workload.schedule == "trace":
        return read_trace(workload.trace_file)
    if load.rate is None:
        raise ValueError(f"{load.name} has no rate")
    if workload.schedule == "constant":
        return [i / load.rate for i in range(workload.requests(load))]
    if workload.schedule == "ramp":
        return _ramp(workload.rates[0], workload.rates[1], workload.duration_s)
    rng = random.Random(key)  # noqa: S311 - repeatable arrivals, no secret
    due, at = [0.0], 0.0
    while (at := at + rng.expovariate(load.rate)) < workload.duration_s:
        due.append(at)
    return due


def _ramp(low: float, high: float, duration_s: float) -> list[float]:
    """Solve low t + (high - low) t^2 / (2 duration) = n for n = 0, 1, 2, ..."""
    half = (high - low) / (2 * duration_s)
    total = math.floor((low + high) / 2 * duration_s + 1e-9)
    return [2 * n / (low + math.sqrt(low * low + 4 * half * n)) for n in range(total)]


def read_trace(path: str) -> list[float]:
    """Arrival times in seconds of a text file, one a line; the first becomes 0.

    Raises:
        UsageFault: no such file, too large, not numbers, or not rising.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_TRACE_BYTES:
            raise UsageFault(f"{file.name} is larger than {_MAX_TRACE_BYTES >> 20} MiB", fix="cut the trace")
        lines = file.read_text("utf-8").splitlines()
    except OSError as e:
        raise UsageFault(f"trace_file {path}: {e.strerror}", fix="give a path from the folder you run in") from None
    except UnicodeDecodeError:
        raise UsageFault(
            f"trace_file {file.name} is not UTF-8 text", fix="one arrival time in seconds a line"
        ) from None
    due: list[float] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            at = float(line)
        except ValueError:
            raise UsageFault(
                f"{file.name} line {number}: no number of seconds", fix="one arrival time a line"
            ) from None
        if not math.isfinite(at) or (due and at < due[-1]):
            raise UsageFault(f"{file.name} line {number}: earlier than the line before", fix="sort the file") from None
        due.append(at)
    if len(due) < 2:
        raise UsageFault(f"{file.name} holds fewer than two arrivals", fix="one arrival time in seconds a line")
    return [at - due[0] for at in due]


class Probe(Struct, frozen=True):
    """What one rate of a search gave."""

    rate: float
    kept_up: bool  # the server ended what arrived
    within_slo: bool  # the 95th percentiles were within the limits


def next_load(workload: Workload, done: Sequence[Probe]) -> Load | None:
    """The next rate of a search; None when it is over. The same probes give the same rate, so that a search resumes.

    Saturation doubles the rate until the server no longer keeps up: a ladder that all variants share. The search for
    an SLO doubles (or halves) until one rate holds and a higher one fails, then divides the span between the two,
    geometrically, until they are 10 % apart.
    """
    if not done:
        return Load.open(workload.rates[0])
    if len(done) >= _MOST_PROBES:
        return None
    if workload.search == "saturation":
        top = max(done, key=lambda p: p.rate)
        return Load.open(top.rate * 2) if top.kept_up else None
    holds = max((p.rate for p in done if p.within_slo and p.kept_up), default=None)
    fails = min((p.rate for p in done if not (p.within_slo and p.kept_up)), default=None)
    if fails is None:
        return Load.open((holds or workload.rates[0]) * 2)
    if holds is None:
        return Load.open(fails / 2)
    if fails / holds <= _SLO_STEP or fails < holds:
        return None
    return Load.open(math.sqrt(holds * fails))


def settled(workload: Workload, done: Sequence[Probe]) -> list[Load]:
    """The rates of a finished search that get all repeats: of saturation every one, of an SLO the two that bound it."""
    if workload.search == "saturation":
        return [Load.open(p.rate) for p in sorted(done, key=lambda p: p.rate)]
    holds = [p.rate for p in done if p.within_slo and p.kept_up]
    fails = [p.rate for p in done if not (p.within_slo and p.kept_up)]
    return [Load.open(r) for r in ([max(holds)] if holds else []) + ([min(fails)] if fails else [])]


def kept_up(cell: CellRow) -> bool:
    """Whether the server worked off what arrived.

    It did not when it ended less than three quarters of the requests that arrived per second, or less than 95 % while
    latency had a trend: a queue that grows. The last answers come after the last arrival: a little
    is always missing.
    """
    offered, done = cell.offered_req_s, cell.whole_run_req_s
    if offered is None or done is None:
        return cell.ok > 0
    return done >= 0.75 * offered and not (cell.steady == "no" and done < 0.95 * offered)


def within_slo(cell: CellRow, workload: Workload) -> bool:
    """Whether the 95th percentiles, counted from due, are within the workload's limits and nothing failed."""
    pairs = (
        (cell.ttft_due_ms_p95, workload.ttft_limit_ms),
        (cell.tpot_ms_p95, workload.tpot_limit_ms),
        (cell.e2e_due_ms_p95, workload.e2e_limit_ms),
    )
    return cell.ok == cell.n and all(limit is None or (v is not None and v <= limit) for v, limit in pairs)


def probes(cells: Sequence[CellRow], workload: Workload) -> list[Probe]:
    """What the cells of one variant say about the rates of a workload's search: the first repeat of each decides."""
    found: dict[float, Probe] = {}
    for cell in cells:
        load = Load.of(cell.load)
        if cell.workload == workload.name and load is not None and load.rate is not None:
            found.setdefault(load.rate, Probe(load.rate, kept_up(cell), within_slo(cell, workload)))
    return list(found.values())
