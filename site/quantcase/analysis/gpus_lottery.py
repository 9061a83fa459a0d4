"""Two boxes of one GPU type against each other: cell by cell, and over all cells together (the "silicon lottery").

Each cell (variant, workload, load) of a box is held against the same cell of the box that has measured most, as any two
independent runs (`between`): ratio, 95 % interval, region of equivalence, Holm over all cells and figures that are read
at once.

**Together** is the mean of log ratios over cells: first within a variant, then over variants, so that each variant
counts alike. One cell seldom shows what all of them show. The larger of two variances counts, as everywhere:

- over variants: the variance of the variants' means / V, with V - 1 degrees of freedom; their server starts are
  independent of each other;
- within: what the cells' own estimates give. The spread of server starts is taken as common to all cells of a variant
  (their standard deviations are averaged, and their degrees of freedom count once), any other spread as independent;
  degrees of freedom after Satterthwaite.

Boxes are **alike** where the interval holds 1 or lies inside the region, before any correction: a correction would call
more boxes alike, and the doubt is on the side of apart. A box is card, host and day in one: which of these makes a
difference, two boxes do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from quantcase.analysis.between import Line, Side, compared, region
from quantcase.analysis.compare import judge
from quantcase.analysis.gpus_study import Box, GpuType, Group
from quantcase.analysis.hierarchy import LEVEL, Estimate
from quantcase.analysis.paired import holm
from quantcase.analysis.points import THROUGHPUT

__all__ = ["JUDGED", "Lot", "Together", "alike", "lottery", "together"]

JUDGED = (THROUGHPUT, "tpot_ms_p50", "ttft_ms_p95")  # what decides whether boxes are alike, and is shown of them
_ALPHA = 0.05


@dataclass(frozen=True)
class Lot:
    """One figure of one cell: box `b` against box `a` of the same type; `sides` are the cases and names behind it."""

    gpu: str
    a: str
    b: str
    sides: tuple[Side, Side]
    variant: str
    line: Line


@dataclass(frozen=True)
class Together:
    """One figure of box `b` against box `a`, over all cells; `less` of `cells` have a ratio below 1."""

    gpu: str
    a: str
    b: str
    metric: str
    ratio: float
    low: float
    high: float
    region: float
    variants: int
    cells: int
    less: int

    @property
    def alike(self) -> bool:
        """Whether the boxes cannot be told apart by this figure."""
        return alike(self.low, self.high, self.region)


def alike(low: float, high: float, width: float) -> bool:
    """Whether the interval of a ratio holds 1, or lies inside the region of equivalence; never without an interval."""
    return low <= 1 <= high or (low >= 1 / (1 + width) and high <= 1 + width)


def lottery(group: Group) -> list[Lot]:
    """Every box of a type against the one that has measured most, over the cells that both have."""
    found: list[Lot] = []
    for gpu in group.gpus:
        boxes = [b for b in gpu.boxes if b.known]
        if len(boxes) > 1:
            first = max(boxes, key=lambda b: (_cells(group, b), b.name))
            for other in boxes:
                if other.name != first.name:
                    found += _lots(group, gpu, first, other)
    return _corrected(found)


def _cells(group: Group, box: Box) -> int:
    at = ((d, w) for d in group.variants for w in group.workloads)
    return sum(len(s.variant.cells[w]) for d, w in at if (s := group.side(box, d, w)) is not None)


def _lots(group: Group, gpu: GpuType, a: Box, b: Box) -> Iterator[Lot]:
    for definition, variant in group.variants.items():
        for workload in group.workloads:
            ours, theirs = group.side(a, definition, workload), group.side(b, definition, workload)
            if ours is None or theirs is None:
                continue
            for line in compared(ours, theirs):
                if line.workload == workload and line.metric in JUDGED and line.a and line.b:
                    yield Lot(gpu.name, a.name, b.name, (ours, theirs), variant, line)


def _corrected(found: Sequence[Lot]) -> list[Lot]:
    """Holm over all that is read at once: every cell and figure of every pair of boxes of the study."""
    adjusted = holm({f"{i}": x.line.p for i, x in enumerate(found) if not math.isnan(x.line.p)})
    after = []
    for i, lot in enumerate(found):
        x = lot.line
        kind = judge(x.metric, x.ratio, x.low, x.high, x.region) if not x.refused else x.kind
        p = adjusted.get(f"{i}", x.p)
        unsure = kind in ("faster", "slower") and not p < _ALPHA
        after.append(replace(lot, line=replace(x, adjusted_p=p, kind="inconclusive" if unsure else kind)))
    return after


def together(found: Sequence[Lot]) -> list[Together]:
    """Every figure of every pair of boxes over all their cells; those with an interval on both sides count."""
    pairs: dict[tuple[str, str, str, str], list[Lot]] = {}
    for lot in found:
        if not math.isnan(lot.line.low):
            pairs.setdefault((lot.gpu, lot.a, lot.b, lot.line.metric), []).append(lot)
    return [_together(*key, lots) for key, lots in pairs.items()]


def _together(gpu: str, a: str, b: str, metric: str, lots: Sequence[Lot]) -> Together:
    by_variant: dict[str, list[Lot]] = {}
    for lot in lots:
        by_variant.setdefault(lot.variant, []).append(lot)
    logs = [[math.log(x.line.ratio) for x in mine] for mine in by_variant.values()]
    means, count = [math.fsum(x) / len(x) for x in logs], len(by_variant)
    at = math.fsum(means) / count
    parts = [part for mine in by_variant.values() for part in _parts(mine, count)]
    variance = math.fsum(v for v, _ in parts)
    scale = math.fsum(v**2 / f for v, f in parts)
    freedom = variance**2 / scale if scale else math.inf
    if count > 1 and (across := float(np.var(means, ddof=1)) / count) > variance:
        variance, freedom = across, count - 1
    half = float(special.stdtrit(min(freedom, 1e6), (1 + LEVEL) / 2)) * math.sqrt(variance)
    ratio, low, high = math.exp(at), math.exp(at - half), math.exp(at + half)
    width = max([region(metric), *(x.line.region for x in lots)])
    flat = [x for mine in logs for x in mine]
    return Together(gpu, a, b, metric, ratio, low, high, width, count, len(flat), sum(x < 0 for x in flat))


def _parts(lots: Sequence[Lot], variants: int) -> Iterator[tuple[float, float]]:
    """(share of the variance of the mean over variants, degrees of freedom) of each estimate of one variant's cells."""
    for side in (0, 1):
        found: list[Estimate] = []
        for lot in lots:
            cell = lot.sides[side].variant.cells[lot.line.workload][lot.line.load]
            found.append(cell.figures[lot.line.metric].estimate)
        starts = [e for e in found if e.level == "starts"]
        if starts:  # one spread, seen in several cells: no more is known of it than one cell knows
            common = math.fsum(math.sqrt(e.variance) for e in starts) / len(found)
            yield common**2 / variants**2, min(e.freedom for e in starts)
        for e in found:
            if e.level != "starts":
                yield e.variance / len(found) ** 2 / variants**2, e.freedom
