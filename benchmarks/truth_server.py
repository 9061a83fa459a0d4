"""A streaming server that keeps the truth: first token TTFT after the request was read, then one every TPOT.

`python -m benchmarks.truth_server --port N [--ttft-ms 50] [--tpot-ms 10]`. One timer serves all streams, so that 512
streams of 100 tokens/s fit on one core; how late it was itself is served under /lateness (p50, p99, ms).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import time

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN = {
    True: _chunk(b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"truth","choices":'
                 b'[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'),
    False: _chunk(b'data: {"id":"c","object":"text_completion","created":1,"model":"truth","choices":'
                  b'[{"index":0,"text":" word","logprobs":null,"finish_reason":null}]}\n\n'),
}  # fmt: skip


class Truth:
    """All streams of the server on one clock."""

    def __init__(self, ttft_s: float, tpot_s: float) -> None:
        self.ttft_s, self.tpot_s = ttft_s, tpot_s
        self.due: list[tuple[float, int, _Stream]] = []
        self.number = 0
        self.late_ms: list[float] = []

    def begin(self, stream: _Stream) -> None:
        """Put a stream on the clock."""
        self.number += 1
        stream.next_s = time.monotonic() + self.ttft_s
        heapq.heappush(self.due, (stream.next_s, self.number, stream))

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                at, number, stream = heapq.heappop(self.due)
                self.late_ms.append((now - at) * 1000)
                if stream.token():
                    stream.next_s = at + self.tpot_s
                    heapq.heappush(self.due, (stream.next_s, number, stream))
            wait = self.due[0][0] - time.monotonic() if self.due else 0.002
            await asyncio.sleep(min(max(wait, 0.0), 0.002))


class _Stream:
    """One request being answered."""

    def __init__(self, transport: asyncio.Transport, tokens: int, prompt_tokens: int, chat: bool) -> None:
        self.transport, self.left, self.total, self.prompt, self.chat = transport, tokens, tokens, prompt_tokens, chat
        self.next_s = 0.0

    def token(self) -> bool:
        """Send one token; False when it was the last."""
        if self.transport.is_closing():
            return False
        head = _HEAD if self.left == self.total else b""
        self.left -= 1
        if self.left:
            self.transport.write(head + _TOKEN[self.chat])
            return True
        usage = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.total,
            "total_tokens": self.prompt + self.total,
        }
        last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
        self.transport.write(head + _TOKEN[self.chat] + _chunk(last) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        return False


class _Server(asyncio.Protocol):
    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"POST"):
            self.buffer = b""
            self._get(head)
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self.buffer = body[length:]
        asked = json.loads(body[:length])
        chat = "messages" in asked
        prompt = str(asked["messages"] if chat else asked["prompt"])
        tokens = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16)
        self.truth.begin(_Stream(self.transport, tokens, len(prompt.split()), chat))

    def _get(self, head: bytes) -> None:
        late = sorted(self.truth.late_ms)
        answer = {"object": "list", "data": [{"id": "truth", "object": "model"}]}
        if b"/lateness" in head and late:
            answer = {"p50_ms": late[len(late) // 2], "p99_ms": late[int(len(late) * 0.99)], "tokens": len(late)}  # type: ignore[dict-item]
            self.truth.late_ms.clear()
        body = json.dumps(answer).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )


async def serve(port: int, ttft_ms: float, tpot_ms: float) -> None:
    """Serve until killed."""
    truth = Truth(ttft_ms / 1000, tpot_ms / 1000)
    server = await asyncio.get_running_loop().create_server(lambda: _Server(truth), "127.0.0.1", port, backlog=2048)
    async with server:
        await truth.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--tpot-ms", type=float, default=10.0)
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.ttft_ms, args.tpot_ms))
