"""The engine's own /metrics: Prometheus text to series, and a scraper that keeps the few series that matter."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import aiohttp

from collector.bundle.schema import EngineMetricRow

__all__ = ["KEPT", "Counters", "MetricsScraper", "Series", "kept", "parse"]

# What is kept: queue, KV cache, preemptions, prefix cache, token counters. Both engines, old names and new.
KEPT: frozenset[str] = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",  # older vLLM
        "vllm:num_preemptions_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_queries_total",  # older vLLM
        "vllm:gpu_prefix_cache_hits_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
        "llamacpp:kv_cache_usage_ratio",  # older builds
        "llamacpp:kv_cache_tokens",
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
        "llamacpp:tokens_predicted_total",
        "llamacpp:n_busy_slots_per_decode",
    }
)

# Labels that are the same on every series of a run, and may hold a path: they tell nothing apart.
_DULL_LABELS = frozenset({"model_name"})
_LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(\{.*\})?\s+(\S+)(?:\s+-?\d+)?\s*$")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Series(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def key(self) -> str:
        """Name with the labels that tell its series apart: `vllm:num_requests_running{engine="0"}`."""
        told = [f'{k}="{v}"' for k, v in sorted(self.labels.items()) if k not in _DULL_LABELS]
        return f"{self.name}{{{','.join(told)}}}" if told else self.name


def parse(text: str) -> Iterator[Series]:
    """The series of Prometheus text format. Lines that are not series are passed over: engines add their own."""
    for line in text.splitlines():
        if line.startswith("#") or not (found := _LINE.match(line)):
            continue
        try:
            value = float(found[3])  # also NaN, +Inf
        except ValueError:
            continue
        labels = {
            label: _ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], value_)
            for label, value_ in _LABEL.findall(found[2] or "")
        }
        yield Series(found[1], labels, value)


def kept(text: str) -> list[Series]:
    """The series worth keeping. NaN and infinities are none: a CSV has no word for them."""
    return [s for s in parse(text) if s.name in KEPT and abs(s.value) < float("inf")]


class Counters(NamedTuple):
    """What an engine has counted since it was started; None where it counts no such thing."""

    output_tokens: float | None
    prefix_hit_tokens: float | None

    def since(self, before: Counters) -> Counters:
        """What was counted between two readings."""
        pairs = zip(self, before, strict=True)
        return Counters(*(None if a is None or b is None else a - b for a, b in pairs))


_OUTPUT_TOKENS = ("vllm:generation_tokens_total", "llamacpp:tokens_predicted_total")
_PREFIX_HITS = (
    "vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "llamacpp:prompt_tokens_cached_total",
)  # fmt: skip


def _sum(values: dict[str, float], names: tuple[str, ...]) -> float | None:
    """The sum over the series of the names: an engine with several ranks exports one a rank."""
    found = [value for key, value in values.items() if key.partition("{")[0] in names]
    return sum(found) if found else None


class MetricsScraper:
    """Scrapes an engine once a second and hands every kept series to `append`.

    A scrape that fails is counted in `failures`, and the next one is tried: an engine under load may be late.

        async with MetricsScraper(url, rows.append, variant="awq", start=1, clock=clock):
            ...
    """

    def __init__(
        self,
        url: str,
        append: Callable[[EngineMetricRow], object],
        *,
        variant: str,
        start: int,
        clock: Callable[[], float] = time.monotonic,
        hz: float = 1.0,
        timeout_s: float = 5.0,
    ) -> None:
        self._url = url
        self._append = append
        self._variant = variant
        self._start = start
        self._clock = clock
        self._period = 1.0 / hz
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.scrapes = 0
        self.failures = 0
        self.last: dict[str, float] = {}  # the newest value by series, for a progress display

    async def scrape(self) -> list[EngineMetricRow]:
        """One scrape, now. Raises aiohttp.ClientError or TimeoutError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        t = self._clock()
        async with self._session.get(self._url) as response:
            response.raise_for_status()
            text = await response.text(errors="replace")
        self.scrapes += 1
        found = kept(text)
        self.last = {s.key: s.value for s in found}
        return [
            EngineMetricRow(t_s=t, variant=self._variant, start=self._start, series=s.key, value=s.value) for s in found
        ]

    async def counters(self) -> Counters | None:
        """The engine's counters now; None when it does not answer."""
        try:
            await self.scrape()
        except (aiohttp.ClientError, TimeoutError):
            self.failures += 1
            return None
        return Counters(_sum(self.last, _OUTPUT_TOKENS), _sum(self.last, _PREFIX_HITS))

    async def __aenter__(self) -> MetricsScraper:
        self._task = asyncio.create_task(self._run(), name="metrics-scraper")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop scraping and close the connection. May be called twice. Raises what `append` raised, if it did."""
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(ended, Exception):
                    raise ended
        finally:
            if self._session is not None:
                await self._session.close()
                self._session = None

    async def _run(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                rows = await self.scrape()
            except (aiohttp.ClientError, TimeoutError):
                self.failures += 1
                rows = []
            for row in rows:
                self._append(row)
            await asyncio.sleep(max(0.0, self._period - (time.monotonic() - begun)))
