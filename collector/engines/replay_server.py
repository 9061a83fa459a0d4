"""The replay engine's server: a real HTTP server on loopback that streams tokens at recorded times.

`python -m collector.engines.replay_server --recording FILE --variant NAME --port N`. It speaks enough of the OpenAI
API for the collector: streaming chat and completions, usage, /v1/models, /health, /metrics. What is measured on it is
a simulation of the recorded box and is graded so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from collector.engines.recording import RecordedLoad, RecordedVariant, load

__all__ = ["create_app", "main"]

_SETTLE_S = 0.004  # requests of one wave arrive within this; only then is the number in flight known


class _Replay:
    """The recorded timings of one variant, dealt out in the order in which they were recorded."""

    def __init__(self, variant: RecordedVariant) -> None:
        self.loads = variant.loads
        self.in_flight = 0
        self.served_tokens = 0
        self.prompt_tokens = 0
        self._next: dict[int, int] = {}

    def deal(self, output_tokens: int) -> tuple[float, float]:
        """(TTFT, TPOT) in ms for a request of that length at the present number in flight."""

        def distance(recorded: RecordedLoad) -> tuple[int, int]:
            return abs(recorded.output_tokens - output_tokens), abs(recorded.concurrency - self.in_flight)

        nearest = min(self.loads, key=distance)
        place = self._next.get(id(nearest), 0)
        self._next[id(nearest)] = place + 1
        return nearest.timings_ms[place % len(nearest.timings_ms)]


def create_app(variant: RecordedVariant, model: str) -> web.Application:
    """The server's routes for one recorded variant."""
    replay = _Replay(variant)
    app = web.Application(client_max_size=64 << 20)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model", "owned_by": "replay"}]})

    async def metrics(_: web.Request) -> web.Response:
        lines = (
            f"vllm:num_requests_running {replay.in_flight}",
            f"vllm:prompt_tokens_total {replay.prompt_tokens}",
            f"vllm:generation_tokens_total {replay.served_tokens}",
        )
        return web.Response(text="\n".join(lines) + "\n")

    async def chat(request: web.Request) -> web.StreamResponse:
        return await _stream(request, replay, model, chat=True)

    async def completions(request: web.Request) -> web.StreamResponse:
        return await _stream(request, replay, model, chat=False)

    app.router.add_get("/health", health)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/completions", completions)
    return app


async def _stream(request: web.Request, replay: _Replay, model: str, *, chat: bool) -> web.StreamResponse:
    loop = asyncio.get_running_loop()
    arrived = loop.time()
    replay.in_flight += 1
    try:
        body = await request.json()
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        tokens = int(body["max_tokens"])
    except (ValueError, KeyError, TypeError, IndexError) as e:
        replay.in_flight -= 1
        return web.json_response({"error": {"message": f"bad request: {e}"}}, status=400)
    try:
        await asyncio.sleep(_SETTLE_S)
        ttft_ms, tpot_ms = replay.deal(tokens)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        words = len(str(prompt).split())
        async for at_token in _paced(arrived + ttft_ms / 1000, tpot_ms / 1000, tokens):
            text = f"w{at_token} "
            choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if at_token == tokens - 1 else None}
            choice |= {"delta": {"content": text}} if chat else {"text": text}
            await response.write(_event({"model": model, "choices": [choice]}))
        usage = {"prompt_tokens": words, "completion_tokens": tokens, "total_tokens": words + tokens}
        await response.write(_event({"model": model, "choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        await response.write_eof()
        replay.served_tokens += tokens
        replay.prompt_tokens += words
        return response
    finally:
        replay.in_flight -= 1


async def _paced(first_s: float, step_s: float, count: int) -> AsyncIterator[int]:
    """0..count-1, each when it is due: by absolute times, so that lateness does not add up."""
    loop = asyncio.get_running_loop()
    for i in range(count):
        wait = first_s + i * step_s - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        yield i


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def main() -> None:
    """Serve one recorded variant until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    recording = load(args.recording if Path(args.recording).name else "")
    if args.variant not in recording.variants:
        sys.exit(f"replay: the recording of {recording.bundle} has no variant {args.variant}")
    app = create_app(recording.variants[args.variant], args.variant)
    web.run_app(app, host="127.0.0.1", port=args.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
