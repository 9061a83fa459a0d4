"""The design of the experiment: who is measured when, and when it has been measured enough. Pure functions."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from collector.bundle.schema import CellRow
from collector.bundle.student import t_quantile
from collector.errors import UsageFault
from collector.study import Study, Variant

__all__ = ["Imprecise", "imprecise", "order", "with_control"]


def with_control(study: Study) -> Study:
    """The study with a variant that repeats the baseline on server starts of its own (A/A).

    What it differs by is noise: no smaller difference of another variant is called one.
    """
    if study.control:
        return study
    base = study.variant(study.baseline)
    name = f"{base.name}-again"
    if any(v.name == name for v in study.variants):
        raise UsageFault(f"a variant is named {name} already", fix=f'set control = "{name}" in the study, or rename it')
    again = msgspec.structs.replace(base, name=name, note="the baseline once more: what differs is noise")
    place = study.variants.index(base) + 1
    variants: list[Variant] = [*study.variants[:place], again, *study.variants[place:]]
    return msgspec.structs.replace(study, variants=variants, control=name)


def order(study: Study, number: int) -> list[str]:
    """The variants of one round of server starts, counted from 1.

    Drift (heat, neighbours, the time of day) must not fall on one variant alone, so each round has an order of its own
    that follows from the seed. The first begins with the baseline: what is said of the others' kernels needs its facts.
    """
    names = [v.name for v in study.variants]
    rng = random.Random(f"{study.seed}/order/{number}")  # noqa: S311 - repeatable order, no secret
    if number == 1:
        rest = [n for n in names if n != study.baseline]
        rng.shuffle(rest)
        return [study.baseline, *rest]
    rng.shuffle(names)
    return names


class Imprecise(Struct, frozen=True):
    """A cell whose throughput ratio to the baseline is not known well enough: its interval's half width as a share."""

    variant: str
    workload: str
    load: str
    half_width: float  # infinite with fewer than two values on a side


def imprecise(study: Study, cells: Sequence[CellRow], target: float) -> list[Imprecise]:
    """The cells of which the 95 % interval of variant / baseline (throughput) is wider than +-`target`, e.g. 0.03.

    Welch's t on logarithms; its values are the means of server starts where both sides have at least two, else the
    repeats. Cells without a throughput on either side are left out: more repeats would not bring one.
    """
    values: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for c in cells:
        if c.throughput_tok_s:
            values[(c.variant, c.workload, c.load)][c.start].append(math.log(c.throughput_tok_s))
    found = []
    for (variant, workload, load), ours in values.items():
        theirs = values.get((study.baseline, workload, load))
        if variant == study.baseline or not theirs:
            continue
        half = _half_width(ours, theirs)
        if half > target:
            found.append(Imprecise(variant, workload, load, half))
    return found


def _half_width(ours: dict[int, list[float]], theirs: dict[int, list[float]]) -> float:
    if len(ours) >= 2 and len(theirs) >= 2:
        a, b = ([math.fsum(v) / len(v) for v in side.values()] for side in (ours, theirs))
    else:
        a, b = ([x for v in side.values() for x in v] for side in (ours, theirs))
    if len(a) < 2 or len(b) < 2:
        return math.inf
    va, vb = _variance(a) / len(a), _variance(b) / len(b)
    if va + vb == 0:
        return 0.0
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    return math.expm1(t_quantile(0.975, freedom) * math.sqrt(va + vb))


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
