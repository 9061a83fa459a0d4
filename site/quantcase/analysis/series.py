"""The same study run again on the same GPU: what got better or worse from one run to the next, beyond noise.

A series is the cases of one study, GPU profile, grade and kind of weights, oldest first. Two runs are independent, so
a ratio's interval follows from both estimates (`between`). Of each variant and workload the figures at the highest load
that the newest run shares with an earlier one are read. Better or worse is named where the whole interval lies outside
the region of equivalence and p stays below 0.05 after Holm's correction over all figures of the series.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from scipy import special

from quantcase.analysis.between import COST, Difference, Line, Side, differences, lines, side_of
from quantcase.analysis.between_document import CaseDocument
from quantcase.analysis.compare import judge
from quantcase.analysis.paired import holm
from quantcase.analysis.points import THROUGHPUT

__all__ = ["HEADLINES", "RECOVERY", "VRAM", "Change", "Mark", "Recoveries", "Series", "Step", "runs_of", "series"]

RECOVERY = "recovery"
VRAM = "vram_loaded_mib"
HEADLINES = (THROUGHPUT, "ttft_ms_p95", COST, VRAM, RECOVERY)
_OF_LOAD = (THROUGHPUT, "ttft_ms_p95", COST)
# Recovery is a ratio of accuracies. This is as wide as the 2 points of accuracy that may be lost where all was right.
_RECOVERY_REGION = 0.02
_ALPHA = 0.05
_Z = float(special.ndtri(0.975))

# case -> variant -> (recovery, low, high); nan for bounds that cannot be had
Recoveries = Mapping[str, Mapping[str, tuple[float, float, float]]]


@dataclass(frozen=True)
class Mark:
    """One headline figure of one run; nan for bounds that cannot be had. VRAM and recovery have no workload."""

    run: int
    variant: str
    workload: str
    load: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """One figure of a run against the run before it. `word`: better, worse, equivalent, negligible, inconclusive, none.

    `why` says why there is no difference, or no word for one.
    """

    run: int
    variant: str
    workload: str
    load: str
    metric: str
    ratio: float
    low: float
    high: float
    p: float
    adjusted_p: float
    word: str
    why: str = ""


@dataclass(frozen=True)
class Step:
    """What changed around the figures from the run before to this one."""

    run: int
    changed: tuple[tuple[str, Difference], ...]  # variant, or empty where it is the same for all
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """All runs of one study on one GPU, oldest first."""

    study: str
    gpu: str
    grade: str
    weights: str
    runs: tuple[CaseDocument, ...]
    marks: tuple[Mark, ...] = ()
    changes: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = field(default=())

    @property
    def named(self) -> list[Change]:
        """What got better or worse beyond noise, in the order of the runs."""
        return [c for c in self.changes if c.word in ("better", "worse")]


def runs_of(cases: Sequence[CaseDocument]) -> list[list[CaseDocument]]:
    """The cases by study, GPU, grade and weights, oldest first; the series with the newest run first."""
    groups: dict[tuple[str, str, str, str], list[CaseDocument]] = {}
    for case in sorted(cases, key=lambda c: (c.created, c.case)):
        groups.setdefault((case.study, case.gpu, case.grade, case.weights), []).append(case)
    return sorted(groups.values(), key=lambda runs: runs[-1].created, reverse=True)


def series(cases: Sequence[CaseDocument], recoveries: Recoveries | None = None) -> list[Series]:
    """One series per study and GPU. A series of one run has no changes. Published cases have no runs."""
    return [_series(runs, recoveries or {}) for runs in runs_of([c for c in cases if c.grade != "published"])]


def _series(runs: Sequence[CaseDocument], recoveries: Recoveries) -> Series:
    newest = runs[-1]
    marks: list[Mark] = []
    changes: list[Change] = []
    steps: list[Step] = []
    tops = _tops(runs)
    for i, run in enumerate(runs):
        for name in run.variants:
            marks += _marks(i, side_of(run, name), tops, recoveries)
        if i:
            changes += _changes(i, runs[i - 1], run, tops, recoveries)
            steps.append(_step(i, runs[i - 1], run))
    corrected = tuple(_corrected(changes))
    return Series(
        newest.study, newest.gpu, newest.grade, newest.weights, tuple(runs), tuple(marks), corrected, tuple(steps)
    )


def _tops(runs: Sequence[CaseDocument]) -> dict[tuple[str, str], str]:
    """(variant, workload) -> the highest load that the newest run shares with an earlier one, else its own highest."""
    found: dict[tuple[str, str], str] = {}
    newest = runs[-1]
    for name, variant in newest.variants.items():
        for workload, loads in variant.cells.items():
            earlier = {
                load for r in runs[:-1] if name in r.variants for load in r.variants[name].cells.get(workload, {})
            }
            ordered = list(loads)  # lightest first, as they were published
            shared = [load for load in ordered if load in earlier]
            found[name, workload] = (shared or ordered)[-1]
    return found


def _marks(i: int, side: Side, tops: Mapping[tuple[str, str], str], recoveries: Recoveries) -> Iterator[Mark]:
    """The headline figures of one variant of one run, held against itself so that they are read in one place."""
    for line in lines(side, side, partial(_top, side.name, tops)):
        if line.a is not None and _headline(line, side.name, tops):
            hidden = line.refused.startswith("fewer than")
            if not hidden:
                yield Mark(i, side.name, line.workload, line.load, line.metric, *line.a[:3])
    if at := recoveries.get(side.case.case, {}).get(side.name):
        yield Mark(i, side.name, "", "", RECOVERY, *at)


def _headline(line: Line, variant: str, tops: Mapping[tuple[str, str], str]) -> bool:
    if line.metric == VRAM:
        return True
    return line.metric in _OF_LOAD and _top(variant, tops, line.workload, line.load)


def _top(variant: str, tops: Mapping[tuple[str, str], str], workload: str, load: str) -> bool:
    return tops.get((variant, workload)) == load


def _changes(
    i: int, before: CaseDocument, after: CaseDocument, tops: Mapping[tuple[str, str], str], recoveries: Recoveries
) -> Iterator[Change]:
    for name in after.variants:
        if name not in before.variants:
            continue
        a, b = side_of(before, name), side_of(after, name)
        for line in lines(a, b, partial(_top, name, tops)):
            if _headline(line, name, tops):
                yield _change(i, name, line)
        one, two = (recoveries.get(c.case, {}).get(name) for c in (before, after))
        if one and two:
            yield _recovery(i, a, b, one, two)


def _change(i: int, name: str, line: Line) -> Change:
    """The line's own p and class, for the correction runs over the series and not over the pair."""
    word, why = "none", line.refused or line.withheld
    if not line.refused and math.isnan(line.low):
        why = why or "one number, no interval"
    elif not why:
        kind = judge(line.metric, line.ratio, line.low, line.high, line.region)
        word = {"faster": "better", "slower": "worse"}.get(kind, kind)
    bounds = (line.ratio, line.low, line.high, line.p, line.p)
    return Change(i, name, line.workload, line.load, line.metric, *bounds, word, why)


def _recovery(i: int, a: Side, b: Side, one: tuple[float, float, float], two: tuple[float, float, float]) -> Change:
    """Two recoveries, each from its own baseline: independent runs, their errors from the widths of the intervals."""
    nan = math.nan
    empty = Change(i, a.name, "", "", RECOVERY, nan, nan, nan, nan, nan, "none")
    sets = [s.variant.fixed.get("Evaluation set", {}).get("prompts", "") for s in (a, b)]
    if sets[0] != sets[1]:
        return replace(empty, why=f"other questions: {sets[0]} against {sets[1]}")
    if min(one[0], two[0]) <= 0:
        return replace(empty, why="no ratio to zero")
    ratio = two[0] / one[0]
    if any(math.isnan(x) or x <= 0 for x in (*one, *two)):
        return replace(empty, ratio=ratio, why="no interval on a side")
    error = math.hypot(*(math.log(high / low) / (2 * _Z) for _, low, high in (one, two)))
    at = math.log(ratio)
    low, high = math.exp(at - _Z * error), math.exp(at + _Z * error)
    p = 2 * float(special.ndtr(-abs(at) / error)) if error else float(at == 0)
    bound = math.log1p(_RECOVERY_REGION)
    word = "inconclusive"
    if math.log(low) >= -bound and math.log(high) <= bound:
        word = "equivalent" if low <= 1 <= high else "negligible"
    elif math.log(low) > bound or math.log(high) < -bound:
        word = "better" if ratio > 1 else "worse"
    return replace(empty, ratio=ratio, low=low, high=high, p=p, adjusted_p=p, word=word)


def _corrected(changes: Sequence[Change]) -> Iterator[Change]:
    """Holm over every figure of the series that has a p and a word: better and worse need it below 5 % still."""
    adjusted = holm({f"{i}": c.p for i, c in enumerate(changes) if c.word != "none" and not math.isnan(c.p)})
    for i, c in enumerate(changes):
        p = adjusted.get(f"{i}", c.p)
        unsure = c.word in ("better", "worse") and not p < _ALPHA
        yield replace(c, adjusted_p=p, word="inconclusive" if unsure else c.word)


def _step(i: int, before: CaseDocument, after: CaseDocument) -> Step:
    """What differs around the figures, told once where it is the same for all variants; and other checkpoints."""
    both = [n for n in after.variants if n in before.variants]
    found: dict[Difference, list[str]] = {}
    checkpoints = []
    for name in both:
        a, b = side_of(before, name), side_of(after, name)
        for d in differences(a, b):
            if d.state in ("bad", "look") and d.variable != "Tokenizer":
                found.setdefault(d, []).append(name)
        for fact in ("checkpoint", "revision", "config sha256", "kernel path", "kernel class"):
            one, two = a.variant.what.get(fact, ""), b.variant.what.get(fact, "")
            if one != two:
                checkpoints.append(f"{name}: {fact} {one or 'not recorded'} against {two or 'not recorded'}")
    gone = [n for n in before.variants if n not in after.variants]
    come = [n for n in after.variants if n not in before.variants]
    checkpoints += [f"{n}: no longer measured" for n in gone] + [f"{n}: measured for the first time" for n in come]
    changed = tuple(("" if len(names) == len(both) else ", ".join(names), d) for d, names in found.items())
    return Step(i, changed, tuple(checkpoints))
