"""Q9xx, sufficiency: whether the rows can carry what is computed from them. Q10xx, the client's honesty: whether the
instrument measured the server, or itself. Asked of complete runs whose figures are to be believed.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

from collector.bundle.metrics import client_limit
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import CellKey, Facts, key_of, place
from collector.bundle.schema import ClientCell

__all__ = ["least_n"]

_FAILED = 0.01
_CV = 0.05
_LAG = 0.1
_OTHERS = 0.01
_TOKENS_PER_CHUNK = 1.1


def least_n(p: float, confidence: float = 0.95) -> int:
    """The fewest requests whose largest value bounds the p-th quantile (0..1) from above, two-sided.

    The smallest n with p^n <= (1 - confidence) / 2: order statistics, with no assumption about the distribution
    (Conover, Practical Nonparametric Statistics, "confidence interval for a quantile"). 72 for p95, 368 for p99.
    """
    n, chance = 0, 1.0
    while chance > (1 - confidence) / 2:
        n, chance = n + 1, chance * p
    return n


def _few(facts: Facts, p: int) -> Iterator[Found]:
    least = least_n(p / 100)
    few = {key: len(rows) for key, rows in facts.by_point.items() if len(rows) < least}
    if few:
        key = min(few, key=lambda k: few[k])
        words = f"p{p} rests on fewer than {least} requests at {len(few)} of {len(facts.by_point)} load points"
        yield Found("requests.csv.gz", f"{words}; fewest {few[key]}, {' '.join(key)}")


@rule(
    "Q901",
    "note",
    "A p95 rests on 72 ok requests or more, over all repeats of a load point.",
    why="With fewer, no interval of 95 % has an upper end: the p95 could be anything above.",
    fix="raise requests_per_stream or repeats; read such a p95 as a hint",
    needs="requests complete believed",
)
def p95(facts: Facts) -> Iterator[Found]:
    yield from _few(facts, 95)


@rule(
    "Q902",
    "note",
    "A p99 rests on 368 ok requests or more, over all repeats of a load point.",
    why="With fewer, no interval of 95 % has an upper end: the p99 could be anything above.",
    fix="raise requests_per_stream or repeats; read such a p99 as a hint",
    needs="requests complete believed",
)
def p99(facts: Facts) -> Iterator[Found]:
    yield from _few(facts, 99)


@rule(
    "Q903",
    "warning",
    "Every load point was measured at least twice.",
    why="From one repeat nobody can tell a difference from chance.",
    fix="repeats = 3 in the study, without --quick",
    needs="requests complete measured",
)
def repeats(facts: Facts) -> Iterator[Found]:
    counts = Counter((k[0], k[2], k[3]) for k in facts.by_cell)
    once = [key for key, n in counts.items() if n < 2]
    if once:
        words = f"{len(once)} of {len(counts)} load points were measured once, the first {' '.join(once[0])}"
        yield Found("cells.csv", words)


@rule(
    "Q904",
    "warning",
    "At no load point did more than 1 % of the requests fail.",
    why="Percentiles are of the requests that ended well: those that failed were often the slowest.",
    fix="see the column `error` of requests.csv.gz; a lower load point may hold",
    needs="requests complete believed",
)
def failures(facts: Facts) -> Iterator[Found]:
    sent: Counter[tuple[str, str, str]] = Counter()
    for key, rows in facts.by_cell.items():
        sent[key[0], key[2], key[3]] += len(rows)
    for point, n in sent.items():
        failed = n - len(facts.by_point.get(point, ()))
        if failed > _FAILED * n:
            yield Found(
                f"requests.csv.gz: {' '.join(point)}", f"{failed:,} of {n:,} requests failed ({failed / n:.1%})"
            )


@rule(
    "Q905",
    "warning",
    "Latency stood still inside the steady window of every repeat.",
    why="A figure that was taken on the way up or down is none of a steady state.",
    fix="longer repeats (requests_per_stream), more warm-up",
    needs="cells complete believed",
)
def steady(facts: Facts) -> Iterator[Found]:
    told = [c for c in facts.cells if c.steady is not None]
    moved = [c for c in told if c.steady == "no"]
    if moved:
        words = f"latency had a trend in {len(moved)} of {len(told)} repeats, the first {place(key_of(moved[0]))}"
        yield Found("cells.csv", words)


@rule(
    "Q906",
    "note",
    "Throughput of the repeats of a load point varies by no more than 5 % (coefficient of variation).",
    why="A spread as large as the difference that is sought hides it.",
    fix="more repeats, a quieter machine",
    needs="cells complete believed",
)
def spread(facts: Facts) -> Iterator[Found]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for c in facts.cells:
        if c.throughput_tok_s:
            found.setdefault((c.variant, c.workload, c.load), []).append(c.throughput_tok_s)
    wide = {k: statistics.stdev(v) / statistics.fmean(v) for k, v in found.items() if len(v) >= 3}
    wide = {k: cv for k, cv in wide.items() if cv > _CV}
    if wide:
        key = max(wide, key=lambda k: wide[k])
        words = f"throughput varies by more than {_CV:.0%} at {len(wide)} of {len(found)} load points"
        yield Found("cells.csv", f"{words}; most {wide[key]:.0%}, {' '.join(key)}")


@rule(
    "Q1001",
    "warning",
    "The client was not the limit in any repeat.",
    why="Where the client falls behind, its own slowness is taken for the server's.",
    fix="a faster client machine, --workers 2, or fewer requests in flight",
    needs="client complete believed",
)
def limited(facts: Facts) -> Iterator[Found]:
    """By the word of client.json, or by the same rule (`metrics.client_limit`) where an older collector kept silent."""
    cells = facts.client.cells
    held = [c for c in cells if (client_limit(c) is not None if c.client_limited is None else c.client_limited)]
    if held:
        why = held[0].limited_by or client_limit(held[0]) or "by its own word"
        words = f"the client was the limit in {len(held)} of {len(cells)} repeats"
        yield Found("client.json", f"{words}, the first {place(key_of(held[0]))}: {why}")


def _ttft(facts: Facts, key: CellKey) -> float | None:
    values = [r.ttft_ms for r in facts.by_cell.get(key, ()) if r.ttft_ms is not None]
    return statistics.median(values) if values else None


@rule(
    "Q1002",
    "note",
    "The client's event loop is late (p99) by no more than a tenth of the median TTFT.",
    why="A stamp may be late by the loop's lag: so much of a TTFT may be the client's.",
    fix="a quieter client machine, --workers 2",
    needs="client requests complete believed",
)
def lag(facts: Facts) -> Iterator[Found]:
    late: list[tuple[float, ClientCell]] = []
    for c in facts.client.cells:
        ttft = _ttft(facts, key_of(c))
        if c.loop_lag_ms_p99 is not None and ttft and c.loop_lag_ms_p99 > _LAG * ttft:
            late.append((c.loop_lag_ms_p99 / ttft, c))
    if late:
        share, worst = max(late, key=lambda x: x[0])
        words = f"lag is over a tenth of TTFT in {len(late)} of {len(facts.client.cells)} repeats"
        told = f"{words}; most {worst.loop_lag_ms_p99:.1f} ms, {share:.0%}, {place(key_of(worst))}"
        yield Found("client.json", told)


@rule(
    "Q1003",
    "warning",
    "client.json tells about every repeat.",
    why="Of a repeat that it keeps silent about nobody knows whether the client was the limit.",
    fix="measure it again with this version",
    needs="requests complete measured",
)
def told(facts: Facts) -> Iterator[Found]:
    silent = sorted(facts.by_cell.keys() - {key_of(c) for c in facts.client.cells})
    if silent:
        words = f"it keeps silent about {len(silent)} of {len(facts.by_cell)} repeats, the first {place(silent[0])}"
        yield Found("client.json", words)


@rule(
    "Q1004",
    "warning",
    "The engine made as many tokens as were sent to this client, to 1 %.",
    why="Somebody else used the same server, and the throughput is not all that it did.",
    fix="measure a server that nobody else uses",
    needs="client complete believed",
)
def others(facts: Facts) -> Iterator[Found]:
    apart = [
        (abs(c.engine_tokens / c.usage_tokens - 1), c)
        for c in facts.client.cells
        if c.engine_tokens is not None and c.usage_tokens
    ]
    apart = [x for x in apart if x[0] > _OTHERS]
    if apart:
        c = max(apart, key=lambda x: x[0])[1]
        words = f"the counts differ in {len(apart)} of {len(facts.client.cells)} repeats, most {place(key_of(c))}"
        yield Found("client.json", f"{words}: the engine made {c.engine_tokens:,.0f}, {c.usage_tokens:,} came here")


@rule(
    "Q1005",
    "note",
    "A chunk holds one token: at most 1.1 on average.",
    why="Gaps between chunks are no times between tokens where a chunk holds several.",
    fix="read chunk gaps as chunk gaps, and TPOT for the tokens",
    needs="client complete believed",
)
def chunks(facts: Facts) -> Iterator[Found]:
    several = [c for c in facts.client.cells if c.tokens_per_chunk and c.tokens_per_chunk > _TOKENS_PER_CHUNK]
    if several:
        most = max(several, key=lambda c: c.tokens_per_chunk or 0)
        words = f"chunks hold several tokens in {len(several)} of {len(facts.client.cells)} repeats"
        yield Found("client.json", f"{words}; most {most.tokens_per_chunk:.2f}, {place(key_of(most))}")
