"""`vllm bench serve --save-result`: plain, `--save-detailed`, `--append-result`, and the folders of its sweeps.

Read against vLLM 0.26 and 0.32 (`vllm/benchmarks/serve.py`, `lib/endpoint_request_func.py`). Arrays are in seconds,
aggregates in milliseconds. Its TTFT ends at the first chunk that has a choice, which in a chat stream may be empty
(the role alone); its E2E ends at the last such chunk, TTFT + the sum of `itls`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.bundle.imported import ImportedFile
from collector.bundle.schema import RequestRow
from collector.errors import QuantcaseError
from collector.importers import parts
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.reading import Node, read_json, read_json_lines, short
from collector.study import Load

__all__ = ["IMPORTER", "VllmBench"]

_AGAIN = "run `vllm bench serve` again with --save-result --save-detailed"
_ARRAYS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")
_STATISTIC = re.compile(r"(mean|median|std|p\d{1,2}(?:\.\d+)?)_([a-z0-9_]+)_ms")
_SERVED = re.compile(r"SERVE--(.*?)-?BENCH--.*")  # a sweep's folder: SERVE--<server>-BENCH--<load>
_ROLE_SHARE = 0.02  # the second chunk comes so soon after the first that it does not matter which held the text

# metric -> (unit, definition). Per-request times and lengths are those of the requests that did not fail.
_TIMES = {
    "ttft": "send to the first chunk with a choice, empty ones included, by the client's monotonic clock",
    "tpot": "(last - first chunk with a choice) / (output tokens - 1), per request of at least 2 tokens",
    "itl": "time between chunks, pooled over requests; a chunk may hold no token or several",
    "e2el": "send to the last chunk with a choice",
    "client_queue_time": "time that a request waited in the client for its place under max_concurrency",
    "e2el_including_client_queue": "e2el plus the time that the request waited in the client",
}
_TOTALS = {
    "duration": ("s", "start of the benchmark to the end of its last request"),
    "request_throughput": ("requests/s", "requests that did not fail / duration, ramp-up and drain included"),
    "request_goodput": ("requests/s", "requests within the limits given to the tool / duration"),
    "output_throughput": (
        "tok/s",
        "output tokens of requests that did not fail / duration, ramp-up and drain included",
    ),
    "total_token_throughput": ("tok/s", "input and output tokens of requests that did not fail / duration"),
    "total_input_tokens": ("tokens", "sum over requests that did not fail, by the server or the client's tokenizer"),
    "total_output_tokens": ("tokens", "sum over requests that did not fail, by the server or re-tokenized text"),
    "max_output_tokens_per_s": ("chunks/s", "most chunks within one calendar second of the run"),
    "max_concurrent_requests": ("requests", "most requests that were active at any time within one second"),
    "spec_decode_acceptance_rate": ("%", "draft tokens that were accepted, by the server's counters"),
    "spec_decode_acceptance_length": ("tokens", "mean tokens per step of speculative decoding"),
}
_DEFINITIONS = {
    "ttft_ms": "ttfts: send to the first chunk with a choice",
    "e2e_ms": "ttft + sum of itls: send to the last chunk with a choice; an empty chunk at the end counts",
    "tpot_ms": "computed here: (e2e_ms - ttft_ms) / (output_tokens - 1)",
    "output_tokens": "output_lens: by the server's usage; where it sends none, the text tokenized again by the client",
    "input_tokens": "input_lens: by the server's usage in newer versions, else by the client's tokenizer",
    "started_s": "start_times: when the request was sent, after any wait for max_concurrency",
    "status": "ok where errors is empty and there is a first chunk and a token; every other request is an error",
}
_MISSING = [
    "vLLM's version, the GPU, the server's arguments and the quantization are not in the file.",
    "The data set and the lengths that were asked for are not in the file.",
]


def _metric(name: str) -> Metric | None:
    if name in _TIMES:
        return Metric(name=f"vllm-bench.{name}_ms", unit="ms", definition=_TIMES[name])
    if name in _TOTALS:
        unit, definition = _TOTALS[name]
        return Metric(name=f"vllm-bench.{name}", unit=unit, definition=definition)
    return None


class VllmBench:
    """Reads result files of `vllm bench serve` and folders of `vllm bench sweep serve`."""

    name = "vllm-bench"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """One point a result; see `Importer.read`."""
        out = Imported(tool=self.name, tool_version=None, files=[], points=[], missing=list(_MISSING))
        out.notes.append("Times in arrays are seconds and were converted to milliseconds.")
        for path in paths:
            before = {f.sha256 for f in out.files}
            for node, file, label in _results(path, out):
                if file.sha256 in before:
                    raise QuantcaseError(f"{file.name} holds the same bytes as another file", fix="name each file once")
                if file not in out.files:
                    out.files.append(file)
                _one(node, out, hints, label)
        if any(p.rows for p in out.points):
            out.definitions = dict(_DEFINITIONS)
        if any(not p.rows for p in out.points):
            out.missing.append("Where requests are not listed, nothing is computed by our own definitions.")
        return out


def _results(path: Path, out: Imported, label: str = "") -> Iterator[tuple[Node, ImportedFile, str]]:
    """The results of a file, or of all run files below a folder, with the server's name in a sweep."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("run=*.json") if p.is_file() and not p.name.endswith(".failure.json"))
        if not found:
            raise QuantcaseError(f"{short(path.name)} holds no run=N.json of a sweep", fix="name result files instead")
        for failure in sorted(path.rglob("*.failure.json")):
            out.missing.append(f"{short(failure.parent.name)}: {short(failure.name)} says that this run failed.")
        for p in found:
            served = _SERVED.fullmatch(p.parent.name)
            yield from _results(p, out, _slug(served[1]) if served else "")
        return
    nodes: list[Node] = []
    if path.suffix != ".jsonl":
        try:
            node, file = read_json(path)
            nodes = list(node.items()) if isinstance(node.value, list) else [node]
        except QuantcaseError:  # --append-result writes one object a line, whatever the file is called
            try:
                nodes, file = read_json_lines(path)
            except QuantcaseError:
                nodes = []
            if len(nodes) < 2:
                raise
    else:
        nodes, file = read_json_lines(path)
    if not nodes:
        raise QuantcaseError(f"{short(path.name)} holds no result", fix=_AGAIN)
    yield from ((one, file, label) for one in nodes)


def _slug(name: str) -> str:
    """A name as variants have it: lower case letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:24]


def _one(node: Node, out: Imported, hints: Hints, label: str) -> None:
    if "completed" not in node or "duration" not in node:
        raise node.fault("is no result of `vllm bench serve`: it has no `completed` and no `duration`", _AGAIN)
    asked = node["num_prompts"].count()
    completed = node["completed"].count()
    failed = node["failed"].count() if "failed" in node else asked - completed
    if failed < 0 or completed + failed > asked:
        raise node.fault(f"{completed} completed and {failed} failed of {asked} do not add up")
    load = _load(node, asked)
    out.model = out.model or node["model_id"].text(200)
    for key in ("backend", "endpoint_type", "date", "label", "request_rate", "max_concurrency", "burstiness"):
        if key in node:
            out.facts[key] = short(node[key].value, 100)
    point = Point(load=load.name, label=label, requests=asked, ok=completed, failed=asked - completed)
    point.figures = list(_figures(node, completed, out))
    if completed:
        point.input_tokens = node["total_input_tokens"].number(low=0) / completed
        point.output_tokens = node["total_output_tokens"].number(low=0) / completed
    _plausible(node, completed, load, asked)
    if all(key in node for key in _ARRAYS):
        _detailed(node, point, out, hints, asked)
    else:
        out.missing.append(f"{node.where.rstrip(': ')} lists no requests (it was saved without --save-detailed).")
    out.points.append(point)


def _load(node: Node, asked: int) -> Load:
    rate = node["request_rate"]
    most = node.get("max_concurrency")
    if rate.value != "inf" and not (isinstance(rate.value, float) and math.isinf(rate.value)):
        return Load.open(rate.number(low=1e-6, high=1e6))
    return Load.closed(most.count(10**6) if most is not None else max(1, asked))


def _figures(node: Node, completed: int, out: Imported) -> Iterator[Figure]:
    for key in node.keys():  # noqa: SIM118 - a Node is no mapping
        if node.value[key] is None:
            continue
        if found := _STATISTIC.fullmatch(key):
            metric, statistic = _metric(found[2]), found[1]
        else:
            metric, statistic = _metric(key), "value"
        if metric is None:
            if found or key.startswith(("spec_decode_", "diffusion_", "probe_", "steady_state")):
                note = f"{short(key)} was left out: no definition of it is known."
                if note not in out.notes:
                    out.notes.append(note)
            continue
        low = -math.inf if statistic == "std" else 0.0
        high = parts.MOST_MS if metric.unit == "ms" else math.inf
        yield Figure(metric=metric, statistic=statistic, value=node[key].number(low=low, high=high), n=completed)


def _plausible(node: Node, completed: int, load: Load, asked: int) -> None:
    """Rates are counts / duration, and the times fit the duration."""
    duration = node["duration"].number(low=0)
    where = node.where.rstrip(": ")
    for key, total in (("request_throughput", completed), ("output_throughput", node["total_output_tokens"].number())):
        if key in node and duration > 0:
            parts.agree(key, total / duration, node[key].number(), where)
    mean = node.get("mean_e2el_ms") or None
    e2e = mean.number(low=0) if mean is not None else None
    if e2e is None and "mean_ttft_ms" in node and "mean_tpot_ms" in node and completed:
        tokens = node["total_output_tokens"].number() / completed
        e2e = node["mean_ttft_ms"].number() + node["mean_tpot_ms"].number() * max(0.0, tokens - 1)
    most = load.concurrency if load.concurrency is not None else None
    if most is not None and completed >= asked / 2:  # of a run that mostly failed nothing is known of its load
        parts.times_fit(completed, e2e, duration, most, where)


def _detailed(node: Node, point: Point, out: Imported, hints: Hints, asked: int) -> None:
    """Each request as a row, unless the first chunk of a chat may have been an empty one."""
    arrays = {key: list(node[key].items()) for key in _ARRAYS}
    for key, entries in arrays.items():
        if len(entries) != asked:
            raise node[key].fault(f"holds {len(entries)} entries for {asked} requests")
    starts = [s.number() for s in arrays["start_times"]]
    zero = min(starts, default=0.0)
    chat = "chat" in str(node.value.get("endpoint_type") or node.value.get("backend") or "")
    rows: list[RequestRow] = []
    doubtful = 0
    for i in range(asked):
        error = arrays["errors"][i].text(20_000)
        ttft = arrays["ttfts"][i].number(low=0, high=parts.MOST_MS / 1000)
        tokens = arrays["output_lens"][i].count(10**8)
        if error or ttft == 0 or tokens == 0:
            words = error or "no token, though the tool calls it completed"
            rows.append(parts.failed_row(index=i, started_s=starts[i] - zero, error=words))
            continue
        gaps = [g.number(low=0, high=parts.MOST_MS / 1000) for g in arrays["itls"][i].items()]
        empty = hints.first_chunk == "role" and chat and bool(gaps)
        doubtful += chat and hints.first_chunk == "auto" and bool(gaps) and gaps[0] > max(0.001, _ROLE_SHARE * ttft)
        row = parts.ok_row(
            index=i,
            started_s=starts[i] - zero,
            first_chunk_ms=1000 * ttft if chat else None,
            ttft_ms=1000 * (ttft + (gaps[0] if empty else 0.0)),
            e2e_ms=1000 * (ttft + math.fsum(gaps)),
            output_tokens=tokens,
            input_tokens=arrays["input_lens"][i].count(10**8),
            chunks=len(gaps) + 1,
        )
        rows.append(row)
    ok = [r for r in rows if r.status == "ok"]
    _own_sums(node, rows, chat and hints.first_chunk == "role", asked)
    point.messages = parts.messages(rows)
    point.requests, point.ok, point.failed = asked, len(ok), asked - len(ok)
    if doubtful:
        out.missing.append(
            f"{node.where.rstrip(': ')}: in {doubtful} of {len(ok)} chat streams it cannot be told whether the first "
            "chunk was empty, so that TTFT is not ours: its requests were left out. If you know, say --first-chunk."
        )
        return
    if chat:
        words = "content followed the first chunk within 2 % of TTFT or 1 ms"
        words = (
            words if hints.first_chunk == "auto" else f"a person says that the first chunk holds {hints.first_chunk}"
        )
        out.notes.append(f"{node.where.rstrip(': ')}: a chat stream; {words}.")
    if point.load.startswith("r"):
        out.missing.append("When requests were due is not in the file: lateness of the client cannot be told.")
    point.rows = rows


def _own_sums(node: Node, rows: Sequence[RequestRow], shifted: bool, asked: int) -> None:
    """The arrays give what the summary says, in number and in unit."""
    where = node.where.rstrip(": ")
    ok = [r for r in rows if r.status == "ok"]
    completed = node["completed"].count()
    if len(ok) > completed:
        raise node.fault(f"says {completed} completed, its lists hold {len(ok)} of {asked} without an error")
    if not ok or len(ok) != completed:
        return
    duration = node["duration"].number(low=0)
    ends = [r.started_s + (r.e2e_ms or 0) / 1000 for r in ok]
    if max(ends) > duration * 1.02 + 0.1:
        raise node.fault(
            f"a request ends {max(ends):g} s after the first send, the run took {duration:g} s",
            "are ttfts, itls and start_times in seconds?",
        )
    parts.agree(
        "total_output_tokens", sum(r.output_tokens or 0 for r in ok), node["total_output_tokens"].number(), where
    )
    for key, field in (("mean_ttft_ms", "ttft_ms"), ("mean_tpot_ms", "tpot_ms"), ("mean_e2el_ms", "e2e_ms")):
        values = [v for r in ok if (v := getattr(r, field)) is not None]
        if key in node and values and not (shifted and field != "e2e_ms"):
            parts.agree(key, math.fsum(values) / len(values), node[key].number(low=0), where)


IMPORTER = VllmBench()
