"""HTTP/1.1 replies taken apart: where one ends, its status and headers, its body without chunked framing."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from itertools import accumulate

from msgspec import Struct

__all__ = ["Exchange", "Framing", "Reply", "take_apart"]

# Bounded, and of plain digits: str.isdigit() and int() take more (superscripts, signs, underscores).
_DIGITS = re.compile(r"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9a-fA-F]{1,16}")


class Exchange:
    """One request as it happened: when it was sent, every read, and how it ended. Times are monotonic seconds.

    While it is under way its reads are a list; `close` makes one buffer of them with their times and ends, because
    256 streams of 128 chunks are 33,000 objects otherwise.
    """

    __slots__ = ("cut", "data", "due_s", "ends", "error", "pieces", "sent_s", "timed_out", "times")

    def __init__(
        self,
        sent_s: float,
        reads: Iterable[tuple[float, bytes]] = (),
        *,
        error: str | None = None,
        timed_out: bool = False,
        cut: bool = False,
        due_s: float | None = None,
    ) -> None:
        self.sent_s = sent_s
        self.due_s = due_s
        self.error = error
        self.timed_out = timed_out
        self.cut = cut
        self.times = array("d")
        self.pieces: list[bytes] = []
        self.ends = array("Q")
        self.data = b""
        for at_s, piece in reads:
            self.times.append(at_s)
            self.pieces.append(piece)
        self.close()

    def close(self) -> None:
        """All that was read as one buffer. Called once, when nothing more will come."""
        self.ends = array("Q", accumulate(map(len, self.pieces)))
        self.data = b"".join(self.pieces)
        self.pieces = []

    def heard_s(self) -> float:
        """When the reply was last heard of; 0.0 where it was not. Its head alone is no sign of an engine: a front-end
        may send that before the engine has looked at the request.
        """
        if len(self.times) == 1:
            first = self.pieces[0] if self.pieces else self.data
            return 0.0 if first.find(b"\r\n\r\n") == len(first) - 4 else self.times[0]
        return self.times[-1] if self.times else 0.0

    @property
    def reads(self) -> list[tuple[float, bytes]]:
        """The reads as (time, bytes), in order."""
        starts = [0, *self.ends]
        return [(at, self.data[a:b]) for at, a, b in zip(self.times, starts, self.ends, strict=False)]


class Reply(Struct):
    """An exchange taken apart: status, headers (lower-case names), and the body's reads without chunked framing."""

    status: int
    headers: dict[str, str]
    body: list[tuple[float, bytes]]


class Framing:
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
            self.length = int(length) if _DIGITS.fullmatch(length) else 0 if status in (204, 304) else None
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


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    status = int(parts[1]) if len(parts) > 1 and _DIGITS.fullmatch(parts[1]) else 0
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = " ".join(value.replace("\0", " ").split())  # RFC 9110, 5.5: CR, LF, NUL
    return status, headers


def _chunk_size(line: bytes) -> int:
    size = line.split(b";", 1)[0].strip()
    if _HEX.fullmatch(size):  # int() would take a sign, too, and a negative size leads back for ever
        return int(size, 16)
    return 0  # not chunked framing at all: ends the reply, and take_apart says what came


def take_apart(exchange: Exchange) -> Reply | None:
    """Status, headers and de-chunked body of an exchange; None when not even a head had come.

    A byte of the body keeps the time of the read that brought it.
    """
    joined = exchange.data
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
