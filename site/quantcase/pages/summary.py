"""The summary: GGUF quantizations across models, published and measured, each with its grade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd

from quantcase.analysis import offload
from quantcase.analysis.offload import Device, Findings, Published, Row, Use
from quantcase.analysis.points import THROUGHPUT, pick
from quantcase.charts.offload import offload_against_vram
from quantcase.html import Column, badge, none, table
from quantcase.pages.quality import grade_badge
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, notes_html, number, plain, said, span, text

__all__ = ["page", "section"]

_SIZES = {
    "smallest": "In every model its file is the smallest: for a card or a disk that is small.",
    "between": "In every model its file lies between the others: for a card that holds it and not the largest.",
    "largest": "In every model its file is the largest: for a card with the room, where quality decides.",
    "mixed": "Where its file stands in size differs from model to model: read the table.",
}
_ADVICE = {
    "fail": "Not before its quality is measured on your own model: it failed where it was measured.",
    "caution": "Measure its quality on your own model first: where it was measured, a loss could not be ruled out.",
    "pass": "No loss of quality was detected where it was measured; measure your own model before it ships.",
    "unknown": "Nothing can be said of its quality: measure it on your own model first.",
}
_DRIVER = (
    "Driver: NVML&#39;s peak while measuring less what was in use before the start, one reading a start; it is marked "
    "where it is more than 10 % from the buffers on CUDA0, which leave out what CUDA itself takes."
)
_GRAVEST = ("fail", "caution", "unknown", "pass")


@dataclass(frozen=True)
class _Source:
    """One published case."""

    view: CaseView
    found: Published


def page(views: Sequence[CaseView]) -> str:
    """The Markdown of `summary/index.md`."""
    sources = [_Source(v, offload.published(v.case)) for v in views if v.case.bundle.info.grade == "published"]
    rows = [r for s in sources for r in s.found.rows]
    measured = [v for v in views if offload.is_gguf(v.case)]
    return render(
        "summary.md.j2",
        published="\n\n".join(_published(s) for s in sources)
        or none("There is no published table of GGUF quantizations among the bundles."),
        chart=_chart(rows),
        findings=_findings(offload.findings(rows), rows),
        uses=_uses(offload.uses(rows), measured),
        measured="\n\n".join(_measured(v) for v in measured) or none("No GGUF quantization was measured yet."),
        notes=_notes(sources, measured),
    )


def section(view: CaseView) -> str:
    """One published case's tables, for a page of that case; a sentence where it has none."""
    return _published(_Source(view, offload.published(view.case)), linked=False)


def _link(view: CaseView, words: str = "") -> str:
    return f'<a href="../cases/{view.case.id}/">{words or text(view.case.title)}</a>'


def _published(source: _Source, *, linked: bool = True) -> str:
    found = source.found
    head = (
        f"{_link(source.view) if linked else text(source.view.case.title)} {badge(source.view.case.bundle.info.grade)}"
    )
    if found.problem:
        return none(f"{head}: its figures are left out. {text(found.problem)}.")
    if not found.rows:
        return none(f"{head}: it holds no row with VRAM figures.")
    parts = [f"{head}. Source: {', '.join(text(s) for s in dict.fromkeys(r.source for r in found.rows))}."]
    for i, model in enumerate(found.models, 1):
        originals = [f"Original {text(name)}: {size} GB file." for m, name, size in found.originals if m == model]
        name = f"offload-{text(source.view.case.id)}-{i}"
        parts.append(f"### {text(model)}\n\n" + _model_table(name, found.of(model)))
        parts.append(" ".join(originals) or "The size of the original file is not stated.")
    return "\n\n".join(parts)


def _model_table(name: str, rows: Sequence[Row]) -> str:
    """The source's own table, with what its rows give beside what it states."""
    cells = [
        [
            text(r.quantization),
            plain(r.file),
            plain(r.baseline),
            plain(r.offload),
            _minus(r.saved),
            _reduction(r),
            _agrees(r),
            number(r.runs),
        ]
        for r in rows
    ]
    names = [
        "Quantization", "File size (GB)", "VRAM baseline (GB)", "VRAM offload (GB)", "VRAM saved (GB)", "Reduction (%)",
        "As published", "Runs",
    ]  # fmt: skip
    columns = [Column(n, n not in (names[0], names[6])) for n in names]
    caption = "Baseline: everything on the GPU. Saved and reduction are worked out again from baseline and offload."
    return table(name, columns, cells, caption)


def _minus(value: Decimal) -> str:
    return plain(value)


def _reduction(row: Row) -> str:
    """The recomputed reduction with as many digits as the source gives, one where it gives none."""
    unit = row.stated_reduction if row.stated_reduction is not None else Decimal("0.1")
    return _minus(row.reduction.quantize(unit, ROUND_HALF_UP))


def _agrees(row: Row) -> str:
    if row.stated_saved is None and row.stated_reduction is None:
        return '<span class="qc-check" data-state="none">– not stated</span>'
    if row.agrees:
        return '<span class="qc-check" data-state="ok">✓ agrees</span>'
    given = ((row.stated_saved, "GB"), (row.stated_reduction, "%"))
    stated = [f"{plain(v)} {unit}" for v, unit in given if v is not None]
    return f'<span class="qc-check" data-state="bad">✗ published: {", ".join(stated)}</span>'


def _chart(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    ordered = sorted(rows, key=lambda r: r.file)
    bars = [
        (r.model, r.quantization, place, float(value), plain(value))
        for r in ordered
        for place, value in (("baseline", r.baseline), ("offload", r.offload))
    ]
    data = pd.DataFrame(bars, columns=["model", "quantization", "place", "gb", "shown"])
    return offload_against_vram(data, title="VRAM with everything on the GPU and with CPU offload").html()


def _name(row: Row) -> str:
    return f"{text(row.model)} {text(row.quantization)}"


def _findings(found: Findings | None, rows: Sequence[Row]) -> str:
    """Each finding with the rows that carry it."""
    if found is None:
        return none("Without rows there is nothing to find.")
    low, high = found.ratios
    least, most = found.floor
    lines = [
        f"**Baseline VRAM and file size.** {found.near} of {len(rows)} baselines lie within 5 % of their file's size; "
        f"the ratio runs from {fixed(low, 3)} to {fixed(high, 3)}. Farthest from it: {_name(found.farthest)}, "
        f"{plain(found.farthest.file)} GB of file and {plain(found.farthest.baseline)} GB of VRAM.",
        f"**What offload leaves on the GPU.** From {plain(least.offload)} GB ({_name(least)}) to {plain(most.offload)} "
        f"GB ({_name(most)}) over all {len(rows)} rows.{_growth(found)}",
        f"**Reduction and size.** {_reduction_words(found)}",
        _agreement(found, rows),
        f"**How sure.** {_runs(rows)} The spread of the runs is not published, so no interval can be given.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _growth(found: Findings) -> str:
    """How offload grows with the file, beside how the baseline does."""
    if not found.floor_growth:
        return ""
    parts = [
        f"{text(model)} {text(a.quantization)} to {text(b.quantization)}: offload × {fixed(off, 2)}, "
        f"baseline × {fixed(base, 2)}"
        for model, (a, b, off, base) in found.floor_growth.items()
    ]
    slower = all(1 < off < base for _, _, off, base in found.floor_growth.values())
    words = "It is no constant, but grows more slowly than the baseline" if slower else "From the smallest file up"
    return f" {words}: {'; '.join(parts)}."


def _reduction_words(found: Findings) -> str:
    if not found.growing:
        return "No model has two quantizations, so nothing can be said."
    grows = [text(m) for m, yes in found.growing.items() if yes]
    not_ = [text(m) for m, yes in found.growing.items() if not yes]
    words = f"The larger the file, the larger the share saved, in {len(grows)} of {len(found.growing)} models"
    words += f" (not in {', '.join(not_)})." if not_ else "."
    if found.across:
        a, b = found.across
        words += (
            f" Across models it does not hold: {_name(a)} is larger than {_name(b)} ({a.file} and {b.file} GB) and "
            f"saves a smaller share ({_reduction(a)} and {_reduction(b)} %)."
        )
    return words


def _agreement(found: Findings, rows: Sequence[Row]) -> str:
    if not found.disagreeing:
        return (
            "**Arithmetic.** Saved and reduction, worked out again, agree with the published columns to their "
            f"rounding in all {len(rows)} rows."
        )
    names = ", ".join(_name(r) for r in found.disagreeing)
    count = f"{len(found.disagreeing)} of {len(rows)} rows"
    return f"**Arithmetic.** In {count} a published figure is not what its row gives: {names}."


def _runs(rows: Sequence[Row]) -> str:
    counts = sorted({r.runs for r in rows if r.runs is not None})
    if not counts:
        return "How many runs are behind a figure is not stated."
    shown = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Each published figure is the mean of {shown} runs."


def _uses(found: Sequence[Use], measured: Sequence[CaseView]) -> str:
    if not found:
        return none("Without rows there is nothing to recommend.")
    parts = []
    for use in found:
        models = f"{use.models} model{'s' if use.models != 1 else ''}"
        judged = _judged(use.quantization, measured)
        lines = [
            _SIZES[use.size],
            f"VRAM: {_span(use.offload)} GB with offload, {_span(use.baseline)} GB with everything on the GPU "
            f"({models}, published); file {_span(use.file)} GB; reduction {fixed(use.reduction[0], 1)} to "
            f"{fixed(use.reduction[1], 1)} %.",
            f"Quality: {'; '.join(words for _, words in judged) or 'not measured, neither by the source nor here'}.",
        ]
        if judged:
            lines.append(_ADVICE[min((g for g, _ in judged), key=_GRAVEST.index)])
        parts.append(f"### {text(use.quantization)}\n\n" + "\n".join(f"- {line}" for line in lines))
    parts.append("What offload costs in speed is in none of the published rows: measure it before you choose it.")
    return "\n\n".join(parts)


def _judged(quantization: str, measured: Sequence[CaseView]) -> list[tuple[str, str]]:
    """(grade, words) of every measured variant of that format."""
    found: list[tuple[str, str]] = []
    for view in measured:
        for g in offload.ggufs(view.case):
            verdict = view.quality_verdicts.get(g.variant)
            if g.quantization == quantization and verdict is not None:
                model = text(view.case.study.base_model)
                found.append((verdict.grade, f"{grade_badge(verdict.grade)} on {model} ({_link(view)})"))
    return found


def _span(bounds: tuple[Decimal, Decimal]) -> str:
    low, high = bounds
    return plain(low) if low == high else f"{plain(low)} to {plain(high)}"


def _measured(view: CaseView) -> str:
    """One measured llama.cpp case: sizes, speed at each load, verdict."""
    case, info = view.case, view.case.bundle.info
    head = f"### {text(case.title)}\n\n{badge(info.grade)} {_link(view, 'Its case study')}"
    if not case.sound:
        return f"{head}\n\n" + none("This bundle has faults, so its figures are left out.")
    found = offload.ggufs(case)
    if not found:
        return f"{head}\n\n" + none("No variant of this case served.")
    places = [(w.name, load) for w, load in case.points_of_load()]
    on_gpu = any(g.device for g in found)
    rows = []
    for g in found:
        speeds = [pick(view.points, g.variant, w, load.name, THROUGHPUT) for w, load in places]
        runs = sorted({p.runs for p in speeds if p})
        verdict = view.quality_verdicts.get(g.variant)
        base = g.variant == case.baseline
        buffers = number(g.device.buffers_mib) if g.device else "–"
        rows.append(
            [
                text(g.variant) + (" <small>baseline</small>" if base else ""),
                *(number(v) for v in (g.file_mb, g.bits, g.weights_mib, g.kv_mib, g.working_mib)),
                *([buffers, _seen(g.device, mib=True)] if on_gpu else []),
                *(span(p.value, p.low, p.high) if p else "–" for p in speeds),
                f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}" if runs else "–",
                "baseline" if base else grade_badge(verdict.grade) if verdict else "not measured",
            ]
        )
    names = ["File size (MB)", "Bits per weight", "Weights (MiB)", "KV cache (MiB)", "Working memory (MiB)"]
    names += ["Buffers on the GPU (MiB)", "Driver (MiB)"] if on_gpu else []
    names += [f"{text(w)}, {said(load.words)} (tok/s)" for w, load in places] + ["Repeats"]
    columns = [Column("Variant"), *(Column(n, True) for n in names), Column("Quality")]
    caption = "Throughput with its 95 % interval over the repeats. Sizes as llama.cpp&#39;s log states them."
    caption += f" {_DRIVER}" if on_gpu else ""
    return "\n\n".join([head, table(f"gguf-{text(case.id)}", columns, rows, caption), _pairs(view)])


def _pairs(view: CaseView) -> str:
    found = offload.pairs(view.case)
    if not found:
        return none("No variant was measured both with everything on a GPU and with offload, so nothing is said of it.")
    rows = [
        [text(p.baseline), text(p.offload), *(number(v) for v in (p.baseline_gib, p.offload_gib, p.saved_gib)),
         fixed(p.reduction_pct, 1), _seen(p.baseline_device), _seen(p.offload_device)]
        for p in found
    ]  # fmt: skip
    names = ["Baseline", "Offload", "VRAM baseline (GiB)", "VRAM offload (GiB)", "VRAM saved (GiB)", "Reduction (%)"]
    names += ["Driver, baseline (GiB)", "Driver, offload (GiB)"]
    by = (
        "VRAM: the sum of llama.cpp's model, KV and compute buffers on CUDA0."
        if all(p.by_buffers for p in found)
        else "VRAM: as the driver sees it, where llama.cpp's buffers are not stated for both."
    )
    columns = [Column(n, i > 1) for i, n in enumerate(names)]
    return table(f"pairs-{text(view.case.id)}", columns, rows, f"{by} {_DRIVER}")


def _seen(d: Device | None, *, mib: bool = False) -> str:
    """What the driver saw, and how far that is from the buffers where it is more than a tenth."""
    if d is None or d.driver_mib is None:
        return "not read"
    shown = number(d.driver_mib if mib else d.driver_mib / 1024) + ("" if d.at == "peak" else " once ready")
    if d.gap is None or not d.disagrees:
        return shown
    gap = f"{100 * d.gap:+.0f} %".replace("-", "−")
    return f'{shown} <span class="qc-check" data-state="look">! {gap} against the buffers</span>'


def _notes(sources: Sequence[_Source], measured: Sequence[CaseView]) -> str:
    """How the figures came about: the source's own words, and what was held fixed where we measured."""
    parts = []
    for s in sources:
        own = " ".join(notes_html(s.view.case.bundle.notes()).split())
        parts.append(f"### {text(s.view.case.title)}\n\n" + (f"<div>{own}</div>" if own else none("No notes.")))
    for view in measured:
        study, info = view.case.study, view.case.bundle.info
        starts = sum(v.exit_state == "ok" for v in view.case.variants)
        parts.append(
            f"### {text(view.case.title)}\n\nMeasured by collector {text(info.collector_version)}: {study.repeats} "
            f"repeats of each load point, {starts} server starts, {fixed(len(view.case.requests))} requests, prompts "
            f"from seed {study.seed}. Definitions: [methodology](../methodology.md)."
        )
    return "\n\n".join(parts) or none("There is no bundle to describe.")
