"""Sentences by rule. Each states what the numbers carry and names its figures; no cause that was not measured."""

from __future__ import annotations

from quantcase.analysis.memory import Leader, lighter, lightest, roomier, roomiest
from quantcase.analysis.servers import mixed
from quantcase.analysis.verdict import Verdict
from quantcase.html import change, kind_words
from quantcase.pages.servers import gib
from quantcase.pages.view import CaseView
from quantcase.text import load_words, number, percent, said, signed_percent, text

__all__ = ["gainers", "headline", "key_finding", "leaders", "verdict_sentence", "vram_finding"]


def headline(view: CaseView) -> str:
    """The answer in one or two sentences."""
    case, found = view.case, view.answer
    if found.rule == "unsound":
        return "No answer: the bundle has faults."
    if found.rule == "simulated":
        return "No answer: this is a demonstration on replayed timings."
    if found.rule == "published":
        return "No answer of ours: these are published figures, shown as their source gives them."
    if found.rule == "no-baseline":
        return "No answer yet: the baseline was not measured."
    if found.rule == "not-compared":
        return f"No answer yet: nothing was measured beside the baseline. {_memory_gain(view)}".strip()
    if found.rule == "quality-fail":
        failed = ", ".join(text(v.variant) for v in view.quality_verdicts.values() if v.grade == "fail")
        return f"No: the variants that are faster lose quality ({failed}). {_memory_gain(view)}".strip()
    if found.rule == "client-limited":
        return "No answer: at the highest load the client was the limit, not the server. Measure on a quieter machine."
    if found.rule == "kernel":
        return "No answer: what is faster runs by a kernel path that is not known or a fallback."
    if not found.best:
        none_faster = "at the highest load no variant is faster than the baseline beyond the noise"
        gain = _memory_gain(view)
        return f"Not for speed: {none_faster}. {gain}" if gain else f"No: {none_faster}."
    gains = "; ".join(
        f"{text(c.workload)}: {leaders(view, c.workload)} {change(c)} throughput at {load_words(c.load)}"
        for c in found.best.values()
    )
    if case.bundle.info.weights == "dummy":
        return f"Speed says yes, quality is not measured. {gains}."
    if found.kind == "recommend":
        return f"Yes: faster, and no loss of quality was detected. {gains}."
    if found.rule == "quality-caution":
        return f"Yes, with care: faster, but its quality is not beyond doubt. {gains}."
    return f"Yes, if its quality holds: measure that before it ships. {gains}."


def _memory_gain(view: CaseView) -> str:
    """What is won in memory alone by variants in whose answers no loss was detected; empty where nothing is."""
    judged = view.quality_verdicts
    unproven = [m.row.variant for m in view.memory if m.row.variant not in judged]
    unproven += [v.variant for v in judged.values() if v.grade != "pass"]
    parts = []
    if least := lightest(view.memory, unproven):
        parts.append(f"{percent(1 - least.ratio)} less for the weights with {gainers(least)}")
    if most := roomiest(view.memory, unproven):
        parts.append(f"{percent(most.ratio - 1)} more contexts with {gainers(most)}")
    return f"For memory: {' and '.join(parts)}, with no loss of quality detected." if parts else ""


def gainers(leader: Leader) -> str:
    """The variant that gains most memory, with those that are as good."""
    name = text(leader.memory.row.variant)
    return f"{name} (as good: {', '.join(text(t) for t in leader.tied)})" if leader.tied else name


def leaders(view: CaseView, workload: str) -> str:
    """The fastest variant, with those that it cannot be told from."""
    best, tied = view.answer.best[workload], view.answer.tied[workload]
    words = text(best.variant)
    return f"{words} (no winner over {', '.join(text(t) for t in tied)})" if tied else words


def key_finding(view: CaseView, workload: str) -> str:
    """What one workload showed, at its highest and its lowest load."""
    mine = [c for c in view.claims if c.workload == workload and c.metric == "throughput_tok_s"]
    if not mine:
        return "Only the baseline was measured, so there is nothing to compare."
    sentences = []
    loads = [load.name for load in view.case.loads(workload)]
    for load in dict.fromkeys((loads[-1], loads[0])):
        at = [c for c in mine if c.load == load]
        better = sorted((c for c in at if c.kind == "faster"), key=lambda c: -c.ratio)
        worse = [c for c in at if c.kind == "slower"]
        same = [c for c in at if c.kind in ("equivalent", "negligible")]
        open_ = [c for c in at if c.kind == "inconclusive"]
        parts = []
        if better:
            names = ", ".join(f"{text(c.variant)} {change(c)}" for c in better)
            parts.append(f"faster than the baseline: {names}")
        if worse:
            parts.append("slower: " + ", ".join(f"{text(c.variant)} {change(c)}" for c in worse))
        if same:
            parts.append("no difference to act on: " + ", ".join(f"{text(c.variant)} {change(c)}" for c in same))
        if open_:
            names = ", ".join(f"{text(c.variant)} {change(c)}: {kind_words(c)}" for c in open_)
            parts.append(f"not decided: {names}")
        sentences.append(f"At {load_words(load)}, {'; '.join(parts)}.")
    if len(better := [c for c in mine if c.load == loads[-1] and c.kind == "faster"]) > 1:
        first, second = sorted(better, key=lambda c: -c.ratio)[:2]
        if second.high >= first.low:
            sentences.append(
                f"The intervals of {text(first.variant)} and {text(second.variant)} overlap: between these two no "
                "winner is named."
            )
    return " ".join(sentences)


def vram_finding(view: CaseView) -> str:
    """What quantizing frees, and what the freed memory becomes."""
    others = [m for m in view.memory if m.row.variant != view.case.baseline]
    if not others:
        return ""
    sentences = []
    if least := view.lightest:
        sentences.append(
            f"The lightest weights are those of {gainers(least)}: {gib(least.memory.row)}, "
            f"{signed_percent(least.ratio)} against the baseline."
        )
    if most := view.roomiest:
        sentences.append(
            f"The most room for contexts has {gainers(most)}: {number(most.memory.row.kv_cache_tokens, 6)} tokens "
            f"of KV cache, {signed_percent(most.ratio)}."
        )
    lost = [text(m.row.variant) for m in others if view.failed(m.row.variant) and (lighter(m) or roomier(m))]
    if lost:
        whose = "its" if len(lost) == 1 else "their"
        sentences.append(f"What {' and '.join(lost)} would save is not counted: {whose} answers lose quality.")
    alike = not mixed(view.case)  # a server over more GPUs takes more of them
    if alike and any(m.row.engine == "vllm" for m in view.memory) and all(m.row.vram_loaded_mib for m in view.memory):
        sentences.append(
            "The driver shows nearly the same memory in use for every variant, because vLLM reserves its share of the "
            "card and gives what the weights leave to the KV cache: compare the parts, not the total."
        )
    return " ".join(sentences)


def verdict_sentence(verdict: Verdict) -> str:
    """One recommendation with its rule."""
    figures = ""
    if c := verdict.evidence:
        figures = f" ({change(c)} throughput at {load_words(c.load)})"
    return f"{said(verdict.because)}{figures}"
