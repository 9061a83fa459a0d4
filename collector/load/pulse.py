"""Whether the engine under load is alive: what every process that sends hears, and who may send meanwhile.

A closed loop against an engine that hangs would wait one time limit for each request that is left. Ending it early must
never end an engine that is only slow, so three things must hold before it is called hung (`watch`):

1. Silence. For one time limit no reply got a byte, while requests were in flight all the time. By then each of them has
   run into its own limit, so nothing is lost by holding back the next ones, which is what happens now.
2. Still silence. What is in flight runs to its own limit, and not one of them is heard of.
3. It answers nothing alone. One short request, with nothing else in flight, runs into the limit, too: a prefill that is
   too long, or a queue, would be over. And the engine's own counters, where it has any, did not move.

Anything that is heard, or moves, and the load goes on as before. An open loop is not watched: its timetable ends it.
"""

from __future__ import annotations

import asyncio
import mmap
import time
from collections.abc import Awaitable, Callable, Iterable

from collector.load.framing import Exchange

__all__ = ["NO_CONNECTION", "TICK_S", "Hung", "Place", "Pulse", "watch"]

NO_CONNECTION = "cannot connect"  # how the error of a request begins that found no server: nobody was heard of
TICK_S = 1.0  # between two looks at connections that have no end yet: so old what a place tells may be
_HELD_S = 0.02  # between two looks of a slot that is held back
_WATCH_S = 0.25
_HEADER = 2  # numbers before those of the places: whether sending is held, and when `watch` saw that it lives
_PER_PLACE = 2


class Hung(Exception):
    """The engine hangs; the words say what was waited for."""


class Pulse:
    """Numbers that all processes of a load see: who was heard of when, how many requests are out, whether to hold.

    Times are monotonic seconds, which all processes of a machine share. Each process writes the numbers of its own
    place and the first of all, eight bytes at once.

    Args:
        places: processes that send.
        shared: `size(places)` bytes that they all see; memory of this process where it is the only one.
    """

    def __init__(self, places: int = 1, shared: mmap.mmap | None = None) -> None:
        self._numbers = memoryview(shared if shared is not None else bytearray(self.size(places))).cast("d")

    @staticmethod
    def size(places: int) -> int:
        """Bytes of the numbers."""
        return 8 * (_HEADER + _PER_PLACE * places)

    def reset(self) -> None:
        """Before a stretch of load: nobody sends, nothing was heard, nothing is held."""
        for i in range(len(self._numbers)):
            self._numbers[i] = 0.0

    def place(self, number: int = 0) -> Place:
        """One process' part."""
        return Place(self, self._numbers, _HEADER + _PER_PLACE * number)

    @property
    def held(self) -> bool:
        """Whether no new request may be sent now."""
        return self._numbers[0] > 0

    def hold(self) -> None:
        """Let what is in flight end, and send nothing new."""
        self._numbers[0] = 1.0

    def release(self) -> None:
        """Go on sending."""
        self._numbers[0] = 0.0

    def lives(self) -> None:
        """The engine has given another sign of life than a reply."""
        self._numbers[1] = time.monotonic()

    def heard_s(self) -> float:
        """When the engine was last heard of, by any process; the beginning where it was not; 0.0 before that."""
        return max(self._numbers[1], *self._numbers[_HEADER::_PER_PLACE].tolist())

    def out(self) -> int:
        """Requests in flight."""
        return round(sum(self._numbers[_HEADER + 1 :: _PER_PLACE].tolist()))


class Place:
    """What one process tells of its connections."""

    def __init__(self, pulse: Pulse, numbers: memoryview[float], at: int) -> None:
        self.pulse = pulse
        self._numbers = numbers
        self._at = at

    def begin(self) -> None:
        """The clock starts."""
        self.hear(time.monotonic())

    def hear(self, at_s: float) -> None:
        """A reply was heard of then."""
        if at_s > self._numbers[self._at]:
            self._numbers[self._at] = at_s

    def listen(self, under_way: Iterable[Exchange | None]) -> None:
        """Look at the replies that have no end yet."""
        self.hear(max((e.heard_s() for e in under_way if e is not None), default=0.0))

    def sent(self) -> None:
        """One request more is in flight."""
        self._numbers[self._at + 1] += 1

    def ended(self, exchange: Exchange, timeout_s: float, under_way: Callable[[], Iterable[Exchange | None]]) -> None:
        """A request is over. One that ran into its limit in silence is reason enough to hold the next ones back."""
        self._numbers[self._at + 1] -= 1
        if not exchange.timed_out:
            if not (exchange.error or "").startswith(NO_CONNECTION):  # a refusal in words, or a reset, is no hang
                self.hear(time.monotonic())
            return
        self.listen((exchange, *under_way()))
        if time.monotonic() - self.pulse.heard_s() >= timeout_s:
            self.pulse.hold()

    async def may_send(self) -> None:
        """Wait while sending is held."""
        while self.pulse.held:  # noqa: ASYNC110 - set by another process, which has no event for us
            await asyncio.sleep(_HELD_S)


async def watch(
    pulse: Pulse,
    timeout_s: float,
    *,
    alone: Callable[[], Awaitable[bool]],
    counters: Callable[[], object],
    say: Callable[[str], object],
) -> None:
    """Watch a load until it is cancelled; see the head of this file for the rule.

    Args:
        timeout_s: the time limit of a request.
        alone: sends one short request with that limit and tells whether anything at all came of it.
        counters: what the engine counts, as it was last read; equal to what it was as long as nothing moved.
        say: hears that an engine was asked, and lives.

    Raises:
        Hung: the engine hangs.
    """
    while True:
        await asyncio.sleep(_WATCH_S)
        heard = pulse.heard_s()
        if not heard or not (pulse.held or time.monotonic() - heard >= timeout_s):
            continue
        pulse.hold()
        before = counters()
        ends = time.monotonic() + timeout_s + TICK_S  # what is in flight then, waits for a connection
        await asyncio.sleep(1.5 * TICK_S)  # what others have heard since their last tick is told by the next one
        while pulse.out() and pulse.heard_s() <= heard and time.monotonic() < ends:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_WATCH_S)
        if pulse.heard_s() <= heard:
            silent = time.monotonic() - heard
            if counters() != before:
                sign = "its counters move"
            elif await alone() or counters() != before:
                sign = "it answers a short request alone"
            else:
                raise Hung(
                    f"no reply got a byte for {silent:.3g} s, then a short request alone none in {timeout_s:g} s"
                )
            say(f"WARNING no reply got a byte for {silent:.3g} s, but {sign}: it is slow, and the load goes on")
            pulse.lives()
        pulse.release()
