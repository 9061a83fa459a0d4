"""Cost against latency on the GPU page, and the machines: power, tokens per joule, memory, kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from quantcase.analysis.gpus_choice import amount, cost
from quantcase.analysis.gpus_document import Study
from quantcase.analysis.gpus_energy import PER_JOULE, POWER
from quantcase.analysis.gpus_pool import Spot
from quantcase.analysis.gpus_study import facts_of
from quantcase.analysis.hierarchy import Estimate, span
from quantcase.analysis.points import THROUGHPUT
from quantcase.charts.figure import slug as safe
from quantcase.charts.gpus import cost_against_latency
from quantcase.charts.words import short
from quantcase.html import Column, none, table
from quantcase.money import Money
from quantcase.pages.gpus_boxes import plain_load
from quantcase.text import counted, fixed, load_words, number, text
from quantcase.text import span as spanned

__all__ = ["costs", "machine", "slugs", "where"]

_LATENCIES = {"tpot_ms_p50": "time per output token", "ttft_ms_p95": "time to first token"}


def slugs(found: Sequence[Study]) -> list[str]:
    """A short name for each study's tables and charts, unlike among themselves."""
    made = [safe(s.group.base_model, s.group.grade, s.group.weights) for s in found]
    return [f"{name}-{i + 1}" if made.count(name) > 1 else name for i, name in enumerate(made)]


def where(s: Study, x: Spot) -> str:
    """The GPU, as plain text; with its box where boxes of the type stand apart anywhere, so that none is mixed up."""
    apart = any(other.kept_apart for other in s.spots if other.gpu == x.gpu)
    return f"{x.gpu}, {' + '.join(x.boxes)}" if apart else x.gpu


def costs(s: Study, slug: str, money: Money) -> str:
    """Charts and the table of every cell."""
    unit = f"{money.sign} / 1M output tokens"
    parts = []
    for workload in s.group.workloads:
        for metric, words in _LATENCIES.items():
            made = _chart(s, workload, metric, words, unit, slug, money)
            parts += [made] if made else []
    if not parts:
        parts.append(none("No cell has a price and a latency with enough requests, so no cost is drawn."))
    parts.append(_table(s, slug, unit, money))
    return "\n\n".join([*parts, *filter(None, [money.note()])])


def _chart(s: Study, workload: str, metric: str, words: str, unit: str, slug: str, money: Money) -> str:
    rows = []
    for x in s.spots:
        price = s.prices[x.gpu]
        if x.workload == workload and price is not None and THROUGHPUT in x.figures and metric in x.figures:
            usd, ms = cost(x, price), x.figures[metric]
            bounds = (*(money.of(v) for v in (usd.value, *span(usd))), ms.value, *span(ms))
            rows.append((where(s, x), x.variant, x.load, plain_load(x.load), amount(x.load), *bounds))
    if len(rows) < 2:
        return ""
    columns = ["gpu", "variant", "load", "at", "amount", "usd", "usd_low", "usd_high", "ms", "ms_low", "ms_high"]
    data = pd.DataFrame(rows, columns=columns)
    title = f"{workload}: cost against {words}"
    finding = _finding(data, money.sign)
    return cost_against_latency(data, metric, unit, finding, name=(slug, workload), title=title).html()


def _finding(data: pd.DataFrame, sign: str) -> str:
    """The cheapest point of each GPU, which names no winner."""
    parts = []
    for gpu, rows in data.groupby("gpu", sort=False):
        best = rows.sort_values("usd").iloc[0]
        parts.append(
            f"{gpu}: cheapest {sign} {short(best['usd'])} with {best['variant']} at {best['at']}, "
            f"{short(best['ms'])} ms"
        )
    return "; ".join(parts) + "."


def _table(s: Study, slug: str, unit: str, money: Money) -> str:
    rows = [
        [
            text(x.gpu), text(" + ".join(x.boxes)), text(x.variant), text(x.workload), load_words(x.load),
            fixed(x.gpus),
            _usd(x, s.prices[x.gpu], money), _figure(x, THROUGHPUT), _figure(x, "tpot_ms_p50"),
            _figure(x, "ttft_ms_p95"), _pooled(x),
        ]
        for x in s.spots
    ]  # fmt: skip
    if not rows:
        return none("No cell has been measured on these boxes.")
    columns = [
        Column("GPU"), Column("Boxes"), Column("Variant"), Column("Workload"), Column("Load"),
        Column("Server (GPUs)", True), Column(unit, True), Column("Throughput (tok/s)", True),
        Column("TPOT p50 (ms)", True), Column("TTFT p95 (ms)", True), Column("Boxes together?"),
    ]  # fmt: skip
    caption = "95 % intervals. n: repeats for cost and throughput, requests for percentiles."
    return table(f"gpu-costs-{slug}", columns, rows, caption)


def _usd(x: Spot, price: float | None, money: Money) -> str:
    if price is None:
        return "no price"
    if THROUGHPUT not in x.figures:
        return "–"
    e = cost(x, price)
    return f"{money.span(e.value, *span(e))} {_n(x, THROUGHPUT)}"


def _figure(x: Spot, metric: str) -> str:
    e = x.figures.get(metric)
    if e is None:
        return '<span class="qc-few">too few requests</span>'
    return f"{spanned(e.value, *span(e))} {_n(x, metric)}"


def _n(x: Spot, metric: str) -> str:
    return f'<small class="qc-n">n = {fixed(x.counts[metric])}</small>'


def _pooled(x: Spot) -> str:
    if x.pooled:
        return f"yes, {counted(len(x.boxes), 'box', 'boxes')}"
    return "no: they stand apart" if x.kept_apart else "one box"


def machine(s: Study, slug: str) -> str:
    """Power, tokens per joule, memory and kernels, at the heaviest load of each workload."""
    rows = [_machine(s, x) for x in _heaviest(s)]
    if not rows:
        return none("No cell has been measured on these boxes.")
    columns = [
        Column("GPU"), Column("Box"), Column("Variant"), Column("Workload, load"), Column("Power (W)", True),
        Column("Output (tokens/J)", True), Column("Energy from"), Column("VRAM peak, fullest GPU (MiB)", True),
        Column("Free at the peak (MiB)", True), Column("KV capacity (tokens)", True), Column("Kernel"), Column("Class"),
    ]  # fmt: skip
    shortest = min((x.shortest_s for x in s.spots if not math.isnan(x.shortest_s)), default=math.nan)
    window = "" if math.isnan(shortest) else f" Shortest window: {number(shortest)} s."
    caption = (
        "Power and energy of all Server (GPUs) in the steady window; host and cooling are not in it. Counter: the "
        "driver's energy counter. Power: the driver's board power, integrated. An engine that reserves its share of "
        f"the card leaves the same memory free whatever the variant; what differs is the KV capacity.{window}"
    )
    return table(f"gpu-machine-{slug}", columns, rows, caption)


def _heaviest(s: Study) -> list[Spot]:
    found: dict[tuple[str, tuple[str, ...], str, str], Spot] = {}
    for x in s.spots:
        of = (x.gpu, x.boxes if x.kept_apart else (), x.definition, x.workload)
        if of not in found or amount(x.load) > amount(found[of].load):
            found[of] = x
    return list(found.values())


def _machine(s: Study, x: Spot) -> list[str]:
    sides = [
        (c, n) for c in s.group.cases if c.case in x.cases for n in c.variants if facts_of(c, n).defined == x.definition
    ]
    facts = [facts_of(c, n) for c, n in sides]
    what = [c.variants[n].what for c, n in sides]
    peaks = [f.peak_mib for f in facts if f.peak_mib is not None]
    free = [f.free_mib for f in facts if f.free_mib is not None]
    tokens = [t for c, n in sides if (t := c.variants[n].singles.get("kv_cache_tokens")) is not None]
    return [
        text(x.gpu), text(" + ".join(x.boxes)), text(x.variant), f"{text(x.workload)}, {load_words(x.load)}",
        _energy(x, POWER), _energy(x, PER_JOULE), {"counter": "counter", "power": "power"}.get(x.source, "not covered"),
        number(max(peaks, default=None)), number(min(free, default=None)),
        "–" if not tokens else fixed(min(tokens)), _kernels(what, "kernel path"), _kernels(what, "kernel class"),
    ]  # fmt: skip


def _kernels(what: Sequence[dict[str, str]], fact: str) -> str:
    names = dict.fromkeys(w[fact] for w in what if w.get(fact))
    return text(", ".join(names)) if names else "not stated"


def _energy(x: Spot, metric: str) -> str:
    e: Estimate | None = x.figures.get(metric)
    return "–" if e is None else f"{spanned(e.value, *span(e))} {_n(x, metric)}"
