"""Cells that were measured beside other servers on the same box, and whether they may be set against cells alone."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from collector.bundle.co_location import CoLocation, read_co_location
from collector.bundle.read import QuantcaseError
from quantcase.catalog import Case

__all__ = ["PassedOver", "Together", "Trial", "passed_over", "together", "trials"]

Place = tuple[str, str, str]  # variant, workload, load


@dataclass(frozen=True)
class Together:
    """Which load points were measured beside other servers: in all repeats (`beside`), or in some of them (`both`)."""

    beside: frozenset[Place]
    both: frozenset[Place]
    cells: int  # cell repeats beside others
    of: int  # cell repeats in all
    calibration: CoLocation | None
    problem: str = ""  # why the calibration cannot be read

    @property
    def allowed(self) -> bool:
        """Whether the calibration lets cells beside others be compared with cells alone."""
        return self.calibration is not None and self.calibration.allowed

    def comparable(self, ours: Place, theirs: Place) -> bool:
        """Whether two load points may be compared: both alone, both beside others, or allowed by the calibration."""
        if self.allowed:
            return True
        return not {ours, theirs} & self.both and (ours in self.beside) == (theirs in self.beside)


def together(case: Case) -> Together:
    """What `cells.csv` and `co_location.json` say. Bundles of before the column `co_located` were measured alone."""
    found: dict[Place, set[bool]] = {}
    count = 0
    for row in case.cell_rows:
        beside = (row.co_located or 0) > 0
        found.setdefault((row.variant, row.workload, row.load), set()).add(beside)
        count += beside
    calibration, problem = None, ""
    if count:
        try:
            calibration = read_co_location(case.bundle.folder)
        except QuantcaseError as e:
            problem = str(e)
    return Together(
        frozenset(place for place, seen in found.items() if seen == {True}),
        frozenset(place for place, seen in found.items() if len(seen) > 1),
        count, len(case.cell_rows), calibration, problem,
    )  # fmt: skip


@dataclass(frozen=True)
class PassedOver:
    """What a verdict leaves out: heavier loads of a workload, measured on both sides, which may not be compared."""

    workload: str
    variants: tuple[str, ...]  # those that have these loads in common, in the study's order
    loads: tuple[str, ...]  # names, the heaviest first
    instead: str  # the heaviest load that may be compared: the verdict rests on it


def passed_over(case: Case, found: Together | None = None) -> list[PassedOver]:
    """Where the heaviest load of a workload does not count, because one side alone was measured beside other servers.

    A verdict then rests on the next lighter load, which the page must say. Variants of which no load may be compared
    are not listed: their verdict has a rule of its own (`co-located`). Nor is the control, of which nothing is claimed.
    """
    found = together(case) if found is None else found
    if found.allowed or not found.cells:
        return []
    have = set(zip(*(case.cells[c].tolist() for c in ("variant", "workload", "load")), strict=True))
    alike: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for variant in case.measured_variants():
        if variant in (case.baseline, case.study.control):
            continue
        for workload in case.study.workloads:
            sides = [
                ((variant, workload.name, load.name), (case.baseline, workload.name, load.name))
                for load in reversed(case.loads(workload.name))
            ]
            both = [(ours, theirs) for ours, theirs in sides if ours in have and theirs in have]
            counts = next((i for i, (ours, theirs) in enumerate(both) if found.comparable(ours, theirs)), 0)
            if counts:
                heavier = tuple(ours[2] for ours, _ in both[:counts])
                alike.setdefault((workload.name, heavier, both[counts][0][2]), []).append(variant)
    return [PassedOver(workload, tuple(names), heavier, at) for (workload, heavier, at), names in alike.items()]


@dataclass(frozen=True)
class Trial:
    """One figure of the trial: medians of its repeats alone and together, and their ratio; nan where there is none."""

    metric: str
    alone: float | None
    together: float | None
    ratio: float
    low: float
    high: float
    region: float | None


def trials(found: CoLocation) -> list[Trial]:
    """The figures of a calibration, throughput first: those that were judged, else the two that every one has."""
    made = [
        Trial(r.metric, _median(r.alone), _median(r.together), r.ratio, r.low, r.high, r.region) for r in found.ratios
    ]
    if made:
        return made
    nan, alone, beside = math.nan, found.alone, found.together
    low, high = (nan if x is None else x for x in (found.low, found.high))
    made = [Trial("throughput_tok_s", alone.tok_s, beside.tok_s, found.ratio, low, high, found.region)]
    if alone.ttft_ms_p50 and beside.ttft_ms_p50:
        wait = beside.ttft_ms_p50 / alone.ttft_ms_p50
        made.append(Trial("ttft_ms_p50", alone.ttft_ms_p50, beside.ttft_ms_p50, wait, nan, nan, None))
    return made


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
