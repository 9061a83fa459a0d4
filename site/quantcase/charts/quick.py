"""Altair without work that leaves no trace in a specification.

Left alone, Altair checks every axis and scale against the whole of Vega-Lite's schema when it is made, copies every
chart several times while charts are put together (each copy walks some sixty unset properties of every channel), looks
for shared parameters in charts that have none (ours get theirs in `interactive.document`), and hashes the schema to
make a channel of a shorthand such as `y2="high:Q"`. The ways round it here give the same specification; a test holds
the two against each other. They stand in for functions that Altair keeps to itself: where one of these is gone, Altair
is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.utils import core, schemapi
from altair.vegalite.v6 import api

__all__ = ["as_it_comes", "hurry"]

_UNSET: Any = schemapi.Undefined
_WHOLE = (str, int, float, bool, type(None), pd.DataFrame)  # never changed in place
_MOST_ROWS = 5000  # Altair's own limit of rows in a chart
_NAME = "quantcase"


def _copied(value: Any, by_ref: set[str]) -> Any:
    """For `_deep_copy`: what is unset or cannot change is itself."""
    if value is _UNSET or isinstance(value, _WHOLE):
        return value
    if isinstance(value, schemapi.SchemaBase):
        if (copier := getattr(value, "__deepcopy__", None)) is not None:
            return copier(value)
        kept = {k: v if v is _UNSET or k in by_ref else _copied(v, by_ref) for k, v in value._kwds.items()}
        return _like(value, tuple(_copied(a, by_ref) for a in value._args), kept)
    if isinstance(value, list):
        return [_copied(v, by_ref) for v in value]
    if isinstance(value, dict):
        return {k: v if k in by_ref else _copied(v, by_ref) for k, v in value.items()}
    return value


def _like(value: Any, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
    """An object of Altair's with these properties. Its __init__ would put together again what is together already."""
    made = object.__new__(type(value))
    object.__setattr__(made, "_args", args)
    object.__setattr__(made, "_kwds", kwds)
    return made


def _alone(charts: Sequence[Any]) -> bool:
    """Whether charts have neither parameters nor names: putting them together then changes none of them."""
    for chart in charts:
        if any(chart._kwds.get(key, _UNSET) is not _UNSET for key in ("params", "name")):
            return False
        if any(isinstance(below := chart._kwds.get(k), list) and not _alone(below) for k in ("layer", "vconcat")):
            return False
    return all(isinstance(chart, api.Chart | api.LayerChart | api.VConcatChart) for chart in charts)


def _without_duplicates(layer: list[Any]) -> list[Any]:
    """For `_remove_duplicate_params`."""
    return list(layer) if _alone(layer) else _OWN[api, "_remove_duplicate_params"](layer)


def _params(params: Any, charts: list[Any]) -> tuple[Any, list[Any]]:
    """For `_combine_subchart_params`."""
    if params is _UNSET and _alone(charts):
        return _UNSET, list(charts)
    found: tuple[Any, list[Any]] = _OWN[api, "_combine_subchart_params"](params, charts)
    return found


def _data(data: Any, charts: list[Any]) -> tuple[Any, list[Any]]:
    """For `_combine_subchart_data`, which hashes each chart for a name that only parameters ask for."""
    if not charts or not _alone(charts):
        found: tuple[Any, list[Any]] = _OWN[api, "_combine_subchart_data"](data, charts)
        return found
    of = [c._kwds.get("data", _UNSET) for c in charts]
    shared = of[0] if data is _UNSET else data
    if shared is _UNSET or not all(d is shared or (d is _UNSET and data is not _UNSET) for d in of):
        return data, charts
    return shared, [_like(c, c._args, {**c._kwds, "data": _UNSET}) for c in charts]


def _channel(self: Any, value: Any, encoding: str) -> Any:
    """For `_wrap_in_channel`: a shorthand is what a channel's class takes anyway."""
    if isinstance(value, list | tuple):
        return [_channel(self, v, encoding) for v in value]
    if isinstance(value, str) and "field" in (known := self.name_to_channel.get(encoding, {})):
        return known["field"](shorthand=value)
    return _OWN[core._ChannelCache, "_wrap_in_channel"](self, value, encoding)


def _rows(frame: Any = None, **options: Any) -> Any:
    """A data transformer: the rows of a plain frame, as Altair's own gives them; any other goes to that."""
    usual = alt.default_data_transformer
    if frame is None:
        return lambda given: _rows(given, **options)
    if not isinstance(frame, pd.DataFrame) or not 0 < len(frame) <= _MOST_ROWS or not len(frame.columns):
        return usual(frame, **options)
    columns = [_column(frame.iloc[:, i]) for i in range(len(frame.columns))]
    names = list(frame.columns)
    if any(c is None for c in columns) or not all(isinstance(n, str) for n in names) or len({*names}) < len(names):
        return usual(frame, **options)
    return {"values": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]}


def _column(column: pd.Series[Any]) -> list[Any] | None:
    """The values of a column of numbers or words, None for what is no number; None for a column of another kind."""
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "iu":
        return column.to_numpy().tolist()
    if isinstance(kind, np.dtype) and kind.kind == "f":
        values = column.to_numpy()
        known = np.isfinite(values)
        return (
            values.tolist() if known.all() else [v if k else None for v, k in zip(values.tolist(), known, strict=True)]
        )
    if str(kind) in ("str", "string"):
        return [v if isinstance(v, str) else None for v in column.to_numpy(dtype=object).tolist()]
    return None


_INSTEAD: dict[tuple[Any, str], Callable[..., Any]] = {
    (schemapi, "_deep_copy"): _copied,
    (api, "_remove_duplicate_params"): _without_duplicates,
    (api, "_combine_subchart_params"): _params,
    (api, "_combine_subchart_data"): _data,
    (core._ChannelCache, "_wrap_in_channel"): _channel,
}
_OWN: dict[tuple[Any, str], Callable[..., Any]] = {
    (place, name): getattr(place, name) for place, name in _INSTEAD if hasattr(place, name)
}


def hurry() -> None:
    """Take the ways round from now on; charts are then checked where `to_dict` is asked to, not part by part."""
    if len(_OWN) < len(_INSTEAD):
        return
    for (place, name), quick in _INSTEAD.items():
        setattr(place, name, quick)
    schemapi.disable_debug_mode()
    alt.data_transformers.register(_NAME, _rows)
    alt.data_transformers.enable(_NAME)


@contextmanager
def as_it_comes() -> Iterator[None]:
    """Altair as it comes, for a test to compare with."""
    for (place, name), own in _OWN.items():
        setattr(place, name, own)
    schemapi.enable_debug_mode()
    alt.data_transformers.enable("default")
    try:
        yield
    finally:
        hurry()
