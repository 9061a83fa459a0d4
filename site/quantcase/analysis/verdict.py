"""From measured facts to a recommendation, by named rules. No winner inside the noise, no verdict without evidence.

Gates, the first that fails wins: the bundle is sound, it was measured, the variant served, its quantization was
applied by a known kernel that is not a fallback, the difference is beyond the region of equivalence. Quality is a gate
too: a variant that fails it is to be avoided however fast it is, one that passes is recommended where it is faster, and
until it is measured the most that can be said is `caution`; with dummy weights nothing is said about shipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quantcase.analysis.compare import Comparison
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = ["Answer", "Verdict", "answer", "verdicts"]

Kind = Literal["recommend", "caution", "avoid", "none"]


@dataclass(frozen=True)
class Verdict:
    """One variant for one workload: the class, the rule that decided, and the comparison behind it."""

    variant: str
    workload: str
    kind: Kind
    rule: str
    because: str
    evidence: Comparison | None = None


@dataclass(frozen=True)
class Answer:
    """The first thing a reader sees: may we quantize, what is gained, how sure."""

    kind: Kind
    rule: str
    best: dict[str, Comparison]  # per workload, the variant that gains most throughput at the highest load, if any does
    tied: dict[str, list[str]]  # per workload, variants whose interval overlaps the best one's: no winner among these


def _withheld(case: Case) -> tuple[str, str] | None:
    """(rule, reason) why no verdict is given on this case at all."""
    info = case.bundle.info
    if not case.sound:
        return "unsound", "the bundle has faults: see its data page"
    if info.grade == "simulated":
        return "simulated", "these are replayed timings, no measurement"
    if info.grade == "published" and case.cells.empty:
        return "published", "somebody else's figures, without the rows behind them"
    if not case.measured_variants() or case.baseline not in case.measured_variants():
        return "no-baseline", "the baseline was not measured"
    return None


def verdicts(case: Case, found: list[Comparison], judged: Mapping[str, QualityVerdict]) -> list[Verdict]:
    """Every variant but the baseline for every workload, judged at the workload's highest measured load."""
    others = [v.name for v in case.study.variants if v.name not in (case.baseline, case.study.control)]
    return [_one(case, variant, w.name, found, judged.get(variant)) for variant in others for w in case.study.workloads]


def _one(case: Case, variant: str, workload: str, found: list[Comparison], judged: QualityVerdict | None) -> Verdict:
    withheld = _withheld(case)
    if withheld:
        return Verdict(variant, workload, "none", *withheld)
    row = case.served(variant)
    if row is None:
        states = case.starts(variant)
        if not states:
            return Verdict(variant, workload, "none", "not-measured", "not measured yet")
        return Verdict(
            variant, workload, "avoid", "does-not-serve", f"the engine did not come up ({states[-1].exit_state})"
        )
    if row.kernel_class == "not_applied":
        return Verdict(variant, workload, "avoid", "not-applied", "the quantization that was asked for was not applied")
    if judged is not None and judged.grade == "fail":
        return Verdict(variant, workload, "avoid", "quality-fail", judged.because)
    mine = [c for c in found if (c.variant, c.workload, c.metric) == (variant, workload, "throughput_tok_s")]
    if not mine:
        return Verdict(variant, workload, "none", "not-measured", "not measured yet")
    top = max(mine, key=lambda c: c.amount)
    limited = limited_loads(case)
    if {(variant, workload, top.load), (case.baseline, workload, top.load)} & limited:
        return Verdict(variant, workload, "none", "client-limited", "the client was the limit at the highest load", top)
    if row.method != "none" and row.kernel_class in ("fallback", "unknown"):
        return Verdict(variant, workload, "caution", "kernel", f"its kernel path is {row.kernel_class}", top)
    if top.kind == "slower":
        return Verdict(variant, workload, "avoid", "slower", "slower than the baseline at the highest load", top)
    if top.kind != "faster":
        reason = {
            "equivalent": "as fast as the baseline",
            "negligible": "a difference too small to act on",
            "inconclusive": f"the difference is inside the noise{_more(top)}",
        }[top.kind]
        return Verdict(variant, workload, "none", "no-gain", reason, top)
    if case.bundle.info.weights == "dummy":
        return Verdict(
            variant, workload, "none", "quality-unknown", "faster, but dummy weights say nothing of quality", top
        )
    if judged is None:
        return Verdict(
            variant, workload, "caution", "quality-not-measured", "faster; measure its quality before it ships", top
        )
    if judged.grade == "pass":
        return Verdict(variant, workload, "recommend", "faster-quality-pass", f"faster, and {judged.because}", top)
    rule = "quality-caution" if judged.grade == "caution" else "quality-not-measurable"
    return Verdict(variant, workload, "caution", rule, f"faster, but {judged.because}", top)


def _at_highest_load(found: list[Comparison]) -> list[Comparison]:
    """Throughput of each variant and workload at the highest load that was measured."""
    top: dict[tuple[str, str], Comparison] = {}
    for c in found:
        key = (c.variant, c.workload)
        if c.metric == "throughput_tok_s" and (key not in top or c.amount > top[key].amount):
            top[key] = c
    return list(top.values())


def _more(c: Comparison) -> str:
    if c.more_repeats is None:
        return ": more repeats are needed"
    return f": about {c.more_repeats} more repeats would decide it"


def answer(case: Case, found: list[Comparison], judged: Mapping[str, QualityVerdict]) -> Answer:
    """The case in one answer."""
    withheld = _withheld(case)
    if withheld:
        return Answer("none", withheld[0], {}, {})
    faster: dict[str, list[Comparison]] = {}
    every = verdicts(case, found, judged)
    for verdict in every:
        c = verdict.evidence
        if c is not None and c.kind == "faster" and verdict.rule not in ("kernel", "client-limited"):
            faster.setdefault(verdict.workload, []).append(c)
    best = {workload: max(gains, key=lambda c: c.ratio) for workload, gains in faster.items()}
    tied = {
        workload: [c.variant for c in faster[workload] if c is not top and c.high >= top.low]
        for workload, top in best.items()
    }
    if not best:
        failed = {v.variant for v in every if v.rule == "quality-fail"}
        if any(c.variant in failed and c.kind == "faster" for c in _at_highest_load(found)):
            return Answer("avoid", "quality-fail", {}, {})
        held = {v.rule for v in every if v.evidence is not None and v.evidence.kind == "faster"}
        if held & {"client-limited", "kernel"}:  # something is faster, and not to be believed: that is not "no gain"
            return Answer("none", "client-limited" if "client-limited" in held else "kernel", {}, {})
        return Answer("none", "no-gain", {}, {})
    if case.bundle.info.weights == "dummy":
        return Answer("none", "quality-unknown", best, tied)
    grades = {v.variant: v.rule for v in every if v.evidence is not None}
    rules = {grades[c.variant] for c in best.values()}
    if rules == {"faster-quality-pass"}:
        return Answer("recommend", "faster-quality-pass", best, tied)
    if "quality-not-measured" in rules:
        return Answer("caution", "quality-not-measured", best, tied)
    return Answer("caution", "quality-caution", best, tied)
