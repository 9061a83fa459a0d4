"""The sections of a case that show load: each workload with its table, charts and key finding."""

from __future__ import annotations

import re

import pandas as pd

from quantcase.analysis.crossover import crossovers
from quantcase.analysis.points import THROUGHPUT, frame, pick
from quantcase.analysis.repeats import repeats
from quantcase.charts import (
    Crossing,
    latency_by_concurrency,
    latency_throughput,
    ratio_by_load,
    throughput_by_concurrency,
)
from quantcase.charts.load import METRIC_TITLES
from quantcase.html import Column, delta, figure, none, table
from quantcase.pages import figures
from quantcase.pages.findings import key_finding
from quantcase.pages.view import CaseView
from quantcase.text import counted, fixed, number, said, span, text

__all__ = ["section"]

_LENGTHS = {False: "exactly", True: "at most"}
_SCHEDULES = {
    "closed": "closed loop",
    "constant": "arriving at a constant rate",
    "poisson": "arriving at random (Poisson)",
    "ramp": "arriving at a rising rate",
    "trace": "arriving as in the trace",
}


def _is_batch(name: str) -> bool:
    return bool(re.match(r"(batch|offline|summar)", name))


def section(view: CaseView, *, batch: bool) -> str:
    """Every workload of that kind that was measured: table, charts, key finding."""
    measured = set(view.case.cells["workload"])
    kind = "batch" if batch else "chat"
    parts = []
    for w in view.case.study.workloads:
        if _is_batch(w.name) != batch or w.name not in measured:
            continue
        parts.append(
            f"**{text(w.title or w.name)}**: about {counted(w.input_tokens, 'token')} in, {_LENGTHS[w.natural_length]} "
            f"{fixed(w.output_tokens)} out, {_SCHEDULES[w.schedule]}, `{w.api}` API."
        )
        parts.append(_load_table(view, w.name))
        parts += [*_charts(view, w.name), figures.latencies(view, w.name)]
        parts.append(f"**Key finding.** {key_finding(view, w.name)}")
    return "\n\n".join(p for p in parts if p) or none(f"No {kind} workload was measured in this run.")


def _charts(view: CaseView, workload: str) -> list[str]:
    """Throughput and tail against load, against each other, and against the baseline."""
    case, table = view.case, frame(view.points)
    closed = view.case.study.workload(workload).schedule == "closed"
    tail = "e2e_ms_p95" if closed else "e2e_due_ms_p95"
    if not ((table["workload"] == workload) & (table["metric"] == tail)).any():
        tail = "e2e_ms_p50"  # too few requests for a tail
    against = "concurrency" if closed else "the rate of arrivals"
    name = METRIC_TITLES[tail].removesuffix(" (ms)")
    drawn = [
        throughput_by_concurrency(
            table, workload, case.baseline, title=f"Throughput against {against}", dots=repeats(case, THROUGHPUT)
        ),
        latency_by_concurrency(
            table, workload, tail, case.baseline, title=f"{name[0].upper()}{name[1:]}", dots=repeats(case, tail)
        ),
    ]
    if len(case.loads(workload)) > 1:
        title = "Latency against throughput"
        drawn.append(latency_throughput(table, workload, tail, case.baseline, title=title))
        claims = [c for c in view.claims if c.workload == workload and c.metric == THROUGHPUT]
        if claims and closed:
            ratios = pd.DataFrame([(c.variant, c.amount, c.ratio, c.low, c.high) for c in claims])
            ratios.columns = pd.Index(["variant", "amount", "ratio", "low", "high"])
            found = [Crossing(c.variant, c.at, c.low, c.high, c.stops) for c in crossovers(claims, workload)]
            title = "Throughput against the baseline"
            drawn.append(ratio_by_load(ratios, found, workload, case.baseline, claims[0].rope, title=title))
    return [f.html() for f in drawn]


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
                    number(at.concurrency) if at.concurrency else said(at.words),
                    f'<span class="qc-name">{text(variant)}</span>',
                    span(speed.value, speed.low, speed.high, 4) if speed else "–",
                    "baseline" if base else delta(view.comparison(variant, workload, load, "throughput_tok_s")),
                    *(figure(shown[m]) for m in ("ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95")),
                    "baseline" if base else delta(view.comparison(variant, workload, load, "e2e_ms_p95")),
                    number(next((p.n for p in shown.values() if p), None), 6),
                ]
            )
    caption = (
        "Conc.: requests in flight. Throughput with its 95 % interval over repeats. n: requests that ended well, all "
        "repeats together."
    )
    return table(f"load-{text(workload)}", columns, rows, caption)
