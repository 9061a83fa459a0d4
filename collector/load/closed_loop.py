"""A closed loop at fixed concurrency: every slot sends its next request when its last one has ended."""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, field

from collector.load.framing import Exchange

__all__ = ["GAP_EDGES_MS", "LoopReport", "gap_histogram", "run_closed_loop"]

_LAG_PERIOD_S = 0.01


class AnyConnection(Protocol):
    """What carries an exchange: wire.Connection, or secure.SecureConnection for https."""

    async def open(self) -> None: ...
    def close(self) -> None: ...
    async def send(self, request: bytes, timeout_s: float) -> Exchange: ...


class LoopReport(Struct):
    """One repeat as it happened: exchanges in the order of issue, and what the client saw of itself."""

    exchanges: list[Exchange]
    lag_ms: list[float] = field(default_factory=list)
    cpu_pct: float = 0.0
    reached: int = 0


async def run_closed_loop(
    connections: Sequence[AnyConnection], requests: Sequence[bytes], timeout_s: float
) -> LoopReport:
    """Issue all `requests`, each slot (connection) one at a time, and return when the last has ended.

    Connections are opened before the clock starts. Garbage is collected before and not during the loop, because a
    collection in the middle would be measured as the server's.

    Raises:
        OSError: the server takes no connections at all.
    """
    for connection in connections:
        await connection.open()
    report = LoopReport(exchanges=[])
    running = 0
    queue = iter(requests)

    async def slot(connection: AnyConnection) -> None:
        nonlocal running
        for request in queue:  # shared: each slot takes the next one that nobody has
            running += 1
            report.reached = max(report.reached, running)
            place = len(report.exchanges)
            report.exchanges.append(Exchange(0.0))  # holds the order of issue
            report.exchanges[place] = await connection.send(request, timeout_s)
            running -= 1

    gc.collect()
    gc.freeze()
    gc.disable()
    cpu, wall = time.process_time(), time.monotonic()
    watch = asyncio.create_task(_watch_lag(report.lag_ms))
    try:
        async with asyncio.TaskGroup() as slots:
            for connection in connections:
                slots.create_task(slot(connection))
    finally:
        watch.cancel()
        gc.enable()
        gc.unfreeze()
        for connection in connections:
            connection.close()
    elapsed = time.monotonic() - wall
    report.cpu_pct = 100 * (time.process_time() - cpu) / elapsed if elapsed > 0 else 0.0
    return report


async def _watch_lag(lags_ms: list[float]) -> None:
    """How late the event loop wakes a sleeper: what any stamp may be late by."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(_LAG_PERIOD_S)
        lags_ms.append(max(0.0, (time.monotonic() - before - _LAG_PERIOD_S) * 1000))


def _edges() -> list[float]:
    """Upper edges from 0.01 ms to about 100 s, 20 a decade: a bucket is 12 % wide."""
    return [round(10 ** (i / 20), 4) for i in range(-40, 101)]


GAP_EDGES_MS: list[float] = _edges()


def gap_histogram(gaps_ms: Sequence[float]) -> dict[float, int]:
    """Counts of chunk gaps by upper edge (ms) of log-spaced buckets; gaps above the last edge count in it."""
    counts: dict[float, int] = {}
    ordered = sorted(gaps_ms)
    at = 0
    while at < len(ordered):  # gaps of a stream are alike: from bucket to bucket, not from gap to gap
        edge = GAP_EDGES_MS[min(bisect_left(GAP_EDGES_MS, ordered[at]), len(GAP_EDGES_MS) - 1)]
        end = len(ordered) if edge == GAP_EDGES_MS[-1] else bisect_right(ordered, edge, at)
        counts[edge] = end - at
        at = end
    return counts
