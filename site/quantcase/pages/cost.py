"""The cost section of a case: money per million output tokens, per request, and what is saved."""

from __future__ import annotations

from quantcase.analysis.compare import Comparison, of_cost
from quantcase.analysis.cost import saving, usd_per_requests
from quantcase.analysis.points import frame, pick
from quantcase.analysis.repeats import repeats
from quantcase.charts import cost_per_million
from quantcase.html import Column, kind_words, none, table
from quantcase.money import COST
from quantcase.pages.servers import of_each
from quantcase.pages.view import CaseView
from quantcase.text import number, percent, said, text

__all__ = ["saving_cell", "section"]


def section(view: CaseView) -> str:
    if view.usd_per_hour is None:
        return none("No price was given for this machine, so no cost is stated. Set one in the study or in mkdocs.yml.")
    money, rows, charts = view.money, [], []
    changes = of_cost(view.comparisons)
    for w in view.case.study.workloads:
        loads = view.case.loads(w.name)
        if not loads:
            continue
        at = next(
            (x for x in reversed(loads) if pick(view.points, view.case.baseline, w.name, x.name, "throughput_tok_s")),
            loads[-1],
        )
        top = at.name
        for variant in view.case.measured_variants():
            cost = pick(view.points, variant, w.name, top, COST)
            if cost is None:
                continue
            c = next((x for x in changes if (x.variant, x.workload, x.load) == (variant, w.name, top)), None)
            rows.append(
                [
                    f"{text(w.name)}, {said(at.words)}",
                    text(variant),
                    money.span(cost.value, cost.low, cost.high),
                    money.number(usd_per_requests(cost.value, w.output_tokens, 1_000)),
                    money.number(usd_per_requests(cost.value, w.output_tokens, 1_000_000)),
                    saving_cell(c) if c else "baseline",
                ]
            )
        if not frame(view.points).empty and any(p.workload == w.name for p in view.points):
            title = f"{w.title or w.name}: cost per million output tokens, {at.words}"
            dots = money.frame(repeats(view.case, COST, view.usd_per_hour))
            drawn = cost_per_million(
                money.frame(frame(view.points)), w.name, top, view.case.baseline,
                title=title, dots=dots, currency=money.currency.code,
            )  # fmt: skip
            charts.append(drawn.html())
    if not rows:
        return none("Nothing was measured yet, so there is no cost to state.")
    amounts = [f"{money.sign} / {per}" for per in ("1M output tokens", "1K requests", "1M requests")]
    names = ["Workload", "Variant", *amounts, "Saving"]
    columns = [Column(n, i > 1) for i, n in enumerate(names)]
    hour = f"{number(view.usd_per_hour)} {money.hourly} an hour{of_each(view)}"
    assumptions = (
        f"Assumptions: {hour} ({view.price_source}), fully used (100 %). At half the use a token costs twice. Formula: "
        "[methodology](../../methodology.md). With a price, use, mix and latency budget of your own: "
        "[costs](../../costs/index.md)."
    )
    return "\n\n".join([*filter(None, [money.note()]), assumptions, table("cost", columns, rows), *charts])


def saving_cell(c: Comparison) -> str:
    """The saving that a ratio of throughput per GPU means (`of_cost`), or why none is stated."""
    if c.low != c.low:
        return "one run: no interval"
    if c.kind not in ("faster", "slower"):
        return f'<span class="qc-delta" data-class="{c.kind}">no saving shown ({kind_words(c)})</span>'
    share, low, high = saving((c.ratio, c.low, c.high))
    return f"{percent(share)} <small>({percent(low)} to {percent(high)})</small>"
