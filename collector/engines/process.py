"""An engine's process: started in its own session, its log followed from the first byte, ended without orphans."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from collector.engines.base import StartFailed, Timeline
from collector.engines.last_words import cause, telling, without_frames
from collector.errors import QuantcaseError
from collector.probes.redact import redact

__all__ = ["EngineProcess", "die_with_parent", "free_port", "port_is_free"]

_PR_SET_PDEATHSIG = 1
_LOOKED_AT = 400  # lines at the end of a log, among which the cause is looked for
_OOM_WORDS = (
    "out of memory",
    "outofmemory",
    "cannot allocate memory",
    "failed to allocate",
    "no available memory for the cache",
)
_UNSUPPORTED_WORDS = (
    "not supported",
    "unsupported",
    "unknown quantization method",
    "minimum capability",
    "only supported on gpus with compute capability",
)

_WORDS_OF = {"oom": _OOM_WORDS, "unsupported": _UNSUPPORTED_WORDS}


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on that port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.bind((host, 0))
        port: int = s.getsockname()[1]
        return port


def die_with_parent() -> None:
    """In the child, before exec: be told when the collector dies, even by kill -9. Linux only; elsewhere a no-op."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; empty when there is no such process (or no /proc)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return []


def _start_ticks(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None


def _descendants(root: int) -> dict[int, str]:
    """All processes below `root` with their start times, which tell them from later ones of the same number."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid not in found and (ticks := _start_ticks(pid)):
                found[pid] = ticks
                todo.append(pid)
    return found


def _marked(mark: bytes) -> list[int]:
    """All processes that inherited an environment with `mark` in it."""
    found = []
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
    return found


class EngineProcess:
    """One engine process and its group."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path) -> None:
        self.argv = list(argv)
        self.log_path = log_path
        self.timeline = Timeline()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # Raw until the bundle takes it in without its secrets: nobody else on the machine is to read it meanwhile.
        self._log = os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        mark = uuid.uuid4().hex  # inherited by whatever the engine starts, also by what outlives its own parent
        self._mark = f"QUANTCASE_ENGINE={mark}".encode()
        # The key to somebody's endpoint is no business of an engine of ours, which may write its environment down.
        inherited = {k: v for k, v in os.environ.items() if k != "QUANTCASE_API_KEY"}
        self.spawned = time.monotonic()
        try:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env={**inherited, **env, "QUANTCASE_ENGINE": mark},
                start_new_session=True,
                preexec_fn=die_with_parent,  # prctl only: takes no locks
            )
        except FileNotFoundError:
            self._log.close()
            raise QuantcaseError(
                f"{self.argv[0]} is not installed or not on PATH", fix="install the engine or set engine.command"
            ) from None
        except OSError as e:  # no right to run it, or no program at all
            self._log.close()
            raise QuantcaseError(
                f"{self.argv[0]} cannot be run: {e.strerror or e}", fix="set engine.command to a program"
            ) from None
        self.pid = self._process.pid
        self._told = False
        self.timeline.spawn_s = 0.0

    def alive(self) -> bool:
        """Whether it runs. One that was ended by a signal could write nothing: its log is told so, once."""
        if (code := self._process.poll()) is None:
            return True
        if code < 0 and not self._told and not self._log.closed:
            self._told = True
            with contextlib.suppress(OSError):  # a full disk must not hide that the engine has ended
                self._log.write(f"\nquantcase: the engine {self._ending()}\n".encode())
                self._log.flush()
        return False

    def _ending(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        # No word here that `_failed` takes for the engine's own: who sent it is not known.
        hint = " (the kernel does that when the machine's memory is full: see dmesg)" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines of the log that hold something."""
        with contextlib.suppress(OSError):
            data = self.log_path.read_bytes()[-65536:]
            text = data.decode("utf-8", "replace").replace("\r", "\n")
            return [line.rstrip()[:400] for line in text.splitlines() if line.strip()][-lines:]
        return []

    async def wait_healthy(self, url: str, port: int, timeout_s: float) -> None:
        """Wait for the port and then for a 200 from `url`.

        Raises:
            StartFailed: the process ended, or time ran out.
        """
        deadline = self.spawned + timeout_s
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if self._process.poll() is not None:
                    raise self._failed(f"the engine {self._ending()} at start")
                if self.timeline.port_s is None and not port_is_free(port):
                    self.timeline.port_s = time.monotonic() - self.spawned
                if self.timeline.port_s is not None:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(url) as response:
                            if response.status == 200:
                                self.timeline.healthy_s = time.monotonic() - self.spawned
                                return
                if time.monotonic() > deadline:
                    await self.stop(10)
                    raise self._failed(f"the engine was not ready after {timeout_s:.0f} s")
                await asyncio.sleep(0.05)

    def _failed(self, problem: str) -> StartFailed:
        lines = self.log_tail(_LOOKED_AT)
        text = cause(lines)
        found = {state: tuple(w for w in words if w in text) for state, words in _WORDS_OF.items()}
        state = next((state for state, words in found.items() if words), "crash")
        said = redact(telling(lines, found.get(state, ())))
        return StartFailed(
            f"{problem}: {said}" if said else problem,
            exit_state=state,
            log_tail=[redact(t) for t in without_frames(lines)[-12:]],
            argv=self.argv,
        )

    async def stop(self, timeout_s: float = 60.0) -> None:
        """End the whole group: TERM, wait, KILL; then make sure that nothing of it is left.

        Engines start workers of their own, some in sessions of their own, some whose parent has ended before: those are
        known by their descent, found before the TERM, or by the mark in their environment, and killed at the end.
        Where the wait is cut short (a second Ctrl-C), everything is killed at once.
        """
        family = _descendants(self.pid)
        try:
            await self._end_group(timeout_s)
        finally:
            self._kill_all(family)

    async def _end_group(self, timeout_s: float) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self._group_lives() and time.monotonic() < deadline:  # noqa: ASYNC110 - a process group has no event
            await asyncio.sleep(0.05)
        if self._group_lives():
            self._signal(signal.SIGKILL)
            for _ in range(200):
                if not self._group_lives():
                    break
                await asyncio.sleep(0.05)

    def _kill_all(self, family: Mapping[int, str]) -> None:
        if self._group_lives():
            self._signal(signal.SIGKILL)
        for pid, started in family.items():
            if _start_ticks(pid) == started:  # the same process, not another that was given its number
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        for pid in _marked(self._mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.poll()
        if not self._log.closed:
            self._log.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _group_lives(self) -> bool:
        self._process.poll()  # reaps our own child, so that a zombie does not count as alive
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
