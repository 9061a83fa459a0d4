"""Server-sent events out of timed reads. Any split of the same bytes gives the same events.

An event is complete when its blank line has arrived, so its time is that of the read that brought the last byte of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

__all__ = ["Event", "split_events"]


class Event(Struct, frozen=True, gc=False):
    """The `data` of one event and when it was complete (seconds on the monotonic clock)."""

    at_s: float
    data: bytes


def split_events(reads: Iterable[tuple[float, bytes]]) -> list[Event]:
    """Events of a body, given as (time, bytes) reads in order.

    Line ends may be LF, CRLF or CR; several `data:` lines of one event are joined by LF; comments and other fields are
    passed over. What follows the last blank line counts as an event too when it holds data: some servers end their
    stream without one.
    """
    events: list[Event] = []
    data: list[bytes] = []
    line = b""
    skip_lf = False  # the last read ended in CR: an LF at the start of the next belongs to it
    now = 0.0
    for now, piece in reads:
        # Nearly every read is one whole event of one line: take it without splitting.
        alone = not line and not data and piece.find(b"\n") == len(piece) - 2
        if alone and piece.startswith(b"data: ") and piece.endswith(b"\n\n") and b"\r" not in piece:
            events.append(Event(now, piece[6:-2]))
            skip_lf = False
            continue
        if skip_lf and piece.startswith(b"\n"):
            piece = piece[1:]
            skip_lf = False
        if not piece:
            continue
        skip_lf = piece.endswith(b"\r")
        lines = (line + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        line = lines.pop()
        for whole in lines:
            if whole:
                _take(whole, data)
            elif data:
                events.append(Event(now, b"\n".join(data)))
                data = []
    if line:
        _take(line, data)
    if data:
        events.append(Event(now, b"\n".join(data)))
    return events


def _take(line: bytes, data: list[bytes]) -> None:
    if line.startswith(b"data:"):
        value = line[5:]
        data.append(value[1:] if value.startswith(b" ") else value)
    elif line == b"data":
        data.append(b"")
