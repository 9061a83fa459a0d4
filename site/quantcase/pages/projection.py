"""What a case lets one expect of another GPU: intervals, each called an estimate, and what is refused, with why."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from collector.bundle.read import Load, Workload
from collector.gpus import Figure, GpuProfile
from quantcase.analysis.points import THROUGHPUT, Point, pick
from quantcase.analysis.projection import (
    COST,
    ETA_COMPUTE,
    ETA_MEMORY,
    KV_ERROR,
    MARGINS,
    READ_SHARE,
    TPOT,
    TTFT,
    Bounds,
    Estimate,
    Projection,
    projections,
)
from quantcase.analysis.projection_check import HeldOut, held_out
from quantcase.analysis.projection_rules import case_reason
from quantcase.charts.projection import measured_and_estimated
from quantcase.html import Column, none, table
from quantcase.money import Money
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, load_words, number, said, span, text

__all__ = ["estimated", "page"]

_SHOWN = (TPOT, THROUGHPUT, TTFT)


def estimated(low: float, high: float, unit: str = "") -> str:
    """A figure for another GPU. The only way in which this page writes one: never without its label."""
    return f'<span class="qc-estimate">estimate {number(low)}–{number(high)}{unit}</span>'


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/projection/index.md`."""
    case = view.case
    found = projections(case, view.points, dict(view.options.prices))
    why = case_reason(case)
    sections = [_target(view, p) for p in found if p.estimates]
    nothing = none("No figure of this case can be carried over to another GPU.")
    return render(
        "projection.md.j2",
        title=text(case.title),
        trail=view.trail("projection"),
        banners=view.banners(),
        here=text(case.profile.title if case.profile else case.bundle.info.gpu),
        source=text(case.id),
        refused=none(f"Nothing is estimated from this case: {text(why)}. Measure it there.") if why else "",
        cards=_cards(found, view.money) if found else "",
        sections="\n\n".join(sections) or nothing,
        refusals=_refusals(found),
        profiles=_profiles(case.profile, found),
        held=_held_out(held_out(case, view.points)),
        eta=_percent(ETA_MEMORY),
        arithmetic=_percent(ETA_COMPUTE),
        read=_percent(READ_SHARE),
        pool=_percent(KV_ERROR),
        margins=_margins(),
    )


def _percent(share: float) -> str:
    return f"{fixed(100 * share)} %"


def _name(profile: GpuProfile) -> str:
    return text(profile.title.removeprefix("NVIDIA "))


def _ratio(bounds: Bounds) -> str:
    return number(bounds.low) if bounds.low == bounds.high else f"{number(bounds.low)}–{number(bounds.high)}"


def _cards(found: list[Projection], money: Money) -> str:
    """One row a card: how it differs, how much is estimated for it, at what price."""
    rows = []
    for p in found:
        whole = {r.variant for r in p.refusals if not r.workload}
        some = {e.variant for e in p.estimates}
        rows.append(
            [
                _name(p.target),
                f"{text(p.target.architecture)}, {'the same' if p.same_architecture else 'another'}",
                _ratio(p.memory_ratio),
                f"{len(some)} of {len(some | whole)}",
                number(p.usd_per_hour),
                _price_source(p),
            ]
        )
    names = [
        ("GPU", False), ("Architecture", False), ("Its bandwidth over this card's", True), ("Variants estimated", True),
        (f"Price there ({money.hourly} an hour)", True), ("Price from", False),
    ]  # fmt: skip
    made = table("estimate-cards", [Column(n, f) for n, f in names], rows)
    return "\n\n".join([*filter(None, [money.note()]), made])


def _price_source(p: Projection) -> str:
    own = p.target.price_usd_per_hour
    if p.usd_per_hour is None:
        return "no price known"
    return _said(own) if own is not None and own.value == p.usd_per_hour else text("set in mkdocs.yml")


def _target(view: CaseView, p: Projection) -> str:
    """One card: its chart, its memory, its figures beside those measured here."""
    parts = [f"### {_name(p.target)}"]
    if chart := _chart(view, p):
        parts.append(chart)
    rows = [
        row
        for w, load in view.case.points_of_load()
        for variant in view.case.measured_variants()
        if (row := _row(view, p, variant, w, load))
    ]
    names = [
        ("Load", False), ("Variant", False), ("TPOT p50 here (ms)", True), ("TPOT p50 there (ms)", True),
        ("Throughput here (tok/s)", True), ("Throughput there (tok/s)", True), ("TTFT p50 here (ms)", True),
        ("TTFT p50 there (ms)", True),
        (f"{view.money.sign} / 1M output tokens there", True),
    ]  # fmt: skip
    caption = "Here: measured, with its 95 % interval. There: an estimate, low to high, of what was not measured."
    slug = f"estimate-{p.target.name}"
    inner = table(slug, [Column(n, f) for n, f in names], rows, caption)
    parts.append(f"<details><summary>All {len(rows)} load points of the estimate</summary>{inner}</details>")
    memory = [[text(v), _pool(view, v), estimated(kv.low, kv.high)] for v, kv in p.kv_tokens.items()]
    columns = [Column("Variant"), Column("KV capacity here (tokens)", True), Column("KV capacity there (tokens)", True)]
    parts.append(table(f"{slug}-memory", columns, memory))
    return "\n\n".join(parts)


def _pool(view: CaseView, variant: str) -> str:
    row = view.case.served(variant)
    return number(row.kv_cache_tokens if row else None)


def _row(view: CaseView, p: Projection, variant: str, w: Workload, load: Load) -> list[str]:
    """One load point of one variant; empty when nothing of it is estimated."""
    found = {m: p.find(variant, w.name, load.name, m) for m in (*_SHOWN, COST)}
    if not any(found.values()):
        return []
    cells = [f"{text(w.name)}, {load_words(load.name)}", f'<span class="qc-name">{text(variant)}</span>']
    for metric in _SHOWN:
        here = pick(view.points, variant, w.name, load.name, metric)
        cells += [_here(here), _there(found[metric])]
    cost = found[COST]
    return [*cells, estimated(view.money.of(cost.low), view.money.of(cost.high)) if cost else "no price"]


def _here(point: Point | None) -> str:
    return span(point.value, point.low, point.high) if point else "–"


def _there(found: Estimate | None) -> str:
    return estimated(found.low, found.high) if found else "not estimated"


def _chart(view: CaseView, p: Projection) -> str:
    """Throughput of the workload with most load points estimated; the others stand in the table."""
    mine: list[Estimate] = []
    for w in view.case.study.workloads:
        found = [e for e in p.estimates if e.workload == w.name and e.metric == THROUGHPUT]
        mine = max(mine, found, key=lambda es: len({e.load for e in es}))
    if not mine or view.case.profile is None:
        return ""
    w = view.case.study.workload(mine[0].workload)
    data = pd.DataFrame(
        [(e.variant, e.amount, e.here.value, e.low, e.high) for e in mine],
        columns=["variant", "amount", "value", "low", "high"],
    )
    here, there = view.case.profile.name.upper(), p.target.name.upper()
    title = f"{w.title or w.name}: output tokens per second, estimate for {there}"
    return measured_and_estimated(data, w.name, THROUGHPUT, here, there, title=title).html()


def _refusals(found: list[Projection]) -> str:
    """Every refusal with its reason, those with one reason and one variant together over the cards."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for p in found:
        for r in p.refusals:
            load = f"{text(r.workload)}, {load_words(r.load)}" if r.workload else "all"
            grouped.setdefault((text(r.variant), load, said(r.reason)), []).append(_name(p.target))
    if not grouped:
        return none("Nothing was refused." if found else "Nothing was tried.")
    rows = [[variant, load, "; ".join(cards), reason] for (variant, load, reason), cards in sorted(grouped.items())]
    return table("estimate-refused", [Column(n) for n in ("Variant", "Load", "On", "Why it is not estimated")], rows)


def _profiles(source: GpuProfile | None, found: list[Projection]) -> str:
    """The figures that the ratios were made of, with source and date."""
    if source is None or not found:
        return ""
    wanted: Mapping[str, str] = {
        "bandwidth_gb_s": "bandwidth (GB/s)", "bf16_tflops": "BF16 (TFLOP/s)", "fp8_tflops": "FP8 (TFLOP/s)",
        "int8_tops": "INT8 (TOPS)", "usable_gib": "usable memory (GiB)", "vram_gb": "memory (GB)",
    }  # fmt: skip
    rows = []
    for profile in [source, *(p.target for p in found if p.estimates)]:
        figures = profile.figures()
        rows += [
            [_name(profile), words, _figure(figures[k]), _said(figures[k])]
            for k, words in wanted.items()
            if k in figures
        ]
    columns = [Column("GPU"), Column("Figure"), Column("Value", True), Column("Source")]
    inner = table("estimate-profiles", columns, rows)
    return f"<details><summary>The cards&#39; figures with their sources</summary>{inner}</details>"


def _figure(figure: Figure) -> str:
    if figure.low is None and figure.high is None:
        return number(figure.value, 4)
    low, high = (figure.value if x is None else x for x in (figure.low, figure.high))
    return f"{number(figure.value, 4)} <small>({number(low, 4)}–{number(high, 4)})</small>"


def _said(figure: Figure) -> str:
    return f"{text(figure.source)}, {text(figure.date)}"


def _margins() -> str:
    words = {TPOT: "TPOT p50", THROUGHPUT: "Throughput", TTFT: "TTFT p50"}
    rows = [[words[m], f"± {_percent(same)}", f"± {_percent(other)}"] for m, (same, other) in MARGINS.items()]
    columns = [Column("Figure"), Column("Same architecture", True), Column("Another architecture", True)]
    return table("estimate-margins", columns, rows)


def _held_out(found: list[HeldOut]) -> str:
    """What the method says of figures of this card that it did not see, beside those figures."""
    if not found:
        return none("There is nothing to hold out: it takes two load points, or a baseline and a variant.")
    kinds = {"load": "heavier loads from the lightest", "weights": "variants from the baseline, across kernel paths"}
    parts = []
    for kind, words in kinds.items():
        mine = [h for h in found if h.kind == kind]
        if mine:
            parts.append(f"{sum(h.inside for h in mine)} of {len(mine)} {words}")
    rows = [
        [
            text(h.variant),
            f"{text(h.origin.variant)}, {text(h.origin.workload)}, {load_words(h.origin.load)}",
            f"{text(h.workload)}, {load_words(h.load)}",
            number(h.measured.value),
            estimated(h.low, h.high),
            '<span class="qc-check" data-state="ok">✓ inside</span>' if h.inside else _miss(h),
        ]
        for h in found
    ]
    names = [
        ("Variant", False), ("Said from", False), ("Of", False), ("Measured TPOT p50 (ms)", True),
        ("Said without it (ms)", True), ("Result", False),
    ]  # fmt: skip
    inner = table("estimate-held-out", [Column(n, f) for n, f in names], rows)
    return (
        f"The measured figure lay inside the interval for {'; '.join(parts)}.\n\n"
        f"<details><summary>Every figure that was held out</summary>{inner}</details>"
    )


def _miss(h: HeldOut) -> str:
    """How far outside, in words and with its sign."""
    side = "above" if h.error > 0 else "below"
    return f'<span class="qc-check" data-state="bad">✗ {fixed(100 * abs(h.error), 1)} % {side} it</span>'
