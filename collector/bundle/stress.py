"""`stress.jsonl`: how far each variant was pushed, a row a step, and what happened where it broke. An optional file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from collector.errors import QuantcaseError

__all__ = [
    "LADDERS",
    "STRESS",
    "Climb",
    "Ladder",
    "StressRow",
    "Verdict",
    "append_row",
    "outcome",
    "problems",
    "read_stress",
]

STRESS = "stress.jsonl"
MOST_WORDS = 300  # characters
_MOST_BYTES = 8 << 20

Ladder = Literal["context", "concurrency"]
Verdict = Literal["good", "refused", "preempted", "died", "missed_budget", "timeouts"]
After = Literal["", "answers", "silent", "gone"]
LADDERS: tuple[Ladder, ...] = ("context", "concurrency")  # in the order in which they are climbed

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Figure = Annotated[float, Meta(ge=0)]


class StressRow(Struct, kw_only=True):
    """One step of one ladder. Percentiles are of the `ok` requests; None where there is nothing to tell."""

    variant: str
    start: Positive  # server start
    ladder: Ladder
    step: Positive  # counted from 1 on the ladder: the same step is the same load for every variant
    concurrency: Positive  # requests in flight, as asked for
    input_tokens: Positive  # prompt tokens a request, aimed at
    output_tokens: Positive  # exact
    n: Count
    ok: Count
    errors: Count
    timeouts: Count
    throughput_tok_s: Figure | None = None  # in the steady window, as in cells.csv
    ttft_ms_p95: Figure | None = None
    tpot_ms_p95: Figure | None = None
    preemptions: Count | None = None  # by the engine's counter, during the step; None where it keeps none
    kv_usage_max: Annotated[float, Meta(ge=0, le=1)] | None = None  # share of the KV pool, by the engine's gauge
    verdict: Verdict
    words: Annotated[str, Meta(max_length=MOST_WORDS)] = ""  # the server's or its log's own; of a budget: what missed
    after: After = ""  # after a bad step: whether the server answered again, was silent, or was gone


class Climb(Struct, frozen=True):
    """What one ladder showed: the last step that was good and the first that was not; None where there is none."""

    last_good: StressRow | None
    first_bad: StressRow | None
    steps: tuple[StressRow, ...]


def outcome(rows: Sequence[StressRow]) -> dict[tuple[str, Ladder], Climb]:
    """(variant, ladder) -> what the ladder showed, in the order of the rows."""
    found: dict[tuple[str, Ladder], list[StressRow]] = {}
    for row in rows:
        found.setdefault((row.variant, row.ladder), []).append(row)
    climbs = {}
    for key, mine in found.items():
        mine.sort(key=lambda r: r.step)
        bad = next((r for r in mine if r.verdict != "good"), None)
        good = [r for r in mine if r.verdict == "good" and (bad is None or r.step < bad.step)]
        climbs[key] = Climb(good[-1] if good else None, bad, tuple(mine))
    return climbs


def read_stress(folder: Path) -> list[StressRow]:
    """The rows of a bundle; an empty list where it was not stressed. A last line without its end, of a run that was
    killed, is passed over.

    Raises:
        QuantcaseError: the file is too large, or a line is no such row, by its number.
    """
    path = folder / STRESS
    if not path.is_file():
        return []
    if path.stat().st_size > _MOST_BYTES:
        raise QuantcaseError(f"{STRESS} is larger than {_MOST_BYTES >> 20} MiB", fix="copy the bundle again")
    raw = path.read_bytes()
    rows = []
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), 1):
        try:
            rows.append(msgspec.json.decode(line, type=StressRow))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise QuantcaseError(f"{folder.name}/{STRESS} line {number}: {e}", fix="copy the bundle again") from None
    return rows


def append_row(folder: Path, row: StressRow) -> None:
    """Add one step to an open bundle: it is on disk before the next begins, for that one may end everything."""
    path = folder / STRESS
    if path.is_file():
        raw = path.read_bytes()
        if raw and not raw.endswith(b"\n"):  # was being written when an earlier run was killed
            path.write_bytes(raw[: raw.rfind(b"\n") + 1])
    with path.open("ab") as f:
        f.write(msgspec.json.encode(row) + b"\n")
        f.flush()
        os.fsync(f.fileno())


def problems(rows: Sequence[StressRow], variants: Collection[str]) -> Iterator[tuple[str, str]]:
    """(where, what is wrong) of rows that cannot be true together. `variants` are those of the study."""
    seen: set[tuple[str, str, int]] = set()
    for row in rows:
        where = f"{row.variant} {row.ladder} step {row.step}"
        if row.variant not in variants:
            yield where, f"variant {row.variant} is not in study.toml"
        if (row.variant, row.ladder, row.step) in seen:
            yield where, "stands twice"
        seen.add((row.variant, row.ladder, row.step))
        if row.ok + row.errors + row.timeouts > row.n:
            yield where, f"{row.ok} ok, {row.errors} errors and {row.timeouts} timeouts are more than {row.n} requests"
        if row.verdict == "good" and (row.ok < row.n or not row.n or row.preemptions):
            yield (
                where,
                f"it is called good with {row.ok} of {row.n} requests ok and {row.preemptions or 0} preemptions",
            )
    for climb in outcome(rows).values():
        last = climb.steps[-1]
        where = f"{last.variant} {last.ladder} step {last.step}"
        if [r.step for r in climb.steps] != list(range(1, len(climb.steps) + 1)):
            yield where, "steps below it are missing"
        if climb.first_bad is not None and last.step > climb.first_bad.step:
            yield where, f"the ladder went on after step {climb.first_bad.step}, which was {climb.first_bad.verdict}"
