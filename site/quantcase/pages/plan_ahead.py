"""The comparison plan of a study before anything has run: the page of `plan.py`, with what is planned in the place of
what was measured. Estimates are those of `collect plan`, and are called so.
"""

from __future__ import annotations

from collector.bundle.planned import Estimate, Plan, TimeLine, VariantPlan
from collector.bundle.read import Load, Study, Workload
from collector.gpus import GpuProfile
from quantcase.analysis.plan_ahead import Need, ends, enough, fixed_as_planned, judged, limits, needs, unpacked
from quantcase.analysis.plan_answers import LIMIT
from quantcase.analysis.plan_common import Format, State, format_of
from quantcase.html import badge, banner, none, table
from quantcase.pages import plan_parts as parts
from quantcase.pages.plan_parts import RISKS, check, columns, name
from quantcase.pages.view import render
from quantcase.text import fixed, load_words, number, percent, plain, signed_percent, text

__all__ = ["page"]

_FIXED = {"ok": "✓ planned the same", "look": "! planned, look", "bad": "✗ planned to differ", "none": "– not planned"}
_MEASURED = {"ok": "✓ planned", "look": "! in part", "bad": "✗ not", "none": "– not planned"}
_OPEN = {"none": "☐ open"}
_LOGS = ("vllm", "llamacpp")  # engines whose log names the kernel


def page(study: Study, profile: GpuProfile, plan: Plan) -> str:
    """The plan as Markdown.

    Args:
        study: as it is to be run on that card.
        profile: the card.
        plan: the estimates of `collect plan` for the two.
    """
    forms = [format_of(v, profile) for v in study.variants]
    found = needs(study, plan)
    words = "Nothing of this has run yet. Every figure is planned, or an estimate and called so; none is measured."
    return render(
        "plan.md.j2",
        ahead=True,
        title=text(study.title),
        trail=f"Study {text(study.id)} on {text(profile.title)}. {text(study.question)}",
        banners=banner("planned", words),
        configurations=_configurations(study, plan, forms),
        fixed=parts.fixed(
            fixed_as_planned(study, profile),
            _FIXED,
            "By plan",
            "What the study says. After the run the same eight are checked against the rows of the bundle.",
        ),
        metrics=_metrics(study),
        estimate=_estimate(study, plan, found),
        tensors=_tensors(study, forms, found),
        bounds=_bounds(study, found),
        kernels=_kernels(study, plan, forms),
        dequantization=_dequantization(study, profile),
        risks=_risks(study, forms, found),
        rollback=_rollback(study),
    )


def _configurations(study: Study, plan: Plan, forms: list[Format]) -> str:
    states = [f"{text(v.verdict)}: {text(v.reason)}" for v in plan.variants]
    caption = "Benefit and risk are what the format promises and threatens; what it does here the run will say."
    return parts.configurations(study, forms, (f"On this card {badge('estimate')}", states), caption)


def _metrics(study: Study) -> str:
    titles = ", ".join(text(s.title) for s in study.quality)
    cells = study.cells()
    issued = sum(w.requests(load) for w, load in cells) * study.repeats * study.starts
    tails = {p: enough(study, p) for p in (95, 99)}
    tail_words = "; ".join(f"p{p}: {have} of {of} load points issue requests enough" for p, (have, of) in tails.items())
    together = [have == of for have, of in tails.values()]
    tail_state: State = "ok" if all(together) else "look" if any(have for have, _ in tails.values()) else "none"
    logged = study.engine.name in _LOGS
    repeats = f"{fixed(len(cells))} load points, {study.repeats} repeats in each of {study.starts} server starts"
    entries: list[tuple[State, str]] = [
        ("ok", titles) if judged(study) else ("none", "no answers are judged"),
        ("ok", "from the driver while serving, and the engine&#39;s own parts from its log"),
        ("ok", f"{number(issued)} requests a variant"),
        ("ok", repeats),
        (tail_state, f"{tail_words}, over all repeats"),
        ("ok" if logged else "none", f"from the log of {text(study.engine.name)}" if logged else "no log is read"),
    ]
    return parts.metrics(entries, _MEASURED, "Planned")


def _estimate(study: Study, plan: Plan, found: list[Need]) -> str:
    rows = []
    for need in found:
        v = need.planned
        rows.append(
            [
                name(study, v.variant), _gib(v.weights_gib), _gib(v.kv_gib), _gib(v.rest_gib), _gib(v.minimum_gib),
                number(v.kv_pool_tokens), _bounded(v.minutes), text(v.verdict),
            ]
        )  # fmt: skip
    names = (
        "Variant", "Weights (GiB)", "KV at the heaviest load (GiB)", "Rest (GiB)", "Needed (GiB)",
        "KV pool (tokens)", "Time (min)", "Verdict",
    )  # fmt: skip
    if plan.budget_gib is not None:
        card = f"The engine may take {fixed(plan.budget_gib, 1)} of {number(plan.memory_gib, 4)} GiB. "
    else:
        card = "Memory is not planned: no GPU memory is known for this machine or engine. "
    caption = (
        f"{card}Weights and KV follow from the model&#39;s shape; the rest (activations, captured graphs, the "
        "driver&#39;s context) is known to about 30 %. Time with its bounds."
    )
    memory = table("plan-estimate", columns(*names, figures=names[1:-1]), rows, caption)
    return "\n\n".join([f"{badge('estimate')} Worked out by `collect plan`, not measured.", memory, _time(plan)])


def _time(plan: Plan) -> str:
    said = []
    if plan.times:
        rows = [[text(t.what), _bounded(t.minutes), _counted(t), text(t.assumption)] for t in plan.times]
        titles = ("Part", "Time (min)", "In the total", "Rests on")
        caption = "Over all variants that are to be measured."
        said.append(table("plan-time", columns(*titles, figures=titles[1:2]), rows, caption))
    if plan.minutes is None:
        said.append(none("The time is not known, and so the cost is not: the speed of this model here cannot be told."))
    else:
        said.append(f"**Time.** About {_minutes(plan.minutes)} minutes.")
    if plan.cost_usd is not None and plan.price is not None:
        cost = f"{fixed(plan.cost_usd.mid, 2)} USD ({fixed(plan.cost_usd.low, 2)} to {fixed(plan.cost_usd.high, 2)})"
        each = " for each GPU" if any(v.gpus > 1 for v in plan.variants) else ""
        source = f"{text(plan.price.source)}, {text(plan.price.date)}"
        quoted = f"{fixed(plan.price.usd_per_hour, 2)} USD an hour{each} ({source})"
        said.append(f"**Money.** About {cost} at {quoted}.")
    elif plan.minutes is not None:
        said.append(none("No price of an hour is known, so there is no cost."))
    said += [f"- {text(note)}" for note in plan.notes[:1]]
    return "\n\n".join(said) + "".join(f"\n- {text(note)}" for note in plan.notes[1:])


def _counted(line: TimeLine) -> str:
    if not line.counted:
        return "no"
    return "yes" if line.minutes is not None else "no: not known"


def _minutes(minutes: Estimate) -> str:
    return f"{fixed(minutes.mid)} ({fixed(minutes.low)} to {fixed(minutes.high)})"


def _bounded(minutes: Estimate | None) -> str:
    if minutes is None:
        return "–"
    return f"{number(minutes.mid, 2)} <small>({number(minutes.low, 2)}–{number(minutes.high, 2)})</small>"


def _gib(value: float | None) -> str:
    return "–" if value is None else fixed(value, 1)


def _tensors(study: Study, forms: list[Format], found: list[Need]) -> str:
    rows = []
    for form, need in zip(forms, found, strict=True):
        asked = study.variant(form.variant)
        room = None if form.variant == study.baseline else need.pool_ratio
        rows.append(
            [
                name(study, form.variant), ", ".join(form.tensors) or "none", text(asked.method), text(asked.kv_dtype),
                "–" if room is None else signed_percent(room),
            ]
        )  # fmt: skip
    titles = ("Variant", "Tensors", "Method asked", "KV cache asked", f"Δ KV tokens {badge('estimate')}")
    answer = _evidence(
        "tensors", ("What the engine says it applied", "variants.csv: quantization_applied", "every server start")
    )
    return "\n\n".join([table("plan-tensors", columns(*titles, figures=titles[-1:]), rows), answer])


def _evidence(prompt: str, *rows: tuple[str, str, str]) -> str:
    """What will answer a question: evidence, file and columns, at which load. Cells are safe already."""
    cells = [[what, f"<code>{where}</code>", at] for what, where, at in rows]
    return table(f"plan-{prompt}-answer", columns("What will answer it", "In the bundle", "Measured at"), cells)


def _places(study: Study) -> str:
    return ", ".join(_place(w, load) for w, load in ends(study))


def _place(w: Workload, load: Load) -> str:
    return f"{text(w.name)} {load_words(load.name)}"


def _bounds(study: Study, found: list[Need]) -> str:
    base = next(n for n in found if n.planned.variant == study.baseline)
    said = []
    if base.filled is not None:
        p = base.planned
        said.append(
            f"**Capacity** {badge('estimate')} The heaviest closed load asks for {number(p.kv_tokens)} tokens of KV "
            f"cache, and the baseline&#39;s has room for about {number(p.kv_pool_tokens)}: {_filled(base.filled)}."
        )
    lighter = [
        f"{text(n.planned.variant)} {signed_percent(n.weights_ratio)}"
        for n in found
        if n.weights_ratio is not None and n.planned.variant != study.baseline
    ]
    if lighter:
        said.append(f"**Bandwidth** {badge('estimate')} Weights to read at every step: {', '.join(lighter)}.")
    if not said:
        said.append(none("No shape is known for this model, so neither can be estimated before the run."))
    return "\n\n".join(
        [
            *said,
            _evidence(
                "bounds",
                ("Time per token against bytes read: which roof is near", "requests.csv.gz: tpot_ms", _places(study)),
                ("Weights as they are in memory", "variants.csv: weights_gib, kv_cache_tokens", "every server start"),
                (
                    "Whether the KV cache ran short", "engine_metrics.csv.gz: kv_cache_usage_perc, num_preemptions",
                    "every load point",
                ),
            ),
        ]
    )  # fmt: skip


def _filled(share: float) -> str:
    return percent(share, 0) if share >= 0.01 else "less than 1 %"


def _kernels(study: Study, plan: Plan, forms: list[Format]) -> str:
    rows = [
        [name(study, v.variant), text("; ".join(_gate(v)) or "nothing against it is known before the run")]
        for v, form in zip(plan.variants, forms, strict=True)
        if form.tensors
    ]
    if not rows:
        return none("No variant quantizes anything, so no kernel is in question.")
    answer = _evidence(
        "kernels",
        ("Kernel, its class, and the line that names it", "variants.csv: kernel_path, kernel_class, evidence",
         "every server start"),
        ("The log itself", "logs/", "every server start"),
    )  # fmt: skip
    return "\n\n".join([table("plan-kernels", columns("Variant", "What the card&#39;s capability says"), rows), answer])


def _gate(v: VariantPlan) -> list[str]:
    return [v.reason, *v.notes] if v.verdict == "unsupported" else v.notes


def _dequantization(study: Study, profile: GpuProfile) -> str:
    found = unpacked(study, profile)
    if found:
        names = ", ".join(text(v) for v in found)
        said = f"Stored in fewer bits than they are computed in, so unpacked in the kernel or before it: {names}."
    else:
        said = "No variant stores weights in fewer bits than its kernels compute in, as far as the study says."
    answer = _evidence(
        "dequantization",
        ("Prefill beside decode, each against the baseline", "requests.csv.gz: ttft_ms, tpot_ms", _places(study)),
    )
    return f"{said}\n\n{answer}"


def _risks(study: Study, forms: list[Format], found: list[Need]) -> str:
    quantized = ", ".join(text(f.variant) for f in forms if f.tensors) or "no variant"
    activations = ", ".join(text(f.variant) for f in forms if "activations" in f.tensors)
    outliers = (
        f"The quality verdict of {activations}." if activations else "Not at stake: no activations are quantized."
    )
    long = [s for s in study.quality if s.kind == "long-context"] if judged(study) else []
    lengths = "Form and length of the answers" + (
        ", and the long-context suite." if long else "; no long-context suite."
    )
    rooms = [n for n in found if n.pool_ratio is not None and n.planned.variant != study.baseline]
    said = "; ".join(f"{text(n.planned.variant)} {signed_percent(n.pool_ratio)}" for n in rooms if n.pool_ratio)
    room = f"Estimate of KV tokens: {said}. " if said else ""
    answers = [
        f"No figure of the run: ask the makers of {quantized} what each was calibrated on.",
        outliers if judged(study) or not activations else f"Nothing: the answers of {activations} are not judged.",
        "Kernel class and its line in the start log (variants.csv).",
        lengths if judged(study) else "Nothing: the run judges no answers.",
        f"{room}kv_cache_tokens and max_concurrency (variants.csv) will say it.",
        "The numbers below, and the p95 that the run measures.",
    ]
    rows = [[question, check("none", _OPEN), answer] for question, answer in zip(RISKS, answers, strict=True)]
    return table("plan-risks", columns("Question", "Answer", "What will answer it"), rows)


def _rollback(study: Study) -> str:
    measured = f"{plain(LIMIT)} × the measured p95"
    rows = []
    for one in limits(study):
        values = (_limit(value, measured) for value in (one.ttft_ms, one.tpot_ms, one.e2e_ms))
        rows.append([f"{text(one.workload)} {load_words(one.load)}", *values])
    titles = ("Load", "p95 TTFT at most (ms)", "p95 TPOT at most (ms)", "p95 E2E at most (ms)")
    caption = (
        f"For ten minutes. The study&#39;s own limit, or {plain(LIMIT)} times the upper end of the interval of the p95 "
        "that the run measures there, whichever is lower."
    )
    stale = "Any of these makes the figures stale: another engine version, GPU, driver, checkpoint or chat template."
    return "\n\n".join(
        [
            f"Roll back to the baseline, {text(study.baseline)}, when any of these holds.",
            table("plan-rollback", columns(*titles, figures=titles[1:]), rows, caption),
            parts.rules(),
            stale,
        ]
    )


def _limit(own: float | None, measured: str) -> str:
    return measured if own is None else f"{number(own, 4)}, or {measured}"
