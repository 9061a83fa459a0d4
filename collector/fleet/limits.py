"""What a fleet may spend: dollars over all boxes that are held, and a time by which it ends."""

from __future__ import annotations

import datetime
import re

from collector.errors import UsageFault
from collector.fleet.index import Index

__all__ = ["Limits", "until"]

_UNITS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
_RESERVE_S = 60.0  # an engine's end and the packing of tables are paid for, too
_RESERVE_SHARE = 0.05


def until(text: str, now: datetime.datetime) -> datetime.datetime:
    """`2h`, `90m`, `1.5d`, or a time as ISO 8601; without a zone it is this machine's.

    Raises:
        UsageFault: neither, or not ahead.
    """
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text.strip().lower()):
        return now + datetime.timedelta(hours=float(match[1]) * _UNITS[match[2]])
    try:
        found = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageFault(f"--until {text} is no time", fix="for example 2h, 90m, or 2026-11-21T18:00") from None
    found = found.astimezone(datetime.UTC)
    if found <= now:
        raise UsageFault(f"--until {text} has passed", fix="name a time that is ahead")
    return found


class Limits:
    """Decides how long a server start may go on, and when all of them have to end."""

    def __init__(self, *, max_usd: float | None, by: datetime.datetime | None) -> None:
        self._max_usd = max_usd
        self._by = by

    def minutes_left(self, index: Index, now: datetime.datetime, usd_per_minute: float) -> float | None:
        """What may still be spent with the boxes that are held now, in minutes; None without a limit."""
        found = []
        if self._by is not None:
            found.append((self._by - now).total_seconds() / 60)
        if self._max_usd is not None and usd_per_minute > 0:
            found.append((self._max_usd - (index.usd or 0.0)) / usd_per_minute)
        return min(found, default=None)

    def for_task(self, index: Index, now: datetime.datetime, usd_per_minute: float) -> float | None:
        """The same, less what it takes to end cleanly."""
        left = self.minutes_left(index, now, usd_per_minute)
        return None if left is None else left - min(_RESERVE_S / 60, _RESERVE_SHARE * max(left, 0))

    def spent(self, index: Index, now: datetime.datetime) -> str:
        """Which limit is reached; empty while none is."""
        if self._by is not None and now >= self._by:
            return "the time is over"
        if self._max_usd is not None and (index.usd or 0.0) >= self._max_usd:
            return f"the money of ${self._max_usd:g} is spent"
        return ""
