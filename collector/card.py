"""The card that is measured on: its memory, its samples, and the wait until it is empty again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from collector.bundle.schema import TelemetryRow
from collector.probes.nvml import Gpus
from collector.probes.sampler import Sampler

__all__ = ["Card"]

_RELEASE_S = 60.0
_SLACK_MIB = 300.0


class Card:
    """One GPU, or none: then nothing is sampled, and there is nothing to wait for.

    Args:
        index: of the GPU on the box; None for a run that needs none.
    """

    def __init__(self, gpus: Gpus, index: int | None) -> None:
        self._gpus = gpus
        self.index = index

    def used_mib(self) -> float | None:
        """Device memory in use, MiB; None without a card, or where the driver does not say (any more)."""
        return self._gpus.used_mib(self.index) if self.index is not None else None

    @contextlib.contextmanager
    def sampled(self, append: Callable[[TelemetryRow], object], clock: Callable[[], float]) -> Iterator[Sampler | None]:
        """Sample it into `append` meanwhile; None without a card."""
        if self.index is None:
            yield None
            return
        with Sampler(self._gpus, self.index, append, clock=clock) as sampler:
            yield sampler

    async def released(self, idle_mib: float | None, say: Callable[[str], None]) -> None:
        """Wait until no more is in use than at the start, give or take 300 MiB; after a minute say so and go on.

        The next variant starts on an empty card, or its numbers would be of another card.
        """
        if idle_mib is None:
            return
        deadline = time.monotonic() + _RELEASE_S
        while (used := self.used_mib()) is not None and used > idle_mib + _SLACK_MIB:
            if time.monotonic() > deadline:
                say(f"WARNING {used - idle_mib:.0f} MiB of VRAM are still held after the engine was stopped")
                return
            await asyncio.sleep(0.25)
        if used is None:
            say("WARNING the driver no longer answers (nvidia-smi, dmesg): telemetry and VRAM are missing from here on")
