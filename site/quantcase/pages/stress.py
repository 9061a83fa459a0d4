"""Under stress: how far each variant was pushed, what gave first, and what was said of it."""

from __future__ import annotations

from collector.bundle.stress import StressRow
from quantcase.analysis.stress import Bracket, amount, stressed
from quantcase.html import Column, none, table
from quantcase.pages.view import CaseView
from quantcase.text import fixed, number, text

__all__ = ["section"]

_LADDERS = {"context": "prompt length", "concurrency": "requests in flight"}
_UNITS = {"context": "tokens", "concurrency": "in flight"}
_VERDICTS = {
    "good": ("ok", "✓ good"),
    "missed_budget": ("look", "! over its latency limit"),
    "preempted": ("look", "! preempted requests"),
    "timeouts": ("look", "✗ timed out"),
    "refused": ("look", "✗ refused"),
    "died": ("look", "✗ the server died"),
}
_AFTER = {
    "answers": "it answered again",
    "silent": "it did not answer any more",
    "gone": "the server was gone",
    "": "–",
}


def section(view: CaseView) -> str:
    """The stress of a case: last good point, what gave and the words of it, every step; or why there is none."""
    seen = stressed(view.case)
    if seen.unreadable:
        return none(f"The stress of this run cannot be read: {text(seen.unreadable)}.")
    if not seen.brackets:
        return none(
            "This run was not stressed, so where its variants break is not known. "
            "<code>collect run --stress</code> pushes each until it does."
        )
    parts = [_how(seen.brackets), _summary(view, seen.brackets)]
    if seen.missing:
        names = [text(name) + (f" ({_LADDERS[ladder]})" if ladder else "") for name, ladder in seen.missing]
        parts.append(none(f"Not stressed: {', '.join(names)}."))
    parts.append(f"<details><summary>Every step</summary>{_steps(seen.brackets)}</details>")
    return "\n\n".join(parts)


def _how(brackets: list[Bracket]) -> str:
    """What was done, in the figures of the rows."""
    ladders = []
    for ladder in dict.fromkeys(b.ladder for b in brackets):
        first = next(b.steps[0] for b in brackets if b.ladder == ladder)
        held = (
            f"with {first.concurrency} in flight"
            if ladder == "context"
            else f"with prompts of about {fixed(first.input_tokens)} tokens"
        )
        up = f"from {fixed(amount(first))} up"
        ladders.append(f"{_LADDERS[ladder]} {up}, {held} and {first.output_tokens} tokens out")
    return (
        f"After everything else was measured, load was raised on the running server until something gave: "
        f"{'; '.join(ladders)}. A ladder ends at its first bad step. Each step was run once, so two steps bracket a "
        "limit and do not measure it."
    )


def _summary(view: CaseView, brackets: list[Bracket]) -> str:
    rows = []
    for b in brackets:
        base = b.variant == view.case.baseline
        bad = b.first_bad
        rows.append(
            [
                text(b.variant) + (" <small>baseline</small>" if base else ""),
                _LADDERS[b.ladder],
                _point(b.last_good) if b.last_good else "none",
                _point(bad) if bad else "none up to there",
                _verdict(bad) if bad else "did not break",
                f'<span class="qc-evidence">{text(bad.words)}</span>' if bad and bad.words else "–",
                _AFTER[bad.after] if bad else "–",
                "–" if base else _ahead(b.ahead),
            ]
        )
    columns = [
        Column("Variant"), Column("What was raised"), Column("Last good", True), Column("First bad", True),
        Column("What gave"), Column("What was said or seen"), Column("Afterwards"), Column("Against the baseline"),
    ]  # fmt: skip
    return table("stress", columns, rows)


def _point(row: StressRow) -> str:
    return f"{fixed(amount(row))} {_UNITS[row.ladder]}"


def _verdict(row: StressRow) -> str:
    state, words = _VERDICTS[row.verdict]
    return f'<span class="qc-check" data-state="{state}">{words}</span>'


def _ahead(steps: int | None) -> str:
    if steps is None:
        return "not comparable"
    if steps == 0:
        return "held the same step"
    plural = "" if abs(steps) == 1 else "s"
    return f"{abs(steps)} step{plural} {'further' if steps > 0 else 'less far'}"


def _steps(brackets: list[Bracket]) -> str:
    rows = [
        [
            text(r.variant),
            _LADDERS[r.ladder],
            fixed(r.concurrency),
            fixed(r.input_tokens),
            f"{fixed(r.ok)} of {fixed(r.n)}",
            fixed(r.errors),
            fixed(r.timeouts),
            number(r.throughput_tok_s, 4),
            number(r.ttft_ms_p95),
            number(r.tpot_ms_p95),
            "–" if r.preemptions is None else fixed(r.preemptions),
            "–" if r.kv_usage_max is None else fixed(100 * r.kv_usage_max),
            _verdict(r),
        ]
        for b in brackets
        for r in b.steps
    ]
    names = [
        ("Variant", False), ("Raised", False), ("In flight", True), ("Prompt (tokens, about)", True), ("Ok", True),
        ("Errors", True), ("Timeouts", True), ("Throughput (tok/s)", True), ("TTFT p95 (ms)", True),
        ("TPOT p95 (ms)", True), ("Preemptions", True), ("KV cache, peak (%)", True), ("Result", False),
    ]  # fmt: skip
    caption = (
        "Percentiles are of the requests that ended well; with so few they are close to the slowest one. A dash: "
        "nothing ended well, or the engine keeps no such counter."
    )
    return table("stress-steps", [Column(n, f) for n, f in names], rows, caption)
