"""The experiment log of a case: what ran, a section an experiment, what was found by which rule, how to deploy it."""

from __future__ import annotations

import re

from quantcase.analysis import experiments as log
from quantcase.analysis.experiments import Experiment, Row
from quantcase.analysis.memory import lighter
from quantcase.analysis.points import THROUGHPUT
from quantcase.analysis.quality import Quality
from quantcase.catalog import Case
from quantcase.html import Column, change, delta, figure, none, table
from quantcase.pages import loadtest, log_findings, origin, quality
from quantcase.pages.data import downloads
from quantcase.pages.log_findings import bullets
from quantcase.pages.servers import gib
from quantcase.pages.view import CaseView, render
from quantcase.text import counted, fixed, load_words, number, plain, said, signed_percent, span, text

__all__ = ["page"]

_STATUS = {
    "pending": "○ pending", "in progress": "… in progress", "complete": "✓ complete", "failed": "✗ failed",
    "skipped": "– skipped",
}  # fmt: skip
_ENGINES = {"vllm": "vLLM", "llamacpp": "llama.cpp"}
_OURS = (
    "Quantized on the spot by ggml&#39;s own quantizer, from the F16 model in the package; its time is not recorded."
)
_MAKER = (
    "Who quantized it, with what tool and how long that took stands only in the checkpoint&#39;s own page: the bundle "
    "does not record it."
)


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/log/index.md`."""
    case = view.case
    if origin.of(case).way == "published" and case.cells.empty:
        why = "Somebody else ran these experiments: the source states no load points, rows or logs. Its figures"
        head = f"# Experiment log: {text(case.title)}\n\n{view.trail('log')}\n\n{view.banners()}"
        return f"{head}\n\n{none(f'{why} stand on the case page, and what it says of its method in the notes.')}\n"
    rows = log.experiment_rows(case, view.points)
    states = log.matrix(case)
    return render(
        "log.md.j2",
        title=text(case.title),
        trail=view.trail("log"),
        banners=view.banners(),
        overview=_overview(view),
        matrix=_matrix(view, states),
        experiments=[_experiment(view, e, [r for r in rows if r.variant == e.variant]) for e in states],
        loadtest=loadtest.section(view),
        **log_findings.sections(view, rows),
        worked=_worked(view),
        challenges=_challenges(view, states),
        next_steps=bullets([text(s) for s in case.study.next_steps], "The study names no next steps."),
        appendix=_appendix(view),
    )


def _overview(view: CaseView) -> str:
    case, info = view.case, view.case.bundle.info
    sessions = case.bundle.environment().sessions
    gpu = next((s.gpus[0] for s in sessions if s.gpus), {})
    versions = ", ".join(sorted({v.engine_version for v in case.variants if v.engine_version})) or "not stated"
    missing = "no NVIDIA GPU was read in this run"
    rows = [
        ["Started", text(case.bundle.manifest.created[:10])],
        ["Question", text(case.study.question)],
        ["Model", text(case.study.base_model)],
        ["GPU", text(gpu.get("name") or f"{case.profile.title if case.profile else info.gpu}; {missing}")],
        ["CUDA", text(gpu.get("cuda") or "not recorded")],
        ["Driver", text(gpu.get("driver") or "not recorded")],
        [f"{_ENGINES.get(case.study.engine.name, 'Engine')} version", text(versions)],
        ["Repeats of a load point", _repeats(case)],
    ]
    return table("overview", [Column("What"), Column("Value")], rows)


def _repeats(case: Case) -> str:
    if not origin.of(case).ours:
        return f"{fixed(case.study.repeats)}; how often the server was started is not known"
    return f"{fixed(case.study.repeats)} a server start, over {counted(case.study.starts, 'start')}"


def _matrix(view: CaseView, states: list[Experiment]) -> str:
    case = view.case
    offered = dict(downloads(view))
    sizes = [(w.name, [str(x.concurrency or x.words) for x in w.loads()]) for w in case.study.workloads]
    loads = "; ".join(f"{text(name)}: {text(', '.join(each))}" for name, each in sizes)
    rows = []
    for e in states:
        files = [
            "cells.csv",
            "requests.csv.gz",
            *(f"logs/{e.variant}-{s.start}.log.gz" for s in case.starts(e.variant)),
        ]
        links = [f'<a href="../data/files/{offered[f]}">{text(f)}</a>' for f in files if f in offered]
        why = f" <small>{text(e.reason)}</small>" if e.reason else ""
        rows.append(
            [
                text(e.variant) + (" <small>baseline</small>" if e.variant == case.baseline else ""),
                text(case.study.variant(e.variant).method),
                loads,
                _STATUS[e.status] + why,
                f"{e.done} of {e.planned}",
                ", ".join(links) if links and e.done else "none yet" if not e.done else "in the open bundle",
            ]
        )
    names = ["Variant", "Quantization", "Batch sizes", "Status", "Cell repeats", "Rows"]
    caption = "Batch size: requests that the client holds in flight, which is the most that the engine can batch."
    return table("matrix", [Column(n, n == "Cell repeats") for n in names], rows, caption)


def _experiment(view: CaseView, state: Experiment, rows: list[Row]) -> tuple[str, str]:
    """Heading and body of one variant's section."""
    case, name = view.case, state.variant
    base = name == case.baseline
    parts = []
    if not base and case.study.variant(name).method != "none":
        parts.append("**Pre-quantization**\n\n" + _prequantization(view, name))
    parts.append(_results(name, rows) if rows else none(f"No rows: {_STATUS[state.status][2:]}. {text(state.reason)}"))
    parts.append("**Observations**\n\n" + _observations(view, name))
    if not base and rows:
        parts.append("**Against the baseline**\n\n" + _against(view, name, rows))
    return text(name) + (" (baseline)" if base else ""), "\n\n".join(parts)


def _results(name: str, rows: list[Row]) -> str:
    body = [
        [
            text(r.workload),
            number(r.load.concurrency) if r.load.concurrency else said(r.load.words),
            span(r.mean_ms.value, r.mean_ms.low, r.mean_ms.high) if r.mean_ms else "–",
            figure(r.p95),
            figure(r.p99),
            span(r.req_s.value, r.req_s.low, r.req_s.high) if r.req_s else "–",
            span(r.tok_s.value, r.tok_s.low, r.tok_s.high) if r.tok_s else "–",
            number(r.n),
            number(r.failed),
        ]
        for r in rows
    ]
    names = [
        "Workload", "Batch size (in flight)", "Average E2E (ms)", "P95 E2E (ms)", "P99 E2E (ms)",
        "Throughput (samples/s)", "Throughput (tok/s)", "n", "Failed",
    ]  # fmt: skip
    caption = (
        "samples/s: requests/s over the whole run; tok/s: output tokens in the steady window; with 95 % intervals."
    )
    return table(f"experiment-{text(name)}", [Column(n, i > 0) for i, n in enumerate(names)], body, caption)


def _observations(view: CaseView, name: str) -> str:
    m = next((m for m in view.memory if m.row.variant == name), None)
    if m is None:
        return none("Nothing was observed: it did not serve.")
    r, lines = m.row, []
    peak = "not read" if r.vram_peak_mib is None else f"{fixed(r.vram_peak_mib)} MiB"
    whose = "the size of its files" if m.by_files else "by the engine&#39;s word"
    weights = "not stated" if r.weights_gib is None else f"{gib(r)}, {whose}"
    lines.append(f"GPU memory: weights {weights}; the driver&#39;s peak {peak}.")
    if name != view.case.baseline:
        known = m.weights_ratio == m.weights_ratio
        gained = f"{signed_percent(m.weights_ratio)}, memory saved {number(m.saved_gib)} GiB" if known else "not known"
        lines.append(f"Weights against the baseline: {gained}.")
    ready = [number(v.healthy_s) for v in view.case.starts(name) if v.healthy_s is not None]
    lines.append(
        f"Cold start: {', '.join(ready)} s, one figure a server start." if ready else "Cold start: not recorded."
    )
    return bullets([*lines, _accuracy(view, name)], "")


def _accuracy(view: CaseView, name: str) -> str:
    """Accuracy and what it lost, in one sentence."""
    asked = [q for q in view.quality if q.accuracy]
    mine: Quality | None = next((q for q in asked if q.variant == name), None)
    if name == view.case.baseline and asked and (a := asked[0].accuracy):
        return f"Accuracy: {fixed(a.baseline_right)} of {fixed(a.n)} right; the others are set against it."
    if mine is None or (a := mine.accuracy) is None:
        return "Accuracy: not measured in this run."
    verdict = view.quality_verdicts.get(name)
    words = f"; verdict: {text(verdict.grade)}, {said(verdict.because)}" if verdict else ""
    right = f"{fixed(a.variant_right)} of {fixed(a.n)} right"
    return f"Accuracy: {right}, {quality.points_words(a)} against the baseline{words}."


def _against(view: CaseView, name: str, rows: list[Row]) -> str:
    body = []
    for r in rows:
        shown = [view.comparison(name, r.workload, r.load.name, m) for m in (THROUGHPUT, "e2e_ms_p50", "e2e_ms_p95")]
        if any(shown):
            body.append([text(r.workload), said(r.load.words), *(delta(c) for c in shown)])
    if not body:
        return none("The baseline was not measured at these load points.")
    names = ["Workload", "Load", "Throughput", "E2E p50", "E2E p95"]
    return table(f"against-{text(name)}", [Column(n) for n in names], body)


def _prequantization(view: CaseView, name: str) -> str:
    variant, row = view.case.study.variant(name), view.case.served(name)
    size = row.checkpoint_bytes if row else None
    bits = row.bits if row and row.bits is not None else variant.bits
    lines = [
        f"Checkpoint: {text(row.model if row else variant.model)}",
        f"Size on disk: {f'{fixed(size)} bytes' if size else 'not recorded'}",
        f"Bits per weight: {plain(bits) if bits is not None else 'not stated'}",
        f"Method: {text(variant.method)}",
        f"Kernel: {text(f'{row.kernel_path} ({row.kernel_class})') if row and row.kernel_path else 'not known'}",
    ]
    if variant.note:
        lines.append(f"The study&#39;s note: {text(variant.note)}")
    if not re.search(r"quanti[sz]ed", variant.note):
        lines.append(_OURS if variant.model.startswith(("trained:", "generated:")) else _MAKER)
    return bullets(lines, "")


def _worked(view: CaseView) -> str:
    """What was gained beyond the noise: speed at the highest load, memory, and answers that stayed right."""
    case, limited = view.case, view.trust.limited
    tops = {(w.name, at.name) for w in case.study.workloads for at in case.loads(w.name)[-1:]}
    gains = [c for c in view.claims if c.kind == "faster" and c.metric == THROUGHPUT and (c.workload, c.load) in tops]
    lines = [
        f"{text(c.variant)}: throughput {change(c)} at {load_words(c.load)} ({text(c.workload)})"
        for c in sorted(gains, key=lambda c: -c.ratio)
        if not {(v, c.workload, c.load) for v in (c.variant, case.baseline)} & limited
    ]
    lines += [
        f"{text(m.row.variant)}: weights {signed_percent(m.weights_ratio)}"
        for m in view.memory
        if lighter(m) and not view.failed(m.row.variant)
    ]
    passed = [text(v.variant) for v in view.quality_verdicts.values() if v.grade == "pass"]
    if passed:
        lines.append(f"No loss of quality was detected for {', '.join(passed)}")
    nothing = "Nothing was compared" if view.answer.rule == "not-compared" else "Nothing was gained beyond the noise"
    return bullets(lines, f"{nothing}.")


def _challenges(view: CaseView, states: list[Experiment]) -> str:
    """Server starts that failed, in the engine's own words, what was not finished, and doubts about the measurement."""
    lines = [
        f"**{text(v.variant)}, server start {v.start}**: {text(v.exit_state)}. "
        + (f"The engine&#39;s words: {text(v.error)}" if v.error else "The engine left no words.")
        for v in view.case.variants
        if v.exit_state != "ok"
    ]
    lines += [
        f"**{text(e.variant)}**: {_STATUS[e.status][2:]}, {text(e.reason)}"
        for e in states
        if e.status in ("pending", "skipped", "in progress")
    ]
    lines += [f"**{text(f.where)}**: {said(f.words)}" for f in view.trust.flags]
    failed = "No server start failed, and nothing" if origin.of(view.case).ours else "Nothing"
    shown = bullets(lines, f"{failed} was seen that casts doubt on the measurement.")
    solved = "What was done about them stands, where a person wrote it down, in the bundle&#39;s notes."
    return f"{shown}\n\n{solved}" if lines else shown


def _appendix(view: CaseView) -> str:
    case = view.case
    commands = [*origin.commands(case), f"collect show results/{case.id}"]
    suites: dict[str, int] = {}
    for item in case.quality_items.values():
        suites[item.suite] = suites.get(item.suite, 0) + 1
    asked = ", ".join(f"{text(name)} ({fixed(count)} prompts)" for name, count in suites.items())
    made = f"{text(case.study.prompts.kind)}, seed {case.study.seed}" if origin.of(case).ours else "not known here"
    prompts = f"Prompts of the load: {made}."
    return "\n\n".join(
        [
            "Commands:",
            "<pre>" + "\n".join(text(c) for c in commands) + "</pre>",
            f"{prompts} Questions for quality: {asked or 'none were asked'}.",
        ]
    )
