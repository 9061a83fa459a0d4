"""The GPU over the whole run, thinned for a chart without hiding anything: of each stretch its least and its most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quantcase.catalog import Case

__all__ = ["SERIES", "Timeline", "thinned", "timeline", "visits"]

# column of telemetry.csv.gz -> (what it is, with its unit; factor)
SERIES = {
    "power_w": ("power (W)", 1.0),
    "sm_clock_mhz": ("SM clock (MHz)", 1.0),
    "vram_used_mib": ("VRAM used (GiB)", 1 / 1024),
    "utilisation_pct": ("utilisation (%)", 1.0),
}
_BINS = 160  # about three pixels each on a chart as wide as the page


@dataclass(frozen=True)
class Timeline:
    """`samples`: `gpu, metric, t_s, low, high, mean, piece`; `visits`: `variant, start, from_s, to_s`."""

    samples: pd.DataFrame
    visits: pd.DataFrame
    count: int  # samples behind it
    bin_s: float


def timeline(case: Case, bins: int = _BINS) -> Timeline | None:
    """The telemetry of a case; None where no GPU was read. Seconds are since the bundle was created."""
    table = case.telemetry
    known = [c for c in SERIES if not table.empty and table[c].notna().any()]
    if not known:
        return None
    begin, end = float(table["t_s"].min()), float(table["t_s"].max())
    width = max(end - begin, 1e-9) / bins
    parts = [
        thinned(mine["t_s"].to_numpy(float), mine[column].to_numpy(float) * factor, begin, width, bins).assign(
            gpu=gpu, metric=words
        )
        for gpu, rows in table.groupby("gpu")
        for column, (words, factor) in SERIES.items()
        if column in known and not (mine := rows[rows[column].notna()]).empty
    ]
    samples = pd.concat(parts, ignore_index=True)[["gpu", "metric", "t_s", "low", "high", "mean", "piece"]]
    return Timeline(samples, visits(case), len(table), width)


def thinned(
    t_s: NDArray[np.float64], values: NDArray[np.float64], begin: float, width: float, bins: int
) -> pd.DataFrame:
    """`t_s, low, high, mean, piece` of each of `bins` stretches of `width` seconds that holds a sample; t_s is its
    middle.

    A stretch without samples is a gap: `piece` counts them, so that no line is drawn across.
    """
    places = np.minimum(np.floor((t_s - begin) / width).astype(int), bins - 1)  # the last sample ends the last stretch
    groups = pd.DataFrame({"bin": places, "value": values}).groupby("bin")["value"]
    table = groups.agg(low="min", high="max", mean="mean").reset_index()
    piece = (table["bin"].diff().fillna(1) > 1).cumsum()
    return table.assign(t_s=begin + (table["bin"] + 0.5) * width, piece=piece).drop(columns="bin")


def visits(case: Case) -> pd.DataFrame:
    """`variant, start, from_s, to_s`: from the first send to the last end of each server start's measured requests."""
    rows = case.requests
    ends = rows["started_s"] + rows["e2e_ms"].fillna(0) / 1000
    spans = rows.assign(to_s=ends).groupby(["variant", "start"], sort=False)
    table = spans.agg(from_s=("started_s", "min"), to_s=("to_s", "max")).reset_index()
    return table.sort_values("from_s", ignore_index=True)
