"""Cells that were measured beside other servers on the box: what the page says of them, and the trial behind it."""

from __future__ import annotations

from collections.abc import Sequence

from collector.bundle.co_location import cell_words
from quantcase.analysis.co_location import PassedOver, Together, trials
from quantcase.html import Column, table
from quantcase.text import counted, fixed, load_words, number, percent, said, span, text

__all__ = ["lighter", "rows", "section", "short"]

_WHAT = "Servers side by side on other GPUs of the box"
_NAMES = {
    "throughput_tok_s": "Throughput (tok/s)", "ttft_ms_p50": "TTFT p50 (ms)", "tpot_ms_p50": "TPOT p50 (ms)",
}  # fmt: skip


def short(found: Together) -> str:
    """For the first screen; empty where every cell was measured alone."""
    if not found.cells:
        return ""
    which = f"{fixed(found.cells)} of {counted(found.of, 'cell repeat')} co-located: measured beside other servers"
    return f"{which}, {_may(found)}"


def _may(found: Together) -> str:
    if found.allowed:
        return "and a trial allows them to be compared with cells alone"
    return "so they are compared with each other only"


def lighter(found: Sequence[PassedOver]) -> list[str]:
    """Where a verdict rests on a lighter load than the heaviest that was measured: a sentence each."""
    told = []
    for p in found:
        heavier, names = " and ".join(map(load_words, p.loads)), " and ".join(map(text, p.variants))
        told.append(
            f"{text(p.workload)}: the verdict on {names} rests on {load_words(p.instead)}; {heavier} "
            f"{'does' if len(p.loads) == 1 else 'do'} not count, measured beside other servers on one side alone."
        )
    return told


def rows(found: Together) -> list[tuple[str, str, str]]:
    """The checks of the trust panel: what, seen, state; none where every cell was measured alone."""
    if not found.cells:
        return []
    if found.problem:
        words = f"the trial cannot be read: {text(found.problem)}"
    elif found.calibration is None:
        words = "no trial says whether that makes a difference"
    else:
        t = trials(found.calibration)[0]
        words = f"trial: throughput together is {span(t.ratio, t.low, t.high)} of that alone"
    seen = f"{fixed(found.cells)} of {counted(found.of, 'cell repeat')}; {words}, {_may(found)}"
    return [(_WHAT, seen, "ok" if found.allowed and not found.both else "look")]


def section(found: Together) -> list[str]:
    """The trial with its figures, for the methodology; empty without one."""
    c = found.calibration
    if c is None:
        return []
    body = [
        [
            _NAMES.get(t.metric, text(t.metric)), number(t.alone), number(t.together), span(t.ratio, t.low, t.high),
            "–" if t.region is None else f"± {percent(t.region, 0)}",
        ]
        for t in trials(c)
    ]  # fmt: skip
    names = ["Figure", "Alone", "Together", "Together / alone", "Region of equivalence"]
    places = f" {counted(c.places, 'server')} side by side." if c.places else ""
    answer = "allowed to count" if c.allowed else "not allowed to count"
    why = f" ({said(c.reason)})" if c.reason else ""
    told = (
        f"One cell, {text(cell_words(c))}, was measured alone and again beside other servers before the run.{places} "
        f"Servers side by side are **{answer}**{why}: {_may(found)}."
    )
    shown = table("co-location", [Column(n, i > 0) for i, n in enumerate(names)], body)
    return ["### Servers side by side", told, shown]
