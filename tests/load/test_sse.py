"""Any split of any bytes gives the same events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from collector.load.sse import Event, split_events

BODIES = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"data", b": comment", b"event: x", b"{}", b"\xc3\xa4", b"\n", b"\r", b"\r\n", b" "]
    ),
    max_size=40,
).map(b"".join)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(body) + 1) for p in places), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


def data_of(reads: list[bytes]) -> list[bytes]:
    return [e.data for e in split_events((float(i), r) for i, r in enumerate(reads))]


@given(BODIES, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_gives_the_same_events(body: bytes, places: list[int]) -> None:
    assert data_of(cut(body, places)) == data_of([body])


@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=12))
def test_any_bytes_at_all(body: bytes, places: list[int]) -> None:
    assert data_of(cut(body, places)) == data_of([body])


def test_an_event_has_the_time_of_the_read_that_completed_it() -> None:
    reads = [(1.0, b"data: a\n"), (2.0, b"\ndata: b"), (3.0, b"\n\n")]
    assert split_events(reads) == [Event(2.0, b"a"), Event(3.0, b"b")]


def test_line_ends_comments_and_joined_data() -> None:
    assert data_of([b": hi\r\ndata: a\r\ndata: b\r\n\r\nevent: x\n\ndata:c\r\r"]) == [b"a\nb", b"c"]


def test_a_stream_without_a_last_blank_line_still_gives_its_last_event() -> None:
    assert data_of([b"data: a\n\ndata: b"]) == [b"a", b"b"]
