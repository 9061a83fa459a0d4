"""What was predicted of one variant, held against what was measured; and the few figures that only the notes need.

A prediction is a statement about the whole range that was measured. Of TTFT and p95 it holds when the comparison says
so at the lowest and at the highest load, fails when either says otherwise, and cannot be told where one is undecided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from collector.bundle.predictions import Predictions
from collector.bundle.read import QualityItem, QualityRow
from quantcase.analysis.compare import Comparison
from quantcase.analysis.memory import Memory, memory
from quantcase.analysis.points import THROUGHPUT
from quantcase.analysis.quality import Quality, Task
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = [
    "WITHIN_POINTS", "Driver", "Judgement", "Question", "Sanity", "driver", "gains_more", "is_late",
    "judge_predictions", "lost_tasks", "range_of", "sanity", "workload_of",
]  # fmt: skip

Question = Literal["vram", "ttft", "load", "p95", "quality"]
Match = Literal["match", "miss", "unknown", "skipped"]

WITHIN_POINTS = 5.0  # of the weights' reduction, in percentage points: a guess that near is a match
_WORD = {
    "ttft_ms_p50": {"faster": "improves", "slower": "worse", "equivalent": "same", "negligible": "same"},
    "e2e_ms_p95": {"faster": "improves", "slower": "degrades", "equivalent": "similar", "negligible": "similar"},
}
_NOTHING = re.compile(r"\W*(none|no|nothing|nowhere|never|not any)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """One question: what was said, what was seen, and whether the two agree. `why` says what stands in the way."""

    question: Question
    predicted: str | float | None
    match: Match
    why: str = ""
    seen: str = ""  # the reality in one of the question's own words, where there is one
    reduction_pct: float | None = None  # vram
    evidence: tuple[Comparison, ...] = ()  # lowest load, highest load
    lost: tuple[str, ...] = ()  # quality: tasks that lost answers
    named: tuple[str, ...] = ()  # quality: tasks that the prediction names


@dataclass(frozen=True)
class Driver:
    """The driver's view of one variant, MiB, and its ratios to the baseline's (nan where either was not read)."""

    memory: Memory
    loaded_ratio: float
    peak_ratio: float


@dataclass(frozen=True)
class Sanity:
    """One prompt of the sanity suite: right, wrong or without a score (None) by variant, and what each missed."""

    item: QualityItem
    right: dict[str, bool | None] = field(default_factory=dict)  # variant -> answer
    missed: dict[str, str] = field(default_factory=dict)


def driver(case: Case) -> list[Driver]:
    """One entry per variant that served, the baseline first."""
    found = memory(case)
    base = next((m.row for m in found if m.row.variant == case.baseline), None)
    return [
        Driver(
            m,
            _ratio(m.row.vram_loaded_mib, base.vram_loaded_mib if base else None),
            _ratio(m.row.vram_peak_mib, base.vram_peak_mib if base else None),
        )
        for m in found
    ]


def _ratio(ours: float | None, theirs: float | None) -> float:
    return ours / theirs if ours is not None and theirs else math.nan


def workload_of(case: Case) -> str | None:
    """The workload that predictions are judged by: the first that was measured at several loads, else the first."""
    measured = [w.name for w in case.study.workloads if case.loads(w.name)]
    return next((w for w in measured if len(case.loads(w)) > 1), measured[0] if measured else None)


def range_of(claims: Sequence[Comparison], variant: str, workload: str, metric: str) -> tuple[Comparison, ...]:
    """The comparisons of a variant at the lowest and the highest load; one where only one load was measured."""
    mine = [c for c in claims if (c.variant, c.workload, c.metric) == (variant, workload, metric)]
    mine.sort(key=lambda c: c.amount)
    return (mine[0], mine[-1]) if len(mine) > 1 else tuple(mine)


def gains_more(a: Comparison, b: Comparison) -> Literal["first", "second"] | None:
    """Which of two throughput ratios is the higher; None where their intervals meet or are not known."""
    if any(math.isnan(x) for x in (a.low, a.high, b.low, b.high)):
        return None
    return "first" if a.low > b.high else "second" if b.low > a.high else None


def is_late(case: Case, predictions: Predictions) -> bool:
    """Whether predictions were written after measuring began: by their own word, or by the first request's time."""
    started = case.requests["started_s"]
    if predictions.late or started.empty:
        return predictions.late
    return (predictions.written() - case.bundle.created()).total_seconds() > float(started.min())


def sanity(case: Case) -> list[Sanity]:
    """The sanity suite prompt by prompt, the first pass of every variant; empty where it was not asked."""
    suites = {s.title for s in case.study.quality if s.kind == "sanity"}
    passes = {v: rows for (v, number), rows in case.answers.items() if number == 1}
    found = []
    for item in case.quality_items.values():
        rows = {v: r for v, answers in passes.items() if (r := answers.get(item.prompt_id))}
        if item.suite in suites and rows:
            missed = {v: words for v, r in rows.items() if (words := _missed(r))}
            found.append(Sanity(item, {v: _right(r) for v, r in rows.items()}, missed))
    return found


def _right(row: QualityRow) -> bool | None:
    """As accuracy counts: without an answer is wrong, from one half on is right; None where nothing was scored."""
    if row.status != "ok":
        return False
    return None if row.score is None else row.score >= 0.5


def _missed(row: QualityRow) -> str:
    """Why an answer is not right, by the scorer's own word."""
    if row.status != "ok":
        return f"no answer ({row.status})"
    if _right(row) is not False:
        return row.problem
    said = (row.parsed or "").removeprefix("missed: ")
    return "; ".join(x for x in (said or "wrong", row.problem) if x)


def lost_tasks(found: Quality) -> list[str]:
    """Tasks that lost more right answers than they gained, beyond chance (McNemar, 5 % after Holm over all tasks)."""
    lost = [t.task for t in found.tasks if t.lost_beyond_chance]
    return list(dict.fromkeys(lost))


def judge_predictions(
    case: Case,
    predictions: Predictions,
    claims: Sequence[Comparison],
    qualities: Sequence[Quality],
    verdicts: Mapping[str, QualityVerdict],
) -> list[Judgement]:
    """The five questions in the seed's order."""
    said = predictions.answers
    why = _withheld(case, said.variant)
    workload = workload_of(case)
    asked = next((q for q in qualities if q.variant == said.variant), None)
    verdict = verdicts.get(said.variant)
    found = [
        _vram(case, said.variant, said.vram_reduction_pct),
        _latency(case, claims, said.variant, workload, "ttft", said.ttft),
        _load(case, claims, said.variant, workload, said.helps_more_at),
        _latency(case, claims, said.variant, workload, "p95", said.p95_latency),
        _quality(said.quality_failures, asked, verdict),
    ]
    if why:
        found = [Judgement(j.question, j.predicted, "unknown", why) for j in found]
    skipped = (None, "")  # the reality stays: it is worth a look all the same
    return [replace(j, predicted=None, match="skipped") if j.predicted in skipped else j for j in found]


def _withheld(case: Case, variant: str) -> str:
    """Why nothing can be held against the predictions at all; empty when it can."""
    if not case.sound:
        return "the bundle has faults"
    if case.bundle.info.grade == "simulated":
        return "these are replayed timings, no measurement"
    if variant not in [v.name for v in case.study.variants] or variant == case.baseline:
        return f"the study has no variant {variant} beside the baseline"
    row = case.served(variant)
    if row is None:
        return f"{variant} did not serve" if case.starts(variant) else f"{variant} was not measured"
    return "the quantization that was asked for was not applied" if row.kernel_class == "not_applied" else ""


def _vram(case: Case, variant: str, said: float | None) -> Judgement:
    ratio = next((m.weights_ratio for m in memory(case) if m.row.variant == variant), math.nan)
    if math.isnan(ratio):
        return Judgement("vram", said, "unknown", "the engine states the weights of one side only, or of none")
    reduction = 100 * (1 - ratio)
    near = said is not None and abs(said - reduction) <= WITHIN_POINTS
    return Judgement("vram", said, "match" if near else "miss", reduction_pct=reduction)


def _ends(
    case: Case, claims: Sequence[Comparison], variant: str, workload: str | None, metric: str
) -> tuple[tuple[Comparison, ...], str]:
    """The comparisons at both ends of the load, and what keeps them from saying anything."""
    ends = range_of(claims, variant, workload or "", metric)
    if not ends:
        few = " with enough requests for this percentile" if metric != THROUGHPUT else ""
        return (), f"no load point was measured on both sides{few}"
    limited = limited_loads(case)
    held = [c for c in ends if {(variant, c.workload, c.load), (case.baseline, c.workload, c.load)} & limited]
    return ends, "the client was the limit at one of these loads" if held else ""


def _latency(
    case: Case, claims: Sequence[Comparison], variant: str, workload: str | None, question: Question, said: str | None
) -> Judgement:
    metric = "ttft_ms_p50" if question == "ttft" else "e2e_ms_p95"
    ends, why = _ends(case, claims, variant, workload, metric)
    if why:
        return Judgement(question, said, "unknown", why, evidence=ends)
    words = [_WORD[metric].get(c.kind, "") for c in ends]
    seen = words[0] if len(set(words)) == 1 else ""
    if any(word and word != said for word in words):
        return Judgement(question, said, "miss", seen=seen, evidence=ends)
    if all(words):
        return Judgement(question, said, "match", seen=seen, evidence=ends)
    return Judgement(question, said, "unknown", "a difference is inside the noise", evidence=ends)


def _load(case: Case, claims: Sequence[Comparison], variant: str, workload: str | None, said: str | None) -> Judgement:
    ends, why = _ends(case, claims, variant, workload, THROUGHPUT)
    if not why and len(ends) < 2:
        why = "only one load point was measured"
    if why:
        return Judgement("load", said, "unknown", why, evidence=ends)
    more = gains_more(*ends)
    if more is None:
        known = not any(math.isnan(c.low) for c in ends)
        why = "the intervals at the two loads overlap" if known else "one run has no interval"
        return Judgement("load", said, "unknown", why, evidence=ends)
    seen = "low" if more == "first" else "high"
    return Judgement("load", said, "match" if seen == said else "miss", seen=seen, evidence=ends)


def _quality(said: str, found: Quality | None, verdict: QualityVerdict | None) -> Judgement:
    """Free text against the tasks that lost answers, by the words of their names."""
    if found is None or not found.tasks:
        return Judgement("quality", said, "unknown", "quality was not measured")
    lost, some = lost_tasks(found), [t.task for t in found.tasks if t.paired.lost > t.paired.gained]
    grade = verdict.grade if verdict else "unknown"
    unsure = "no single task lost answers beyond chance, and a loss is not ruled out"
    if _NOTHING.match(said):
        if lost or grade == "fail":
            return Judgement("quality", said, "miss", lost=tuple(lost))
        if grade != "pass":
            return Judgement("quality", said, "unknown", unsure)
        return Judgement("quality", said, "match")
    named = _named(said, found.tasks)
    match: Match = "match" if set(named) & set(lost) else "miss"
    why = ""
    if not named:
        match, why = "unknown", "the prediction names none of the tasks that were asked"
    elif not lost and (grade != "pass" or set(named) & set(some)):
        match, why = "unknown", unsure if grade != "pass" else "what these tasks lost may be chance"
    return Judgement("quality", said, match, why, lost=tuple(lost), named=tuple(named))


def _named(said: str, tasks: Iterable[Task]) -> list[str]:
    """Tasks of which the text holds a word: `summaries` and `summarization` share their first five letters."""
    stems = _stems(said)
    names = {t.task: f"{t.task} {t.suite if 'context' in t.suite else ''}" for t in tasks}
    return [task for task, words in names.items() if stems & _stems(words)]


def _stems(words: str) -> set[str]:
    return {w[:5] for w in re.findall(r"[a-z]{3,}", words.casefold())}
