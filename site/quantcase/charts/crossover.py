"""Throughput against the baseline at each load, and the load at which it stops paying."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import AXIS, GRID, TEXT, chosen
from quantcase.charts.views import Chart, layer
from quantcase.charts.words import short

__all__ = ["Crossing", "ratio_by_load"]


class Crossing(NamedTuple):
    """Where a variant's ratio crosses 1, as worked out by the analysis; nan for an open end."""

    variant: str
    at: float
    low: float
    high: float
    stops: bool


def ratio_by_load(
    ratios: pd.DataFrame, crossings: Sequence[Crossing], workload: str, baseline: str, rope: float, *, title: str
) -> Figure:
    """Lines of variant / baseline over load, the region of equivalence as a band.

    `ratios` has `variant, amount, ratio, low, high, at`; the colours are those of the other charts, where the baseline
    comes first.
    """
    names, left_out = chosen([baseline, *ratios["variant"]], baseline)
    ratios = ratios[ratios["variant"].isin(names)]
    hue = colour(names)
    x = alt.X("amount:Q", title="load", scale=alt.Scale(type="log", base=2), axis=alt.Axis(grid=False, format="~g"))
    y = alt.Y("ratio:Q", title="throughput / baseline", scale=alt.Scale(zero=False), axis=alt.Axis(format=".2f"))
    band = pd.DataFrame([{"low": 1 - rope, "high": 1 + rope}])
    one = pd.DataFrame([{"one": 1.0}])
    base = Chart(ratios)
    told = tips(("variant:N", "variant"), ("amount", "load"), ("ratio", "throughput / baseline"), *INTERVAL)
    layers = [
        Chart(band).mark_rect(color=GRID, opacity=0.55).encode(y=alt.Y("low:Q"), y2="high:Q"),
        Chart(one).mark_rule(color=AXIS, strokeDash=[5, 3]).encode(y=alt.Y("one:Q")),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=hue),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=hue, shape=shape(names), tooltip=told),
    ]
    for c in crossings:
        mark = pd.DataFrame([{"at": c.at, "low": c.low, "high": c.high}])
        if not math.isnan(c.low) and not math.isnan(c.high):
            layers.append(Chart(mark).mark_rect(color=TEXT, opacity=0.08).encode(x=alt.X("low:Q"), x2="high:Q"))
        layers.append(Chart(mark).mark_rule(color=TEXT, strokeDash=[2, 2]).encode(x=alt.X("at:Q")))
    chart = layer(*layers).properties(width=620, height=280, title=title)
    words = _finding(ratios, crossings)
    tail = f" The band is the region of equivalence, 1 ± {100 * rope:.0f} %; bars: 95 % intervals"
    tail += "; dotted: the crossing."
    live = Live("variant", {"x": "amount", "y": "ratio"})
    return render(chart_spec(chart), slug(workload, "ratio"), f"{title}. {words}", words + tail + left_out, live)


def _finding(ratios: pd.DataFrame, crossings: Sequence[Crossing]) -> str:
    if not crossings:
        return "No variant crosses the baseline inside the loads that were measured."
    parts = []
    for c in crossings:
        bounds = f" ({_end(c.low, 'below what was measured')} to {_end(c.high, 'beyond what was measured')})"
        word = "stops" if c.stops else "starts"
        parts.append(f"{c.variant} {word} paying at a load of about {short(c.at)}{bounds}.")
    return " ".join(parts)


def _end(value: float, otherwise: str) -> str:
    return otherwise if math.isnan(value) else short(value)
