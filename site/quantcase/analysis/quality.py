"""What the answers show: every variant paired with the baseline, prompt by prompt, and the baseline with itself.

A prompt without an answer (error, timeout, refusal) counts as wrong: n is what was asked. Accuracy is read over all
suites that have one right answer, together, because that is the one endpoint named before the run; single tasks are
read after it, with Holm's correction. Nothing here is a verdict: `quality_verdict` makes one of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sacrebleu.metrics.chrf import CHRF

from collector.bundle.read import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.redaction import TAKEN_OUT
from quantcase.analysis.likelihood import Fidelity, Text, fidelity
from quantcase.analysis.paired import (
    Paired,
    Ratio,
    first_difference,
    holm,
    macro_f1,
    mean_ratio,
    median_divergence,
    paired,
)
from quantcase.catalog import Case

__all__ = ["Divergence", "Form", "Quality", "Task", "control", "label_of", "qualities", "quality_of"]

_FORM_PROBLEMS = ("empty", "repeated", "invalid")
_SOFT = 5
_ALPHA = 0.05


@dataclass(frozen=True)
class Task:
    """One task of one suite. `adjusted_p` is after Holm over all tasks of the variant."""

    suite: str
    task: str
    paired: Paired
    adjusted_p: float
    macro_f1: tuple[float, float] | None = None  # baseline, variant: classification only

    @property
    def lost_beyond_chance(self) -> bool:
        """More answers lost than gained, and p under 5 % after the correction."""
        return self.adjusted_p < _ALPHA and self.paired.lost > self.paired.gained


@dataclass(frozen=True)
class Form:
    """How answers look: without an answer, empty, repeating, of no readable form. Counts out of n, both sides."""

    n: int
    failed: tuple[int, int]  # baseline, variant
    degenerate: tuple[int, int]
    kinds: dict[str, tuple[int, int]]
    cut: tuple[int, int]  # ended by their length limit


@dataclass(frozen=True)
class Divergence:
    """Where greedy answers part from the baseline's, in tokens; an equal answer says only "not before its end"."""

    n: int
    identical: int
    median_token: float | None
    soft: int  # parted where each side's token was among the other's five likeliest
    compared: int  # parted where both sides' candidates are known


@dataclass(frozen=True)
class Quality:
    """One variant against the baseline's first pass. Parts that were not asked, or not answered, are None."""

    variant: str
    accuracy: Paired | None
    tasks: list[Task] = field(default_factory=list)
    long_context: Paired | None = None
    form: Form | None = None
    length: Ratio | None = None
    fidelity: Fidelity | None = None
    unscored: str = ""  # why there is no fidelity although it was asked
    divergence: Divergence | None = None
    similarity_chrf: float | None = None  # 0 to 100, mean over the long answers; information, never a rule
    other_starts: bool = True  # of the control: both passes were of different server starts


def qualities(case: Case) -> list[Quality]:
    """All variants beside the baseline that were asked, in the study's order."""
    names = [v.name for v in case.study.variants if v.name != case.baseline]
    return [q for n in names if (q := quality_of(case, n, 1)) is not None]


def control(case: Case) -> Quality | None:
    """The baseline against itself (A/A): its second pass, of another server start, against its first."""
    return quality_of(case, case.baseline, 2)


def quality_of(case: Case, variant: str, number: int) -> Quality | None:
    """One pass of a variant against the baseline's first; None when either side has no answers at all."""
    base, mine = case.answers.get((case.baseline, 1), {}), case.answers.get((variant, number), {})
    base_likely, mine_likely = (
        case.likelihoods.get((case.baseline, 1), {}), case.likelihoods.get((variant, number), {}),
    )  # fmt: skip
    if not (base and mine) and not (base_likely and mine_likely):
        return None
    kinds = {s.title: s.kind for s in case.study.quality}
    both = sorted(base.keys() & mine.keys() & case.quality_items.keys())
    items = [case.quality_items[key] for key in both]
    scored = [i for i in items if i.scorer and kinds.get(i.suite) not in ("long-context", "likelihood")]
    long = [i for i in items if i.scorer and kinds.get(i.suite) == "long-context"]
    fidelity_found, why = _fidelity(case.quality_items, base_likely, mine_likely)
    starts = {r.start for r in base.values()} & {r.start for r in mine.values()}
    return Quality(
        variant=variant,
        accuracy=_paired(scored, base, mine),
        tasks=_tasks([*scored, *long], base, mine),
        long_context=_paired(long, base, mine),
        form=_form(both, base, mine),
        length=_length(both, base, mine),
        fidelity=fidelity_found,
        unscored=why,
        divergence=_divergence(both, base, mine),
        similarity_chrf=_similarity(
            [k for k in both if kinds.get(case.quality_items[k].suite) == "sanity"], base, mine
        ),
        other_starts=number == 1 or (not starts and case.study.engine.name != "endpoint"),  # that server lives on
    )


def _score(row: QualityRow) -> float:
    """Right or not; what has no answer is wrong. A graded score counts as right from one half on."""
    return float(row.status == "ok" and row.score is not None and row.score >= 0.5)


def _paired(items: Sequence[QualityItem], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> Paired | None:
    if not items:
        return None
    documents = [i.document or i.prompt_id for i in items]
    return paired(
        [_score(base[i.prompt_id]) for i in items],
        [_score(mine[i.prompt_id]) for i in items],
        documents if len(set(documents)) < len(documents) else None,
    )


def _tasks(items: Sequence[QualityItem], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> list[Task]:
    groups: dict[tuple[str, str], list[QualityItem]] = {}
    for item in items:
        groups.setdefault((item.suite, item.task), []).append(item)
    found = {key: result for key, group in groups.items() if (result := _paired(group, base, mine)) is not None}
    adjusted = holm({"/".join(key): r.p_value for key, r in found.items()})
    made = []
    for (suite, task), result in found.items():
        group = groups[(suite, task)]
        f1 = None
        if group[0].scorer == "label":
            gold = [label_of(i.reference) for i in group]
            f1 = (
                macro_f1(gold, [base[i.prompt_id].parsed for i in group]),
                macro_f1(gold, [mine[i.prompt_id].parsed for i in group]),
            )
        made.append(Task(suite, task, result, adjusted["/".join((suite, task))], f1))
    return made


def label_of(reference: str | None) -> str:
    """A label in the one spelling that the scorer reads answers in."""
    return "_".join((reference or "").casefold().replace("-", " ").replace("_", " ").split())


def _form(keys: Iterable[str], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> Form | None:
    pairs = [(base[k], mine[k]) for k in keys]
    if not pairs:
        return None
    kinds = [Counter(r.problem for r in side if r.status == "ok") for side in zip(*pairs, strict=True)]

    def count(problem: str) -> tuple[int, int]:
        return kinds[0][problem], kinds[1][problem]

    by_kind = {p: count(p) for p in _FORM_PROBLEMS}
    return Form(
        n=len(pairs),
        failed=(sum(a.status != "ok" for a, _ in pairs), sum(b.status != "ok" for _, b in pairs)),
        degenerate=(sum(a for a, _ in by_kind.values()), sum(b for _, b in by_kind.values())),
        kinds=by_kind,
        cut=(sum(a.finish_reason == "length" for a, _ in pairs), sum(b.finish_reason == "length" for _, b in pairs)),
    )


def _length(keys: Iterable[str], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> Ratio | None:
    """How much longer answers are, by the server's own token counts."""
    pairs = [
        (float(a), float(b))
        for k in keys
        if (a := base[k].output_tokens) is not None and (b := mine[k].output_tokens) is not None
    ]
    if not pairs or not sum(a for a, _ in pairs):
        return None
    return mean_ratio([a for a, _ in pairs], [b for _, b in pairs])


def _divergence(keys: Iterable[str], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> Divergence | None:
    positions: list[int] = []
    censored: list[bool] = []
    soft = compared = 0
    for key in keys:
        a, b = base[key], mine[key]
        if not a.tokens or not b.tokens:
            continue
        at = first_difference(a.tokens, b.tokens)
        positions.append(len(a.tokens) if at is None else at)
        censored.append(at is None)
        if at is not None and a.top and b.top and at < min(len(a.tokens), len(b.tokens), len(a.top), len(b.top)):
            compared += 1
            soft += a.tokens[at] in b.top[at][:_SOFT] and b.tokens[at] in a.top[at][:_SOFT]
    if not positions:
        return None
    return Divergence(len(positions), sum(censored), median_divergence(positions, censored), soft, compared)


def _similarity(keys: Iterable[str], base: dict[str, QualityRow], mine: dict[str, QualityRow]) -> float | None:
    """Mean chrF of the answers against the baseline's (Popovic 2015, as sacrebleu computes it)."""
    metric = CHRF()
    pairs = [(a, b) for k in keys if (a := base[k].output) and (b := mine[k].output)]
    if not pairs or any(a.startswith(TAKEN_OUT) for a, _ in pairs):
        return None  # marks stand where the texts were
    return math.fsum(metric.sentence_score(b, [a]).score for a, b in pairs) / len(pairs)


def _fidelity(
    items: dict[str, QualityItem], base: dict[str, LikelihoodRow], mine: dict[str, LikelihoodRow]
) -> tuple[Fidelity | None, str]:
    """Teacher-forced figures over the texts that both sides scored, or why there are none."""
    texts = []
    for key in sorted(base.keys() & mine.keys() & items.keys()):
        p, q, item = base[key], mine[key], items[key]
        if p.status == q.status == "ok" and len(p.logprobs) == len(q.logprobs) == len(item.token_ids or []) - 1:
            texts.append(
                Text(
                    document=item.document or key, domain=item.task, logprobs_p=p.logprobs, logprobs_q=q.logprobs,
                    top_p=p.top, top_q=q.top, tokens=item.token_ids or [],
                )
            )  # fmt: skip
    if texts:
        return fidelity(texts), ""
    failed = [r.error or r.status for r in [*base.values(), *mine.values()] if r.status != "ok"]
    return None, failed[0] if failed else ""
