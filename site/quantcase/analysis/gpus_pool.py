"""Figures of a GPU type: of all its boxes together where they cannot be told apart, else of each box for itself.

Boxes are **pooled** in a cell where they are alike (`gpus_lottery`) over all cells together and in that cell, in each
of the figures that are judged; one repeat says nothing of that, so it keeps boxes apart.

A pooled figure is the geometric mean over boxes. Its variance is the larger of two, as everywhere (`hierarchy`): that
of the boxes' own estimates, sum(v) / k^2 with degrees of freedom after Welch and Satterthwaite, or that of the boxes'
spread, s^2 / k with k - 1. So its interval is that of the type's mean over boxes, not of these boxes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from quantcase.analysis.between import Side, between, region
from quantcase.analysis.compare import ROPE
from quantcase.analysis.gpus_energy import PER_JOULE, POWER
from quantcase.analysis.gpus_lottery import JUDGED, Together, alike
from quantcase.analysis.gpus_study import MIXED, UNKNOWN, Box, Group, facts_of
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.points import LEAST, THROUGHPUT

__all__ = ["Spot", "pool", "spots"]

_SHOWN = (
    THROUGHPUT, "tpot_ms_p50", "tpot_ms_p95", "ttft_ms_p50", "ttft_ms_p95", "e2e_ms_p95", "ttft_due_ms_p95",
    "e2e_due_ms_p95",
)  # fmt: skip


@dataclass(frozen=True)
class Spot:
    """One variant at one load point of one GPU type: of all its boxes together (`pooled`), or of one.

    `counts`: figure -> requests for percentiles, repeats for the others. `kept_apart`: why boxes were not pooled.
    """

    gpu: str
    definition: str
    variant: str
    workload: str
    load: str
    gpus: int
    boxes: tuple[str, ...]
    cases: tuple[str, ...]
    figures: Mapping[str, Estimate]
    counts: Mapping[str, int]
    source: str = ""  # of power and energy: counter or power
    shortest_s: float = math.nan  # of the windows behind them
    limited: bool = False  # the client was the limit
    left_out: str = ""  # why no rule may choose it
    kept_apart: str = ""
    sound: bool = True
    regions: Mapping[str, float] = field(default_factory=dict)

    @property
    def pooled(self) -> bool:
        """Whether it stands for several boxes."""
        return len(self.boxes) > 1

    def width(self, metric: str) -> float:
        """The region of equivalence of a metric, widened by the cases' own controls."""
        return max(region(metric), self.regions.get(metric, 0.0))


def spots(group: Group, judged: Sequence[Together]) -> list[Spot]:
    """Every variant at every load point of every GPU type, pooled over boxes where these are alike.

    `judged` are the types' boxes over all cells together (`gpus_lottery.together`).
    """
    found = []
    for gpu in group.gpus:
        other = next((t for t in judged if t.gpu == gpu.name and not t.alike), None)
        whole = f"{other.metric}: {_times(other.ratio, other.low, other.high)} over all cells" if other else ""
        for definition, variant in group.variants.items():
            for workload in group.workloads:
                sides = [(b.name, _loads(group, b, definition, workload)) for b in gpu.boxes]
                for load in dict.fromkeys(load for _, loads in sides for load in loads):
                    mine = [
                        _spot((gpu.name, definition, variant, workload, load), name, loads[load])
                        for name, loads in sides
                        if load in loads
                    ]
                    found += _joined(mine, whole)
    return found


def _times(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.3f} times ({low:.3f} to {high:.3f})"


def _loads(group: Group, box: Box, definition: str, workload: str) -> dict[str, Side]:
    """Load -> the side that has it, lightest first as it was published."""
    loads = dict.fromkeys(load for c in box.cases for v in c.variants.values() for load in v.cells.get(workload, {}))
    found = {load: group.side(box, definition, workload, load) for load in loads}
    return {load: side for load, side in found.items() if side is not None}


def _spot(of: tuple[str, str, str, str, str], box: str, side: Side) -> Spot:
    *_, workload, load = of
    cell = side.variant.cells[workload][load]
    facts = facts_of(side.case, side.name)
    figures, counts = {}, {}
    for metric in _SHOWN:
        known, least = cell.figures.get(metric), _least(metric)
        if known is not None and cell.n >= least:
            figures[metric], counts[metric] = known.estimate, cell.n if least else cell.runs
    spent = next((e for e in facts.energy if (e.workload, e.load) == (workload, load)), None)
    for metric in (POWER, PER_JOULE):
        if spent is not None:
            figures[metric], counts[metric] = spent.figures[metric], cell.runs
    return Spot(
        *of, side.variant.gpus, (box,), (side.case.case,), figures, counts, spent.source if spent else "",
        spent.shortest_s if spent else math.nan, cell.limited, facts.left_out, sound=side.case.sound,
        regions=side.case.regions,
    )  # fmt: skip


def _least(metric: str) -> int:
    return 0 if metric == THROUGHPUT else LEAST[float(metric.rpartition("_p")[2])]


def _joined(found: Sequence[Spot], whole: str) -> list[Spot]:
    """One spot where all boxes are alike, else each for itself with the reason."""
    if len(found) < 2:
        return list(found)
    why = whole or next((w for a, b in combinations(found, 2) if (w := _unlike(a, b))), "")
    if why:
        return [replace(s, kept_apart=why) for s in found]
    first, shared = found[0], [m for m in found[0].figures if all(m in s.figures for s in found)]
    return [
        replace(
            first,
            boxes=tuple(s.boxes[0] for s in found),
            cases=tuple(dict.fromkeys(c for s in found for c in s.cases)),
            figures={m: pool([s.figures[m] for s in found]) for m in shared},
            counts={m: sum(s.counts[m] for s in found) for m in shared},
            source="power" if any(s.source == "power" for s in found) else first.source,
            shortest_s=min(s.shortest_s for s in found),
            limited=any(s.limited for s in found),
            left_out=next((s.left_out for s in found if s.left_out), ""),
            sound=all(s.sound for s in found),
            regions={m: max(s.regions.get(m, 0.0) for s in found) for m in ROPE},
        )
    ]


def _unlike(a: Spot, b: Spot) -> str:
    """Why two boxes may not be pooled; empty where they may."""
    if any(name == UNKNOWN or MIXED in name for name in (*a.boxes, *b.boxes)):
        return "one card is not recorded, or a run changed cards"
    for metric in JUDGED:
        if metric in a.figures and metric in b.figures:
            ratio, low, high, _ = between(b.figures[metric], a.figures[metric], same_case=False)
            if math.isnan(low):
                return f"{metric}: one repeat on a side, so nothing says that they are alike"
            if not alike(low, high, max(a.width(metric), b.width(metric))):
                return f"{metric}: {_times(ratio, low, high)} in this cell"
    return ""


def pool(found: Sequence[Estimate]) -> Estimate:
    """The geometric mean over boxes, with the larger of the variances that the boxes and their spread give."""
    if len(found) == 1:
        return found[0]
    if any(e.value <= 0 for e in found):
        return Estimate(math.nan, math.nan, math.nan, "none")
    logs, k = [math.log(e.value) for e in found], len(found)
    value = math.exp(math.fsum(logs) / k)
    if not all(e.known for e in found):
        return Estimate(value, math.nan, math.nan, "none")
    within = math.fsum(e.variance for e in found) / k**2
    across = float(np.var(logs, ddof=1)) / k
    if across > within:
        return Estimate(value, across, k - 1, "boxes")
    # Welch and Satterthwaite, as for a ratio: (sum v)^2 / sum(v^2 / f)
    parts = math.fsum(e.variance**2 / e.freedom for e in found)
    total = math.fsum(e.variance for e in found)
    return Estimate(value, within, total**2 / parts if parts else float(k - 1), "within")
