"""Cases made side by side: processes of their own, each with one case at a time, that put what they made in the cache.

A process is started as a module, so that it neither runs the program that asks for it again nor inherits its threads.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
from msgspec import Struct

from quantcase.charts import cache as charts
from quantcase.pages.view import Options

__all__ = ["Job", "make"]

_LEAST = 6  # cases that are worth the start of processes
_LASTS = 100  # cases of one process: what it holds grows a little with each, and goes with it


class Job(Struct):
    """One case to be made, and where to."""

    folder: str
    store: str
    key: str
    options: Options


def make(jobs: Sequence[Job], processes: int) -> None:
    """Make cases in so many processes; none where it is not worth it. A case that fails there is left to the caller."""
    if processes < 2 or len(jobs) < _LEAST:
        return
    queue: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        queue.put(job)
    count = min(processes, len(jobs))
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(_serve, queue) for _ in range(count)]:
            done.result()


def _serve(queue: SimpleQueue[Job]) -> None:
    """One process after another, until there is nothing left or one ended by itself."""
    while not queue.empty() and _fed(queue):
        pass


def _fed(queue: SimpleQueue[Job]) -> bool:
    """One process, fed with the cases that it lasts for; whether it made them all."""
    drawn = charts.folder()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), charts.ENV: str(drawn or "")}
    command = [sys.executable, "-m", "quantcase.workers"]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
            if process.stdin is None or process.stdout is None:
                raise ValueError("a process without pipes")  # what PIPE rules out
            for job in islice(_taken(queue), _LASTS):
                process.stdin.write(base64.b64encode(msgspec.msgpack.encode(job)) + b"\n")
                process.stdin.flush()
                if process.stdout.readline() != b"done\n":
                    return False  # it ended: its words are on stderr, and the caller makes the case itself
    except BrokenPipeError:
        return False
    return True


def _taken(queue: SimpleQueue[Job]) -> Iterator[Job]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def _work() -> None:
    from quantcase.build import make_case
    from quantcase.cache import Store

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints is taken for an answer
    for line in sys.stdin.buffer:
        job = msgspec.msgpack.decode(base64.b64decode(line), type=Job)
        make_case(Store(Path(job.store)), Path(job.folder), job.key, job.options)
        answers.write(b"done\n")
        answers.flush()


if __name__ == "__main__":
    _work()
