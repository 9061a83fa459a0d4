"""One question over a real socket: whatever the server does becomes a reply with a status and a reason."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from collector.engines.process import free_port
from collector.quality.ask import Asker, Reply, gather_in_order

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2},
}


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def says(body: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=status, content_type="application/json")

    return handler


async def asked(handler: Handler, *, timeout_s: float = 5, **settings: Any) -> Reply:
    async with server(handler) as url, Asker(url, "m", **settings) as asker:
        return await asker.answer("chat", "Which city?", 8, timeout_s=timeout_s)


def choice(**changed: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"} | changed]}


async def test_a_good_answer() -> None:
    reply = await asked(says(GOOD))
    assert (reply.status, reply.error, reply.http_status) == ("ok", None, 200)
    assert (reply.text, reply.finish_reason, reply.input_tokens, reply.output_tokens) == ("Paris", "stop", 7, 2)
    assert (reply.tokens, reply.top) == (None, None)


async def test_what_is_sent() -> None:
    seen: list[tuple[str, str | None, dict[str, Any]]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("Authorization"), await request.json()))
        return web.json_response(GOOD if "chat" in request.path else {"choices": [{"text": " Paris"}]})

    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": 9}
    async with server(handler) as url:
        async with Asker(url + "/", "m", api_key="sk-1", extra_body=extra) as asker:
            await asker.answer("chat", "Hi", 8, timeout_s=5)
        async with Asker(url, "m") as asker:
            await asker.answer("chat", turns, 8, timeout_s=5)
            assert (await asker.answer("completions", "Hi", 8, timeout_s=5)).text == " Paris"
    base = {"model": "m", "max_tokens": 8, "temperature": 0, "seed": 1}
    assert seen == [
        ("/v1/chat/completions", "Bearer sk-1", base | extra | {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/chat/completions", None, base | {"messages": turns}),
        ("/v1/completions", None, base | {"prompt": "Hi", "stop": ["\n\n", "\nuser:"]}),
    ]


async def test_the_answer_comes_token_by_token_from_a_server_that_can() -> None:
    seen: list[dict[str, Any]] = []
    content = [{"token": t, "top_logprobs": [{"token": f"{t}{n}"} for n in range(7)]} for t in ("Par", "is")]

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return web.json_response(choice(logprobs={"content": content}))

    async with server(handler) as url, Asker(url, "m") as asker:
        reply = await asker.answer("chat", "?", 8, timeout_s=5, tokens=True)
    assert (seen[0]["logprobs"], seen[0]["top_logprobs"]) == (True, 5)
    assert reply.tokens == ["Par", "is"]
    assert reply.top == [[f"{t}{n}" for n in range(5)] for t in ("Par", "is")]


@pytest.mark.parametrize(
    "logprobs", [None, {}, [], "x", {"content": None}, {"content": []}, {"content": [{"token": "a"}]}]
)
async def test_tokens_in_another_form_leave_the_answer_whole(logprobs: Any) -> None:
    reply = await asked(says(choice(logprobs=logprobs)))
    assert (reply.status, reply.text, reply.tokens, reply.top) == ("ok", "Paris", None, None)


def picky(seen: list[bool], *, refuses: Callable[[dict[str, Any]], bool]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append("logprobs" in body)
        return web.json_response({"error": "no"}, status=400) if refuses(body) else web.json_response(GOOD)

    return handler


async def test_a_server_that_knows_no_logprobs_is_asked_once_without_and_never_again_with() -> None:
    seen: list[bool] = []
    async with server(picky(seen, refuses=lambda b: "logprobs" in b)) as url, Asker(url, "m") as asker:
        replies = [await asker.answer("chat", "?", 8, timeout_s=5, tokens=True) for _ in range(3)]
    assert [r.text for r in replies] == ["Paris"] * 3
    assert seen == [True, False, False, False]


async def test_a_prompt_that_is_refused_without_logprobs_too_says_nothing_about_logprobs() -> None:
    seen: list[bool] = []
    handler = picky(seen, refuses=lambda b: b["messages"][0]["content"] == "too long")
    async with server(handler) as url, Asker(url, "m") as asker:
        refused = await asker.answer("chat", "too long", 8, timeout_s=5, tokens=True)
        await asker.answer("chat", "short", 8, timeout_s=5, tokens=True)
    assert (refused.status, refused.http_status) == ("error", 400)
    assert seen == [True, False, True]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"error": {"message": "out of\nmemory", "code": 500}}, 500, "HTTP 500: out of memory"),
        ({"error": "out of memory"}, 503, "HTTP 503: out of memory"),
        ({"message": "no such model"}, 404, "HTTP 404: no such model"),
        (b"<h1>Bad Gateway</h1>", 502, "HTTP 502: <h1>Bad Gateway</h1>"),
        (b"", 500, "HTTP 500: "),
        (b"\xff\xfe", 500, "HTTP 500: \ufffd\ufffd"),
        (b'{"error": {"message": "bad \\ud83d"}}', 500, "HTTP 500: bad ?"),
        (b"Paris", 200, "the reply is no JSON: Paris"),
        (b"", 200, "the reply is no JSON: "),
        (b'{"choices": [NaN]}', 200, 'the reply is no JSON: {"choices": [NaN]}'),
        ([GOOD], 200, "the reply is no JSON object"),
        (b"null", 200, "the reply is no JSON object"),
        ({}, 200, "the reply holds no choice with text"),
        ({"choices": []}, 200, "the reply holds no choice with text"),
        ({"choices": None}, 200, "the reply holds no choice with text"),
        ({"choices": "Paris"}, 200, "the reply holds no choice with text"),
        ({"choices": [None]}, 200, "the reply holds no choice with text"),
        ({"choices": [{"message": {}}]}, 200, "the reply holds no choice with text"),
        ({"choices": [{"message": "Paris"}]}, 200, "the reply holds no choice with text"),
        (choice(message={"content": [{"text": "Paris"}]}), 200, "the answer is no text"),
    ],
)
async def test_what_is_no_answer_is_an_error_with_its_reason(body: Any, status: int, error: str) -> None:
    reply = await asked(says(body, status))
    assert (reply.status, reply.http_status, reply.error, reply.text) == ("error", status, error, "")


@pytest.mark.parametrize("status", [200, 500])
async def test_brackets_without_end_are_an_error_and_no_crash(status: int) -> None:
    reply = await asked(says(b"[" * 100_000, status))
    assert reply.status == "error"
    assert reply.error is not None
    assert reply.error.endswith("[[...")


async def test_a_long_message_is_cut() -> None:
    reply = await asked(says({"error": {"message": "x " * 5000}}, 500))
    assert len(reply.error or "") < 220


async def test_content_null_is_an_empty_answer() -> None:
    reply = await asked(says(choice(message={"content": None, "refusal": None}, finish_reason="length")))
    assert (reply.status, reply.text, reply.finish_reason) == ("ok", "", "length")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"message": {"content": None, "refusal": "I cannot help."}}, "I cannot help."),
        ({"message": {"content": "x"}, "finish_reason": "content_filter"}, "content filter"),
    ],
)
async def test_a_refusal_is_told_as_one(changed: dict[str, Any], error: str) -> None:
    reply = await asked(says(choice(**changed)))
    assert (reply.status, reply.error) == ("refused", error)


async def test_usage_that_is_none_is_left_out() -> None:
    for usage in (None, "x", [1], {"prompt_tokens": "7", "completion_tokens": True}):
        reply = await asked(says(GOOD | {"usage": usage}))
        assert (reply.status, reply.input_tokens, reply.output_tokens) == ("ok", None, None)


async def test_half_a_surrogate_pair_does_not_lose_the_answer() -> None:
    logprobs = {"content": [{"token": "\ud83d", "top_logprobs": [{"token": "\udc00"}]}]}
    reply = await asked(says(choice(message={"content": "Hi \ud83d!"}, logprobs=logprobs)))
    assert (reply.status, reply.text, reply.tokens, reply.top) == ("ok", "Hi ?!", ["?"], [["?"]])
    msgspec.json.encode(reply)


async def test_a_whole_surrogate_pair_stays_what_it_is() -> None:
    reply = await asked(says(choice(message={"content": "\U0001f600 \u202e"})))
    assert reply.text == "\U0001f600 \u202e"


async def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.json_response(GOOD)

    reply = await asked(handler, timeout_s=0.1)
    assert (reply.status, reply.error) == ("timeout", "no answer within 0.1 s")


async def test_nobody_there_is_an_error() -> None:
    async with Asker(f"http://127.0.0.1:{free_port()}", "m") as asker:
        reply = await asker.answer("chat", "?", 8, timeout_s=5, tokens=True)
    assert (reply.status, reply.http_status) == ("error", None)
    assert (reply.error or "").startswith("ClientConnectorError: ")


async def test_a_connection_cut_amid_the_reply_is_an_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices"')
        assert request.transport is not None
        request.transport.abort()
        return response

    assert (await asked(handler)).status == "error"


async def test_a_reply_of_70_mb_is_refused() -> None:
    reply = await asked(says(b" " * (70 << 20)))
    assert (reply.status, reply.error) == ("error", "the reply is larger than 64 MiB")


async def test_a_reply_without_end_is_left_at_64_mib() -> None:
    written = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * (1 << 20))
                written += 1
        return response

    before = time.perf_counter()
    reply = await asked(handler, timeout_s=60)
    assert (reply.status, reply.error) == ("error", "the reply is larger than 64 MiB")
    assert time.perf_counter() - before < 10
    assert written < 100


async def test_questions_start_in_order_and_at_most_so_many_at_a_time() -> None:
    running, most, started = 0, 0, []

    async def one(n: int) -> None:
        nonlocal running, most
        started.append(n)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    await gather_in_order(3, [functools.partial(one, n) for n in range(20)])
    assert (started, most, running) == (list(range(20)), 3, 0)
    await gather_in_order(3, [])
