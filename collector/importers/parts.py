"""What importers share: a request row by our definitions, and figures that cannot be in the unit they claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from collector.bundle.schema import RequestRow, RequestStatus
from collector.errors import QuantcaseError
from collector.importers.reading import short
from collector.probes.redact import redact

__all__ = ["MOST_MS", "agree", "error_line", "failed_row", "in_flight", "messages", "ok_row", "times_fit"]

MOST_MS = 24 * 3_600_000.0  # no request takes a day
_APART = 0.02  # share by which rows and the tool's own summary may differ
_IN_FLIGHT = 0.02  # requests in flight below which a run was not one


def error_line(text: str) -> str:
    """The last line of an error or traceback, without secrets, of bounded length."""
    lines = [line for line in text[-4_000:].splitlines() if line.strip()]
    return short(redact(lines[-1]), 200) if lines else "failed, without a message"


def ok_row(
    *,
    index: int,
    started_s: float,
    ttft_ms: float,
    e2e_ms: float,
    output_tokens: int,
    input_tokens: int | None,
    chunks: int = 0,
    first_chunk_ms: float | None = None,
    due_s: float | None = None,
    cached_tokens: int | None = None,
    finish_reason: str | None = None,
) -> RequestRow:
    """A request that ended well. TPOT is (E2E - TTFT) / (tokens - 1) from the times as they will be written."""
    ttft, e2e = round(ttft_ms, 3), round(max(e2e_ms, ttft_ms), 3)
    return RequestRow(
        variant="", start=1, workload="", load="", repeat=1,
        index=index, started_s=started_s, status="ok", ttft_ms=ttft, e2e_ms=e2e,
        tpot_ms=(e2e - ttft) / (output_tokens - 1) if output_tokens > 1 else None,
        first_chunk_ms=first_chunk_ms, input_tokens=input_tokens or None, output_tokens=output_tokens,
        chunks=chunks, due_s=due_s, cached_tokens=cached_tokens, finish_reason=finish_reason,
    )  # fmt: skip


def failed_row(
    *, index: int, started_s: float, error: str, status: RequestStatus = "error", due_s: float | None = None
) -> RequestRow:
    """A request that failed: it keeps its place, and has no times and no tokens."""
    return RequestRow(
        variant="", start=1, workload="", load="", repeat=1,
        index=index, started_s=started_s, status=status, error=error_line(error), due_s=due_s,
    )  # fmt: skip


def messages(rows: Iterable[RequestRow]) -> dict[str, int]:
    """What went wrong -> how often, most often first; at most ten."""
    found = Counter(r.error or r.status for r in rows if r.status != "ok")
    return dict(found.most_common(10))


def agree(name: str, ours: float | None, theirs: float | None, where: str) -> None:
    """The tool's own summary is what its rows give, within 2 %: else one of the two is in another unit or damaged.

    Raises:
        QuantcaseError: they differ, with both figures.
    """
    if ours is None or theirs is None or math.isclose(ours, theirs, rel_tol=_APART, abs_tol=0.01):
        return
    low, high = sorted((ours, theirs))
    unit = "; one is in seconds, the other in milliseconds" if 900 * low < high < 1100 * low else ""
    raise QuantcaseError(
        f"{where}: {name} is {theirs:g}, its requests give {ours:g}{unit}", fix="is it the tool's own file, unedited?"
    )


def in_flight(ok: float, e2e_ms: float, duration_s: float) -> float:
    """Requests in flight on average, by Little's law: ok x mean E2E / duration."""
    return ok * e2e_ms / 1000 / duration_s


def times_fit(ok: int, e2e_ms: float | None, duration_s: float | None, most: float | None, where: str) -> None:
    """By Little's law the times and the duration of a run under load must fit: seconds for milliseconds do not.

    `most` is the number of requests that could be in flight; None where it is not known.

    Raises:
        QuantcaseError: more requests in flight than there can have been, or hardly any.
    """
    if not ok or not e2e_ms or not duration_s:
        return
    found = in_flight(ok, e2e_ms, duration_s)
    if most is not None and found > most * 1.5:
        problem = f"{ok} requests of {e2e_ms:g} ms in {duration_s:g} s are {found:.3g} in flight, of {most:g} at most"
        raise QuantcaseError(f"{where}: {problem}", fix="are its times in milliseconds, and its duration in seconds?")
    if most is not None and ok >= 2 and found < _IN_FLIGHT * min(most, ok):
        problem = f"{ok} requests of {e2e_ms:g} ms in {duration_s:g} s are {found:.3g} in flight of {most:g}"
        raise QuantcaseError(f"{where}: {problem}", fix="are its times in seconds? they must be in milliseconds")
