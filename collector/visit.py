"""One server start, measured: warm-up, then every repeat that is still wanted, each on disk before the next."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from collector.budget import Budget
from collector.bundle.schema import CellRow
from collector.bundle.write import BundleWriter
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.load.measure import Client, Measured
from collector.load.prompts import PromptMaker
from collector.load.pulse import Hung
from collector.load.schedule import Probe, next_load, probes, settled
from collector.probes.metrics import MetricsScraper
from collector.progress import View
from collector.study import Load, Study, Workload

__all__ = ["Pace", "Visit"]

_FOREIGN_TOKENS = 0.01  # the engine counted more than this share beside what we were sent


class Pace:
    """How long a repeat of each cell took at most: what the next one may take."""

    def __init__(self) -> None:
        self._longest_s: defaultdict[tuple[str, str], float] = defaultdict(float)

    def expect_s(self, workload: Workload, load: Load) -> float:
        return self._longest_s[workload.name, load.name]

    def took(self, workload: Workload, load: Load, seconds: float) -> None:
        key = (workload.name, load.name)
        self._longest_s[key] = max(self._longest_s[key], seconds)


class Visit:
    """Measures one variant on one server that serves it.

    Args:
        wanted: (workload, load) -> repeats that the variant is to have in the end, over all its server starts.
        zero: the monotonic time that stands for 0 s in the bundle.
        others: servers that are measured meanwhile on other GPUs of the box.
    """

    def __init__(
        self,
        *,
        study: Study,
        variant: str,
        start: int,
        server: Server,
        client: Client,
        maker: PromptMaker,
        scraper: MetricsScraper | None,
        writer: BundleWriter,
        budget: Budget,
        pace: Pace,
        view: View,
        zero: float,
        wanted: Callable[[str, str], int],
        others: Callable[[], int] = lambda: 0,
    ) -> None:
        self._study = study
        self._variant = variant
        self._start = start
        self._server = server
        self._client = client
        self._maker = maker
        self._scraper = scraper
        self._writer = writer
        self._budget = budget
        self._pace = pace
        self._view = view
        self._zero = zero
        self._wanted = wanted
        self._others = others
        self._warmed: set[tuple[str, str]] = set()

    async def measure(self) -> None:
        """Everything that is wanted. Repeats outside, cells inside: slow drift (heat, neighbours) falls on all alike.

        Raises:
            QuantcaseError: the engine died or hangs, or every request of a cell failed.
            OutOfBudget: the next repeat may not fit into what the run may spend.
        """
        for turn in range(1, self._study.repeats + 1):
            for workload in self._study.workloads:
                for load in self._loads(workload):
                    done = self._done(workload, load)
                    here = sum(c.start == self._start for c in done)
                    if here < turn and len(done) < self._wanted(workload.name, load.name):
                        await self._one(workload, load, repeat=here + 1, number=len(done) + 1)

    def _loads(self, workload: Workload) -> Iterator[Load]:
        """The load points of a workload; a search goes on with what the last one gave."""
        if workload.search == "none":
            yield from workload.loads()
            return
        while (load := next_load(workload, self._probes(workload))) is not None:
            yield load
            if not self._done(workload, load):
                return  # nothing more is wanted of it in this start
        yield from settled(workload, self._probes(workload))

    def _mine(self) -> list[CellRow]:
        return [c for c in self._writer.cells if c.variant == self._variant]

    def _done(self, workload: Workload, load: Load) -> list[CellRow]:
        return [c for c in self._mine() if (c.workload, c.load) == (workload.name, load.name)]

    def _probes(self, workload: Workload) -> list[Probe]:
        return probes(self._mine(), workload)

    async def _one(self, workload: Workload, load: Load, *, repeat: int, number: int) -> None:
        """One repeat. `number` counts the repeats of the cell over all starts: the n-th has the same prompts in every
        variant, and none of them twice on one server.
        """
        name, place = self._variant, f"{workload.name} {load.name}"
        self._budget.keep(self._pace.expect_s(workload, load))
        if (workload.name, load.name) not in self._warmed:
            self._view.now(f"{name} {place}: warming up")
            await self._warm_up(workload, load, place)
            self._warmed.add((workload.name, load.name))
        self._view.now(f"{name} {place}: repeat {repeat}")
        if self._study.engine.name == "endpoint":
            number += 1000 * (self._start - 1)  # that server lives on, and its prefix cache with it
        before = await self._scraper.counters() if self._scraper else None
        began, company = time.monotonic(), self._others()  # it only grows smaller while a batch is measured
        try:
            measured = await self._client.repeat(
                self._maker, workload, load,
                variant=name, start=self._start, repeat=repeat, zero=self._zero, prompts_of=number,
                counters=self._counted, say=lambda words: self._view.say(f"{words} ({place})"),
            )  # fmt: skip
        except OSError as e:
            raise self._unreachable(e, place) from None
        except Hung as e:  # as with an engine that died: its repeat is not kept, and measured anew by a resumed run
            if not self._server.alive():
                raise QuantcaseError(f"{name}: the engine died during {place}", fix="see its log") from None
            raise QuantcaseError(f"{name}: the engine hangs in {place}: {e}", fix="see its log") from None
        self._pace.took(workload, load, time.monotonic() - began)
        # A repeat that was answered to its last request is kept, even when the engine has ended right after it.
        if measured.cell.ok < measured.cell.n and not self._server.alive():
            raise QuantcaseError(f"{name}: the engine died during {place}", fix="see its log")
        if measured.cell.ok == 0:
            raise QuantcaseError(
                f"{name}: all {measured.cell.n} requests of {place} failed: {measured.first_error}",
                fix="see the engine's log",
            )
        after = await self._scraper.counters() if self._scraper and before is not None else None
        if before is not None and after is not None:
            counted = after.since(before)
            measured.client.engine_tokens = counted.output_tokens
            measured.client.engine_prefix_hit_tokens = counted.prefix_hit_tokens
        measured.cell.co_located = company or None
        self._warn(measured, place)
        self._writer.client.cells.append(measured.client)
        self._writer.add_repeat(measured.requests, measured.gaps, measured.cell)
        self._view.repeat_done(measured.cell, self._study.repeats)

    def _counted(self) -> object:
        """What the engine counts, as it was last scraped: an engine that works moves some of it."""
        return dict(self._scraper.last) if self._scraper else None

    async def _warm_up(self, workload: Workload, load: Load, place: str) -> None:
        """Warm up, and do not go on with a server that is gone or hangs: every request of a repeat would wait in vain.

        Raises:
            QuantcaseError: the engine died, takes no connection, or answers nothing any more.
        """
        name, limit_s = self._variant, workload.request_timeout_s
        try:
            outcomes = await self._client.warm_up(self._maker, workload, load)
        except OSError as e:
            raise self._unreachable(e, f"the warm-up of {place}") from None
        if not self._server.alive():
            raise QuantcaseError(f"{name}: the engine died while warming up", fix="see the engine's log")
        if all(o.status == "timeout" for o in outcomes):
            # It may be busy with what was given up: a single short request tells a load too high from a hang.
            alone = await self._client.ask(workload.api, self._maker.words(16, f"hang/{name}/{place}"), 2, limit_s)
            if alone.status == "timeout":
                words = f"no request of the warm-up of {place}, and none alone, was answered within {limit_s:g} s"
                raise QuantcaseError(f"{name}: the engine hangs: {words}", fix="see the engine's log")

    def _unreachable(self, e: OSError, place: str) -> QuantcaseError:
        """No connection at all: the engine has ended, or is not to be reached."""
        if not self._server.alive():
            return QuantcaseError(f"{self._variant}: the engine had died before {place}", fix="see its log")
        return QuantcaseError(f"{self._variant}: cannot connect: {e.strerror or e}", fix="see the engine's log")

    def _warn(self, measured: Measured, place: str) -> None:
        """What spoils a repeat is told when it happens, not at home."""
        seen, cell = measured.client, measured.cell
        if seen.limited_by:
            self._view.say(f"WARNING the client was the limit at {place}: {seen.limited_by}; try --workers")
        foreign = (seen.engine_tokens or 0) - (seen.usage_tokens or 0)
        if cell.ok == cell.n and seen.usage_tokens and foreign > _FOREIGN_TOKENS * seen.usage_tokens:
            self._view.say(f"WARNING {place}: the engine made {foreign:.0f} tokens for somebody else meanwhile")
        if cell.steady == "no":
            self._view.say(f"WARNING {place}: latency had a trend, a steady state was not reached")
