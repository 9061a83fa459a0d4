"""Servers side by side on one box: who gets which GPUs, and who measures at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from collector.errors import UsageFault
from collector.study import Variant

__all__ = ["Company", "batches", "places"]


def places(variants: Sequence[Variant], pool: Sequence[int]) -> int:
    """How many servers of the largest of these find room at once.

    Raises:
        UsageFault: not even two: nothing could stand side by side.
    """
    room = len(pool) // max(v.gpus for v in variants)
    if room < 2:
        raise UsageFault(
            f"--side-by-side needs GPUs for two servers, this run may use {len(pool)}", fix="name more with --gpus"
        )
    return room


def batches(
    variants: Sequence[Variant], pool: Sequence[int], *, most: int
) -> list[list[tuple[Variant, tuple[int, ...]]]]:
    """The variants in their order, as many at once as find room, each with its GPUs of the pool.

    Args:
        most: servers at once, however small they are: more company than that was not tried.
    """
    made: list[list[tuple[Variant, tuple[int, ...]]]] = []
    free: list[int] = []
    for variant in variants:
        if not made or variant.gpus > len(free) or len(made[-1]) == most:
            made.append([])
            free = list(pool)
        cards, free = tuple(free[: variant.gpus]), free[variant.gpus :]
        made[-1].append((variant, cards))
    return made


class Company:
    """The servers of one batch. They start one after the other and are measured together, so that nobody's start-up
    falls into another's figures.
    """

    def __init__(self, size: int) -> None:
        self.starting = asyncio.Lock()
        self._awaited = size
        self._serving = 0
        self._all_here = asyncio.Event()

    def arrived(self, *, serves: bool) -> None:
        """One of them serves, or will not."""
        self._awaited -= 1
        self._serving += serves
        if self._awaited <= 0:
            self._all_here.set()

    async def together(self) -> None:
        """Wait until all that come are here."""
        await self._all_here.wait()

    def leave(self) -> None:
        """One that served is done."""
        self._serving -= 1

    @property
    def others(self) -> int:
        """Servers that are measured meanwhile, beside the one that asks."""
        return max(0, self._serving - 1)
