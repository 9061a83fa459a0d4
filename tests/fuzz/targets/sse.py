"""Server-sent events: any split of the same bytes gives the same events, and text never comes out of nowhere."""

from __future__ import annotations

import itertools
from functools import cache

from collector.load.sse import split_events
from tests.fuzz.targets import stream

__all__ = ["one", "seeds"]


@cache
def seeds() -> list[bytes]:
    """Bodies of real streams, chunked framing and all: to this parser that is only more lines."""
    return [bytes(4) + s.partition(b"\r\n\r\n")[2] for s in stream.seeds()]


def one(data: bytes) -> None:
    """Split `data` at places that its first four bytes name. Must raise nothing."""
    cuts, body = data[:4], data[4:]
    edges = sorted({0, len(body), *(c * len(body) // 255 for c in cuts)})
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    whole = [e.data for e in split_events([(0.0, body)])]
    split = split_events([(float(i), p) for i, p in enumerate(pieces)])
    assert [e.data for e in split] == whole, "another split gives other events"
    assert sum(map(len, whole)) <= len(body)
    assert [e.at_s for e in split] == sorted(e.at_s for e in split)
