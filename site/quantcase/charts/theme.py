"""One theme for all charts: sizes, and sentinel colours that `figure.py` turns into the page's CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["CONFIG", "SENTINELS", "SERIES", "series_scale", "shape_scale"]

# vl-convert needs real colours; these occur nowhere else and stand for CSS variables. Series 0 is the baseline.
SERIES = [f"#0a0b{i:02x}" for i in range(1, 9)]
TEXT, GRID, AXIS = "#0c0d01", "#0c0d02", "#0c0d03"
SENTINELS: dict[str, str] = {
    TEXT: "--qc-text",
    GRID: "--qc-grid",
    AXIS: "--qc-axis",
    **{colour: f"--qc-series-{i}" for i, colour in enumerate(SERIES)},
}
_SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left"]

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


def series_scale(names: Sequence[str]) -> dict[str, Any]:
    """Colours by series, in order: the baseline comes first."""
    return {"domain": list(names), "range": [SERIES[i % len(SERIES)] for i in range(len(names))]}


def shape_scale(names: Sequence[str]) -> dict[str, Any]:
    """Point shapes by series, so that colour is never the only sign."""
    return {"domain": list(names), "range": [_SHAPES[i % len(_SHAPES)] for i in range(len(names))]}
