"""Altair without checks that a test makes once for all.

Left alone, Altair holds every axis and scale against the whole of Vega-Lite's schema when it is made, and takes the
rows of a chart through several copies of the frame. Its own switch ends the first; a data transformer, which it offers
for that, is the second. The specification is the same, and still held against the schema when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.utils import schemapi

__all__ = ["as_it_comes", "hurry"]

_MOST_ROWS = 5000  # Altair's own limit of rows in a chart
_NAME = "quantcase"


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


def hurry() -> None:
    """Check charts when they are whole, and take their rows as they stand, from now on."""
    schemapi.disable_debug_mode()
    alt.data_transformers.register(_NAME, _rows)
    alt.data_transformers.enable(_NAME)


@contextmanager
def as_it_comes() -> Iterator[None]:
    """Altair as it comes, for a test to compare with."""
    schemapi.enable_debug_mode()
    alt.data_transformers.enable("default")
    try:
        yield
    finally:
        hurry()
