"""What load does: throughput and latency against concurrency, one line a variant."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import chosen
from quantcase.charts.views import Chart, layer

__all__ = ["METRIC_TITLES", "chart_spec", "latency_by_concurrency", "throughput_by_concurrency"]

_WIDTH, _HEIGHT = 620, 300
METRIC_TITLES = {
    "throughput_tok_s": "output tokens per second",
    "ttft_ms_p50": "TTFT, median (ms)",
    "ttft_ms_p95": "TTFT, 95th percentile (ms)",
    "tpot_ms_p50": "time per output token, median (ms)",
    "e2e_ms_p50": "end-to-end latency, median (ms)",
    "e2e_ms_p95": "end-to-end latency, 95th percentile (ms)",
    "e2e_ms_p99": "end-to-end latency, 99th percentile (ms)",
    "e2e_due_ms_p95": "end-to-end latency from due, 95th percentile (ms)",
}


def throughput_by_concurrency(
    points: pd.DataFrame, workload: str, baseline: str, *, title: str, dots: pd.DataFrame | None = None
) -> Figure:
    """Output tokens per second at each concurrency, with 95 % intervals; `dots` are the single repeats."""
    return _lines(points, workload, "throughput_tok_s", baseline, title, dots)


def latency_by_concurrency(
    points: pd.DataFrame, workload: str, metric: str, baseline: str, *, title: str, dots: pd.DataFrame | None = None
) -> Figure:
    """A latency percentile at each concurrency, with its interval; `dots` are the percentiles of single repeats."""
    return _lines(points, workload, metric, baseline, title, dots)


def _lines(
    points: pd.DataFrame, workload: str, metric: str, baseline: str, title: str, dots: pd.DataFrame | None
) -> Figure:
    table = points[(points["workload"] == workload) & (points["metric"] == metric)]
    names, left_out = chosen(table["variant"], baseline)
    data = table[table["variant"].isin(names)][["variant", "load", "at", "amount", "value", "low", "high"]]
    closed = data["load"].str.startswith("c").all()
    x = alt.X("amount:O", title="concurrency (requests in flight)" if closed else "requests per second")
    y = alt.Y(
        "value:Q", title=METRIC_TITLES[metric], scale=alt.Scale(zero=True, nice=True), axis=alt.Axis(format=",.0f")
    )
    hue = colour(names)
    base = Chart(data)
    whiskers = base.transform_filter(KNOWN).mark_rule(strokeWidth=1.5)
    single = _dots(dots, workload, data)
    unit = "tok/s" if metric == "throughput_tok_s" else "ms"
    told = tips(("variant:N", "variant"), ("at:N", "load"), ("value", unit), *INTERVAL, form=",.4~r")
    chart = layer(
        *([] if single is None else [single.encode(x=x, y=alt.Y("value:Q"), color=hue)]),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=hue),
        whiskers.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=hue, shape=shape(names), tooltip=told),
    ).properties(width=_WIDTH, height=_HEIGHT, title=title)
    words = _finding(data, metric)
    caption = f"{words} {_legend(dots)}{left_out}"
    live = Live("variant", {"y": "value"})
    return render(chart_spec(chart), slug(workload, metric), f"{title}. {words}", caption, live)


def _dots(dots: pd.DataFrame | None, workload: str, data: pd.DataFrame) -> Chart | None:
    """The single repeats behind the points that are shown; None when there are none."""
    if dots is None:
        return None
    shown = set(zip(data["variant"], data["load"], strict=True))
    here = dots[dots["workload"] == workload]
    mine = here[[key in shown for key in zip(here["variant"], here["load"], strict=True)]]
    if mine.empty:
        return None
    marks: Chart = Chart(mine[["variant", "amount", "value"]]).mark_circle(size=26, opacity=0.35)
    return marks


def _legend(dots: pd.DataFrame | None) -> str:
    return "Bars: 95 % intervals." if dots is None else "Bars: 95 % intervals; small dots: single repeats."


def _finding(data: pd.DataFrame, metric: str) -> str:
    """The highest and the lowest at the highest concurrency, and whether their intervals overlap."""
    if data.empty:
        return "No points."
    top = data["amount"].max()
    at = str(data[data["amount"] == top]["at"].iloc[0])
    rows = [
        (float(v), str(n), float(lo), float(hi))
        for v, n, lo, hi in data[data["amount"] == top][["value", "variant", "low", "high"]].to_numpy().tolist()
    ]
    unit = "tok/s" if metric == "throughput_tok_s" else "ms"
    low, high = min(rows), max(rows)
    if low[1] == high[1]:
        return f"At {at}: {high[1]} {high[0]:,.0f} {unit}."
    words = f"At {at}: highest {high[1]} with {high[0]:,.0f} {unit}, "
    words += f"lowest {low[1]} with {low[0]:,.0f} {unit}."
    second = sorted(rows)[-2]
    if not math.isnan(second[3]) and not math.isnan(high[2]) and second[3] >= high[2]:
        words += f" The intervals of {high[1]} and {second[1]} overlap."
    return words
