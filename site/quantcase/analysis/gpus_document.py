"""`gpus/gpus.json`: every figure of the GPU pages at full precision, with its interval, and what was decided by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta, Struct

from quantcase.analysis.gpus_choice import Flip, Option, Win, cost, flips, wins
from quantcase.analysis.gpus_lottery import Lot, Together, lottery, together
from quantcase.analysis.gpus_pool import Spot, spots
from quantcase.analysis.gpus_study import Box, Group, caveats
from quantcase.analysis.hierarchy import Estimate, span
from quantcase.analysis.points import THROUGHPUT

__all__ = ["VERSION", "Fleet", "Study", "document", "study_of"]

VERSION = 1
Bound = Annotated[float | None, Meta(description="95 % interval; null where it cannot be told")]
Names = list[str]


@dataclass(frozen=True)
class Study:
    """One group with all that is worked out of it. `prices`: GPU type -> USD per GPU and hour, None where unknown."""

    group: Group
    prices: Mapping[str, float | None]
    lots: list[Lot]
    joint: list[Together]
    spots: list[Spot]
    wins: list[Win]
    flips: list[Flip]
    caveats: list[tuple[str, str, str]] = field(default_factory=list)


def study_of(group: Group) -> Study:
    """Everything that the page says of a group, worked out once. The newest price of a type counts."""
    prices = {g.name: g.priced.usd_per_hour for g in group.gpus}
    lots = lottery(group)
    joint = together(lots)
    found = spots(group, joint)
    return Study(
        group, prices, lots, joint, found, wins(group, found, prices), flips(group, found), caveats(group)
    )  # fmt: skip


class FigureDoc(Struct):
    """One figure. `n` counts requests for percentiles, repeats for the others."""

    metric: str
    value: float | None
    low: Bound
    high: Bound
    n: int


class BoxDoc(Struct):
    """One physical box: a card by the first digits of its hash, with the cases measured on it, newest first."""

    name: str
    cases: Names


class GpuDoc(Struct):
    """One GPU type. The price is that of one GPU's hour, in US dollars."""

    name: str
    profile: str
    usd_per_hour: float | None
    price_source: str
    boxes: list[BoxDoc]


class CellDoc(Struct):
    """One variant at one load point of one GPU type: of several boxes pooled, or of one."""

    gpu: str
    boxes: Names
    cases: Names
    variant: str
    workload: str
    load: str
    gpus: Annotated[int, Meta(ge=1, description="GPUs of the server; each is paid for")]
    kept_apart: Annotated[str, Meta(description="why boxes were not pooled; empty where they were, or there is one")]
    left_out: Annotated[str, Meta(description="why no rule may choose it; empty where it may be chosen")]
    energy_from: Annotated[str, Meta(description="counter: the driver's energy counter; power: board power integrated")]
    figures: list[FigureDoc]


class RatioDoc(Struct):
    """One figure of box b against box a; `cells` is 1 for a single cell, else over how many it was taken together."""

    gpu: str
    a: str
    b: str
    variant: str
    workload: str
    load: str
    metric: str
    ratio: float | None
    low: Bound
    high: Bound
    word: str
    cells: int


class OptionDoc(Struct):
    """A variant at a load point of a GPU type."""

    gpu: str
    variant: str
    load: str


class RivalDoc(Struct):
    """The best of another type, how many times worse it is, p after both corrections, and whether that decides."""

    option: OptionDoc
    ratio: float | None
    low: Bound
    high: Bound
    p: float | None
    decided: bool


class WinDoc(Struct):
    """One question of a workload. `named`: the best beats every rival beyond the noise."""

    workload: str
    question: str
    best: OptionDoc | None
    named: bool
    why: str
    rivals: list[RivalDoc]


class FlipDoc(Struct):
    """Prices of one GPU's hour, a / b, at which the tokens of both cost the same. `cheaper`: at the listed prices."""

    workload: str
    a: OptionDoc
    b: OptionDoc
    boxes: list[Names]
    price_ratio: float | None
    low: Bound
    high: Bound
    listed_ratio: float | None
    cheaper: Annotated[str, Meta(description="a, b, noise (inside the interval), or empty without both prices")]


class StudyDoc(Struct):
    """One study over GPU types and boxes."""

    grade: str
    weights: str
    base_model: str
    workloads: Names
    gpus: list[GpuDoc]
    differs: Annotated[Names, Meta(description="what else differs between cases")]
    boxes_compared: list[RatioDoc]
    cells: list[CellDoc]
    winners: list[WinDoc]
    prices_that_flip: list[FlipDoc]


class Fleet(Struct):
    """gpus.json. `needed` says what is missing where no study has two GPU types or two boxes."""

    version: int
    needed: str
    studies: list[StudyDoc]


def document(found: Sequence[Study], needed: str = "") -> Fleet:
    """The document of all studies."""
    return Fleet(VERSION, needed, [_study(s) for s in found])


def _study(s: Study) -> StudyDoc:
    g = s.group
    return StudyDoc(
        g.grade, g.weights, g.base_model, list(g.workloads),
        [
            GpuDoc(t.name, t.gpu, s.prices[t.name], t.priced.price, [_box(b) for b in t.boxes])
            for t in g.gpus
        ],
        [f"{a} against {b}: {words}" for a, b, words in s.caveats],
        [*map(_lot, s.lots), *map(_joint, s.joint)],
        [_cell(x, s.prices[x.gpu]) for x in s.spots],
        [_win(w) for w in s.wins],
        [_flip(f, s.prices) for f in s.flips],
    )  # fmt: skip


def _box(b: Box) -> BoxDoc:
    return BoxDoc(b.name, [c.case for c in b.cases])


def _plain(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _figure(metric: str, e: Estimate, n: int) -> FigureDoc:
    low, high = span(e)
    return FigureDoc(metric, _plain(e.value), _plain(low), _plain(high), n)


def _cell(x: Spot, price: float | None) -> CellDoc:
    made = [_figure(m, e, x.counts[m]) for m, e in x.figures.items()]
    if price is not None and THROUGHPUT in x.figures:
        made.append(_figure("usd_per_1m_output_tokens", cost(x, price), x.counts[THROUGHPUT]))
    return CellDoc(
        x.gpu, list(x.boxes), list(x.cases), x.variant, x.workload, x.load, x.gpus, x.kept_apart, x.left_out, x.source,
        made,
    )  # fmt: skip


def _lot(x: Lot) -> RatioDoc:
    at = x.line
    word = "not compared" if at.refused else "no word" if at.withheld else at.kind
    return RatioDoc(
        x.gpu, x.a, x.b, x.variant, at.workload, at.load, at.metric, _plain(at.ratio), _plain(at.low), _plain(at.high),
        word, 1,
    )  # fmt: skip


def _joint(x: Together) -> RatioDoc:
    return RatioDoc(
        x.gpu, x.a, x.b, "", "", "", x.metric, _plain(x.ratio), _plain(x.low), _plain(x.high),
        "alike" if x.alike else "apart", x.cells,
    )  # fmt: skip


def _option(o: Option) -> OptionDoc:
    return OptionDoc(o.gpu, o.variant, o.load)


def _win(w: Win) -> WinDoc:
    rivals = [
        RivalDoc(_option(r.option), _plain(r.ratio), _plain(r.low), _plain(r.high), _plain(r.p), r.decided)
        for r in w.rivals
    ]
    return WinDoc(w.workload, w.question, _option(w.best) if w.best else None, w.named, w.why, rivals)


def _flip(f: Flip, prices: Mapping[str, float | None]) -> FlipDoc:
    a, b = prices[f.a.gpu], prices[f.b.gpu]
    sides = [OptionDoc(s.gpu, s.variant, s.load) for s in (f.a, f.b)]
    listed = a / b if a is not None and b else None
    return FlipDoc(
        f.a.workload, sides[0], sides[1], [list(f.a.boxes), list(f.b.boxes)], _plain(f.ratio), _plain(f.low),
        _plain(f.high), listed, f.side(a, b),
    )  # fmt: skip
