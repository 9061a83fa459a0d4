"""Q6xx, recomputation: whatever follows from rows is what the rows give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from collector.bundle import metrics
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts, key_of, place
from collector.bundle.schema import CellRow, columns
from collector.study import Load

__all__: list[str] = []

_AGAIN = "copy the bundle again"
_TOLERANCE = 1e-3  # relative: cells against what requests give (0.1 %)


@rule(
    "Q601",
    "error",
    "cells.csv says what requests.csv.gz gives, column by column, to 0.1 %.",
    why="The summary is what people open; it must not differ from the evidence.",
    fix=_AGAIN,
    needs="study cells requests",
)
def cells(facts: Facts) -> Iterator[Found]:
    """By `collector.bundle.metrics.cell`; columns that an older collector did not write, or that tell of the box and
    not of the requests, are left out.
    """
    limits = {w.name: w for w in facts.asked.workloads}
    written = set(facts.headers.get("cells", ()))
    wanted = [c.name for c in columns(CellRow) if c.name in written and c.name != "co_located"]
    for row in facts.cells:
        key, load = key_of(row), Load.of(row.load)
        if load is None or row.workload not in limits or key not in facts.by_cell:
            continue  # rules of their own
        again = metrics.cell(facts.by_cell[key], load, limits[row.workload])
        for name in wanted:
            old, new = getattr(row, name), getattr(again, name)
            if old == new:
                continue
            if isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=_TOLERANCE):
                continue
            yield Found(f"cells.csv: {place(key)}", f"{name} is {old}, requests.csv.gz gives {new}")


@rule(
    "Q602",
    "error",
    "TPOT is (E2E - TTFT) / (output tokens - 1), to 0.1 %.",
    why="Tokens per second of one stream follow from it.",
    fix=_AGAIN,
    needs="requests",
)
def tpot(facts: Facts) -> Iterator[Found]:
    for line, r in enumerate(facts.requests, 2):
        if r.status != "ok" or r.tpot_ms is None or r.ttft_ms is None or r.e2e_ms is None or r.ttft_ms > r.e2e_ms:
            continue
        if not all(map(math.isfinite, (r.tpot_ms, r.ttft_ms, r.e2e_ms))):
            continue
        expected = (r.e2e_ms - r.ttft_ms) / max(1, (r.output_tokens or 2) - 1)
        if abs(expected - r.tpot_ms) > max(0.002, _TOLERANCE * expected):
            words = f"TPOT {r.tpot_ms} ms is not (E2E - TTFT) / (tokens - 1) = {expected:.3f}"
            yield Found(f"requests.csv.gz line {line}", words)


@rule(
    "Q603",
    "error",
    "The histogram of chunk gaps counts one gap between each two content chunks of an ok request.",
    why="How evenly text arrives is read off the histogram.",
    fix=_AGAIN,
    needs="requests gaps measured complete",
)
def gaps(facts: Facts) -> Iterator[Found]:
    counted: Counter[tuple[str, int, str, str, int]] = Counter()
    for g in facts.gaps:
        counted[key_of(g)] += g.count
    for key, rows in facts.by_cell.items():
        expected = sum(max(0, r.chunks - 1) for r in rows if r.status == "ok")
        if key in counted and counted[key] != expected:
            yield Found(
                f"chunk_gaps.csv: {place(key)}", f"{counted[key]:,} gaps, the requests' chunks give {expected:,}"
            )


@rule(
    "Q604",
    "error",
    "Whether the client was the limit follows from what client.json says of it.",
    why="A limit that was struck out would let the client's slowness pass for the server's.",
    fix=_AGAIN,
    needs="client",
)
def client(facts: Facts) -> Iterator[Found]:
    """By `collector.bundle.metrics.client_limit`; an older collector left the word out."""
    for seen in facts.client.cells:
        limit = metrics.client_limit(seen)
        if seen.client_limited is not None and seen.client_limited != (limit is not None):
            said = "the limit" if seen.client_limited else "not the limit"
            words = f"it calls the client {said}; its figures say {limit or 'that nothing limited'}"
            yield Found(f"client.json: {place(key_of(seen))}", words)


@rule(
    "Q605",
    "error",
    "client.json counts the output tokens that the ok requests of the repeat have.",
    why="The engine's own counter is held against this number.",
    fix=_AGAIN,
    needs="client requests",
)
def usage(facts: Facts) -> Iterator[Found]:
    for seen in facts.client.cells:
        rows = facts.by_cell.get(key_of(seen))
        if rows is None or seen.usage_tokens is None:
            continue
        given = sum(r.output_tokens or 0 for r in rows if r.status == "ok")
        if given != seen.usage_tokens:
            words = f"usage_tokens is {seen.usage_tokens:,}, requests.csv.gz gives {given:,}"
            yield Found(f"client.json: {place(key_of(seen))}", words)
