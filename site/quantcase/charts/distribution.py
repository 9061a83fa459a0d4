"""All requests of one load point, not only two percentiles of them: the share answered within so many ms."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render, slug
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, colour, dash, tips
from quantcase.charts.theme import AXIS, chosen
from quantcase.charts.views import Chart, layer, vconcat

__all__ = ["latency_distribution"]

_TITLES = {"ttft_ms": "TTFT (ms)", "e2e_ms": "end-to-end latency (ms)"}
_WIDE = 20  # times from least to most: beyond, equal steps stand for equal ratios


def latency_distribution(
    data: pd.DataFrame, points: pd.DataFrame, workload: str, load: str, baseline: str, *, title: str
) -> Figure:
    """Empirical distribution functions of TTFT and E2E, one line a variant through requests that were measured.

    `data` has `variant, metric, ms, share, n`; `points` are the percentiles of the tables, for the words.
    """
    names, left_out = chosen(data["variant"], baseline)
    mine = data[data["variant"].isin(names)]
    panels = [m for m in _TITLES if m in set(mine["metric"])]
    spec, live = (_spec(mine, names, panels, title, told=told) for told in (False, True))
    words = _finding(points, workload, load)
    few, many = int(data["n"].min()), int(data["n"].max())
    n = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    caption = (
        f"{words} n: {n} answered requests a variant, all repeats together; failed ones are not in it. Every corner is "
        f"a request that was measured; where they are dense, some are left out. Dashed: half, and 95 %.{left_out}"
    )
    name = slug(workload, load, "distribution")
    return render(spec, name, f"{title}. {words}", caption, Live("variant", {"x": "ms"}, live))


def _spec(data: pd.DataFrame, names: list[str], panels: list[str], title: str, *, told: bool) -> dict[str, Any]:
    """`told` adds points to be hovered: too many to be drawn into the page for nothing."""
    charts = [_panel(data[data["metric"] == m], names, _TITLES[m], told=told) for m in panels]
    whole = vconcat(*charts, spacing=24).resolve_scale(color="shared", strokeDash="shared")
    return chart_spec(whole.properties(title=title))


def _panel(data: pd.DataFrame, names: list[str], title: str, *, told: bool) -> Any:
    least, most = float(data["ms"].min()), float(data["ms"].max())
    scale = alt.Scale(type="log") if least > 0 and most > _WIDE * least else alt.Scale(zero=False)
    x = alt.X("ms:Q", title=title, scale=scale, axis=alt.Axis(format=",~r", grid=True))
    y = alt.Y(
        "share:Q", title="requests within", scale=alt.Scale(domain=[0, 1.02]),
        axis=alt.Axis(labelExpr="format(100 * datum.value, '~r') + ' %'", values=[0, 0.25, 0.5, 0.75, 0.95]),
    )  # fmt: skip
    marks = Chart(pd.DataFrame([{"at": 0.5}, {"at": 0.95}]))
    base = Chart(data[["variant", "ms", "share", "n"]])
    line = base.mark_line(strokeWidth=1.8)
    layers = [
        line.encode(x=x, y=y, color=colour(names), strokeDash=dash(names), order=alt.Order("share:Q")),
        marks.mark_rule(color=AXIS, strokeDash=[4, 4]).encode(y=alt.Y("at:Q")),
    ]
    if told:
        fields = (("variant:N", "variant"), ("ms", title), ("share", "share of requests within"), ("n", "n"))
        points = base.mark_point(filled=True, size=90, opacity=0)
        layers.append(points.encode(x=x, y=y, color=colour(names), tooltip=tips(*fields, form=",.4~r")))
    return layer(*layers).properties(width=620, height=190)


def _finding(points: pd.DataFrame, workload: str, load: str) -> str:
    """Median and tail of both latencies, least and most, by the percentiles that the tables show."""
    here = points[(points["workload"] == workload) & (points["load"] == load)]
    parts = []
    for metric, words in (("ttft_ms_p50", "median TTFT"), ("e2e_ms_p50", "median E2E"), ("e2e_ms_p95", "E2E p95")):
        rows = here[here["metric"] == metric][["value", "variant"]].to_numpy().tolist()
        found = sorted((float(v), str(n)) for v, n in rows)
        if len(found) == 1:
            parts.append(f"{words} {found[0][0]:,.0f} ms ({found[0][1]})")
        elif found:
            least, most = found[0], found[-1]
            parts.append(f"{words} {least[0]:,.0f} ms ({least[1]}) to {most[0]:,.0f} ms ({most[1]})")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else "Too few requests for a median."
