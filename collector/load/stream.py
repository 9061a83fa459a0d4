"""A streamed reply of an OpenAI-compatible server turned into one request row.

Chunks are not tokens: an empty or role-only chunk is no content, one chunk may hold several tokens, and tokens are
counted by the server's own usage. Parsing happens after the cell, never while other streams are timed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct, field

from collector.load.framing import Exchange, take_apart
from collector.load.sse import split_events

__all__ = ["Outcome", "read_exchange"]

_MAX_ERROR_CHARS = 300
_MAX_WORD_CHARS = 40  # of a finish reason: real ones have one or two words
_MOST_TOKENS = 1 << 31  # more than that no server has counted in one reply
# All that the decoder raises for bytes of a server: no JSON, no UTF-8 inside a string, nested without an end.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Outcome(Struct, kw_only=True):
    """What one exchange held. Times are milliseconds from the send; None where it did not come to that."""

    status: str  # ok, error, timeout, cut
    error: str | None = None
    ttft_ms: float | None = None
    first_chunk_ms: float | None = None
    e2e_ms: float | None = None
    content_ms: list[float] = field(default_factory=list)  # arrival of each content chunk
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    text: str = ""

    @property
    def tpot_ms(self) -> float | None:
        """(last content - first content) / (output_tokens - 1)."""
        if self.ttft_ms is None or self.e2e_ms is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.e2e_ms - self.ttft_ms) / (self.output_tokens - 1)

    @property
    def gaps_ms(self) -> list[float]:
        """Times between content chunks."""
        return [b - a for a, b in zip(self.content_ms, self.content_ms[1:], strict=False)]


# The shape in which nearly every server streams: a head, then one `data:` line an event and whole events in a chunk.
_HEAD = re.compile(rb"HTTP/1\.1 200 [^\r\n]*\r\n(?:[^\r\n]+\r\n)+\r\n(?=[0-9a-fA-F]+\r\ndata: )")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_LEAD = re.compile(rb"\r\n([0-9a-fA-F]{1,16})\r\n")


def _usual(exchange: Exchange) -> list[tuple[float, bytes]] | None:
    """(time, data) of the events of a reply of the usual shape in one pass; None for any other.

    A chunk that ends inside an event, an event of several lines, CRLF line ends: none of these fit, and the reply
    goes the careful way.
    """
    data = exchange.data
    head = _HEAD.match(data)
    if head is None or not _CHUNKED.search(data, 0, head.end()) or not data.endswith(b"\n\n\r\n0\r\n\r\n"):
        return None
    read, ends, times = 0, exchange.ends, exchange.times
    complete = head.end() - 2  # the end of the head's last line is as the end of a chunk
    sizes: dict[bytes, int] = {}  # what may stand before an event beside nothing: the size line of a chunk
    stated = held = 0  # bytes of events: as the chunks say, and as they came
    events = []
    for part in data[complete:-7].split(b"\n\n")[:-1]:
        complete += len(part) + 2
        at = part.find(b"data: ")
        if at < 0:  # blank lines, comments
            return None
        if at:
            lead = part[:at]
            if lead not in sizes:
                if not (size := _LEAD.fullmatch(lead)):
                    return None
                sizes[lead] = int(size[1], 16)
            if stated != held:
                return None
            stated += sizes[lead]
        held += len(part) + 2 - at
        payload = part[at + 6 :]
        if b"\n" in payload or b"\r" in payload:
            return None
        while ends[read] < complete:
            read += 1
        events.append((times[read], payload))
    return events if stated == held else None


class _Reader:
    """The text of plain content chunks: such as hold text and nothing else.

    From one chunk to the next of a stream only the text differs. So once a chunk has been decoded, one with the same
    bytes before and after its text needs no JSON decoder: text without a quote or a backslash stands for itself.
    """

    def __init__(self) -> None:
        self._before = b""
        self._after = b""

    def text(self, data: bytes) -> str:
        """The text of a chunk of the shape that is known; empty for any other, which is then read with all care."""
        if self._before and data.startswith(self._before) and data.endswith(self._after):
            middle = data[len(self._before) : len(data) - len(self._after)]
            if middle and b"\\" not in middle and b'"' not in middle:
                try:
                    text = middle.decode()
                except UnicodeDecodeError:
                    return ""
                if text.isprintable():  # a control character is no JSON
                    return text
        return ""

    def learn(self, data: bytes, chunk: dict[str, Any], text: str) -> None:
        """Remember what stands around the text of a plain chunk, when it stands there just once and as it is."""
        if b"\\" in data or not _plain(chunk):  # without one every text stands there as it is
            return
        quoted = b'"%b"' % text.encode()
        if quoted.count(b'"') == 2 and data.count(quoted) == 1:
            before, _, after = data.partition(quoted)
            self._before, self._after = before + b'"', b'"' + after


def _plain(chunk: dict[str, Any]) -> bool:
    """Whether a chunk that holds text has it from one choice, in one piece, and nothing that counts beside it."""
    choices = chunk["choices"]
    if chunk.get("usage") is not None or len(choices) != 1 or choices[0].get("finish_reason") is not None:
        return False
    return sum(map(bool, _parts(_delta(choices[0])))) == 1


def read_exchange(exchange: Exchange) -> Outcome:
    """Take an exchange apart. Never raises: what is wrong with it stands in `status` and `error`."""
    events = None if exchange.error or exchange.timed_out or exchange.cut else _usual(exchange)
    if events is None:
        reply = take_apart(exchange)
        if reply is None:
            out = Outcome(status="error", error=exchange.error or "no reply")
            return _ended_early(out, exchange)
        if reply.status != 200:
            body = b"".join(data for _, data in reply.body)
            out = Outcome(status="error", error=f"HTTP {reply.status}: {_message(body)}{_wait(reply.headers)}")
            return _ended_early(out, exchange)
        events = [(e.at_s, e.data) for e in split_events(reply.body)]
    return _ended_early(_read_events(exchange, events), exchange)


def _read_events(exchange: Exchange, events: list[tuple[float, bytes]]) -> Outcome:
    out = Outcome(status="ok")
    pieces: list[str] = []
    done = refused = False
    reader = _Reader()
    plain = reader.text
    sent_s = exchange.sent_s
    for at_s, data in events:
        text = plain(data)
        at_ms = (at_s - sent_s) * 1000
        if out.first_chunk_ms is None:
            out.first_chunk_ms = at_ms
        if text:
            pieces.append(text)
            out.content_ms.append(at_ms)
            continue
        if data.strip() == b"[DONE]":
            done = True
            continue
        try:
            chunk = msgspec.json.decode(data)
        except UnicodeDecodeError:
            out.status, out.error = "error", "a chunk is not UTF-8"
            continue
        except _NO_JSON:
            out.status, out.error = "error", "a chunk is not JSON"
            continue
        if not isinstance(chunk, dict):
            out.status, out.error = "error", "a chunk is not a JSON object"
            continue
        if chunk.get("error"):
            refused = True
            out.status, out.error = "error", f"in the stream: {_message(data)}"
            continue
        if chunk.get("usage") is not None:
            _usage(chunk, out)
        text = _content(chunk, out)
        if text:
            pieces.append(text)
            out.content_ms.append(at_ms)
            reader.learn(data, chunk, text)
    out.text = "".join(pieces)
    if out.content_ms:
        out.ttft_ms, out.e2e_ms = out.content_ms[0], out.content_ms[-1]
    if out.status == "ok":
        _judge(out, done, exchange)
    elif exchange.error and not refused:  # half a chunk is no JSON because the connection was closed in it
        out.error = exchange.error
    return out


def _judge(out: Outcome, done: bool, exchange: Exchange) -> None:
    """A reply that looks well may still be none: say so rather than average it in."""
    if exchange.error:
        out.status, out.error = "error", exchange.error
    elif not out.content_ms:
        out.status, out.error = "error", "the reply held no text"
    elif not done and out.finish_reason is None:
        out.status, out.error = "error", "the stream broke off"
    elif out.output_tokens is None:
        out.status, out.error = "error", "the server stated no token usage; tokens cannot be counted"


def _ended_early(out: Outcome, exchange: Exchange) -> Outcome:
    if exchange.cut:
        out.status, out.error = "cut", "stopped by us"
    elif exchange.timed_out:
        out.status, out.error = "timeout", "no end within the time limit"
    return out


def _usage(chunk: dict[str, Any], out: Outcome) -> None:
    """Usage may come in a chunk of its own, beside the last choice, or in every chunk: the last one stands."""
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        if (count := _count(usage.get("prompt_tokens"))) is not None:
            out.input_tokens = count
        if (count := _count(usage.get("completion_tokens"))) is not None:
            out.output_tokens = count
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and (count := _count(details.get("cached_tokens"))) is not None:
            out.cached_tokens = count


def _count(value: object) -> int | None:
    """A number of tokens; None for what is none: text, a negative number, `true`."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _content(chunk: dict[str, Any], out: Outcome) -> str:
    """The text of a chunk, reasoning included; notes the finish reason."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return ""
    choice = choices[0]
    if isinstance(choice.get("finish_reason"), str):
        out.finish_reason = " ".join(choice["finish_reason"].split())[:_MAX_WORD_CHARS]
    delta = _delta(choice)
    if len(delta) == 1 and type(text := delta.get("content")) is str:  # what most servers send, and most often
        return text
    return "".join(_parts(delta))


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else choice


def _parts(delta: dict[str, Any]) -> list[str]:
    parts = [delta.get(key) for key in ("reasoning_content", "reasoning", "content", "text")]
    return [p for p in parts if isinstance(p, str)]


def _message(body: bytes) -> str:
    """The error message inside a JSON body, else the body's first characters."""
    try:
        data = msgspec.json.decode(body)
    except _NO_JSON:
        data = None
    found: Any = data
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    text = found if isinstance(found, str) else body.decode("utf-8", "replace")
    return " ".join(text.split())[:_MAX_ERROR_CHARS]


def _wait(headers: dict[str, str]) -> str:
    """What a refusal says of when to come back (RFC 9110, 10.2.3). It is told, and not followed: a repeat is timed."""
    after = headers.get("retry-after", "")
    return f" (Retry-After: {after[:_MAX_WORD_CHARS]})" if after else ""
