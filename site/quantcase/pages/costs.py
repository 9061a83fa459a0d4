"""Costs across all cases: what a million tokens costs, and whether quantizing saves."""

from __future__ import annotations

from collections.abc import Sequence

from quantcase.analysis.cost import usd_per_requests
from quantcase.analysis.points import pick
from quantcase.html import Column, badge, none, table
from quantcase.pages.cost import saving_cell
from quantcase.pages.view import CaseView, render
from quantcase.text import number, span, text

__all__ = ["page"]


def page(views: Sequence[CaseView]) -> str:
    """The Markdown of `costs/index.md`."""
    rows, prices = [], []
    for view in views:
        if view.usd_per_hour is None:
            prices.append([text(view.case.id), "no price given", "–"])
            continue
        prices.append([text(view.case.id), f"{number(view.usd_per_hour)} $ an hour", view.price_source])
        rows += _rows(view)
    names = [
        "Case", "Workload", "Variant", "$ / 1M output tokens", "$ / 1K requests", "$ / 1M requests", "Saving",
        "Evidence",
    ]  # fmt: skip
    columns = [Column(n, 2 < i < 7) for i, n in enumerate(names)]
    priced = [Column("Case"), Column("Price"), Column("Source")]
    return render(
        "costs.md.j2",
        prices=table("prices", priced, prices) if prices else none("There is no case yet."),
        costs=table("costs", columns, rows) if rows else none("No case has a price, so no cost is stated."),
    )


def _rows(view: CaseView) -> list[list[str]]:
    rows = []
    for w in view.case.study.workloads:
        loads = view.case.loads(w.name)
        if not loads:
            continue
        load = loads[-1].name
        for variant in view.case.measured_variants():
            cost = pick(view.points, variant, w.name, load, "usd_per_1m_output_tokens")
            if cost is None:
                continue
            c = view.comparison(variant, w.name, load, "throughput_tok_s")
            rows.append(
                [
                    f'<a href="../cases/{view.case.id}/">{text(view.case.id)}</a>',
                    f"{text(w.name)}, {text(loads[-1].words)}",
                    text(variant),
                    span(cost.value, cost.low, cost.high),
                    number(usd_per_requests(cost.value, w.output_tokens, 1_000)),
                    number(usd_per_requests(cost.value, w.output_tokens, 1_000_000)),
                    saving_cell(c) if c else "baseline",
                    badge(view.case.bundle.info.grade),
                ]
            )
    return rows
