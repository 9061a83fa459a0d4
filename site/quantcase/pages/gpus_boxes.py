"""Two boxes of one type on the GPU page: over all cells, as a chart, and cell by cell."""

from __future__ import annotations

import pandas as pd

from collector.bundle.read import Load
from quantcase.analysis.gpus_document import Study
from quantcase.analysis.gpus_lottery import Lot, Together
from quantcase.analysis.points import THROUGHPUT
from quantcase.charts.gpus import box_against_box
from quantcase.html import Column, none, table
from quantcase.text import counted, fixed, load_words, percent, said, signed_percent, signed_percents, text

__all__ = ["METRICS", "box_words", "boxes", "plain_load"]

METRICS = {THROUGHPUT: "Throughput", "tpot_ms_p50": "TPOT p50", "ttft_ms_p95": "TTFT p95"}
_WORDS = {
    "faster": ("faster", "▲ better"), "slower": ("slower", "▼ worse"), "equivalent": ("equivalent", "= equivalent"),
    "negligible": ("negligible", "≈ different, negligible"), "inconclusive": ("inconclusive", "? inconclusive"),
}  # fmt: skip


def boxes(s: Study, slug: str) -> str:
    """Everything about boxes of one type in a study."""
    if not s.lots:
        return none("No GPU type has two boxes with a load point in common, so no box is compared with another.")
    parts = [_joint(s, slug)]
    for gpu, a, b in dict.fromkeys((x.gpu, x.a, x.b) for x in s.lots):
        mine = [x for x in s.lots if (x.gpu, x.a, x.b) == (gpu, a, b)]
        parts.append(_chart(s, (gpu, a, b), mine, slug))
    parts.append(_cells(s, slug))
    return "\n\n".join(p for p in parts if p)


def box_words(t: Together) -> str:
    """A pair of boxes in a sentence: the difference over all cells, and what follows."""
    head = f"{METRICS[t.metric]} of {text(t.gpu)}, {text(t.b)} against {text(t.a)}"
    figure = f"{signed_percent(t.ratio)} {_interval(t.low, t.high)} over {counted(t.cells, 'cell')}"
    lower = f"lower in {fixed(t.less)} of them"
    end = "not told apart" if t.alike else "**two measurements, not one**: they stand apart"
    return f"{head}: {figure}, {lower}; {end}."


def plain_load(name: str) -> str:
    """A load point in plain words, for charts."""
    load = Load.of(name)
    return load.words if load else name


def _interval(low: float, high: float) -> str:
    return f"({signed_percents(low, high)})"


def _joint(s: Study, slug: str) -> str:
    rows = [
        [
            text(t.gpu), text(t.a), text(t.b), METRICS[t.metric],
            f"{signed_percent(t.ratio)} <small>{_interval(t.low, t.high)}</small>",
            f"{fixed(t.less)} of {fixed(t.cells)}", fixed(t.variants), f"±{percent(t.region)}",
            '<span class="qc-delta" data-class="equivalent">= alike</span>' if t.alike
            else '<span class="qc-delta" data-class="slower">≠ apart</span>',
        ]
        for t in s.joint
    ]  # fmt: skip
    if not rows:
        return none("No cell has an interval on both boxes, so nothing says whether they are alike.")
    columns = [
        Column("GPU"), Column("Reference box"), Column("Other box"), Column("Figure"),
        Column("Other box against it", True), Column("Cells below 1", True), Column("Variants", True),
        Column("Region", True), Column("Boxes are"),
    ]  # fmt: skip
    caption = (
        "Over all cells together, each variant counting alike; 95 % intervals. Apart: the interval leaves out 1 and is "
        "not inside the region. Then every cell is shown for each box."
    )
    return table(f"gpu-boxes-{slug}", columns, rows, caption)


def _chart(s: Study, pair: tuple[str, str, str], lots: list[Lot], slug: str) -> str:
    gpu, a, b = pair
    mine = [x for x in lots if x.line.metric == THROUGHPUT and not x.line.refused]
    if not mine:
        return ""
    rows = [
        (f"{x.variant}, {x.line.workload} {plain_load(x.line.load)}", x.variant, x.line.ratio, x.line.low, x.line.high)
        for x in mine
    ]
    data = pd.DataFrame(rows, columns=["cell", "variant", "value", "low", "high"])
    width = max(x.line.region for x in mine)
    joint = next((t for t in s.joint if (t.gpu, t.a, t.b, t.metric) == (*pair, THROUGHPUT)), None)
    finding = "No interval over all cells."
    if joint is not None:
        change, low, high = (_english(x) for x in (joint.ratio, joint.low, joint.high))
        end = "they are not told apart" if joint.alike else "they stand apart"
        finding = f"Over all {joint.cells} cells {b} differs from {a} by {change} % ({low} to {high} %): {end}."
    title = f"Throughput of {b} against {a} ({gpu})"
    return box_against_box(data, width, finding, name=(slug, gpu, a, b), title=title).html()


def _english(ratio: float) -> str:
    """A change in percent for a chart's words, which are English until they are drawn; zero has no sign."""
    return f"{100 * (ratio - 1):+z.1f}".replace("+0.0", "0.0").replace("-", "−")


def _cells(s: Study, slug: str) -> str:
    keys = dict.fromkeys((x.gpu, x.a, x.b, x.variant, x.line.workload, x.line.load) for x in s.lots)
    found = {(x.gpu, x.a, x.b, x.variant, x.line.workload, x.line.load, x.line.metric): x for x in s.lots}
    rows = [
        [
            text(gpu), f"{text(b)} against {text(a)}", text(variant), text(workload), load_words(load),
            *(_cell(found.get((gpu, a, b, variant, workload, load, m))) for m in METRICS),
        ]
        for gpu, a, b, variant, workload, load in keys
    ]  # fmt: skip
    heads = ("GPU", "Boxes", "Variant", "Workload", "Load", *METRICS.values())
    caption = "Ratio with its 95 % interval. A word stands where it holds after Holm over all cells and figures."
    return table(f"gpu-box-cells-{slug}", [Column(h) for h in heads], rows, caption)


def _cell(lot: Lot | None) -> str:
    if lot is None:
        return "–"
    x = lot.line
    if x.refused:
        return f'<small class="qc-span">not compared: {said(x.refused)}</small>'
    if x.low != x.low:
        return f'{signed_percent(x.ratio)} <small class="qc-span">(one repeat: no interval)</small>'
    shown = f'<span class="qc-change">{signed_percent(x.ratio)}</span>'
    if x.withheld:
        return f'{shown} <small class="qc-span">{_interval(x.low, x.high)}, no word: {said(x.withheld)}</small>'
    kind, words = _WORDS[x.kind]
    span = f'<small class="qc-span">{_interval(x.low, x.high)}</small>'
    return f'{shown} <span class="qc-delta" data-class="{kind}">{words}</span> {span}'
