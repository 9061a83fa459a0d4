"""One cell of a study on a running server: warm-up, repeats, rows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from collector.bundle import metrics
from collector.bundle.schema import CellRow, ChunkGapRow, ClientCell, RequestRow, rounded
from collector.errors import QuantcaseError
from collector.load.closed_loop import AnyConnection, LoopReport, gap_histogram, run_closed_loop
from collector.load.prompts import Calibration, PromptMaker
from collector.load.secure import SecureConnection
from collector.load.stream import Outcome, read_exchange
from collector.load.wire import Connection, Target, build_request
from collector.study import Load, Study, Workload

__all__ = ["Client", "Measured", "calibrate"]

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
    """

    def __init__(
        self, base_url: str, model: str, *, extra_body: dict[str, Any] | None = None, api_key: str | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.extra_body = extra_body or {}
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._plain = self.base_url.startswith("http://")

    @contextlib.asynccontextmanager
    async def _connections(self, count: int, api: str) -> AsyncIterator[list[AnyConnection]]:
        if self._plain:
            target = Target.of(self.base_url)
            yield [Connection(target) for _ in range(count)]
            return
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
            url = self.base_url + _PATHS[api]
            headers = {"Content-Type": "application/json", **self._headers}
            yield [SecureConnection(session, url, headers) for _ in range(count)]

    def _request(self, api: str, prompt: str, output_tokens: int) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": output_tokens,
            "min_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            **self.extra_body,
        }
        if api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        data = msgspec.json.encode(body)
        return build_request(Target.of(self.base_url), _PATHS[api], data, self._headers) if self._plain else data

    async def _loop(self, api: str, prompts: list[str], output_tokens: int, slots: int, timeout_s: float) -> LoopReport:
        requests = [self._request(api, p, output_tokens) for p in prompts]
        async with self._connections(slots, api) as connections:
            return await run_closed_loop(connections, requests, timeout_s)

    async def ask(self, api: str, prompt: str, output_tokens: int, timeout_s: float = 300.0) -> Outcome:
        """One request by itself (calibration, first token after start-up)."""
        try:
            report = await self._loop(api, [prompt], output_tokens, 1, timeout_s)
        except OSError as e:
            return Outcome(status="error", error=f"cannot connect: {e.strerror or e}")
        return read_exchange(report.exchanges[0])

    async def warm_up(self, maker: PromptMaker, workload: Workload, load: Load) -> Outcome | None:
        """Load the server with other prompts than the measured ones; returns the first outcome that was not ok."""
        concurrency = load.concurrency or 1
        count = workload.warmup_requests * concurrency
        prompts = [maker.prompt(workload, load.name, 0, i, warmup=True) for i in range(count)]
        report = await self._loop(
            workload.api, prompts, workload.output_tokens, concurrency, workload.request_timeout_s
        )
        outcomes = (read_exchange(e) for e in report.exchanges)
        return next((o for o in outcomes if o.status != "ok"), None)

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
    ) -> Measured:
        """Measure one repeat. `zero` is the monotonic time that stands for 0 s in the bundle.

        `prompts_of` numbers the set of prompts: no two repeats of a cell share one, over all server starts.
        """
        concurrency = load.concurrency or 1
        prompts = [maker.prompt(workload, load.name, prompts_of, i) for i in range(workload.requests(load))]
        report = await self._loop(
            workload.api, prompts, workload.output_tokens, concurrency, workload.request_timeout_s
        )
        # Everything is parsed here, after the last stream has ended.
        key: dict[str, Any] = {
            "variant": variant, "start": start, "workload": workload.name, "load": load.name, "repeat": repeat,
        }  # fmt: skip
        outcomes = [read_exchange(e) for e in report.exchanges]
        requests = [
            rounded(
                RequestRow(
                    **key,
                    index=i,
                    started_s=exchange.sent_s - zero,
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
                )
            )
            for i, (exchange, out) in enumerate(zip(report.exchanges, outcomes, strict=True))
        ]
        histogram = gap_histogram([g for o in outcomes if o.status == "ok" for g in o.gaps_ms])
        ok = [o for o in outcomes if o.status == "ok"]
        chunks = sum(len(o.content_ms) for o in ok)
        return Measured(
            requests=requests,
            gaps=[ChunkGapRow(**key, upper_ms=edge, count=n) for edge, n in histogram.items()],
            cell=metrics.cell(requests, load, workload),
            client=ClientCell(
                **key,
                loop_lag_ms_p50=_round(metrics.percentile(report.lag_ms, 50)),
                loop_lag_ms_p99=_round(metrics.percentile(report.lag_ms, 99)),
                cpu_pct=round(report.cpu_pct, 1),
                tokens_per_chunk=round(sum(o.output_tokens or 0 for o in ok) / chunks, 4) if chunks else None,
                concurrency_asked=concurrency,
                concurrency_reached=report.reached,
            ),
            first_error=next((o.error for o in outcomes if o.status != "ok"), None),
        )


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
