"""The loops that send requests and let the clock run: closed (a fixed number in flight) and open (by a timetable)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct, field

from collector.load.framing import Exchange
from collector.load.pulse import TICK_S, Place, Pulse

__all__ = ["AnyConnection", "LoopReport", "no_collections", "run_closed_loop", "run_open_loop"]

_LAG_PERIOD_S = 0.01
_TICK = round(TICK_S / _LAG_PERIOD_S)  # lag periods between two looks at replies that have no end yet
_LEAD_S = 0.05  # between the opening of the connections and the first arrival of an open loop
_SPARE = 64  # connections that an open loop opens before its clock starts


class AnyConnection(Protocol):
    """What carries an exchange: wire.Connection, or secure.SecureConnection for https."""

    @property
    def under_way(self) -> Exchange | None: ...
    async def open(self) -> None: ...
    def close(self) -> None: ...
    def enforce_limit(self) -> None: ...
    async def send(self, request: bytes, timeout_s: float, due_s: float | None = None) -> Exchange: ...


class LoopReport(Struct):
    """What happened: each exchange with the number of its request, and what the client saw of itself."""

    exchanges: list[tuple[int, Exchange]] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    cpu_pct: float = 0.0


async def run_closed_loop(
    connections: Sequence[AnyConnection],
    requests: Sequence[bytes],
    timeout_s: float,
    *,
    queue: Iterable[int] | None = None,
    ready: Callable[[], object] = lambda: None,
    place: Place | None = None,
) -> LoopReport:
    """Each slot (connection) sends its next request when its last one has ended, until the queue is empty.

    Args:
        queue: numbers of requests, shared by all slots and, when it is drawn from a pipe, by several processes; without
            one every request is sent, in order.
        ready: called when the connections are open, before the clock starts; it may block until others are ready too.
        place: where this process tells what it hears of the engine, and is told to send nothing new for a while.

    Raises:
        OSError: the server takes no connections at all.
    """
    await _open_all(connections)
    _settle()
    ready()
    report = LoopReport()
    numbers = iter(range(len(requests)) if queue is None else queue)
    told = place or Pulse().place()

    def under_way() -> list[Exchange | None]:
        return [c.under_way for c in connections]

    async def slot(connection: AnyConnection) -> None:
        for number in numbers:  # shared: each slot takes the next one that nobody has
            if told.pulse.held:
                await told.may_send()
            told.sent()
            exchange = await connection.send(requests[number], timeout_s)
            told.ended(exchange, timeout_s, under_way)
            report.exchanges.append((number, exchange))

    told.begin()
    with _instrument(report, connections, told):
        async with asyncio.TaskGroup() as slots:
            for connection in connections:
                slots.create_task(slot(connection))
    return report


async def run_open_loop(
    connect: Callable[[], AnyConnection],
    requests: Sequence[bytes],
    due_s: Sequence[float],
    timeout_s: float,
    *,
    numbers: Sequence[int] | None = None,
    zero: Callable[[], float] = lambda: time.monotonic() + _LEAD_S,
) -> LoopReport:
    """Send each request when it is due, whether or not the earlier ones have been answered.

    Args:
        connect: makes a connection that is not open yet; as many are made as are in flight at once.
        due_s: seconds from `zero`, rising.
        numbers: which of the requests this process sends; all of them when left out.
        zero: called when the first connections are open; the monotonic time from which `due_s` counts.

    Raises:
        OSError: the server takes no connections at all.
    """
    mine = list(range(len(requests)) if numbers is None else numbers)
    connections = [connect() for _ in range(min(_SPARE, len(mine)))]
    await _open_all(connections)
    free = list(connections)
    report = LoopReport()
    _settle()
    begin = zero()

    async def one(number: int, at: float) -> None:
        if not free:
            free.append(connect())  # opened by send, whose clock for `due` is running already
            connections.append(free[-1])
        connection = free.pop()
        report.exchanges.append((number, await connection.send(requests[number], timeout_s, at)))
        free.append(connection)

    with _instrument(report, connections):
        async with asyncio.TaskGroup() as arrivals:
            for number in mine:
                at = begin + due_s[number]
                await _until(at)
                arrivals.create_task(one(number, at))
    return report


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """No garbage is collected inside: not while streams are timed, and not while a million small objects are read."""
    outermost = gc.isenabled()  # one request may be sent beside a load that is timed
    try:
        yield
    finally:
        if outermost:
            gc.enable()
            gc.unfreeze()


async def _until(at: float) -> None:
    """Sleep until then and not a moment less: a loop's timers may ring a millisecond early."""
    while (wait := at - time.monotonic()) > 0:  # noqa: ASYNC110 - a time is no event
        await asyncio.sleep(wait)


async def _open_all(connections: Sequence[AnyConnection]) -> None:
    """Open them all, or close those that were opened already."""
    try:
        for connection in connections:
            await connection.open()
    except BaseException:
        for connection in connections:
            connection.close()
        raise


def _settle() -> None:
    """Collect garbage before the clock starts: a collection in the middle would be measured as the server's."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _instrument(report: LoopReport, connections: Sequence[AnyConnection], place: Place | None = None) -> Iterator[None]:
    """Watch the client itself while it measures. Garbage is collected again when `no_collections` ends."""
    gc.disable()
    watch = _Watch(report.lag_ms, connections, place)
    cpu, wall = time.process_time(), time.monotonic()
    watch.start()
    try:
        yield
    finally:
        watch.stop()
        elapsed = time.monotonic() - wall
        report.cpu_pct = 100 * (time.process_time() - cpu) / elapsed if elapsed > 0 else 0.0
        for connection in connections:
            connection.close()


class _Watch:
    """How late the event loop calls what is due: by so much any stamp may be late."""

    def __init__(self, lags_ms: list[float], connections: Sequence[AnyConnection], place: Place | None) -> None:
        self._lags_ms = lags_ms
        self._connections = connections
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._before = 0.0

    def start(self) -> None:
        self._before = time.monotonic()
        self._timer = self._loop.call_later(_LAG_PERIOD_S, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._lags_ms.append(max(0.0, (time.monotonic() - self._before - _LAG_PERIOD_S) * 1000))
        if len(self._lags_ms) % _TICK == 0:
            for connection in self._connections:
                connection.enforce_limit()
            if self._place is not None:
                self._place.listen(c.under_way for c in self._connections)
        self.start()
