"""Before a bundle is written to: nobody else writes to it, and the clock has gone on since its last row."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError

__all__ = ["check_clock", "claimed", "unwritable"]

_CLOCK_SLACK_S = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a bundle's folder for this process alone. The kernel lets go of it when the process ends, however it ends.

    The lock lies on the folder itself (flock), so no file of it is left in a bundle. A file system that knows no locks
    (some network drives) goes without.

    Raises:
        QuantcaseError: another collector holds it.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise QuantcaseError(
                f"{folder.name} is being written by another collector", fix="wait for its end, or stop it"
            ) from None
        except OSError:
            pass  # no locks here: as it was before there were any
        yield
    finally:
        os.close(held)


def check_clock(folder: Path) -> None:
    """Times of a later session are put beside the earlier ones by the wall clock: it must not be behind them.

    Raises:
        QuantcaseError: this machine's clock stands before the last row of the bundle.
    """
    bundle = open_bundle(folder)
    begun = [s.wall_unix_s + 60 * (s.minutes or 0.0) for s in bundle.environment().sessions]
    created = datetime.datetime.fromisoformat(bundle.manifest.created).timestamp()
    measured = [created + c.window_end_s for c in bundle.cells() if c.window_end_s is not None]
    behind = max([created, *begun, *measured]) - time.time()
    if behind > _CLOCK_SLACK_S:
        raise QuantcaseError(
            f"this machine's clock is {behind:,.0f} s behind the last measurement in {folder.name}",
            fix="set the clock (timedatectl), then resume",
        )


def unwritable(e: OSError, folder: Path | None, out: Path) -> QuantcaseError | None:
    """A disk that is full or closed to us, in one line with what to do; None for any other fault."""
    place = folder or out
    if e.filename is not None and not Path(os.fsdecode(e.filename)).absolute().is_relative_to(place.absolute()):
        return None  # another file's fault: its own words name it
    again = f"go on with: collect run --resume {folder}"
    if e.errno in _FULL:
        return QuantcaseError(f"{place}: {e.strerror}", fix=f"make room; {again}" if folder else "make room")
    if e.errno in _CLOSED:
        fix = f"make it writable; {again}" if folder else "choose another folder with --out"
        return QuantcaseError(f"{place} cannot be written: {e.strerror}", fix=fix)
    return None
