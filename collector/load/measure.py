"""One cell of a study on a running server: warm-up, repeats, rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from collector.bundle import metrics
from collector.bundle.schema import CellRow, ChunkGapRow, ClientCell, RequestRow, rounded
from collector.errors import QuantcaseError
from collector.load.gaps import gap_histogram
from collector.load.prompts import Calibration, Prompt, PromptMaker
from collector.load.pulse import NO_CONNECTION, Pulse, watch
from collector.load.schedule import arrivals
from collector.load.shots import Job, Shot, Shots, shoot
from collector.load.stream import Outcome
from collector.load.workers import Workers
from collector.study import Load, Study, Workload

__all__ = ["Client", "Measured", "calibrate"]

_WARM_UP_STREAMS = 16  # of an open loop
_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


class Measured(msgspec.Struct):
    """One repeat of one cell, ready for the bundle."""

    requests: list[RequestRow]
    gaps: list[ChunkGapRow]
    cell: CellRow
    client: ClientCell
    first_error: str | None


class Client:
    """Talks to one server on behalf of one variant.

    Args:
        base_url: scheme, host and port (and prefix), no `/v1`.
        model: the name that requests carry.
        extra_body: keys that this engine needs in every request.
        api_key: sent as a bearer token; never stored.
        workers: processes that send together; without them this process sends.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        extra_body: dict[str, Any] | None = None,
        api_key: str | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.extra_body = extra_body or {}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._workers = workers

    def _request(self, api: str, prompt: Prompt, output_tokens: int, natural: bool = False) -> bytes:
        """The body of one request. Exact lengths unless `natural`, which lets the model end its answer."""
        exact = {} if natural else {"min_tokens": output_tokens, "ignore_eos": True}
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": output_tokens,
            **exact,
            "temperature": 0,
            **self.extra_body,
        }
        if api != "chat":
            body["prompt"] = prompt
        elif isinstance(prompt, str):
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["messages"] = prompt
        return msgspec.json.encode(body)

    def _job(self, workload: Workload, prompts: list[Prompt], slots: int, due_s: list[float] | None = None) -> Job:
        bodies = [self._request(workload.api, p, workload.output_tokens, workload.natural_length) for p in prompts]
        path, timeout_s = _PATHS[workload.api], workload.request_timeout_s
        return Job(self.base_url, path, self._headers, bodies, slots, timeout_s, due_s)

    async def ask(self, api: str, prompt: str, output_tokens: int, timeout_s: float = 300.0) -> Outcome:
        """One request by itself (calibration, first token after start-up)."""
        body = self._request(api, prompt, output_tokens)
        job = Job(self.base_url, _PATHS[api], self._headers, [body], 1, timeout_s)
        try:
            return (await shoot(job, keep_text=True)).shots[0].outcome
        except OSError as e:
            return Outcome(status="error", error=f"{NO_CONNECTION}: {e.strerror or e}")

    async def warm_up(self, maker: PromptMaker, workload: Workload, load: Load) -> list[Outcome]:
        """Load the server with other prompts than the measured ones; returns what came of each.

        Raises:
            OSError: the server takes no connections at all.
        """
        slots = load.concurrency or _WARM_UP_STREAMS
        count = workload.warmup_requests * slots
        prompts = maker.prompts(workload, load.name, 0, count, width=slots, warmup=True)
        shots = await shoot(self._job(workload, prompts, slots))
        return [s.outcome for s in shots.shots]

    async def repeat(
        self,
        maker: PromptMaker,
        workload: Workload,
        load: Load,
        *,
        variant: str,
        start: int,
        repeat: int,
        zero: float,
        prompts_of: int,
        counters: Callable[[], object] = lambda: None,
        say: Callable[[str], object] = lambda _words: None,
    ) -> Measured:
        """Measure one repeat. `zero` is the monotonic time that stands for 0 s in the bundle.

        `prompts_of` numbers the set of prompts: no two repeats of a cell share one, over all server starts.
        `counters` is what the engine counts, as last read, and `say` hears of an engine that was silent and lives.

        Raises:
            OSError: the server takes no connections at all.
            Hung: a closed loop's engine hangs; see `collector.load.pulse` for the rule.
        """
        due = None
        if load.concurrency is None:
            due = arrivals(workload, load, f"{maker.seed}/{workload.name}/{load.name}/{prompts_of}")
        count = workload.requests(load) if due is None else len(due)
        prompts = maker.prompts(workload, load.name, prompts_of, count, width=load.concurrency or _WARM_UP_STREAMS)
        job = self._job(workload, prompts, load.concurrency or 1, due)

        async def alone() -> bool:
            words = maker.words(16, f"alone/{variant}/{start}/{workload.name}/{load.name}/{prompts_of}")
            try:
                async with asyncio.timeout(workload.request_timeout_s + 1):  # connecting has no limit of its own
                    out = await self.ask(workload.api, words, 2, workload.request_timeout_s)
            except TimeoutError:
                return False
            refused = out.status == "error" and not (out.error or "").startswith(NO_CONNECTION)
            return refused or out.first_chunk_ms is not None

        shots = await self._shoot(job, alone, counters, say)
        key: dict[str, Any] = {
            "variant": variant, "start": start, "workload": workload.name, "load": load.name, "repeat": repeat,
        }  # fmt: skip
        requests = [_request_row(key, shot, zero) for shot in shots.shots]
        ok = [s.outcome for s in shots.shots if s.outcome.status == "ok"]
        histogram = gap_histogram([g for o in ok for g in o.gaps_ms])
        cell = metrics.cell(requests, load, workload)
        return Measured(
            requests=requests,
            gaps=[ChunkGapRow(**key, upper_ms=edge, count=n) for edge, n in histogram.items()],
            cell=cell,
            client=_client_cell(key, shots, ok, load, cell),
            first_error=next((s.outcome.error for s in shots.shots if s.outcome.status != "ok"), None),
        )

    async def _shoot(
        self,
        job: Job,
        alone: Callable[[], Coroutine[Any, Any, bool]],
        counters: Callable[[], object],
        say: Callable[[str], object],
    ) -> Shots:
        """The shots of a job; those of a closed loop while somebody watches whether the engine lives."""
        pulse = self._workers.pulse if self._workers else Pulse()
        load = asyncio.create_task(self._workers.shoot(job) if self._workers else shoot(job, place=pulse.place()))
        tasks: list[asyncio.Task[Any]] = [load]
        if job.due_s is None:
            tasks.append(asyncio.create_task(watch(pulse, job.timeout_s, alone=alone, counters=counters, say=say)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return load.result() if load in done else await tasks[-1]  # which has no other end than an exception
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _request_row(key: dict[str, Any], shot: Shot, zero: float) -> RequestRow:
    out = shot.outcome
    return rounded(
        RequestRow(
            **key,
            index=shot.number,
            started_s=shot.sent_s - zero,
            ttft_ms=out.ttft_ms,
            first_chunk_ms=out.first_chunk_ms,
            tpot_ms=out.tpot_ms,
            e2e_ms=out.e2e_ms,
            input_tokens=out.input_tokens,
            output_tokens=out.output_tokens,
            chunks=len(out.content_ms),
            finish_reason=out.finish_reason,
            status=out.status,  # type: ignore[arg-type]
            error=out.error,
            due_s=None if shot.due_s is None else shot.due_s - zero,
            cached_tokens=out.cached_tokens,
        )
    )


def _client_cell(key: dict[str, Any], shots: Shots, ok: list[Outcome], load: Load, cell: CellRow) -> ClientCell:
    chunks = sum(len(o.content_ms) for o in ok)
    tokens = sum(o.output_tokens or 0 for o in ok)
    seen = ClientCell(
        **key,
        loop_lag_ms_p50=_round(metrics.percentile(shots.lag_ms, 50)),
        loop_lag_ms_p99=_round(metrics.percentile(shots.lag_ms, 99)),
        cpu_pct=round(shots.cpu_pct, 1),
        tokens_per_chunk=round(tokens / chunks, 4) if chunks else None,
        concurrency_asked=load.concurrency,
        concurrency_reached=shots.reached(),
        usage_tokens=tokens,
        content_chunks=chunks,
        late_ms_p99=cell.late_ms_p99,
        workers=shots.workers,
    )
    seen.limited_by = metrics.client_limit(seen)
    seen.client_limited = seen.limited_by is not None
    return seen


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


async def calibrate(client: Client, study: Study) -> Calibration:
    """Ask the server how many tokens two prompts of known length hold.

    Raises:
        QuantcaseError: the server does not answer, or states no usage.
    """
    counts = []
    words = sorted({16, max(32, max(w.input_tokens for w in study.workloads) // 3)})
    for count in words:
        prompt = PromptMaker(study, Calibration()).words(count, f"calibrate/{count}")
        out = await client.ask(study.workloads[0].api, prompt, 2)
        if out.input_tokens is None:  # an answer without text is none to measure, but its usage still counts the prompt
            why = out.error or "it states no usage"
            raise QuantcaseError(f"{client.base_url}: the first request failed: {why}", fix=_hint(why))
        counts.append((count, out.input_tokens))
    return Calibration.of(counts[0], counts[1])


def _hint(error: str) -> str:
    if "HTTP 401" in error or "HTTP 403" in error:
        return "set QUANTCASE_API_KEY"
    if "HTTP 404" in error:
        return "check the URL (no /v1 at its end) and the model name"
    if "HTTP 5" in error:
        return "look at the server's log"
    if "ignore_eos" in error or "min_tokens" in error:
        return "the server must accept ignore_eos and min_tokens: exact output lengths need them"
    return "is it an OpenAI-compatible server?"
