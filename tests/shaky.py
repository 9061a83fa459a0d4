"""A server on a real socket that refuses, gets slow, preempts, hangs or dies when it is asked to: for stress tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from collector.engines.base import EngineFacts, Timeline

__all__ = ["CONTEXT", "Shaky"]

CONTEXT = 400  # tokens that it serves


class Shaky:
    """An OpenAI-compatible server with the weaknesses that are asked for, and its engine's process in one."""

    def __init__(
        self,
        *,
        context: int = CONTEXT,
        cut: bool = False,
        busy_above: int = 999,
        slow_above: int = 999,
        hang_above: int = 999,
        preempt_above: int = 999,
        die_above: int = 999,
        stay_up: bool = False,
        last_words: str = "I step 1\nE torch.OutOfMemoryError: CUDA out of memory at /home/alice/x\nE Error: over\n",
    ) -> None:
        self.base_url = ""
        self.model = "m"
        self.argv: list[str] = []
        self.pids: list[int] = []
        self.timeline = Timeline()
        self.metrics_path: str | None = "/metrics" if preempt_above < 999 else None
        self.seen: list[tuple[int, int]] = []  # (prompt tokens, output tokens) of each request
        self.most_in_flight = 0
        self.log = Path()
        self._context, self._cut = context, cut
        self._busy, self._slow, self._hang, self._preempt = busy_above, slow_above, hang_above, preempt_above
        self._die, self._stay_up, self._last_words = die_above, stay_up, last_words
        self._in_flight = self._preemptions = 0
        self._gone = asyncio.Event()
        self._open: set[asyncio.BaseTransport] = set()

    def alive(self) -> bool:
        return self._stay_up or not self._gone.is_set()

    def facts(self) -> EngineFacts:
        return EngineFacts()

    def model_facts(self) -> dict[str, object]:
        return {}

    async def stop(self) -> None: ...

    async def metrics(self, _request: web.Request) -> web.Response:
        usage = min(1.0, 0.1 * self.most_in_flight)  # its peak: a step is over sooner than a gauge is read
        lines = (f'vllm:num_preemptions_total{{engine="0"}} {self._preemptions}', f"vllm:kv_cache_usage_perc {usage}")
        return web.Response(text="\n".join(lines) + "\n")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self._open.add(request.transport)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._answer(request, await request.json())
        finally:
            self._in_flight -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        tokens = len(body["messages"][0]["content"].split()) + 7
        asked = body["max_tokens"]
        self.seen.append((tokens, asked))
        if tokens + asked > self._context:
            if not self._cut:
                words = f"This model's maximum context length is {self._context} tokens; you asked for {tokens + asked}"
                return web.json_response({"error": {"message": words}}, status=400)
            tokens = self._context - asked
        await asyncio.sleep(0.01)  # a wave comes together
        if self._in_flight > self._die:
            self._gone.set()
            await asyncio.sleep(5)
        if self._in_flight > self._busy:
            return web.json_response({"error": {"message": "the queue of alice@10.1.2.3 is full"}}, status=503)
        if self._in_flight > self._hang:
            await asyncio.sleep(5)
        if self._in_flight > self._preempt:
            self._preemptions += 1
        if self._in_flight > self._slow:
            await asyncio.sleep(0.2)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(asked):
            await response.write(b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n')
        usage = f'{{"prompt_tokens":{tokens},"completion_tokens":{asked}}}'
        await response.write(f'data: {{"choices":[],"usage":{usage}}}\n\ndata: [DONE]\n\n'.encode())
        return response

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[Shaky]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/metrics", self.metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        death = asyncio.create_task(self._when_it_dies(site))
        try:
            yield self
        finally:
            death.cancel()
            await runner.cleanup()

    async def _when_it_dies(self, site: web.TCPSite) -> None:
        await self._gone.wait()
        if self.log != Path():
            with self.log.open("a") as f:
                f.write(self._last_words)
        await site.stop()
        for transport in self._open:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
