"""The run: for each variant serve, warm up, measure, stop; every finished repeat is on disk before the next begins."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console

from collector.bundle import manifest as manifests
from collector.bundle.schema import Environment, Status, VariantRow, rounded
from collector.bundle.write import BundleWriter, bundle_name
from collector.describe import describe, first_row, log_tail
from collector.engines import registry
from collector.engines.base import Engine, EngineFacts, Server, ServeRequest, StartFailed
from collector.engines.process import free_port, port_is_free
from collector.errors import QuantcaseError
from collector.gpus import GpuProfile
from collector.load.measure import Client, calibrate
from collector.load.prompts import Calibration, PromptMaker
from collector.plan import for_profile
from collector.prepare import check_gpu
from collector.probes.environment import capture
from collector.probes.metrics import MetricsScraper
from collector.probes.nvml import Gpus
from collector.probes.redact import redact, redact_argv
from collector.probes.sampler import Sampler
from collector.progress import View
from collector.study import Load, Price, Study, Variant, Workload

__all__ = ["Outcome", "Run"]

_PROMPTS = "prompts.json"
_VRAM_RELEASE_S = 60.0
_VRAM_SLACK_MIB = 300.0


class Outcome(Struct):
    """How a run ended: where the bundle lies, its status, and the variants that failed with their reasons."""

    folder: Path
    status: Status
    failed: dict[str, str]
    log_tail: list[str]


class _OutOfTime(Exception):
    """The time that `--max-minutes` gave is over."""


class Run:
    """One run or its continuation.

    Args:
        study: resolved; for a resumed run the bundle's own study is used instead.
        only: variants that this invocation measures; empty means all.
        port: fixed port of the engine; 0 takes a free one.
        max_minutes: stop cleanly, resumable, when the next repeat may not fit.
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
        allow_other_gpu: bool = False,
        api_key: str | None = None,
    ) -> None:
        self.study = study
        self.profile = profile
        self._out = out
        self._resume = resume
        self._only = only
        self._port = port
        self._deadline = time.monotonic() + 60 * max_minutes if max_minutes else None
        self._allow_other_gpu = allow_other_gpu
        self._api_key = api_key
        self.folder: Path | None = resume
        self._failed: dict[str, str] = {}
        self._warned: set[str] = set()
        self._log_tail: list[str] = []
        self._longest_start_s = 0.0
        self._longest_s: defaultdict[tuple[str, str], float] = defaultdict(float)

    async def execute(self, console: Console) -> Outcome:
        """Measure everything that is not done yet, with progress on `console`.

        Raises:
            QuantcaseError: nothing could be started at all; no bundle is left behind then.
        """
        self._gpus = Gpus.open()
        self._gpu_index = check_gpu(self.profile, self._gpus, allow_other=self._allow_other_gpu)
        if self._port and not port_is_free(self._port):
            raise QuantcaseError(f"port {self._port} is in use", fix="choose another with --port, or leave it out")
        engine = registry.engine(self.study.engine.name)
        engine.check(self.study)
        self._writer = self._open_bundle(engine)
        self.folder = self._writer.folder
        wall, monotonic = time.time(), time.monotonic()
        self._zero = monotonic - (wall - self._writer.created().timestamp())
        planned = self._writer.manifest.quantcase.cells_planned
        status: Status = "interrupted"
        try:
            with View(console, planned, len(self._writer.cells)) as view:
                self._view = view
                view.say(f"bundle {self._writer.folder}")
                with tempfile.TemporaryDirectory(prefix="quantcase-") as work:
                    await self._all_variants(engine, Path(work))
            status = self._status()
        except _OutOfTime:
            status = "interrupted"
        finally:
            self._writer.close(status)
        return Outcome(self._writer.folder, status, self._failed, self._log_tail)

    # -- the bundle ----------------------------------------------------------------------------------------------

    def _open_bundle(self, engine: Engine) -> BundleWriter:
        if self._resume is not None:
            writer = BundleWriter.resume(self._resume)
            self.study = writer.study if self.study.engine.name != "endpoint" else self.study
        else:
            study = for_profile(self.study, self.profile)
            price = self.profile.price_usd_per_hour
            if study.price is None and price is not None and study.engine.name != "replay":
                quoted = Price(usd_per_hour=price.value, source=price.source, date=price.date)
                study = msgspec.structs.replace(study, price=quoted)
            self.study = study
            self._out.mkdir(parents=True, exist_ok=True)
            today = datetime.datetime.now(datetime.UTC).date()
            writer = BundleWriter.create(
                self._out / bundle_name(self._out, self.profile.name, study.id, today),
                study,
                grade=engine.grade,
                gpu=self.profile.name,
                cells_planned=len(study.variants) * len(study.cells()) * study.repeats,
                environment=Environment(gpu_asked=self.profile.name),
            )
        sessions = writer.environment.sessions
        sessions.append(capture(self._gpus, session=len(sessions) + 1))
        if self._gpu_index is not None:
            writer.environment.gpu_found = self._gpus.cards[self._gpu_index].name
        writer.save_documents()
        return writer

    def _status(self) -> Status:
        done = self._repeats_done()
        wanted = [(v.name, w.name, load.name) for v in self.study.variants for w, load in self.study.cells()]
        # A format that the engine or the card cannot do is a finding; a crash is not, and a resumed run tries it again.
        last = {v.variant: v.exit_state for v in self._writer.variants}
        ended = {name for name, state in last.items() if state in ("oom", "unsupported")}
        if not done or self.study.baseline in self._failed:
            return "failed"
        whole = all(done[key] >= self.study.repeats or key[0] in ended for key in wanted)
        return "complete" if whole else "interrupted"

    def _repeats_done(self) -> Counter[tuple[str, str, str]]:
        return Counter((c.variant, c.workload, c.load) for c in self._writer.cells)

    # -- variants ------------------------------------------------------------------------------------------------

    async def _all_variants(self, engine: Engine, work: Path) -> None:
        for number, variant in enumerate(self.study.variants, 1):
            if self._only and variant.name not in self._only:
                continue
            todo = self._todo(variant)
            past = [v for v in self._writer.variants if v.variant == variant.name]
            if not todo or (past and past[-1].exit_state in ("oom", "unsupported")):
                continue
            self._keep_to_time(self._longest_start_s)
            start = max((v.start for v in past), default=0) + 1
            self._view.say(f"variant {number} of {len(self.study.variants)}: {variant.name} (server start {start})")
            await self._one_start(engine, variant, start, todo, work)

    def _todo(self, variant: Variant) -> list[tuple[Workload, Load, int]]:
        """(workload, load, repeats still missing) of a variant."""
        done = self._repeats_done()
        missing = [(w, x, self.study.repeats - done[(variant.name, w.name, x.name)]) for w, x in self.study.cells()]
        return [m for m in missing if m[2] > 0]

    async def _one_start(
        self, engine: Engine, variant: Variant, start: int, todo: list[tuple[Workload, Load, int]], work: Path
    ) -> None:
        """One life of the server: its row is in variants.csv whatever happens to it."""
        row = first_row(variant, start, engine.name)
        log_path = work / f"{variant.name}-{start}.log"
        row.vram_idle_mib = self._used_mib()
        self._view.now(f"{variant.name}: starting {engine.name}")
        server: Server | None = None
        try:
            with self._sampler() as sampler:
                try:
                    began = time.monotonic()
                    server = await engine.start(self._request(variant, log_path, work))
                    self._longest_start_s = max(self._longest_start_s, time.monotonic() - began)
                    row.exit_state = "ok"  # it serves; what happens from here on may change that
                    self._describe(row, server, variant)
                    self._writer.set_variant(rounded(row))
                    await self._measure(server, variant, row, start, todo)
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
                        self._describe(row, server, variant)
                        await asyncio.shield(server.stop())
        finally:
            row.vram_peak_mib = sampler.peak_mib if sampler else None
            self._writer.set_variant(rounded(row))
            if log_path.is_file():
                self._writer.add_log(variant.name, start, redact(log_path.read_text("utf-8", "replace")) + "\n")
            await asyncio.shield(self._wait_for_vram(row.vram_idle_mib))

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

    @contextlib.contextmanager
    def _sampler(self) -> Iterator[Sampler | None]:
        if self._gpu_index is None:
            yield None
            return
        with Sampler(self._gpus, self._gpu_index, self._writer.add_telemetry, clock=self._now) as sampler:
            yield sampler

    def _note_failure(self, row: VariantRow, e: QuantcaseError, tail: list[str]) -> None:
        row.error = redact(e.problem)
        self._failed[row.variant] = redact(str(e))
        self._log_tail = [redact(line) for line in tail]
        self._view.say(f"{row.variant} failed ({row.exit_state}): {redact(str(e))}")

    def _describe(self, row: VariantRow, server: Server, variant: Variant) -> None:
        """Everything that the engine says of itself, into its row; loud when what was asked for was not applied."""
        baseline = None if variant.name == self.study.baseline else self._baseline_facts()
        describe(row, server, baseline)
        if row.vram_loaded_mib is None:
            row.vram_loaded_mib = self._used_mib()
        if row.kernel_class == "not_applied" and variant.name not in self._warned:
            self._warned.add(variant.name)
            self._view.say(f"WARNING {row.variant}: {row.method} was asked for and was NOT applied by the engine")

    def _baseline_facts(self) -> EngineFacts | None:
        for row in self._writer.variants:
            if row.variant == self.study.baseline and row.exit_state == "ok":
                return EngineFacts(engine=row.engine, weights_gib=row.weights_gib, kernel_path=row.kernel_path)
        return None

    # -- measuring -----------------------------------------------------------------------------------------------

    async def _measure(
        self, server: Server, variant: Variant, row: VariantRow, start: int, todo: list[tuple[Workload, Load, int]]
    ) -> None:
        extra = getattr(server, "extra_body", None)
        client = Client(server.base_url, server.model, extra_body=extra, api_key=self._api_key)
        calibration = await self._calibration(client)
        maker = PromptMaker(self.study, calibration)
        first = await client.ask(self.study.workloads[0].api, maker.words(16, f"first/{variant.name}/{start}"), 16)
        if first.input_tokens is None:
            raise QuantcaseError(f"{variant.name}: the first request failed: {first.error}", fix="see the engine's log")
        if row.healthy_s is not None and first.ttft_ms is not None:
            row.first_token_s = row.healthy_s + first.ttft_ms / 1000
        async with contextlib.AsyncExitStack() as stack:
            if server.metrics_path:
                url = server.base_url + server.metrics_path
                scraper = MetricsScraper(
                    url, self._writer.add_engine_metrics, variant=variant.name, start=start, clock=self._now
                )
                await stack.enter_async_context(scraper)
            warmed: set[tuple[str, str]] = set()
            # Repeats outside, cells inside: slow drift (heat, neighbours) falls on all cells alike.
            for repeat in range(1, self.study.repeats + 1):
                for workload, load, missing in todo:
                    if repeat <= missing:
                        place = (variant.name, start, workload, load, repeat)
                        await self._one_repeat(client, maker, place, warmed, server)

    async def _one_repeat(
        self,
        client: Client,
        maker: PromptMaker,
        place: tuple[str, int, Workload, Load, int],
        warmed: set[tuple[str, str]],
        server: Server,
    ) -> None:
        name, start, workload, load, repeat = place
        cell = (workload.name, load.name)
        self._keep_to_time(self._longest_s[cell])
        if cell not in warmed:
            self._view.now(f"{name} {workload.name} {load.name}: warming up")
            bad = await client.warm_up(maker, workload, load)
            if bad is not None and not server.alive():
                raise QuantcaseError(f"{name}: the engine died while warming up", fix="see the engine's log")
            warmed.add(cell)
        self._view.now(f"{name} {workload.name} {load.name}: repeat {repeat}")
        began = time.monotonic()
        # Prompts of a second server start differ from those of the first: repeats already done are not asked again.
        number = repeat + self.study.repeats * (start - 1)
        try:
            measured = await client.repeat(
                maker,
                workload,
                load,
                variant=name,
                start=start,
                repeat=repeat,
                zero=self._zero,
                prompts_of=number,
            )
        except OSError as e:
            raise QuantcaseError(f"{name}: cannot connect: {e.strerror or e}", fix="see the engine's log") from None
        self._longest_s[cell] = max(self._longest_s[cell], time.monotonic() - began)
        if not server.alive():
            raise QuantcaseError(f"{name}: the engine died during {workload.name} {load.name}", fix="see its log")
        if measured.cell.ok == 0:
            raise QuantcaseError(
                f"{name}: all {measured.cell.n} requests of {workload.name} {load.name} failed: {measured.first_error}",
                fix="see the engine's log",
            )
        self._writer.client.cells.append(measured.client)
        self._writer.add_repeat(measured.requests, measured.gaps, measured.cell)
        self._view.repeat_done(measured.cell, self.study.repeats)

    def _keep_to_time(self, needed_s: float) -> None:
        """Stop, resumable, when what comes next took longer last time than there is time left."""
        if self._deadline is not None and time.monotonic() + 1.2 * needed_s > self._deadline:
            self._view.say("time is up: closing the bundle so that it can be resumed")
            raise _OutOfTime

    async def _calibration(self, client: Client) -> Calibration:
        """Taken once a bundle, so that every variant and every resumed run gets the same prompts."""
        path = self._writer.folder / _PROMPTS
        if path.is_file():
            return msgspec.json.decode(path.read_bytes(), type=Calibration)
        calibration = await calibrate(client, self.study)
        manifests.write_atomic(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
        return calibration

    # -- the card ------------------------------------------------------------------------------------------------

    def _used_mib(self) -> float | None:
        return self._gpus.used_mib(self._gpu_index) if self._gpu_index is not None else None

    async def _wait_for_vram(self, idle_mib: float | None) -> None:
        """The next variant starts on an empty card, or its numbers would be of another card."""
        if idle_mib is None:
            return
        deadline = time.monotonic() + _VRAM_RELEASE_S
        while (used := self._used_mib()) is not None and used > idle_mib + _VRAM_SLACK_MIB:
            if time.monotonic() > deadline:
                self._view.say(f"WARNING {used - idle_mib:.0f} MiB of VRAM are still held after the engine was stopped")
                return
            await asyncio.sleep(0.25)
