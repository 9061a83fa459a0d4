"""Where decode stands under the card's roofs: memory bandwidth on the slope, arithmetic on the flat."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import KNOWN, chart_spec, colour, shape, tips
from quantcase.charts.theme import AXIS, TEXT, chosen
from quantcase.charts.views import Chart, layer

__all__ = ["roofline_position"]


def roofline_position(positions: pd.DataFrame, ceilings: pd.DataFrame, baseline: str, *, title: str) -> Figure:
    """Both axes logarithmic, as the roofline is drawn: a variant's load points, joined, under the roofs.

    `positions` has `variant, at, intensity, tflops, low, high, bandwidth_share, compute_share`; `ceilings` has `roof,
    intensity, tflops`, from left to right.
    """
    names, left_out = chosen(positions["variant"], baseline)
    mine = positions[positions["variant"].isin(names)]
    kept = ["variant", "at", "intensity", "tflops", "low", "high", "bandwidth_share", "compute_share"]
    log = alt.Scale(type="log", nice=False, padding=24)  # room for the words above the highest roof
    x = alt.X("intensity:Q", title="operations per byte (FLOP/byte)", scale=log, axis=alt.Axis(format="~g"))
    y = alt.Y("tflops:Q", title="operations per second (TFLOP/s)", scale=log, axis=alt.Axis(format=",~g", tickCount=6))
    roof, base = Chart(ceilings[["roof", "intensity", "tflops"]]), Chart(mine[kept])
    flat = _flat(ceilings)
    load = mine[mine["variant"] == names[0]] if names else mine
    hue = colour(names)
    told = tips(
        ("variant:N", "variant"), ("at:N", "load"), ("intensity", "FLOP/byte"), ("tflops", "TFLOP/s"),
        ("bandwidth_share", "share of the bandwidth"), ("compute_share", "share of the arithmetic"),
    )  # fmt: skip
    chart = layer(
        roof.mark_line(color=AXIS, strokeWidth=1.6).encode(x=x, y=y, detail="roof:N", order=alt.Order("intensity:Q")),
        Chart(flat).mark_text(align="right", dy=-7, fontSize=11, color=TEXT).encode(x=x, y=y, text="words:N"),
        base.mark_line(strokeWidth=1.2, opacity=0.6).encode(x=x, y=y, color=hue, order=alt.Order("intensity:Q")),
        base.transform_filter(KNOWN).mark_rule(strokeWidth=1.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        base.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, color=hue, shape=shape(names), tooltip=told),
        Chart(load[["variant", "intensity", "tflops", "at"]])
        .mark_text(align="left", dx=9, dy=12, fontSize=11, color=TEXT)
        .encode(x=x, y=y, text="at:N"),
    ).properties(width=620, height=320, title=title)
    words = _finding(positions)
    caption = (
        f"{words} An estimate: a step reads the weights and the K/V of what runs, and computes two operations a weight "
        f"and request. The slope is the card's bandwidth. Bars: the 95 % interval of TPOT.{left_out}"
    )
    live = Live("variant", {"x": "intensity", "y": "tflops"})
    return render(chart_spec(chart), "roofline", f"{title}. {words}", caption, live)


def _flat(ceilings: pd.DataFrame) -> pd.DataFrame:
    """The right end of each roof with its name; roofs of one height share it."""
    ends = ceilings.groupby("roof", sort=False).tail(1)
    found = []
    for height in dict.fromkeys(ends["tflops"].astype(float).tolist()):
        rows = ends[ends["tflops"] == height]
        words = f"{', '.join(rows['roof'])} {height:,.0f} TFLOP/s"
        found.append((float(rows["intensity"].max()), height, words))
    return pd.DataFrame(found, columns=["intensity", "tflops", "words"])


def _finding(positions: pd.DataFrame) -> str:
    """How near each roof came, at most, and with what."""
    if positions.empty:
        return "No position can be worked out."
    parts = []
    for column, words in (("bandwidth_share", "bandwidth"), ("compute_share", "arithmetic")):
        best = positions.sort_values(column).iloc[-1]
        parts.append(f"{words} {100 * float(best[column]):.0f} % ({best['variant']}, {best['at']})")
    return f"Most of the card's {parts[0]}; most of its {parts[1]}."
