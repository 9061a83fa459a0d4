"""Real processes: nothing is left behind, and a failed start says why."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from collector.engines.base import StartFailed
from collector.engines.process import EngineProcess, free_port, port_is_free
from collector.errors import QuantcaseError


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        await asyncio.sleep(0.02)
    return False


async def test_one_that_ignores_term_and_its_child_in_a_session_of_its_own_are_gone(tmp_path: Path) -> None:
    code = """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print(child.pid, flush=True)
        time.sleep(600)
    """
    process = EngineProcess([sys.executable, "-c", textwrap.dedent(code)], env={}, log_path=tmp_path / "log")
    assert await until(lambda: (tmp_path / "log").read_text().strip())
    child = int((tmp_path / "log").read_text())
    assert alive(child)
    await process.stop(0.3)
    assert not process.alive()
    assert await until(lambda: not alive(child))
    await process.stop(0.3)  # twice does no harm


async def test_a_worker_whose_engine_has_crashed_is_ended_too(tmp_path: Path) -> None:
    """It has a session of its own and init for a parent: neither group nor descent leads to it."""
    code = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print(child.pid, flush=True)
        raise SystemExit(1)
    """
    process = EngineProcess([sys.executable, "-c", textwrap.dedent(code)], env={}, log_path=tmp_path / "log")
    assert await until(lambda: not process.alive())
    child = int((tmp_path / "log").read_text())
    assert alive(child)
    await process.stop(0.3)
    assert await until(lambda: not alive(child))


async def test_kill_9_of_the_collector_takes_the_engine_with_it(tmp_path: Path) -> None:
    code = f"""
        import pathlib, sys, time
        from collector.engines.process import EngineProcess
        p = EngineProcess([sys.executable, "-c", "import time; time.sleep(600)"], env={{}},
                          log_path=pathlib.Path({str(tmp_path / "log")!r}))
        print(p.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    assert alive(engine)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert await until(lambda: not alive(engine))


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "oom"),
        ("ValueError: Unknown quantization method: bitsandbytes. Must be one of [...]", "unsupported"),
        ("ValueError: something else", "crash"),
    ],
)
async def test_a_failed_start_has_a_state_and_the_last_lines(tmp_path: Path, words: str, state: str) -> None:
    code = f"import sys; print('starting'); sys.exit({words!r})"
    process = EngineProcess([sys.executable, "-c", code], env={}, log_path=tmp_path / "log")
    port = free_port()
    with pytest.raises(StartFailed) as e:
        await process.wait_healthy(f"http://127.0.0.1:{port}/health", port, 30)
    await process.stop(1)
    assert e.value.exit_state == state
    assert e.value.log_tail == ["starting", words]
    assert "exit code 1" in str(e.value)


async def test_one_that_never_answers_is_ended_in_time(tmp_path: Path) -> None:
    process = EngineProcess([sys.executable, "-c", "import time; time.sleep(600)"], env={}, log_path=tmp_path / "log")
    port = free_port()
    with pytest.raises(StartFailed, match="was not ready after 1 s"):
        await process.wait_healthy(f"http://127.0.0.1:{port}/health", port, 1)
    assert not process.alive()


def test_a_missing_command_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="no-such-engine is not installed or not on PATH"):
        EngineProcess(["no-such-engine"], env={}, log_path=tmp_path / "log")


@pytest.mark.parametrize(("content", "mode"), [("no program\n", 0o755), ("#!/bin/sh\n", 0o644)])
def test_a_command_that_cannot_be_run_is_one_line(tmp_path: Path, content: str, mode: int) -> None:
    engine = tmp_path / "engine"
    engine.write_text(content)
    engine.chmod(mode)
    with pytest.raises(QuantcaseError, match="engine cannot be run: "):
        EngineProcess([str(engine)], env={}, log_path=tmp_path / "log")


def test_ports() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        assert not port_is_free(port)
