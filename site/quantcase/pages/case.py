"""The case study: Setup, VRAM, Chat, Batch, Quality, Cost, Recommendations, Methodology, Next steps, What I learned."""

from __future__ import annotations

import json
import re

from quantcase.analysis.compare import Comparison
from quantcase.analysis.cost import saving, usd_per_requests
from quantcase.analysis.memory import vram
from quantcase.analysis.points import frame, pick
from quantcase.analysis.trust import trust
from quantcase.catalog import Case
from quantcase.charts import cost_per_million, latency_by_concurrency, throughput_by_concurrency, vram_by_part
from quantcase.html import Column, badge, delta, none, table
from quantcase.pages.findings import (
    headline,
    key_finding,
    leaders,
    learned,
    quality_sentence,
    verdict_sentence,
    vram_finding,
)
from quantcase.pages.view import CaseView, render
from quantcase.text import load_words, notes_html, number, signed_percent, span, text

__all__ = ["case_json", "page", "saving_cell"]

_LENGTHS = {False: "exactly", True: "at most"}
_SCHEDULES = {
    "closed": "closed loop",
    "constant": "arriving at a constant rate",
    "poisson": "arriving at random (Poisson)",
    "ramp": "arriving at a rising rate",
    "trace": "arriving as in the trace",
}
_KIND_WORDS = {"recommend": "✓ recommend", "caution": "! caution", "avoid": "✗ avoid", "none": "– no verdict"}


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/index.md`."""
    case = view.case
    return render(
        "case.md.j2",
        title=text(case.title),
        banners=view.banners(),
        answer=_answer(view),
        setup=_setup(view),
        vram=_vram(view),
        chat=_workloads(view, batch=False),
        batch=_workloads(view, batch=True),
        quality=none(quality_sentence(view)),
        cost=_cost(view),
        recommendations=_recommendations(view),
        methodology=_methodology(view) + "\n\n" + _trust(case),
        next_steps=_next_steps(case),
        learned=_learned(view),
    )


def _answer(view: CaseView) -> str:
    """The first screen: answer, gain, risk, sureness."""
    case, info = view.case, view.case.bundle.info
    gains = []
    for workload, c in view.answer.best.items():
        gains.append(
            f"{text(workload)}: {signed_percent(c.ratio)} tok/s with {leaders(view, workload)} "
            f"{delta(c).split(' ', 2)[2]}"
        )
        if view.usd_per_hour is not None and c.low == c.low:
            share, low, high = saving((c.ratio, c.low, c.high))
            gains.append(f"{text(workload)}: {share:.0%} less per token ({low:.0%} to {high:.0%})")
    light = [m for m in view.memory if m.weights_ratio < 0.98]
    if light:
        least = min(light, key=lambda m: m.weights_ratio)
        gains.append(f"weights {signed_percent(least.weights_ratio)} with {text(least.row.variant)}")
    sure = [
        f"grade {badge(info.grade)}, weights {text(info.weights)}",
        f"{case.study.repeats} repeats a cell, {len(case.requests):,} requests",
        f"{sum(v.exit_state == 'ok' for v in case.variants)} server starts",
    ]
    return render(
        "answer.md.j2",
        verdict=view.answer.kind,
        headline=headline(view),
        gains=gains or ["nothing beyond the noise"],
        risks=[quality_sentence(view)],
        sure=sure,
    )


def _setup(view: CaseView) -> str:
    case = view.case
    sections = [_hardware(case)]
    rows = []
    for variant in case.study.variants:
        starts = case.starts(variant.name)
        served = case.served(variant.name)
        last = served or (starts[-1] if starts else None)
        state = "not started yet" if last is None else "served" if served else f"{last.exit_state}: {last.error or ''}"
        kernel = last.kernel_path if last and last.kernel_path else "–"
        rows.append(
            [
                text(variant.name) + (" <small>baseline</small>" if variant.name == case.baseline else ""),
                text(variant.model if last is None else last.model),
                text(variant.method),
                f"{variant.bits:g}" if variant.bits is not None else "–",
                text(variant.kv_dtype),
                text(kernel),
                text(last.kernel_class if last and variant.method != "none" else "–"),
                number(last.healthy_s if last else None),
                text(state),
            ]
        )
    names = ["Variant", "Checkpoint", "Method", "Bits", "KV cache", "Kernel path", "Kernel class", "Ready (s)", "State"]
    columns = [Column(n, n in ("Bits", "Ready (s)")) for n in names]
    sections.append("### Variants\n\n" + table("variants", columns, rows))
    proofs = [
        f"<p>{text(v.variant)}</p><p class='qc-evidence'>{text(v.evidence)}</p>"
        for v in case.variants
        if v.evidence and v.start == 1
    ]
    if proofs:
        sections.append(f"<details><summary>Log lines behind the kernel paths</summary>{''.join(proofs)}</details>")
    sections.append("### Engine configuration\n\n" + _configuration(case))
    return "\n\n".join(sections)


def _hardware(case: Case) -> str:
    environment = case.bundle.environment()
    rows = [["Profile", text(case.profile.title if case.profile else case.bundle.info.gpu)]]
    if environment.sessions:
        first = environment.sessions[0]
        for gpu in first.gpus[:1]:
            rows.append(["GPU found", text(gpu.get("name", "–"))])
            rows.append(["VRAM", f"{_float(gpu.get('vram_mib')) or 0:,.0f} MiB"])
            rows.append(["Driver, CUDA", text(f"{gpu.get('driver', '–')}, {gpu.get('cuda', '–')}")])
        rows.append(["Host", text(f"{first.host.get('cpu', '–')}, {first.host.get('cores', '–')} cores")])
        boxes = {str([g.get("uuid_sha256") for g in s.gpus]) for s in environment.sessions}
        word = "one machine" if len(boxes) == 1 else f"{len(boxes)} machines"
        rows.append(["Measured in", f"{len(environment.sessions)} sessions on {word}"])
    return "### Hardware\n\n" + table("hardware", [Column("What"), Column("Value")], rows)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _configuration(case: Case) -> str:
    """The parameters that every variant shares, and the engine's version as it states it."""
    study = case.study
    versions = sorted({v.engine_version for v in case.variants if v.engine_version})
    rows = [
        ["engine", text(study.engine.name)],
        ["engine version", text(", ".join(versions) or "not stated")],
        ["context_tokens", number(study.context_tokens, 6)],
        ["shared arguments", text(" ".join(study.engine.args) or "none")],
        ["prompts", text(f"{study.prompts.kind}, seed {study.seed}, each used once")],
    ]
    return table("configuration", [Column("Parameter"), Column("Value")], rows)


def _vram(view: CaseView) -> str:
    if not view.memory:
        return none("No variant served, so no memory was read.")
    columns = [Column("Variant")]
    columns += [
        Column(n, True)
        for n in (
            "Weights (GiB)", "Δ weights", "KV pool (GiB)", "KV capacity (tokens)", "Δ KV tokens", "Activations (GiB)",
            "Graphs (GiB)", "Driver: idle (MiB)", "loaded (MiB)", "peak (MiB)",
        )
    ]  # fmt: skip
    rows = []
    for m in view.memory:
        r = m.row
        base = r.variant == view.case.baseline
        rows.append(
            [
                text(r.variant),
                number(r.weights_gib),
                "–" if base or m.weights_ratio != m.weights_ratio else signed_percent(m.weights_ratio),
                number(r.kv_cache_gib),
                number(r.kv_cache_tokens, 7),
                "–" if base or m.kv_tokens_ratio != m.kv_tokens_ratio else signed_percent(m.kv_tokens_ratio),
                number(r.activations_gib),
                number(r.graphs_gib),
                _mib(r.vram_idle_mib),
                _mib(r.vram_loaded_mib),
                _mib(r.vram_peak_mib),
            ]
        )
    parts = [table("vram", columns, rows)]
    data = vram(view.case)
    if not data.empty:
        profile = view.case.profile
        card = profile.memory_gib if profile else None
        parts.append(
            vram_by_part(data, view.case.baseline, card, title="Memory by part, as the engine states it").html()
        )
    if finding := vram_finding(view):
        parts.append(f"**Observation.** {finding}")
    if all(m.row.vram_loaded_mib is None for m in view.memory):
        parts.append(none("The driver's view is missing: no NVIDIA GPU was read in this run."))
    return "\n\n".join(parts)


def _is_batch(name: str) -> bool:
    return bool(re.match(r"(batch|offline|summar)", name))


def _workloads(view: CaseView, *, batch: bool) -> str:
    """Every workload of that kind that was measured: table, charts, key finding."""
    measured = set(view.case.cells["workload"])
    kind = "batch" if batch else "chat"
    parts = []
    for w in view.case.study.workloads:
        if _is_batch(w.name) != batch or w.name not in measured:
            continue
        parts.append(
            f"**{text(w.title or w.name)}**: about {w.input_tokens:,} tokens in, {_LENGTHS[w.natural_length]} "
            f"{w.output_tokens:,} out, {_SCHEDULES[w.schedule]}, `{w.api}` API."
        )
        parts.append(_load_table(view, w.name))
        points = frame(view.points)
        parts.append(
            throughput_by_concurrency(points, w.name, view.case.baseline, title="Throughput against concurrency").html()
        )
        parts.append(
            latency_by_concurrency(
                points, w.name, "e2e_ms_p95", view.case.baseline, title="95th percentile of end-to-end latency"
            ).html()
        )
        parts.append(f"**Key finding.** {key_finding(view, w.name)}")
    return "\n\n".join(parts) or none(f"No {kind} workload was measured in this run.")


def _load_table(view: CaseView, workload: str) -> str:
    names = [
        "Conc.",
        "Variant",
        "Throughput (tok/s)",
        "Δ",
        "TTFT p50 (ms)",
        "TPOT p50 (ms)",
        "E2E p95 (ms)",
        "Δ p95",
        "n",
    ]
    columns = [Column(n, i > 1) for i, n in enumerate(names)]
    rows = []
    for at in view.case.loads(workload):
        load = at.name
        for variant in view.case.measured_variants():
            shown = {
                m: pick(view.points, variant, workload, load, m)
                for m in ("throughput_tok_s", "ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95")
            }
            if not any(shown.values()):
                continue
            speed = shown["throughput_tok_s"]
            base = variant == view.case.baseline
            rows.append(
                [
                    number(at.concurrency) if at.concurrency else text(at.words),
                    f'<span class="qc-name">{text(variant)}</span>',
                    span(speed.value, speed.low, speed.high, 4) if speed else "–",
                    "baseline" if base else delta(view.comparison(variant, workload, load, "throughput_tok_s")),
                    *(
                        number(p.value) if (p := shown[m]) else "–"
                        for m in ("ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95")
                    ),
                    "baseline" if base else delta(view.comparison(variant, workload, load, "e2e_ms_p95")),
                    number(next((p.n for p in shown.values() if p), None), 6),
                ]
            )
    caption = (
        "Conc.: requests in flight. Throughput with its 95 % interval over repeats. n: requests that ended well, all "
        "repeats together."
    )
    return table(f"load-{text(workload)}", columns, rows, caption)


def _cost(view: CaseView) -> str:
    if view.usd_per_hour is None:
        return none("No price was given for this machine, so no cost is stated. Set one in the study or in mkdocs.yml.")
    rows, charts = [], []
    for w in view.case.study.workloads:
        loads = view.case.loads(w.name)
        if not loads:
            continue
        at = next(
            (x for x in reversed(loads) if pick(view.points, view.case.baseline, w.name, x.name, "throughput_tok_s")),
            loads[-1],
        )
        top = at.name
        for variant in view.case.measured_variants():
            cost = pick(view.points, variant, w.name, top, "usd_per_1m_output_tokens")
            if cost is None:
                continue
            c = view.comparison(variant, w.name, top, "throughput_tok_s")
            rows.append(
                [
                    f"{text(w.name)}, {text(at.words)}",
                    text(variant),
                    span(cost.value, cost.low, cost.high),
                    number(usd_per_requests(cost.value, w.output_tokens, 1_000)),
                    number(usd_per_requests(cost.value, w.output_tokens, 1_000_000)),
                    saving_cell(c) if c else "baseline",
                ]
            )
        if not frame(view.points).empty and any(p.workload == w.name for p in view.points):
            title = f"{w.title or w.name}: cost per million output tokens, {at.words}"
            charts.append(cost_per_million(frame(view.points), w.name, top, view.case.baseline, title=title).html())
    if not rows:
        return none("Nothing was measured yet, so there is no cost to state.")
    names = ["Workload", "Variant", "$ / 1M output tokens", "$ / 1K requests", "$ / 1M requests", "Saving"]
    columns = [Column(n, i > 1) for i, n in enumerate(names)]
    assumptions = (
        f"Assumptions: {number(view.usd_per_hour)} $ an hour ({view.price_source}), the card fully used (100 %). "
        "At half the use a token costs twice. Formula: [methodology](../../methodology.md)."
    )
    return "\n\n".join([assumptions, table("cost", columns, rows), *charts])


def saving_cell(c: Comparison) -> str:
    """The saving that a throughput ratio means, or why none is stated."""
    if c.low != c.low:
        return "one run: no interval"
    if c.kind not in ("better", "worse"):
        return f'<span class="qc-delta" data-class="{c.kind}">no saving shown ({c.kind})</span>'
    share, low, high = saving((c.ratio, c.low, c.high))
    return f"{share:.1%} <small>({low:.1%} to {high:.1%})</small>"


def _recommendations(view: CaseView) -> str:
    rows = [
        [
            text(v.variant),
            text(v.workload),
            f'<span class="qc-verdict" data-verdict="{v.kind}">{_KIND_WORDS[v.kind]}</span>',
            verdict_sentence(v),
            text(v.rule),
        ]
        for v in view.verdicts
    ]
    if not rows:
        return none("There is no variant beside the baseline, so there is nothing to recommend.")
    names = ["Variant", "Workload", "Verdict", "Because", "Rule"]
    parts = [table("recommendations", [Column(n) for n in names], rows)]
    best = view.answer.best
    if best:
        config = []
        for workload, c in best.items():
            speed = pick(view.points, c.variant, workload, c.load, "throughput_tok_s")
            tail = pick(view.points, c.variant, workload, c.load, "e2e_ms_p95")
            limit = view.case.study.workload(workload).e2e_limit_ms
            config.append(
                [
                    text(workload),
                    text(c.variant),
                    load_words(c.load),
                    f"{number(speed.value, 4)} tok/s" if speed else "–",
                    f"{number(tail.value)} ms" if tail else "–",
                    f"{number(limit)} ms" if limit else "none set",
                ]
            )
        names = ["Workload", "Fastest measured", "Load", "Throughput", "E2E p95", "p95 budget"]
        parts.append("### Operating points\n\n" + table("operating-points", [Column(n) for n in names], config))
    return "\n\n".join(parts)


def _methodology(view: CaseView) -> str:
    case, info = view.case, view.case.bundle.info
    return (
        f"Same harness, same prompts, same arguments for every variant; {case.study.repeats} repeats of each load "
        f"point after a warm-up with other prompts. Collector {text(info.collector_version)}, bundle format "
        f"{info.format}. Definitions and formulas: [methodology](../../methodology.md). Every table, log and hash of "
        "this case, and how to run it again: [data](data/index.md). Each figure with its interval and source: "
        "[case.json](case.json)."
    )


def _trust(case: Case) -> str:
    """What the client saw of itself: the reader judges the instrument first."""
    seen = trust(case)
    if not seen.repeats:
        return none("The client left no record of itself in this bundle.")
    limited = ", ".join(f"{text(v)} {text(w)} {text(load)}" for v, w, load in sorted(seen.limited)) or "none"
    rows = [
        ["Latest wake-up of the client's event loop, p99 of the worst repeat", f"{number(seen.lag_ms_p99)} ms"],
        ["Busiest client, share of one core", f"{number(seen.cpu_pct)} %"],
        ["Most tokens in a chunk, mean of a repeat", number(seen.tokens_per_chunk, 4)],
        ["Load points at which the client was the limit", limited],
    ]
    return "### Can the client be trusted?\n\n" + table("client", [Column("What"), Column("Seen")], rows)


def _next_steps(case: Case) -> str:
    if not case.study.next_steps:
        return none("The study names no next steps.")
    return "\n".join(f"- {text(step)}" for step in case.study.next_steps)


def _learned(view: CaseView) -> str:
    own = notes_html(view.case.bundle.notes())
    said = re.sub(r"<h\d>.*?</h\d>", "", own).strip()
    parts = [learned(view)]
    if said:
        parts.append(f"### In the author&#39;s words\n\n<div>{' '.join(own.split())}</div>")
    return "\n\n".join(parts)


def case_json(document: dict[str, object]) -> str:
    """The JSON text of `case.json`."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
