"""The raw client against real servers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.load.framing import Exchange, take_apart
from collector.load.stream import read_exchange
from collector.load.wire import Connection, Target, build_request


def chunked(payloads: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in payloads if p) + b"0\r\n\r\n"


@contextlib.asynccontextmanager
async def server(pieces: list[bytes], pause_s: float = 0.001, close: bool = False) -> AsyncIterator[Target]:
    """Answers every request with the same pieces, written one by one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if close:
                    break
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Target("127.0.0.1", listening.sockets[0].getsockname()[1], "")
    finally:
        listening.close()


async def ask(target: Target, times: int = 1, timeout_s: float = 5.0) -> list[Exchange]:
    connection = Connection(target)
    try:
        request = build_request(target, "/v1/completions", b"{}", {})
        return [await connection.send(request, timeout_s) for _ in range(times)]
    finally:
        connection.close()


def body_of(exchange: Exchange) -> bytes:
    reply = take_apart(exchange)
    assert reply is not None
    return b"".join(data for _, data in reply.body)


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PAYLOADS = [b'data: {"a": 1}\n\n', b"data: 0\r\n\r\n", b"data: [DONE]\n\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
async def test_chunked_replies_in_pieces_of_any_size(size: int) -> None:
    raw = HEAD + chunked(PAYLOADS)
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
    async with server(pieces, pause_s=0.0) as target:
        first, second = await ask(target, 2)
    assert first.error is None
    assert body_of(first) == b"".join(PAYLOADS)
    assert body_of(second) == b"".join(PAYLOADS)


async def test_a_payload_that_looks_like_the_end_is_not_the_end() -> None:
    trap = b"data: 0\r\n\r\n"  # ends like the last chunk, and the read ends just there
    raw = HEAD + b"%x\r\n" % (len(trap) + 9)
    async with server([raw + trap, b"data: x\n\n\r\n", b"0\r\n\r\n"], pause_s=0.02) as target:
        (exchange,) = await ask(target)
    assert body_of(exchange) == trap + b"data: x\n\n"


async def test_a_body_with_a_length_and_a_body_until_close() -> None:
    async with server([b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\n", b"hello"]) as target:
        (exchange,) = await ask(target)
        assert body_of(exchange) == b"hello"
    async with server([b"HTTP/1.1 200 OK\r\n\r\n", b"data: x\n\n"], close=True) as target:
        (exchange,) = await ask(target)
        assert (body_of(exchange), exchange.error) == (b"data: x\n\n", None)


async def test_an_interim_reply_is_passed_over() -> None:
    async with server([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + chunked([b"x"])]) as target:
        (exchange,) = await ask(target)
    assert body_of(exchange) == b"x"


async def test_reads_are_stamped_when_they_arrive() -> None:
    pieces = [HEAD, *(b"%x\r\n%s\r\n" % (len(p), p) for p in PAYLOADS), b"0\r\n\r\n"]
    async with server(pieces, pause_s=0.05) as target:
        (exchange,) = await ask(target)
    reply = take_apart(exchange)
    assert reply is not None
    times = [at for at, _ in reply.body]
    assert all(0.045 < b - a < 0.2 for a, b in itertools.pairwise(times))
    assert times == sorted(times)
    assert times[0] > exchange.sent_s


async def test_a_server_that_closes_after_each_reply_is_connected_to_again() -> None:
    async with server([HEAD + chunked([b"x"])], close=True) as target:
        exchanges = await ask(target, 3)
    assert [body_of(e) for e in exchanges] == [b"x"] * 3


async def test_a_server_that_breaks_off_and_one_that_never_ends() -> None:
    async with server([HEAD + b"5\r\nda"], close=True) as target:
        (exchange,) = await ask(target)
        assert "closed" in (exchange.error or "")
    async with server([HEAD + b"5\r\nda"]) as target:
        (exchange,) = await ask(target, timeout_s=0.2)
        assert exchange.timed_out


async def test_nobody_listening_is_an_error_not_an_exception() -> None:
    async with server([]) as target:
        pass
    (exchange,) = await ask(target)
    assert "cannot connect" in (exchange.error or "")
    assert read_exchange(exchange).status == "error"


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.lists(st.integers(0, 500), max_size=10))
def test_taking_apart_keeps_every_byte_however_it_was_split(payloads: list[bytes], places: list[int]) -> None:
    raw = HEAD + chunked(payloads)
    edges = [0, *sorted(p % (len(raw) + 1) for p in places), len(raw)]
    reads = [(float(i), raw[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    assert body_of(Exchange(0.0, reads)) == b"".join(payloads)
