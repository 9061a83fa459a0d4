"""Is the client to be trusted? A measurement is no better than the instrument that took it."""

from __future__ import annotations

from dataclasses import dataclass

from collector.bundle.schema import ClientCell
from quantcase.catalog import Case

__all__ = ["Trust", "client_limited", "trust"]

LAG_MS = 5.0  # a stamp may be late by the event loop's lag
CPU_PCT = 80.0  # of one core: above it the client itself queues


def client_limited(cell: ClientCell) -> bool:
    """Whether the client limited this repeat: a late loop, a busy core, or a concurrency that was not reached."""
    late = cell.loop_lag_ms_p99 is not None and cell.loop_lag_ms_p99 > LAG_MS
    busy = cell.cpu_pct is not None and cell.cpu_pct > CPU_PCT
    asked, reached = cell.concurrency_asked, cell.concurrency_reached
    short = asked is not None and reached is not None and reached < asked
    return late or busy or short


@dataclass(frozen=True)
class Trust:
    """The worst that the client saw of itself over all repeats, and the load points at which it was the limit."""

    repeats: int
    lag_ms_p99: float | None
    cpu_pct: float | None
    tokens_per_chunk: float | None
    limited: frozenset[tuple[str, str, str]]  # variant, workload, load


def trust(case: Case) -> Trust:
    """What `client.json` says of a case."""
    cells = case.bundle.client().cells
    return Trust(
        repeats=len(cells),
        lag_ms_p99=max((c.loop_lag_ms_p99 for c in cells if c.loop_lag_ms_p99 is not None), default=None),
        cpu_pct=max((c.cpu_pct for c in cells if c.cpu_pct is not None), default=None),
        tokens_per_chunk=max((c.tokens_per_chunk for c in cells if c.tokens_per_chunk is not None), default=None),
        limited=frozenset((c.variant, c.workload, c.load) for c in cells if client_limited(c)),
    )
