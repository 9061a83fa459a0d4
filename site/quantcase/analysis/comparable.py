"""Which cases can be held side by side at all: those that measured the same workload at the same load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantcase.analysis.between import Difference, differences, side_of
from quantcase.analysis.between_document import CaseDocument

__all__ = ["NEWEST", "Pair", "pairs"]

NEWEST = 40  # cases of one workload that are paired with each other: all pairs of 1,000 cases would be 500,000


@dataclass(frozen=True)
class Pair:
    """Two cases, the newer first, with a variant of each that share load points, and what differs around them."""

    a: CaseDocument
    b: CaseDocument
    variants: tuple[str, str]
    shared: tuple[tuple[str, str], ...]  # workload, load
    differs: tuple[Difference, ...]


def pairs(cases: Sequence[CaseDocument]) -> tuple[list[Pair], bool]:
    """The comparable pairs of different cases, those with the fewest differences first, and whether that is all.

    Comparable are cases that share a workload of the same name and definition, and a load point of it; of each the
    baseline stands for the case, else its first variant at that load. Of each workload the newest cases are paired.
    """
    groups: dict[tuple[tuple[str, str], ...], list[CaseDocument]] = {}
    for case in cases:
        for name, definition in case.workloads.items():
            facts = {k: v for k, v in definition.items() if k != "title"}
            groups.setdefault((("", name), *sorted(facts.items())), []).append(case)
    whole = True
    found: dict[tuple[str, str], tuple[CaseDocument, CaseDocument, list[tuple[str, str]]]] = {}
    for key, members in groups.items():
        newest = sorted(members, key=lambda c: c.created, reverse=True)
        whole &= len(newest) <= NEWEST
        for i, a in enumerate(newest[:NEWEST]):
            for b in newest[i + 1 : NEWEST]:
                for pair in _shared(a, b, key[0][1]):
                    found.setdefault((a.case, b.case), (a, b, []))[2].append(pair)
    made = []
    for a, b, shared in found.values():
        ours, theirs = (_standing(c, shared) for c in (a, b))
        seen = differences(side_of(a, ours), side_of(b, theirs))
        differs = tuple(d for d in seen if d.state in ("bad", "look"))
        made.append(Pair(a, b, (ours, theirs), tuple(dict.fromkeys(shared)), differs))
    return sorted(made, key=lambda p: (sum(d.state == "bad" for d in p.differs), len(p.differs))), whole


def _loads(case: CaseDocument, workload: str) -> list[str]:
    return list(dict.fromkeys(load for v in case.variants.values() for load in v.cells.get(workload, {})))


def _shared(a: CaseDocument, b: CaseDocument, workload: str) -> list[tuple[str, str]]:
    theirs = set(_loads(b, workload))
    return [(workload, load) for load in _loads(a, workload) if load in theirs]


def _standing(case: CaseDocument, shared: Sequence[tuple[str, str]]) -> str:
    """The variant that stands for a case: the baseline where it was measured there."""
    having = [n for n, v in case.variants.items() if any(load in v.cells.get(w, {}) for w, load in shared)]
    return case.baseline if case.baseline in having else having[0]
