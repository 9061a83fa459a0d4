"""An OpenAI-compatible server that misbehaves on purpose, as a process: raw bytes on real sockets.

    python tests/faults/server.py FAULT --host 127.0.0.1 --port 0 --served-model-name NAME

It takes the command line that the collector gives vLLM, so it serves as an engine, too. FAULT is what is wrong with it.
`FAULTS_SWITCH` names a file: the fault lasts as long as that file is there. Requests are counted from 1; those of
another length than `TOKENS` (the collector's first ones) are not counted and always answered well.

Faults of the process (`AT` says at which request):

    fine      nothing is wrong
    replies   request 2 gets the first of REPLIES, request 3 the second, ...; all others are answered well
    broken    every counted request is answered with HTTP 500
    killed    SIGKILL in the middle of a reply
    oom       the same, after a line in its log as a CUDA allocator writes it
    gone      ends by itself, after a whole reply
    hang      SIGSTOP: it is there, and answers nothing
    stuck     the same in the middle of a repeat
    no-memory ends at start as an engine does that does not fit
    killed-at-start  ended by SIGKILL before it listens
    late      /health says 503 at first
    stubborn  does not end on SIGTERM, and takes a while for every reply
    slow      takes a while for every reply
    endless   replies without an end, as fast as they are taken
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

TOKENS = 8
# What is wrong with one reply each, in the order in which `replies` gives them.
REPLIES = (
    "reset", "half-event", "bad-utf8", "garbage", "deep", "error-event", "refused-429", "refused-503", "no-usage",
    "bad-usage", "zero-tokens", "tool-calls", "reasoning", "several-tokens", "usage-with-choices", "ignores-max",
    "megabyte", "long-word", "bad-length", "bad-chunk-size", "slow-loris",
)  # fmt: skip
# c1: 1 warm-up and len(REPLIES) requests; c2: 2 warm-ups, then as many again.
FIRST_CELL = 1 + len(REPLIES)
AT = {"killed": FIRST_CELL + 5, "oom": FIRST_CELL + 5, "gone": FIRST_CELL, "hang": FIRST_CELL + 1, "stuck": 6}
PAUSE_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _chunk(delta: dict[str, object] | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": more.pop("finish_reason", None)}
    return _event({"id": "x", "choices": [choice], **more})


def _usage(prompt: object, completion: object) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _whole(events: list[bytes]) -> list[bytes]:
    """A well-formed reply of those events."""
    return [HEAD, *map(_framed, events), _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def _refusal(status: str, message: str, *headers: str) -> list[bytes]:
    body = json.dumps({"error": {"message": message}}).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


def reply(kind: str, prompt: int, tokens: int) -> list[bytes]:
    """The pieces of a reply, each written by itself. What follows on them (a reset, say) is done by the server."""
    words = [_chunk({"content": f" w{i}"}) for i in range(tokens)]
    end = [_chunk(finish_reason="length"), _event({"choices": [], "usage": _usage(prompt, tokens)})]
    fine = [*words, *end]
    middle = len(words) // 2
    kinds: dict[str, Callable[[], list[bytes]]] = {
        "reset": lambda: [HEAD, *map(_framed, words[:middle])],
        "half-event": lambda: [HEAD, *map(_framed, words[:middle]), _framed(words[middle])[:20]],
        "bad-utf8": lambda: _whole([b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}\n\n', *fine]),
        "garbage": lambda: _whole([*words[:middle], b"data: {]nothing of the kind\n\n", *fine[middle:]]),
        "deep": lambda: _whole([b"data: " + b"[" * 200_000 + b"\n\n", *fine]),
        "error-event": lambda: _whole([*words[:middle], _event({"error": {"message": "a kernel failed"}})]),
        "refused-429": lambda: _refusal("429 Too Many Requests", "slow down", "Retry-After: 7"),
        "refused-503": lambda: _refusal("503 Service Unavailable", "Loading model"),
        "no-usage": lambda: _whole([*words, end[0]]),
        "bad-usage": lambda: _whole([*words, end[0], _event({"choices": [], "usage": _usage(True, -5)})]),
        "zero-tokens": lambda: _whole(
            [_chunk(finish_reason="stop"), _event({"choices": [], "usage": _usage(prompt, 0)})]
        ),
        "tool-calls": lambda: _whole(
            [_chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}) for _ in words] + end
        ),
        "reasoning": lambda: _whole([*(_chunk({"reasoning_content": " hm"}) for _ in words), *end]),
        "several-tokens": lambda: _whole([_chunk({"content": " a b c d"}), _chunk({"content": " e f g h"}), *end]),
        "usage-with-choices": lambda: _whole(
            [*words[:-1], _chunk({"content": " z"}, finish_reason="length", usage=_usage(prompt, tokens))]
        ),
        "ignores-max": lambda: _whole(
            [*words, *words, _chunk(finish_reason="stop"), _event({"choices": [], "usage": _usage(prompt, 2 * tokens)})]
        ),
        "megabyte": lambda: _whole([_chunk({"content": "x" * (1 << 20)}), *fine]),
        "long-word": lambda: _whole([*words, _chunk(finish_reason="stop\n\x00," * 200_000), end[1]]),
        "bad-length": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n" + b"".join(fine)],
        # A chunk whose size is negative leads a careless reader back into the payload of the one before, for ever.
        "bad-chunk-size": lambda: [HEAD + b"a\r\n00000000-2\r\n-a\r\n\r\n0\r\n\r\n"],
        "slow-loris": lambda: [HEAD, b"4"],
    }
    return kinds[kind]() if kind in kinds else _whole(fine)


class Server:
    """Counts requests, and knows what to do with each."""

    def __init__(self, fault: str, model: str) -> None:
        self.fault = fault
        self.model = model
        self.count = 0
        self.asked_for_health = 0

    def on(self) -> bool:
        """Whether the fault still lasts."""
        switch = os.environ.get("FAULTS_SWITCH")
        return switch is None or Path(switch).exists()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            async for path, body in _requests(reader):
                if body:
                    if not await self._generate(json.loads(body), writer):
                        break
                else:
                    writer.write(self._page(path))
                await writer.drain()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()

    def _page(self, path: str) -> bytes:
        if path == "/v1/models":
            document: object = {"data": [{"id": self.model}]}
        elif path == "/health":
            self.asked_for_health += 1
            if self.fault == "late" and self.asked_for_health <= 3:
                return _refusal("503 Service Unavailable", "Loading model")[0]
            document = {}
        else:
            return _refusal("404 Not Found", "no such page")[0]
        data = json.dumps(document).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)

    async def _generate(self, asked: dict[str, object], writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is over."""
        prompt, tokens = 7 + len(json.dumps(asked["messages"]).split()), int(str(asked["max_tokens"]))
        kind, fault = "fine", self.fault if self.on() else "fine"
        if tokens == TOKENS:
            self.count += 1
            if fault == "replies" and 2 <= self.count < 2 + len(REPLIES):
                kind = REPLIES[self.count - 2]
        if fault in ("slow", "stubborn"):
            await asyncio.sleep(PAUSE_S)
        if fault == "broken" and tokens == TOKENS:
            writer.write(_refusal("500 Internal Server Error", "out of cheese")[0])
            return True
        if fault == "endless":
            writer.write(HEAD)
            while not writer.is_closing():
                writer.write(_framed(_chunk({"content": "x" * (1 << 20)})))
                await writer.drain()
            return False
        now = self.count == AT.get(fault)
        if now and fault in ("hang", "stuck"):
            os.kill(os.getpid(), signal.SIGSTOP)
        pieces = reply(kind, prompt, tokens)
        try:
            for i, piece in enumerate(pieces):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
                if now and i == 2 and fault in ("killed", "oom"):
                    break
        finally:  # whether the client has hung up by then or not: it does as soon as it has the last piece, or is late
            if now:
                _end(fault)
        if kind == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST, not a FIN
        while kind == "slow-loris" and not writer.is_closing():
            await asyncio.sleep(0.1)
            writer.write(b"0")
            await writer.drain()
        return kind not in ("reset", "half-event", "bad-length", "bad-chunk-size", "slow-loris")


def _end(fault: str) -> None:
    """The end of this process, if that is its fault."""
    if fault == "oom":
        _log("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    if fault in ("killed", "oom"):
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "gone":
        os._exit(0)


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        _, found, rest = head.lower().partition(b"content-length: ")
        yield path, await reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b""


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _main(args: argparse.Namespace) -> None:
    server = Server(args.fault, args.served_model_name)
    if server.on() and server.fault == "no-memory":
        _log("RuntimeError: CUDA out of memory while loading the weights")
        sys.exit(1)
    if server.on() and server.fault == "killed-at-start":
        os.kill(os.getpid(), signal.SIGKILL)
    if server.on() and server.fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context = None
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)
    listening = await asyncio.start_server(server.serve, args.host, args.port, ssl=context, limit=1 << 24)
    _log(f"listening on {listening.sockets[0].getsockname()[1]}")
    await listening.serve_forever()


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("fault")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--served-model-name", default="m")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    args, _ = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_main(args))


if __name__ == "__main__":
    main()
