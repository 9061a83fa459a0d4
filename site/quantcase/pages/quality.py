"""Quality: on the case page in short, and a page of its own with every rule, every task and every answer."""

from __future__ import annotations

from quantcase.analysis.paired import Paired, confusion
from quantcase.analysis.quality import Task, label_of
from quantcase.analysis.quality_verdict import Check, QualityVerdict
from quantcase.html import Column, none, table
from quantcase.pages import figures, samples
from quantcase.pages.view import CaseView, render
from quantcase.signs import signed
from quantcase.text import fixed, number, percent, plain, said, text

__all__ = ["grade_badge", "page", "points", "points_words", "section", "sentence"]

_WORDS = {"pass": "✓ pass", "caution": "! caution", "fail": "✗ fail", "unknown": "– not measurable"}
_MOST_CONFUSIONS = 10
_MARKS = ("good", "minor", "bad")


def grade_badge(grade: str) -> str:
    """Pass, caution or fail as word, shape and colour."""
    return f'<span class="qc-verdict" data-verdict="{_colour(grade)}">{_WORDS[grade]}</span>'


def _colour(grade: str) -> str:
    return {"pass": "recommend", "caution": "caution", "fail": "avoid", "unknown": "none"}[grade]


def sentence(view: CaseView) -> str:
    """Quality in one sentence for the first screen; why there is none where there is none."""
    case = view.case
    if not view.quality:
        if case.bundle.info.weights == "dummy":
            return "Quality is not measured: these are dummy weights, which answer nothing."
        if case.bundle.info.grade == "simulated":
            return "Quality is not measured: a replay has timings and no answers."
        if case.bundle.info.grade == "published":
            return "Quality is not known: the source gives no score of the answers."
        return "Quality was not measured in this run. A speed gain without it is half a case study: measure it first."
    if not view.quality_verdicts:
        return "Answers were collected, and no verdict is made of them: the bundle has faults."
    parts = []
    for q in view.quality:
        verdict = view.quality_verdicts[q.variant]
        figures = f" {points_words(q.accuracy)}" if q.accuracy else ""
        parts.append(f"{text(q.variant)} {_WORDS[verdict.grade]}{figures}")
    return "Quality: " + "; ".join(parts) + "."


def section(view: CaseView) -> str:
    """The Quality section of the case page."""
    if not view.quality:
        return none(sentence(view))
    parts = [_verdict_table(view), figures.quality_size(view), _task_table(view, brief=True), _control_words(view)]
    parts.append("Every rule with its numbers, and the answers side by side: [quality](quality/index.md).")
    return "\n\n".join(p for p in parts if p)


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/quality/index.md`."""
    return render(
        "quality.md.j2",
        title=text(view.case.title),
        trail=view.trail("quality"),
        banners=view.banners(),
        summary=_verdict_table(view) if view.quality else none(sentence(view)),
        control=_control_words(view) if view.quality else none("There is nothing to compare."),
        rules=_rules(view),
        tasks=_task_table(view, brief=False) if view.quality else none("No task was asked."),
        confusions=_asked(view) + _confusions(view),
        likeness=_likeness(view),
        form=_form(view),
        marks=_marks(view),
        how_asked=_how_asked(view),
        samples=samples.section(view.case),
    )


def points_words(p: Paired) -> str:
    """What accuracy changed by against the baseline, with its interval: `−4.2 points (−5.4 to −3.0)`."""
    return f"{points(p.difference_pp)} points ({points(p.low_pp)} to {points(p.high_pp)})"


def points(value: float) -> str:
    """A difference in percentage points with its sign; nothing is shown as plus or minus zero."""
    shown = fixed(abs(value), 1)
    return shown if not shown.strip("0.,") else ("−" if value < 0 else "+") + shown


def _ratio(value: float, low: float, high: float, places: int) -> str:
    return f"{fixed(value, places)} <small>({fixed(low, places)} to {fixed(high, places)})</small>"


def _recovery(p: Paired) -> str:
    if p.recovery is None or p.recovery_low is None or p.recovery_high is None:
        return "–"
    return f"{percent(p.recovery)} <small>({percent(p.recovery_low)} to {percent(p.recovery_high)})</small>"


def _verdict_table(view: CaseView) -> str:
    """One row a variant: the verdict, what it rests on, and how small a loss could have been seen."""
    rows = []
    first = next((q.accuracy for q in view.quality if q.accuracy), None)
    if first:
        right = f"{fixed(first.baseline_right)} of {fixed(first.n)}"
        rows.append([f"{text(view.case.baseline)} <small>baseline</small>", "–", right, "–", "–", "–", "–"])
    for q in view.quality:
        verdict = view.quality_verdicts.get(q.variant)
        a = q.accuracy
        rows.append(
            [
                text(q.variant),
                grade_badge(verdict.grade) if verdict else "–",
                f"{fixed(a.variant_right)} of {fixed(a.n)}" if a else "–",
                f"{points(a.difference_pp)} <small>({points(a.low_pp)} to {points(a.high_pp)})</small>" if a else "–",
                _recovery(a) if a else "–",
                f"{percent(a.flips_share)}" if a else "–",
                fixed(a.mde_pp, 1) if a else "–",
            ]
        )
    names = [
        ("Variant", False), ("Verdict", False), ("Right", True), ("Δ accuracy (points)", True), ("Recovery", True),
        ("Flips", True), ("MDE (points)", True),
    ]  # fmt: skip
    caption = "MDE: the smallest loss that so many prompts would show in 4 of 5 runs."
    reasons = [f"- **{text(v.variant)}** {grade_badge(v.grade)} {said(v.because)}" for v in _verdicts(view)]
    return table("quality", [Column(n, f) for n, f in names], rows, caption) + "\n\n" + "\n".join(reasons)


def _verdicts(view: CaseView) -> list[QualityVerdict]:
    return list(view.quality_verdicts.values())


def _task_table(view: CaseView, *, brief: bool) -> str:
    """The seeds' table: prompt type, baseline, every variant, what changed."""
    tasks: dict[tuple[str, str], dict[str, Task]] = {}
    for q in view.quality:
        for t in q.tasks:
            tasks.setdefault((t.suite, t.task), {})[q.variant] = t
    if not tasks:
        return ""
    variants = [q.variant for q in view.quality]
    rows = []
    for (suite, task), found in tasks.items():
        any_one = next(iter(found.values())).paired
        rows.append(
            [
                f"{text(task)} <small>{text(suite)}</small>",
                f"{any_one.baseline_right} of {any_one.n}",
                *(_task_cell(found.get(v), brief) for v in variants),
                fixed(any_one.mde_pp, 1),
            ]
        )
    columns = [Column("Prompt type"), Column(f"{text(view.case.baseline)} right", True)]
    columns += [Column(text(v)) for v in variants] + [Column("MDE (points)", True)]
    caption = "" if brief else "p after Holm over all tasks of a variant; F1 is macro-averaged."
    return table("quality-tasks", columns, rows, caption)


def _task_cell(t: Task | None, brief: bool) -> str:
    if t is None:
        return "–"
    p = t.paired
    if not p.lost and not p.gained:
        state, words = "ok", "✓ same"
    elif t.lost_beyond_chance:
        state, words = "bad", f"✗ lost {p.lost}, gained {p.gained}"
    else:
        state, words = "look", f"! lost {p.lost}, gained {p.gained}"
    shown = f'{p.variant_right} <span class="qc-check" data-state="{state}">{words}</span>'
    if brief:
        return shown
    f1 = f", F1 {fixed(t.macro_f1[0], 3)} → {fixed(t.macro_f1[1], 3)}" if t.macro_f1 else ""
    return f"{shown} <small>p {_p(t.adjusted_p)}{f1}</small>"


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else fixed(value, 3)


def _control_words(view: CaseView) -> str:
    """What the baseline differs from itself: the noise of all that follows."""
    c = view.quality_control
    if c is None or c.accuracy is None:
        return "**Control.** None: the baseline was asked only once, so nothing is known of how it differs from itself."
    where = "two server starts" if c.other_starts else "one server start (an endpoint cannot be started again)"
    parting = ""
    if c.divergence:
        parting = f" {c.divergence.identical} of {c.divergence.n} long answers were the same to the last token."
    return (
        f"**Control.** The baseline against itself over {where}: {percent(c.accuracy.flips_share)} of "
        f"{fixed(c.accuracy.n)} answers flipped, {points_words(c.accuracy)}.{parting} That much is not blamed on "
        "quantization."
    )


def _rules(view: CaseView) -> str:
    if not view.quality_verdicts:
        return none(sentence(view))
    parts = []
    for verdict in view.quality_verdicts.values():
        rows = [[text(c.rule), grade_badge(c.grade), said(c.seen), _role(c)] for c in verdict.checks]
        parts.append(f"### {text(verdict.variant)}\n\n{_reason(verdict)}")
        if rows:
            columns = [Column(n) for n in ("Rule", "Result", "Seen", "Role")]
            parts.append(table(f"rules-{len(parts)}", columns, rows))
    return "\n\n".join(parts)


def _reason(verdict: QualityVerdict) -> str:
    change = f" What would change it: {said(verdict.change)}." if verdict.change else ""
    return f"{grade_badge(verdict.grade)} {said(verdict.because)}.{change}"


def _role(check: Check) -> str:
    return "decides" if check.decides else "can lower a pass to caution"


def _likeness(view: CaseView) -> str:
    """Teacher-forced likeness, or why there is none."""
    rows = []
    for q in [*view.quality, *([view.quality_control] if view.quality_control else [])]:
        f = q.fidelity
        if f is None:
            continue
        name = "baseline again" if q.variant == view.case.baseline else q.variant
        rows.append(
            [
                text(name),
                _ratio(f.ppl_ratio, f.ppl_ratio_low, f.ppl_ratio_high, 4),
                _ratio(f.kld_topk_lower_bound, f.kld_topk_lower_bound_low, f.kld_topk_lower_bound_high, 4),
                percent(f.captured_mass),
                f"{percent(f.top1_agreement)} <small>({percent(f.top1_agreement_low)} to "
                f"{percent(f.top1_agreement_high)})</small>",
                percent(f.rms_delta_p),
                signed(f"{100 * f.mean_delta_p:+.2f} %".replace("-", "−")),
                f"{fixed(f.tokens)} in {f.documents}",
            ]
        )
    if not rows:
        why = next((q.unscored for q in view.quality if q.unscored), "")
        return none(f"No text was scored: {text(why)}." if why else "The suite `likelihood` was not asked.")
    names = [
        ("Variant", False), ("Perplexity ratio", True), ("Top-20 KL lower bound (nats)", True), ("Captured mass", True),
        ("Top-1 agreement", True), ("RMS Δp", True), ("Mean Δp", True), ("Tokens in texts", True),
    ]  # fmt: skip
    return table("likeness", [Column(n, f) for n, f in names], rows)


def _form(view: CaseView) -> str:
    rows = []
    for q in [*view.quality, *([view.quality_control] if view.quality_control else [])]:
        if q.form is None:
            continue
        name = "baseline again" if q.variant == view.case.baseline else q.variant
        kinds = ", ".join(f"{kind} {b}" for kind, (_, b) in q.form.kinds.items() if b) or "none"
        parted = "–"
        if q.divergence:
            d = q.divergence
            at = "not reached" if d.median_token is None else f"token {plain(d.median_token)}"
            parted = f"{d.identical} of {d.n} identical, median {at}, {d.soft} of {d.compared} near misses"
        rows.append(
            [
                text(name),
                f"{q.form.failed[1]} of {fixed(q.form.n)}",
                text(kinds),
                f"{q.form.cut[1]}",
                _ratio(q.length.ratio, q.length.low, q.length.high, 3) if q.length else "–",
                parted,
                number(q.similarity_chrf),
            ]
        )
    if not rows:
        return none("No answers were compared.")
    names = [
        ("Variant", False), ("Without an answer", True), ("Empty, repeating, unreadable", False), ("Cut", True),
        ("Length ratio", True), ("Where greedy answers part", False), ("chrF to the baseline (information only)", True),
    ]  # fmt: skip
    return table("form", [Column(n, f) for n, f in names], rows)


def _how_asked(view: CaseView) -> str:
    if not view.quality:
        return "Nothing was asked in this run that answers could be judged by."
    if view.case.bundle.info.grade == "imported":
        return "The answers were taken from another tool's files, as it asked for them."
    return (
        "Every variant answered the same prompts as the baseline, greedily, on the server that was measured for speed."
    )


def _marks(view: CaseView) -> str:
    """What a person marked, beside what the scorers said."""
    marks = view.case.marks
    if not marks:
        return none(
            "Nobody has marked answers yet. A file <code>marks.csv</code> in the bundle with the columns variant, "
            "prompt_id, mark (good, minor, bad) and remark adds a person&#39;s judgement; <code>collect seal</code> "
            "takes it in."
        )
    rows = []
    for variant in (v.name for v in view.case.study.variants):
        mine: list[str] = [m.mark for (v, _), m in marks.items() if v == variant]
        if mine:
            rows.append([text(variant), *(f"{mine.count(mark)}" for mark in _MARKS)])
    if not rows:
        return none("No mark names a variant of this study.")
    return table("marks", [Column("Variant"), *(Column(m, True) for m in _MARKS)], rows)


def _asked(view: CaseView) -> str:
    """How the suites of labels were asked, one sentence each; nothing where none was."""
    said = []
    for suite in sorted({i.suite for i in view.case.quality_items.values() if i.scorer == "label" and i.answers}):
        first = next(i for i in view.case.quality_items.values() if i.suite == suite)
        if first.answers == "constrained":
            how = f"every variant's answer was held to the {len(first.choices or [])} labels, by the request field "
            how += text(first.constraint)
        elif first.free_because:
            how = f"the answers were free, because the engine held none to the labels: {text(first.free_because)}"
        else:
            how = "the answers were free, as the study asks"
        source = f" The texts: {text(first.source)}." if first.source else ""
        said.append(f"<p>{text(suite)}: {how}.{source}</p>\n\n")
    return "".join(said)


def _confusions(view: CaseView) -> str:
    """The labels that are taken for each other, most frequent first; nothing where no classification was asked."""
    if samples.taken_out(view.case):
        return ""  # the section on answers says so; marks of labels tell nobody anything
    rows = []
    for (variant, made), answers in sorted(view.case.answers.items()):
        items = [i for i in view.case.quality_items.values() if i.scorer == "label" and i.prompt_id in answers]
        if made > 1 or not items:
            continue
        gold = [label_of(i.reference) for i in items]
        wrong = confusion(gold, [answers[i.prompt_id].parsed for i in items])
        rows += [[text(variant), text(a), text(b), f"{n}"] for a, b, n in wrong[:_MOST_CONFUSIONS]]
    if not any(i.scorer == "label" for i in view.case.quality_items.values()):
        return ""
    if not rows:
        return "### Labels taken for each other\n\n" + none("Every text got its right label from every variant.")
    columns = [Column("Variant"), Column("Right label"), Column("Answered"), Column("Times", True)]
    return "### Labels taken for each other\n\n" + table("confusions", columns, rows)
