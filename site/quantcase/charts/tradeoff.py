"""Quality against size: what is left of the baseline's accuracy, and how small the weights are."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import AXIS, TEXT, chosen
from quantcase.charts.views import Chart, layer

__all__ = ["quality_against_size"]

_SMALL_GIB = 0.1  # below, the axis is in MiB


def quality_against_size(data: pd.DataFrame, baseline: str, *, title: str) -> Figure:
    """Recovery with its 95 % interval over the weights; those that no other beats are joined.

    `data` has `variant, gib, recovery, low, high, n, front`.
    """
    names, left_out = chosen(data["variant"], baseline)
    mib = float(data["gib"].max()) < _SMALL_GIB
    unit = "MiB" if mib else "GiB"
    mine = data[data["variant"].isin(names)]
    mine = mine.assign(size=mine["gib"] * (1024 if mib else 1))
    mine = mine[["variant", "size", "recovery", "low", "high", "n", "front"]]
    x = alt.X("size:Q", title=f"weights ({unit})", scale=alt.Scale(zero=True), axis=alt.Axis(format=",~r", grid=True))
    y = alt.Y(
        "recovery:Q", title="recovery: accuracy / baseline's", scale=alt.Scale(zero=False, padding=16),
        axis=alt.Axis(labelExpr="format(100 * datum.value, '~r') + ' %'", tickCount=6),
    )  # fmt: skip
    fields = (("variant:N", "variant"), ("size", f"weights ({unit})"), ("recovery", "recovery (share)"))
    told = tips(*fields, *INTERVAL, ("n", "prompts"), form=",.4~r")
    hue, base = colour(names).legend(None), Chart(mine)
    chart = layer(
        Chart(pd.DataFrame([{"whole": 1.0}])).mark_rule(color=AXIS, strokeDash=[5, 3]).encode(y=alt.Y("whole:Q")),
        base.transform_filter("datum.front")
        .mark_line(color=AXIS, strokeWidth=1.2)
        .encode(x=x, y=y, order=alt.Order("size:Q")),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=1.6).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        base.mark_point(filled=True, size=95, opacity=1).encode(
            x=x, y=y, color=hue, shape=shape(names).legend(None), tooltip=told
        ),
        base.mark_text(align="left", dx=9, dy=-8, fontSize=12, color=TEXT).encode(x=x, y=y, text="variant:N"),
    ).properties(width=600, height=300, title=title)
    words = _finding(data, baseline)
    caption = f"{words} Bars: 95 % intervals. Joined: no other is as good and smaller, by the estimates.{left_out}"
    live = Live("variant", {"x": "size", "y": "recovery"})
    return render(chart_spec(chart), "quality-size", f"{title}. {words}", caption, live)


def _finding(data: pd.DataFrame, baseline: str) -> str:
    others = data[data["variant"] != baseline]
    if others.empty:
        return "No variant beside the baseline was asked."
    own = data[data["variant"] == baseline]["gib"]
    least = others.sort_values("gib").iloc[0]
    best = others.sort_values(["recovery", "gib"], ascending=[False, True]).iloc[0]
    parts = [f"Smallest: {_kept(least)}{_size(least, own)}"]
    if best["variant"] != least["variant"]:
        parts.append(f"most is left by {_kept(best)}{_size(best, own)}")
    return "; ".join(parts) + "."


def _kept(row: pd.Series) -> str:
    low, high = float(row["low"]), float(row["high"])
    bounds = "" if math.isnan(low) or math.isnan(high) else f" ({100 * low:.1f} % to {100 * high:.1f} %)"
    return f"{row['variant']}, {100 * float(row['recovery']):.1f} % of the baseline's accuracy{bounds}"


def _size(row: pd.Series, own: pd.Series) -> str:
    return f", at {100 * float(row['gib']) / float(own.iloc[0]):.0f} % of its weights" if len(own) else ""
