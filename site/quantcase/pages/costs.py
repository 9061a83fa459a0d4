"""Costs across all cases: what a million tokens costs, whether quantizing saves, and a calculator.

The tables are the calculator's rows at its defaults. assets/costs.js makes the same rows from the JSON in the page.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from quantcase.analysis.compare import of_cost
from quantcase.analysis.cost import HOURS_A_MONTH, Span
from quantcase.analysis.cost_table import CostCase, Inputs, MixRow, Row, cost_case, document, mix, rows
from quantcase.analysis.points import LEAST
from quantcase.html import Column, badge, kind_words, none, table
from quantcase.money import DOLLARS, Money
from quantcase.pages.view import CaseView, render
from quantcase.text import number, percent, said, span, text

__all__ = ["cost_of", "embedded", "page"]

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._/-]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SERIES = 8  # colours that quantcase.css has


def page(views: Sequence[CaseView], money: Money = DOLLARS) -> str:
    """The Markdown of `costs/index.md`."""
    usual = Inputs(rate=money.currency.rate)
    cases = [c for c in (cost_of(v) for v in views) if c.lanes]
    found = [_row(c, row) for c in cases for row in rows(c, usual)]
    mixed = [_mix_row(c, row) for c in cases for row in mix(c, usual)]
    prices = [_price(v) for v in views]
    unpriced = none("No case has a price, so no cost is stated. The calculator takes yours.")
    return render(
        "costs.md.j2",
        calculator=bool(cases),
        least=number(LEAST[95]),
        hours=number(HOURS_A_MONTH),
        rate=money.note(),
        data=embedded("costs-data", {**document(cases), **_shown(money)}),
        mix=table("mix", _mix_columns(money), mixed) if mixed else unpriced,
        costs=table("costs", _columns(money), found) if found else unpriced,
        prices=table("prices", _price_columns(), prices) if prices else none("There is no case yet."),
    )


def _shown(money: Money) -> dict[str, object]:
    """What the calculator begins with."""
    return {"currency": money.currency.code, "rate": money.currency.rate}


def _unit(money: Money) -> str:
    return f'<span class="qc-cur">{money.currency.code}</span>'


def cost_of(view: CaseView) -> CostCase:
    """What the page knows of a case."""
    words = {
        (c.variant, c.workload, c.load): f"no saving shown ({kind_words(c)})"
        for c in of_cost(view.comparisons)
        if c.kind not in ("faster", "slower")
    }
    return cost_case(view.case, view.usd_per_hour, view.points, view.comparisons, view.estimates, words)


def embedded(name: str, data: object) -> str:
    """Data as JSON inside the page, one line. Nothing in its strings can end the element, or be read as Markdown or as
    a macro: what is not plain is a \\u escape.
    """
    made = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    safe = _STRING.sub(lambda m: json_string(json.loads(m[0])), made)
    return f'<script type="application/json" id="{name}">{safe}</script>'


def json_string(value: str) -> str:
    """A JSON string of letters, digits and a few signs; all else as \\u escapes (UTF-16, as JSON has it)."""

    def escaped(match: re.Match[str]) -> str:
        units = match[0].encode("utf-16-be")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

    return f'"{_UNSAFE.sub(escaped, value)}"'


def _columns(money: Money) -> list[Column]:
    costs = [Column(f"{_unit(money)} / {per}", True) for per in ("1M output tokens", "1K requests", "1M requests")]
    tails = [Column("TTFT p95, ms", True), Column("E2E p95, ms", True)]
    return [
        Column("Case"), Column("Workload"), Column("Variant"), costs[0], Column("Saving", True), *costs[1:], *tails,
        Column("Evidence"),
    ]  # fmt: skip


def _row(case: CostCase, row: Row) -> list[str]:
    where = f"{text(row.workload)}, {said(row.load)}"
    return [
        _link(case), where, _named(case, row.variant), _span(row.per_1m_tokens), _saving(row.saving, row.words),
        number(row.per_1k_requests), number(row.per_1m_requests), _tail(row.ttft), _tail(row.e2e), badge(case.grade),
    ]  # fmt: skip


def _mix_columns(money: Money) -> list[Column]:
    unit = _unit(money)
    return [
        Column("Case"), Column("Variant"), Column(f"{unit} / 1M output tokens", True), Column("Beside the others"),
        Column("Saving", True), Column(f"{unit} / 1K requests", True), Column("Requests / day", True),
        Column(f"{unit} / month", True), Column("Evidence"),
    ]  # fmt: skip


def _mix_row(case: CostCase, row: MixRow) -> list[str]:
    head = [_link(case), _named(case, row.variant)]
    if row.missing:
        return [*head, text(row.missing), *["–"] * 5, badge(case.grade)]
    day = None if row.requests_per_day is None else tuple(float(f"{x:.3g}") for x in row.requests_per_day)
    series = case.variants.index(row.variant) % _SERIES
    return [
        *head, _span(row.per_1m_tokens), _bar(row.bar, series), _saving(row.saving, row.words),
        _span(row.per_1k_requests), _span(day), number(row.bill_per_month), badge(case.grade),
    ]  # fmt: skip


def _price_columns() -> list[Column]:
    return [
        Column("Case"), Column("GPU"), Column("USD / hour of one", True), Column("Source"),
        Column("Range, USD / hour", True),
        Column("Source of the range"),
    ]  # fmt: skip


def _price(view: CaseView) -> list[str]:
    price, profile = view.usd_per_hour, view.case.profile
    figure = profile.price_usd_per_hour if profile else None
    spread, source = "–", "no range known"
    if figure is not None and figure.low is not None and figure.high is not None:
        spread, source = f"{number(figure.low)} to {number(figure.high)}", text(f"{figure.source}, {figure.date}")
    return [
        f'<a href="../cases/{view.case.id}/">{text(view.case.id)}</a>', text(view.case.bundle.info.gpu),
        "no price given" if price is None else number(price), "–" if price is None else view.price_source,
        spread, source,
    ]  # fmt: skip


def _named(case: CostCase, variant: str) -> str:
    """A variant's name, with its GPUs where there are several."""
    count = case.gpus.get(variant, 1)
    return text(variant) if count == 1 else f"{text(variant)}, {count} GPUs"


def _link(case: CostCase) -> str:
    return f'<a href="../cases/{case.id}/">{text(case.id)}</a>'


def _span(value: tuple[float, ...] | None) -> str:
    return "–" if value is None else span(value[0], value[1], value[2])


def _tail(value: Span | None) -> str:
    return '<span class="qc-few">too few requests</span>' if value is None else _span(value)


def _saving(share: Span | None, words: str) -> str:
    if share is None:
        return f'<span class="qc-why">{words}</span>'
    return f"{percent(share[0])} <small>({percent(share[1])} to {percent(share[2])})</small>"


def _bar(bar: Span | None, series: int) -> str:
    """A bar with its interval as a line; the figure stands beside it."""
    if bar is None:
        return "–"
    line = ""
    if not math.isnan(bar[1]) and not math.isnan(bar[2]):
        line = f'<line x1="{bar[1]:.2f}" x2="{bar[2]:.2f}" y1="5" y2="5"></line>'
    rect = f'<rect class="qc-bar-{series}" width="{bar[0]:.2f}" height="10"></rect>'
    head = '<svg class="qc-bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
    return f"{head}{rect}{line}</svg>"
