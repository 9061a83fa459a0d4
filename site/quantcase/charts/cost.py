"""What a million tokens costs, variant by variant."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, tips
from quantcase.charts.theme import TEXT, series_scale
from quantcase.charts.views import Chart, layer
from quantcase.charts.words import short

__all__ = ["cost_per_million"]


def cost_per_million(
    points: pd.DataFrame, workload: str, load: str, baseline: str, *, title: str, dots: pd.DataFrame | None = None,
    currency: str = "USD",
) -> Figure:  # fmt: skip
    """Bars with their 95 % intervals, the baseline first; `dots` are the single repeats. Amounts are in `currency`."""
    table = points[
        (points["workload"] == workload) & (points["load"] == load) & (points["metric"] == "usd_per_1m_output_tokens")
    ]
    data = table[["variant", "value", "low", "high"]]
    names = sorted(dict.fromkeys(data["variant"]), key=lambda n: n != baseline)
    y = alt.Y("variant:N", sort=names, title=None)
    base, unit = Chart(data), f"{currency} per million output tokens"
    chart = layer(
        base.mark_bar(height={"band": 0.6}).encode(
            x=alt.X("value:Q", title=unit, axis=alt.Axis(format="$,.2f" if currency == "USD" else ",.2f", grid=True)),
            y=y,
            color=alt.Color("variant:N", scale=alt.Scale(**series_scale(names)), legend=None),
            tooltip=tips(("variant:N", "variant"), ("value", unit), *INTERVAL),
        ),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=2, color=TEXT).encode(x=alt.X("low:Q"), x2="high:Q", y=y),
        *_dots(dots, workload, load, y),
    ).properties(width=560, height=34 * max(1, len(names)), title=title)
    found = sorted((float(v), str(n)) for v, n in data[["value", "variant"]].to_numpy().tolist())
    words = "No points."
    if found:
        low, high = found[0], found[-1]
        least, most = (f"{short(value)} {currency}" for value, _ in (low, high))
        words = f"Lowest {low[1]} with {least}, highest {high[1]} with {most} per million tokens."
    return render(
        chart_spec(chart), slug("cost", workload), f"{title}. {words}", f"{words} Lines: 95 % intervals{_more(dots)}."
    )


def _dots(dots: pd.DataFrame | None, workload: str, load: str, y: alt.Y) -> list[Chart]:
    if dots is None:
        return []
    mine = dots[(dots["workload"] == workload) & (dots["load"] == load)][["variant", "value"]]
    marks = Chart(mine).mark_circle(size=30, opacity=0.6, color=TEXT).encode(x=alt.X("value:Q"), y=y)
    return [] if mine.empty else [marks]


def _more(dots: pd.DataFrame | None) -> str:
    return "" if dots is None else "; small dots: single repeats"
