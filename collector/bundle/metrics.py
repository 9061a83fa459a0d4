"""What the numbers mean, computed in one place. Light: no pandas, no numpy.

Everything here is computed from request rows as they are written (rounded), so that anybody with requests.csv.gz and
these definitions gets the same figures, and `collect check` can recompute cells.csv.

- The **steady window** of a closed loop runs from the send that first brings the number of running requests to the
  concurrency, to the send of the last request. That of an open loop runs from the end of the first request, when the
  server has begun to work off what arrives, to the send of the last.
- **Steady** says whether E2E stood still inside that window: `no` when it has a trend that is significant (99 %) and
  moves it by more than a tenth from end to end of the window; `short` with fewer than 20 requests.
- **Throughput** is output tokens received inside the steady window / its length. A request's first token is placed at
  started + TTFT, its last at started + E2E, the others evenly between (TPOT apart).
- **Percentiles** interpolate linearly (the usual definition: rank (n - 1) p from 0) over `ok` requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from collector.bundle.schema import CellRow, ClientCell, RequestRow, Steady, rounded
from collector.bundle.student import t_tail
from collector.study import Load, Workload

__all__ = ["cell", "client_limit", "percentile", "steadiness", "steady_window", "tokens_between"]

_STEADY_REQUESTS = 20
_STEADY_DRIFT = 0.10
_STEADY_P = 0.01
_LAG_MS = 5.0  # a stamp may be late by the event loop's lag
_CPU_PCT = 80.0  # of one core: above it the client itself queues


def percentile(values: Sequence[float], p: float) -> float | None:
    """The p-th percentile (0..100) by linear interpolation; None when there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * p / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def steady_window(requests: Sequence[RequestRow], load: Load) -> tuple[float, float] | None:
    """(start, end) in seconds of the steady window, or None when there is none.

    In a closed loop every slot sends its next request when its last one ended, so the concurrency is first reached
    with the send of the `concurrency`-th request, provided that no earlier one had ended by then.
    """
    sends = sorted(r.started_s for r in requests)
    if load.concurrency is not None:
        if len(sends) <= load.concurrency:
            return None
        start, end = sends[load.concurrency - 1], sends[-1]
    else:
        ends = [r.started_s + r.e2e_ms / 1000 for r in requests if r.e2e_ms is not None]
        if not ends:
            return None
        start, end = min(ends), sends[-1]
    return (start, end) if end > start else None


def steadiness(requests: Sequence[RequestRow], window: tuple[float, float] | None) -> Steady:
    """Whether E2E of the ok requests sent inside the window had no trend; see the head of this module.

    The slope is that of a straight line through (send, E2E), tested by Student's t on its residuals.
    """
    if window is None:
        return "short"
    inside = [
        r for r in requests if r.status == "ok" and r.e2e_ms is not None and window[0] <= r.started_s <= window[1]
    ]
    n = len(inside)
    if n < _STEADY_REQUESTS:
        return "short"
    times = [r.started_s - window[0] for r in inside]
    values = [r.e2e_ms or 0.0 for r in inside]
    mean_t, mean_v = math.fsum(times) / n, math.fsum(values) / n
    spread = math.fsum((t - mean_t) ** 2 for t in times)
    if spread <= 0 or mean_v <= 0:
        return "short"
    slope = math.fsum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread
    rest = math.fsum((v - mean_v - slope * (t - mean_t)) ** 2 for t, v in zip(times, values, strict=True)) / (n - 2)
    moved = abs(slope) * (window[1] - window[0]) / mean_v
    if moved <= _STEADY_DRIFT:
        return "yes"
    error = math.sqrt(rest / spread)
    return "no" if error == 0 or t_tail(abs(slope) / error, n - 2) < _STEADY_P / 2 else "yes"


def tokens_between(request: RequestRow, start: float, end: float) -> int:
    """Output tokens of a request received in [start, end] seconds: first at TTFT, last at E2E, evenly between."""
    n = request.output_tokens or 0
    if n == 0 or request.ttft_ms is None or request.e2e_ms is None:
        return 0
    first = request.started_s + request.ttft_ms / 1000
    last = request.started_s + request.e2e_ms / 1000
    if first >= start and last <= end:
        return n
    if n == 1 or last <= first:
        return n if start <= first <= end else 0
    step = (last - first) / (n - 1)
    lowest = max(0, math.ceil((start - first) / step - 1e-9))
    highest = min(n - 1, math.floor((end - first) / step + 1e-9))
    return max(0, highest - lowest + 1)


def _within_limits(request: RequestRow, limits: Workload) -> bool:
    pairs = (
        (request.ttft_ms, limits.ttft_limit_ms),
        (request.tpot_ms, limits.tpot_limit_ms),
        (request.e2e_ms, limits.e2e_limit_ms),
    )
    return all(limit is None or (value is not None and value <= limit) for value, limit in pairs)


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else None


def cell(requests: Sequence[RequestRow], load: Load, limits: Workload | None = None) -> CellRow:
    """The summary of one repeat of one cell from its request rows (at least one; all of the same cell and repeat).

    `limits` is the workload whose TTFT/TPOT/E2E limits define goodput; without limits goodput is None.
    """
    head = requests[0]
    ok = [r for r in requests if r.status == "ok"]
    window = steady_window(requests, load)
    throughput = None
    if window:
        throughput = sum(tokens_between(r, *window) for r in requests) / (window[1] - window[0])
    ends = [r.started_s + r.e2e_ms / 1000 for r in requests if r.e2e_ms is not None]
    whole_s = max(ends) - min(r.started_s for r in requests) if ends else 0.0
    limited = limits is not None and any((limits.ttft_limit_ms, limits.tpot_limit_ms, limits.e2e_limit_ms))
    row = CellRow(
        variant=head.variant,
        start=head.start,
        workload=head.workload,
        load=head.load,
        repeat=head.repeat,
        n=len(requests),
        ok=len(ok),
        errors=sum(r.status == "error" for r in requests),
        timeouts=sum(r.status == "timeout" for r in requests),
        cut=sum(r.status == "cut" for r in requests),
        window_start_s=window[0] if window else None,
        window_end_s=window[1] if window else None,
        throughput_tok_s=throughput,
        whole_run_tok_s=sum(r.output_tokens or 0 for r in requests) / whole_s if whole_s > 0 else None,
        whole_run_req_s=len(ok) / whole_s if whole_s > 0 else None,
        goodput_req_s=sum(_within_limits(r, limits) for r in ok) / whole_s
        if limits and limited and whole_s > 0
        else None,
        input_tokens_mean=_mean(r.input_tokens for r in ok if r.input_tokens is not None),
        output_tokens_mean=_mean(r.output_tokens for r in ok if r.output_tokens is not None),
        **{
            f"{metric}_p{p}": percentile([v for r in ok if (v := getattr(r, metric)) is not None], p)
            for metric in ("ttft_ms", "tpot_ms", "e2e_ms")
            for p in (50, 95, 99)
        },  # type: ignore[arg-type]
    )
    row.steady = steadiness(requests, window)
    if load.concurrency is None:
        _open_loop(row, requests, ok)
    return rounded(row)


def _open_loop(row: CellRow, requests: Sequence[RequestRow], ok: Sequence[RequestRow]) -> None:
    """Latency from the time a request was due: a client or server that falls behind cannot hide it (coordinated
    omission).
    """
    due = [r.due_s for r in requests if r.due_s is not None]
    if len(due) > 1 and max(due) > min(due):
        row.offered_req_s = (len(due) - 1) / (max(due) - min(due))
    row.late_ms_p99 = percentile([1000 * (r.started_s - r.due_s) for r in requests if r.due_s is not None], 99)
    for metric in ("ttft", "e2e"):
        values = [
            1000 * (r.started_s - r.due_s) + value
            for r in ok
            if r.due_s is not None and (value := getattr(r, f"{metric}_ms")) is not None
        ]
        for p in (50, 95, 99):
            setattr(row, f"{metric}_due_ms_p{p}", percentile(values, p))


def client_limit(seen: ClientCell) -> str | None:
    """By what the client limited a repeat, in words; None when it did not.

    A late loop (lag p99 over 5 ms), a busy core (over 80 %), a concurrency that was not reached, or requests of an open
    loop sent later than 5 ms after they were due (p99).
    """
    if seen.loop_lag_ms_p99 is not None and seen.loop_lag_ms_p99 > _LAG_MS:
        return f"event loop late by {seen.loop_lag_ms_p99:.1f} ms (p99)"
    if seen.cpu_pct is not None and seen.cpu_pct > _CPU_PCT:
        return f"{seen.cpu_pct:.0f} % of a core used"
    asked, reached = seen.concurrency_asked, seen.concurrency_reached
    if asked is not None and reached is not None and reached < asked:
        return f"{reached} of {asked} requests in flight reached"
    if seen.late_ms_p99 is not None and seen.late_ms_p99 > _LAG_MS:
        return f"requests sent {seen.late_ms_p99:.1f} ms after they were due (p99)"
    return None
