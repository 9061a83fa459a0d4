"""Does quantization save a GPU? Each quantized variant on fewer GPUs against the unquantized model on more of them,
and on as many, where it fits; and the unquantized model on fewer GPUs against itself on more, which is what would be
had without quantizing.

What fits at all is read off the server starts. Throughput is compared per server (may one server take the place of the
other? `compare.holds`) and per GPU (like for like), latency at the lightest and at the heaviest load that both have:
several GPUs share the work of one token, which shows most where one request is alone. Intervals are those of
`hierarchy`, classes those of `compare.judge`, with Holm's correction over all such pairs and load points of a metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from collector.bundle.schema import VariantRow
from quantcase.analysis.co_location import together
from quantcase.analysis.compare import PER_GPU, Kind, holds, judge, regions
from quantcase.analysis.cost import Span, saving
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.hierarchy import span as interval
from quantcase.analysis.paired import holm
from quantcase.analysis.points import LEAST, METRICS, THROUGHPUT, Key
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.servers import gpus_of, mixed, per_gpu
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = [
    "LATENCIES", "Against", "AnswerKind", "At", "Budget", "Change", "SavedGpu", "Server", "save_gpu", "servers",
]  # fmt: skip

State = Literal["served", "does not fit", "not supported", "does not start", "not started"]
AnswerKind = Literal["saves", "latency", "no", "undecided", "quality", "client", "withheld"]
LATENCIES = ("ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95")
_STATES: dict[str, State] = {"oom": "does not fit", "unsupported": "not supported", "crash": "does not start"}
_TAIL = "e2e_ms_p95"
_ALPHA = 0.05


@dataclass(frozen=True)
class Server:
    """One variant's server. VRAM in MiB as the driver saw it: `peak` is the sum over its GPUs. `line`: the engine's own
    words where it did not serve (untrusted). `contexts`: of the study's length that fit in its KV cache at once.
    """

    variant: str
    gpus: int
    indices: str
    parallel: tuple[int | None, int | None, int | None]  # tensor, pipeline, data
    state: State
    line: str
    kv_tokens: int | None
    contexts: int | None
    peak_mib: float | None
    fullest_mib: float | None


@dataclass(frozen=True)
class Change:
    """Ours / theirs of one metric, with its 95 % interval and its class; p after Holm's correction. `holds`: it is not
    worse beyond the region, by the interval.
    """

    metric: str
    ratio: float
    low: float
    high: float
    kind: Kind
    p: float
    holds: bool


@dataclass(frozen=True)
class Budget:
    """The study's limit of E2E p95 (ms), and whether each side keeps it at a load: None where its interval holds it."""

    limit_ms: float
    ours_ms: float
    theirs_ms: float
    ours: bool | None
    theirs: bool | None


@dataclass(frozen=True)
class At:
    """One load point of a pair: throughput of the servers and per GPU, and the latencies with requests enough."""

    workload: str
    load: str
    amount: float
    server: Change
    each: Change
    latency: tuple[Change, ...]
    limited: bool  # the client was the limit on a side
    budget: Budget | None = None  # where the study names one, and both have requests enough

    @property
    def saving(self) -> Span | None:
        """What a token costs less with every GPU counted, as a share of the unquantized server's; None: not decided."""
        if self.each.kind not in ("faster", "slower"):
            return None
        return saving((self.each.ratio, self.each.low, self.each.high))


@dataclass(frozen=True)
class SavedGpu:
    """The answer for one workload: its kind, the heaviest load, and the latencies that are the price or not decided."""

    workload: str
    kind: AnswerKind
    top: At
    worse: tuple[tuple[str, Change], ...]  # (load, change)
    open: tuple[tuple[str, Change], ...]


@dataclass(frozen=True)
class Against:
    """A variant against an unquantized one. No answers where both have as many GPUs: like for like; nor where both are
    unquantized.
    """

    ours: Server
    plain: Server
    quantizes: bool
    points: tuple[At, ...]
    answers: tuple[SavedGpu, ...]

    @property
    def saved(self) -> int:
        """GPUs that our server has fewer."""
        return self.plain.gpus - self.ours.gpus


def servers(case: Case) -> list[Server]:
    """Every variant's server, the control left out, in the study's order."""
    return [_server(case, v.name) for v in case.study.variants if v.name != case.study.control]


def _server(case: Case, variant: str) -> Server:
    starts = case.starts(variant)
    row: VariantRow | None = case.served(variant) or (starts[-1] if starts else None)
    asked, count = case.study.variant(variant), gpus_of(case, variant)
    sizes = (asked.tensor_parallel, asked.pipeline_parallel, asked.data_parallel)
    if row is None:
        return Server(variant, count, "", sizes, "not started", "", None, None, None, None)
    stated = (row.tensor_parallel, row.pipeline_parallel, row.data_parallel)
    known = stated if any(n is not None for n in stated) else sizes if math.prod(sizes) == count else (None,) * 3
    served = row.exit_state == "ok"
    tokens = row.kv_cache_tokens if served else None
    peak, fullest = (row.vram_peak_mib, row.vram_peak_fullest_mib) if served else (None, None)
    return Server(
        variant, count, (row.gpu_indices or "").replace("|", ", "), (known[0], known[1], known[2]),
        "served" if served else _STATES.get(row.exit_state, "does not start"), "" if served else row.error or "",
        tokens, tokens // case.study.context_tokens if tokens is not None else None, peak,
        peak if fullest is None and count == 1 else fullest,
    )  # fmt: skip


def save_gpu(
    case: Case,
    known: Mapping[Key, Mapping[str, Estimate]],
    judged: Mapping[str, QualityVerdict],
    *,
    withheld: bool = False,
) -> list[Against]:
    """Every quantized variant against the unquantized ones on more GPUs, the unquantized on fewer against those on
    more, then like for like; empty without unlike servers.

    Unquantized is what keeps the weights and the baseline's type of KV cache; the control is nobody's pair. `withheld`:
    no verdict is given on this case, so no answer is either.
    """
    if not mixed(case):
        return []
    found = {s.variant: s for s in servers(case)}
    kv = case.study.variant(case.baseline).kv_dtype
    kept = {v.name for v in case.study.variants if v.method == "none" and v.kv_dtype == kv}
    plain = [s for name, s in found.items() if name in kept]
    pairs = [(q, p) for q in found.values() if q not in plain for p in plain if q.gpus <= p.gpus]
    pairs += [(fewer, p) for fewer in plain for p in plain if fewer.gpus < p.gpus]
    pairs.sort(key=lambda pair: pair[0].gpus == pair[1].gpus)
    counts = {n: s.gpus for n, s in found.items()}
    points = _corrected([_points(case, known, q.variant, p.variant, counts) for q, p in pairs])
    return [
        Against(
            q, p, q not in plain, mine,
            tuple(_answers(mine, judged.get(q.variant), withheld)) if q not in plain and q.gpus < p.gpus else (),
        )
        for (q, p), mine in zip(pairs, points, strict=True)
    ]  # fmt: skip


def _points(
    case: Case, known: Mapping[Key, Mapping[str, Estimate]], ours: str, theirs: str, counts: Mapping[str, int]
) -> tuple[At, ...]:
    """Every load point that both have and that may be compared, in the study's order."""
    beside, limited, widths = together(case), limited_loads(case), regions(case, known)
    found = []
    for workload, load in case.points_of_load():
        at = [(v, workload.name, load.name) for v in (ours, theirs)]
        if not beside.comparable(at[0], at[1]):
            continue
        changes = {}
        for metric in (THROUGHPUT, *LATENCIES):
            arms = known.get((workload.name, load.name, metric), {})
            few = metric in METRICS and min(case.ok_counts.get(a, 0) for a in at) < LEAST[METRICS[metric][1]]
            if ours in arms and theirs in arms and not few:
                changes[metric] = _change(metric, arms[ours], arms[theirs], widths[metric])
                if metric == THROUGHPUT:
                    each = per_gpu({v: arms[v] for v in (ours, theirs)}, counts)
                    changes[PER_GPU] = _change(PER_GPU, each[ours], each[theirs], widths[metric])
        if THROUGHPUT in changes:
            latency = tuple(changes[m] for m in LATENCIES if m in changes)
            found.append(
                At(
                    workload.name, load.name, load.amount, changes[THROUGHPUT], changes[PER_GPU], latency,
                    bool(limited & set(at)),
                    _budget(workload.e2e_limit_ms, known.get((workload.name, load.name, _TAIL), {}), ours, theirs)
                    if _TAIL in changes else None,
                )
            )  # fmt: skip
    return tuple(found)


def _budget(limit_ms: float | None, arms: Mapping[str, Estimate], ours: str, theirs: str) -> Budget | None:
    if limit_ms is None:
        return None

    def kept(e: Estimate) -> bool | None:
        low, high = interval(e)
        return True if high <= limit_ms else False if low > limit_ms else None

    return Budget(limit_ms, arms[ours].value, arms[theirs].value, kept(arms[ours]), kept(arms[theirs]))


def _change(metric: str, ours: Estimate, theirs: Estimate, region: float) -> Change:
    value, low, high, p = ratio(ours, theirs)
    kind = judge(metric, value, low, high, region)
    return Change(metric, value, low, high, kind, p, holds(metric, low, high, region))


def _all(points: Sequence[Sequence[At]]) -> Iterator[Change]:
    for mine in points:
        for at in mine:
            yield from (at.server, at.each, *at.latency)


def _corrected(points: Sequence[tuple[At, ...]]) -> list[tuple[At, ...]]:
    """Holm's step-down over all pairs and load points of a metric: a few of many true ties would look different."""
    every = {f"{id(c)}": c for c in _all(points)}
    adjusted: dict[str, float] = {}
    for metric in {c.metric for c in every.values()}:
        adjusted |= holm({i: c.p for i, c in every.items() if c.metric == metric and not math.isnan(c.p)})

    def of(c: Change) -> Change:
        p = adjusted.get(f"{id(c)}", c.p)
        unsure = c.kind in ("faster", "slower") and not p < _ALPHA
        return replace(c, p=p, kind="inconclusive" if unsure else c.kind)

    return [
        tuple(
            replace(at, server=of(at.server), each=of(at.each), latency=tuple(of(c) for c in at.latency)) for at in mine
        )
        for mine in points
    ]


def _answers(points: Sequence[At], judged: QualityVerdict | None, withheld: bool) -> Iterator[SavedGpu]:
    for workload in dict.fromkeys(at.workload for at in points):
        mine = sorted((at for at in points if at.workload == workload), key=lambda at: at.amount)
        ends = list(dict.fromkeys((mine[0], mine[-1])))
        worse = tuple((at.load, c) for at in ends for c in at.latency if c.kind == "slower")
        unsure = tuple((at.load, c) for at in ends for c in at.latency if c.kind == "inconclusive" and not c.holds)
        kind = "withheld" if withheld else _kind(mine[-1], bool(worse), judged)
        yield SavedGpu(workload, kind, mine[-1], worse, unsure)


def _kind(top: At, worse: bool, judged: QualityVerdict | None) -> AnswerKind:
    """At the heaviest load: may the server on fewer GPUs take the place of the other?"""
    if judged is not None and judged.grade == "fail":
        return "quality"
    if top.limited:
        return "client"
    if top.server.holds:
        return "latency" if worse else "saves"
    return "no" if top.server.kind == "slower" else "undecided"
