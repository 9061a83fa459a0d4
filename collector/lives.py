"""One life of a server, from its start to an empty card: what it says of itself, what it is asked, how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from collector import cards
from collector.after import After
from collector.budget import Budget
from collector.bundle import manifest as manifests
from collector.bundle.schema import VariantRow, rounded
from collector.bundle.write import BundleWriter
from collector.card import Card
from collector.describe import describe, log_tail
from collector.due import WantedOf
from collector.engines.base import Engine, EngineFacts, Server, ServeRequest, StartFailed
from collector.engines.process import free_port
from collector.errors import QuantcaseError
from collector.gpus import GpuProfile
from collector.load.measure import Client, calibrate
from collector.load.prompts import Calibration, PromptMaker
from collector.load.workers import Workers
from collector.probes.metrics import MetricsScraper
from collector.probes.nvml import Gpus
from collector.probes.redact import redact, redact_argv
from collector.progress import View
from collector.side_by_side import Company
from collector.study import Study, Variant
from collector.visit import Pace, Visit

__all__ = ["Lives"]

_PROMPTS = "prompts.json"


@dataclass(kw_only=True)
class Lives:
    """What all server starts of a run have in common, and what came of those that there were.

    Args:
        work: scratch folder of this run.
        zero: the monotonic time that stands for 0 s in the bundle.
        port: fixed port of the engine; 0 takes a free one.
        senders: processes that send together to one server; with `shared_senders` the same for all servers.
        apart: each server's load is sent by processes of its own, even where one does: what this process does between
            the repeats of one server (taking replies apart, writing) would make the stamps of another's late.
    """

    study: Study
    profile: GpuProfile
    engine: Engine
    gpus: Gpus
    writer: BundleWriter
    view: View
    budget: Budget
    work: Path
    zero: float
    port: int = 0
    api_key: str | None = None
    senders: int = 1
    apart: bool = False
    shared_senders: Workers | None = None
    after: After = field(init=False)
    pace: Pace = field(default_factory=Pace)
    failed: dict[str, str] = field(default_factory=dict)
    log_tail: list[str] = field(default_factory=list)
    longest_start_s: float = 0.0
    _warned: set[str] = field(default_factory=set)
    _ports: set[int] = field(default_factory=set)

    async def live(
        self, row: VariantRow, own: tuple[int, ...], wanted: WantedOf, company: Company | None = None
    ) -> None:
        """One life of the server: its row is in variants.csv whatever happens to it."""
        variant, start, company = self.study.variant(row.variant), row.start, company or Company(1)
        card = Card(self.gpus, *(own if self.profile.kind == "gpu" else ()))
        row.gpu_indices = "|".join(str(i) for i in card.indices) or None
        log_path = self.work / f"{variant.name}-{start}.log"
        row.vram_idle_mib, peak, fullest = card.used_mib(), None, None
        self.view.now(f"{variant.name}: starting {self.engine.name}")
        server: Server | None = None
        try:
            with card.sampled(self.writer.add_telemetry, self._now) as sampler:
                try:
                    try:
                        async with company.starting:
                            server = await self.serve(self.request(variant, own, log_path))
                    finally:
                        company.arrived(serves=server is not None)
                    row.exit_state = "ok"  # it serves; what happens from here on may change that
                    self._describe(row, server, variant, card)
                    self.writer.set_variant(rounded(row))
                    await company.together()
                    await self._measure(server, variant, row, wanted, company)
                    if sampler:  # what the stress takes is no part of it
                        peak, fullest = sampler.peak_mib, sampler.fullest_mib
                    await self.after.push(server, variant.name, start, log_path)
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
                        company.leave()
                        try:
                            self._describe(row, server, variant, card)
                        finally:  # whatever cannot be read of it: it is ended
                            await asyncio.shield(server.stop())
        finally:
            row.vram_peak_mib = peak or (sampler.peak_mib if sampler else None)
            row.vram_peak_fullest_mib = fullest or (sampler.fullest_mib if sampler else None)
            self.writer.set_variant(rounded(row))
            if log_path.is_file():
                self.writer.add_log(variant.name, start, redact(log_path.read_text("utf-8", "replace")) + "\n")
            await asyncio.shield(card.released(row.vram_idle_mib, self.view.say))

    async def serve(self, request: ServeRequest) -> Server:
        """A server that serves; how long that took counts for the next start."""
        began = time.monotonic()
        server = await self.engine.start(request)
        self.longest_start_s = max(self.longest_start_s, time.monotonic() - began)
        return server

    def request(self, variant: Variant, own: tuple[int, ...], log_path: Path) -> ServeRequest:
        """What the engine is asked for: that variant, on those GPUs."""
        spec = self.study.engine
        shown = cards.seen_by_engine(self.gpus, own, variant, {**spec.env, **variant.env})
        port = self.port or free_port()
        while not self.port and port in self._ports:  # one given out lately may not be listened on yet
            port = free_port()
        self._ports.add(port)
        return ServeRequest(
            study=self.study,
            variant=msgspec.structs.replace(variant, env={**variant.env, **shown}) if shown else variant,
            spec=spec,
            port=port,
            log_path=log_path,
            work=self.work,
            say=self.view.say,
        )

    def _now(self) -> float:
        """Seconds since the bundle was created."""
        return time.monotonic() - self.zero

    def _note_failure(self, row: VariantRow, e: QuantcaseError, tail: list[str]) -> None:
        row.error = redact(e.problem)
        if self.after.stress_due(row.variant):  # all else of it is measured: for the stress alone a run does not fail
            self.view.say(f"{row.variant} was not stressed ({row.exit_state}): {redact(str(e))}")
            return
        why = self.failed[row.variant] = redact(str(e)).removeprefix(f"{row.variant}: ")
        self.log_tail[:] = [redact(line) for line in tail]
        self.view.say(f"{row.variant} failed ({row.exit_state}): {why}")

    def _describe(self, row: VariantRow, server: Server, variant: Variant, card: Card) -> None:
        """Everything that the engine says of itself, into its row; loud when what was asked for was not applied."""
        baseline = None if variant.name == self.study.baseline else self._baseline_facts()
        describe(row, server, baseline)
        if row.vram_loaded_mib is None:
            row.vram_loaded_mib = card.used_mib()
        if row.kernel_class == "not_applied" and variant.name not in self._warned:
            self._warned.add(variant.name)
            self.view.say(f"WARNING {row.variant}: {row.method} was asked for and was NOT applied by the engine")

    def _baseline_facts(self) -> EngineFacts | None:
        for row in self.writer.variants:
            if row.variant == self.study.baseline and row.exit_state == "ok":
                return EngineFacts(engine=row.engine, weights_gib=row.weights_gib, kernel_path=row.kernel_path)
        return None

    # -- measuring -----------------------------------------------------------------------------------------------

    async def client(self, server: Server, stack: contextlib.AsyncExitStack) -> Client:
        """A client of that server, with senders of its own where they are not shared."""
        senders = self.shared_senders
        if senders is None and (self.senders > 1 or self.apart):
            senders = await stack.enter_async_context(Workers(self.senders))
        extra = getattr(server, "extra_body", None)
        return Client(server.base_url, server.model, extra_body=extra, api_key=self.api_key, workers=senders)

    async def _measure(
        self, server: Server, variant: Variant, row: VariantRow, wanted: WantedOf, company: Company
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await self._measure_with(await self.client(server, stack), server, variant, row, wanted, company)
        await self.after.judge(server, variant.name, row.start)

    async def _measure_with(
        self, client: Client, server: Server, variant: Variant, row: VariantRow, wanted: WantedOf, company: Company
    ) -> None:
        start = row.start
        maker = PromptMaker(self.study, await self.calibration(client))
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
                    url, self.writer.add_engine_metrics, variant=variant.name, start=start, clock=self._now
                )
                await stack.enter_async_context(scraper)
            visit = Visit(
                study=self.study, variant=variant.name, start=start, server=server, client=client, maker=maker,
                scraper=scraper, writer=self.writer, budget=self.budget, pace=self.pace, view=self.view,
                zero=self.zero, wanted=functools.partial(wanted, variant.name), others=lambda: company.others,
            )  # fmt: skip
            await visit.measure()
            await self.after.load_test(server, variant.name, client)

    async def calibration(self, client: Client) -> Calibration:
        """How many words make how many tokens: taken once a bundle, so that every variant has the same prompts."""
        path = self.writer.folder / _PROMPTS
        if path.is_file():
            return msgspec.json.decode(path.read_bytes(), type=Calibration)
        calibration = await calibrate(client, self.study)
        manifests.write_atomic(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
        return calibration
