"""Little's law as a check of measured rows: requests in flight = throughput x latency.

L = lambda W (Little, Operations Research 9, 1961, 383-387). A closed loop asks for L, so three figures that are taken
apart from each other must agree, repeat by repeat: the concurrency asked for, the throughput of `cells.csv` (tokens
received inside the steady window, over the mean tokens of an answer), and the mean E2E of `requests.csv.gz`.

How near follows from the definitions. Requests that lie inside the window whole cancel out: what is left is what the
requests in flight at either end of the window bring or lack there, at most

    (time outside) x max(1, its share of a mean answer x W / its E2E)           begun before the window
    |E2E - its share x W| + its share x W x TTFT / E2E + its share x W / tokens  ending after it

seconds each (the tokens of an answer arrive after its TTFT, and are counted whole), over window x concurrency. A
product further off than that means rows that do not fit together: tokens miscounted, stamps of another clock, or
requests missing. In flight by the rows themselves, below what was asked for, means that slots stood empty between two
requests: the load point was lighter than its name says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collector.bundle.read import Load
from quantcase.catalog import Case

__all__ = ["LEAST_IN_FLIGHT", "Agreement", "Little", "agreement", "little"]

LEAST_IN_FLIGHT = 0.95  # of the concurrency asked for, on average over the steady window


@dataclass(frozen=True)
class Little:
    """One repeat of one closed cell: three figures for the requests in flight, and how far two of them may be apart."""

    variant: str
    start: int
    workload: str
    load: str
    repeat: int
    asked: int  # the concurrency
    in_flight: float  # mean over the steady window, from sends and ends
    product: float  # throughput (requests/s) x mean E2E (s)
    throughput_req_s: float
    e2e_s: float
    tolerance: float  # how far the product may be from `in_flight`, as a share of `asked`

    @property
    def share(self) -> float:
        """The product over the concurrency asked for; 1 is agreement."""
        return self.product / self.asked

    @property
    def fits(self) -> bool:
        """Whether product and rows agree as near as the definitions allow."""
        return abs(self.product - self.in_flight) <= self.tolerance * self.asked

    @property
    def full(self) -> bool:
        """Whether as many requests were in flight as asked for, but for a twentieth."""
        return self.in_flight >= LEAST_IN_FLIGHT * self.asked


@dataclass(frozen=True)
class Agreement:
    """All repeats of a case together. `left_out`: closed repeats without a window, with failures, or too short."""

    rows: tuple[Little, ...]
    left_out: int

    @property
    def unfit(self) -> list[Little]:
        """Repeats whose figures contradict each other."""
        return [r for r in self.rows if not r.fits]

    @property
    def empty(self) -> list[Little]:
        """Repeats that fit, and had fewer requests in flight than asked for."""
        return [r for r in self.rows if r.fits and not r.full]

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest product, as shares of the concurrency asked for; nan without rows."""
        shares = [r.share for r in self.rows]
        return (min(shares), max(shares)) if shares else (math.nan, math.nan)

    @property
    def farthest(self) -> Little | None:
        """The repeat whose product is farthest from the concurrency asked for."""
        return max(self.rows, key=lambda r: abs(r.share - 1), default=None)

    @property
    def widest_tolerance(self) -> float:
        """The loosest of the repeats' tolerances; nan without rows."""
        return max((r.tolerance for r in self.rows), default=math.nan)


def agreement(case: Case) -> Agreement:
    """Every closed repeat of a case, in the order of `cells.csv`.

    Left out, and counted: repeats without a throughput (no steady window), with a request that failed (it holds a slot
    and states no latency), or with a request longer than the window.
    """
    key = ["variant", "start", "workload", "load", "repeat"]
    places = case.requests.groupby(key, sort=False).indices
    columns = _columns(case.requests)
    found: list[Little] = []
    left_out = 0
    for cell in case.cells.to_dict("records"):
        load = Load.of(str(cell["load"]))
        if load is None or load.concurrency is None:
            continue
        rows = places.get(tuple(cell[k] for k in key))
        window = (float(cell["window_start_s"]), float(cell["window_end_s"]))
        one = None
        if rows is not None:
            mine = {name: values[rows] for name, values in columns.items()}
            one = _little(mine, load.concurrency, window, float(cell["throughput_tok_s"]))
        if one is None:
            left_out += 1
        else:
            found.append(one)
    return Agreement(tuple(found), left_out)


def little(rows: pd.DataFrame, concurrency: int, window: tuple[float, float], throughput_tok_s: float) -> Little | None:
    """One repeat. None where the law cannot be asked: see `agreement`.

    Args:
        rows: the repeat's requests, with the columns of `requests.csv.gz`.
        window: the steady window, s.
        throughput_tok_s: as `cells.csv` has it, output tokens per second.
    """
    return _little(_columns(rows), concurrency, window, throughput_tok_s)


def _columns(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """What the law needs of requests, as arrays: a table a repeat would take longer to make than the sums."""
    numbers = {name: rows[name].to_numpy(float) for name in ("started_s", "e2e_ms", "ttft_ms", "output_tokens")}
    names = {name: rows[name].to_numpy(object) for name in ("variant", "start", "workload", "load", "repeat")}
    return {**numbers, **names, "ok": (rows["status"] == "ok").to_numpy(bool)}


def _little(
    rows: dict[str, NDArray[Any]], concurrency: int, window: tuple[float, float], throughput_tok_s: float
) -> Little | None:
    length, tokens = window[1] - window[0], rows["output_tokens"]
    told = not any(np.isnan(rows[name]).any() for name in ("ttft_ms", "e2e_ms", "output_tokens"))
    if not told or not rows["ok"].all() or not length > 0 or not throughput_tok_s > 0:
        return None
    begun, e2e, ttft = rows["started_s"], rows["e2e_ms"] / 1000, rows["ttft_ms"] / 1000
    if e2e.max() >= length or not (tokens > 0).all():
        return None
    ended = begun + e2e
    inside = np.maximum(np.minimum(ended, window[1]) - np.maximum(begun, window[0]), 0)
    mean_e2e, mean_tokens = float(e2e.mean()), float(tokens.mean())
    usual = mean_e2e * tokens / mean_tokens  # what an answer of that length takes by the mean
    before = (begun < window[0]) & (ended > window[0])
    after = (begun <= window[1]) & (ended > window[1])
    early = ((window[0] - begun) * np.maximum(usual / e2e, 1))[before]
    late = (np.abs(e2e - usual) + usual * ttft / e2e + usual / tokens)[after]
    speed = throughput_tok_s / mean_tokens
    return Little(
        variant=str(rows["variant"][0]),
        start=int(rows["start"][0]),
        workload=str(rows["workload"][0]),
        load=str(rows["load"][0]),
        repeat=int(rows["repeat"][0]),
        asked=concurrency,
        in_flight=float(inside.sum()) / length,
        product=speed * mean_e2e,
        throughput_req_s=speed,
        e2e_s=mean_e2e,
        tolerance=float(early.sum() + late.sum()) / (length * concurrency),
    )
