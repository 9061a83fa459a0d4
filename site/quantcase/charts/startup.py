"""How long until a server answers: each server start as a bar, cut into what the engine states."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, tips
from quantcase.charts.theme import CARD, SERIES, TEXT
from quantcase.charts.views import Chart, layer
from quantcase.charts.words import short
from quantcase.signs import signed

__all__ = ["startup_timeline"]

_PARTS = {"weights": "load weights", "compile": "compile", "graphs": "capture graphs", "rest": "everything else"}
_COLOURS = {"weights": 1, "compile": 6, "graphs": 2, "rest": 0}  # places in the theme's series; weights as for VRAM


def startup_timeline(startups: pd.DataFrame, *, title: str) -> Figure:
    """Bars to the second at which each start was ready, a tick at its first token.

    `startups` has `variant, start, part, seconds, ready_s, first_token_s`, in the order in which they shall stand.
    """
    several = startups["start"].nunique() > 1
    labels = [f"{v}, start {s}" if several else str(v) for v, s in startups[["variant", "start"]].to_numpy().tolist()]
    data = startups.assign(
        label=labels, part=startups["part"].map(_PARTS), order=startups["part"].map(list(_PARTS).index)
    )
    rows = list(dict.fromkeys(labels))
    parts = [p for p in _PARTS.values() if p in set(data["part"])]
    scale = alt.Scale(domain=parts, range=[SERIES[_COLOURS[k]] for k, p in _PARTS.items() if p in parts])
    ends = data.drop_duplicates("label")[["label", "ready_s", "first_token_s"]]
    ends = ends.assign(words=[signed(f"ready {short(float(s))} s") for s in ends["ready_s"]])
    y = alt.Y("label:N", sort=rows, title=None)
    # Room for the figure behind the longest bar.
    farthest = 1.22 * float(ends[["ready_s", "first_token_s"]].max().max())
    x = alt.X("sum(seconds):Q", title="seconds from the start of the process", scale=alt.Scale(domain=[0, farthest]))
    bars = (
        Chart(data[["label", "part", "order", "seconds"]])
        .mark_bar(height={"band": 0.62}, stroke=CARD, strokeWidth=1)
        .encode(
            x=x.stack("zero"),
            y=y,
            color=alt.Color("part:N", sort=parts, scale=scale),
            order=alt.Order("order:Q"),
            tooltip=tips(("label:N", "server start"), ("part:N", "part"), ("seconds", "s"), form=",.4~r"),
        )
    )
    end = Chart(ends)
    chart = layer(
        bars,
        end.transform_filter("isValid(datum.first_token_s)")
        .mark_tick(color=TEXT, thickness=2, height={"band": 0.8})
        .encode(x=alt.X("first_token_s:Q"), y=y, tooltip=tips(("first_token_s", "first token (s)"), form=",.4~r")),
        end.mark_text(align="left", dx=7, color=TEXT, fontSize=12).encode(
            x=alt.X("first_token_s:Q" if ends["first_token_s"].notna().all() else "ready_s:Q"),
            y=y,
            text="words:N",
        ),
    ).properties(width=560, height=30 * max(1, len(rows)), title=title)
    words = _finding(data)
    caption = (
        f"{words} Ticks: the first token. The engine states how long a part took and not "
        "when, so the parts stand in the order of the legend."
    )
    return render(chart_spec(chart), "startup", f"{title}. {words}", caption, Live("part"))


def _finding(data: pd.DataFrame) -> str:
    """Soonest and latest, and what a later start of the same variant took."""
    ends = data.drop_duplicates("label")
    found = sorted((float(s), str(n)) for s, n in ends[["ready_s", "label"]].to_numpy().tolist())
    if not found:
        return "No server start was ready."
    if len(found) == 1:
        return f"{found[0][1]} was ready after {found[0][0]:,.3g} s."
    first, last = found[0], found[-1]
    words = f"Ready soonest: {first[1]} after {first[0]:,.3g} s; latest: {last[1]} after {last[0]:,.3g} s."
    again = sum(
        rows["ready_s"].iloc[-1] < rows["ready_s"].iloc[0]
        for _, rows in ends.groupby("variant", sort=False)
        if len(rows) > 1
    )
    several = int((ends.groupby("variant").size() > 1).sum())
    if several:
        words += f" Ready sooner at the last start than at the first: {again} of {several} started several times."
    return words
