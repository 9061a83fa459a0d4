"""The GPU over the whole run: power, clock, memory and use, below a lane that says who was served when."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, tips
from quantcase.charts.theme import GRID, SERIES, chosen
from quantcase.charts.views import Chart, layer, vconcat

__all__ = ["telemetry_over_time"]

_WIDTH, _LANE, _PANEL = 600, 17, 84
_LONG_S = 600.0  # from then on, the axis is in minutes


def telemetry_over_time(
    samples: pd.DataFrame, visits: pd.DataFrame, count: int, bin_s: float, baseline: str, *, title: str
) -> Figure:
    """A panel a metric: the band from the least to the most of each stretch, and its mean as a line.

    `samples` has `gpu, metric, t_s, low, high, mean, piece` for stretches of `bin_s` seconds, from `count` samples;
    `visits` has `variant, start, from_s, to_s`. Nothing is drawn across a gap (another `piece`).
    """
    names, left_out = chosen(visits["variant"], baseline)
    long = float(samples["t_s"].max()) > _LONG_S
    unit, factor = ("minutes", 1 / 60) if long else ("seconds", 1.0)
    found = samples.assign(t=samples["t_s"] * factor, gpu=samples["gpu"].map("GPU {}".format))
    lane = visits[visits["variant"].isin(names)]
    lane = lane.assign(begin=lane["from_s"] * factor, end=lane["to_s"] * factor)[["variant", "start", "begin", "end"]]
    gpus = list(dict.fromkeys(found["gpu"]))[: len(SERIES) - 1]
    found = found[found["gpu"].isin(gpus)]
    metrics = list(dict.fromkeys(found["metric"]))
    last = f"{unit} since the bundle was created"

    def spec(*, told: bool) -> dict[str, Any]:
        charts: list[Any] = [] if lane.empty else [_lane(lane, names, unit)]
        for metric in metrics:
            mine = found[found["metric"] == metric][["gpu", "t", "low", "high", "mean", "piece"]]
            charts.append(_panel(mine, lane, gpus, metric, last if metric == metrics[-1] else "", unit, told=told))
        whole = vconcat(*charts, spacing=10).resolve_scale(x="shared", color="shared")
        return chart_spec(whole.properties(title=title))

    words = _finding(found, metrics)
    caption = (
        f"{words} {count:,} samples in stretches of {bin_s:.3g} s: the band is the least and the most of each, the "
        f"line its mean. Shaded: requests were being measured.{left_out}"
    )
    live = Live("gpu" if len(gpus) > 1 else "", spec=spec(told=True))
    return render(spec(told=False), "telemetry", f"{title}. {words}", caption, live)


def _x(title: str) -> alt.X:
    """One axis for all panels; only the last is written."""
    axis = alt.Axis(grid=False, format=",~r") if title else alt.Axis(labels=False, ticks=False, grid=False)
    return alt.X("t:Q", title=title or None, axis=axis, scale=alt.Scale(zero=False, nice=False))


def _lane(lane: pd.DataFrame, names: list[str], unit: str) -> Chart:
    times = (("begin", f"from ({unit})"), ("end", f"to ({unit})"))
    told = tips(("variant:N", "variant"), ("start", "server start"), *times)
    bars: Chart = Chart(lane).mark_bar(height={"band": 0.6}, color=SERIES[0])
    x = alt.X("begin:Q", title=None, axis=alt.Axis(labels=False, ticks=False, grid=False))
    y = alt.Y("variant:N", sort=names, title=None)
    return bars.encode(x=x, x2="end:Q", y=y, tooltip=told).properties(width=_WIDTH, height=_LANE * len(names))


def _panel(
    data: pd.DataFrame, lane: pd.DataFrame, gpus: list[str], metric: str, x_title: str, unit: str, *, told: bool
) -> Any:
    legend = alt.Legend() if len(gpus) > 1 else None
    scale = alt.Scale(domain=gpus, range=SERIES[1 : len(gpus) + 1])
    hue = alt.Color("gpu:N", scale=scale, legend=legend)
    y = alt.Y("high:Q", title=metric, axis=alt.Axis(format=",~r", tickCount=4), scale=alt.Scale(zero=True))
    base = Chart(data)
    fields = (("t", f"at ({unit})"), ("low", "least"), ("mean", "mean"), ("high", "most"))
    layers: list[Chart] = []
    if not lane.empty:
        shade = Chart(lane[["begin", "end"]]).mark_rect(color=GRID, opacity=0.6)
        layers.append(shade.encode(x=alt.X("begin:Q"), x2="end:Q"))
    layers += [
        base.mark_area(opacity=0.3).encode(x=_x(x_title), y=y, y2="low:Q", color=hue, detail="piece:N"),
        base.mark_line(strokeWidth=1.3).encode(x=_x(x_title), y=alt.Y("mean:Q"), color=hue, detail="piece:N"),
    ]
    if told:
        layers.append(
            base.mark_rule(strokeWidth=4, opacity=0).encode(x=_x(x_title), tooltip=tips(*fields, form=",.4~r"))
        )
    return layer(*layers).properties(width=_WIDTH, height=_PANEL)


def _finding(found: pd.DataFrame, metrics: list[str]) -> str:
    """The span of each metric over the whole run."""
    parts = []
    for metric in metrics:
        rows = found[found["metric"] == metric]
        parts.append(f"{metric} {float(rows['low'].min()):,.4g} to {float(rows['high'].max()):,.4g}")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else "No samples."
