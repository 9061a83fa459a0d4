"""What users wait: latency against the number of users, one colour a variant."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, colour, shape, tips
from quantcase.charts.theme import TEXT, chosen
from quantcase.charts.views import Chart, layer

__all__ = ["latency_by_users"]

_WIDTH, _HEIGHT = 620, 300


def latency_by_users(points: pd.DataFrame, baseline: str, *, title: str) -> Figure:
    """The 95th percentile as a solid line and the median as a dashed one.

    `points` has `variant, users, percentile, ms`. There is no interval: Locust keeps no single request.
    """
    names, left_out = chosen(points["variant"], baseline)
    points = points[points["variant"].isin(names)]
    hue = colour(names)
    x = alt.X("users:O", title="users", sort="ascending")
    y = alt.Y("ms:Q", title="end-to-end latency (ms)", scale=alt.Scale(zero=True), axis=alt.Axis(format=",.0f"))
    dash = alt.StrokeDash(
        "percentile:N",
        scale=alt.Scale(domain=["95th percentile", "median"], range=[[1, 0], [5, 4]]),
        legend=alt.Legend(symbolType="stroke", symbolStrokeColor=TEXT),
    )
    base = Chart(points)
    fields = (("variant:N", "variant"), ("users", "users"), ("percentile:N", "percentile"), ("ms", "ms"))
    told = tips(*fields, form=",.4~r")
    chart = layer(
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=hue, strokeDash=dash, detail="percentile:N"),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=hue, shape=shape(names), tooltip=told),
    ).properties(width=_WIDTH, height=_HEIGHT, title=title)
    words = _finding(points)
    tail = "Solid: 95th percentile; dashed: median. One test a variant, so there are no intervals."
    live = Live("variant", {"y": "ms"})
    return render(chart_spec(chart), "loadtest-latency", f"{title}. {words}", f"{words} {tail}{left_out}", live)


def _finding(points: pd.DataFrame) -> str:
    """The tail with most users, highest and lowest."""
    tail = points[points["percentile"] == "95th percentile"]
    word = "95th percentile"
    if tail.empty:
        tail, word = points, "median"
    if tail.empty:
        return "No points."
    top = int(tail["users"].max())
    at = tail[tail["users"] == top][["ms", "variant"]].to_numpy().tolist()
    low, high = (end((float(v), str(n)) for v, n in at) for end in (min, max))
    if low[1] == high[1]:
        return f"With {top} users: {word} {high[0]:,.0f} ms for {high[1]}."
    return f"With {top} users: {word} {low[0]:,.0f} ms for {low[1]} to {high[0]:,.0f} ms for {high[1]}."
