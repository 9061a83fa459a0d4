"""What all cases together carry: how much was measured, and the best of it by a rule that is said with the figure.

Only sound bundles of grade `measured` count. The best of many looks better than it is: the rule takes the one whose
interval ends furthest from no difference, not the largest figure, and says among how many it was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quantcase.analysis.compare import Comparison
from quantcase.analysis.cost import Span, saving
from quantcase.analysis.experiments import excluded
from quantcase.analysis.memory import Leader, Memory
from quantcase.analysis.memory import lightest as lightest_of
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.verdict import Verdict
from quantcase.catalog import Case

__all__ = ["Best", "Judged", "Seen", "Volume", "best_throughput", "judged", "lightest", "saving_of", "volume"]

_NO_CLAIM = ("kernel", "client-limited")  # faster, and not to be believed


@dataclass(frozen=True)
class Seen:
    """One case and what was worked out of it."""

    case: Case
    verdicts: Sequence[Verdict]
    quality: dict[str, QualityVerdict]
    memory: Sequence[Memory]

    @property
    def counts(self) -> bool:
        """Whether it may carry an offer: measured by this collector, and sound."""
        return self.case.sound and self.case.bundle.info.grade == "measured"

    @property
    def on_gpu(self) -> bool:
        """Whether it also speaks of GPUs: a small model on a CPU shows the method, and no gain that anybody buys."""
        profile = self.case.profile
        return self.counts and profile is not None and profile.kind == "gpu"


@dataclass(frozen=True)
class Volume:
    """How much stands behind: cases, their GPU profiles, variants that served, requests that ended well."""

    cases: tuple[Case, ...]
    gpus: tuple[str, ...]
    variants: int
    requests: int


@dataclass(frozen=True)
class Best:
    """The comparison that carries most, among how many it was chosen, and how many of those are beyond the noise."""

    case: Case
    comparison: Comparison
    compared: int
    beyond: int
    quality: str  # grade of the variant's quality; empty where it was not judged


@dataclass(frozen=True)
class Judged:
    """Variants whose answers were judged in one case, by grade."""

    case: Case
    grades: dict[str, int]
    prompts: int


def volume(seen: Sequence[Seen]) -> Volume:
    """What was measured, in all."""
    cases = tuple(s.case for s in seen if s.counts)
    gpus = tuple(dict.fromkeys(c.bundle.info.gpu for c in cases))
    return Volume(
        cases, gpus, sum(len(c.measured_variants()) for c in cases), sum(sum(c.ok_counts.values()) for c in cases)
    )


def best_throughput(seen: Sequence[Seen]) -> Best | None:
    """Throughput on a GPU at a workload's highest load: the variant whose interval's lower end is highest.

    Left out: what is to be avoided (its quality fails, its quantization was not applied), what runs by an unknown or
    fallback kernel, and where the client was the limit. None where nothing is faster beyond the noise.
    """
    pairs = [(s, v) for s in seen if s.on_gpu for v in s.verdicts if v.evidence is not None]
    found = [
        (s, v.evidence)
        for s, v in pairs
        if v.evidence is not None and v.evidence.kind == "faster" and v.kind != "avoid" and v.rule not in _NO_CLAIM
        and not math.isnan(v.evidence.low)
    ]  # fmt: skip
    if not found:
        return None
    at, top = max(found, key=lambda pair: pair[1].low)
    judged = at.quality.get(top.variant)
    return Best(at.case, top, len(pairs), len(found), judged.grade if judged else "")


def saving_of(best: Best) -> Span:
    """(saving, low, high) of the cost of an output token at a fixed price an hour, as shares of the baseline's."""
    c = best.comparison
    return saving((c.ratio, c.low, c.high))


def lightest(seen: Sequence[Seen]) -> tuple[Case, Leader] | None:
    """The variant on a GPU whose weights take the smallest share of its baseline's: of each case the one that its own
    page names, see `memory.lightest`."""
    leaders = ((s.case, lightest_of(s.memory, excluded(s.case, s.quality))) for s in seen if s.on_gpu)
    found = [(case, leader) for case, leader in leaders if leader is not None]
    return min(found, key=lambda pair: pair[1].ratio, default=None)


def judged(seen: Sequence[Seen]) -> list[Judged]:
    """Cases with answers that were judged: how many variants got which grade, and on how many prompts."""
    found = []
    for s in (s for s in seen if s.counts and s.quality):
        grades = [v.grade for v in s.quality.values()]
        found.append(Judged(s.case, {g: grades.count(g) for g in dict.fromkeys(grades)}, len(s.case.quality_items)))
    return found
