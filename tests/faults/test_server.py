"""The fault server itself: what it is told to do wrong happens, whatever its client does meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys

import pytest

from tests.faults.server import AT, TOKENS
from tests.faults.tools import SERVER

BODY = json.dumps({"messages": [{"role": "user", "content": "a b"}], "max_tokens": TOKENS}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.mark.parametrize(("fault", "ended"), [("killed", -signal.SIGKILL), ("oom", -signal.SIGKILL), ("gone", 0)])
def test_it_ends_even_when_its_client_has_hung_up(fault: str, ended: int) -> None:
    """A client that is late by its own time limit hangs up; that once kept the server alive."""
    server = subprocess.Popen([sys.executable, SERVER, fault], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split()[-1])
        for _ in range(AT[fault] - 1):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(REQUEST)
                reply = b""
                while b"[DONE]" not in reply:
                    reply += client.recv(1 << 16)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(REQUEST)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, at once
        assert server.wait(20) == ended
    finally:
        server.kill()
        server.communicate()
