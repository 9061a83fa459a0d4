"""One line of the trust panel: do throughput, latency and concurrency agree, as Little's law says they must?"""

from __future__ import annotations

from quantcase.analysis.little import LEAST_IN_FLIGHT, Agreement, Little
from quantcase.text import counted, number, percent, text

__all__ = ["row"]


def row(found: Agreement) -> tuple[str, str, str]:
    """What, seen, state: as the trust panel's other lines, with safe text."""
    what = "Throughput × latency against the concurrency asked for (Little&#39;s law)"
    far = found.farthest
    if far is None:
        why = f"{found.left_out} closed repeats, none without failures and with a window" if found.left_out else "none"
        return what, f"no closed repeat to ask it of: {why}", "none"
    low, high = found.span
    seen = (
        f"{percent(low)} to {percent(high)} of it over {counted(len(found.rows), 'closed repeat')}; farthest "
        f"{_place(far)}: "
        f"{number(far.throughput_req_s)} requests/s × {number(far.e2e_s)} s = {number(far.product)} of {far.asked}. "
        f"The ends of the steady window explain up to {percent(found.widest_tolerance)}"
    )
    if found.left_out:
        seen += f"; {found.left_out} left out (failures, or no window)"
    if found.unfit:
        seen += f". Further off than that, so these rows contradict each other: {_places(found.unfit)}"
    if found.empty:
        least = min(found.empty, key=lambda r: r.in_flight / r.asked)
        seen += (
            f". Fewer than {percent(LEAST_IN_FLIGHT, 0)} of the slots were filled in {_places(found.empty)}; at the "
            f"least {number(least.in_flight)} of {least.asked} in flight: lighter than the load point&#39;s name says"
        )
    return what, seen, "look" if found.unfit or found.empty else "ok"


def _place(r: Little) -> str:
    return f"{text(r.variant)} {text(r.workload)} {text(r.load)} start {r.start} repeat {r.repeat}"


def _places(rows: list[Little]) -> str:
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return "; ".join(_place(r) for r in rows[:3]) + more
