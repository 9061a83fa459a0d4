"""Samples GPUs at a steady rate while something else is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from collector.bundle.schema import TelemetryRow

__all__ = ["Sampler"]


class _Samples(Protocol):
    def sample(self, index: int, t_s: float) -> TelemetryRow: ...


class Sampler:
    """A thread that samples the GPUs of one server and hands each row to `append`: NVML blocks for milliseconds, an
    event loop must not.

    `append` is called from that thread: hand over something that may be (a queue's put, a list's append).

        with Sampler(gpus, 0, rows.append, clock=lambda: time.monotonic() - created):
            ...
    """

    def __init__(
        self,
        gpus: _Samples,
        index: int | Sequence[int],
        append: Callable[[TelemetryRow], object],
        *,
        hz: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._indices = [index] if isinstance(index, int) else list(index)
        self._append = append
        self._period = 1.0 / hz
        self._clock = clock
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._peak: float | None = None
        self._fullest: float | None = None
        self._failure: Exception | None = None

    @property
    def peak_mib(self) -> float | None:
        """Highest device memory seen since the start or the last `reset_peak`, MiB: of all the GPUs at one time."""
        with self._lock:
            return self._peak

    @property
    def fullest_mib(self) -> float | None:
        """The highest that any one of the GPUs held, MiB."""
        with self._lock:
            return self._fullest

    def reset_peak(self) -> None:
        """Forget the peaks, so that the next cell or variant has its own."""
        with self._lock:
            self._peak = self._fullest = None

    def start(self) -> Sampler:
        """Start the thread; the first sample is taken at once."""
        if self._thread is None:
            self._halt.clear()
            self._thread = threading.Thread(target=self._run, name="gpu-sampler", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop and wait for the thread. May be called twice. Raises what `append` raised, if it did."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def __enter__(self) -> Sampler:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._halt.is_set():
            try:
                t_s = self._clock()  # one time for all of them: they are of one server
                rows = [self._gpus.sample(index, t_s) for index in self._indices]
                self._note([r.vram_used_mib for r in rows])
                for row in rows:
                    self._append(row)
            except Exception as e:  # noqa: BLE001 - carried to stop(): a thread has no caller to raise to
                self._failure = e
                return
            # Due times are fixed, so that a slow sample does not shift all later ones; missed ones are dropped.
            due = max(due + self._period, time.monotonic())
            self._halt.wait(due - time.monotonic())

    def _note(self, used: Sequence[float | None]) -> None:
        known = [u for u in used if u is not None]
        if not known or len(known) < len(used):
            return  # a sum without one of them would be too low
        with self._lock:
            self._peak = max(self._peak or 0.0, sum(known))
            self._fullest = max(self._fullest or 0.0, *known)
