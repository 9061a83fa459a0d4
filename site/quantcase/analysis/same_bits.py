"""Formats of the same bits against each other: AWQ against GPTQ, FP8 against INT8, not each with the baseline.

Two ratios to one baseline do not say which of the two is faster: their errors share the baseline's. So each pair gets a
ratio of its own, from the estimates by levels (`hierarchy`) that every other comparison of the case is made of, judged
by the same regions of equivalence, with Holm's correction (1979) over all pairs and load points of a metric. Answers
are paired item by item in the same way (`paired`).

A pair: two variants that served, of two methods, of the same nominal bits of the weights and the same KV cache type.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from collector.bundle.schema import VariantRow
from quantcase.analysis.compare import Comparison, judge, regions
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.memory import stated
from quantcase.analysis.paired import Paired, holm, paired
from quantcase.analysis.points import LEAST, METRICS, THROUGHPUT, Key
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = ["SHOWN", "Pair", "nominal_bits", "pairs"]

SHOWN = (THROUGHPUT, "e2e_ms_p50", "e2e_ms_p95")
_ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """`first` against `second`; every comparison is first / second, as `Comparison` is variant / baseline.

    `limited`: (workload, load) at which the client was the limit of either, so that nothing is compared there.
    `answers`: first against second over the items that both were asked, `lost` being those that only `second` got
    right; None where nothing with one right answer was asked.
    """

    first: VariantRow
    second: VariantRow
    bits: int
    comparisons: list[Comparison]
    limited: list[tuple[str, str]]
    answers: Paired | None

    def at(self, workload: str, load: str, metric: str) -> Comparison | None:
        """One comparison; None where either side lacks it."""
        key = (workload, load, metric)
        return next((c for c in self.comparisons if (c.workload, c.load, c.metric) == key), None)

    @property
    def weights_ratio(self) -> float:
        """Weights in memory, first / second; nan where the engine does not state both."""
        a, b = self.first.weights_gib, self.second.weights_gib
        return a / b if a is not None and b else math.nan

    @property
    def kv_tokens_ratio(self) -> float:
        """KV capacity, first / second; nan where the engine does not state both."""
        a, b = self.first.kv_cache_tokens, self.second.kv_cache_tokens
        return a / b if a is not None and b else math.nan


def nominal_bits(row: VariantRow) -> int | None:
    """The bits a format is called by: those in the name of a GGUF type (Q4_K_M is 4, whatever its scales add), else the
    whole part of the bits per weight; None where nothing states them.
    """
    named = re.search(r":(?:IQ|Q|TQ)(\d)", row.method.upper())
    if named:
        return int(named[1])
    return None if row.bits is None else math.floor(row.bits)


def pairs(case: Case, known: Mapping[Key, Mapping[str, Estimate]], out: Collection[str]) -> list[Pair]:
    """Every pair of the same bits on servers of as many GPUs, most bits last, in the study's order.

    Args:
        out: variants that take no part.
    """
    measured = set(case.measured_variants())
    names = [v.name for v in case.study.variants if v.method != "none" and v.name in measured and v.name not in out]
    rows = [row for name in names if (row := stated(case, name)) is not None]
    found = [
        _pair(case, known, a, b, bits)
        for a, b in itertools.combinations(rows, 2)
        if a.method != b.method and a.kv_dtype == b.kv_dtype and (a.gpus or 1) == (b.gpus or 1)
        if (bits := nominal_bits(a)) is not None and bits == nominal_bits(b)
    ]
    return sorted(_corrected(found), key=lambda d: d.bits)


def _pair(case: Case, known: Mapping[Key, Mapping[str, Estimate]], a: VariantRow, b: VariantRow, bits: int) -> Pair:
    widths, limited = regions(case, known), limited_loads(case)
    made, skipped = [], []
    for workload, at in case.points_of_load():
        if {(v.variant, workload.name, at.name) for v in (a, b)} & limited:
            skipped.append((workload.name, at.name))
            continue
        for metric in SHOWN:
            arms = known.get((workload.name, at.name, metric), {})
            if a.variant not in arms or b.variant not in arms:
                continue
            counts = [case.ok_counts.get((v.variant, workload.name, at.name), 0) for v in (a, b)]
            if metric in METRICS and min(counts) < LEAST[METRICS[metric][1]]:
                continue
            value, low, high, p = ratio(arms[a.variant], arms[b.variant])
            runs = (_runs(case, a.variant, workload.name, at.name), _runs(case, b.variant, workload.name, at.name))
            kind, rope = judge(metric, value, low, high, widths[metric]), widths[metric]
            key = (a.variant, workload.name, at.name, at.amount, metric)
            made.append(Comparison(*key, value, low, high, runs, kind, p, p, rope))
    return Pair(a, b, bits, made, skipped, _answers(case, a.variant, b.variant))


def _runs(case: Case, variant: str, workload: str, load: str) -> int:
    cells = case.cells
    return int(((cells["variant"] == variant) & (cells["workload"] == workload) & (cells["load"] == load)).sum())


def _corrected(found: list[Pair]) -> list[Pair]:
    """A difference counts when its p stays below 0.05 after Holm over all pairs and load points of its metric."""
    adjusted: dict[str, float] = {}
    for metric in SHOWN:
        adjusted |= holm({
            f"{i}/{c.workload}/{c.load}/{metric}": c.p
            for i, d in enumerate(found) for c in d.comparisons if c.metric == metric and not math.isnan(c.p)
        })  # fmt: skip
    after = []
    for i, d in enumerate(found):
        mine = []
        for c in d.comparisons:
            p = adjusted.get(f"{i}/{c.workload}/{c.load}/{c.metric}", c.p)
            unsure = c.kind in ("faster", "slower") and not p < _ALPHA
            mine.append(replace(c, adjusted_p=p, kind="inconclusive" if unsure else c.kind))
        after.append(replace(d, comparisons=mine))
    return after


def _answers(case: Case, first: str, second: str) -> Paired | None:
    """First against second, item by item: those that have one right answer, what has no answer being wrong."""
    mine, theirs = case.answers.get((first, 1), {}), case.answers.get((second, 1), {})
    left_out = {s.title for s in case.study.quality if s.kind in ("long-context", "likelihood")}
    items = [
        item
        for key in sorted(mine.keys() & theirs.keys() & case.quality_items.keys())
        if (item := case.quality_items[key]).scorer and item.suite not in left_out
    ]
    if not items:
        return None
    documents = [i.document or i.prompt_id for i in items]
    right = [
        [float(r.status == "ok" and r.score is not None and r.score >= 0.5) for i in items if (r := side[i.prompt_id])]
        for side in (theirs, mine)
    ]
    return paired(right[0], right[1], documents if len(set(documents)) < len(documents) else None)
