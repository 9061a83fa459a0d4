"""The trial before servers are measured side by side: one cell alone against the same cell in company.

The baseline is served on every place. Pairs of repeats follow each other, alone and together in turns (A T, T A, ...),
so that drift falls on both alike. The ratio together / alone is the mean of the pairs' logarithms with Student's t;
its whole 95 % interval has to lie within the region of equivalence, or the run goes one at a time.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from collector.budget import Budget
from collector.bundle.co_location import CoLocated, CoLocation, Ratio
from collector.bundle.schema import CellRow
from collector.bundle.student import t_quantile
from collector.errors import QuantcaseError
from collector.load.measure import Client, Measured
from collector.load.prompts import PromptMaker
from collector.load.pulse import Hung
from collector.study import Load, Study, Workload

__all__ = ["REGIONS", "heaviest", "judged", "ratio_of", "trial"]

# The site's regions of practical equivalence (analysis/compare.py); a test holds the two against each other.
REGIONS = {"throughput_tok_s": 0.03, "ttft_ms_p50": 0.05, "tpot_ms_p50": 0.05}
_PAIRS = 5
_NUMBERS = 900_000  # prompts of the trial: numbers that no measured repeat reaches
T = TypeVar("T")


def heaviest(study: Study) -> tuple[Workload, Load]:
    """The load point that asks most of the box: the most requests in flight, else the highest rate."""
    cells = study.cells()
    closed = [c for c in cells if c[1].concurrency is not None]
    return max(closed or cells, key=lambda c: (c[1].amount, c[0].output_tokens))


async def trial(
    study: Study, clients: Sequence[Client], maker: PromptMaker, *, zero: float, budget: Budget
) -> CoLocation:
    """Try it with one client a place, all of them of servers of the baseline.

    Raises:
        QuantcaseError: a server answered nothing, hangs, or takes no connections.
        OutOfBudget: the next repeat may not fit into what the run may spend.
    """
    workload, load = heaviest(study)
    await _all(client.warm_up(maker, workload, load) for client in clients)
    longest_s = 0.0
    alone: list[CellRow] = []
    together: list[CellRow] = []

    async def once(client: Client, number: int) -> Measured:
        return await client.repeat(
            maker, workload, load, variant=study.baseline, start=0, repeat=number, zero=zero,
            prompts_of=_NUMBERS + number,
        )  # fmt: skip

    for pair in range(_PAIRS):
        for company in (False, True) if pair % 2 == 0 else (True, False):
            here = clients if company else clients[:1]
            # Each place has prompts of its own: a shared prefix cache would be another kind of company.
            budget.keep(longest_s)
            began = time.monotonic()
            made = await _all(once(c, pair * 64 + 2 * i + company) for i, c in enumerate(here))
            longest_s = max(longest_s, time.monotonic() - began)
            if failed := next((m for m in made if not m.cell.ok), None):
                raise QuantcaseError(f"the trial of side-by-side servers failed: {failed.first_error}")
            (together if company else alone).append(made[0].cell)
    return judged(
        {"variant": study.baseline, "workload": workload.name, "load": load.name}, alone, together, len(clients)
    )


async def _all(asked: Iterable[Awaitable[T]]) -> list[T]:
    """What each came to, when all have ended: none goes on behind the back of one that failed.

    Raises:
        QuantcaseError: a server hangs or takes no connections.
    """
    made: list[T] = []
    for found in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(found, OSError | Hung):
            raise QuantcaseError(f"the trial of side-by-side servers failed: {found}")
        if isinstance(found, BaseException):
            raise found
        made.append(found)
    return made


def judged(cell: dict[str, str], alone: Sequence[CellRow], together: Sequence[CellRow], places: int) -> CoLocation:
    """What the pairs say: allowed only where every metric's interval lies within its region.

    Raises:
        QuantcaseError: the repeats have no throughput: they are too short to tell.
    """
    ratios = []
    for metric, region in REGIONS.items():
        a, t = ([getattr(c, metric) for c in side] for side in (alone, together))
        if None not in a and None not in t and min(*a, *t) > 0:
            ratios.append(ratio_of(metric, a, t, region))
    if not ratios or ratios[0].metric != "throughput_tok_s":
        raise QuantcaseError("side by side: the repeats are too short to tell", fix="one at a time, or longer repeats")
    beyond = [r for r in ratios if not 1 - r.region <= r.low <= r.high <= 1 + r.region]
    worst = max(beyond, key=lambda r: max(1 - r.low, r.high - 1), default=None)
    reason = "every interval lies within its region of equivalence"
    if worst is not None:
        reason = (
            f"{worst.metric} together is {worst.ratio:.3f} of that alone ({worst.low:.3f} to {worst.high:.3f}): "
            f"more than {worst.region:.0%} is not excluded"
        )
    speed = ratios[0]
    return CoLocation(
        cell=cell, alone=_once(alone), together=_once(together), ratio=speed.ratio, low=speed.low, high=speed.high,
        region=speed.region, allowed=worst is None, places=places, reason=reason, ratios=ratios,
    )  # fmt: skip


def _once(cells: Sequence[CellRow]) -> CoLocated:
    """The median of the repeats, each figure by itself."""
    speeds = [c.throughput_tok_s for c in cells if c.throughput_tok_s is not None]
    firsts = [c.ttft_ms_p50 for c in cells if c.ttft_ms_p50 is not None]
    return CoLocated(tok_s=statistics.median(speeds), ttft_ms_p50=statistics.median(firsts) if firsts else None)


def ratio_of(metric: str, alone: Sequence[float], together: Sequence[float], region: float) -> Ratio:
    """Geometric mean of the pairs' ratios with its 95 % interval (paired t on logarithms)."""
    logs = [math.log(t / a) for a, t in zip(alone, together, strict=True)]
    mean = math.fsum(logs) / len(logs)
    variance = math.fsum((x - mean) ** 2 for x in logs) / (len(logs) - 1)
    half = t_quantile(0.975, len(logs) - 1) * math.sqrt(variance / len(logs))
    return Ratio(
        metric=metric, ratio=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), region=region,
        alone=list(alone), together=list(together),
    )  # fmt: skip
