"""An engine that hangs is told from one that is slow: real sockets, and a server that does either."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from collector.load import loop, pulse
from collector.load.framing import Exchange
from collector.load.measure import Client, Measured
from collector.load.prompts import Calibration, PromptMaker
from collector.load.pulse import Hung
from collector.load.workers import Workers
from collector.study import Workload
from tests.load.test_loop import a_study

LIMIT_S = 0.5  # of one request; on a busy machine any engine is a slow one
TOKENS = 4
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = (
    "".join(f"data: {json.dumps({'choices': [{'delta': {'content': f' {i}'}}]})}\n\n" for i in range(TOKENS))
    + 'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
).encode()
WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

Engine = Callable[[int, bool], Awaitable[None]]  # (number of the request, is it asked alone) -> when it has answered


@contextlib.asynccontextmanager
async def serving(engine: Engine, meanwhile: bytes = b"") -> AsyncIterator[str]:
    """A front-end that sends its head at once, then `meanwhile` every 100 ms, and the reply when `engine` has it. Who
    hangs up is not worked for any longer.
    """
    numbers = itertools.count(1)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                short = json.loads(await reader.readexactly(length))["max_tokens"] != TOKENS
                writer.write(HEAD)
                work = asyncio.ensure_future(engine(0 if short else next(numbers), short))
                gone = asyncio.ensure_future(reader.read(1))
                while not work.done() and not gone.done():
                    await asyncio.wait({work, gone}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
                    if not work.done():
                        writer.write(meanwhile)
                (work if gone.done() else gone).cancel()
                await asyncio.gather(work, gone, return_exceptions=True)
                if gone.done() and not gone.cancelled():
                    break
                writer.write(WHOLE)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Told(NamedTuple):
    """What a repeat gave, what was said meanwhile, and how long it took."""

    measured: Measured | Hung
    said: list[str]
    seconds: float

    def statuses(self) -> list[str]:
        assert not isinstance(self.measured, Hung), self.measured
        return [r.status for r in self.measured.requests]


async def repeat(url: str, streams: int, requests: int, workers: Workers | None = None, **more: Any) -> Told:
    asked = {"name": "c", "input_tokens": 9, "output_tokens": TOKENS, "concurrency": [streams]}
    asked |= {"requests_per_stream": 2, "min_requests": requests, "request_timeout_s": LIMIT_S}
    workload, begun = msgspec.convert(asked, Workload), time.monotonic()
    said: list[str] = []
    place: dict[str, Any] = {"variant": "v", "start": 1, "repeat": 1, "zero": 0.0, "prompts_of": 1, **more}
    client, maker = Client(url, "m", workers=workers), PromptMaker(a_study(), Calibration())
    try:
        found: Measured | Hung = await client.repeat(maker, workload, workload.loads()[0], say=said.append, **place)
    except Hung as e:
        found = e
    return Told(found, said, time.monotonic() - begun)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule's own pauses, at the scale of that limit."""
    monkeypatch.setattr(pulse, "TICK_S", 0.1)
    monkeypatch.setattr(pulse, "_WATCH_S", 0.02)
    monkeypatch.setattr(loop, "_TICK", 5)


async def never() -> None:
    await asyncio.Event().wait()


def hangs_after(answered: int) -> Engine:
    async def engine(number: int, alone: bool) -> None:
        if alone or number > answered:
            await never()

    return engine


@pytest.mark.parametrize("streams", [1, 4])
async def test_a_hang_in_the_middle_costs_at_most_three_limits_and_not_one_a_request(streams: int) -> None:
    async with serving(hangs_after(5)) as url:
        told = await repeat(url, streams, 5 + 50 * streams)
    assert isinstance(told.measured, Hung)
    assert f"then a short request alone none in {LIMIT_S:g} s" in str(told.measured)
    assert told.seconds < 10 * LIMIT_S  # 50 limits, if each of those that are left had to wait for its own
    assert told.said == []


async def test_a_hang_is_seen_over_all_workers_and_the_next_job_gets_new_ones() -> None:
    async with Workers(2) as workers:
        async with serving(hangs_after(5)) as url:
            told = await repeat(url, 4, 60, workers)
        assert isinstance(told.measured, Hung)

        async def at_once(_number: int, _alone: bool) -> None:
            return

        async with serving(at_once) as url:
            told = await repeat(url, 4, 8, workers)
        assert set(told.statuses()) == {"ok"}
        assert told.said == []  # what the last job heard is forgotten, and new processes take their time


async def test_a_prefill_longer_than_the_limit_is_slow_and_not_ended() -> None:
    """Nobody gets a byte for a whole limit, again and again; every third request is short enough."""

    async def engine(number: int, alone: bool) -> None:
        await asyncio.sleep(0.0 if alone or number % 3 == 0 else 2 * LIMIT_S)

    async with serving(engine) as url:
        told = await repeat(url, 1, 6)
    assert told.statuses() == ["timeout", "timeout", "ok"] * 2
    assert told.said
    assert all("it answers a short request alone: it is slow, and the load goes on" in words for words in told.said)


async def test_a_queue_longer_than_the_limit_is_slow_and_not_ended() -> None:
    """One at a time: most wait in vain."""
    busy = asyncio.Lock()

    async def engine(_number: int, _alone: bool) -> None:
        async with busy:
            await asyncio.sleep(0.3 * LIMIT_S)

    async with serving(engine) as url:
        told = await repeat(url, 8, 24)
    assert set(told.statuses()) == {"ok", "timeout"}


async def test_an_engine_whose_counters_move_is_not_ended() -> None:
    ticks = itertools.count()
    async with serving(hangs_after(0)) as url:
        told = await repeat(url, 2, 4, counters=lambda: next(ticks))
    assert told.statuses() == ["timeout"] * 4
    assert "its counters move" in told.said[0]


async def test_a_stream_that_is_kept_alive_by_bytes_is_never_called_hung() -> None:
    async with serving(hangs_after(0), meanwhile=b"8\r\n: ping\n\n\r\n") as url:
        told = await repeat(url, 2, 4)
    assert told.statuses() == ["timeout"] * 4
    assert told.said == []


def test_a_head_alone_is_no_sign_of_an_engine() -> None:
    assert Exchange(0.0).heard_s() == 0.0
    assert Exchange(0.0, [(1.0, HEAD)]).heard_s() == 0.0
    assert Exchange(0.0, [(1.0, HEAD + b"5\r\n")]).heard_s() == 1.0
    assert Exchange(0.0, [(1.0, HEAD), (2.0, b"5\r\n")]).heard_s() == 2.0
