"""Is the measurement to be trusted? It is no better than the instrument that took it and the quiet it was taken in."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from collector.bundle.metrics import client_limit
from collector.bundle.schema import ClientCell
from quantcase.analysis.co_location import Together, together
from quantcase.analysis.compare import Comparison
from quantcase.analysis.little import Agreement, agreement
from quantcase.analysis.noise import Flag, busy_telemetry, flags
from quantcase.analysis.points import THROUGHPUT
from quantcase.catalog import Case

__all__ = ["Trust", "client_limited", "limited_loads", "trust"]


def client_limited(cell: ClientCell) -> bool:
    """Whether the client limited this repeat: by its own word, or by the same rule where an older one kept silent."""
    return cell.client_limited if cell.client_limited is not None else client_limit(cell) is not None


def limited_loads(case: Case) -> frozenset[tuple[str, str, str]]:
    """(variant, workload, load) at which the client was the limit in any repeat."""
    return frozenset((c.variant, c.workload, c.load) for c in case.bundle.client().cells if client_limited(c))


@dataclass(frozen=True)
class Trust:
    """What speaks for a case and what does not. nan and None stand for what was not recorded."""

    repeats: tuple[int, int]  # fewest and most repeats of a cell, over all its server starts
    starts: tuple[int, int]  # fewest and most server starts of a variant
    requests: int
    failed: int
    windows_s: tuple[float, float]  # shortest and longest steady window
    steady: Counter[str]  # yes, no, short; empty when it was not recorded
    recorded: int  # repeats of which client.json tells
    lag_ms_p99: float | None
    cpu_pct: float | None
    late_ms_p99: float | None
    floor_ms: float | None
    workers: int
    tokens_per_chunk: float | None
    engine_tokens_share: float | None  # tokens by the engine's counter / by usage, of the repeat that differs most
    prefix_hit_share: float | None  # prompt tokens from the prefix cache / prompt tokens, of the whole case
    limited: frozenset[tuple[str, str, str]]
    sm_clock_mhz: tuple[float, float] | None  # 5th and 95th percentile under load
    control: Comparison | None  # the A/A comparison of throughput that differs most
    little: Agreement
    together: Together
    flags: list[Flag] = field(default_factory=list)


def trust(case: Case, comparisons: list[Comparison]) -> Trust:
    """Everything that a reader needs to judge the measurement itself."""
    client = case.bundle.client()
    cells, measured = client.cells, case.cells
    repeats = measured.groupby(["variant", "workload", "load"]).size()
    starts = measured.groupby("variant")["start"].nunique()  # a start that only answered prompts timed nothing
    windows = (measured["window_end_s"] - measured["window_start_s"]).dropna()
    counted = [c.engine_tokens / c.usage_tokens for c in cells if c.engine_tokens is not None and c.usage_tokens]
    busy = busy_telemetry(case)["sm_clock_mhz"].dropna()
    control = [c for c in comparisons if c.variant == case.study.control and c.metric == THROUGHPUT and c.ratio > 0]
    return Trust(
        repeats=_range(repeats.tolist()),
        starts=_range(starts.tolist()),
        requests=len(case.requests),
        failed=int((case.requests["status"] != "ok").sum()),
        windows_s=(float(windows.min()), float(windows.max())) if len(windows) else (math.nan, math.nan),
        steady=Counter(str(s) for s in measured["steady"].dropna()),
        recorded=len(cells),
        lag_ms_p99=_most([c.loop_lag_ms_p99 for c in cells]),
        cpu_pct=_most([c.cpu_pct for c in cells]),
        late_ms_p99=_most([c.late_ms_p99 for c in cells]),
        floor_ms=client.loopback_floor_ms,
        workers=max((c.workers for c in cells), default=1),
        tokens_per_chunk=_most([c.tokens_per_chunk for c in cells]),
        engine_tokens_share=max(counted, key=lambda s: abs(s - 1), default=None),
        prefix_hit_share=_prefix_hits(case, cells),
        limited=limited_loads(case),
        sm_clock_mhz=(float(busy.quantile(0.05)), float(busy.quantile(0.95))) if len(busy) else None,
        control=max(control, key=lambda c: abs(math.log(c.ratio)), default=None),
        little=agreement(case),
        together=together(case),
        flags=flags(case),
    )


def _range(values: list[int]) -> tuple[int, int]:
    return (min(values), max(values)) if values else (0, 0)


def _most(values: list[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)


def _prefix_hits(case: Case, cells: list[ClientCell]) -> float | None:
    hits = [c.engine_prefix_hit_tokens for c in cells if c.engine_prefix_hit_tokens is not None]
    asked = float(case.requests["input_tokens"].sum())
    return sum(hits) / asked if hits and asked > 0 else None
