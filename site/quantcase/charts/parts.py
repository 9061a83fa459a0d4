"""What several charts are made of: a chart as a plain specification, tooltips, whiskers, a variant's encodings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from quantcase.charts.theme import dash_scale, series_scale, shape_scale
from quantcase.charts.views import Chart

__all__ = ["INTERVAL", "KNOWN", "chart_spec", "colour", "dash", "shape", "tips"]

KNOWN = "isValid(datum.low) && isValid(datum.high)"
INTERVAL = (("low", "95 % interval from"), ("high", "95 % interval to"))


def chart_spec(chart: Chart) -> dict[str, Any]:
    """Vega-Lite without the theme, which `figure.render` adds."""
    return chart.to_dict()


def tips(*fields: tuple[str, str], form: str = ",.3~r") -> list[alt.Tooltip]:
    """Tooltips in order: (field, words with the unit). Names are given as `variant:N`; numbers are shown in `form`."""
    return [
        alt.Tooltip(name, title=words) if name.endswith(":N") else alt.Tooltip(f"{name}:Q", title=words, format=form)
        for name, words in fields
    ]


def colour(names: Sequence[str]) -> alt.Color:
    """A variant's colour."""
    return alt.Color("variant:N", scale=alt.Scale(**series_scale(names)), sort=names)


def shape(names: Sequence[str]) -> alt.Shape:
    """A variant's point, so that colour is never the only sign."""
    return alt.Shape("variant:N", scale=alt.Scale(**shape_scale(names)), sort=names)


def dash(names: Sequence[str]) -> alt.StrokeDash:
    """A variant's dash, for lines without points."""
    return alt.StrokeDash("variant:N", scale=alt.Scale(**dash_scale(names)), sort=names)
