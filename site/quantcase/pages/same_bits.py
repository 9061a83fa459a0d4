"""Formats of the same bits against each other, as a part of the experiment log's findings."""

from __future__ import annotations

from collections.abc import Collection

from quantcase.analysis.compare import Comparison
from quantcase.analysis.points import THROUGHPUT
from quantcase.analysis.same_bits import SHOWN, Pair, pairs
from quantcase.html import Column, change, delta, kind_words, none, table
from quantcase.pages.view import CaseView
from quantcase.signs import signed
from quantcase.text import fixed, load_words, number, said, signed_percent, text

__all__ = ["section"]

_NONE = (
    "No two formats of the same bits (and the same KV cache type) were measured, so none are set against each other."
)


def section(view: CaseView, out: Collection[str]) -> str:
    """Every pair with a table and a sentence; why there is none where there is none. `out`: takes no part."""
    found = pairs(view.case, view.estimates, out)
    if not found:
        return none(_NONE)
    why = (
        "Each pair directly, first against second, at every load point; not by way of the baseline. A difference "
        "counts after Holm&#39;s correction over all pairs and load points."
    )
    return "\n\n".join([why, *(_pair(view, d) for d in found)])


def _pair(view: CaseView, d: Pair) -> str:
    names = f"{text(d.first.variant)} against {text(d.second.variant)}"
    parts = [f"**{names}, {d.bits} bits.** {' '.join([_kernels(d), *_winners(view, d), _memory(d), _answers(d)])}"]
    rows = [
        [text(workload.name), said(at.words), *(delta(c) for c in shown), _repeats(shown)]
        for workload, at in view.case.points_of_load()
        if any(shown := [d.at(workload.name, at.name, m) for m in SHOWN])
    ]
    if rows:
        columns = [Column(n) for n in ("Workload", "Load", "Throughput", "E2E p50", "E2E p95")]
        caption = f"{names}: {text(d.first.variant)} is faster or slower, with the 95 % interval of the change."
        where = f"same-bits-{text(d.first.variant)}-{text(d.second.variant)}"
        parts.append(table(where, [*columns, Column("Repeats, both", True)], rows, caption))
    return "\n\n".join(parts)


def _repeats(shown: list[Comparison | None]) -> str:
    return next((", ".join(f"{n}" for n in c.runs) for c in shown if c), "–")


def _kernels(d: Pair) -> str:
    paths = [row.kernel_path for row in (d.first, d.second)]
    if None in paths:
        return "The kernel path of one of them is not known."
    first, second = (str(p).split(" for ")[0] for p in paths)
    if first == second:
        return f"Both run by {text(first)}."
    return f"Kernels: {text(first)} and {text(second)}."


def _winners(view: CaseView, d: Pair) -> list[str]:
    """Each workload at its highest load: who is faster, or that nobody is told to be."""
    said = []
    for workload in view.case.study.workloads:
        loads = view.case.loads(workload.name)
        if not loads:
            continue
        name, top = text(workload.title or workload.name), loads[-1].name
        if (workload.name, top) in d.limited:
            said.append(f"{name}: not compared at {load_words(top)}, where the client was the limit.")
            continue
        c = d.at(workload.name, top, THROUGHPUT)
        if c is not None:
            said.append(f"{name} at {load_words(top)}: {_verdict(d, c)}.")
    return said


def _verdict(d: Pair, c: Comparison) -> str:
    figures = f"throughput {change(c)} with {text(d.first.variant)}"
    if c.kind in ("faster", "slower"):
        best = d.first if c.kind == "faster" else d.second
        return f"{text(best.variant)} is faster, {figures}"
    if c.kind in ("equivalent", "negligible"):
        return f"no difference to act on, {figures}"
    return f"no winner ({kind_words(c)}): {figures}"


def _memory(d: Pair) -> str:
    if d.weights_ratio != d.weights_ratio:
        return "Their weights in memory are not both stated."
    sizes = f"{number(d.first.weights_gib)} and {number(d.second.weights_gib)} GiB"
    said = f"Weights: {sizes}, {signed_percent(d.weights_ratio)} with {text(d.first.variant)}"
    if d.kv_tokens_ratio == d.kv_tokens_ratio:
        said += f"; KV capacity {signed_percent(d.kv_tokens_ratio)}"
    return f"{said}."


def _answers(d: Pair) -> str:
    """Both asked the same: what only one of them got right, and the interval of the difference."""
    a = d.answers
    if a is None:
        return "Their answers were not judged."
    low, difference, high = (signed(f"{x:+.1f}".replace("-", "−")) for x in (a.low_pp, a.difference_pp, a.high_pp))
    first, second = text(d.first.variant), text(d.second.variant)
    return (
        f"Answers: of {fixed(a.n)} prompts only {first} got {fixed(a.gained)} right and only {second} {fixed(a.lost)}, "
        f"{difference} points ({low} to {high}, p {fixed(a.p_value, 3)})."
    )
