"""Any variant against any other, of the same case or of two: what differs around them, and what may be compared.

Two cases are independent runs, so the interval of a ratio follows from the two published estimates alone: logarithms,
variances added, Welch's degrees of freedom (`hierarchy.ratio`). What a difference means is judged as within a case
(`compare.judge`). A metric that is defined otherwise on the two sides is refused, with the reason; a fixed variable
that differs is named. assets/compare.js holds the same formulas: tests/browser/test_compare.py holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import Struct

from quantcase.analysis.between_document import (
    SINGLES,
    CaseDocument,
    CellDocument,
    Lengths,
    Published,
    VariantDocument,
)
from quantcase.analysis.compare import HIGHER_IS_BETTER, ROPE, Kind, judge
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.hierarchy import Estimate, ratio, span
from quantcase.analysis.paired import holm
from quantcase.analysis.plan_common import State
from quantcase.analysis.points import LEAST, METRICS, THROUGHPUT

__all__ = [
    "ACCURACY", "COST", "FIXED", "Difference", "Line", "Metric", "Side", "between", "compared", "differences",
    "lines", "metrics", "newcombe", "region", "side_of", "wilson",
]  # fmt: skip

COST = "usd_per_1m_output_tokens"
ACCURACY = "accuracy"
_OF_ONE_GPU = "weights_gib"  # the engine states it of one GPU of a server
_Z = 1.959963984540054  # the normal distribution's 97.5 % point
_ALPHA = 0.05
_NEAR = 0.01  # as in plan_checks: mean lengths so little apart move no figure beyond its region
_TITLES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "ttft_due": "TTFT from due", "e2e_due": "E2E from due"}
_DUE = ("ttft_due_ms_p50", "ttft_due_ms_p95", "e2e_due_ms_p95")
_MOST = 3  # cells that are named one by one

# What is to be the same, and what a difference means: bad moves figures, look may. Lengths and workloads: `differences`
FIXED: dict[str, dict[str, State]] = {
    "Model": {"base model": "bad", "weights": "bad"},
    "Tokenizer": {},
    "Evaluation set": {"prompts": "bad"},
    "Prompt length distribution": {},
    "Output length distribution": {},
    "Sampling parameters": {"sampling": "bad", "arguments": "bad"},
    "Engine": {
        "engine": "bad", "version": "bad", "arguments": "bad", "environment": "look", "vllm": "look",
        "xllamacpp": "look", "torch": "look", "triton": "look", "transformers": "look",
    },
    "Hardware": {
        "GPU": "bad", "number of GPUs": "bad", "GPUs of the server": "look", "measured": "bad", "VRAM": "bad",
        "driver": "bad", "CUDA": "look", "power limit": "bad", "processor": "bad",
        "card (hash)": "look", "host": "look", "kernel": "look",
    },
    "Workload definition": {},
    "Prompts": {"kind": "bad", "seed": "look"},
    "Client": {"collector": "look", "revision": "look", "processes": "look"},
}  # fmt: skip
_WORST: tuple[State, ...] = ("bad", "look", "none", "ok")


class Metric(Struct):
    """A figure of a load point: its name with unit, its region of equivalence, the ok requests that it needs."""

    key: str
    title: str
    higher: bool
    region: float
    least: int
    per_token: bool  # counts tokens, so two tokenizers make two units of it


def region(metric: str) -> float:
    """The region of equivalence of a metric: `compare.ROPE`, else that of its kind; a cost has its throughput's."""
    if metric == COST:
        return ROPE[THROUGHPUT]
    return ROPE.get(metric, ROPE["e2e_ms_p50"] if metric.endswith("p50") else ROPE["e2e_ms_p95"])


def metrics() -> list[Metric]:
    """Every figure of a load point, in the order of the tables."""
    found = [Metric(THROUGHPUT, "Throughput (tok/s)", THROUGHPUT in HIGHER_IS_BETTER, region(THROUGHPUT), 0, True)]
    for key in (*METRICS, *_DUE):
        name, _, percent = key.rpartition("_p")
        title = f"{_TITLES[name.removesuffix('_ms')]} p{percent} (ms)"
        found.append(Metric(key, title, False, region(key), LEAST[float(percent)], key.startswith("tpot")))
    return [*found, Metric(COST, "$ / 1M output tokens", False, region(COST), 0, True)]


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    case: CaseDocument
    name: str

    @property
    def variant(self) -> VariantDocument:
        return self.case.variants[self.name]


def side_of(case: CaseDocument, variant: str) -> Side:
    """One side of a comparison. Raises KeyError for a variant that the case does not have."""
    _ = case.variants[variant]
    return Side(case, variant)


@dataclass(frozen=True)
class Difference:
    """One fixed variable of two sides: ok the same, look, bad, none not recorded; and what was seen, in words."""

    variable: str
    state: State
    words: str


@dataclass(frozen=True)
class Line:
    """One figure of two sides and b against a. `change` says whether ratio, low and high are a ratio or points.

    `refused`: why there is no difference at all; `withheld`: why there is one and no word for it.
    """

    workload: str
    load: str
    metric: str
    a: tuple[float, float, float, int] | None  # value, low, high, n
    b: tuple[float, float, float, int] | None
    change: Literal["ratio", "points"] = "ratio"
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    adjusted_p: float = math.nan
    region: float = 0.0
    kind: Kind = "inconclusive"
    refused: str = ""
    withheld: str = ""


def between(ours: Estimate, theirs: Estimate, *, same_case: bool) -> tuple[float, float, float, float]:
    """(ratio, low, high, p) of ours / theirs. Starts are pooled within a case, never over two: then Welch holds."""
    return ratio(ours if same_case else replace(ours, level="independent"), theirs)


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927)."""
    share, z2 = right / n, _Z * _Z
    centre, half = share + z2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)


def newcombe(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple[float, float, float]:
    """(difference, low, high) of two independent shares (right, n), in points.

    Newcombe (Statistics in Medicine 1998; 17: 873-890), method 10: the score intervals of both, squared and added.
    """
    (l1, u1), (l2, u2) = wilson(*theirs), wilson(*ours)
    p1, p2 = theirs[0] / theirs[1], ours[0] / ours[1]
    low = p2 - p1 - math.hypot(p2 - l2, u1 - p1)
    high = p2 - p1 + math.hypot(u2 - p2, p1 - l1)
    return 100 * (p2 - p1), 100 * low, 100 * high


def differences(a: Side, b: Side) -> list[Difference]:
    """Each fixed variable of two sides, in the plan's order."""
    special = {
        "Tokenizer": _tokenizer(a, b),
        "Prompt length distribution": _lengths(a, b, "input"),
        "Output length distribution": _lengths(a, b, "output"),
        "Workload definition": _definitions(a, b),
    }
    return [Difference(v, *special.get(v, _facts(a, b, v))) for v in FIXED]


def _facts(a: Side, b: Side, variable: str) -> tuple[State, str]:
    ours, theirs = a.variant.fixed.get(variable, {}), b.variant.fixed.get(variable, {})
    if not ours and not theirs:
        return "none", "not recorded"
    states: list[State] = []
    same, differ, missing = [], [], []
    for fact, state in FIXED[variable].items():
        one, two = ours.get(fact, ""), theirs.get(fact, "")
        if one == two:
            same += [f"{fact} {one}"] if one else []
        elif one and two:
            states.append(state)
            differ.append(f"{fact} {one} against {two}")
        elif state == "bad":
            missing.append(f"{fact} {one or 'not recorded'} against {two or 'not recorded'}")
    if differ:
        return min(states, key=_WORST.index), "; ".join(differ)
    return ("none", "; ".join(missing)) if missing else ("ok", "; ".join(same))


def _tokenizer(a: Side, b: Side) -> tuple[State, str]:
    counts = [s.variant.fixed.get("Tokenizer", {}).get("counts", "") for s in (a, b)]
    asked = [s.variant.fixed.get("Evaluation set", {}).get("prompts", "") for s in (a, b)]
    models = [s.variant.fixed.get("Model", {}).get("base model", "") for s in (a, b)]
    if all(counts) and asked[0] == asked[1]:
        if counts[0] == counts[1]:
            return "ok", "the same prompts have the same number of tokens on both sides"
        return "bad", "the same prompts have other numbers of tokens: two tokenizers"
    if models[0] == models[1]:
        return "look", "taken from one base model; no prompts were counted on both sides"
    return "bad", "two base models, and no prompts that were counted on both sides"


def _shared(a: Side, b: Side) -> list[tuple[str, str, CellDocument, CellDocument]]:
    """(workload, load, cell of a, cell of b), in the order of a."""
    return [
        (workload, load, cell, other)
        for workload, loads in a.variant.cells.items()
        for load, cell in loads.items()
        if (other := b.variant.cells.get(workload, {}).get(load)) is not None
    ]


def _lengths(a: Side, b: Side, which: Literal["input", "output"]) -> tuple[State, str]:
    compared, near, words = 0, 0, []
    for workload, load, ours, theirs in _shared(a, b):
        one: Lengths | None = getattr(ours, which)
        two: Lengths | None = getattr(theirs, which)
        if one is None or two is None:
            continue
        compared += 1
        if one.sha == two.sha and one.mean == two.mean:
            continue
        if abs(one.mean - two.mean) <= _NEAR * two.mean:
            near += 1
        else:
            words.append(f"{workload} {load} {one.mean:.1f} against {two.mean:.1f}")
    if not compared:
        return "none", "no load point in common"
    if words:
        more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
        return "bad", f"mean tokens a request: {'; '.join(words[:_MOST])}{more}"
    if near:
        return "look", "means within 1 %, not the same request by request"
    return "ok", f"the same lengths at {compared} load points"


def _unlike(a: Side, b: Side, workload: str) -> list[str]:
    """What defines a workload otherwise on the two sides, in words."""
    ours, theirs = a.case.workloads[workload], b.case.workloads[workload]
    names = [n for n in dict.fromkeys([*ours, *theirs]) if n != "title" and ours.get(n) != theirs.get(n)]
    return [f"{n} {ours.get(n, 'none')} against {theirs.get(n, 'none')}" for n in names]


def _definitions(a: Side, b: Side) -> tuple[State, str]:
    both = [w for w in a.case.workloads if w in b.case.workloads]
    if not both:
        return "bad", "no workload of the same name"
    words = [f"{w}: {', '.join(unlike)}" for w in both if (unlike := _unlike(a, b, w))]
    if words:
        return "bad", "; ".join(words)
    return "ok", f"defined alike: {', '.join(both)}"


def compared(a: Side, b: Side) -> list[Line]:
    """Every figure that either side has at a load point of both, and what each has once. Holm's correction runs over
    the load points of a metric, as in a case.
    """
    return [*_corrected(_cell_lines(a, b, _everywhere)), *_singles(a, b), *_accuracy(a, b)]


def lines(a: Side, b: Side, at: Callable[[str, str], bool]) -> list[Line]:
    """What `compared` gives for some load points, before any correction: for those who correct over more than a pair.

    Args:
        a: one side.
        b: the other.
        at: whether a workload's load point is wanted.
    """
    return [*_cell_lines(a, b, at), *_singles(a, b), *_accuracy(a, b)]


def _everywhere(_workload: str, _load: str) -> bool:
    return True


def _cell_lines(a: Side, b: Side, at: Callable[[str, str], bool]) -> list[Line]:
    tokenizer = _tokenizer(a, b)
    found = []
    for workload, load, ours, theirs in _shared(a, b):
        if at(workload, load):
            unlike = _unlike(a, b, workload)
            each = (_cell_line(a, b, workload, load, metric, ours, theirs, unlike, tokenizer) for metric in metrics())
            found += [line for line in each if line is not None]
    return found


def _figure(side: Side, cell: CellDocument, metric: str) -> Published | None:
    """A published figure, or the cost that follows from the throughput, the price held fixed."""
    if metric != COST:
        return cell.figures.get(metric)
    speed, price = cell.figures.get(THROUGHPUT), side.case.usd_per_hour
    if speed is None or price is None or speed.value <= 0:
        return None
    hour = price * side.variant.gpus
    return Published(usd_per_million(hour, speed.value), speed.variance, speed.freedom, speed.level)


def _value(figure: Published | None, n: int) -> tuple[float, float, float, int] | None:
    if figure is None:
        return None
    low, high = span(figure.estimate)
    if figure.variance is None:
        low, high = (math.nan if x is None else x for x in (figure.low, figure.high))
    return figure.value, low, high, n


def _cell_line(
    a: Side, b: Side, workload: str, load: str, metric: Metric, ours: CellDocument, theirs: CellDocument,
    unlike: list[str], tokenizer: tuple[State, str],
) -> Line | None:  # fmt: skip
    one, two = _figure(a, ours, metric.key), _figure(b, theirs, metric.key)
    if one is None and two is None:
        return None
    counts = [c.n if metric.least else c.runs for c in (ours, theirs)]
    line = Line(workload, load, metric.key, _value(one, counts[0]), _value(two, counts[1]))
    refused = ""
    if one is None or two is None:
        refused = f"only {'B' if one is None else 'A'} has it"
    elif unlike:
        refused = f"the workload is defined otherwise: {', '.join(unlike)}"
    elif a.case.defined_by != b.case.defined_by:
        refused = f"defined by {a.case.defined_by} against {b.case.defined_by}"
    elif metric.per_token and tokenizer[0] == "bad":
        refused = f"a token is not the same amount of text: {tokenizer[1]}"
    elif min(ours.n, theirs.n) < metric.least:
        refused = f"fewer than {metric.least} requests on a side"
    if refused or one is None or two is None:
        return replace(line, refused=refused)
    value, low, high, p = between(two.estimate, one.estimate, same_case=a.case.case == b.case.case)
    as_speed = THROUGHPUT if metric.key == COST else metric.key
    width = max(metric.region, *(c.regions.get(as_speed, 0.0) for c in (a.case, b.case)))
    kind = judge(metric.key, value, low, high, width)
    limited = "the client was the limit on a side" if ours.limited or theirs.limited else ""
    return replace(
        line, ratio=value, low=low, high=high, p=p, adjusted_p=p, region=width, kind=kind,
        withheld=_withheld(a, b) or limited,
    )  # fmt: skip


def _withheld(a: Side, b: Side) -> str:
    """Why no word is given on any difference of two sides."""
    if "simulated" in (a.case.grade, b.case.grade):
        return "simulated timings are no measurement"
    if not a.case.sound or not b.case.sound:
        return "a bundle has faults"
    return ""


def _corrected(lines: Sequence[Line]) -> list[Line]:
    adjusted: dict[str, float] = {}
    for metric in {line.metric for line in lines}:
        adjusted |= holm({f"{i}": x.p for i, x in enumerate(lines) if x.metric == metric and not math.isnan(x.p)})
    after = []
    for i, line in enumerate(lines):
        p = adjusted.get(f"{i}", line.p)
        unsure = line.kind in ("faster", "slower") and not p < _ALPHA
        after.append(replace(line, adjusted_p=p, kind="inconclusive" if unsure else line.kind))
    return after


def _singles(a: Side, b: Side) -> list[Line]:
    """What a server start has one number of: no interval, so no word."""
    found = []
    engines = [s.variant.fixed.get("Engine", {}).get("engine", "") for s in (a, b)]
    for metric, (_, own) in SINGLES.items():
        one, two = a.variant.singles.get(metric), b.variant.singles.get(metric)
        if one is None and two is None:
            continue
        nan = math.nan
        values = [None if x is None else (x, nan, nan, s.variant.starts) for x, s in ((one, a), (two, b))]
        refused = ""
        if one is None or two is None:
            refused = f"only {'B' if one is None else 'A'} has it"
        elif a.case.defined_by != b.case.defined_by:
            refused = f"defined by {a.case.defined_by} against {b.case.defined_by}"
        elif own and engines[0] != engines[1]:
            refused = f"each engine counts it its own way: {engines[0]} against {engines[1]}"
        elif metric == _OF_ONE_GPU and a.variant.gpus != b.variant.gpus:
            refused = f"stated of one GPU of a server, and they have {a.variant.gpus} and {b.variant.gpus}"
        change = two / one if one and two is not None and not refused else math.nan
        found.append(Line("", "", metric, values[0], values[1], ratio=change, refused=refused))
    return found


def _accuracy(a: Side, b: Side) -> list[Line]:
    counts = [(s.variant.right, s.variant.asked) for s in (a, b)]
    values, known = [], []
    for right, asked in counts:
        values.append((right / asked, *wilson(right, asked), asked) if right is not None and asked else None)
        known += [(right, asked)] if right is not None and asked else []
    if not known:
        return []
    line = Line("", "", ACCURACY, values[0], values[1], change="points")
    sets = [s.variant.fixed.get("Evaluation set", {}).get("prompts", "") for s in (a, b)]
    if len(known) < 2:
        return [replace(line, refused=f"only {'B' if values[0] is None else 'A'} has it")]
    if sets[0] != sets[1]:
        return [replace(line, refused=f"other questions: {sets[0]} against {sets[1]}")]
    at, low, high = newcombe(known[1], known[0])
    width = max(a.case.margin_pp, b.case.margin_pp)
    kind: Kind = "inconclusive"
    if -width <= low and high <= width:
        kind = "equivalent" if low <= 0 <= high else "negligible"
    elif low > width or high < -width:
        kind = "faster" if low > width else "slower"
    return [replace(line, ratio=at, low=low, high=high, region=width, kind=kind, withheld=_withheld(a, b))]
