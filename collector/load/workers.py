"""Load from several processes: one queue, one clock.

Each worker is `python -m collector.load.workers`. Jobs and results go over its standard streams as length-prefixed
msgpack. A closed loop's queue is a pipe that all workers read numbers from, four bytes each, so that a free slot of any
process takes the next request. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

import msgspec
from msgspec import Struct

from collector.errors import QuantcaseError
from collector.load.pulse import Pulse
from collector.load.shots import Job, Shots, shoot

__all__ = ["Workers", "main"]

_NUMBER = struct.Struct("<i")
_LENGTH = struct.Struct("<Q")
_SECONDS = struct.Struct("<d")
_NO_MORE = -1
_READY = b"ready\n"
_FAILED = b"failed\n"
_LEAD_S = 0.1


class _Order(Struct):
    """A job and this worker's part in it."""

    job: Job
    slots: int
    place: int
    numbers: list[int] | None = None


class _Answer(Struct):
    shots: Shots
    error: str | None = None


class Workers:
    """A handful of processes that send together. Use as an async context manager; they live until its end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._processes: list[asyncio.subprocess.Process] = []
        self._queue = -1
        file = _shared_memory(Pulse.size(count))
        self._shared = file
        self.pulse = Pulse(count, mmap.mmap(file, 0))

    async def __aenter__(self) -> Workers:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()
        os.close(self._shared)

    async def _start(self) -> None:
        read, self._queue = os.pipe()
        os.set_blocking(self._queue, False)
        try:
            for _ in range(self.count):
                self._processes.append(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "collector.load.workers", str(read), str(self._shared),
                        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                        pass_fds=[read, self._shared], limit=1 << 30,
                    )
                )  # fmt: skip
        finally:
            os.close(read)

    async def _end(self) -> None:
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1
        for process in self._processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        self._processes.clear()

    async def shoot(self, job: Job) -> Shots:
        """Run a job on all workers and put their shots together.

        Raises:
            QuantcaseError: a worker ended early.
            OSError: the server takes no connections at all.
        """
        self.pulse.reset()  # before anything is waited for: somebody may be watching already
        if not self._processes:
            await self._start()
        try:
            return await self._shoot(job)
        except BaseException:  # a cancelled one, too
            await self._end()  # some may still wait for the start, or send: the next job gets new ones
            raise

    async def _shoot(self, job: Job) -> Shots:
        at_work = min(self.count, max(1, job.slots if job.due_s is None else len(job.bodies)))
        processes = self._processes[:at_work]
        for i, process in enumerate(processes):
            slots = job.slots // at_work + (i < job.slots % at_work)
            numbers = None if job.due_s is None else list(range(i, len(job.bodies), at_work))
            _put(process, msgspec.msgpack.encode(_Order(job, slots, i, numbers)))
        for process in processes:
            word = await _output(process).readline()
            if word == _FAILED:
                raise OSError((await _take(process)).error)
            if word != _READY:
                raise QuantcaseError("a load worker ended before it could send", fix="run again with --workers 1")
        feeding = None
        if job.due_s is None:
            feeding = asyncio.create_task(self._feed(len(job.bodies), job.slots))
        begin = _SECONDS.pack(time.monotonic() + _LEAD_S)
        for process in processes:
            _input(process).write(begin)
        answers = [await _take(process) for process in processes]
        if feeding is not None:
            await feeding
        if failed := next((a.error for a in answers if a.error), None):
            raise OSError(failed)
        shots = sorted((s for a in answers for s in a.shots.shots), key=lambda s: s.number)
        return Shots(
            shots=shots,
            lag_ms=[x for a in answers for x in a.shots.lag_ms],
            cpu_pct=max(a.shots.cpu_pct for a in answers),
            workers=at_work,
        )

    async def _feed(self, requests: int, slots: int) -> None:
        """All numbers, then one end for each slot; as fast as the pipe takes them."""
        data = memoryview(b"".join(map(_NUMBER.pack, [*range(requests), *[_NO_MORE] * slots])))
        while data:
            try:
                # Whole numbers only: a pipe takes up to 4,096 bytes all at once or not at all.
                data = data[os.write(self._queue, data[:4096]) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)


def _shared_memory(size: int) -> int:
    """A file that lives in memory, and may be given to other processes."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("quantcase-pulse")
    else:
        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    os.truncate(file, size)
    return file


def _input(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise QuantcaseError("a load worker has no input")
    return process.stdin


def _output(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise QuantcaseError("a load worker has no output")
    return process.stdout


def _put(process: asyncio.subprocess.Process, data: bytes) -> None:
    _input(process).write(_LENGTH.pack(len(data)) + data)


async def _take(process: asyncio.subprocess.Process) -> _Answer:
    try:
        length = _LENGTH.unpack(await _output(process).readexactly(_LENGTH.size))[0]
        return msgspec.msgpack.decode(await _output(process).readexactly(length), type=_Answer)
    except asyncio.IncompleteReadError:
        raise QuantcaseError("a load worker ended early", fix="run again with --workers 1") from None


# -- in the worker ---------------------------------------------------------------------------------------------------


def _numbers(queue: int) -> Iterator[int]:
    """Numbers off the shared queue until an end comes. A read of four bytes is never shared with another process."""
    while True:
        data = os.read(queue, _NUMBER.size)
        number = _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else _NO_MORE
        if number == _NO_MORE:
            return
        yield number


class _Slotwise:
    """Hands every slot an iteration of its own over the queue: each slot takes one end off it."""

    def __init__(self, queue: int) -> None:
        self._queue = queue

    def __iter__(self) -> _Slotwise:
        return self

    def __next__(self) -> int:
        return next(_numbers(self._queue))


def _serve(queue: int, pulse: Pulse, orders: BinaryIO, answers: BinaryIO) -> None:
    import uvloop

    told: list[bool] = []

    def ready() -> float | None:
        told.append(True)
        answers.write(_READY)
        answers.flush()
        return float(_SECONDS.unpack(orders.read(_SECONDS.size))[0])

    def ready_now() -> float | None:
        begin = ready() or 0.0
        time.sleep(max(0.0, begin - time.monotonic()))
        return begin

    while len(head := orders.read(_LENGTH.size)) == _LENGTH.size:
        order = msgspec.msgpack.decode(orders.read(_LENGTH.unpack(head)[0]), type=_Order)
        job = msgspec.structs.replace(order.job, slots=order.slots)
        closed = job.due_s is None
        answer = _Answer(Shots())
        told.clear()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                answer.shots = runner.run(
                    shoot(
                        job,
                        queue=_Slotwise(queue) if closed else None,
                        numbers=order.numbers,
                        ready=ready_now if closed else ready,
                        place=pulse.place(order.place),
                    )
                )
        except OSError as e:
            answer.error = e.strerror or str(e)
            if not told:  # the parent waits for a word before it waits for the answer
                answers.write(_FAILED)
        data = msgspec.msgpack.encode(answer)
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


def main() -> None:
    """A worker: orders on standard input, answers on standard output, until the input ends."""
    with contextlib.suppress(KeyboardInterrupt):
        pulse = Pulse(shared=mmap.mmap(int(sys.argv[2]), 0))
        _serve(int(sys.argv[1]), pulse, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
