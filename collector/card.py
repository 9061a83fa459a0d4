"""The cards that a server is measured on: their memory, their samples, and the wait until they are empty again."""

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
    """The GPUs of one server, or none: then nothing is sampled, and there is nothing to wait for.

    Args:
        indices: of the GPUs on the box; none for a run that needs none.
    """

    def __init__(self, gpus: Gpus, *indices: int) -> None:
        self._gpus = gpus
        self.indices = indices

    def used_mib(self) -> float | None:
        """Device memory in use on all of them, MiB; None without a card, or where the driver does not say now."""
        used = [self._gpus.used_mib(i) for i in self.indices]
        known = [u for u in used if u is not None]
        return sum(known) if known and len(known) == len(used) else None

    @contextlib.contextmanager
    def sampled(self, append: Callable[[TelemetryRow], object], clock: Callable[[], float]) -> Iterator[Sampler | None]:
        """Sample them into `append` meanwhile; None without a card."""
        if not self.indices:
            yield None
            return
        with Sampler(self._gpus, self.indices, append, clock=clock) as sampler:
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
