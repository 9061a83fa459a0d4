"""The same study on several GPUs: what tokens cost against what a reader waits; two boxes of one type, by cell."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.load import METRIC_TITLES
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import AXIS, GRID, MOST, TEXT, dash_scale, series_scale
from quantcase.charts.views import Chart, layer

__all__ = ["box_against_box", "cost_against_latency"]

_KEPT = ["gpu", "variant", "load", "at", "amount", "usd", "usd_low", "usd_high", "ms", "ms_low", "ms_high"]


def cost_against_latency(
    data: pd.DataFrame, metric: str, unit: str, finding: str, *, name: tuple[str, ...], title: str
) -> Figure:
    """One line a GPU and variant through its load points: down is cheaper, left is less waiting.

    `data` has the columns of `_KEPT`: `gpu` is the type, with its box where boxes stand apart; `amount`
    orders the loads. Colour and dash tell GPUs apart, shapes variants.
    """
    gpus, variants = (list(dict.fromkeys(data[c])) for c in ("gpu", "variant"))
    left_out = [*gpus[MOST:], *variants[MOST:]]
    gpus, variants = gpus[:MOST], variants[:MOST]
    mine = data[data["gpu"].isin(gpus) & data["variant"].isin(variants)][_KEPT]
    x = alt.X("ms:Q", title=METRIC_TITLES[metric], scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(grid=True))
    y = alt.Y(
        "usd:Q",
        title=unit,
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(format=",.2~r", tickCount=6),
    )
    legend = alt.Legend(symbolType="stroke", symbolStrokeWidth=2.5, labelLimit=320, columns=2)
    hue = alt.Color("gpu:N", scale=alt.Scale(**series_scale(gpus)), sort=gpus, legend=legend)
    dashes = alt.StrokeDash("gpu:N", scale=alt.Scale(**dash_scale(gpus)), sort=gpus, legend=legend)
    marks = shape(variants).legend(symbolFillColor=TEXT, symbolStrokeColor=TEXT)
    told = tips(
        ("gpu:N", "GPU"), ("variant:N", "variant"), ("at:N", "load"), ("usd", unit), ("usd_low", "95 % interval from"),
        ("usd_high", "95 % interval to"), ("ms", "ms"), form=",.4~r",
    )  # fmt: skip
    base = Chart(mine)
    chart = layer(
        base.mark_line(strokeWidth=1.6).encode(
            x=x, y=y, color=hue, strokeDash=dashes, detail="variant:N", order=alt.Order("amount:Q")
        ),
        base.transform_filter("isValid(datum.usd_low) && isValid(datum.usd_high)")
        .mark_rule(strokeWidth=1.2, opacity=0.7)
        .encode(x=x, y=alt.Y("usd_low:Q"), y2="usd_high:Q", color=hue),
        base.transform_filter("isValid(datum.ms_low) && isValid(datum.ms_high)")
        .mark_rule(strokeWidth=1.2, opacity=0.7)
        .encode(x=alt.X("ms_low:Q"), x2="ms_high:Q", y=y, color=hue),
        base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=hue, shape=marks, tooltip=told),
    ).properties(width=620, height=340, title=title)
    more = f" Not drawn, so that {MOST} can be told apart: {', '.join(left_out)}." if left_out else ""
    how = "Each line joins a variant's load points. Bars: 95 % intervals of both. The axis of costs is logarithmic."
    caption = f"{finding} {how}{more}"
    live = Live("gpu", {"x": "ms", "y": "usd"})
    return render(chart_spec(chart), slug("gpus", *name, metric), f"{title}. {finding}", caption, live)


def box_against_box(data: pd.DataFrame, region: float, finding: str, *, name: tuple[str, ...], title: str) -> Figure:
    """One row a cell: the ratio of one box to the other with its interval; the band is the region of equivalence.

    `data` has `cell, variant, value, low, high`, in order of its rows.
    """
    rows, variants = list(dict.fromkeys(data["cell"])), list(dict.fromkeys(data["variant"]))[:MOST]
    mine = data[data["variant"].isin(variants)][["cell", "variant", "value", "low", "high"]]
    band = pd.DataFrame([{"from": 1 / (1 + region), "to": 1 + region}])
    x = alt.X(
        "value:Q", title="throughput, times that of the other box", scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(grid=True),
    )  # fmt: skip
    y = alt.Y("cell:N", sort=rows, title=None, axis=alt.Axis(labelLimit=260))
    hue, base = colour(variants), Chart(mine)
    told = tips(("cell:N", "cell"), ("value", "ratio"), *INTERVAL, form=",.4~r")
    chart = layer(
        Chart(band).mark_rect(color=GRID, opacity=0.6).encode(x=alt.X("from:Q"), x2="to:Q"),
        Chart(pd.DataFrame([{"one": 1.0}])).mark_rule(color=AXIS, strokeDash=[5, 3]).encode(x=alt.X("one:Q")),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=hue),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, y=y, color=hue, shape=shape(variants), tooltip=told
        ),
    ).properties(width=520, height=max(120, 24 * len(rows)), title=title)
    words = f"{finding} Bars: 95 % intervals. Band: the region of equivalence, ±{100 * region:.2g} %."
    caption = f"{words} The axis does not start at zero."
    return render(chart_spec(chart), slug("gpus-boxes", *name), f"{title}. {finding}", caption, Live("variant"))
