"""The experiment log's conclusions: the best configurations and the rules, deployment, cost and scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantcase.analysis import experiments as log
from quantcase.analysis import scaling
from quantcase.analysis.experiments import Balance, Choice, Figure, Row
from quantcase.analysis.points import LEAST, Point
from quantcase.analysis.scaling import Capacity
from quantcase.analysis.servers import several
from quantcase.html import Column, none, table
from quantcase.money import Money
from quantcase.pages import log_balance, same_bits
from quantcase.pages.findings import gainers
from quantcase.pages.log_balance import at, named
from quantcase.pages.servers import of_each, of_gpus
from quantcase.pages.view import CaseView
from quantcase.text import counted, fixed, number, percent, plain, said, signed_percent, span, text

__all__ = ["bullets", "sections"]

_WITHHELD = {
    "unsound": "Nothing is chosen: the bundle has faults.",
    "simulated": "Nothing is chosen: these are replayed timings, no measurement.",
}


@dataclass(frozen=True)
class _Found:
    """What the rules chose for one workload."""

    workload: str
    rows: list[Row]
    latency: Choice | None
    throughput: Choice | None
    cost: Choice | None
    ratio: Choice | None
    balance: Balance | None

    @property
    def pick(self) -> Row | None:
        """The configuration to deploy: the balanced one, else the one of most throughput; none of a single variant."""
        if self.balance is None or not self.compared:
            return self.throughput.row if self.throughput and self.compared else None
        return self.balance.scores[0].row

    @property
    def compared(self) -> bool:
        """Whether more than one variant takes part."""
        return len({r.variant for r in self.rows}) > 1


def bullets(lines: Sequence[str], otherwise: str) -> str:
    """A Markdown list, or the sentence that stands where there is nothing."""
    return "\n".join(f"- {line}" for line in lines) if lines else none(otherwise)


def sections(view: CaseView, rows: list[Row]) -> dict[str, str]:
    """`findings`, `deployment`, `savings` and `scaling` as Markdown; of one sentence where nothing may be chosen."""
    out = log.excluded(view.case, view.quality_verdicts)
    measured = {r.workload for r in rows}
    stop = _WITHHELD.get(view.answer.rule, "" if rows else "Nothing is measured yet, so nothing is chosen.")
    if stop:
        return dict.fromkeys(("findings", "deployment", "savings", "scaling"), none(stop))
    found = [_found(view, rows, out, w.name) for w in view.case.study.workloads if w.name in measured]
    return {
        "findings": _findings(view, rows, found, out),
        "deployment": _deployment(view, found),
        "savings": _savings(view, found),
        "scaling": _scaling(view, found),
    }


def _found(view: CaseView, rows: list[Row], out: Mapping[str, str], workload: str) -> _Found:
    mine = log.eligible(view.case, rows, workload, out)
    grades = {name: v.grade for name, v in view.quality_verdicts.items()}
    kind = log.kind_of(view.case.study.workload(workload))
    return _Found(
        workload, mine, log.best(mine, "latency"), log.best(mine, "throughput"), log.best(mine, "cost"),
        log.best(mine, "ratio"), log.balance(mine, view.case.baseline, kind, grades),
    )  # fmt: skip


def _with(measured: Figure | Point | None, unit: str) -> str:
    """A figure with its interval and unit."""
    return f"{span(measured.value, measured.low, measured.high)} {unit}" if measured else "not measured"


def _findings(view: CaseView, rows: list[Row], found: list[_Found], out: Mapping[str, str]) -> str:
    taken = {id(r) for f in found for r in f.rows}
    left = [f"{text(v)}: {text(why)}" for v, why in out.items()]
    limited = [f"{at(r)} ({text(r.workload)})" for r in rows if id(r) not in taken and r.variant not in out]
    if limited:
        left.append(f"the client was the limit, so they may well be faster: {', '.join(limited)}")
    parts = ["Left out: " + "; ".join(left) + "." if left else "Every configuration that was measured takes part."]
    if view.case.bundle.info.weights == "dummy":
        parts.append("These are dummy weights: the choice is one of speed and memory, and says nothing of quality.")
    elif not view.quality_verdicts:
        parts.append("Quality was not measured: the choice is one of speed and memory alone.")
    parts.append("### Best for latency\n\n" + "\n".join(f"- {_latency(f)}" for f in found))
    parts.append("### Best for throughput\n\n" + "\n".join(f"- {_throughput(f)}" for f in found))
    scored = [log_balance.block(f.workload, f.balance, len(f.rows)) for f in found]
    parts.append("### Best balance\n\n" + "\n\n".join(scored))
    parts.append("### Formats of the same bits\n\n" + same_bits.section(view, out))
    parts.append("### Cost analysis\n\n" + _cost(view, found))
    return "\n\n".join(parts)


def _latency(f: _Found) -> str:
    c, name = f.latency, f"**{text(f.workload)}**"
    if c is None:
        return f"{name}: no configuration that takes part has the {LEAST[95]} requests that a p95 is shown with."
    hidden = len(f.rows) - c.out_of
    few = f" (beside it {hidden} with fewer than {LEAST[95]} requests and no p95)" if hidden else ""
    return (
        f"{name}: {at(c.row)}, P95 E2E {_with(c.row.p95, 'ms')}, n = {fixed(c.row.n)}. Reasoning: the lowest P95 E2E "
        f"of {_among(f, c)}{few}.{_tie(c)}"
    )


def _throughput(f: _Found) -> str:
    c, name = f.throughput, f"**{text(f.workload)}**"
    if c is None:
        return f"{name}: no configuration that takes part has a throughput."
    return (
        f"{name}: {at(c.row)}, {_with(c.row.tok_s, 'tok/s')}, {_with(c.row.req_s, 'samples/s')}, n = {fixed(c.row.n)}. "
        f"Reasoning: the most output tokens per second of {_among(f, c)}.{_tie(c)}"
    )


def _among(f: _Found, c: Choice) -> str:
    alone = "" if f.compared else ", all of one variant: no variants were compared"
    return f"{c.out_of} configuration{'s' if c.out_of > 1 else ''}{alone}"


def _tie(c: Choice) -> str:
    if not c.tied:
        return " No other interval meets its own." if c.out_of > 1 else ""
    return f" No winner over {named(c.tied)}: the intervals meet, or there is none."


def _cost(view: CaseView, found: list[_Found]) -> str:
    price, rows, cheapest = view.usd_per_hour, [], []
    for f in found:
        if f.cost is None or f.cost.row.req_s is None:
            continue
        cheapest.append(f"**{text(f.workload)}**: {at(f.cost.row)}, of {_among(f, f.cost)}.{_tie(f.cost)}")
        for variant in dict.fromkeys(r.variant for r in f.rows):
            c = log.best([r for r in f.rows if r.variant == variant], "cost")
            if price is None or c is None or (x := c.row.req_s) is None:
                continue
            hour = price * c.row.gpus
            amounts = [_amount(view.money, hour, x, many) for many in (1_000, 1_000_000)]
            rows.append([text(f.workload), at(c.row), span(x.value, x.low, x.high), *amounts, number(c.row.n)])
    why = "The most cost-effective is what answers most requests per second, since the hour costs the same for all:"
    if several(view.case):
        why = "The most cost-effective is what answers most requests per second and GPU, since every GPU is paid for:"
    said = f"{why}\n\n{bullets(cheapest, 'No requests per second were measured.')}"
    if price is None:
        return f"{said}\n\n" + none("No price is known for this GPU, so no cost is given: set one in mkdocs.yml.")
    if not rows:
        return said
    code = view.money.currency.code
    names = ["Workload", "Cheapest of each variant", "samples/s", f"{code} per 1K requests", f"{code} per 1M requests"]
    columns = [Column(n, i > 1) for i, n in enumerate([*names, "n"])]
    caption = (
        f"{number(price)} USD per hour{of_each(view)} ({view.price_source}), in use all the time: at half the use it "
        "costs twice."
    )
    return "\n\n".join([said, *filter(None, [view.money.note()]), table("cost-requests", columns, rows, caption)])


def _amount(money: Money, price: float, rate: Figure, requests: int) -> str:
    value, low, high = (
        log.usd_per_request(price, x, requests) if x > 0 else math.nan for x in (rate.value, rate.high, rate.low)
    )
    return money.span(value, low, high)


def _deployment(view: CaseView, found: list[_Found]) -> str:
    """The settings of each variant that was picked, as measured, and what speaks against shipping it."""
    picks: dict[str, list[tuple[_Found, Row]]] = {}
    for f in found:
        if f.pick:
            picks.setdefault(f.pick.variant, []).append((f, f.pick))
    parts = []
    for variant, chosen in picks.items():
        served = view.case.served(variant)
        settings = scaling.deployment(served) if served else None
        reasons = []
        for f, row in chosen:
            verdict = next((v for v in view.verdicts if (v.variant, v.workload) == (variant, f.workload)), None)
            state = f"verdict: {verdict.kind} ({said(verdict.because)})" if verdict else "the baseline itself"
            rule = "best balance" if f.balance else "most throughput"
            reasons.append(f"{text(f.workload)}: {rule} at {said(row.load.words)}; {state}")
        parts.append(f"**{text(variant)}**\n\n{bullets(reasons, '')}")
        parts.append(_settings(settings) if settings else none("Its command line was not recorded."))
    return "\n\n".join(parts) or none("No configuration was chosen: no two variants could be compared.")


def _settings(d: scaling.Deployment) -> str:
    block = [f"QUANTIZATION={d.quantization}"]
    given = {"MAX_NUM_SEQS": d.max_num_seqs, "GPU_MEMORY_UTILIZATION": d.gpu_memory_utilization}
    block += [f"{k}={v}" for k, v in given.items() if v is not None]
    left = ", ".join(text(k) for k, v in given.items() if v is None)
    notes = [
        "The command that was measured, without host and port. The batch size of the choice is what the client held in "
        "flight under that setting: hold it there, in the gateway or with a lower MAX_NUM_SEQS, to keep its latency."
    ]
    if left:
        notes.append(f"{left}: not in the command, so the engine&#39;s default held.")
    if d.dummy:
        notes.append("Left out besides: the option that loads dummy weights; put the real checkpoint&#39;s name in.")
    lines = [text(d.lines[0]), *(f"  {text(line)}" for line in d.lines[1:])]
    shown = [
        "<pre>" + "\n".join(text(b) for b in block) + "</pre>",
        "<pre>" + " &#92;\n".join(lines) + "</pre>",
    ]
    return "\n\n".join([*shown, " ".join(notes)])


def _savings(view: CaseView, found: list[_Found]) -> str:
    lines = []
    if least := view.lightest:
        lines.append(f"The lightest weights: {gainers(least)}, {signed_percent(least.ratio)}.")
    lines += [
        f"{text(f.workload)}: {at(f.ratio.row)} gives the most throughput for each ms of P95.{_tie(f.ratio)}"
        for f in found
        if f.ratio and f.ratio.out_of > 1
    ]
    price = view.case.profile.price_usd_per_hour if view.case.profile else None
    if price and price.low is not None and "spot" in price.source:
        lines.append(
            f"Spot instances: {number(price.low)} to {number(price.high)} USD per hour from spot to on-demand "
            f"({text(price.source)}, {text(price.date)}); a spot instance may be taken away at any time."
        )
    return bullets(lines, "Nothing that was measured saves money.")


def _scaling(view: CaseView, found: list[_Found]) -> str:
    """Workers by traffic, from the measured capacity of the chosen variant and the baseline."""
    rows, bases, without = [], [], []
    for f in found:
        for variant in dict.fromkeys([*([f.pick.variant] if f.pick else []), view.case.baseline]):
            c = scaling.capacity(view.case, variant, f.workload)
            if c is None:
                without.append(f"{text(variant)} ({text(f.workload)})")
                continue
            bases.append(_capacity(c))
            rows += [_need(view, c, per_minute) for per_minute in scaling.TRAFFIC]
    parts = [bullets(bases, "No capacity was measured.")]
    if without:
        why = "no load point kept 95 % of its requests inside the limits, or the client was the limit"
        parts.append(none(f"No capacity is stated for {', '.join(without)}: {why}."))
    if rows:
        names = [
            "Requests/min",
            "Workload",
            "Variant",
            "Workers",
            "at the lower bound",
            "Use of the busy ones",
            f"{view.money.currency.code}/h",
        ]
        caption = (
            f"Workers = ceil(requests per minute / (60 mu rho)) + {scaling.SPARE} spare, rho = {plain(scaling.RHO)}. "
            f"At the lower bound: with the lower end of mu. {view.money.currency.code}/h: all workers, spare included."
        )
        parts.append(table("scaling", [Column(n, i not in (1, 2)) for i, n in enumerate(names)], rows, caption))
        parts.append(
            "Workers add up only as independent replicas. In a closed loop the next request waits for an answer, and "
            "people do not: what rho leaves free is needed. Scale on requests waiting and on KV cache use, not on GPU "
            "utilisation. A busy worker used below 10 % mostly waits: a smaller GPU or serverless does the same."
        )
    return "\n\n".join(parts)


def _capacity(c: Capacity) -> str:
    basis = (
        "the highest rate of which at least 95 % were inside the limits"
        if c.basis == "goodput"
        else "the highest whole-run rate, since the workload sets no limits"
    )
    mu = f"{span(c.req_s, c.low, c.high)} requests/s"
    words = said(c.load.words)
    return (
        f"{text(c.workload)}, {text(c.variant)}: mu = {mu} per worker{of_gpus(c.gpus)} at {words}, "
        f"{counted(c.runs, 'repeat')}: {basis}."
    )


def _need(view: CaseView, c: Capacity, per_minute: int) -> list[str]:
    n = scaling.need(c, per_minute, view.usd_per_hour)
    use = percent(n.use) + (", mostly idle" if n.use < scaling.LOW_USE else "")
    return [
        fixed(per_minute),
        text(c.workload),
        text(c.variant),
        number(n.total),
        number(n.total_low) if n.total_low is not None else "not known",
        use,
        view.money.number(n.usd_per_hour) if n.usd_per_hour is not None else "no price",
    ]
