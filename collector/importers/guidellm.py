"""GuideLLM's `benchmarks.json`, schema 1 (`args`) and 2 (`config`).

Read against GuideLLM 0.5 and 0.8.1 (`schemas/base/request_stats.py`, `backends/openai/http.py`). Its first token is the
first chunk with content or reasoning text, its last token the last such chunk, by the wall clock: TTFT is ours. Its
`time_per_output_token_ms` holds TTFT and is weighted by tokens; its `inter_token_latency_ms` is what we call TPOT, but
weighted by tokens, too; its `request_latency` ends with the stream, after the last text. So rows are computed from its
time stamps, and its own metrics are kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.bundle.schema import RequestRow
from collector.importers import parts
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.reading import Node, read_json, short
from collector.study import Load

__all__ = ["IMPORTER", "GuideLLM"]

_NO_REASONING = (
    "This GuideLLM did not count reasoning text as a token: of a reasoning model its first token is the first of the "
    "answer, later than our TTFT."
)
_AGAIN = "name GuideLLM's JSON output: `--output kind=json,path=benchmarks.json`"
_OPEN = ("constant", "poisson", "async")
_STATISTICS = ("mean", "median", "std_dev")
_PERCENTILES = ("p95", "p99")

# metric -> (unit, definition); all of successful requests only, never of `total`, which counts zeros of failed ones
_METRICS = {
    "time_to_first_token_ms": ("ms", "request start to the first chunk with content or reasoning text, wall clock"),
    "time_per_output_token_ms": (
        "ms",
        "(last token - REQUEST START) / output tokens: holds TTFT; weighted by tokens; not TPOT as others mean it",
    ),
    "inter_token_latency_ms": (
        "ms",
        "(last - first token) / (output tokens - 1) per request, weighted by tokens: what others call TPOT",
    ),
    "request_latency": ("s", "request start to the end of the stream, after the last text"),
    "requests_per_second": (
        "requests/s",
        "successful requests completed per second, over the time between completions",
    ),
    "request_concurrency": ("requests", "requests running at once, over time"),
    "output_tokens_per_second": ("tok/s", "output tokens over time, placed evenly between first and last token"),
    "tokens_per_second": ("tok/s", "prompt and output tokens over time, placed by the time stamps of their request"),
    "prompt_tokens_per_second": ("tok/s", "prompt tokens over time, placed at the first token of their request"),
    "prompt_token_count": ("tokens", "prompt tokens of a request, by the server's usage or GuideLLM's tokenizer"),
    "output_token_count": ("tokens", "output tokens of a request, by the server's usage or GuideLLM's tokenizer"),
}
_DEFINITIONS = {
    "ttft_ms": "first_token_iteration - request_start: send to first non-empty content or reasoning text, wall clock",
    "e2e_ms": "last_token_iteration - request_start: send to last content, wall clock",
    "tpot_ms": "computed here: (e2e_ms - ttft_ms) / (output_tokens - 1)",
    "first_chunk_ms": "first_request_iteration - request_start: any line of the stream",
    "output_tokens": "by the server's usage where it sends one, else by GuideLLM's tokenizer",
    "input_tokens": "by the server's usage where it sends one, else by GuideLLM's tokenizer",
    "chunks": "token_iterations: chunks with text",
    "due_s": "targeted_start, of constant and Poisson schedules",
    "status": "successful is ok, errored is error, incomplete (stopped by the end of the benchmark) is cut",
}


class GuideLLM:
    """Reads benchmarks.json; one point a benchmark."""

    name = "guidellm"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """See `Importer.read`."""
        out = Imported(tool=self.name, tool_version=None, files=[], points=[])
        out.missing.append("The engine, its version, its arguments, the quantization and the GPU are not in the file.")
        for path in paths:
            node, file = read_json(path)
            if not isinstance(node.value, dict) or "benchmarks" not in node:
                raise node.fault("is no result of GuideLLM: it has no `benchmarks`", _AGAIN)
            out.files.append(file)
            _head(node, out)
            for benchmark in node["benchmarks"].items():
                _one(benchmark, out)
        if any(p.rows for p in out.points):
            out.definitions = dict(_DEFINITIONS)
            out.missing.append("Times between chunks are not in the file: there are no chunk gaps.")
            out.missing.append("Its clock is the wall clock: a step of the clock would show as a wrong time.")
        return out


def _head(node: Node, out: Imported) -> None:
    meta = node.get("metadata")
    if meta is not None:
        if "guidellm_version" in meta:
            out.tool_version = meta["guidellm_version"].text(40)
        if "version" in meta:
            out.facts["schema"] = short(meta["version"].value, 20)
            if meta["version"].count() > 2:
                out.notes.append(f"Schema {out.facts['schema']} is newer than 2, the newest that was tried.")


def _strategy(benchmark: Node) -> Node:
    for key in ("config", "args", "scheduler"):
        if key in benchmark and "strategy" in (held := benchmark[key]):
            return held["strategy"]
    raise benchmark.fault("has no `config.strategy`", _AGAIN)


def _load(strategy: Node, total: int) -> tuple[str, bool]:
    """The load point, and whether requests arrive by a clock."""
    kind = strategy["type_"].text(40)
    if kind in _OPEN:
        return Load.open(strategy["rate"].number(low=1e-6, high=1e6)).name, True
    if kind == "synchronous":
        return "c1", False
    if kind == "concurrent":
        return Load.closed(max(1, strategy["streams"].count(10**6))).name, False
    if kind == "throughput":
        most = strategy.get("max_concurrency")
        return Load.closed(max(1, min(total, most.count(10**9)) if most else total)).name, False
    return short(kind, 30), False


def _one(benchmark: Node, out: Imported) -> None:
    requests = benchmark["requests"]
    listed = {k: list(v.items()) if (v := requests.get(k)) else [] for k in ("successful", "errored", "incomplete")}
    totals = _totals(benchmark, listed)
    load, clocked = _load(_strategy(benchmark), sum(totals.values()))
    point = Point(load=load, requests=sum(totals.values()), ok=totals["successful"], failed=totals["errored"])
    metrics = benchmark["metrics"]
    point.figures = list(_figures(metrics, out))
    for key, name in (("input_tokens", "prompt_token_count"), ("output_tokens", "output_token_count")):
        setattr(point, key, _value(metrics, name, "mean"))
    _model(benchmark, out)
    out.points.append(point)
    where = benchmark.where.rstrip(": ")
    if Load.of(load) is None or load == "trace":
        out.missing.append(f"{where}: its strategy, {load}, is no load point of ours: only its figures are kept.")
        return
    if any(len(listed[k]) != totals[k] for k in totals):
        kept = sum(len(v) for v in listed.values())
        out.missing.append(
            f"{where} lists {kept} of {point.requests} requests (a sample): only its figures are kept; "
            "cells of a sample would be wrong."
        )
        return
    rows = _rows(listed, point, clocked, out, where)
    if rows:
        if not any("first_output_token_iteration" in r["info"]["timings"] for r in listed["successful"]):
            out.notes.append(_NO_REASONING)
        _own_means(rows, metrics, where)
        point.rows, point.messages = rows, parts.messages(r for r in rows if r.status != "cut")
        if cut := sum(r.status == "cut" for r in rows):
            out.notes.append(f"{where}: {cut} requests were cut by the end of the benchmark: they are rows, not ok.")


def _totals(benchmark: Node, listed: dict[str, list[Node]]) -> dict[str, int]:
    for key, name in (("metrics", "request_totals"), ("scheduler_metrics", "requests_made")):
        if key in benchmark and name in benchmark[key]:
            found = benchmark[key][name]
            return {k: found[k].count() for k in listed}
    return {k: len(v) for k, v in listed.items()}


def _value(metrics: Node, name: str, statistic: str) -> float | None:
    if name not in metrics or "successful" not in metrics[name]:
        return None
    block = metrics[name]["successful"]
    if not isinstance(block.value, dict) or statistic not in block:
        return None
    return block[statistic].number(low=0)


def _figures(metrics: Node, out: Imported) -> Iterator[Figure]:
    for name, (unit, definition) in _METRICS.items():
        block = metrics.get(name)
        block = block.get("successful") if block is not None else None
        if block is None:
            continue
        n = block["count"].count() if "count" in block else None
        if n == 0:
            continue
        metric = Metric(name=f"guidellm.{name}", unit=unit, definition=f"{definition}; successful requests only")
        high = parts.MOST_MS if unit == "ms" else parts.MOST_MS / 1000 if unit == "s" else math.inf
        for statistic in _STATISTICS:
            if statistic in block:
                yield Figure(metric=metric, statistic=statistic, value=block[statistic].number(low=0, high=high), n=n)
        percentiles = block.get("percentiles")
        for p in _PERCENTILES if percentiles is not None else ():
            if percentiles is not None and p in percentiles:
                yield Figure(metric=metric, statistic=p, value=percentiles[p].number(low=0, high=high), n=n)


def _model(benchmark: Node, out: Imported) -> None:
    held = benchmark.get("config") or benchmark.get("benchmarker")
    backend = held.get("backend") if held is not None else None
    if backend is None or not isinstance(backend.value, dict):
        return
    if "model" in backend:
        out.model = out.model or backend["model"].text(200)
    for key in ("kind", "type_", "request_format", "request_type"):
        if key in backend:
            out.facts[key] = short(backend[key].value, 60)


def _stamp(timings: Node, *keys: str) -> float | None:
    """The first of these time stamps that is there, unix seconds."""
    for key in keys:
        if key in timings:
            return timings[key].number(low=1e8, high=1e11)
    return None


def _rows(listed: dict[str, list[Node]], point: Point, clocked: bool, out: Imported, where: str) -> list[RequestRow]:
    """Each request as a row, in the order of sending; empty where an ok request has no stamp of its first text."""
    found: list[tuple[float | None, str, Node]] = []
    for kind, nodes in listed.items():
        for request in nodes:
            timings = request["info"]["timings"]
            sent = _stamp(timings, "request_start", "resolve_start", "scheduled_at", "dequeued", "targeted_start")
            if kind != "successful":
                found.append((sent, kind, request))
                continue
            if sent is None or any(k not in timings for k in ("first_token_iteration", "last_token_iteration")):
                out.missing.append(
                    f"{where}: requests have no time of their first text (an older GuideLLM, or no stream): "
                    "only its figures are kept."
                )
                return []
            found.append((sent, kind, request))
    sends = [s for s, _, _ in found if s is not None]
    due = [d for _, _, r in found if clocked and (d := _stamp(r["info"]["timings"], "targeted_start")) is not None]
    zero = min([*sends, *due], default=0.0)
    point.began_unix_s = zero or None
    found.sort(key=lambda f: f[0] if f[0] is not None else zero)
    return [_row(i, s if s is not None else zero, kind, r, zero, clocked) for i, (s, kind, r) in enumerate(found)]


def _row(index: int, sent: float, kind: str, request: Node, zero: float, clocked: bool) -> RequestRow:
    info = request["info"]
    timings = info["timings"]
    due = _stamp(timings, "targeted_start") if clocked else None
    due_s = None if due is None else due - zero
    if kind != "successful":
        error = info["error"].text(20_000) if "error" in info else ""
        status = "cut" if kind == "incomplete" else "error"
        words = error or ("stopped by the end of the benchmark" if status == "cut" else "")
        return parts.failed_row(
            index=index, started_s=sent - zero, error=words, status="cut" if status == "cut" else "error", due_s=due_s
        )
    tokens = request["output_tokens"].count(10**8) if "output_tokens" in request else 0
    first, last = (timings[k].number() for k in ("first_token_iteration", "last_token_iteration"))
    if not sent <= first <= last:
        raise timings.fault(f"first text {first - sent:g} s and last text {last - sent:g} s after the send")
    if tokens == 0:
        return parts.failed_row(index=index, started_s=sent - zero, error="no output token", due_s=due_s)
    chunk = _stamp(timings, "first_request_iteration")
    return parts.ok_row(
        index=index,
        started_s=sent - zero,
        ttft_ms=1000 * (first - sent),
        e2e_ms=1000 * (last - sent),
        first_chunk_ms=None if chunk is None else max(0.0, 1000 * (chunk - sent)),
        output_tokens=tokens,
        input_tokens=request["prompt_tokens"].count(10**8) if "prompt_tokens" in request else None,
        cached_tokens=request["cached_tokens"].count(10**8) if "cached_tokens" in request else None,
        chunks=timings["token_iterations"].count(10**8) if "token_iterations" in timings else 0,
        due_s=due_s,
    )


def _own_means(rows: Sequence[RequestRow], metrics: Node, where: str) -> None:
    """The summary is what the requests give, in number and in unit."""
    ok = [r for r in rows if r.status == "ok"]
    for name, field in (("time_to_first_token_ms", "ttft_ms"), ("output_token_count", "output_tokens")):
        values = [float(v) for r in ok if (v := getattr(r, field)) is not None]
        if values:
            parts.agree(name, math.fsum(values) / len(values), _value(metrics, name, "mean"), where)


IMPORTER = GuideLLM()
