"""What I learned: a draft for the customer who asks whether to quantize, made of this case's own figures.

Every sentence carries a fact of the case, and every figure of it stands elsewhere on the case page. The author's own
words replace it as soon as there are any.
"""

from __future__ import annotations

import re

from quantcase.analysis.compare import Comparison
from quantcase.analysis.loadtest import load_tests
from quantcase.analysis.memory import roomier
from quantcase.analysis.points import THROUGHPUT, pick
from quantcase.analysis.stress import stressed
from quantcase.html import change, kind_words
from quantcase.pages import cost, quality
from quantcase.pages.findings import headline
from quantcase.pages.predictions import own_words
from quantcase.pages.servers import gib, of_each
from quantcase.pages.trust import repeats
from quantcase.pages.view import CaseView
from quantcase.text import counted, fixed, load_words, number, signed_percent, text

__all__ = ["MOST_WORDS", "draft", "section"]

MOST_WORDS = 300
_OWN = '<div class="qc-own">'  # what own_words gives where something is written
_MOST_WORKLOADS = 2  # further ones stand in the tables
_MOST_VARIANTS = 3
_GRADES = {
    "pass": "no loss was found",
    "caution": "a loss cannot be ruled out",
    "fail": "a loss was found",
    "unknown": "nothing can be said",
}
_PLACES = {
    "setup": "The set-up", "chat": "Chat", "risk": "Quality risk", "batch": "Batch against chat",
    "before": "Before: what I expected", "after": "After: what I saw", "wrong": "What I got wrong and why",
}  # fmt: skip


def section(view: CaseView) -> str:
    """The author's own paragraphs under that heading, else the draft; then what else the author wrote in notes.md."""
    words = {k: w for k, w in own_words(view.case.bundle.notes()).items() if w.startswith(_OWN)}
    parts = [words.pop("learned", "") or draft(view)]
    if words:
        parts.append("### In the author&#39;s words")
        parts += [f"<p><strong>{_PLACES[place]}</strong></p>{said}" for place, said in words.items()]
    return "\n\n".join(parts)


def draft(view: CaseView) -> str:
    """Four paragraphs: answer and load; memory and cost; answers and sureness; what is open.

    It keeps to `MOST_WORDS`: what a reader misses least goes first, the study's own next step, then how small a loss
    of quality would be seen, then the lightest load and the tail, the last workload before the first.
    """
    if view.answer.withheld or view.answer.rule == "not-compared":
        return headline(view)
    judged, loads = _quality(view), _loads(view)
    paragraphs = [
        [headline(view), *loads],
        [*_memory(view), *_cost(view)],
        [*judged, _sure(view)],
        [_missing(view), _next(view), _named(view)],
    ]
    for spare in (_named(view), *judged[1:], *reversed(loads)):
        if _words(paragraphs) <= MOST_WORDS:
            break
        paragraphs = [[s for s in sentences if s != spare] for sentences in paragraphs]
    return "\n\n".join(" ".join(s for s in sentences if s) for sentences in paragraphs)


def _words(paragraphs: list[list[str]]) -> int:
    return sum(len(re.sub(r"<[^>]+>", " ", s).split()) for sentences in paragraphs for s in sentences)


def _tops(view: CaseView) -> list[Comparison]:
    """For each workload the variant to speak of, at the highest load: the leader, else the one of the highest ratio."""
    found = []
    for w in view.case.study.workloads:
        loads = view.case.loads(w.name)
        mine = [
            c for c in view.claims if loads and (c.workload, c.load, c.metric) == (w.name, loads[-1].name, THROUGHPUT)
        ]
        if c := view.answer.best.get(w.name) or max(mine, key=lambda c: c.ratio, default=None):
            found.append(c)
    return found[:_MOST_WORKLOADS]


def _loads(view: CaseView) -> list[str]:
    """What each workload's leader does at the lightest load and to the tail; what was highest where nobody leads."""
    said = []
    for top in _tops(view):
        name, variant, where = text(top.workload), text(top.variant), load_words(top.load)
        if top.workload not in view.answer.best:
            limited = {(v, top.workload, top.load) for v in (top.variant, view.case.baseline)} & view.trust.limited
            why = "; the client was at its limit" if limited else ""
            said.append(
                f"The highest figure of {name} was {variant}, {change(top)} throughput at {where} "
                f"({kind_words(top)}{why})."
            )
            continue
        first = view.case.loads(top.workload)[0].name
        light = view.comparison(top.variant, top.workload, first, THROUGHPUT)
        tail = view.comparison(top.variant, top.workload, top.load, "e2e_ms_p95")
        changes = []
        if light and first != top.load:
            changes.append(f"throughput at {load_words(first)} changes by {change(light)}{_kind(light)}")
        if tail:
            verb = "" if changes else "changes "
            changes.append(f"p95 E2E latency at {where} {verb}by {change(tail)}{_kind(tail)}")
        if changes:
            said.append(f"With {variant}, {name} {', its '.join(changes)}.")
    return said


def _kind(c: Comparison) -> str:
    """The class of a change, where its sign does not tell it."""
    return "" if c.kind in ("faster", "slower") else f" ({kind_words(c)})"


def _memory(view: CaseView) -> list[str]:
    """What quantizing frees, and how many more contexts that holds."""
    base = next((m.row for m in view.memory if m.row.variant == view.case.baseline), None)
    least = view.lightest
    if base is None or least is None:
        lost = " that keeps its quality" if any(view.failed(m.row.variant) for m in view.memory) else ""
        return [f"No variant{lost} has lighter weights than the baseline, so no memory is freed."]
    m = least.memory
    said = [
        f"The weights of {text(m.row.variant)} take {gib(m.row)} instead of "
        f"{gib(base)} ({signed_percent(least.ratio)})."
    ]
    if m.kv_tokens_ratio != m.kv_tokens_ratio:
        said.append("What the freed memory holds is not stated by the engine.")
    elif roomier(m):
        said.append(
            f"The engine gives that to the KV cache, {number(m.row.kv_cache_tokens, 7)} tokens instead of "
            f"{number(base.kv_cache_tokens, 7)}: {signed_percent(m.kv_tokens_ratio)} contexts of the same length."
        )
    else:
        said.append(
            f"Its KV cache holds {number(m.row.kv_cache_tokens, 7)} tokens and the baseline&#39;s "
            f"{number(base.kv_cache_tokens, 7)}: no more contexts fit as served."
        )
    return said


def _cost(view: CaseView) -> list[str]:
    """USD per million output tokens of each workload's leader against the baseline, where there is a price."""
    if view.usd_per_hour is None:
        return ["No price is known for this machine, so nothing is said of money."]
    money, said = view.money, []
    for top in _tops(view):
        if top.workload not in view.answer.best:
            continue
        mine, base = (
            pick(view.points, v, top.workload, top.load, "usd_per_1m_output_tokens")
            for v in (top.variant, view.case.baseline)
        )
        if mine and base:
            said.append(
                f"{money.span(mine.value, mine.low, mine.high)} {money.sign} instead of "
                f"{money.span(base.value, base.low, base.high)} {money.sign} for {text(top.workload)} with "
                f"{text(top.variant)}, a saving of {cost.saving_cell(top)}"
            )
    if not said:
        return ["No saving in money is shown, because no gain in throughput is."]
    hour = f"at {number(view.usd_per_hour)} {money.hourly} an hour{of_each(view)} and a card always in use"
    return [f"A million output tokens cost, {hour}, {'; '.join(said)}."]


def _quality(view: CaseView) -> list[str]:
    """What is risked in the answers: the change of accuracy with its interval, variant by variant."""
    judged = [(q.variant, q.accuracy) for q in view.quality if q.accuracy and q.variant in view.quality_verdicts]
    if not judged:
        why = (
            "the weights are dummies, which answer nothing"
            if view.case.bundle.info.weights == "dummy"
            else "no answers were collected that a verdict could be made of"
        )
        return [f"What is risked in the answers is not known: {why}.", "So this case clears no format for use."]
    said = []
    for variant, a in judged[:_MOST_VARIANTS]:
        low, change_, high = (quality.points(x) for x in (a.low_pp, a.difference_pp, a.high_pp))
        grade = _GRADES[view.quality_verdicts[variant].grade]
        said.append(f"{text(variant)} {change_} points ({low} to {high}; {grade})")
    first = judged[0][1]
    return [
        f"Of {fixed(first.n)} questions the baseline got {fixed(first.baseline_right)} right; against it "
        f"{', '.join(said)}.",
        f"For {text(judged[0][0])}, a loss of {fixed(first.mde_pp, 1)} points or more would be found in 4 of 5 such "
        "runs.",
    ]


def _sure(view: CaseView) -> str:
    """How much was measured, and what was seen that casts doubt on it."""
    case = view.case
    starts = sum(v.exit_state == "ok" for v in case.variants)
    said = (
        f"Behind this stand {repeats(view)} of each load point, "
        f"{counted(starts, 'server start')} and {counted(len(case.requests), 'request')}"
    )
    if view.trust.control is None:
        said += "; no second baseline (A/A) was timed, so the noise of the set-up itself is not known"
    same = view.quality_control
    if same is not None and same.accuracy is not None and same.other_starts:
        flips, n = same.accuracy.lost + same.accuracy.gained, same.accuracy.n
        said += f". Asked again after another start, the baseline itself changed {fixed(flips)} of {fixed(n)} answers"
    return f"{said}."


def _missing(view: CaseView) -> str:
    """What this case cannot answer because nobody measured it."""
    case = view.case
    gaps = []
    if not any(w.schedule != "closed" for w in case.study.workloads):
        gaps.append("requests that arrive by the clock (open loop)")
    if not load_tests(case)[0]:
        gaps.append("a load test with users")
    if not stressed(case).brackets:
        gaps.append("where the server breaks")
    longest = max((w.input_tokens for w in case.study.workloads), default=0)
    gaps.append(f"prompts longer than about {fixed(longest)} tokens")
    return f"Not measured: {', '.join(gaps)}, other GPUs, other versions of the engine."


def _next(view: CaseView) -> str:
    """The next step by rule, then the study's own first one."""
    rule = view.answer.rule
    if rule == "client-limited":
        step = "measure again from a quieter machine, or with more client processes"
    elif not view.quality_verdicts:
        step = "ask these variants, with real weights, the questions of your own work before any of them ships"
    elif view.answer.kind == "recommend":
        step = "ship it to a part of the traffic, with the rollback condition of the plan page"
    elif rule == "no-gain":
        step = "stay with the baseline, and look again when the load or the hardware changes"
    else:
        step = "ask more questions of the kind that your work asks, until the doubt about the answers is gone"
    return f"Next: {step}."


def _named(view: CaseView) -> str:
    """The study's own first next step."""
    own = view.case.study.next_steps[:1]
    return f"The study names: {text(re.sub(r'[.]$', '', own[0]))}." if own else ""
