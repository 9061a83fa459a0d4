"""One question to an OpenAI-compatible server, whole and unstreamed: nothing is timed here, so nothing is clever.

Whatever goes wrong becomes a `Reply` with a status; only a server that is gone altogether is told to the caller by
`Reply.status == "error"` for every question, which the judge notices.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from collector.bundle.answers import AnswerStatus

__all__ = ["Asker", "Reply", "gather_in_order"]

_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_MOST_BYTES = 64 << 20
_TOP = 5
_STOP = ["\n\n", "\nuser:"]  # a base model goes on after its answer; a chat model ends its turn
_ERROR_CHARS = 200


class Reply(Struct, kw_only=True):
    """What came back. `body` is the decoded JSON object where the server sent one with HTTP 200."""

    status: AnswerStatus
    error: str | None = None
    http_status: int | None = None
    body: dict[str, Any] = {}
    text: str = ""
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens: list[str] | None = None
    top: list[list[str]] | None = None


class Asker:
    """Asks one server. Use as an async context manager.

    Args:
        base_url: scheme, host, port; no `/v1`.
        model: the name that requests carry.
        extra_body: keys that this engine needs in every request.
        api_key: sent as a bearer token, never stored.
    """

    def __init__(
        self, base_url: str, model: str, *, extra_body: dict[str, Any] | None = None, api_key: str | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self._extra = extra_body or {}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._gives_tokens = True

    async def __aenter__(self) -> Asker:
        # A connection for each question: llama.cpp's server gives every kept connection a thread of its few, so that
        # idle ones hold up the next question for seconds, and it closes them when it likes.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(headers=self._headers, connector=connector, read_bufsize=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def answer(
        self,
        api: str,
        prompt: str | list[dict[str, Any]],
        output_tokens: int,
        *,
        timeout_s: float,
        tokens: bool = False,
        more: dict[str, Any] | None = None,
    ) -> Reply:
        """The greedy answer to one prompt. With `tokens` it comes token by token, too, from servers that can.

        `more` are further keys of the request; they are sent as they are, and whether they were honoured is not told.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": output_tokens,
            "temperature": 0,
            "seed": 1,
        } | self._extra
        if api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        else:
            body |= {"prompt": prompt, "stop": _STOP}
        body |= more or {}
        wants = tokens and self._gives_tokens and api == "chat"
        if wants:
            body |= {"logprobs": True, "top_logprobs": _TOP}
        reply = await self.post(_PATHS[api], body, timeout_s=timeout_s)
        if wants and reply.http_status in (400, 404, 422, 501):  # not every server knows logprobs: ask once without
            again = await self.answer(api, prompt, output_tokens, timeout_s=timeout_s, more=more)
            if again.http_status == 200:  # refused without them, too, it was not for logprobs
                self._gives_tokens = False
            return again
        return _read_answer(reply)

    async def post(self, path: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        """POST a JSON object, take a JSON object."""
        try:
            async with self._session.post(
                self.base_url + path,
                data=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                code = response.status
                raw = bytearray()
                async for part in response.content.iter_any():
                    raw += part
                    if len(raw) > _MOST_BYTES:  # leaving closes the connection: the rest is never read
                        return Reply(status="error", http_status=code, error="the reply is larger than 64 MiB")
        except TimeoutError:
            return Reply(status="timeout", error=f"no answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as e:
            return Reply(status="error", error=_short(f"{type(e).__name__}: {e}"))
        if code != 200:
            return Reply(status="error", http_status=code, error=f"HTTP {code}: {_message(raw)}")
        try:
            decoded = _decoded(raw)
        except (ValueError, RecursionError):
            return Reply(status="error", http_status=code, error=f"the reply is no JSON: {_message(raw)}")
        if not isinstance(decoded, dict):
            return Reply(status="error", http_status=code, error="the reply is no JSON object")
        return Reply(status="ok", http_status=code, body=decoded)


async def gather_in_order(limit: int, calls: list[Callable[[], Awaitable[None]]]) -> None:
    """Run the coroutine functions `calls`, at most `limit` at a time, started in order."""
    queue = iter(calls)

    async def worker() -> None:
        for call in queue:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(calls))):
            group.create_task(worker())


def _read_answer(reply: Reply) -> Reply:
    """Take the first choice apart; anything unexpected is an error with its reason."""
    if reply.status != "ok":
        return reply
    try:
        choice = reply.body["choices"][0]
        message = choice.get("message")
        text = message["content"] if message is not None else choice["text"]
        refusal = message.get("refusal") if message is not None else None
    except (KeyError, IndexError, TypeError, AttributeError):
        return Reply(status="error", http_status=200, error="the reply holds no choice with text")
    usage = reply.body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    reply.finish_reason = choice.get("finish_reason") if isinstance(choice.get("finish_reason"), str) else None
    reply.input_tokens = _count(usage.get("prompt_tokens"))
    reply.output_tokens = _count(usage.get("completion_tokens"))
    if refusal or reply.finish_reason == "content_filter":
        reply.status, reply.error = "refused", _short(str(refusal or "content filter"))
        return reply
    if text is not None and not isinstance(text, str):
        return Reply(status="error", http_status=200, error="the answer is no text")
    reply.text = (text or "").encode("utf-8", "replace").decode("utf-8")
    reply.tokens, reply.top = _tokens(choice)
    return reply


def _tokens(choice: dict[str, Any]) -> tuple[list[str] | None, list[list[str]] | None]:
    try:
        content = choice["logprobs"]["content"]
        tokens = [str(c["token"]) for c in content]
        top = [[str(t["token"]) for t in c["top_logprobs"][:_TOP]] for c in content]
    except (KeyError, TypeError):
        return None, None
    return tokens or None, top or None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _decoded(raw: bytes | bytearray) -> Any:
    """JSON whose texts can be written down again: half a surrogate pair, from a server that cuts an emoji, is a "?".

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        text = json.dumps(json.loads(raw), ensure_ascii=False)
        return msgspec.json.decode(text.encode("utf-8", "replace"))


def _message(raw: bytes | bytearray) -> str:
    """The server's own words for an error, short."""
    text = raw[:4000].decode("utf-8", "replace")
    try:
        decoded = _decoded(raw)
        inner = decoded.get("error", decoded) if isinstance(decoded, dict) else decoded
        text = str(inner.get("message", inner)) if isinstance(inner, dict) else str(inner)
    except (ValueError, RecursionError):
        pass  # not JSON: the text itself is the message
    return _short(text)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_CHARS else f"{line[: _ERROR_CHARS - 3]}..."
