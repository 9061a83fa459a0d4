"""Q3xx, the schema: every table and document can be read as what it says it is. Q4xx, the units of its figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import CellKey, Facts, place
from collector.bundle.schema import TABLES, RequestRow
from collector.study import Load

__all__: list[str] = []

_AGAIN = "copy the bundle again"
_UNIT = "look at what wrote the file: the unit is in the column's name"
# Far outside what any server shows. Fastest known single streams are a few thousand tokens/s: 0.02 ms would be 50,000.
_TPOT_MS = (0.02, 60_000.0)
_TTFT_MS = (0.1, 3_600_000.0)
_BOARD_W = 3_000.0  # the largest boards draw 1,000 to 1,400 W
_CLOCK_MHZ = (50.0, 20_000.0)  # memory clocks of GDDR7 are given up to 14,000 MHz
_TEMPERATURE_C = (0.0, 130.0)
_USD_PER_HOUR = (0.005, 500.0)  # one card; 500 would be cents written for dollars
_IN_FLIGHT = 0.05  # of the concurrency: seconds written for ms would give 0.001


@rule(
    "Q301",
    "error",
    "Every table and document of the bundle can be read.",
    why="A line that cannot be read is evidence that is left out.",
    fix=_AGAIN,
)
def parsed(facts: Facts) -> Iterator[Found]:
    for where, words, fix in facts.unreadable:
        if where != facts.bundle.id:
            yield Found(where, words, fix)


@rule(
    "Q302",
    "error",
    "All six tables of the format are there, if only with a header.",
    why="A table that is missing cannot be told from one that was taken away.",
    fix=_AGAIN,
)
def tables(facts: Facts) -> Iterator[Found]:
    for name, table in TABLES.items():
        if facts.bundle.table_path(name) is None:
            yield Found(table.path, "is missing")


@rule(
    "Q303",
    "error",
    "Every table of a closed bundle ends with a whole line.",
    why="What was cut off at the end is missing from every figure.",
    fix=_AGAIN,
    needs="closed",
)
def whole(facts: Facts) -> Iterator[Found]:
    for name in facts.torn:
        yield Found(name, "it ends in the middle")


@rule(
    "Q304",
    "error",
    "The columns of each table are those that the manifest describes.",
    why="Other tools read the tables by that description: units and meanings would be of other columns.",
    fix="run `collect seal` with the version that wrote the bundle",
    needs="closed",
)
def described(facts: Facts) -> Iterator[Found]:
    paths = {table.path: name for name, table in TABLES.items()}
    for resource in facts.bundle.manifest.resources:
        header = facts.headers.get(paths.get(resource.path, ""))
        if header is None or resource.schema is None:
            continue
        fields = resource.schema.get("fields")
        names = [f.get("name") for f in fields if isinstance(f, dict)] if isinstance(fields, list) else []
        if names != header:
            odd = sorted({str(n) for n in names} ^ set(header))
            yield Found(resource.path, f"the manifest describes other columns ({', '.join(odd) or 'another order'})")


@rule(
    "Q401",
    "error",
    "In a closed loop the times add up to the requests in flight: E2E is in milliseconds, sends are in seconds.",
    why="Seconds written for milliseconds make every latency a thousand times too good.",
    fix=_UNIT,
    needs="study requests measured",
)
def in_flight(facts: Facts) -> Iterator[Found]:
    """Little's law, N = X * R: the sum of E2E over the span of the repeat is the mean number of requests in flight,
    which a closed loop holds at its concurrency but for the end of the repeat.
    """
    for key, rows in facts.known_cells.items():
        load = Load.of(key[3])
        timed = [r for r in rows if r.e2e_ms is not None]
        if load is None or not load.concurrency or len(timed) < 2 * load.concurrency:
            continue
        begin = min(r.started_s for r in timed)
        span = max(r.started_s + (r.e2e_ms or 0) / 1000 for r in timed) - begin
        mean = sum(r.e2e_ms or 0 for r in timed) / 1000 / span if span > 0 else 0.0
        if mean < _IN_FLIGHT * load.concurrency:
            words = f"the times give {mean:.3g} requests in flight, {load.concurrency} were held"
            yield Found(f"requests.csv.gz: {place(key)}", words)


def _outside(values: list[float], limits: tuple[float, float]) -> float | None:
    """The median of values where it lies outside limits."""
    middle = statistics.median(values) if values else limits[0]
    return None if limits[0] <= middle <= limits[1] else middle


def _streamed(rows: list[RequestRow]) -> list[RequestRow]:
    """Requests whose tokens came one by one: of an answer in one piece TPOT is nothing."""
    return [r for r in rows if r.status == "ok" and r.chunks > (r.output_tokens or 0) / 2]


@rule(
    "Q402",
    "warning",
    "The median TPOT of every repeat lies between 0.02 ms and a minute.",
    why="No server makes a token in less: it is a unit's slip, or a client that read many tokens at once.",
    fix="see client.json: a client that is late reads tokens in bursts; else look at the unit",
    needs="requests believed",
)
def tpot_range(facts: Facts) -> Iterator[Found]:
    yield from _range(facts, "tpot_ms", _TPOT_MS)


@rule(
    "Q403",
    "warning",
    "The median TTFT of every repeat lies between 0.1 ms and an hour.",
    why="No server answers in less: it is a unit's slip, or the clock started late.",
    fix=_UNIT,
    needs="requests believed",
)
def ttft_range(facts: Facts) -> Iterator[Found]:
    yield from _range(facts, "ttft_ms", _TTFT_MS)


def _range(facts: Facts, column: str, limits: tuple[float, float]) -> Iterator[Found]:
    odd: list[tuple[CellKey, float]] = []
    for key, rows in facts.by_cell.items():
        values = [v for r in _streamed(rows) if (v := getattr(r, column)) is not None]
        if (middle := _outside(values, limits)) is not None:
            odd.append((key, middle))
    if odd:
        words = f"the median {column} is {odd[0][1]:.4g} ms, and outside {limits[0]:g} to {limits[1]:g} ms"
        yield Found(f"requests.csv.gz: {place(odd[0][0])}", f"{words} in {len(odd)} of {len(facts.by_cell)} repeats")


@rule(
    "Q404",
    "warning",
    "Board power lies between 0 and 3,000 W.",
    why="Milliwatts written for watts make energy and cost a thousand times too high.",
    fix=_UNIT,
    needs="telemetry",
)
def power(facts: Facts) -> Iterator[Found]:
    yield from _samples(facts, "power_w", "W", (0.0, _BOARD_W))


@rule(
    "Q405",
    "warning",
    "Utilisation lies between 0 and 100 %.",
    why="Samples under load are told from idle ones by it.",
    fix=_UNIT,
    needs="telemetry",
)
def utilisation(facts: Facts) -> Iterator[Found]:
    yield from _samples(facts, "utilisation_pct", "%", (0.0, 100.0))


@rule(
    "Q406",
    "warning",
    "SM clocks lie between 50 and 20,000 MHz.",
    why="A slow clock must be told from a unit's slip.",
    fix=_UNIT,
    needs="telemetry",
)
def clocks(facts: Facts) -> Iterator[Found]:
    yield from _samples(facts, "sm_clock_mhz", "MHz", _CLOCK_MHZ)


@rule(
    "Q407",
    "warning",
    "GPU temperatures lie between 0 and 130 degrees Celsius.",
    why="A hot card slows itself down: that must be told from degrees Fahrenheit or kelvin.",
    fix=_UNIT,
    needs="telemetry",
)
def temperatures(facts: Facts) -> Iterator[Found]:
    yield from _samples(facts, "temperature_c", "degC", _TEMPERATURE_C)


def _samples(facts: Facts, column: str, unit: str, limits: tuple[float, float]) -> Iterator[Found]:
    values = [v for s in facts.telemetry if (v := getattr(s, column)) is not None]
    odd = [v for v in values if not limits[0] <= v <= limits[1]]
    if odd:
        words = f"{column} is {odd[0]:g} {unit}, and outside {limits[0]:g} to {limits[1]:g} {unit}"
        yield Found("telemetry.csv.gz", f"{words} in {len(odd):,} of {len(values):,} samples")


@rule(
    "Q408",
    "warning",
    "The energy counter rises as the power says: within a factor of two.",
    why="Energy per token rests on the counter; millijoules written for joules are a thousand times too much.",
    fix=_UNIT,
    needs="telemetry energy",
)
def energy(facts: Facts) -> Iterator[Found]:
    """E = integral of P dt, over each pair of neighbouring samples of a card that lie at most 10 s apart."""
    last: dict[int, tuple[float, float, float]] = {}
    counted: dict[int, float] = {}
    summed: dict[int, float] = {}
    for s in facts.telemetry:
        if s.energy_j is None or s.power_w is None:
            continue
        before = last.get(s.gpu)
        if before is not None and 0 < s.t_s - before[0] <= 10 and s.energy_j >= before[1]:
            counted[s.gpu] = counted.get(s.gpu, 0.0) + s.energy_j - before[1]
            summed[s.gpu] = summed.get(s.gpu, 0.0) + (s.power_w + before[2]) / 2 * (s.t_s - before[0])
        last[s.gpu] = (s.t_s, s.energy_j, s.power_w)
    for gpu, total in counted.items():
        if summed[gpu] > 100 and not 0.5 <= total / summed[gpu] <= 2:
            words = f"GPU {gpu}: the counter rose by {total:,.0f} J, power over time gives {summed[gpu]:,.0f} J"
            yield Found("telemetry.csv.gz", words)


@rule(
    "Q409",
    "warning",
    "Device memory once the weights are loaded is at least as large as the weights.",
    why="GiB written for MiB make a model look a thousand times smaller.",
    fix="look at the unit; weights that were offloaded to the CPU are no fault",
    needs="variants believed",
)
def loaded(facts: Facts) -> Iterator[Found]:
    for v in facts.variants:
        if v.vram_loaded_mib is not None and v.weights_gib is not None and v.vram_loaded_mib < 1024 * v.weights_gib:
            words = f"vram_loaded_mib is {v.vram_loaded_mib:,.1f}, the weights are {v.weights_gib:g} GiB"
            yield Found(f"variants.csv: {v.variant} start {v.start}", words)


@rule(
    "Q410",
    "warning",
    "The price of an hour lies between half a cent and 500 dollars.",
    why="Cents written for dollars make every cost a hundred times too high.",
    fix="mend [price] in the study of the next run; pages take another price as an option",
    needs="study price",
)
def price(facts: Facts) -> Iterator[Found]:
    price = facts.asked.price
    usd = price.usd_per_hour if price else 0.0
    if price and not _USD_PER_HOUR[0] <= usd <= _USD_PER_HOUR[1]:
        yield Found("study.toml", f"usd_per_hour is {usd:g}")
