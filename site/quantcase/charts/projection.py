"""Measured here, estimated there: one small panel a variant, measured solid, the ends of the estimate dashed."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.load import METRIC_TITLES, chart_spec
from quantcase.charts.theme import SERIES, TEXT
from quantcase.charts.views import Chart, layer

__all__ = ["measured_and_estimated"]

_COLUMNS, _HEIGHT, _WIDTH = 3, 130, 560
_DASH = [5, 3]


def measured_and_estimated(
    data: pd.DataFrame, workload: str, metric: str, here: str, there: str, *, title: str
) -> Figure:
    """A metric against concurrency on two cards, a panel a variant.

    `data` has `variant, amount, value, low, high`: what was measured here and the ends of the estimate for there. The
    names of the cards stand in the legend, the word estimate with them.
    """
    names = list(dict.fromkeys(data["variant"]))
    measured, estimate = f"measured: {here}", f"estimate: {there}, low and high end"
    parts = [("value", measured, "measured"), ("low", estimate, "low"), ("high", estimate, "high")]
    lines = pd.concat(
        [
            data[["variant", "amount"]].assign(
                shown=data[column], what=what, line=line, low=data["low"], high=data["high"]
            )
            for column, what, line in parts
        ]
    )  # fmt: skip
    columns = min(_COLUMNS, len(names))
    wanted = [measured, estimate]
    x = alt.X("amount:O", title="concurrency")
    y = alt.Y("shown:Q", title=None, scale=alt.Scale(zero=True, nice=True), axis=alt.Axis(format=",.0f", tickCount=4))
    colour = alt.Color("what:N", sort=wanted, scale=alt.Scale(domain=wanted, range=SERIES[:2]), legend=_legend())
    dash = alt.StrokeDash(
        "what:N", sort=wanted, scale=alt.Scale(domain=wanted, range=[[1, 0], _DASH]), legend=_legend()
    )
    base = Chart(lines)
    band = base.transform_filter("(datum.line === 'low')").mark_area(color=SERIES[1], opacity=0.14)
    drawn = layer(
        band.encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash, detail="line:N"),
        base.transform_filter("(datum.line === 'measured')").mark_point(filled=True, size=45, opacity=1).encode(
            x=x, y=y, color=colour
        ),
    ).properties(width=_WIDTH // columns, height=_HEIGHT)  # fmt: skip
    header = alt.Header(title=None, labelColor=TEXT, labelFontSize=12, labelFontWeight=600)
    chart = drawn.facet(alt.Facet("variant:N", sort=names, header=header), columns=columns).properties(title=title)
    words = _finding(data, metric, here, there)
    tail = " Solid: measured. Dashed: the ends of the estimate."
    return render(chart_spec(chart), slug(workload, metric, "estimate", there), f"{title}. {words}", words + tail)


def _legend() -> alt.Legend:
    return alt.Legend(columns=1, labelLimit=460, symbolType="stroke", symbolSize=300)


def _finding(data: pd.DataFrame, metric: str, here: str, there: str) -> str:
    """Each variant at its highest load: measured, and the estimate from low to high."""
    unit = METRIC_TITLES[metric]
    said = []
    for name in dict.fromkeys(data["variant"]):
        mine = data[data["variant"] == name]
        top = mine[mine["amount"] == mine["amount"].max()]
        amount, value, low, high = (float(top[c].iloc[0]) for c in ("amount", "value", "low", "high"))
        said.append(
            f"{name} at concurrency {amount:g}: {value:,.4g} on {here}, estimate {low:,.4g} to {high:,.4g} on {there}"
        )
    return f"{unit[0].upper()}{unit[1:]}. " + "; ".join(said) + "."
