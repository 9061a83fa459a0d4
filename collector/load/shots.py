"""One stretch of load against one server, in this process or spread over several: jobs in, shots out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
from msgspec import Struct, field

from collector.load.framing import Exchange
from collector.load.loop import AnyConnection, LoopReport, no_collections, run_closed_loop, run_open_loop
from collector.load.pulse import Place
from collector.load.secure import SecureConnection
from collector.load.stream import Outcome, read_exchange
from collector.load.wire import Connection, Target, build_request

__all__ = ["Job", "Shot", "Shots", "shoot"]


class Job(Struct):
    """What to send. `due_s` makes it an open loop; without it `slots` requests are kept in flight."""

    base_url: str
    path: str
    headers: dict[str, str]
    bodies: list[bytes]
    slots: int
    timeout_s: float
    due_s: list[float] | None = None


class Shot(Struct):
    """One request and what came of it; times are monotonic seconds of this machine."""

    number: int  # of its body in the job
    sent_s: float
    ended_s: float
    outcome: Outcome
    due_s: float | None = None


class Shots(Struct):
    """Everything that a job gave, by order of number, and what the client saw of itself while it ran."""

    shots: list[Shot] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    cpu_pct: float = 0.0  # of the busiest process
    workers: int = 1

    def reached(self) -> int:
        """The most requests that were under way at once."""
        edges = sorted([(s.sent_s, 1) for s in self.shots] + [(s.ended_s, -1) for s in self.shots])
        most = running = 0
        for _, step in edges:
            running += step
            most = max(most, running)
        return most


async def shoot(
    job: Job,
    *,
    queue: Iterable[int] | None = None,
    numbers: list[int] | None = None,
    ready: Callable[[], float | None] | None = None,
    place: Place | None = None,
    keep_text: bool = False,
) -> Shots:
    """Run a job in this process. Replies are taken apart after the last one has ended.

    Args:
        queue, numbers: which requests this process sends, see `run_closed_loop` and `run_open_loop`.
        ready: called when the connections are open; may wait for others and may name the zero of `due_s`.
        place: of a closed loop, see `run_closed_loop`.
        keep_text: keep what was answered; off while measuring speed.

    Raises:
        OSError: the server takes no connections at all.
    """
    with no_collections():
        report = await _run(job, queue, numbers, ready, place)
        return _read(report, keep_text)


async def _run(
    job: Job,
    queue: Iterable[int] | None,
    numbers: list[int] | None,
    ready: Callable[[], float | None] | None,
    place: Place | None,
) -> LoopReport:
    async with _connect(job) as (connect, wrap):
        requests = [wrap(b) for b in job.bodies]
        if job.due_s is None:
            connections = [connect() for _ in range(job.slots)]
            return await run_closed_loop(
                connections, requests, job.timeout_s, queue=queue, ready=ready or (lambda: None), place=place
            )
        if ready is None:
            return await run_open_loop(connect, requests, job.due_s, job.timeout_s, numbers=numbers)
        together = ready
        return await run_open_loop(
            connect, requests, job.due_s, job.timeout_s, numbers=numbers, zero=lambda: together() or 0.0
        )


def _read(report: LoopReport, keep_text: bool) -> Shots:
    shots = Shots(lag_ms=report.lag_ms, cpu_pct=report.cpu_pct)
    exchanges = sorted(report.exchanges, key=lambda e: e[0], reverse=True)
    report.exchanges.clear()
    while exchanges:  # each reply is let go when it has been read: the raw bytes are most of the memory
        number, exchange = exchanges.pop()
        outcome = read_exchange(exchange)
        if not keep_text:
            outcome.text = ""
        shots.shots.append(Shot(number, exchange.sent_s, _end(exchange), outcome, exchange.due_s))
    return shots


def _end(exchange: Exchange) -> float:
    return exchange.times[-1] if len(exchange.times) else exchange.sent_s


@contextlib.asynccontextmanager
async def _connect(job: Job) -> AsyncIterator[tuple[Callable[[], AnyConnection], Callable[[bytes], bytes]]]:
    """How connections are made to that address, and how a body becomes what they send."""
    if job.base_url.startswith("http://"):
        target = Target.of(job.base_url)
        yield lambda: Connection(target), lambda body: build_request(target, job.path, body, job.headers)
        return
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json", **job.headers}
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
        yield lambda: SecureConnection(session, job.base_url + job.path, headers), lambda body: body
