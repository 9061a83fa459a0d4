"""Which GPU wins for which work, and at which price the answer flips.

An **option** is a variant at a load point of one GPU type. One counts where it keeps the workload's limits (each p95
within its limit, with enough requests to be shown), the client was not the limit, and nothing speaks against the
variant (quality, quantization not applied). Three questions are asked of each workload:

- cheapest: fewest USD per million output tokens, every GPU of the server counted, each GPU type at its cheapest option;
- fastest for each reader: lowest median TPOT at the heaviest load that all types share, for work that somebody reads;
- most throughput of one server, for batches.

A winner is named against every other type: the whole interval of the ratio lies beyond the region of equivalence, and
p stays below 0.05 after it is multiplied by the number of pairs of options among which the two were picked (Bonferroni)
and corrected over all that is read at once (Holm). Where a type has no option, none is named. Where boxes of a type
stand apart, the winner's worse box is held against the rival's better one.

**The price at which the answer flips.** n P / X is the same on both sides at P_a / P_b = (n_b / n_a) (X_a / X_b), n the
GPUs of a server, P the price of one GPU's hour, X its throughput. Its interval is that of the ratio of throughputs:
prices are exact. It needs no price at all; with one of them it gives the other's break-even.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from collector.bundle.read import Load
from quantcase.analysis.between import between
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.gpus_pool import Spot
from quantcase.analysis.gpus_study import Group
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.paired import holm
from quantcase.analysis.points import THROUGHPUT

__all__ = ["Flip", "Option", "Question", "Rival", "Win", "amount", "cost", "flips", "limits_of", "options", "wins"]

Question = Literal["cheapest", "fastest", "throughput"]
_TPOT = "tpot_ms_p50"
_ALPHA = 0.05
_DUE = {"ttft_ms_p95": "ttft_due_ms_p95", "e2e_ms_p95": "e2e_due_ms_p95"}  # open loops: from the time due


@dataclass(frozen=True)
class Option:
    """One variant at one load point of one GPU type; several spots where its boxes stand apart."""

    gpu: str
    variant: str
    workload: str
    load: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Rival:
    """The best option of another type: how many times worse than the winner's it is, in the worst pairing of boxes."""

    option: Option
    ratio: float
    low: float
    high: float
    p: float
    width: float
    decided: bool = False


@dataclass(frozen=True)
class Win:
    """The answer to one question of one workload. `named` only where every rival is decided; `why` says why not."""

    workload: str
    question: Question
    best: Option | None
    rivals: tuple[Rival, ...]
    named: bool = False
    why: str = ""
    load: str = ""  # where all are held at one load


@dataclass(frozen=True)
class Flip:
    """Two spots of two types, and the ratio of prices, a / b, at which their tokens cost the same."""

    a: Spot
    b: Spot
    best: bool  # each the cheapest of its type, whatever the variant
    ratio: float
    low: float
    high: float

    def side(self, price_a: float | None, price_b: float | None) -> str:
        """`a` or `b` is cheaper at these prices, `noise` where they lie inside the interval; empty without prices."""
        if price_a is None or price_b is None or price_b <= 0 or math.isnan(self.low):
            return ""
        at = price_a / price_b
        return "a" if at < self.low else "b" if at > self.high else "noise"


def limits_of(group: Group, workload: str) -> dict[str, float]:
    """metric -> ms that its p95 may not exceed, as the newest case states it."""
    newest = group.cases[0]
    return dict(newest.hardware.limits.get(workload, {})) if newest.hardware else {}


def cost(spot: Spot, usd_per_hour: float) -> Estimate:
    """USD per million output tokens, every GPU of the server counted; the price is exact, so the variance stays."""
    speed = spot.figures[THROUGHPUT]
    value = usd_per_million(usd_per_hour * spot.gpus, speed.value) if speed.value > 0 else math.nan
    return replace(speed, value=value)


def options(group: Group, found: Sequence[Spot], workload: str) -> list[Option]:
    """The options of a workload that may be chosen. Boxes apart: every one of them must keep the limits."""
    limits = limits_of(group, workload)
    cells: dict[tuple[str, str, str], list[Spot]] = {}
    for s in found:
        if s.workload == workload:
            cells.setdefault((s.gpu, s.definition, s.load), []).append(s)
    return [
        Option(gpu, mine[0].variant, workload, load, tuple(mine))
        for (gpu, _, load), mine in cells.items()
        if all(_counts(s) and _within(s, limits) for s in mine)
    ]


def _counts(s: Spot) -> bool:
    return s.sound and not s.limited and not s.left_out and THROUGHPUT in s.figures and s.figures[THROUGHPUT].value > 0


def _within(s: Spot, limits: Mapping[str, float]) -> bool:
    for metric, ms in limits.items():
        known = s.figures.get(_DUE.get(metric, metric)) or s.figures.get(metric)
        if known is None or not known.value <= ms:
            return False
    return True


def wins(group: Group, found: Sequence[Spot], prices: Mapping[str, float | None]) -> list[Win]:
    """The answers for every workload of a group with several GPU types. `prices`: type -> USD per GPU and hour."""
    if len(group.gpus) < 2:
        return []
    made = [w for workload in group.workloads for w in _answers(group, found, workload, prices)]
    flat = [(i, j) for i, w in enumerate(made) for j in range(len(w.rivals))]
    known = {f"{i} {j}": p for i, j in flat if not math.isnan(p := made[i].rivals[j].p)}
    adjusted = holm(known)
    return [_decided(w, [adjusted.get(f"{i} {j}", math.nan) for j in range(len(w.rivals))]) for i, w in enumerate(made)]


def _decided(w: Win, adjusted: Sequence[float]) -> Win:
    rivals = tuple(
        replace(r, p=p, decided=r.low > 1 + r.width and p < _ALPHA) for r, p in zip(w.rivals, adjusted, strict=True)
    )
    named = not w.why and bool(rivals) and all(r.decided for r in rivals)
    return replace(w, rivals=rivals, named=named)


def _answers(
    group: Group, found: Sequence[Spot], workload: str, prices: Mapping[str, float | None]
) -> Iterator[Win]:  # fmt: skip
    mine = options(group, found, workload)
    batch = any(workload in c.hardware.batch for c in group.cases[:1] if c.hardware)
    known = [o for o in mine if prices.get(o.gpu) is not None]

    def dear(s: Spot) -> Estimate:
        return cost(s, prices[s.gpu] or 0.0)

    without = {g.name: "no option within the limits" for g in group.gpus}
    unpriced = {name: "no price" for name in without if prices.get(name) is None}
    yield _win(group, workload, "cheapest", known, dear, THROUGHPUT, without | unpriced)
    if batch:
        yield _win(group, workload, "throughput", mine, lambda s: _inverse(s.figures[THROUGHPUT]), THROUGHPUT, without)
        return
    timed = [o for o in mine if all(_TPOT in s.figures for s in o.spots)]
    loads = [
        load for load in dict.fromkeys(o.load for o in timed)
        if all(any((o.gpu, o.load) == (g.name, load) for o in timed) for g in group.gpus)
    ]  # fmt: skip
    at = max(loads, key=amount, default="")
    same = [o for o in timed if o.load == at]
    apart = dict.fromkeys(without, "no load point within the limits in common")
    yield _win(group, workload, "fastest", same, lambda s: s.figures[_TPOT], _TPOT, apart, load=at)


def amount(load: str) -> float:
    """How heavy a load point is, by its name: c16 is 16, r0.5 is 0.5; 0 for what is none."""
    known = Load.of(load)
    return known.amount if known else 0.0


def _inverse(e: Estimate) -> Estimate:
    """1 / figure: the variance of the logarithm is the same."""
    return replace(e, value=1 / e.value if e.value > 0 else math.nan)


def _win(
    group: Group, workload: str, question: Question, found: Sequence[Option], bad: Callable[[Spot], Estimate],
    metric: str, without: Mapping[str, str], load: str = "",
) -> Win:  # fmt: skip
    """The option with the least of `bad`, and the best of every other type against it.

    `without`: type -> what is missing where it has no option; then no winner is named, for it was not compared.
    """
    by_type: dict[str, list[Option]] = {}
    for o in found:
        by_type.setdefault(o.gpu, []).append(o)
    absent = [g.name for g in group.gpus if g.name not in by_type]
    why = "; ".join(
        f"{words} for {', '.join(n for n in absent if without[n] == words)}"
        for words in dict.fromkeys(without[n] for n in absent)
    )
    best = {gpu: min(mine, key=lambda o: _worst(o, bad).value) for gpu, mine in by_type.items()}
    ranked = sorted(best.values(), key=lambda o: _worst(o, bad).value)
    if len(ranked) < 2:
        return Win(workload, question, ranked[0] if ranked else None, (), why=why, load=load)
    first, *others = ranked
    rivals = []
    for other in others:
        ours, theirs = _worst(first, bad), _best(other, bad)
        ratio, low, high, p = between(theirs, ours, same_case=False)
        pairs = len(by_type[first.gpu]) * len(by_type[other.gpu])
        width = max(s.width(metric) for s in (*first.spots, *other.spots))
        rivals.append(Rival(other, ratio, low, high, min(1.0, p * pairs) if not math.isnan(p) else p, width))
    if group.grade == "simulated":
        why = "simulated timings are no measurement"
    return Win(workload, question, first, tuple(rivals), why=why, load=load)


def _worst(o: Option, bad: Callable[[Spot], Estimate]) -> Estimate:
    return max((bad(s) for s in o.spots), key=lambda e: e.value)


def _best(o: Option, bad: Callable[[Spot], Estimate]) -> Estimate:
    return min((bad(s) for s in o.spots), key=lambda e: e.value)


def flips(group: Group, found: Sequence[Spot]) -> list[Flip]:
    """Every pair of GPU types, workload by workload: the cheapest option of each, then every variant that both have."""
    made: list[Flip] = []
    for a, b in combinations([g.name for g in group.gpus], 2):
        for workload in group.workloads:
            mine = options(group, found, workload)
            ours, theirs = ([o for o in mine if o.gpu == gpu] for gpu in (a, b))
            if not ours or not theirs:
                continue
            made += _flips(_cheapest(ours), _cheapest(theirs), best=True)
            for variant in dict.fromkeys(o.variant for o in ours):
                other = [o for o in theirs if o.variant == variant]
                if other:
                    made += _flips(_cheapest([o for o in ours if o.variant == variant]), _cheapest(other), best=False)
    return made


def _cheapest(found: Sequence[Option]) -> Option:
    """Of one GPU type the cheapest at any price of it: the least GPUs per throughput, by its worse box."""
    return min(found, key=lambda o: max(s.gpus / s.figures[THROUGHPUT].value for s in o.spots))


def _flips(a: Option, b: Option, *, best: bool) -> Iterator[Flip]:
    for ours, theirs in product(a.spots, b.spots):
        value, low, high, _ = between(ours.figures[THROUGHPUT], theirs.figures[THROUGHPUT], same_case=False)
        servers = theirs.gpus / ours.gpus
        yield Flip(ours, theirs, best, servers * value, servers * low, servers * high)
