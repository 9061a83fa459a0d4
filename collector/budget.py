"""What a run may spend: minutes, or dollars at the price of the GPU's hour. It ends cleanly before either is spent."""

from __future__ import annotations

import time

from collector.errors import UsageFault
from collector.study import Price

__all__ = ["Budget", "OutOfBudget"]

_SLACK = 1.2  # what comes next may take so much longer than it did the last time


class OutOfBudget(Exception):
    """The time or the money is spent; the message says which."""


class Budget:
    """Counts from when it is made, at the price of one GPU's hour for each of the `gpus` that are held.

    Raises:
        UsageFault: dollars are named, and there is no price to count them by.
    """

    def __init__(self, *, minutes: float | None, usd: float | None, price: Price | None, gpus: int = 1) -> None:
        self._began = time.monotonic()
        self._usd_per_hour = None if price is None else price.usd_per_hour * gpus
        limits: list[tuple[float, str]] = []
        if minutes is not None:
            limits.append((60 * minutes, f"the time of {minutes:g} min is spent"))
        if usd is not None:
            if self._usd_per_hour is None:
                raise UsageFault("--max-usd needs a price per hour", fix="set [price] in the study, or --max-minutes")
            limits.append((3600 * usd / self._usd_per_hour, f"the money of ${usd:g} is spent"))
        self._limit_s, self._reason = min(limits, default=(float("inf"), ""))

    @property
    def minutes(self) -> float:
        """Spent so far."""
        return (time.monotonic() - self._began) / 60

    @property
    def usd(self) -> float | None:
        """Spent so far; None without a price."""
        return None if self._usd_per_hour is None else self.minutes / 60 * self._usd_per_hour

    def keep(self, needed_s: float) -> None:
        """Raises OutOfBudget when what comes next, which took `needed_s` the last time, may not fit any more."""
        if time.monotonic() + _SLACK * needed_s > self._began + self._limit_s:
            raise OutOfBudget(self._reason)
