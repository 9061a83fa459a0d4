"""One HTTP/1.1 exchange at a time over a raw asyncio transport, every network read stamped as it arrives.

Why not a client library: the stamp must be taken on the read, and nothing may be parsed while other streams are being
timed. So `data_received` stores (time, bytes) and looks only for the end of the reply; headers, chunked framing, events
and JSON are taken apart after the cell is over (`framing`, `stream`). Requests are written to the socket at once, for a
transport may hold them back until the end of its loop's turn, and the stamp would be early. TLS, proxies and redirects
are left to aiohttp (`secure.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from msgspec import Struct

from collector.errors import QuantcaseError
from collector.load.framing import Exchange, Framing
from collector.load.pulse import NO_CONNECTION

__all__ = ["MAX_REPLY_BYTES", "Connection", "Target", "build_request"]

MAX_REPLY_BYTES = 64 << 20
_LAST_CHUNK = b"0\r\n\r\n"
_DONE = b"data: [DONE]\n\n\r\n0\r\n\r\n"


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


class Connection(asyncio.Protocol):
    """One connection that carries one exchange at a time and is opened again when the server has closed it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._transport: asyncio.Transport | None = None
        self._socket = -1
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self._framing = Framing()
        self._framed = 0  # pieces of the exchange that the framing has been fed
        self._chunked = False
        self._stale = False
        self._used = False  # has carried an exchange since it was opened

    async def open(self) -> None:
        """Connect (again). Raises OSError when nobody listens."""
        self.close()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, self.target.host, self.target.port)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock.fileno()
        self._stale = False
        self._used = False

    @property
    def under_way(self) -> Exchange | None:
        """The exchange that has no end yet."""
        return self._exchange

    def close(self) -> None:
        """Drop the connection; an exchange under way ends as `cut`."""
        if self._exchange is not None and self._done is not None and not self._done.done():
            self._exchange.cut = True
            self._done.set_result(None)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
            self._socket = -1

    async def send(self, request: bytes, timeout_s: float, due_s: float | None = None) -> Exchange:
        """Write a request and wait for the end of its reply. Never raises for what the server does: see Exchange.

        A kept connection that the server closes just as it is used again, without a byte of reply, never carried the
        request: it is sent once more on a new connection, and the clock starts then (RFC 9112, 9.3.1).
        """
        reused = self._transport is not None and not self._stale and self._used
        exchange = await self._send_once(request, timeout_s)
        if reused and exchange.error and not exchange.data and not exchange.timed_out and not exchange.cut:
            exchange = await self._send_once(request, timeout_s)
        exchange.due_s = due_s
        return exchange

    async def _send_once(self, request: bytes, timeout_s: float) -> Exchange:
        if self._transport is None or self._stale or self._transport.is_closing():
            try:
                await self.open()
            except OSError as e:
                return Exchange(time.monotonic(), error=f"{NO_CONNECTION}: {e.strerror or e}")
        self._framing, self._framed, self._chunked = Framing(), 0, False
        loop = asyncio.get_running_loop()
        done = self._done = loop.create_future()
        exchange = self._exchange = Exchange(0.0)
        self._used = True
        self._write(request, exchange)
        timer = loop.call_later(timeout_s, self._timeout)
        try:
            await done
        except asyncio.CancelledError:
            exchange.cut = True
            self.close()
            raise
        finally:
            timer.cancel()
            self._exchange = self._done = None
            exchange.close()
        if exchange.error or exchange.timed_out or exchange.cut or not self._framing.keep_alive:
            self._stale = True
        return exchange

    def _write(self, request: bytes, exchange: Exchange) -> None:
        """Stamp, and hand the request to the kernel; what it does not take at once goes by the transport."""
        written = 0
        exchange.sent_s = time.monotonic()
        with contextlib.suppress(BlockingIOError, InterruptedError, BrokenPipeError, ConnectionResetError):
            written = os.write(self._socket, request)  # an end of the connection is told by connection_lost
        if written < len(request) and self._transport is not None:
            self._transport.write(request[written:])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook; the transport is kept by `open`."""

    def data_received(self, data: bytes, monotonic: Callable[[], float] = time.monotonic) -> None:
        """asyncio's hook, the hot path: stamp, keep, and look for the end only when these bytes could be it."""
        now = monotonic()
        exchange = self._exchange
        if exchange is None:
            self._stale = True
            return
        exchange.times.append(now)
        exchange.pieces.append(data)
        # A chunked body ends in an empty last chunk; other bodies (errors) are short: look after every read of those.
        if self._chunked and len(data) > 4 and not data.endswith(_LAST_CHUNK):
            return
        self._look(exchange)

    def _look(self, exchange: Exchange) -> None:
        """Whether the reply is whole now."""
        if self._chunked:
            tail = b"".join(exchange.pieces[-len(_DONE) :])
            if not tail.endswith(_LAST_CHUNK):
                return
            if tail.endswith(_DONE):  # no event follows this one, whatever the framing says
                self._finish()
                return
        fresh = b"".join(exchange.pieces[self._framed :])
        self._framed = len(exchange.pieces)
        if self._framing.ended(fresh):
            self._finish()
        self._chunked = self._framing.chunked

    def enforce_limit(self) -> None:
        """End an exchange whose reply has no end. Called now and then, not at every read."""
        exchange = self._exchange
        if exchange is not None and sum(map(len, exchange.pieces)) > MAX_REPLY_BYTES:
            exchange.error = f"the reply is longer than {MAX_REPLY_BYTES >> 20} MiB"
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook: the end of a body without a length, else an error of the exchange under way."""
        self._stale = True
        if self._exchange is not None and self._done is not None and not self._done.done():
            self._framing.ended(b"".join(self._exchange.pieces[self._framed :]))
            self._framed = len(self._exchange.pieces)
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
