"""AIPerf's `profile_export_aiperf.json` (summary) and `profile_export.jsonl` (one request a line), or their folder.

Read against AIPerf 0.13.0 (`metrics/types/`). Its TTFT and request latency end at the first and the last response with
content, by a monotonic clock: ours. Its `inter_token_latency` divides by the output tokens less those of the first
chunk where the server tells them, so TPOT is computed here, and its own figure is kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.bundle.schema import RequestRow
from collector.errors import QuantcaseError
from collector.importers import parts
from collector.importers.base import Figure, Hints, Imported, Metric, Point
from collector.importers.reading import Node, read_json, read_json_lines, short
from collector.study import Load

__all__ = ["IMPORTER", "AIPerf"]

_SUMMARY, _LINES = "profile_export_aiperf.json", "profile_export.jsonl"
_UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3, "s": 1e3}  # to milliseconds
_STATISTICS = {"avg": "mean", "p50": "median", "std": "std", "p95": "p95", "p99": "p99"}

# tag -> (unit as written, definition)
_METRICS = {
    "time_to_first_token": ("ms", "send to the first response with content"),
    "time_to_second_token": ("ms", "first to second response with content; 0 where both came in one read"),
    "inter_token_latency": (
        "ms",
        "(last - first response with content) / (output tokens - tokens of the first chunk; 1 where not told), "
        "mean over requests",
    ),
    "inter_chunk_latency": ("ms", "time between responses with content, pooled over requests"),
    "request_latency": ("ms", "send to the last response with content"),
    "request_throughput": ("requests/sec", "requests that did not fail / (first send to last response)"),
    "output_token_throughput": (
        "tokens/sec",
        "output tokens of requests that did not fail / (first send to last response)",
    ),
    "total_token_throughput": ("tokens/sec", "input and output tokens / (first send to last response)"),
    "output_token_throughput_per_user": ("tokens/sec/user", "1 / inter_token_latency, per request"),
    "input_sequence_length": ("tokens", "prompt tokens, by the server's usage or AIPerf's tokenizer"),
    "output_sequence_length": ("tokens", "output tokens with reasoning, by the server's usage or AIPerf's tokenizer"),
    "benchmark_duration": ("sec", "first send to last response"),
    "goodput": ("requests/sec", "requests within the limits given to the tool / (first send to last response)"),
}
_DEFINITIONS = {
    "ttft_ms": "time_to_first_token: send to the first response with content",
    "e2e_ms": "request_latency: send to the last response with content",
    "tpot_ms": "computed here: (e2e_ms - ttft_ms) / (output_tokens - 1)",
    "output_tokens": "output_sequence_length: by the server with --use-server-token-count, else the text re-tokenized",
    "input_tokens": "input_sequence_length: by the server with --use-server-token-count, else by AIPerf's tokenizer",
    "started_s": "request_start_ns",
    "status": "error where the record holds an error, cut where it was cancelled, else ok; warm-up is left out",
}


class AIPerf:
    """Reads an artifact folder, or its two files."""

    name = "aiperf"

    def read(self, paths: Sequence[Path], hints: Hints) -> Imported:
        """One point an artifact folder; see `Importer.read`."""
        out = Imported(tool=self.name, tool_version=None, files=[], points=[])
        out.missing.append("The engine, its version, its arguments and the quantization are not in the files.")
        for summary, lines in _pairs(paths):
            _one(summary, lines, out, hints)
        if any(p.rows for p in out.points):
            out.definitions = dict(_DEFINITIONS)
        return out


def _pairs(paths: Sequence[Path]) -> Iterator[tuple[Path | None, Path | None]]:
    """(summary, requests) of each folder that files were named of."""
    found: dict[Path, dict[str, Path]] = {}
    for path in paths:
        if path.is_dir():
            mine = {n: path / n for n in (_SUMMARY, _LINES) if (path / n).is_file()}
            if not mine:
                raise QuantcaseError(f"{short(path.name)} holds no {_SUMMARY}", fix="name AIPerf's artifact folder")
            found.setdefault(path.resolve(), {}).update(mine)
            continue
        kind = _LINES if path.suffix == ".jsonl" else _SUMMARY
        entry = found.setdefault(path.resolve().parent, {})
        if kind in entry and entry[kind].resolve() != path.resolve():
            raise QuantcaseError(f"{short(path.name)}: two files of one kind in one folder", fix="import them apart")
        entry[kind] = path
    yield from ((e.get(_SUMMARY), e.get(_LINES)) for e in found.values())


def _one(summary: Path | None, lines: Path | None, out: Imported, hints: Hints) -> None:
    point = Point(load="")
    head: Node | None = None
    if summary is not None:
        head, file = read_json(summary)
        if not isinstance(head.value, dict) or "aiperf_version" not in head:
            raise head.fault("is no result of AIPerf: it has no `aiperf_version`", f"name {_SUMMARY}")
        out.files.append(file)
        _head(head, point, out)
    where = (summary or lines or Path()).name
    point.load = point.load or _load(head) or hints.load
    rows: list[RequestRow] = []
    if lines is not None:
        nodes, file = read_json_lines(lines)
        out.files.append(file)
        rows = _rows(nodes, point, out, lines.name)
    else:
        out.missing.append(f"{short(where)}: without {_LINES} nothing is computed by our own definitions.")
    out.points.append(point)
    if not rows:
        return
    load = Load.of(point.load)
    if load is None:
        raise QuantcaseError(f"{short(where)} does not say the concurrency or rate", fix="say it: --load c16 or r2.5")
    if head is not None:
        _own_means(rows, head, summary.name if summary else "")
    point.rows, point.messages = rows, parts.messages(r for r in rows if r.status != "cut")
    if load.concurrency is None:
        out.missing.append("When requests were due is not in the files: lateness of the client cannot be told.")


def _head(head: Node, point: Point, out: Imported) -> None:
    out.tool_version = head["aiperf_version"].text(40)
    point.figures = list(_figures(head, out))
    for key, tag in (("input_tokens", "input_sequence_length"), ("output_tokens", "output_sequence_length")):
        if tag in head:
            setattr(point, key, head[tag]["avg"].number(low=0))
    ok = head["request_count"]["avg"].count() if "request_count" in head else None
    failed = head["error_request_count"]["avg"].count() if "error_request_count" in head else 0
    if ok is not None:
        point.ok, point.failed, point.requests = ok, failed, ok + failed
    if head.value.get("was_cancelled") is True or head.value.get("is_complete") is False:
        reason = short(head.value.get("incomplete_reason") or "cancelled", 120)
        out.missing.append(f"The run did not end by itself ({reason}): the file holds what was measured until then.")
    asked = head.get("input_config")
    if asked is not None and isinstance(asked.value, dict):
        models = asked.get("models") or asked.get("endpoint")
        names = (
            models.value.get("items") or models.value.get("model_names")
            if models and isinstance(models.value, dict)
            else None
        )
        first = names[0] if isinstance(names, list) and names else None
        name = first.get("name") if isinstance(first, dict) else first
        out.model = out.model or (short(name, 200) if isinstance(name, str) else "")
        if "endpoint" in asked and isinstance(asked["endpoint"].value, dict):
            for key in ("type", "streaming", "use_server_token_count"):
                if key in asked["endpoint"]:
                    out.facts[key] = short(asked["endpoint"][key].value, 60)


def _load(head: Node | None) -> str:
    """The load point of the profiling phase; empty where the file does not say."""
    asked = head.get("input_config") if head is not None else None
    if asked is None:
        return ""
    places = [asked["loadgen"]] if "loadgen" in asked else []  # before 0.10
    if "phases" in asked:
        places = [p for p in asked["phases"].items() if "kind" not in p or p["kind"].value == "profiling"]
    if len(places) != 1:
        return ""
    for key in ("rate", "request_rate"):
        if key in places[0]:
            return Load.open(places[0][key].number(low=1e-6, high=1e6)).name
    return Load.closed(max(1, places[0]["concurrency"].count(10**6))).name if "concurrency" in places[0] else ""


def _figures(head: Node, out: Imported) -> Iterator[Figure]:
    for tag, (unit, definition) in _METRICS.items():
        block = head.get(tag)
        if block is None:
            continue
        stated = block["unit"].text(40)
        if stated != unit:
            raise block.fault(f"is in {short(stated)}, AIPerf writes it in {unit}", "is it the tool's own file?")
        metric = Metric(name=f"aiperf.{tag}", unit=unit, definition=definition)
        n = block["count"].count() if "count" in block else None
        high = parts.MOST_MS if unit == "ms" else math.inf
        single = "count" not in block
        for key, statistic in _STATISTICS.items():
            if key in block:
                name = "value" if single and key == "avg" else statistic
                yield Figure(metric=metric, statistic=name, value=block[key].number(low=0, high=high), n=n)


def _ms(metrics: Node, tag: str) -> float | None:
    """A time in milliseconds, by the unit that stands beside it."""
    if tag not in metrics:
        return None
    unit = metrics[tag]["unit"].text(20)
    if unit not in _UNITS:
        raise metrics[tag].fault(f"{short(unit)!r} is no unit of time that is known")
    return metrics[tag]["value"].number(low=0, high=parts.MOST_MS / _UNITS[unit]) * _UNITS[unit]


def _count(metrics: Node, tag: str) -> int | None:
    return metrics[tag]["value"].count(10**8) if tag in metrics else None


def _rows(nodes: Sequence[Node], point: Point, out: Imported, where: str) -> list[RequestRow]:
    """Each request as a row, in the order of sending; empty where an answer was not streamed."""
    kept: list[tuple[float, Node]] = []
    for node in nodes:
        meta = node["metadata"]
        phase = meta["benchmark_phase"].text(40) if "benchmark_phase" in meta else "profiling"
        if phase == "profiling":
            kept.append((meta["request_start_ns"].number(low=1e17, high=1e20) / 1e9, node))
    if warm := len(nodes) - len(kept):
        out.notes.append(f"{short(where)}: {warm} requests of the warm-up were left out.")
    kept.sort(key=lambda k: k[0])
    if not kept:
        raise QuantcaseError(f"{short(where)} holds no request of the profiling phase", fix="name the whole file")
    zero = kept[0][0]
    point.began_unix_s = zero
    rows = []
    for i, (sent, node) in enumerate(kept):
        error = node.get("error")
        if error is not None or node["metadata"].value.get("was_cancelled") is True:
            words = "" if error is None else _error(error)
            status = "cut" if node["metadata"].value.get("was_cancelled") is True else "error"
            rows.append(
                parts.failed_row(
                    index=i, started_s=sent - zero, error=words, status="cut" if status == "cut" else "error"
                )
            )
            continue
        metrics = node["metrics"]
        ttft, e2e = _ms(metrics, "time_to_first_token"), _ms(metrics, "request_latency")
        tokens = _count(metrics, "output_sequence_length")
        if ttft is None and e2e is not None:
            out.missing.append(
                f"{short(where)}: answers were not streamed, so there is no TTFT: only figures are kept."
            )
            return []
        if ttft is None or e2e is None or not tokens:
            rows.append(
                parts.failed_row(index=i, started_s=sent - zero, error="no content, though not marked as failed")
            )
            continue
        if ttft > e2e + 0.001:
            raise metrics.fault(f"time_to_first_token {ttft:g} ms is longer than request_latency {e2e:g} ms")
        gaps = metrics["inter_chunk_latency"]["value"] if "inter_chunk_latency" in metrics else None
        rows.append(
            parts.ok_row(
                index=i,
                started_s=sent - zero,
                ttft_ms=ttft,
                e2e_ms=e2e,
                output_tokens=tokens,
                input_tokens=_count(metrics, "input_sequence_length"),
                chunks=1 + len(gaps.value) if gaps is not None and isinstance(gaps.value, list) else 0,
            )
        )
    return rows


def _error(error: Node) -> str:
    """The error in one line: its code, its kind, its message."""
    if not isinstance(error.value, dict):
        return short(error.value, 200)
    return " ".join(short(v, 150) for k in ("code", "type", "message") if (v := error.value.get(k)) is not None)


def _own_means(rows: Sequence[RequestRow], head: Node, where: str) -> None:
    """The summary is what the requests give, in number and in unit."""
    ok = [r for r in rows if r.status == "ok"]
    stated = head["request_count"]["avg"].count() if "request_count" in head else len(ok)
    if stated != len(ok):
        raise QuantcaseError(
            f"{short(where)} counts {stated} requests that did not fail, {_LINES} holds {len(ok)}",
            fix="name the two files of one run",
        )
    for tag, field in (("time_to_first_token", "ttft_ms"), ("request_latency", "e2e_ms")):
        if tag in head and ok:
            values = [v for r in ok if (v := getattr(r, field)) is not None]
            parts.agree(tag, math.fsum(values) / len(values), head[tag]["avg"].number(), where)


IMPORTER = AIPerf()
