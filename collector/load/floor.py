"""What the client itself adds: the TTFT that it reads off a server that answers at once, on this machine.

No TTFT below this can be told apart from it. The server is a thread with a plain socket: no event loop, no parsing.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from collector.bundle.metrics import percentile
from collector.load.shots import Job, shoot

__all__ = ["loopback_floor_ms"]

_REQUESTS = 200
_CHUNK = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}\n\n'
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%s\r\n" % (len(_CHUNK), _CHUNK) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


def _answer(listening: socket.socket) -> None:
    """One connection; every request (they come one at a time, whole) is answered at once."""
    with contextlib.suppress(OSError):
        connection, _ = listening.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while connection.recv(65536):
                connection.sendall(_REPLY)


async def loopback_floor_ms() -> float | None:
    """The median TTFT of 200 requests against a server that answers at once; None when none was answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_answer, args=(listening,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        got = await shoot(Job(url, "/", {}, [b"{}"] * _REQUESTS, 1, 5.0))
        thread.join(1.0)
    return percentile([s.outcome.ttft_ms for s in got.shots if s.outcome.ttft_ms is not None], 50)
