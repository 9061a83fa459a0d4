"""From measured facts to a recommendation, by named rules. No winner inside the noise, no verdict without evidence.

Gates, the first that fails wins: the bundle is sound, it was measured, the variant served, its quantization was
applied by a known kernel that is not a fallback, the difference is beyond the region of equivalence. Quality is a gate
too: a variant that fails it is to be avoided however fast it is, one that passes is recommended where it is faster, and
until it is measured the most that can be said is `caution`; with dummy weights nothing is said about shipping.

A variant on another number of GPUs than the baseline is judged by its throughput per GPU, which is like for like, and
the words say so. One that holds the server's throughput on fewer GPUs is a reason to quantize (`fewer-gpus`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from quantcase.analysis.co_location import together
from quantcase.analysis.compare import PER_GPU, Comparison, holds
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

    @property
    def withheld(self) -> bool:
        """Whether no verdict is given on any variant of the case, whatever the figures are."""
        return self.rule in ("unsound", "simulated", "published", "no-baseline")


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
        beside = together(case)
        if beside.cells and not beside.allowed and variant in case.measured_variants():
            return Verdict(variant, workload, "none", "co-located", _BESIDE)
        return Verdict(variant, workload, "none", "not-measured", "not measured yet")
    top = max(mine, key=lambda c: c.amount)
    limited = limited_loads(case)
    if {(variant, workload, top.load), (case.baseline, workload, top.load)} & limited:
        return Verdict(variant, workload, "none", "client-limited", "the client was the limit at the highest load", top)
    if row.method != "none" and row.kernel_class in ("fallback", "unknown"):
        return Verdict(variant, workload, "caution", "kernel", f"its kernel path is {row.kernel_class}", top)
    server, top = top, _like_for_like(found, top)
    if server is not top and not _quantized(case, variant):
        return Verdict(variant, workload, "none", "unquantized", f"not quantized: the same on {_gpus(server)}")
    of = "" if server is top else f" per GPU ({_against(top)})"
    if top.kind == "slower":
        if server.gpus[0] > server.gpus[1]:
            words = f"less throughput{of}: what the further GPUs buy is latency, if anything"
            return Verdict(variant, workload, "caution", "more-gpus", words, top)
        return Verdict(variant, workload, "avoid", "slower", f"slower than the baseline at the highest load{of}", top)
    if top.kind != "faster":
        reason = {
            "equivalent": "as fast as the baseline",
            "negligible": "a difference too small to act on",
            "inconclusive": f"the difference is inside the noise{_more(top)}",
        }[top.kind]
        return Verdict(variant, workload, "none", "no-gain", reason + of, top)
    gain, passed = f"faster{of}", "faster-quality-pass"
    if server.gpus[0] < server.gpus[1]:
        held = holds(server.metric, server.low, server.high, server.rope)
        gain = f"more throughput{of}, {_HELD if held and server.kind == 'inconclusive' else _SERVER[server.kind]}"
        passed = "fewer-gpus-quality-pass" if held else passed
    if case.bundle.info.weights == "dummy":
        return Verdict(
            variant, workload, "none", "quality-unknown", f"{gain}, but dummy weights say nothing of quality", top
        )
    if judged is None:
        return Verdict(
            variant, workload, "caution", "quality-not-measured", f"{gain}; measure its quality before it ships", top
        )
    if judged.grade == "pass":
        return Verdict(variant, workload, "recommend", passed, f"{gain}, and {judged.because}", top)
    rule = "quality-caution" if judged.grade == "caution" else "quality-not-measurable"
    return Verdict(variant, workload, "caution", rule, f"{gain}, but {judged.because}", top)


_BESIDE = "measured beside other servers where the baseline was not, or the other way round, which may not count here"
_HELD = "and no less in all beyond the region of equivalence"
_SERVER = {
    "faster": "and more in all",
    "equivalent": "and as much in all",
    "negligible": "and as much in all but for a difference too small to act on",
    "slower": "and less in all",
    "inconclusive": "and in all a difference inside the noise",
}


def _quantized(case: Case, variant: str) -> bool:
    """Whether a variant differs from the baseline in its weights or in its KV cache."""
    mine, base = case.study.variant(variant), case.study.variant(case.baseline)
    return mine.method != "none" or mine.kv_dtype != base.kv_dtype


def _gpus(c: Comparison) -> str:
    return f"{c.gpus[0]} GPU{'s' if c.gpus[0] > 1 else ''} instead of {c.gpus[1]}"


def _like_for_like(found: Iterable[Comparison], top: Comparison) -> Comparison:
    """The comparison itself, or per GPU where the two servers differ in GPUs."""
    if top.gpus[0] == top.gpus[1]:
        return top
    key = (top.variant, top.workload, top.load, PER_GPU)
    return next(c for c in found if (c.variant, c.workload, c.load, c.metric) == key)


def _against(c: Comparison) -> str:
    return f"{c.gpus[0]} GPU{'s' if c.gpus[0] > 1 else ''} against {c.gpus[1]}"


def _at_highest_load(found: Iterable[Comparison]) -> list[Comparison]:
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
    return f": about {c.more_repeats} more repeat{'s' if c.more_repeats != 1 else ''} would decide it"


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
        if not _at_highest_load(c for c in found if c.variant != case.study.control):  # silence is not "no gain"
            return Answer("none", "not-compared", {}, {})
        failed = {v.variant for v in every if v.rule == "quality-fail"}
        if any(c.variant in failed and c.kind == "faster" for c in _at_highest_load(found)):
            return Answer("avoid", "quality-fail", {}, {})
        held = {v.rule for v in every if v.evidence is not None and v.evidence.kind == "faster"}
        if held & {"client-limited", "kernel"}:  # something is faster, and not to be believed: that is not "no gain"
            return Answer("none", "client-limited" if "client-limited" in held else "kernel", {}, {})
        return Answer("none", "no-gain", {}, {})
    if case.bundle.info.weights == "dummy":
        return Answer("none", "quality-unknown", best, tied)
    grades = {(v.variant, v.workload): v.rule for v in every if v.evidence is not None}
    rules = {grades[c.variant, workload] for workload, c in best.items()}
    if rules <= {"faster-quality-pass", "fewer-gpus-quality-pass"}:
        return Answer("recommend", "faster-quality-pass", best, tied)
    if "quality-not-measured" in rules:
        return Answer("caution", "quality-not-measured", best, tied)
    return Answer("caution", "quality-caution", best, tied)
