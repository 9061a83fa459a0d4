"""A frame's rows for a chart, and Altair without checks that a test makes once for all.

Left alone, Altair holds every axis and scale against the whole of Vega-Lite's schema when it is made, and takes the
rows of a chart through several copies of the frame. Its own switch ends the first; rows are taken as they stand here.
The specification is the same, and still held against the schema when it is whole.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.utils import schemapi

__all__ = ["hurry", "rows_of"]

_MOST_ROWS = 5000  # Altair's own limit of rows in a chart


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a plain frame, as Altair's own transformer gives them; any other frame goes to that."""
    names = list(frame.columns)
    plain = names and all(isinstance(n, str) for n in names) and len({*names}) == len(names)
    if plain and 0 < len(frame) <= _MOST_ROWS:
        columns = [_column(frame[name]) for name in names]
        if all(c is not None for c in columns):
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    made: dict[str, Any] = dict(alt.default_data_transformer(frame))
    found: list[dict[str, Any]] = made["values"]
    return found


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
    """Leave checks to the test that holds whole charts against the schema, from now on."""
    schemapi.disable_debug_mode()
