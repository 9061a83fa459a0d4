"""A server's reply, in any bytes and cut anywhere: read_exchange gives an outcome, and Framing comes to an end."""

from __future__ import annotations

import itertools
import random
from functools import cache
from pathlib import Path

from collector.load import stream
from collector.load.framing import Exchange, Framing
from collector.load.stream import Outcome, read_exchange
from tests.fuzz.damage import bits

__all__ = ["damaged", "one", "seeds"]

CORPUS = Path(__file__).parents[1] / "corpus" / "stream"
_STATES = {"ok", "error", "timeout", "cut"}
_FEED = 16  # reads; the framing is fed one by one


@cache
def seeds() -> list[bytes]:
    """Replies of real servers."""
    return [p.read_bytes() for p in sorted(CORPUS.iterdir())]


def damaged(rng: random.Random) -> bytes:
    """Bytes for `one`: eight that say where the reply is cut, then a damaged reply."""
    return rng.randbytes(8) + bits(rng.choice(seeds()), rng, 6)


def one(data: bytes) -> str:
    """Read `data` as a reply whose first eight bytes say where it is cut. Returns the status.

    Raises:
        AssertionError: two ways of cutting or reading differ, or an outcome is none.
    """
    cuts, reply = data[:8], data[8:]
    edges = sorted({0, len(reply), *(c * len(reply) // 255 for c in cuts[1:])})
    reads = [(1.0 + i, reply[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    out = read_exchange(Exchange(0.5, reads))
    _plausible(out)
    usual, text = stream._usual, stream._Reader.text
    try:  # the quick way of reading must give what the careful way gives
        stream._usual = lambda _: None  # type: ignore[assignment]
        stream._Reader.text = lambda self, data: ""  # type: ignore[method-assign]
        assert read_exchange(Exchange(0.5, reads)) == out, "the quick way and the careful way differ"
    finally:
        stream._usual, stream._Reader.text = usual, text  # type: ignore[method-assign]
    at_once = read_exchange(Exchange(0.5, [(1.0, reply)]))
    assert (at_once.status, at_once.text, at_once.output_tokens) == (out.status, out.text, out.output_tokens)
    framing = Framing()
    for _, piece in reads[:_FEED]:
        framing.ended(piece)
    return out.status


def _plausible(out: Outcome) -> None:
    assert out.status in _STATES
    assert (out.error is None) == (out.status == "ok")
    for word in (out.error, out.finish_reason):
        assert word is None or (len(word) < 400 and len(word.splitlines()) <= 1), repr(word)
    assert out.content_ms == sorted(out.content_ms)
    for count in (out.input_tokens, out.output_tokens, out.cached_tokens):
        assert count is None or 0 <= count <= 1 << 31
    out.text.encode()  # it goes into a file
