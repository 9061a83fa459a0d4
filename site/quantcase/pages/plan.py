"""The comparison plan of a case: what was compared, what was held fixed, what the figures answer, when to roll back."""

from __future__ import annotations

from collections.abc import Sequence

from quantcase.analysis.plan_answers import (
    LIMIT,
    Roof,
    capacity,
    dequantization,
    rollbacks,
    roofs,
)
from quantcase.analysis.plan_checks import fixed_variables, formats
from quantcase.analysis.plan_common import Format, State
from quantcase.analysis.points import Point
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.html import delta, none, table
from quantcase.pages import figures, quality
from quantcase.pages import plan_parts as parts
from quantcase.pages.plan_parts import RISKS, check, columns, name
from quantcase.pages.view import CaseView, render
from quantcase.signs import localized
from quantcase.text import fixed, load_words, number, percent, plain, signed_percent, span, text

__all__ = ["page"]

_STATES = {"ok": "✓ same", "look": "! look", "bad": "✗ differs", "none": "– not recorded"}
_MEASURED = {"ok": "✓ measured", "look": "! in part", "bad": "✗ failed", "none": "– not measured"}
_ANSWERS = {"ok": "✓ yes", "look": "! look", "bad": "✗ no", "none": "☐ a person must answer"}
_KERNELS = {
    "optimized": "yes: a kernel made for the format",
    "slow": "yes, by a kernel known to be slow",
    "fallback": "no: the format is unpacked and computed in another",
    "not_applied": "no: the quantization was not applied",
    "unknown": "not known: the log names no kernel",
}


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/plan/index.md`."""
    forms = formats(view.case)
    return render(
        "plan.md.j2",
        ahead=False,
        estimate="",
        title=text(view.case.title),
        trail=view.trail("plan"),
        banners=view.banners(),
        configurations=_configurations(view, forms),
        fixed=_fixed(view),
        metrics=_metrics(view),
        tensors=_tensors(view, forms),
        bounds=_bounds(view),
        kernels=_kernels(view, forms),
        dequantization=_dequantization(view),
        risks=_risks(view, forms),
        rollback=_rollback(view),
    )


def _configurations(view: CaseView, forms: list[Format]) -> str:
    states = []
    for form in forms:
        starts, served = view.case.starts(form.variant), view.case.served(form.variant)
        state = "served" if served else "not started yet" if not starts else "did not serve"
        why = "" if served or not starts else f": {text(starts[-1].exit_state)} {text(starts[-1].error or '')}"
        states.append(state + why)
    caption = "Benefit and risk are what the format promises and threatens; what it did here stands below."
    return parts.configurations(view.case.study, forms, ("Served", states), caption)


def _fixed(view: CaseView) -> str:
    caption = "Checked against the rows of this bundle, not taken from the study. Red: more than the format changed."
    return parts.fixed(fixed_variables(view.case), _STATES, "Seen", caption)


def _metrics(view: CaseView) -> str:
    case = view.case
    scored = [r.score for rows in case.answers.values() for r in rows.values() if r.score is not None]
    peaks = [m for m in view.memory if m.row.vram_peak_mib is not None]
    stated = [m for m in view.memory if m.row.weights_gib is not None]
    timed = int((case.requests["ttft_ms"].notna() & case.requests["tpot_ms"].notna()).sum())
    speeds = int(case.cells["throughput_tok_s"].notna().sum())
    tails = {p: [x for x in view.points if x.metric.endswith(p)] for p in ("_p95", "_p99")}
    shown = {p: sum(x.shown for x in found) for p, found in tails.items()}
    paths = [m for m in view.memory if m.row.kernel_path]
    served = len(view.memory)
    peak_words = f"driver: {len(peaks)} of {served} variants; engine's parts: {len(stated)} of {served}"
    tail_words = "; ".join(f"{p[1:]}: {shown[p]} of {len(found)} have requests enough" for p, found in tails.items())
    entries = [
        (_part(len(scored), len(scored)), f"{fixed(len(scored))} scored answers"),
        (_part(len(peaks), served) if peaks else "look" if stated else "none", peak_words),
        (_part(timed, len(case.requests)), f"{fixed(timed)} of {fixed(len(case.requests))} requests"),
        (_part(speeds, len(case.cells)), f"{fixed(speeds)} of {fixed(len(case.cells))} cell repeats"),
        (_part(sum(shown.values()), sum(len(found) for found in tails.values())), tail_words),
        (_part(len(paths), served), f"named in the log of {len(paths)} of {served} variants"),
    ]
    return parts.metrics(entries, _MEASURED, "Measured")


def _part(found: int, of: int) -> State:
    return "none" if not found else "ok" if found == of else "look"


def _tensors(view: CaseView, forms: list[Format]) -> str:
    memory = {m.row.variant: m for m in view.memory}
    rows = []
    for form in forms:
        asked, m = view.case.study.variant(form.variant), memory.get(form.variant)
        if m is None:
            applied = "did not serve"
        elif m.row.kernel_class == "not_applied":
            applied = "not applied"
        else:
            applied = text(m.row.quantization_applied or ("nothing asked" if asked.method == "none" else "not stated"))
        room = m.kv_tokens_ratio if m and form.variant != view.case.baseline else float("nan")
        rows.append(
            [
                name(view.case.study, form.variant), ", ".join(form.tensors) or "none", text(asked.method), applied,
                text(asked.kv_dtype), "–" if room != room else signed_percent(room),
            ]
        )  # fmt: skip
    names = ("Variant", "Tensors", "Method asked", "Applied, by the engine&#39;s log", "KV cache asked", "Δ KV tokens")
    return table("plan-tensors", columns(*names, figures=names[-1:]), rows)


def _bounds(view: CaseView) -> str:
    found, why = roofs(view.case, view.points)
    said = [_roof_table(view, found), figures.roofline(view)] if found else []
    if why:
        said.append(none(f"Bandwidth: {text(why)}."))
    seen = capacity(view.case)
    if seen.asked_tokens is None or seen.held_tokens is None:
        words = "It is not recorded how many tokens the baseline&#39;s KV cache holds, or how many were asked of it."
    else:
        words = (
            f"The largest closed load keeps at most {number(seen.asked_tokens)} tokens in flight, and the "
            f"baseline&#39;s KV cache holds {number(seen.held_tokens)}."
        )
    verdict = {
        True: "The baseline ran short of it: a smaller format or cache is worth its capacity here.",
        False: "The baseline never ran short of it: at these loads room for contexts was not what limited it.",
        None: "The engine did not report how much of it was in use.",
    }[seen.bound]
    use = [f"{percent(seen.usage)} in use at most"] if seen.usage is not None else []
    use += [f"{fixed(seen.preemptions)} preemptions"] if seen.preemptions is not None else []
    reported = f" The engine reported {', '.join(use)}." if use else ""
    return "\n\n".join([*said, f"**Capacity.** {words}{reported} {verdict}"])


def _roof_table(view: CaseView, found: list[Roof]) -> str:
    memory = {m.row.variant: m for m in view.memory}
    rows = []
    for r in found:
        lighter = memory[r.variant].weights_ratio
        share = "–" if r.compute_share is None else f"{fixed(100 * r.compute_share, 1)} of {r.computes}"
        rows.append(
            [
                name(view.case.study, r.variant),
                "–" if r.variant == view.case.baseline or lighter != lighter else signed_percent(lighter),
                f"{text(r.workload)} {load_words(r.load)}",
                f"{span(r.tpot.value, r.tpot.low, r.tpot.high)} <small>n {number(r.tpot.n)}</small>",
                number(r.bytes_gb),
                fixed(100 * r.bandwidth_share),
                share,
                {"neither": "neither is near"}.get(r.bound, r.bound),
            ]
        )
    names = (
        "Variant", "Δ weights", "Load", "TPOT p50 (ms)", "Read a step (GB)", "Bandwidth (% of the card&#39;s)",
        "Compute (% of the card&#39;s)", "Nearer roof",
    )  # fmt: skip
    figures = [n for n in names if n not in ("Variant", "Load", "Nearer roof")]
    profile = view.case.profile
    bandwidth = profile.bandwidth_gb_s if profile else None
    card = f"{number(bandwidth.value, 4)} GB/s ({text(bandwidth.source)}, {text(bandwidth.date)})" if bandwidth else "–"
    caption = (
        "An estimate, not a measurement: weights as the engine states them plus the K/V of every request in flight "
        f"(prompt and half the answer), over the measured TPOT, against {card}. The input embedding is counted and all "
        "requests are taken as decoding, so the bytes are an upper end; a dense model on one card is assumed. Below "
        "half of both roofs neither is called near."
    )
    return table("plan-roofs", columns(*names, figures=figures), rows, caption)


def _kernels(view: CaseView, forms: list[Format]) -> str:
    memory = {m.row.variant: m.row for m in view.memory}
    rows = []
    for form in forms:
        row = memory.get(form.variant)
        if row is None or not form.tensors:
            continue
        backend = f" <small>attention {text(row.attention_backend)}</small>" if row.attention_backend else ""
        line = f'<span class="qc-evidence">{text(row.evidence)}</span>' if row.evidence else "no line"
        path = text(row.kernel_path or "not named") + backend
        rows.append(
            [name(view.case.study, form.variant), _KERNELS[row.kernel_class], path, text(row.kernel_class), line]
        )
    if not rows:
        return none("No quantized variant served, so no kernel was seen.")
    return table("plan-kernels", columns("Variant", "Direct", "Kernel path", "Class", "Line in the log"), rows)


def _dequantization(view: CaseView) -> str:
    rows = [
        [
            name(view.case.study, d.variant),
            f"{text(d.workload)} {load_words(d.load)}",
            delta(d.ttft),
            delta(d.tpot),
            d.where,
        ]
        for d in dequantization(view.case, view.claims)
    ]
    if not rows:
        return none("No variant was measured beside the baseline, so there is nothing to compare.")
    caption = (
        "TTFT is prefill (and, with several requests in flight, waiting for that of others), TPOT is decode. The "
        "comparison shows where a price is paid, not why."
    )
    titles = columns("Variant", "Load", "Δ TTFT p50", "Δ TPOT p50", "Reading")
    return table("plan-dequantization", titles, rows, caption)


def _risks(view: CaseView, forms: list[Format]) -> str:
    limits = rollbacks(view.case, view.points, view.verdicts)
    count = len({r.variant for r in limits})
    last: tuple[State, str] = ("ok", f"Numbers for {count} variant{'s' if count != 1 else ''}, below.")
    if not limits:
        last = ("none", "None can be given yet: no variant is faster beyond doubt or recommended.")
    answers = [
        _calibration(forms), _outliers(view, forms), _optimized(view, forms), _long_outputs(view), _room(view), last,
    ]  # fmt: skip
    rows = [
        [question, check(state, _words(question)), seen] for question, (state, seen) in zip(RISKS, answers, strict=True)
    ]
    return table("plan-risks", columns("Question", "Answer", "Evidence"), rows)


def _words(question: str) -> dict[str, str]:
    """Most questions are answered yes or no; three have words of their own."""
    if question.startswith("Does quality regress"):
        return {**_ANSWERS, "ok": "✓ no loss detected", "bad": "✗ yes"}
    if question.startswith("Are activation outliers"):
        return {**_ANSWERS, "ok": "✓ nothing against it", "bad": "✗ quality is lost"}
    return {**_ANSWERS, "ok": "✓ stated", "none": "– none yet"} if question.startswith("What") else _ANSWERS


def _calibration(forms: list[Format]) -> tuple[State, str]:
    names = [text(f.variant) for f in forms if f.tensors]
    asked = f" Ask it of {', '.join(names)}." if names else ""
    return "none", f"The bundle does not say what a checkpoint was calibrated on, or whether it was.{asked}"


def _outliers(view: CaseView, forms: list[Format]) -> tuple[State, str]:
    names = [f.variant for f in forms if "activations" in f.tensors and view.case.served(f.variant)]
    if not names:
        return "ok", "Not at stake: no variant that served quantizes activations."
    judged = [view.quality_verdicts[n] for n in names if n in view.quality_verdicts]
    if len(judged) < len(names):
        missing = ", ".join(text(n) for n in names if n not in view.quality_verdicts)
        return "none", f"Activations are quantized, and quality was not judged: {missing}."
    return _worst(judged), "; ".join(f"{text(j.variant)}: {quality.grade_badge(j.grade)}" for j in judged)


def _worst(judged: Sequence[QualityVerdict]) -> State:
    grades = {j.grade for j in judged}
    return "bad" if "fail" in grades else "ok" if grades == {"pass"} else "look"


def _optimized(view: CaseView, forms: list[Format]) -> tuple[State, str]:
    asked = {f.variant for f in forms if f.tensors}
    kinds = [(m.row.variant, m.row.kernel_class) for m in view.memory if m.row.variant in asked]
    if not kinds:
        return "none", "No quantized variant served."
    classes = {kind for _, kind in kinds}
    state: State = "ok" if classes == {"optimized"} else "bad" if classes & {"fallback", "not_applied"} else "look"
    return state, "; ".join(f"{text(v)}: {text(kind)}" for v, kind in kinds)


def _long_outputs(view: CaseView) -> tuple[State, str]:
    """Form and length of answers, and facts in long prompts: what the suites say of length."""
    judged = list(view.quality_verdicts.values())
    if not judged:
        return "none", quality.sentence(view)
    said = []
    for j in judged:
        seen = [f"{c.rule}: {c.seen}" for c in j.checks if c.rule in ("form", "length", "long context")]
        lengths = text(localized("; ".join(seen) or "length not judged"))
        said.append(f"{text(j.variant)} {quality.grade_badge(j.grade)} {lengths}")
    return _worst(judged), "<br>".join(said)


def _room(view: CaseView) -> tuple[State, str]:
    others = [m for m in view.memory if m.row.variant != view.case.baseline and m.kv_tokens_ratio == m.kv_tokens_ratio]
    if not others:
        return "none", "The engine did not state its KV capacity."
    said = [
        f"{text(m.row.variant)}: {signed_percent(m.kv_tokens_ratio)} KV tokens, {_whole(m.row.max_concurrency)} "
        "full-length requests at once"
        for m in others
    ]
    if all(m.kv_tokens_ratio <= 1 for m in others):
        return "look", "<br>".join(["As served, no: none has more KV capacity than the baseline.", *said])
    return "ok", "<br>".join(said)


def _rollback(view: CaseView) -> str:
    found = rollbacks(view.case, view.points, view.verdicts)
    if not found:
        return none(
            "No variant is recommended here, or faster than the baseline beyond doubt, so none has a limit. Verdicts "
            "and their reasons: see the case."
        )
    rows = []
    for r in found:
        row = view.case.served(r.variant)
        line = text(row.kernel_path) if row and row.kernel_path else "none was recorded: record it before you ship"
        where = f"{text(r.workload)} {load_words(r.load)}"
        limits = ((r.ttft_limit_ms, r.ttft), (r.tpot_limit_ms, r.tpot), (r.e2e_limit_ms, r.e2e))
        rows.append([name(view.case.study, r.variant), where, line, *(_limit(*pair) for pair in limits)])
    names = (
        "Variant", "Load", "The start log must name", "p95 TTFT<br>at most (ms)", "p95 TPOT<br>at most (ms)",
        "p95 E2E<br>at most (ms)",
    )  # fmt: skip
    caption = (
        f"For ten minutes. {plain(LIMIT)} times the upper end of the measured p95&#39;s interval at that load, or the "
        "study&#39;s own limit where that is lower. In brackets: the p95 that was measured."
    )
    return "\n\n".join(
        [
            "Roll back to the baseline when any of these holds.",
            table("plan-rollback", columns(*names, figures=names[-3:]), rows, caption),
            parts.rules(),
            "These figures are stale, and the case is to be measured again, when any of this changes:",
            _stale(view, [r.variant for r in found]),
        ]
    )


def _limit(limit: float | None, measured: Point | None) -> str:
    if measured is None:
        seen = "not measured"
    elif not measured.shown:
        seen = f"n {measured.n}, too few for a p95"
    else:
        seen = f"{span(measured.value, measured.low, measured.high)}, n {number(measured.n)}"
    return f"{number(limit) if limit is not None else 'not set'}<br><small>[{seen}]</small>"


def _stale(view: CaseView, variants: list[str]) -> str:
    case = view.case
    cards = [g for s in case.bundle.environment().sessions for g in s.gpus]
    engines = sorted({f"{v.engine} {v.engine_version or '(version not stated)'}" for v in case.variants})
    rows = [
        ["Engine", text(", ".join(engines))],
        ["GPU", text(", ".join(sorted({str(g.get("name", "not named")) for g in cards})) or "not recorded")],
        ["Driver", text(", ".join(sorted({str(g.get("driver", "not stated")) for g in cards})) or "not recorded")],
    ]
    for variant in dict.fromkeys(variants):
        row = case.served(variant)
        sha = row.config_sha256 if row else None
        rows.append([f"Checkpoint of {text(variant)}", f"<code>{text(sha)}</code>" if sha else "hash not recorded"])
    rows.append(["Chat template", "not recorded apart: it changes with the checkpoint&#39;s tokenizer files"])
    base = case.served(case.baseline)
    if base and base.vram_peak_mib is not None:
        rows.append(
            [
                "To keep ready",
                f"{name(view.case.study, case.baseline)}: {number(base.vram_peak_mib, 6)} MiB at its peak",
            ]
        )
    return table("plan-stale", columns("What", "Measured with"), rows)


def _whole(value: float | None) -> str:
    return "an unknown number of" if value is None else fixed(value)
