"""One theme for all charts: sizes, and sentinel colours that `figure.py` turns into the page's CSS variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "AXIS", "CARD", "CONFIG", "GRID", "MOST", "SENTINELS", "SERIES", "TEXT", "chosen", "dash_scale", "series_scale",
    "shape_scale",
]  # fmt: skip

# vl-convert needs real colours; these occur nowhere else and stand for CSS variables. Series 0 is the baseline.
SERIES = [f"#0a0b{i:02x}" for i in range(1, 9)]
TEXT, GRID, AXIS, CARD = "#0c0d01", "#0c0d02", "#0c0d03", "#0c0d04"
SENTINELS: dict[str, str] = {
    TEXT: "--qc-text",
    GRID: "--qc-grid",
    AXIS: "--qc-axis",
    CARD: "--qc-card",
    **{colour: f"--qc-series-{i}" for i, colour in enumerate(SERIES)},
}
MOST = len(SERIES)  # so many series an eye keeps apart; there are as many colours, shapes and dashes
_SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left"]
_DASHES = [[1, 0], [7, 3], [2, 2], [9, 2, 2, 2], [4, 4], [12, 3], [6, 2, 2, 2, 2, 2], [1, 4]]

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "inherit",
    "view": {"stroke": None},
    "title": {"color": TEXT, "fontSize": 15, "fontWeight": 600, "anchor": "start", "offset": 14},
    "axis": {
        "labelColor": TEXT, "titleColor": TEXT, "gridColor": GRID, "domainColor": AXIS, "tickColor": AXIS,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 400, "titlePadding": 10, "labelLimit": 160,
    },
    "axisX": {"grid": False, "labelAngle": 0},
    "axisY": {"domain": False, "ticks": False},
    "legend": {
        "labelColor": TEXT, "titleColor": TEXT, "orient": "top", "title": None, "labelFontSize": 12, "symbolSize": 90,
        "symbolOpacity": 1,
        "columns": 4, "labelLimit": 150,
    },
}  # fmt: skip


def chosen(variants: Iterable[str], baseline: str) -> tuple[list[str], str]:
    """(the names to draw as series, the baseline first; a sentence on those left out, empty when there are none)."""
    names = sorted(dict.fromkeys(str(v) for v in variants), key=lambda n: n != baseline)
    if len(names) <= MOST:
        return names, ""
    return names[:MOST], f" Not drawn, so that {MOST} can be told apart: {', '.join(names[MOST:])}."


def series_scale(names: Sequence[str]) -> dict[str, Any]:
    """Colours by series, in order: the baseline comes first."""
    return {"domain": list(names), "range": [SERIES[i % MOST] for i in range(len(names))]}


def shape_scale(names: Sequence[str]) -> dict[str, Any]:
    """Point shapes by series, so that colour is never the only sign."""
    return {"domain": list(names), "range": [_SHAPES[i % MOST] for i in range(len(names))]}


def dash_scale(names: Sequence[str]) -> dict[str, Any]:
    """Dashes by series, for lines without points: the baseline's is whole."""
    return {"domain": list(names), "range": [_DASHES[i % MOST] for i in range(len(names))]}
