"""Latency against throughput: what more speed for all costs each one."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.load import METRIC_TITLES, chart_spec
from quantcase.charts.theme import TEXT, series_scale, shape_scale

__all__ = ["latency_throughput"]


def latency_throughput(points: pd.DataFrame, workload: str, metric: str, baseline: str, *, title: str) -> Figure:
    """One line a variant through its load points, in order of load; each point carries its load."""
    mine = points[points["workload"] == workload]
    wide = mine[mine["metric"].isin(["throughput_tok_s", metric])].pivot_table(
        index=["variant", "amount", "load", "at"], columns="metric", values="value"
    )
    wide = wide.reindex(columns=["throughput_tok_s", metric]).dropna().reset_index()
    data = wide.rename(columns={"throughput_tok_s": "tok_s", metric: "ms"})
    order = list(dict.fromkeys(mine["variant"]))  # as in every other chart, so that colours mean the same
    names = sorted(order, key=lambda n: n != baseline)
    data = data.assign(rank=data["variant"].map(names.index)).sort_values(["rank", "amount"]).drop(columns="rank")
    fastest = baseline if data.empty else str(data.sort_values("tok_s")["variant"].iloc[-1])
    told = data[data["variant"].isin({baseline, fastest})]  # a label at every point would hide the points
    x = alt.X("tok_s:Q", title="output tokens per second", scale=alt.Scale(zero=True), axis=alt.Axis(format=",.0f"))
    y = alt.Y("ms:Q", title=METRIC_TITLES[metric], scale=alt.Scale(zero=True), axis=alt.Axis(format=",.0f"))
    colour = alt.Color("variant:N", scale=alt.Scale(**series_scale(names)), sort=names)
    base = alt.Chart(data)
    chart = alt.layer(
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, order=alt.Order("amount:Q")),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, y=y, color=colour, shape=alt.Shape("variant:N", scale=alt.Scale(**shape_scale(names)), sort=names)
        ),
        alt.Chart(told).mark_text(dy=-11, fontSize=11, color=TEXT).encode(x=x, y=y, text="load:N"),
    ).properties(width=620, height=320, title=title)
    words = _finding(data, metric)
    return render(chart_spec(chart), slug(workload, metric, "frontier"), f"{title}. {words}", words)


def _finding(data: pd.DataFrame, metric: str) -> str:
    """Both ends of the baseline-first variant's line; no claim about who is better."""
    if data.empty:
        return "No load point has both figures."
    parts = []
    for name, rows in data.groupby("variant", sort=False):
        first, last = rows.sort_values("amount").iloc[0], rows.sort_values("amount").iloc[-1]
        if len(rows) > 1:
            parts.append(
                f"{name}: {first['tok_s']:,.0f} tok/s at {first['ms']:,.0f} ms ({first['at']}) to "
                f"{last['tok_s']:,.0f} tok/s at {last['ms']:,.0f} ms ({last['at']})"
            )
        else:
            parts.append(f"{name}: {first['tok_s']:,.0f} tok/s at {first['ms']:,.0f} ms ({first['at']})")
    return "; ".join(parts) + ". Further right is more speed for all, further down is less waiting for each."
