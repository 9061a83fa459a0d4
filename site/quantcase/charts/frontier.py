"""Latency against throughput: what more speed for all costs each one."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.load import METRIC_TITLES
from quantcase.charts.parts import chart_spec, colour, shape, tips
from quantcase.charts.theme import TEXT, chosen
from quantcase.charts.views import Chart, layer

__all__ = ["latency_throughput"]

_SPEED = "throughput_tok_s"


def latency_throughput(points: pd.DataFrame, workload: str, metric: str, baseline: str, *, title: str) -> Figure:
    """One line a variant through its load points, in order of load, with both intervals; each end carries its load."""
    mine = points[(points["workload"] == workload) & points["metric"].isin([_SPEED, metric])]
    names, left_out = chosen(points[points["workload"] == workload]["variant"], baseline)
    keys, bounds = ["variant", "amount", "load", "at"], ["value", "low", "high"]
    sides = [
        mine[mine["metric"] == m][keys + bounds].rename(columns={"value": v, "low": f"{v}_low", "high": f"{v}_high"})
        for m, v in ((_SPEED, "tok_s"), (metric, "ms"))
    ]
    data = sides[0].merge(sides[1], on=keys).dropna(subset=["tok_s", "ms"])
    data = data[data["variant"].isin(names)]
    data = data.assign(rank=data["variant"].map(names.index)).sort_values(["rank", "amount"]).drop(columns="rank")
    fastest = baseline if data.empty else str(data.sort_values("tok_s")["variant"].iloc[-1])
    told = data[data["variant"].isin({baseline, fastest})]  # a label at every point would hide the points
    x = alt.X("tok_s:Q", title="output tokens per second", scale=alt.Scale(zero=True), axis=alt.Axis(format=",.0f"))
    y = alt.Y("ms:Q", title=METRIC_TITLES[metric], scale=alt.Scale(zero=True), axis=alt.Axis(format=",.0f"))
    hue = colour(names)
    base = Chart(data)
    chart = layer(
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=hue, order=alt.Order("amount:Q")),
        base.transform_filter("isValid(datum.tok_s_low) && isValid(datum.tok_s_high)")
        .mark_rule(strokeWidth=1.2, opacity=0.7)
        .encode(x=alt.X("tok_s_low:Q"), x2="tok_s_high:Q", y=y, color=hue),
        base.transform_filter("isValid(datum.ms_low) && isValid(datum.ms_high)")
        .mark_rule(strokeWidth=1.2, opacity=0.7)
        .encode(x=x, y=alt.Y("ms_low:Q"), y2="ms_high:Q", color=hue),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x,
            y=y,
            color=hue,
            shape=shape(names),
            tooltip=tips(("variant:N", "variant"), ("at:N", "load"), ("tok_s", "tok/s"), ("ms", "ms"), form=",.4~r"),
        ),
        Chart(told[["variant", "tok_s", "ms", "load"]])
        .mark_text(dy=-11, fontSize=11, color=TEXT)
        .encode(x=x, y=y, text="load:N"),
    ).properties(width=620, height=320, title=title)
    words = _finding(data)
    caption = f"{words} Bars: 95 % intervals of both.{left_out}"
    live = Live("variant", {"x": "tok_s", "y": "ms"})
    return render(chart_spec(chart), slug(workload, metric, "frontier"), f"{title}. {words}", caption, live)


def _finding(data: pd.DataFrame) -> str:
    """Both ends of every variant's line, the baseline first; no claim about who is better."""
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
