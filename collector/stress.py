"""`collect run --stress`: push one running server up two ladders until something gives, and write down what it said.

The context ladder doubles the prompt from the study's longest one, stops once more just inside `context_tokens`, and
then goes beyond. The concurrency ladder doubles the requests in flight from the study's highest. A ladder ends at its
first bad step. A step is run once: two steps bracket a limit, they do not measure it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from collector.budget import Budget
from collector.bundle.schema import EngineMetricRow
from collector.bundle.stress import LADDERS, MOST_WORDS, After, Ladder, StressRow, Verdict, append_row, read_stress
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.load.measure import Client, Measured
from collector.load.prompts import PromptMaker
from collector.probes.metrics import MetricsScraper
from collector.probes.redact import redact
from collector.study import Load, Study, Workload

__all__ = ["MOST_CONCURRENCY", "Step", "Stress", "ladders", "left"]

MOST_CONCURRENCY = 1024
_OUTPUT_TOKENS = 32
_CONTEXT_CONCURRENCY = 4
_OPEN_LOOP_CONCURRENCY = 16  # where to begin when the study has no closed loop
_INSIDE = 0.9  # of the context: prompts are as long as asked for only on average
_BEYOND = 1.1  # times the context
_SPARE_FILES = 64
_PROBE_S = 10.0

_PREEMPTIONS = ("vllm:num_preemptions_total",)
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio")
_MEMORY = re.compile(r"out of memory|outofmemory|failed to allocate|cannot allocate|unable to allocate", re.IGNORECASE)
_TELLING = re.compile(r"error|exception|abort|assert|fatal|killed|signal|panic", re.IGNORECASE)


class Step(Struct, frozen=True):
    """One load of a ladder; the same for every variant."""

    ladder: Ladder
    number: int
    concurrency: int
    input_tokens: int
    output_tokens: int


def ladders(study: Study, most: int = MOST_CONCURRENCY) -> dict[Ladder, list[Step]]:
    """All steps of both ladders. `most` requests in flight is the top, or as many as this process may have files."""
    first, longest = study.workloads[0], _longest(study)
    short = min(first.output_tokens, _OUTPUT_TOKENS)
    at = max((c for w in study.workloads for c in w.concurrency), default=_OPEN_LOOP_CONCURRENCY)
    top = max(at, _room(most))
    flights = [at]
    while flights[-1] < top:
        flights.append(min(2 * flights[-1], top))
    answer = min(longest.output_tokens, _OUTPUT_TOKENS)
    lengths = _lengths(longest.input_tokens, answer, study.context_tokens)
    return {
        "context": [Step("context", i, _CONTEXT_CONCURRENCY, length, answer) for i, length in enumerate(lengths, 1)],
        "concurrency": [Step("concurrency", i, c, first.input_tokens, short) for i, c in enumerate(flights, 1)],
    }


def _longest(study: Study) -> Workload:
    return max(study.workloads, key=lambda w: w.input_tokens)


def _lengths(longest: int, answer: int, context: int) -> list[int]:
    inside = int(_INSIDE * (context - answer))
    lengths = [longest]
    while 2 * lengths[-1] <= inside:
        lengths.append(2 * lengths[-1])
    beyond = lengths[-1]
    while beyond <= _BEYOND * context:
        beyond *= 2
    if inside > _BEYOND * lengths[-1]:
        lengths.append(inside)
    return [*lengths, beyond]


def left(study: Study, rows: Sequence[StressRow], variant: str, most: int = MOST_CONCURRENCY) -> list[Ladder]:
    """The ladders of a variant that have no end yet: no bad step, and the top not reached."""
    planned = ladders(study, most)
    return [ladder for ladder in LADDERS if _next(planned[ladder], rows, variant) is not None]


def _next(steps: Sequence[Step], rows: Sequence[StressRow], variant: str) -> Step | None:
    """The step that comes next; None when the ladder has its end."""
    mine = [r for r in rows if r.variant == variant and r.ladder == steps[0].ladder]
    if any(r.verdict != "good" for r in mine) or len(mine) >= len(steps):
        return None
    return steps[len(mine)]


def _room(wanted: int) -> int:
    """How many connections this process may hold, its soft limit of open files raised as far as the hard one goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        with contextlib.suppress(ValueError, OSError):
            allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft - _SPARE_FILES))


class Stress:
    """Climbs both ladders on one server. Rows are written to `folder` as they come.

    Args:
        client: without workers, so that a step may be cut off.
        log_path: the engine's log, for its last words; None for an endpoint.
        most: requests in flight at the top of the concurrency ladder.
        step_s: no step takes longer; a request has a third of it, or the workload's own timeout.
        recover_s: how long a server may take to answer again after a bad step.
        grace_s: how long nobody may listen on its port before it counts as gone.
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
        folder: Path,
        budget: Budget | None = None,
        say: Callable[[str], None] = lambda _line: None,
        log_path: Path | None = None,
        most: int = MOST_CONCURRENCY,
        step_s: float = 600.0,
        recover_s: float = 30.0,
        grace_s: float = 5.0,
    ) -> None:
        self._study, self._variant, self._start = study, variant, start
        self._server, self._client, self._maker = server, client, maker
        self._folder, self._budget, self._say, self._log_path = folder, budget, say, log_path
        self._most, self._step_s, self._recover_s, self._grace_s = most, step_s, recover_s, grace_s
        self._scraper: MetricsScraper | None = None
        self._kv_usage: float | None = None
        self._last_s = 0.0
        self._probes = 0

    async def climb(self) -> bool:
        """Climb what has no end yet. True when both ladders have one; False when the server is lost before that, and
        another start must go on.

        Raises:
            OutOfBudget: the next step may not fit into what the run may spend.
            QuantcaseError: this client, not the server, has come to its end.
        """
        planned = ladders(self._study, self._most)
        async with contextlib.AsyncExitStack() as stack:
            if self._server.metrics_path:
                url = self._server.base_url + self._server.metrics_path
                self._scraper = MetricsScraper(url, self._note_usage, variant=self._variant, start=self._start, hz=4.0)
                await stack.enter_async_context(self._scraper)
            for ladder in LADDERS:
                while (step := _next(planned[ladder], read_stress(self._folder), self._variant)) is not None:
                    if self._budget is not None:
                        self._budget.keep(2 * self._last_s)
                    began = time.monotonic()
                    row = await self._one(step)
                    self._last_s = time.monotonic() - began
                    append_row(self._folder, row)
                    self._tell(row)
                    if row.after in ("gone", "silent"):
                        return not left(self._study, read_stress(self._folder), self._variant, self._most)
        return True

    def _tell(self, row: StressRow) -> None:
        place = f"{row.concurrency} in flight, {row.input_tokens} tokens in"
        words = f": {row.words}" if row.words else ""
        after = {"silent": "; it does not answer any more", "gone": "; the server is gone"}.get(row.after, "")
        self._say(f"{row.variant} stress {row.ladder}, {place}: {row.verdict.replace('_', ' ')}{words}{after}")

    # -- one step ------------------------------------------------------------------------------------------------

    def _workload(self, step: Step) -> Workload:
        """Random words of that length; limits and patience are those of the workload that the ladder begins with."""
        like = self._study.workloads[0] if step.ladder == "concurrency" else _longest(self._study)
        return Workload(
            name=f"stress-{step.ladder}-{step.input_tokens}", api=like.api,
            input_tokens=step.input_tokens, output_tokens=step.output_tokens, concurrency=[step.concurrency],
            requests_per_stream=2, min_requests=2 * _CONTEXT_CONCURRENCY,
            request_timeout_s=min(like.request_timeout_s, self._step_s / 3),
            ttft_limit_ms=like.ttft_limit_ms, tpot_limit_ms=like.tpot_limit_ms, e2e_limit_ms=like.e2e_limit_ms,
        )  # fmt: skip

    async def _one(self, step: Step) -> StressRow:
        workload, load = self._workload(step), Load.closed(step.concurrency)
        before, log_at = await self._preempted(), self._log_size()
        self._kv_usage = None
        measured, problem, late = None, "", False
        try:
            async with asyncio.timeout(self._step_s):
                measured = await self._client.repeat(
                    self._maker, workload, load,
                    variant=self._variant, start=self._start, repeat=step.number, zero=0.0, prompts_of=self._start,
                )  # fmt: skip
        except TimeoutError:
            problem, late = f"the step had no end within {self._step_s:g} s", True
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE):
                raise QuantcaseError(
                    f"{step.concurrency} connections are more than this client may open", fix="raise ulimit -n"
                ) from None
            problem = f"cannot connect: {e.strerror or e}"
        after = await self._preempted()
        row = self._row(step, measured, workload.requests(load), late=late)
        row.kv_usage_max = self._kv_usage
        if before is not None and after is not None and after >= before:
            row.preemptions = round(after - before)
        verdict, words = self._verdict(row, measured, workload, problem)
        if verdict != "good" or not self._server.alive():
            row.after = await self._after(workload.api)
        if row.after == "gone":
            verdict, words = "died", self._last_words(log_at) or words
        row.verdict, row.words = verdict, _short(words)
        return row

    def _row(self, step: Step, measured: Measured | None, n: int, *, late: bool) -> StressRow:
        row = StressRow(
            variant=self._variant, start=self._start, ladder=step.ladder, step=step.number,
            concurrency=step.concurrency, input_tokens=step.input_tokens, output_tokens=step.output_tokens,
            n=n, ok=0, errors=0 if late else n, timeouts=n if late else 0, verdict="good",
        )  # fmt: skip
        if measured is not None:
            cell = measured.cell
            row.n, row.ok, row.errors, row.timeouts = cell.n, cell.ok, cell.errors, cell.timeouts
            row.throughput_tok_s = cell.throughput_tok_s if cell.ok else None
            row.ttft_ms_p95, row.tpot_ms_p95 = cell.ttft_ms_p95, cell.tpot_ms_p95
        return row

    def _verdict(
        self, row: StressRow, measured: Measured | None, workload: Workload, problem: str
    ) -> tuple[Verdict, str]:
        """What the step was, gravest cause first, and the words for it."""
        if row.ok < row.n and row.errors >= row.timeouts:
            return "refused", problem or self._first_error(measured)
        if row.ok < row.n:
            limit = f"{row.timeouts} of {row.n} requests had no end within {workload.request_timeout_s:g} s"
            return "timeouts", problem or limit
        counted = measured.cell.input_tokens_mean if measured else None
        beyond = row.input_tokens > self._study.context_tokens
        if beyond and counted is not None and counted <= self._study.context_tokens:
            return "refused", f"no error, but only {counted:.0f} prompt tokens counted: the server cut the prompt"
        if row.preemptions:
            return "preempted", f"{row.preemptions} preemptions by the engine's counter"
        if missed := _missed(measured, workload):
            return "missed_budget", missed
        if beyond and counted is not None:
            return "good", f"{counted:.0f} prompt tokens were taken; context_tokens is {self._study.context_tokens}"
        return "good", ""

    @staticmethod
    def _first_error(measured: Measured | None) -> str:
        """The server's own refusal rather than what followed from it: closed connections tell least."""
        errors = [r.error for r in measured.requests if r.status == "error" and r.error] if measured else []
        return next((e for e in errors if e.startswith(("HTTP", "in the stream"))), errors[0] if errors else "")

    # -- the server ----------------------------------------------------------------------------------------------

    async def _after(self, api: str) -> After:
        """Whether the server answers a short question again, is silent, or is gone."""
        began = unheard = time.monotonic()
        while self._server.alive():
            self._probes += 1
            prompt = self._maker.words(8, f"stress/after/{self._variant}/{self._start}/{self._probes}")
            error: str | None = "no answer"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_S + 1):
                    out = await self._client.ask(api, prompt, 2, timeout_s=_PROBE_S)
                    error = out.error if out.input_tokens is None else None
            if error is None:
                return "answers"
            now = time.monotonic()
            if not error.startswith("cannot connect"):
                unheard = now
            elif now - unheard > self._grace_s:
                return "gone"
            if now - began > self._recover_s:
                return "silent"
            await asyncio.sleep(0.25)
        return "gone"

    def _note_usage(self, row: EngineMetricRow) -> None:
        if row.series.partition("{")[0] in _KV_USAGE and 0 <= row.value <= 1:
            self._kv_usage = max(self._kv_usage or 0.0, row.value)

    async def _preempted(self) -> float | None:
        """The engine's counter of preemptions now; None where it keeps none or does not answer."""
        if self._scraper is None or await self._scraper.counters() is None:
            return None
        found = [v for key, v in self._scraper.last.items() if key.partition("{")[0] in _PREEMPTIONS]
        return sum(found) if found else None

    def _log_size(self) -> int:
        return self._log_path.stat().st_size if self._log_path and self._log_path.is_file() else 0

    def _last_words(self, since: int) -> str:
        """The line of the log that tells most of an end: memory, an error, else the last; of this step alone."""
        if self._log_path is None or not self._log_path.is_file():
            return ""
        with self._log_path.open("rb") as f:
            f.seek(since)
            lines = [line.strip() for line in f.read().decode("utf-8", "replace").splitlines() if line.strip()]
        for pattern in (_MEMORY, _TELLING):
            if told := [line for line in lines if pattern.search(line)]:
                return told[0] if pattern is _MEMORY else told[-1]
        return f"no error in its log; the last line: {lines[-1]}" if lines else ""


def _missed(measured: Measured | None, workload: Workload) -> str:
    """Which limits the 95th percentiles missed; empty when none."""
    if measured is None:
        return ""
    cell = measured.cell
    pairs = (
        ("TTFT", cell.ttft_ms_p95, workload.ttft_limit_ms),
        ("TPOT", cell.tpot_ms_p95, workload.tpot_limit_ms),
        ("E2E", cell.e2e_ms_p95, workload.e2e_limit_ms),
    )
    over = [f"{n} p95 {_ms(v)}, limit {_ms(limit)}" for n, v, limit in pairs if limit and v and v > limit]
    if over and measured.client.limited_by:
        over.append(f"the client was at its own limit: {measured.client.limited_by}")
    return "; ".join(over)


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _short(words: str) -> str:
    line = redact(" ".join(words.split()))
    return line if len(line) <= MOST_WORDS else f"{line[: MOST_WORDS - 3]}..."
