"""Replies of real servers turned into rows, and a scripted clock."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.load import stream
from collector.load.framing import Exchange
from collector.load.stream import read_exchange

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def chunk(content: str | None = None, **more: Any) -> bytes:
    choice: dict[str, Any] = {
        "index": 0,
        "delta": {} if content is None else {"content": content},
        "finish_reason": None,
    }
    choice.update(more.pop("choice", {}))
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def usage(prompt: int, completion: int) -> bytes:
    data = {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def exchange(*reads: tuple[float, bytes], sent: float = 0.0, **more: Any) -> Exchange:
    return Exchange(sent, [(0.0, HEAD), *reads], **more)


def test_times_are_from_the_send_to_content_not_to_the_first_chunk() -> None:
    role = chunk(choice={"delta": {"role": "assistant", "content": ""}})
    out = read_exchange(
        exchange(
            (10.2, role),
            (10.5, chunk("a")),
            (10.6, chunk("b")),
            (10.8, chunk("c")),
            (10.9, usage(7, 3) + DONE),
            sent=10.0,
        )
    )
    assert out.status == "ok"
    assert out.first_chunk_ms == pytest.approx(200)
    assert out.ttft_ms == pytest.approx(500)
    assert out.e2e_ms == pytest.approx(800)
    assert out.tpot_ms == pytest.approx(150)
    assert (out.input_tokens, out.output_tokens, out.text) == (7, 3, "abc")


@given(st.lists(st.floats(0.0005, 2.0), min_size=2, max_size=60))
def test_scripted_clock_e2e_minus_ttft_is_the_sum_of_the_gaps(steps: list[float]) -> None:
    now, reads = 5.0, []
    for step in steps:
        now += step
        reads.append((now, chunk("x")))
    out = read_exchange(exchange(*reads, (now, usage(1, len(steps)) + DONE), sent=5.0))
    assert out.e2e_ms is not None
    assert out.ttft_ms is not None
    assert out.tpot_ms is not None
    assert sum(out.gaps_ms) == pytest.approx(out.e2e_ms - out.ttft_ms, abs=1e-6)
    assert out.tpot_ms * (len(steps) - 1) == pytest.approx(out.e2e_ms - out.ttft_ms)
    assert out.ttft_ms == pytest.approx(steps[0] * 1000)


def test_a_chunk_of_several_tokens_counts_by_usage_not_by_chunks() -> None:
    out = read_exchange(exchange((1.0, chunk("one two three")), (2.0, chunk("four")), (2.0, usage(1, 4) + DONE)))
    assert (out.output_tokens, len(out.content_ms)) == (4, 2)
    assert out.tpot_ms == pytest.approx(1000 / 3)


def test_reasoning_is_content() -> None:
    for key in ("reasoning_content", "reasoning"):
        out = read_exchange(
            exchange((1.0, chunk(choice={"delta": {key: "hm"}})), (2.0, chunk("a")), (2.0, usage(1, 2) + DONE))
        )
        assert out.ttft_ms == pytest.approx(1000)
        assert out.text == "hma"


def test_usage_in_a_chunk_that_also_has_choices() -> None:
    last = chunk("b", choice={"finish_reason": "length"}, usage={"prompt_tokens": 3, "completion_tokens": 2})
    out = read_exchange(exchange((1.0, chunk("a")), (1.5, last)))  # and no [DONE]: transformers serve
    assert (out.status, out.finish_reason, out.output_tokens) == ("ok", "length", 2)


def test_completions_put_text_into_the_choice() -> None:
    choice = b'{"index": 0, "text": "hi", "finish_reason": "length"}'
    choice = b'{"index": 0, "text": "hi", "finish_reason": "length"}'
    body = b'data: {"choices": [' + choice + b'], "usage": {"completion_tokens": 1}}\n\n'
    assert read_exchange(exchange((1.0, body))).text == "hi"


@pytest.mark.parametrize(
    ("reads", "status", "says"),
    [
        ([(1.0, DONE)], "error", "no text"),
        ([(1.0, chunk("a"))], "error", "broke off"),
        ([(1.0, chunk("a") + DONE)], "error", "no token usage"),
        ([(1.0, b"data: {oops\n\n" + DONE)], "error", "not JSON"),
        ([(1.0, b'data: {"error": {"message": "boom"}}\n\n')], "error", "boom"),
        ([(1.0, b"data: 7\n\n")], "error", "not a JSON object"),
    ],
)
def test_what_is_no_good_reply_is_an_error(reads: list[tuple[float, bytes]], status: str, says: str) -> None:
    out = read_exchange(exchange(*reads))
    assert out.status == status
    assert says in (out.error or "")


def test_http_errors_keep_the_servers_words() -> None:
    body = b'HTTP/1.1 404 Not Found\r\ncontent-length: 41\r\n\r\n{"error": {"message": "no model named x"}}'
    assert read_exchange(Exchange(0.0, [(1.0, body)])).error == "HTTP 404: no model named x"


def test_timeout_and_cut_are_told_apart_and_keep_what_came() -> None:
    late = read_exchange(exchange((1.0, chunk("a")), timed_out=True))
    assert late.status == "timeout"
    assert late.ttft_ms == pytest.approx(1000)
    assert read_exchange(exchange((1.0, chunk("a")), cut=True)).status == "cut"
    assert read_exchange(Exchange(0.0, error="cannot connect: refused")).error == "cannot connect: refused"


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert read_exchange(exchange((1.0, data))).status in ("ok", "error")
    assert read_exchange(Exchange(0.0, [(0.5, data)])).status in ("ok", "error")


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
EVENTS = st.one_of(
    TEXTS.map(lambda t: chunk(t)),
    TEXTS.map(lambda t: chunk(t, id="c-1", created=17)),
    TEXTS.map(lambda t: chunk(choice={"delta": {"reasoning_content": t}})),
    TEXTS.map(lambda t: chunk(t, usage={"prompt_tokens": 3, "completion_tokens": 2})),
    TEXTS.map(lambda t: chunk(t, choice={"finish_reason": "stop"})),
    st.sampled_from(
        [
            usage(5, 7), DONE, b": comment\n\n", b"event: x\ndata: {}\n\n", b'data: {"choices":[]}\r\n\r\n',
            b"data: nonsense\n\n", b'data: {"error": {"message": "no"}}\n\n', b"data: 5\n\n", b"data:{}\n\n",
            b'data: {"choices":[{"delta":{"content":"a"}}]},{"choices":[]}\n\n', b"\n\n",
        ]
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@example(events=[chunk(""), b"\n\n"], joins=[], cuts=[], tail=DONE)
@given(
    events=st.lists(EVENTS, max_size=12), joins=st.lists(st.integers(1, 3), max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=8), tail=st.sampled_from([DONE, b"", usage(1, 2) + DONE]),
)  # fmt: skip
def test_the_quick_way_of_reading_gives_what_the_careful_way_gives(
    events: list[bytes], joins: list[int], cuts: list[int], tail: bytes
) -> None:
    """Whatever the events, however they share HTTP chunks and network reads."""
    payloads: list[bytes] = []
    rest = [*events, tail]
    for n in [*joins, 99]:
        payloads, rest = [*payloads, b"".join(rest[:n])], rest[n:]
    raw = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in payloads if p) + b"0\r\n\r\n"
    edges = [0, *sorted(c % (len(raw) + 1) for c in cuts), len(raw)]
    reads = [(1.0 + i, raw[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges)) if a < b]
    quick = read_exchange(Exchange(0.5, reads))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_usual", lambda _: None)
        patch.setattr(stream._Reader, "text", lambda _self, _data: "")
        careful = read_exchange(Exchange(0.5, reads))
    assert quick == careful


def test_a_reply_of_the_usual_shape_does_go_the_quick_way() -> None:
    payloads = [chunk("a"), chunk("b") + chunk("c"), usage(1, 3), DONE]
    raw = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in payloads) + b"0\r\n\r\n"
    found = stream._usual(Exchange(0.0, [(1.0, raw)]))
    assert found is not None
    assert len(found) == 5


def test_a_text_that_stands_elsewhere_in_its_chunk_teaches_no_shape() -> None:
    """The text `a`, written as an escape, beside an id `a`: what changes from chunk to chunk is not the id."""

    def escaped(name: str) -> bytes:
        return b'data: {"id":"%b","choices":[{"delta":{"content":"\\u0061"}}]}\n\n' % name.encode()

    payloads = [escaped("a"), escaped("b"), usage(1, 2), DONE]
    raw = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in payloads) + b"0\r\n\r\n"
    assert read_exchange(Exchange(0.0, [(1.0, raw)])).text == "aa"


def test_cached_tokens_are_read_from_usage() -> None:
    details = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    out = read_exchange(exchange((1.0, chunk("a", usage=details) + DONE)))
    assert out.cached_tokens == 8
