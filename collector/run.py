"""The run: for each variant serve, warm up, measure, stop; every finished repeat is on disk before the next begins."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console

from collector.after import After
from collector.budget import Budget, OutOfBudget
from collector.bundle import manifest as manifests
from collector.bundle.schema import Environment, Status, VariantRow, rounded
from collector.bundle.write import BundleWriter, bundle_name
from collector.card import Card
from collector.claim import check_clock, claimed, unwritable
from collector.describe import describe, first_row, log_tail
from collector.design import imprecise, order
from collector.engines import registry
from collector.engines.base import Engine, EngineFacts, Server, ServeRequest, StartFailed
from collector.engines.process import free_port, port_is_free
from collector.errors import QuantcaseError
from collector.gpus import GpuProfile
from collector.load.floor import loopback_floor_ms
from collector.load.measure import Client, calibrate
from collector.load.prompts import Calibration, PromptMaker
from collector.load.schedule import next_load, probes, settled
from collector.load.workers import Workers
from collector.loadtest import once as load_test
from collector.prepare import check_gpu, priced
from collector.probes.environment import capture
from collector.probes.metrics import MetricsScraper
from collector.probes.nvml import Gpus
from collector.probes.redact import redact, redact_argv
from collector.progress import View
from collector.quality import suites
from collector.study import Study, Variant
from collector.visit import Pace, Visit

__all__ = ["Outcome", "Run"]

_PROMPTS = "prompts.json"
_MOST_EXTRA_ROUNDS = 20


class Outcome(Struct):
    """How a run ended: where the bundle lies, its status, and the variants that failed with their reasons."""

    folder: Path
    status: Status
    failed: dict[str, str]
    log_tail: list[str]
    ended_by: str


Wanted = Callable[[str, str], int]  # (workload, load) -> repeats of one variant, over all its server starts
WantedOf = Callable[[str, str, str], int]  # (variant, workload, load) -> the same


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
        self._load_workers: Workers | None = None
        self._pace = Pace()
        self._allow_other_gpu = allow_other_gpu
        self._api_key = api_key
        self.folder: Path | None = resume
        self._failed: dict[str, str] = {}
        self._warned: set[str] = set()
        self._log_tail: list[str] = []
        self._longest_start_s = 0.0

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
        self._card = Card(self._gpus, check_gpu(self.profile, self._gpus, allow_other=self._allow_other_gpu))
        if self._port and not port_is_free(self._port):
            raise QuantcaseError(f"port {self._port} is in use", fix="choose another with --port, or leave it out")
        engine = registry.engine(self.study.engine.name)
        engine.check(self.study)
        suites.check(self.study)
        load_test.check(self.study.loadtest, engine.grade)
        if self._resume is None:
            self.study = priced(self.study, self.profile)
        self._budget = Budget(minutes=self._max_minutes, usd=self._max_usd, price=self.study.price)
        self._writer = self._open_bundle(engine)
        self.folder = self._writer.folder
        wall, monotonic = time.time(), time.monotonic()
        self._zero = monotonic - (wall - self._writer.created().timestamp())
        planned = self._writer.manifest.quantcase.cells_planned
        status: Status = "interrupted"
        ended_by = "stopped"
        try:
            with View(console, planned, len(self._writer.cells)) as view:
                self._view = view
                self._after = self._afterwards(view)
                view.say(f"bundle {self._writer.folder}")
                if self.study.quality and not self._after.passes():
                    why = "a replay's text is nobody's answer" if engine.grade == "simulated" else "dummy weights"
                    view.say(f"quality is not measured: {why}")
                async with contextlib.AsyncExitStack() as stack:
                    if self._workers > 1:
                        self._load_workers = await stack.enter_async_context(Workers(self._workers))
                    if self._writer.client.loopback_floor_ms is None:
                        self._writer.client.loopback_floor_ms = await loopback_floor_ms()
                    work = stack.enter_context(tempfile.TemporaryDirectory(prefix="quantcase-"))
                    try:
                        ended_by = await self._all_rounds(engine, Path(work))
                    except OutOfBudget as e:
                        ended_by = str(e)
                        view.say(f"{e}: closing the bundle")
            status = self._status()
        finally:
            self._note_end(ended_by)
            self._writer.close(status)
        return Outcome(self._writer.folder, status, self._failed, self._log_tail, ended_by)

    def _afterwards(self, view: View) -> After:
        enough = _everywhere(self.study.starts * self.study.repeats)
        return After(
            study=self.study, writer=self._writer, view=view, budget=self._budget, stress=self._stress,
            api_key=self._api_key, cells_left=lambda name: self._open(name, enough), calibration=self._calibration,
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
                cells_planned=len(study.variants) * len(study.cells()) * study.repeats * study.starts,
                environment=Environment(gpu_asked=self.profile.name),
            )
            self._held.enter_context(claimed(writer.folder))
            self.folder = writer.folder
        sessions = writer.environment.sessions
        spec = self.study.engine
        command = (spec.command or ["vllm"]) if spec.name == "vllm" else []
        sessions.append(capture(self._gpus, command=command, env=spec.env, session=len(sessions) + 1))
        if self._card.index is not None:
            writer.environment.gpu_found = self._gpus.cards[self._card.index].name
        writer.save_documents()
        return writer

    def _note_end(self, ended_by: str) -> None:
        session = self._writer.environment.sessions[-1]
        session.ended_by = f"failed: {', '.join(self._failed)}" if self._failed else ended_by
        session.minutes = round(self._budget.minutes, 3)
        usd = self._budget.usd
        session.usd = None if usd is None else round(usd, 4)

    def _status(self) -> Status:
        # A format that the engine or the card cannot do is a finding; a crash is not, and a resumed run tries it again.
        last = {v.variant: v.exit_state for v in self._writer.variants}
        ended = {name for name, state in last.items() if state in ("oom", "unsupported")}
        if self.study.baseline in self._failed or (self._failed and not self._writer.cells):
            return "failed"
        enough = _everywhere(self.study.starts * self.study.repeats)
        missing = [
            v.name
            for v in self.study.variants
            if v.name not in ended
            and (self._open(v.name, enough) or self._after.unjudged(v.name) or self._after.unstressed(v.name))
        ]
        return "interrupted" if missing else "complete"

    def _repeats_done(self) -> Counter[tuple[str, str, str]]:
        return Counter((c.variant, c.workload, c.load) for c in self._writer.cells)

    # -- variants ------------------------------------------------------------------------------------------------

    async def _all_rounds(self, engine: Engine, work: Path) -> str:
        """Server starts in rounds, every variant once a round; returns what ended the run."""
        for number in range(1, self.study.starts + 1):
            await self._round(engine, work, number, _everywhere(number * self.study.repeats))
        enough = _everywhere(self.study.starts * self.study.repeats)
        # The baseline's second pass: another start.
        for number in range(self.study.starts + 1, self._after.passes() + 1):
            await self._round(engine, work, number, enough)
        # A server that broke on one ladder is started anew for the other: by then only these starts are left.
        last = max(self.study.starts, self._after.passes())
        for number in range(last + 1, last + 3) if self._stress else ():
            await self._round(engine, work, number, enough)
        if self._until_precise is None:
            return "all that was planned is measured"
        return await self._extra_rounds(engine, work, self._until_precise)

    async def _extra_rounds(self, engine: Engine, work: Path, target: float) -> str:
        """Go on with what is not known well enough: those variants and the baseline, those cells."""
        for extra in range(1, _MOST_EXTRA_ROUNDS + 1):
            left = [i for i in imprecise(self.study, self._writer.cells, target) if not self._ended(i.variant)]
            if not left:
                return f"every ratio is known to {target:.1%}"
            widest = max(left, key=lambda i: i.half_width)
            self._view.say(
                f"{len(left)} ratios are not known to {target:.1%} yet, least {widest.variant} {widest.workload} "
                f"{widest.load} (±{widest.half_width:.1%}): extra round {extra}"
            )
            cells = {(i.workload, i.load) for i in left}
            variants = {i.variant for i in left} | {self.study.baseline}
            done = self._repeats_done()

            def wanted(variant: str, workload: str, load: str) -> int:
                more = self.study.repeats if variant in variants and (workload, load) in cells else 0  # noqa: B023
                return done[(variant, workload, load)] + more  # noqa: B023

            await self._round(engine, work, self.study.starts + extra, wanted)
        return f"{_MOST_EXTRA_ROUNDS} extra rounds were not enough for {target:.1%}"

    async def _round(self, engine: Engine, work: Path, number: int, wanted: WantedOf) -> None:
        for name in order(self.study, number):
            if (self._only and name not in self._only) or self._ended(name):
                continue
            if not (self._open(name, wanted) or self._after.unjudged(name, number) or self._after.stress_due(name)):
                continue
            self._budget.keep(self._longest_start_s)
            variant = self.study.variant(name)
            start = max((v.start for v in self._writer.variants if v.variant == name), default=0) + 1
            self._view.say(f"{name}: server start {start}, round {number}")
            await self._one_start(engine, variant, start, functools.partial(wanted, name), work)

    def _ended(self, variant: str) -> bool:
        """Whether its last start says that it cannot be served here: it is not tried again."""
        past = [v for v in self._writer.variants if v.variant == variant]
        return variant in self._failed or (bool(past) and past[-1].exit_state in ("oom", "unsupported"))

    def _open(self, variant: str, wanted: WantedOf) -> bool:
        """Whether a variant has cells that are still to be measured."""
        done = self._repeats_done()
        mine = [c for c in self._writer.cells if c.variant == variant]
        for workload in self.study.workloads:
            found = probes(mine, workload) if workload.search != "none" else []
            if workload.search != "none" and next_load(workload, found) is not None:
                return True
            loads = workload.loads() if workload.search == "none" else settled(workload, found)
            for load in loads:
                if done[(variant, workload.name, load.name)] < wanted(variant, workload.name, load.name):
                    return True
        return False

    async def _one_start(self, engine: Engine, variant: Variant, start: int, wanted: Wanted, work: Path) -> None:
        """One life of the server: its row is in variants.csv whatever happens to it."""
        row = first_row(variant, start, engine.name)
        log_path = work / f"{variant.name}-{start}.log"
        row.vram_idle_mib, peak = self._card.used_mib(), None
        self._view.now(f"{variant.name}: starting {engine.name}")
        server: Server | None = None
        try:
            with self._card.sampled(self._writer.add_telemetry, self._now) as sampler:
                try:
                    began = time.monotonic()
                    server = await engine.start(self._request(variant, log_path, work))
                    self._longest_start_s = max(self._longest_start_s, time.monotonic() - began)
                    row.exit_state = "ok"  # it serves; what happens from here on may change that
                    self._describe(row, server, variant)
                    self._writer.set_variant(rounded(row))
                    await self._measure(server, variant, row, start, wanted)
                    peak = sampler.peak_mib if sampler else None  # what the stress takes is no part of it
                    await self._after.push(server, variant.name, start, log_path)
                except StartFailed as e:
                    row.exit_state = e.exit_state  # type: ignore[assignment]
                    row.argv = json.dumps(redact_argv(e.argv))
                    self._note_failure(row, e, e.log_tail)
                except QuantcaseError as e:
                    row.exit_state = "crash"
                    self._note_failure(row, e, log_tail(log_path))
                except asyncio.CancelledError:
                    row.error = "stopped by the user"
                    raise
                finally:
                    if server is not None:
                        try:
                            self._describe(row, server, variant)
                        finally:  # whatever cannot be read of it: it is ended
                            await asyncio.shield(server.stop())
        finally:
            row.vram_peak_mib = peak or (sampler.peak_mib if sampler else None)
            self._writer.set_variant(rounded(row))
            if log_path.is_file():
                self._writer.add_log(variant.name, start, redact(log_path.read_text("utf-8", "replace")) + "\n")
            await asyncio.shield(self._card.released(row.vram_idle_mib, self._view.say))

    def _request(self, variant: Variant, log_path: Path, work: Path) -> ServeRequest:
        return ServeRequest(
            study=self.study,
            variant=variant,
            spec=self.study.engine,
            port=self._port or free_port(),
            log_path=log_path,
            work=work,
            say=self._view.say,
        )

    def _now(self) -> float:
        """Seconds since the bundle was created."""
        return time.monotonic() - self._zero

    def _note_failure(self, row: VariantRow, e: QuantcaseError, tail: list[str]) -> None:
        row.error = redact(e.problem)
        if self._after.stress_due(row.variant):  # all else of it is measured: for the stress alone a run does not fail
            self._view.say(f"{row.variant} was not stressed ({row.exit_state}): {redact(str(e))}")
            return
        why = self._failed[row.variant] = redact(str(e)).removeprefix(f"{row.variant}: ")
        self._log_tail = [redact(line) for line in tail]
        self._view.say(f"{row.variant} failed ({row.exit_state}): {why}")

    def _describe(self, row: VariantRow, server: Server, variant: Variant) -> None:
        """Everything that the engine says of itself, into its row; loud when what was asked for was not applied."""
        baseline = None if variant.name == self.study.baseline else self._baseline_facts()
        describe(row, server, baseline)
        if row.vram_loaded_mib is None:
            row.vram_loaded_mib = self._card.used_mib()
        if row.kernel_class == "not_applied" and variant.name not in self._warned:
            self._warned.add(variant.name)
            self._view.say(f"WARNING {row.variant}: {row.method} was asked for and was NOT applied by the engine")

    def _baseline_facts(self) -> EngineFacts | None:
        for row in self._writer.variants:
            if row.variant == self.study.baseline and row.exit_state == "ok":
                return EngineFacts(engine=row.engine, weights_gib=row.weights_gib, kernel_path=row.kernel_path)
        return None

    # -- measuring -----------------------------------------------------------------------------------------------

    async def _measure(self, server: Server, variant: Variant, row: VariantRow, start: int, wanted: Wanted) -> None:
        extra = getattr(server, "extra_body", None)
        client = Client(
            server.base_url, server.model, extra_body=extra, api_key=self._api_key, workers=self._load_workers
        )
        maker = PromptMaker(self.study, await self._calibration(client))
        first = await client.ask(self.study.workloads[0].api, maker.words(16, f"first/{variant.name}/{start}"), 16)
        if first.input_tokens is None:
            raise QuantcaseError(f"{variant.name}: the first request failed: {first.error}", fix="see the engine's log")
        if row.healthy_s is not None and first.ttft_ms is not None:
            row.first_token_s = row.healthy_s + first.ttft_ms / 1000
        async with contextlib.AsyncExitStack() as stack:
            scraper = None
            if server.metrics_path:
                url = server.base_url + server.metrics_path
                scraper = MetricsScraper(
                    url, self._writer.add_engine_metrics, variant=variant.name, start=start, clock=self._now
                )
                await stack.enter_async_context(scraper)
            visit = Visit(
                study=self.study, variant=variant.name, start=start, server=server, client=client, maker=maker,
                scraper=scraper, writer=self._writer, budget=self._budget, pace=self._pace, view=self._view,
                zero=self._zero, wanted=wanted,
            )  # fmt: skip
            await visit.measure()
            await self._after.load_test(server, variant.name, client)
        await self._after.judge(server, variant.name, start)

    async def _calibration(self, client: Client) -> Calibration:
        """Taken once a bundle, so that every variant and every resumed run gets the same prompts."""
        path = self._writer.folder / _PROMPTS
        if path.is_file():
            return msgspec.json.decode(path.read_bytes(), type=Calibration)
        calibration = await calibrate(client, self.study)
        manifests.write_atomic(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
        return calibration


def _everywhere(repeats: int) -> WantedOf:
    def wanted(_variant: str, _workload: str, _load: str) -> int:
        return repeats

    return wanted
