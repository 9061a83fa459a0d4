"""One figure of a study from run to run: a line a variant, each run named by its date, engine and physical box."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.parts import INTERVAL, KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import chosen
from quantcase.charts.views import Chart, layer

__all__ = ["over_time"]

_SPLIT = "|"  # where a label breaks into two lines


def over_time(
    marks: pd.DataFrame, baseline: str, unit: str, *, name: tuple[str, ...], title: str, finding: str
) -> Figure:
    """Values against runs, in the order of the runs, with 95 % intervals where there are any.

    `marks` has `run` (from 0), `date`, `engine`, `box`, `variant, value, low, high`; `name` tells the chart from the
    others of its page; `finding` says in words what got better or worse.
    """
    names, left_out = chosen(marks["variant"], baseline)
    data = marks[marks["variant"].isin(names)].sort_values("run")
    data = data.assign(label=data["date"] + _SPLIT + data["engine"] + _SPLIT + data["box"])
    order = list(dict.fromkeys(data["label"]))
    label = f"split(datum.label, '{_SPLIT}')"
    x = alt.X("label:N", sort=order, title="run", axis=alt.Axis(labelExpr=label, labelLimit=200))
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False, nice=True))
    hue, base = colour(names), Chart(data)
    told = tips(
        ("variant:N", "variant"),
        ("date:N", "date"),
        ("engine:N", "engine"),
        ("box:N", "card or box"),
        ("value", unit),
        *INTERVAL,
        form=",.4~r",
    )
    chart = layer(
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=hue),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=hue, shape=shape(names), tooltip=told),
    ).properties(width=620, height=280, title=title)
    caption = f"{finding} Bars: 95 % intervals. The axis does not start at zero.{left_out}"
    return render(chart_spec(chart), slug("history", *name), f"{title}. {finding}", caption, Live("variant"))
