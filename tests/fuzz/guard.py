"""What no damaged input may do: raise what nobody named, run for ever, speak in more than a line, reach outside."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["Broken", "Hang", "one_line", "time_limit", "tree"]

MOST_CHARS = 2_000  # of a message


class Broken(AssertionError):
    """A promise is broken, other than by an exception that nobody named."""


class Hang(BaseException):
    """A case took longer than its limit. No Exception: code under test must not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in here after `seconds` of the wall clock. Code that never comes back to Python is ended after four
    times as long, with a traceback on stderr: then the process is gone, and the case is the last that was announced.
    """

    def ring(_signal: int, frame: FrameType | None) -> None:
        raise Hang(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def one_line(words: object) -> str:
    """The message of an error, when it is one line of bounded length; else Broken."""
    told = str(words)
    if not told.strip() or len(told.splitlines()) != 1 or len(told) > MOST_CHARS:
        raise Broken(f"an error is not one line: {told[:300]!r} ({len(told)} characters)")
    return told


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with its size and time: what must not have changed."""
    found = {}
    for path in folder.rglob("*"):
        told = path.lstat()
        found[path.relative_to(folder).as_posix()] = (0 if path.is_dir() else told.st_size, told.st_mtime_ns)
    return found
