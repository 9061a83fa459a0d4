"""One HTTP/1.1 exchange at a time over a raw asyncio transport, every network read stamped as it arrives.

Why not a client library: the stamp must be taken on the read, and nothing may be parsed while other streams are being
timed. So `data_received` stores (time, bytes) and looks only for the end of the reply; headers, chunked framing, events
and JSON are taken apart after the cell is over. TLS, proxies and redirects are left to aiohttp (`secure.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from array import array
from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from collector.errors import QuantcaseError

__all__ = ["Connection", "Exchange", "Reply", "Target", "build_request", "take_apart"]

_MAX_REPLY_BYTES = 64 << 20


class Target(Struct, frozen=True):
    """Where requests go: an http:// base URL taken apart."""

    host: str
    port: int
    prefix: str

    @classmethod
    def of(cls, base_url: str) -> Target:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname:
            raise QuantcaseError(f"{base_url} is not an http:// address")
        return cls(parts.hostname, parts.port or 80, parts.path.rstrip("/"))


class Exchange:
    """One request as it happened: when it was sent, every read, and how it ended. Times are monotonic seconds.

    Reads are kept as one buffer with their times and ends, not as objects: 256 streams of 128 chunks are 33,000 reads.
    """

    __slots__ = ("cut", "data", "ends", "error", "sent_s", "timed_out", "times")

    def __init__(
        self,
        sent_s: float,
        reads: Iterable[tuple[float, bytes]] = (),
        *,
        error: str | None = None,
        timed_out: bool = False,
        cut: bool = False,
    ) -> None:
        self.sent_s = sent_s
        self.error = error
        self.timed_out = timed_out
        self.cut = cut
        self.times = array("d")
        self.ends = array("Q")
        self.data = bytearray()
        for at_s, piece in reads:
            self.add(at_s, piece)

    def add(self, at_s: float, piece: bytes) -> None:
        """Keep one read."""
        self.data += piece
        self.times.append(at_s)
        self.ends.append(len(self.data))

    @property
    def reads(self) -> list[tuple[float, bytes]]:
        """The reads as (time, bytes), in order."""
        starts = [0, *self.ends]
        return [(at, bytes(self.data[a:b])) for at, a, b in zip(self.times, starts, self.ends, strict=False)]


class Reply(Struct):
    """An exchange taken apart: status, headers (lower-case names), and the body's reads without chunked framing."""

    status: int
    headers: dict[str, str]
    body: list[tuple[float, bytes]]


def build_request(target: Target, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a POST with a JSON body, ready to be written in one piece."""
    lines = [
        f"POST {target.prefix}{path} HTTP/1.1",
        f"Host: {target.host}:{target.port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Framing:
    """Knows where a reply ends. Fed lazily: only when the bytes so far could be a whole reply."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.body_at = -1
        self.length: int | None = None
        self.chunked = False
        self.until_close = False
        self.keep_alive = True
        self.at = 0

    def ended(self, data: bytes) -> bool:
        self.buffer += data
        if self.body_at < 0 and not self._head():
            return False
        if self.length is not None:
            return len(self.buffer) - self.body_at >= self.length
        return self.chunked and self._last_chunk()

    def _head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        status, headers = _parse_head(bytes(self.buffer[:end]))
        if 100 <= status < 200:  # an interim reply: the real one follows
            del self.buffer[: end + 4]
            return self._head()
        self.body_at = self.at = end + 4
        self.chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if not self.chunked:
            length = headers.get("content-length", "")
            self.length = int(length) if length.isdigit() else 0 if status in (204, 304) else None
        self.until_close = not self.chunked and self.length is None
        self.keep_alive = headers.get("connection", "").lower() != "close" and not self.until_close
        return True

    def _last_chunk(self) -> bool:
        while True:
            line_end = self.buffer.find(b"\r\n", self.at)
            if line_end < 0:
                return False
            size = _chunk_size(bytes(self.buffer[self.at : line_end]))
            if size == 0:  # trailers, if any, end with an empty line
                return self.buffer.find(b"\r\n\r\n", line_end) >= 0
            following = line_end + 2 + size + 2
            if following > len(self.buffer):
                return False
            self.at = following


class Connection(asyncio.Protocol):
    """One connection that carries one exchange at a time and is opened again when the server has closed it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self._framing = _Framing()
        self._unfed: list[bytes] = []
        self._stale = False
        self._used = False  # has carried an exchange since it was opened

    async def open(self) -> None:
        """Connect (again). Raises OSError when nobody listens."""
        self.close()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, self.target.host, self.target.port)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stale = False
        self._used = False

    def close(self) -> None:
        """Drop the connection; an exchange under way ends as `cut`."""
        if self._exchange is not None and self._done is not None and not self._done.done():
            self._exchange.cut = True
            self._done.set_result(None)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def send(self, request: bytes, timeout_s: float) -> Exchange:
        """Write a request and wait for the end of its reply. Never raises for what the server does: see Exchange.

        A kept connection that the server closes just as it is used again, without a byte of reply, never carried the
        request: it is sent once more on a new connection, and the clock starts then (RFC 9112, 9.3.1).
        """
        reused = self._transport is not None and not self._stale and self._used
        exchange = await self._send_once(request, timeout_s)
        if reused and exchange.error and not exchange.data and not exchange.timed_out and not exchange.cut:
            exchange = await self._send_once(request, timeout_s)
        return exchange

    async def _send_once(self, request: bytes, timeout_s: float) -> Exchange:
        if self._transport is None or self._stale or self._transport.is_closing():
            try:
                await self.open()
            except OSError as e:
                return Exchange(time.monotonic(), error=f"cannot connect: {e.strerror or e}")
        transport = self._transport
        if transport is None:
            return Exchange(time.monotonic(), error="cannot connect")
        self._framing, self._unfed = _Framing(), []
        done = self._done = asyncio.get_running_loop().create_future()
        exchange = self._exchange = Exchange(time.monotonic())
        self._used = True
        transport.write(request)
        timer = asyncio.get_running_loop().call_later(timeout_s, self._timeout)
        try:
            await done
        except asyncio.CancelledError:
            exchange.cut = True
            self.close()
            raise
        finally:
            timer.cancel()
            self._exchange = self._done = None
        if exchange.error or exchange.timed_out or exchange.cut or not self._framing.keep_alive:
            self._stale = True
        return exchange

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook; the transport is kept by `open`."""

    def data_received(self, data: bytes) -> None:
        """asyncio's hook, the hot path: stamp, keep, and look for the end only when these bytes could be it."""
        now = time.monotonic()
        exchange = self._exchange
        if exchange is None:
            self._stale = True
            return
        exchange.add(now, data)
        self._unfed.append(data)
        # A chunked body ends in an empty line; other bodies (errors) are short: look after every read of those.
        framing = self._framing
        if framing.chunked and not (data.endswith(b"\r\n") or len(data) < 4):
            return
        if framing.chunked and not self._could_end(data):
            return
        joined = b"".join(self._unfed)
        self._unfed.clear()
        if framing.ended(joined):
            self._finish()
        elif len(exchange.data) > _MAX_REPLY_BYTES:
            exchange.error = f"the reply is longer than {_MAX_REPLY_BYTES >> 20} MiB"
            self._finish()

    def _could_end(self, data: bytes) -> bool:
        tail = data[-4:]
        for earlier in reversed(self._unfed[:-1]):
            if len(tail) >= 4:
                break
            tail = (earlier + tail)[-4:]
        # Less than four bytes since the framing was last fed: it remembers the rest, so let it look.
        return len(tail) < 4 or tail == b"\r\n\r\n"

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook: the end of a body without a length, else an error of the exchange under way."""
        self._stale = True
        if self._exchange is not None and self._done is not None and not self._done.done():
            self._framing.ended(b"".join(self._unfed))
            if not self._framing.until_close:
                self._exchange.error = f"the connection was closed: {exc}" if exc else "the connection was closed early"
            self._finish()

    def _timeout(self) -> None:
        if self._exchange is not None:
            self._exchange.timed_out = True
        self._finish()
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return status, headers


def _chunk_size(line: bytes) -> int:
    with contextlib.suppress(ValueError):
        return int(line.split(b";", 1)[0].strip(), 16)
    return 0  # not chunked framing at all: ends the reply, and take_apart says what came


def take_apart(exchange: Exchange) -> Reply | None:
    """Status, headers and de-chunked body of an exchange; None when not even a head had come.

    A byte of the body keeps the time of the read that brought it.
    """
    joined = bytes(exchange.data)
    start = 0
    while True:
        end = joined.find(b"\r\n\r\n", start)
        if end < 0:
            return None
        status, headers = _parse_head(joined[start:end])
        start = end + 4
        if not 100 <= status < 200:
            break
    spans = [(start, len(joined))]
    if "chunked" in headers.get("transfer-encoding", "").lower():
        spans = _chunk_spans(joined, start)
    return Reply(status, headers, _timed(exchange, joined, spans))


def _chunk_spans(joined: bytes, at: int) -> list[tuple[int, int]]:
    """(from, to) of the payload of each chunk that has come, the last perhaps only in part."""
    spans = []
    while (line_end := joined.find(b"\r\n", at)) >= 0:
        size = _chunk_size(joined[at:line_end])
        if size == 0:
            break
        spans.append((line_end + 2, min(line_end + 2 + size, len(joined))))
        at = line_end + 2 + size + 2
    return spans


def _timed(exchange: Exchange, joined: bytes, spans: list[tuple[int, int]]) -> list[tuple[float, bytes]]:
    """The bytes inside `spans` (offsets into all that was read), cut at the reads that brought them."""
    body = []
    offset = 0
    span = 0
    for at, end in zip(exchange.times, exchange.ends, strict=True):
        while span < len(spans) and spans[span][0] < end:
            low, high = max(spans[span][0], offset), min(spans[span][1], end)
            if low < high:
                body.append((at, joined[low:high]))
            if spans[span][1] > end:
                break
            span += 1
        offset = end
    return body
