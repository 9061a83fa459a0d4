"""Putting a variant to work: its settings as they were measured, and how many workers a traffic needs.

The workers follow from what one worker was measured to carry, never from fixed bands of traffic:

workers = ceil(lambda / (60 mu rho)) + spare, with lambda in requests per minute, mu in requests per second and worker,
rho the share of it that is planned with (queues grow without bound as it comes near 1).

mu is the highest measured rate of requests of which at least 95 % were inside the workload's limits (goodput); where
the workload sets no limits, the highest whole-run rate. Workers add up linearly only as independent replicas.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from collector.bundle.read import Load
from collector.bundle.schema import VariantRow
from quantcase.analysis.hierarchy import Runs, estimates, span
from quantcase.analysis.servers import gpus_of
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = [
    "GOOD_SHARE", "LOW_USE", "RHO", "SPARE", "TRAFFIC", "Capacity", "Deployment", "Need", "capacity", "deployment",
    "need", "workers",
]  # fmt: skip

RHO = 0.7
SPARE = 1  # one worker may fail or be replaced
GOOD_SHARE = 0.95
LOW_USE = 0.1  # below it a worker mostly waits: a smaller card, or one by the second, does the same
TRAFFIC = (60, 100, 1_000, 10_000)  # requests per minute


@dataclass(frozen=True)
class Capacity:
    """What one worker carries. `basis`: goodput (inside the limits) or whole run (no limits are set)."""

    variant: str
    workload: str
    load: Load
    req_s: float  # mu
    low: float  # its 95 % interval over repeats and starts, nan where it cannot be had
    high: float
    runs: int
    basis: Literal["goodput", "whole run"]
    gpus: int = 1  # of one worker


@dataclass(frozen=True)
class Need:
    """The workers for one traffic; USD an hour for every GPU of them."""

    per_minute: int
    busy: int  # without the spare
    total: int
    total_low: int | None  # at the lower bound of the capacity; None where it has none
    use: float  # share of the busy workers' capacity that is used
    usd_per_hour: float | None


def capacity(case: Case, variant: str, workload: str) -> Capacity | None:
    """The capacity of one worker; None where nothing was measured or no load point kept its limits."""
    asked = case.study.workload(workload)
    limited = any((asked.ttft_limit_ms, asked.tpot_limit_ms, asked.e2e_limit_ms))
    table = case.cells[(case.cells["variant"] == variant) & (case.cells["workload"] == workload)]
    table = table.dropna(subset=["whole_run_req_s", "goodput_req_s"] if limited else ["whole_run_req_s"])
    found: Capacity | None = None
    for at in case.loads(workload):
        cells = table[table["load"] == at.name]
        if cells.empty or (variant, workload, at.name) in limited_loads(case):
            continue
        rate = float(cells["whole_run_req_s"].mean())
        if limited and not float(cells["goodput_req_s"].mean()) >= GOOD_SHARE * rate:
            continue
        if rate > 0 and (found is None or rate > found.req_s):
            low, high = _interval(case, workload, at.name, variant)
            basis: Literal["goodput", "whole run"] = "goodput" if limited else "whole run"
            found = Capacity(variant, workload, at, rate, low, high, len(cells), basis, gpus_of(case, variant))
    return found


def _interval(case: Case, workload: str, load: str, variant: str) -> tuple[float, float]:
    """The interval of the rate at one load point; starts are pooled over variants, as everywhere."""
    cells = case.cells[(case.cells["workload"] == workload) & (case.cells["load"] == load)]
    arms: dict[str, Runs] = {}
    for name, mine in cells.dropna(subset=["whole_run_req_s"]).groupby("variant"):
        starts: dict[int, list[float]] = {}
        for start, value in mine[["start", "whole_run_req_s"]].to_numpy().tolist():
            starts.setdefault(int(start), []).append(float(value))
        arms[str(name)] = Runs(float(mine["whole_run_req_s"].mean()), starts)
    return span(estimates(arms)[variant])


def workers(per_minute: float, req_s: float, *, rho: float = RHO, spare: int = SPARE) -> int:
    """ceil(lambda / (60 mu rho)) + spare; `per_minute` is lambda, `req_s` is mu of one worker."""
    return math.ceil(per_minute / (60 * req_s * rho) - 1e-9) + spare


def need(of: Capacity, per_minute: int, usd_per_hour: float | None) -> Need:
    """The workers for a traffic, how busy they are, and what they cost together. `usd_per_hour` is of one GPU."""
    busy = workers(per_minute, of.req_s, spare=0)
    total = busy + SPARE
    low = workers(per_minute, of.low) if of.low > 0 else None
    use = per_minute / (60 * of.req_s * busy)
    cost = None if usd_per_hour is None else usd_per_hour * of.gpus * total
    return Need(per_minute, busy, total, low, use, cost)


@dataclass(frozen=True)
class Deployment:
    """A variant's settings as they stand in the command that was measured; None for what the command leaves open."""

    variant: str
    quantization: str
    max_num_seqs: str | None
    gpu_memory_utilization: str | None
    lines: list[str]  # the command, one option a line, quoted for a shell
    dummy: bool  # an option that loads no weights was left out


# Where the server listens is the deployer's choice, and dummy weights answer nothing.
_PLACE = ("--host", "--port")
_SEQS = ("--max-num-seqs", "-np", "--parallel")
_SHARE = ("--gpu-memory-utilization",)


def deployment(row: VariantRow) -> Deployment | None:
    """The settings of a server start; None when its command line was not recorded."""
    options = _options(row.argv)
    if not options or not options[0]:
        return None
    kept = [o for o in options if o[0] not in _PLACE and o != ["--load-format", "dummy"]]
    values = {name: o[1] for o in options for name in o[:1] if len(o) > 1}
    return Deployment(
        row.variant,
        row.method,
        next((values[n] for n in _SEQS if n in values), None),
        next((values[n] for n in _SHARE if n in values), None),
        [shlex.join(o) for o in kept],
        ["--load-format", "dummy"] in options,
    )


def _options(argv: str) -> list[list[str]]:
    """The command and then each option with its values; `--name=value` is taken apart."""
    try:
        words = json.loads(argv)
    except ValueError:
        return []
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        return []
    return _grouped(words)


def _grouped(words: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    module = False  # `python -m some.module` belongs to the command, as `vllm serve MODEL` does
    for word in words:
        if word == "-m" and len(found) == 1 and not module and "python" in " ".join(found[0]):
            module = True
            found[0].append(word)
        elif word.startswith("-") and not word[1:2].isdigit():
            name, equals, value = word.partition("=")
            found.append([name, value] if equals and word.startswith("--") else [word])
        else:
            found[-1].append(word)
    return found
