"""What a load point takes out of the wall: mean power of the server's GPUs, and output tokens per joule.

Energy is the difference of the driver's own energy counter over the steady window, read between samples on a straight
line, and summed over every GPU of the server. Where a card has no such counter, the board power is integrated instead
(trapezoids); the driver's power is an average of its own and of some cards samples only a part of the time
(arXiv 2312.02741), so the counter comes first and the page says which it was. Host, fans and network are not in it.
Tokens are those of the same window: throughput x its length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcase.analysis.gpu_count import gpu_count
from quantcase.analysis.hierarchy import Estimate, Runs, estimates
from quantcase.catalog import Case

__all__ = ["PER_JOULE", "POWER", "Energy", "energy", "joules"]

POWER = "power_w"
PER_JOULE = "tokens_per_joule"
_GAP_S = 1.0  # samples further apart than this say nothing of what was between them

Array = NDArray[np.float64]
Cell = tuple[str, str, str]  # variant, workload, load


@dataclass(frozen=True)
class Energy:
    """Of one cell: W and output tokens per joule, the source (`counter` or `power`), the shortest window in s."""

    power: Estimate
    per_joule: Estimate
    source: str
    shortest_s: float


def energy(case: Case) -> dict[Cell, Energy]:
    """Every cell whose repeats are all covered by telemetry of the GPUs that served it.

    There is none where the GPUs of the server are not told among those of the box, nor on a slice of a card (MIG),
    whose power is the whole card's.
    """
    if any(g.get("mig") for s in case.bundle.environment().sessions for g in s.gpus) or case.telemetry.empty:
        return {}
    cards = _samples(case)
    served = {(r.variant, r.start): _indices(case, r.variant, r.start, cards) for r in case.variants}
    columns = ("variant", "workload", "load", "start", "window_start_s", "window_end_s", "throughput_tok_s")
    runs: dict[Cell, list[tuple[int, float, float, str, float]]] = {}
    whole: dict[Cell, bool] = {}
    for variant, workload, load, start, begin, end, speed in zip(*(case.cells[c] for c in columns), strict=True):
        of = (str(variant), str(workload), str(load))
        got = None
        if end > begin and speed > 0:
            found = [joules(*cards[i], float(begin), float(end)) for i in served.get((variant, start), ())]
            known = [j for j in found if j is not None]
            if known and len(known) == len(found):
                total, length = math.fsum(j for j, _ in known), float(end - begin)
                source = "counter" if all(s == "counter" for _, s in known) else "power"
                if total > 0:
                    got = (int(start), total / length, speed * length / total, source, length)
        whole[of] = whole.get(of, True) and got is not None
        if got is not None:
            runs.setdefault(of, []).append(got)
    return _estimated({of: found for of, found in runs.items() if whole[of]})


def joules(at: Array, counter: Array, power: Array, begin: float, end: float) -> tuple[float, str] | None:
    """(energy in J, `counter` or `power`) of one card from `begin` to `end`; None where no samples cover that.

    Args:
        at: times of the samples in s, rising. counter: J since the driver was loaded. power: W. nan: not told.
    """
    known = ~np.isnan(counter)
    if _covered(at[known], begin, end):
        times, values = at[known], counter[known]
        inside = values[(times >= begin - _GAP_S) & (times <= end + _GAP_S)]
        if np.all(np.diff(inside) >= 0):  # a driver that was loaded again begins at zero
            first, last = np.interp([begin, end], times, values)
            return float(last - first), "counter"
    known = ~np.isnan(power)
    if not _covered(at[known], begin, end):
        return None
    times, values = at[known], power[known]
    inside = times[(times > begin) & (times < end)]
    grid = np.concatenate([[begin], inside, [end]])
    return float(np.trapezoid(np.interp(grid, times, values), grid)), "power"


def _covered(times: Array, begin: float, end: float) -> bool:
    """Whether samples stand on both sides of the window, and none is missing for long."""
    if len(times) < 2 or times[0] > begin or times[-1] < end:
        return False
    first = int(np.searchsorted(times, begin, side="right")) - 1
    last = int(np.searchsorted(times, end, side="left"))
    return bool(np.all(np.diff(times[first : last + 1]) <= _GAP_S))


def _samples(case: Case) -> dict[int, tuple[Array, Array, Array]]:
    """GPU index -> times, energy counter, power."""
    found = {}
    for index, rows in case.telemetry.sort_values("t_s", kind="stable").groupby("gpu"):
        found[int(str(index))] = (
            rows["t_s"].to_numpy(float), rows["energy_j"].to_numpy(float), rows["power_w"].to_numpy(float),
        )  # fmt: skip
    return found


def _indices(case: Case, variant: str, start: int, cards: Mapping[int, object]) -> list[int]:
    """The GPUs that a server start ran on; none where that is not known."""
    row = next(r for r in case.starts(variant) if r.start == start)
    if row.gpu_indices:
        wanted = [int(i) for i in row.gpu_indices.split("|") if i.strip().isdecimal()]
        return wanted if wanted and all(i in cards for i in wanted) else []
    return sorted(cards) if len(cards) == gpu_count([row]) else []


def _estimated(runs: Mapping[Cell, list[tuple[int, float, float, str, float]]]) -> dict[Cell, Energy]:
    """With intervals by levels, as every other figure: starts pooled over the variants of a load point."""
    points: dict[tuple[str, str], dict[str, list[tuple[int, float, float, str, float]]]] = {}
    for (variant, workload, load), found in runs.items():
        points.setdefault((workload, load), {})[variant] = found
    made: dict[Cell, Energy] = {}
    for (workload, load), arms in points.items():
        both = [
            estimates({v: _runs([(r[0], float(r[at])) for r in found]) for v, found in arms.items()}) for at in (1, 2)
        ]
        for variant, found in arms.items():
            source = "counter" if all(r[3] == "counter" for r in found) else "power"
            shortest = min(r[4] for r in found)
            made[variant, workload, load] = Energy(both[0][variant], both[1][variant], source, shortest)
    return made


def _runs(values: list[tuple[int, float]]) -> Runs:
    """The mean of the repeats, and each by its server start."""
    by_start: dict[int, list[float]] = {}
    for start, value in values:
        by_start.setdefault(start, []).append(value)
    return Runs(math.fsum(v for _, v in values) / len(values), by_start)
