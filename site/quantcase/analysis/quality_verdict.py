"""From what the answers show to pass, caution or fail, by rules with numbers, each against what the control shows.

The thresholds are the field's where it has some (MLPerf's 99 % of the reference and its output length within 10 %,
llm-compressor's 95 %, llama.cpp's own table for perplexity, divergence and agreement); docs/methodology.md names the
source of each. The verdict of a variant is the worst of accuracy, answered, form, length and, where it is asked for,
long context. How alike the distributions are can turn a pass into a caution; a fail it makes only beside another
caution. What fails for the control fails for the set-up: then nothing is said of any variant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from quantcase.analysis.paired import Paired
from quantcase.analysis.quality import Quality
from quantcase.catalog import Case

__all__ = ["Check", "Grade", "QualityVerdict", "items_for_margin", "judge"]

Grade = Literal["pass", "caution", "fail", "unknown"]
_ORDER: dict[str, int] = {"pass": 0, "unknown": 1, "caution": 2, "fail": 3}
_RECOVERY_PASS, _RECOVERY_FAIL = 0.99, 0.95
_ALPHA = 0.05
_LENGTH_PASS, _LENGTH_CAUTION = 0.05, 0.10
_FORM_CAUTION_PP = 1.0
_FLIPS_PASS_PP, _FLIPS_CAUTION_PP = 2.0, 10.0
_PERPLEXITY = (0.01, 0.05)
_DIVERGENCE = (0.0075, 0.075)  # the full divergence's 0.01 and 0.10, times what 20 tokens catch of it
_AGREEMENT = (0.97, 0.90)
_LONG_PASS_PP, _LONG_FAIL_PP = 2.0, 5.0


@dataclass(frozen=True)
class Check:
    """One rule: what was seen, what it makes of it, and why. `decides` is false for measures of likeness."""

    rule: str
    grade: Grade
    seen: str
    because: str
    decides: bool = True


@dataclass(frozen=True)
class QualityVerdict:
    """The grade of one variant, the checks behind it, and what would change it."""

    variant: str
    grade: Grade
    because: str
    change: str
    checks: list[Check]


def judge(case: Case, found: Quality, control: Quality | None) -> QualityVerdict:
    """The verdict on one variant. `control` is the baseline against itself, where it was measured."""
    margin = min((s.margin_pp for s in case.study.quality), default=2.0)
    checks = _checks(case, found, control, margin)
    if control is not None and found.variant != case.baseline:
        broken = [c for c in _checks(case, control, None, margin) if c.decides and c.grade == "fail"]
        if broken:
            why = f"the baseline does not agree with itself ({broken[0].rule}: {broken[0].seen})"
            return QualityVerdict(found.variant, "unknown", f"not measurable on this set-up: {why}", "", checks)
    deciding = [c for c in checks if c.decides]
    if not deciding:
        return QualityVerdict(found.variant, "unknown", "nothing was asked that decides", "ask a scored suite", checks)
    worst = max(deciding, key=lambda c: _ORDER[c.grade])
    alike = [c for c in checks if not c.decides and c.grade in ("caution", "fail")]
    grade, cause = worst.grade, worst
    if alike:
        gravest = max(alike, key=lambda c: _ORDER[c.grade])
        if grade == "pass":
            grade, cause = "caution", gravest
        elif grade == "caution" and gravest.grade == "fail":
            grade, cause = "fail", gravest
    because = cause.because if grade != "pass" else _no_loss(found)
    return QualityVerdict(found.variant, grade, because, _change(found, margin, grade, cause), checks)


def _checks(case: Case, found: Quality, control: Quality | None, margin: float) -> list[Check]:
    checks = []
    if found.accuracy:
        checks.append(_accuracy(found.accuracy, margin))
    if found.form:
        checks += _form(found, control)
    if found.length:
        checks.append(_length(found.length.ratio, found.length.low, found.length.high))
    needs = _kv_quantized(case, found.variant)
    if found.long_context:
        checks.append(_long(found.long_context, needs))
    elif needs:
        said = "a quantized KV cache shows its losses in long contexts; no such prompt was asked"
        checks.append(Check("long context", "caution", "not asked", said))
    if found.accuracy:
        checks.append(_flips(found.accuracy, control))
    if found.fidelity:
        f = found.fidelity
        checks += [
            _likeness("perplexity", abs(f.ppl_ratio - 1), _PERPLEXITY, f"perplexity × {f.ppl_ratio:.4f}"),
            _likeness(
                "divergence", f.kld_topk_lower_bound, _DIVERGENCE,
                f"top-20 KL lower bound {f.kld_topk_lower_bound:.4f} nats",
            ),
            _likeness(
                "top-1 agreement", 1 - f.top1_agreement, (1 - _AGREEMENT[0], 1 - _AGREEMENT[1]),
                f"{100 * f.top1_agreement:.1f} % of tokens alike",
            ),
        ]  # fmt: skip
    return checks


def _accuracy(p: Paired, margin: float) -> Check:
    """Pass needs the whole interval above the margin and 99 % recovery; fail a loss that is surely beyond it."""
    recovery = p.recovery if p.recovery is not None else math.nan
    seen = f"{_points(p)}, recovery {100 * recovery:.1f} %"
    if p.baseline_right == 0:
        return Check("accuracy", "unknown", seen, "the baseline answered nothing right: nothing can be lost")
    if p.high_pp < -margin:
        return Check("accuracy", "fail", seen, f"accuracy falls by more than {margin:g} points: {seen}")
    if recovery < _RECOVERY_FAIL and p.p_value < _ALPHA:
        return Check("accuracy", "fail", seen, f"less than 95 % of the baseline's accuracy is left: {seen}")
    if p.low_pp > -margin and recovery >= _RECOVERY_PASS:
        return Check("accuracy", "pass", seen, "no loss beyond the margin")
    if p.low_pp > -margin:
        return Check("accuracy", "caution", seen, f"a small loss is likely: {seen}")
    if p.p_value < _ALPHA:
        return Check("accuracy", "caution", seen, f"a loss is seen, and may exceed {margin:g} points: {seen}")
    return Check("accuracy", "caution", seen, f"inconclusive: the interval reaches beyond {margin:g} points: {seen}")


def _points(p: Paired) -> str:
    """A difference of accuracy with its interval, `−4.2 points (−5.4 to −3.0)`, as the pages write it."""
    shown, low, high = (f"{x:+.1f}" for x in (p.difference_pp, p.low_pp, p.high_pp))
    bare = [x[1:] if x[1:] == "0.0" else x.replace("-", "−") for x in (shown, low, high)]  # nothing is +0.0
    return f"{bare[0]} points ({bare[1]} to {bare[2]})"


def _form(found: Quality, control: Quality | None) -> list[Check]:
    """More failed or degenerate answers than the baseline gave in its worse pass."""
    form = found.form
    if form is None:
        return []
    passes = [(form.failed[0], form.degenerate[0], form.n)]
    if control is not None and control.form is not None:
        passes.append((control.form.failed[1], control.form.degenerate[1], control.form.n))
    base_failed = max(100 * failed / n for failed, _, n in passes)
    base_odd = max(100 * odd / n for _, odd, n in passes)
    return [
        _excess("answered", "prompts without an answer", form.failed[1], form.n, base_failed),
        _excess("form", "empty, repeating or unreadable answers", form.degenerate[1], form.n, base_odd),
    ]


def _excess(rule: str, what: str, count: int, n: int, base_pct: float) -> Check:
    share = 100 * count / n
    above = share - base_pct
    seen = f"{count} of {n:,} {what}, baseline {base_pct:.1f} %"
    if count == 0:
        seen = f"0 of {n:,} {what} (at most {300 / n:.2g} % with 95 % confidence)"
    grade: Grade = "pass" if above <= 0 else "caution" if above <= _FORM_CAUTION_PP else "fail"
    return Check(rule, grade, seen, f"more {what} than the baseline: {seen}")


def _length(ratio: float, low: float, high: float) -> Check:
    seen = f"answers are {ratio:.3f} times as long ({low:.3f} to {high:.3f})"
    off = abs(ratio - 1)
    grade: Grade = "pass" if off <= _LENGTH_PASS else "caution" if off <= _LENGTH_CAUTION else "fail"
    return Check("length", grade, seen, seen)


def _long(p: Paired, needed: bool) -> Check:
    """Few prompts are a doubt only where the suite is needed: of other variants it is asked for good measure."""
    seen = f"{_points(p)} of {p.n:,} prompts"
    if p.difference_pp < -_LONG_FAIL_PP and p.p_value < _ALPHA:
        return Check("long context", "fail", seen, f"facts in long prompts are lost: {seen}")
    if needed and p.low_pp < -_LONG_FAIL_PP and p.lost == 0:
        return Check("long context", "caution", seen, f"too few long prompts to tell: {seen}")
    if p.difference_pp >= -_LONG_PASS_PP and p.high_pp >= 0:
        return Check("long context", "pass", seen, "no loss seen in long prompts")
    return Check("long context", "caution", seen, f"facts in long prompts may be lost: {seen}")


def _flips(p: Paired, control: Quality | None) -> Check:
    base = 100 * control.accuracy.flips_share if control and control.accuracy else 0.0
    share = 100 * p.flips_share
    seen = f"{share:.1f} % of answers flipped, {base:.1f} % in the control"
    above = share - base
    grade: Grade = "pass" if above <= _FLIPS_PASS_PP else "caution" if above <= _FLIPS_CAUTION_PP else "fail"
    return Check("flips", grade, seen, f"right and wrong changed places: {seen}", decides=False)


def _likeness(rule: str, off: float, limits: tuple[float, float], seen: str) -> Check:
    grade: Grade = "pass" if off <= limits[0] else "caution" if off <= limits[1] else "fail"
    return Check(rule, grade, seen, f"its distributions differ from the baseline's: {seen}", decides=False)


def _kv_quantized(case: Case, variant: str) -> bool:
    asked = [v for v in case.study.variants if v.name == variant]
    return bool(asked) and asked[0].kv_dtype not in ("auto", "f16", "bf16", "float16", "bfloat16", "f32")


def _no_loss(found: Quality) -> str:
    p = found.accuracy
    if p is None:
        return "no loss detected"
    return f"no loss detected; a loss of {p.mde_pp:.1f} points or more would have been found in 4 of 5 such runs"


def items_for_margin(flips_share: float, margin_pp: float) -> int:
    """Items for showing with 80 % power that no more than the margin is lost, where nothing is (one-sided 5 %)."""
    rho = max(flips_share, 0.005)
    return math.ceil((1.6449 + 0.8416) ** 2 * rho / (margin_pp / 100) ** 2)


def _change(found: Quality, margin: float, grade: Grade, cause: Check) -> str:
    """What would change the verdict."""
    p = found.accuracy
    if grade == "pass":
        return "a loss on your own prompts: name them as a suite"
    if cause.rule == "accuracy" and p is not None and grade == "caution":
        needed = items_for_margin(p.flips_share, margin)
        if needed > p.n:
            return (
                f"about {needed:,} items instead of {p.n:,} would tell whether the loss stays under {margin:g} points"
            )
        return f"a margin above {max(0.0, -p.low_pp):.1f} points, if you can accept it"
    if cause.rule == "long context" and cause.seen == "not asked":
        return 'the suite `kind = "long-context"`'
    if grade == "fail":
        return "a better method for the same bits (calibrated, smaller groups), or more bits"
    return "a look at the samples that differ, and your own prompts as a suite"
