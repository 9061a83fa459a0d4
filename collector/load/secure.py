"""The same exchange over aiohttp, for https:// addresses: TLS, proxies and redirects are its trade.

Stamps are taken when a read wakes the task, so they carry the event loop's lag (in client.json).
"""

from __future__ import annotations

import time

import aiohttp

from collector.load.framing import Exchange
from collector.load.wire import MAX_REPLY_BYTES

__all__ = ["SecureConnection"]


class SecureConnection:
    """Like wire.Connection, with a request given as (url, body, headers)."""

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
        self._session = session
        self._url = url
        self._headers = headers
        self.under_way: Exchange | None = None  # the exchange that has no end yet

    async def open(self) -> None:
        """aiohttp connects with the first request; the warm-up does that."""

    def enforce_limit(self) -> None:
        """`send` counts what comes."""

    def close(self) -> None:
        """The session is closed by whoever opened it."""

    async def send(self, request: bytes, timeout_s: float, due_s: float | None = None) -> Exchange:
        """Post a JSON body; the reply is kept as reads behind a head that `take_apart` understands."""
        exchange = self.under_way = Exchange(time.monotonic(), due_s=due_s)
        came = 0
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(self._url, data=request, headers=self._headers, timeout=timeout) as response:
                after = "".join(f"retry-after: {v}\r\n" for v in response.headers.getall("Retry-After", [])[:1])
                keep(exchange, f"HTTP/1.1 {response.status} x\r\n{after}\r\n".encode("latin-1", "replace"))
                async for data in response.content.iter_any():
                    keep(exchange, data)
                    came += len(data)
                    if came > MAX_REPLY_BYTES:  # leaving the block drops the connection
                        exchange.error = f"the reply is longer than {MAX_REPLY_BYTES >> 20} MiB"
                        break
        except TimeoutError:
            exchange.timed_out = True
        except (aiohttp.ClientError, OSError) as e:
            exchange.error = f"cannot be reached: {type(e).__name__}: {e}"
        finally:
            self.under_way = None
            exchange.close()
        return exchange


def keep(exchange: Exchange, piece: bytes) -> None:
    """One read, stamped now."""
    exchange.times.append(time.monotonic())
    exchange.pieces.append(piece)
