"""What would make a careful reader doubt the figures: flags with the place and the words, from the bundle alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantcase.analysis.points import THROUGHPUT
from quantcase.catalog import Case

__all__ = ["Flag", "busy_telemetry", "flags"]

CV = 0.05  # throughput of the repeats of a cell
CLOCK_SHARE = 0.05
POWER_SHARE = 0.20
FOREIGN_MIB = 500.0
# Reasons that slow a card down although it has work. Idle clocks, clocks set on purpose and a power cap at full load
# are how a card is meant to run.
_SLOWING = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")


@dataclass(frozen=True)
class Flag:
    """One doubt. `kind`: spread, drift, throttled, clocks, foreign, machines."""

    kind: str
    where: str
    words: str


def flags(case: Case) -> list[Flag]:
    """Every doubt about a case, in the order in which they matter."""
    return [
        *_machines(case),
        *_foreign(case),
        *_throttled(case),
        *_clocks(case),
        *_power(case),
        *_spread(case),
        *_drift(case),
    ]


def _spread(case: Case) -> Iterator[Flag]:
    """Repeats of one cell that differ by more than they should: coefficient of variation over 5 %."""
    for (variant, workload, load), rows in case.cells.groupby(["variant", "workload", "load"], sort=False):
        values = rows[THROUGHPUT].dropna().to_numpy()
        if len(values) >= 3 and values.mean() > 0:
            cv = float(np.std(values, ddof=1) / values.mean())
            if cv > CV:
                words = f"throughput of its repeats varies by {100 * cv:.0f} % (CV)"
                yield Flag("spread", f"{variant} {workload} {load}", words)


def _drift(case: Case) -> Iterator[Flag]:
    if "steady" not in case.cells:
        return
    for (variant, workload, load), rows in case.cells.groupby(["variant", "workload", "load"], sort=False):
        moved = int((rows["steady"] == "no").sum())
        if moved:
            words = f"latency had a trend in {moved} of {len(rows)} repeats: no steady state"
            yield Flag("drift", f"{variant} {workload} {load}", words)


def busy_telemetry(case: Case) -> pd.DataFrame:
    """Samples taken while a cell ran and the card was busy, with the `variant` that it served."""
    return case.busy_telemetry


def _throttled(case: Case) -> Iterator[Flag]:
    busy = busy_telemetry(case)
    if busy.empty:
        return
    counts = Counter(busy["throttle_reasons"].fillna("").tolist())
    for reason in _SLOWING:
        share = sum(n for names, n in counts.items() if reason in names.split("|")) / len(busy)
        if share > 0:
            words = f"the card slowed itself down ({reason}) in {100 * share:.1f} % of the samples under load"
            yield Flag("throttled", "GPU", words)


def _clocks(case: Case) -> Iterator[Flag]:
    """The SM clock under load, variant by variant: a difference between them is not the variant's doing alone."""
    busy = busy_telemetry(case)
    medians = busy.groupby("variant")["sm_clock_mhz"].median().dropna() if not busy.empty else pd.Series(dtype=float)
    if len(medians) >= 2 and medians.min() < (1 - CLOCK_SHARE) * medians.max():
        low, high = medians.idxmin(), medians.idxmax()
        words = f"SM clock under load {medians.min():,.0f} MHz with {low}, {medians.max():,.0f} MHz with {high}"
        yield Flag("clocks", "GPU", words)


def _power(case: Case) -> Iterator[Flag]:
    """The power limit held the clocks back, and not alike for all variants: part of a difference may be its doing."""
    busy = busy_telemetry(case)
    if busy.empty:
        return
    reasons = busy["throttle_reasons"].fillna("").tolist()
    capped = busy[["variant"]].assign(capped=["sw_power_cap" in names.split("|") for names in reasons])
    shares = capped.groupby("variant")["capped"].mean()
    if len(shares) >= 2 and shares.max() - shares.min() > POWER_SHARE:
        low, high = shares.idxmin(), shares.idxmax()
        words = f"the power limit held clocks back in {100 * shares.max():.0f} % of the samples under load with {high}"
        yield Flag("clocks", "GPU", f"{words}, in {100 * shares.min():.0f} % with {low}")


def _foreign(case: Case) -> Iterator[Flag]:
    for row in case.variants:
        if row.vram_idle_mib is not None and row.vram_idle_mib > FOREIGN_MIB * (row.gpus or 1):
            words = f"{row.vram_idle_mib:,.0f} MiB were in use before the engine started"
            yield Flag("foreign", f"{row.variant} start {row.start}", words)
    for cell in case.bundle.client().cells:
        if cell.engine_tokens is not None and cell.usage_tokens and cell.engine_tokens > 1.01 * cell.usage_tokens:
            share = cell.engine_tokens / cell.usage_tokens - 1
            place = f"{cell.variant} {cell.workload} {cell.load} repeat {cell.repeat}"
            yield Flag("foreign", place, f"the engine made {100 * share:.0f} % more tokens than were sent to us")


def _machines(case: Case) -> Iterator[Flag]:
    cards = {str(g.get("uuid_sha256")) for s in case.bundle.environment().sessions for g in s.gpus[:1]}
    if len(cards) > 1:
        yield Flag("machines", "sessions", f"measured on {len(cards)} different cards of one kind")
