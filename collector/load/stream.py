"""A streamed reply of an OpenAI-compatible server turned into one request row.

Chunks are not tokens: an empty or role-only chunk is no content, one chunk may hold several tokens, and tokens are
counted by the server's own usage. Parsing happens after the cell, never while other streams are timed.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from collector.load.sse import split_events
from collector.load.wire import Exchange, take_apart

__all__ = ["Outcome", "read_exchange"]

_MAX_ERROR_CHARS = 300


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


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice]
    usage: msgspec.Raw | None = None
    error: msgspec.Raw | None = None


_decoder = msgspec.json.Decoder(_Chunk)


def _plain_content(data: bytes) -> str:
    """The text of a chunk that holds text and nothing else; empty for any other, which is then read with all care.

    Nearly every chunk is such a one, and decoding to typed fields costs half of what a dictionary does.
    """
    try:
        chunk = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if chunk.usage is not None or chunk.error is not None or len(chunk.choices) != 1:
        return ""
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.finish_reason is not None or (delta is not None and (delta.reasoning_content or delta.reasoning)):
        return ""
    return (delta.content if delta is not None else choice.text) or ""


def read_exchange(exchange: Exchange) -> Outcome:
    """Take an exchange apart. Never raises: what is wrong with it stands in `status` and `error`."""
    reply = take_apart(exchange)
    if reply is None:
        out = Outcome(status="error", error=exchange.error or "no reply")
        return _ended_early(out, exchange)
    if reply.status != 200:
        body = b"".join(data for _, data in reply.body)
        out = Outcome(status="error", error=f"HTTP {reply.status}: {_message(body)}")
        return _ended_early(out, exchange)
    out = Outcome(status="ok")
    pieces: list[str] = []
    done = False
    for event in split_events(reply.body):
        at_ms = (event.at_s - exchange.sent_s) * 1000
        if out.first_chunk_ms is None:
            out.first_chunk_ms = at_ms
        if event.data.strip() == b"[DONE]":
            done = True
            continue
        text = _plain_content(event.data)
        if text:
            pieces.append(text)
            out.content_ms.append(at_ms)
            continue
        try:
            chunk = msgspec.json.decode(event.data)
        except msgspec.DecodeError:
            out.status, out.error = "error", "a chunk is not JSON"
            continue
        if not isinstance(chunk, dict):
            out.status, out.error = "error", "a chunk is not a JSON object"
            continue
        if chunk.get("error"):
            out.status, out.error = "error", f"in the stream: {_message(event.data)}"
            continue
        _usage(chunk, out)
        text = _content(chunk, out)
        if text:
            pieces.append(text)
            out.content_ms.append(at_ms)
    out.text = "".join(pieces)
    if out.content_ms:
        out.ttft_ms, out.e2e_ms = out.content_ms[0], out.content_ms[-1]
    if out.status == "ok":
        _judge(out, done, exchange)
    return _ended_early(out, exchange)


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
        if isinstance(usage.get("prompt_tokens"), int):
            out.input_tokens = usage["prompt_tokens"]
        if isinstance(usage.get("completion_tokens"), int):
            out.output_tokens = usage["completion_tokens"]


def _content(chunk: dict[str, Any], out: Outcome) -> str:
    """The text of a chunk, reasoning included; notes the finish reason."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return ""
    choice = choices[0]
    if isinstance(choice.get("finish_reason"), str):
        out.finish_reason = choice["finish_reason"]
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = choice
    parts = [delta.get(key) for key in ("reasoning_content", "reasoning", "content", "text")]
    return "".join(p for p in parts if isinstance(p, str))


def _message(body: bytes) -> str:
    """The error message inside a JSON body, else the body's first characters."""
    try:
        data = msgspec.json.decode(body)
    except msgspec.DecodeError:
        data = None
    found: Any = data
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    text = found if isinstance(found, str) else body.decode("utf-8", "replace")
    return " ".join(text.split())[:_MAX_ERROR_CHARS]
