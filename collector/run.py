"""The run: for each variant serve, warm up, measure, stop; every finished repeat is on disk before the next begins."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from collector import cards
from collector.after import After
from collector.budget import Budget, OutOfBudget
from collector.bundle.co_location import CoLocation, read_co_location, write_co_location
from collector.bundle.schema import Environment, Status, VariantRow
from collector.bundle.write import BundleWriter, bundle_name
from collector.card import Card
from collector.claim import check_clock, claimed, unwritable
from collector.co_locate import trial
from collector.describe import first_row
from collector.design import imprecise, order
from collector.due import Due, WantedOf, everywhere
from collector.engines import registry
from collector.engines.base import Engine
from collector.engines.process import port_is_free
from collector.errors import QuantcaseError
from collector.gpus import GpuProfile
from collector.lives import Lives
from collector.load.floor import loopback_floor_ms
from collector.load.prompts import PromptMaker
from collector.load.workers import Workers
from collector.loadtest import once as load_test
from collector.prepare import priced
from collector.probes.environment import capture
from collector.probes.nvml import Gpus
from collector.probes.redact import redact
from collector.progress import View
from collector.quality import suites
from collector.side_by_side import Company, batches, places
from collector.study import Study, Variant

__all__ = ["MOST_EXTRA_ROUNDS", "Outcome", "Run"]

MOST_EXTRA_ROUNDS = 20


class Outcome(Struct):
    """How a run ended: where the bundle lies, its status, and the variants that failed with their reasons."""

    folder: Path
    status: Status
    failed: dict[str, str]
    log_tail: list[str]
    ended_by: str


class Run:
    """One run or its continuation.

    Args:
        study: resolved; for a resumed run the bundle's own study is used instead.
        only: variants that this invocation measures; empty means all.
        port: fixed port of the engine; 0 takes a free one.
        max_minutes, max_usd: stop cleanly, resumable, when the next repeat may not fit.
        stress: push every variant until it breaks, when all else of it is measured.
        until_precise: go on until every ratio to the baseline is known to this share, e.g. 0.03.
        workers: processes that send together.
        gpus: of the box, by NVML's index; None takes all of the profile's kind.
        side_by_side: measure several variants at once on GPUs of their own, if a trial allows it.
        through_round: stop after that round of server starts; a fleet asks for one at a time.
        further: that round is beyond the plan: repeats that a (variant, workload, load) is to have after it.
    """

    def __init__(
        self,
        study: Study,
        profile: GpuProfile,
        *,
        out: Path,
        resume: Path | None = None,
        only: tuple[str, ...] = (),
        port: int = 0,
        max_minutes: float | None = None,
        max_usd: float | None = None,
        until_precise: float | None = None,
        workers: int = 1,
        stress: bool = False,
        allow_other_gpu: bool = False,
        gpus: tuple[int, ...] | None = None,
        side_by_side: bool = False,
        through_round: int | None = None,
        further: Mapping[tuple[str, str, str], int] | None = None,
        api_key: str | None = None,
    ) -> None:
        self.study = study
        self.profile = profile
        self._out = out
        self._resume = resume
        self._only = only
        self._port = port
        self._max_minutes = max_minutes
        self._max_usd = max_usd
        self._until_precise = until_precise
        self._workers = workers
        self._stress = stress
        self._allow_other_gpu = allow_other_gpu
        self._named = gpus
        self._side_by_side = side_by_side
        self._through_round = through_round
        self._further = further
        self._api_key = api_key
        self.folder: Path | None = resume
        self._together: bool | None = None

    async def execute(self, console: Console) -> Outcome:
        """Measure everything that is not done yet, with progress on `console`.

        Raises:
            QuantcaseError: nothing could be started at all, and no bundle is left behind; or the disk took no more.
        """
        with contextlib.ExitStack() as self._held:
            try:
                return await self._execute(console)
            except OSError as e:
                if (told := unwritable(e, self.folder, self._out)) is None:
                    raise
                raise told from None

    async def _execute(self, console: Console) -> Outcome:
        self._gpus = Gpus.open()
        self._pool = cards.usable(self.profile, self._gpus, named=self._named, allow_other=self._allow_other_gpu)
        if self._port and not port_is_free(self._port):
            raise QuantcaseError(f"port {self._port} is in use", fix="choose another with --port, or leave it out")
        engine = registry.engine(self.study.engine.name)
        engine.check(self.study)
        suites.check(self.study)
        load_test.check(self.study.loadtest, engine.grade)
        if self._resume is None:
            cards.check_parallel(self.study)
            self.study = priced(self.study, self.profile)
        most = cards.needed(self._mine(), self._pool, self.profile)
        if self._side_by_side:
            self._places()
        rented = len(self._pool) if self._side_by_side else most
        self._budget = Budget(minutes=self._max_minutes, usd=self._max_usd, price=self.study.price, gpus=rented)
        self._writer = self._open_bundle(engine)
        self.folder = self._writer.folder
        wall, monotonic = time.time(), time.monotonic()
        zero = monotonic - (wall - self._writer.created().timestamp())
        planned = self._writer.manifest.quantcase.cells_planned
        status: Status = "interrupted"
        ended_by, failed, tail = "stopped", dict[str, str](), list[str]()
        try:
            async with contextlib.AsyncExitStack() as stack:
                self._view = view = stack.enter_context(View(console, planned, len(self._writer.cells)))
                work = stack.enter_context(tempfile.TemporaryDirectory(prefix="quantcase-"))
                self._lives = Lives(
                    study=self.study, profile=self.profile, engine=engine, gpus=self._gpus, writer=self._writer,
                    view=view, budget=self._budget, work=Path(work), zero=zero, port=self._port, api_key=self._api_key,
                    senders=self._workers, apart=self._side_by_side, failed=failed, log_tail=tail,
                )  # fmt: skip
                self._due = Due(self.study, self._writer, failed)
                self._after = self._lives.after = self._afterwards()
                view.say(f"bundle {self._writer.folder}")
                if self.study.quality and not self._after.passes():
                    why = "a replay's text is nobody's answer" if engine.grade == "simulated" else "dummy weights"
                    view.say(f"quality is not measured: {why}")
                if self._workers > 1 and not self._side_by_side:
                    self._lives.shared_senders = await stack.enter_async_context(Workers(self._workers))
                if self._writer.client.loopback_floor_ms is None:
                    self._writer.client.loopback_floor_ms = await loopback_floor_ms()
                try:
                    ended_by = await self._all_rounds()
                except OutOfBudget as e:
                    ended_by = str(e)
                    view.say(f"{e}: closing the bundle")
            status = self._due.status(self._after)
        finally:
            self._note_end(f"failed: {', '.join(failed)}" if failed else ended_by)
            self._writer.close(status)
        return Outcome(self._writer.folder, status, failed, tail, ended_by)

    def _afterwards(self) -> After:
        enough = everywhere(self.study.starts * self.study.repeats)
        return After(
            study=self.study, writer=self._writer, view=self._view, budget=self._budget, stress=self._stress,
            api_key=self._api_key, cells_left=lambda name: self._due.cells_left(name, enough),
            calibration=self._lives.calibration,
        )  # fmt: skip

    # -- the bundle ----------------------------------------------------------------------------------------------

    def _open_bundle(self, engine: Engine) -> BundleWriter:
        if self._resume is not None:
            self._held.enter_context(claimed(self._resume))
            check_clock(self._resume)
            writer = BundleWriter.resume(self._resume)
            self.study = writer.study if self.study.engine.name != "endpoint" else self.study
        else:
            study = self.study
            self._out.mkdir(parents=True, exist_ok=True)
            today = datetime.datetime.now(datetime.UTC).date()
            writer = BundleWriter.create(
                self._out / bundle_name(self._out, self.profile.name, study.id, today),
                study,
                grade=engine.grade,
                gpu=self.profile.name,
                cells_planned=study.cells_planned,
                environment=Environment(gpu_asked=self.profile.name),
            )
            self._held.enter_context(claimed(writer.folder))
            self.folder = writer.folder
        sessions = writer.environment.sessions
        spec = self.study.engine
        command = (spec.command or ["vllm"]) if spec.name == "vllm" else []
        sessions.append(capture(self._gpus, command=command, env=spec.env, session=len(sessions) + 1))
        if self.profile.kind == "gpu":
            writer.environment.gpu_found = self._gpus.cards[self._pool[0]].name
        writer.save_documents()
        return writer

    def _note_end(self, ended_by: str) -> None:
        session = self._writer.environment.sessions[-1]
        session.ended_by = ended_by
        session.minutes = round(self._budget.minutes, 3)
        usd = self._budget.usd
        session.usd = None if usd is None else round(usd, 4)

    # -- variants ------------------------------------------------------------------------------------------------

    async def _all_rounds(self) -> str:
        """Server starts in rounds, every variant once a round; returns what ended the run."""
        if self._through_round is not None and (further := self._further) is not None:

            def wanted(variant: str, workload: str, load: str) -> int:
                return further.get((variant, workload, load), 0)

            await self._round(self._through_round, wanted)
            return f"round {self._through_round} is measured"
        for number in range(1, self.study.starts + 1):
            await self._round(number, everywhere(number * self.study.repeats))
        enough = everywhere(self.study.starts * self.study.repeats)
        # The baseline's second pass: another start.
        for number in range(self.study.starts + 1, self._after.passes() + 1):
            await self._round(number, enough)
        # A server that broke on one ladder is started anew for the other: by then only these starts are left.
        last = max(self.study.starts, self._after.passes())
        for number in range(last + 1, last + 3) if self._stress else ():
            await self._round(number, enough)
        if self._through_round is not None:
            return f"round {self._through_round} is measured"
        if self._until_precise is None:
            return "all that was planned is measured"
        return await self._extra_rounds(self._until_precise)

    async def _extra_rounds(self, target: float) -> str:
        """Go on with what is not known well enough: those variants and the baseline, those cells."""
        for extra in range(1, MOST_EXTRA_ROUNDS + 1):
            left = [i for i in imprecise(self.study, self._writer.cells, target) if not self._due.ended(i.variant)]
            if not left:
                return f"every ratio is known to {target:.1%}"
            widest = max(left, key=lambda i: i.half_width)
            self._view.say(
                f"{len(left)} ratios are not known to {target:.1%} yet, least {widest.variant} {widest.workload} "
                f"{widest.load} (±{widest.half_width:.1%}): extra round {extra}"
            )
            cells = {(i.workload, i.load) for i in left}
            variants = {i.variant for i in left} | {self.study.baseline}
            done = self._due.repeats_done()

            def wanted(variant: str, workload: str, load: str) -> int:
                more = self.study.repeats if variant in variants and (workload, load) in cells else 0  # noqa: B023
                return done[(variant, workload, load)] + more  # noqa: B023

            await self._round(self.study.starts + extra, wanted)
        return f"{MOST_EXTRA_ROUNDS} extra rounds were not enough for {target:.1%}"

    def _mine(self) -> list[Variant]:
        """The variants that this invocation measures."""
        return [v for v in self.study.variants if not self._only or v.name in self._only]

    def _places(self) -> int:
        """Servers that stand side by side at most: so many are tried, and no more are measured, at once."""
        mine = self._mine()
        return min(len(mine), places([*mine, self.study.variant(self.study.baseline)], self._pool))

    async def _round(self, number: int, wanted: WantedOf) -> None:
        if self._through_round is not None and number > self._through_round:
            return
        names = [n for n in order(self.study, number) if not self._only or n in self._only]
        if not self._side_by_side:
            for name in names:
                if self._due_now(name, number, wanted):
                    cards_of = self._pool[: self.study.variant(name).gpus]
                    await self._lives.live(self._next(name, number), cards_of, wanted)
            return
        due = [self.study.variant(n) for n in names if self._due_now(n, number, wanted)]
        if len(due) > 1 and not await self._may_stand_together():
            await self._round(number, wanted)
            return
        for batch in batches(due, self._pool, most=self._places()):
            company = Company(len(batch))
            self._budget.keep(len(batch) * self._lives.longest_start_s)  # they start one after the other
            rows = [self._next(v.name, number) for v, _ in batch]
            starts = [self._lives.live(row, own, wanted, company) for row, (_, own) in zip(rows, batch, strict=True)]
            ended = await asyncio.gather(*starts, return_exceptions=True)  # each closes its own row first
            for problem in ended:
                if isinstance(problem, BaseException):
                    raise problem

    def _due_now(self, name: str, number: int, wanted: WantedOf) -> bool:
        if self._due.ended(name):
            return False
        left, after = self._due.cells_left(name, wanted), self._after
        return left or after.unjudged(name, number) or after.stress_due(name)

    def _next(self, name: str, number: int) -> VariantRow:
        """The row of a variant's next server start, which has to fit into the budget."""
        self._budget.keep(self._lives.longest_start_s)
        start = max((v.start for v in self._writer.variants if v.variant == name), default=0) + 1
        self._view.say(f"{name}: server start {start}, round {number}")
        return first_row(self.study.variant(name), start, self.study.engine.name)

    async def _may_stand_together(self) -> bool:
        """Try the baseline on every place at once; what came of it is in the bundle. Asked once a run.

        Where each round is a run of its own (a fleet's), once a bundle.
        """
        if self._together is None:
            known = read_co_location(self._writer.folder) if self._through_round is not None else None
            if known is not None and (known.places or 0) < self._places():
                known = None  # in more company than was tried
            if known is None:
                self._view.say("side by side: trying one cell alone and in company")
            try:
                tried = known or await self._try_together()
            except QuantcaseError as e:
                self._together, why = False, redact(str(e))
            else:
                self._together, why = tried.allowed, tried.reason
                if tried.allowed or read_co_location(self._writer.folder) is None:  # else it speaks of cells that stand
                    write_co_location(self._writer.folder, tried)
            self._side_by_side = self._lives.apart = self._together
            word = "allowed" if self._together else "NOT allowed, one at a time from here on"
            self._view.say(f"side by side: {word}: {why}")
        return self._together

    async def _try_together(self) -> CoLocation:
        baseline = self.study.variant(self.study.baseline)
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for place in range(self._places()):
                own = self._pool[place * baseline.gpus : (place + 1) * baseline.gpus]
                log = self._lives.work / f"trial-{place + 1}.log"
                self._budget.keep(self._lives.longest_start_s)
                card = Card(self._gpus, *(own if self.profile.kind == "gpu" else ()))
                stack.push_async_callback(card.released, card.used_mib(), self._view.say)  # when its server is gone
                server = await self._lives.serve(self._lives.request(baseline, own, log))
                stack.push_async_callback(server.stop)
                clients.append(await self._lives.client(server, stack))
            maker = PromptMaker(self.study, await self._lives.calibration(clients[0]))
            return await trial(self.study, clients, maker, zero=self._lives.zero, budget=self._budget)
