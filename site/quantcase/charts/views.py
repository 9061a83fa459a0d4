"""Views put together as Vega-Lite: what `alt.Chart`, `alt.layer` and `alt.vconcat` do, as far as our charts need it.

Altair's own copy a chart whole at each of their calls, down to every option of every axis that nobody set, and once
more for parameters, of which ours have none: a third of the time that a case took. How a field is encoded stays with
Altair's classes (`alt.X`, `alt.Axis`, ...). Names and order are Altair's, and a test holds the outcome against its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partialmethod
from typing import Any

import altair as alt
import pandas as pd

from quantcase.charts.quick import rows_of

__all__ = ["Chart", "layer", "vconcat"]

_SHORT = {"x2": alt.X2, "y2": alt.Y2, "detail": alt.Detail, "text": alt.Text}  # channels that may be given as `name:N`


@dataclass(frozen=True, eq=False)
class Chart:
    """A view of a frame, or an arrangement of such views; each call gives a new one that shares its parts."""

    data: pd.DataFrame | None = None
    marked: Mapping[str, Any] = field(default_factory=dict)  # mark and encoding
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""  # of an arrangement: layer, vconcat, spec
    parts: tuple[Chart, ...] = ()

    def _mark(self, kind: str, **style: Any) -> Chart:
        return replace(self, marked={"mark": {"type": kind, **_sorted(style)}, **self.marked})

    mark_area = partialmethod(_mark, "area")
    mark_bar = partialmethod(_mark, "bar")
    mark_circle = partialmethod(_mark, "circle")
    mark_line = partialmethod(_mark, "line")
    mark_point = partialmethod(_mark, "point")
    mark_rect = partialmethod(_mark, "rect")
    mark_rule = partialmethod(_mark, "rule")
    mark_text = partialmethod(_mark, "text")
    mark_tick = partialmethod(_mark, "tick")

    def encode(self, **channels: Any) -> Chart:
        """Fields by channel, beside those that are encoded already."""
        found = {name: _encoded(name, value) for name, value in channels.items()}
        return replace(self, marked={**self.marked, "encoding": _sorted({**self.marked.get("encoding", {}), **found})})

    def transform_filter(self, test: str) -> Chart:
        """Only rows for which an expression of Vega holds."""
        return replace(self, options={**self.options, "transform": [{"filter": test}]})

    def properties(self, **options: Any) -> Chart:
        """Width, height, title."""
        return replace(self, options={**self.options, **options})

    def resolve_scale(self, **scales: str) -> Chart:
        """Which scales the parts share."""
        return replace(self, options={**self.options, "resolve": {"scale": _sorted(scales)}})

    def facet(self, by: alt.Facet, columns: int) -> Chart:
        """A panel for each value of a field."""
        inside = replace(self, data=None)
        return Chart(self.data, {"facet": by.to_dict(validate=False)}, {"columns": columns}, "spec", (inside,))

    def to_dict(self) -> dict[str, Any]:
        """The specification; each set of rows stands in it once."""
        rows: dict[str, list[dict[str, Any]]] = {}
        return {**self._within(rows, {}), "datasets": rows}

    def _within(self, rows: dict[str, list[dict[str, Any]]], names: dict[int, str]) -> dict[str, Any]:
        data = {} if self.data is None else {"data": {"name": _named(self.data, rows, names)}}
        parts = [part._within(rows, names) for part in self.parts]
        if self.kind in ("layer", "vconcat"):
            return {self.kind: parts, **_sorted({**data, **self.options})}
        inside = {self.kind: parts[0]} if parts else {}
        return {**data, **self.marked, **inside, **_sorted(self.options)}


def layer(*charts: Chart) -> Chart:
    """Views in one frame, the first at the bottom."""
    return _arranged("layer", charts)


def vconcat(*charts: Chart, **options: Any) -> Chart:
    """Views below each other."""
    return replace(_arranged("vconcat", charts), options=options)


def _arranged(kind: str, charts: tuple[Chart, ...]) -> Chart:
    """Rows that all parts share are named once, by the whole."""
    data = charts[0].data
    if data is not None and all(c.data is data for c in charts):
        return Chart(data, kind=kind, parts=tuple(replace(c, data=None) for c in charts))
    return Chart(kind=kind, parts=charts)


def _encoded(channel: str, value: Any) -> Any:
    if isinstance(value, str):
        value = _SHORT[channel](value)
    return [v.to_dict(validate=False) for v in value] if isinstance(value, list) else value.to_dict(validate=False)


def _named(frame: pd.DataFrame, rows: dict[str, list[dict[str, Any]]], names: dict[int, str]) -> str:
    """The name of a frame's rows, which is a hash of them."""
    if id(frame) not in names:
        found = rows_of(frame)
        name = f"data-{hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()[:32]}"
        rows[name] = found
        names[id(frame)] = name
    return names[id(frame)]


def _sorted(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(given.items()))
