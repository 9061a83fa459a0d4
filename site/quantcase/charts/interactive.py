"""A chart's specification for the browser: the same data and marks, with tooltips, series to hide, and zoom.

The legend is left to the page (buttons reach where a drawn legend does not: keyboards, narrow screens), so a
specification names its series in `usermeta.series`, each with colour and shape or dash.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from quantcase.charts.theme import SENTINELS

__all__ = ["HIDDEN", "Live", "attribute", "document", "painted", "rounded"]

HIDDEN, _ZOOM = "hidden", "zoom"
_DIGITS = 6  # beyond what a pixel can show
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;=()+%?!_-")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# A wheel alone goes on scrolling the page.
_WHEEL = "wheel![event.ctrlKey || event.metaKey]"


@dataclass(frozen=True)
class Live:
    """What a reader may do with a chart.

    `series` is the field that tells series apart; `zoom` gives the field behind an axis that may be moved and widened
    (none for bars: they must start at zero); `spec` stands in where more is drawn than on the still picture.
    """

    series: str = ""
    zoom: Mapping[str, str] = field(default_factory=dict)  # x or y -> field
    spec: dict[str, Any] | None = None


def rounded(value: Any) -> Any:
    """Numbers to six significant digits, however deep they stand: a chart is drawn in pixels and weighs in bytes."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def painted(value: Any) -> Any:
    """Sentinel colours as the page's CSS variables; SVG in the page follows them, whatever the palette becomes."""
    if isinstance(value, str):
        return f"var({SENTINELS[value]})" if value in SENTINELS else value
    if isinstance(value, dict):
        return {k: painted(v) for k, v in value.items()}
    return [painted(v) for v in value] if isinstance(value, list) else value


def document(spec: dict[str, Any], live: Live) -> dict[str, Any]:
    """The specification for the browser; the theme is left out, because `vega.js` brings it."""
    made = copy.deepcopy(live.spec if live.spec is not None else spec)
    for key in ("$schema", "config"):
        made.pop(key, None)
    meta: dict[str, Any] = {"zoom": dict(live.zoom)}
    if live.series:
        meta |= {"field": live.series, "series": _series(made, live.series)}
        made["params"] = [*made.get("params", []), {"name": HIDDEN, "value": []}]
        _hide(made, live.series, made.get("datasets", {}), None)
    if live.zoom:
        for i, panel in enumerate(made.get("vconcat", [made])):
            first = next(u for u in _units(panel) if _places(u, live.zoom))
            select = {"type": "interval", "encodings": list(live.zoom), "zoom": _WHEEL}
            name = _ZOOM if i == 0 else f"{_ZOOM}_{i}"
            first["params"] = [*first.get("params", []), {"name": name, "select": select, "bind": "scales"}]
    return {**painted(rounded(made)), "usermeta": painted(meta)}


def attribute(spec: Mapping[str, Any]) -> str:
    """JSON for an HTML attribute in single quotes: every character of a string that could mean anything to HTML,
    Markdown or a template engine is an escape of JSON."""
    whole = json.dumps(spec, separators=(",", ":"), allow_nan=False)
    return _STRING.sub(_requoted, whole)


def _requoted(found: re.Match[str]) -> str:
    return _quoted_json(found[0])


@lru_cache(maxsize=4096)  # names of fields and of variants come again in every row
def _quoted_json(source: str) -> str:
    return _quoted(json.loads(source))


def _quoted(text: str) -> str:
    return '"' + "".join(c if c in _PLAIN else _escape(c) for c in text) + '"'


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _units(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The views with a mark, in order."""
    below = spec.get("layer") or spec.get("vconcat") or []
    if not below:
        yield spec
    for part in below:
        yield from _units(part)


def _places(unit: dict[str, Any], zoom: Mapping[str, str]) -> bool:
    """Whether a view has the axes that can be moved."""
    encoding = unit.get("encoding", {})
    return all(encoding.get(axis, {}).get("field") == name for axis, name in zoom.items())


def _series(spec: dict[str, Any], series: str) -> list[dict[str, Any]]:
    """Name, colour and shape or dash of each series, as the scales say; their legends are taken away."""
    found: dict[str, dict[str, Any]] = {}
    for part in _parts(spec):
        for channel in ("color", "shape", "strokeDash"):
            encoding = part.get("encoding", {}).get(channel)
            if isinstance(encoding, dict) and encoding.get("field") == series:
                scale = encoding.get("scale", {})
                for name, value in zip(scale.get("domain", []), scale.get("range", []), strict=True):
                    found.setdefault(name, {"name": name})[channel] = value
                encoding["legend"] = None
    return list(found.values())


def _parts(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every level that may hold an encoding."""
    yield spec
    for part in (*spec.get("layer", []), *spec.get("vconcat", [])):
        yield from _parts(part)


def _hide(spec: dict[str, Any], series: str, datasets: Mapping[str, Any], inherited: list[Any] | None) -> None:
    """Rows of hidden series are dropped from every view whose data knows the series."""
    data = spec.get("data")
    rows = inherited
    if isinstance(data, dict):
        rows = datasets.get(data["name"]) if "name" in data else data.get("values")
    below = [*spec.get("layer", []), *spec.get("vconcat", [])]
    for part in below:
        _hide(part, series, datasets, rows)
    if not below and rows and series in rows[0]:
        test = {"filter": f"indexof({HIDDEN}, datum['{series}']) < 0"}
        spec["transform"] = [test, *spec.get("transform", [])]
