"""Which GPU wins for which work, and at which price that flips, on the GPU page."""

from __future__ import annotations

import math

from collector import gpus as profiles
from quantcase.analysis.gpus_choice import Flip, Option, Rival, Win, cost, limits_of
from quantcase.analysis.gpus_document import Study
from quantcase.analysis.gpus_pool import Spot
from quantcase.analysis.hierarchy import span
from quantcase.analysis.points import THROUGHPUT
from quantcase.html import Column, none, table
from quantcase.money import Money
from quantcase.pages.gpus_costs import where
from quantcase.text import load_words, number, said, signed_percent, signed_percents, text
from quantcase.text import span as spanned

__all__ = ["flips", "winners"]

_ONE = "There is one GPU type in this study. A bundle of it from another type makes this section."
_METRICS = {"ttft_ms_p95": "TTFT p95", "tpot_ms_p95": "TPOT p95", "e2e_ms_p95": "E2E p95"}
_QUESTIONS = {
    "cheapest": "fewest {} per token", "fastest": "lowest median TPOT",
    "throughput": "most tokens per second of a server",
}  # fmt: skip


def winners(s: Study, slug: str, money: Money) -> str:
    """One row a question and rival."""
    if not s.wins:
        return none(_ONE)
    rows = []
    for w in s.wins:
        head = [text(w.workload), _QUESTIONS[w.question].format(money.sign), _limits(s, w), _winner(w)]
        if w.best is None or not w.rivals:
            best = _option(s, w, w.best, money) if w.best else "no option"
            rows.append([*head, best, "–", f"not compared: {said(w.why)}"])
        rows += [
            [*head, _option(s, w, w.best, money), _option(s, w, r.option, money), _ratio(w, r)]
            for r in w.rivals
            if w.best is not None
        ]
    columns = [
        Column("Workload"), Column("Asked"), Column("Within"), Column("Winner"), Column("Best by its figure"),
        Column("Best of the other type"), Column("That is worse by"),
    ]  # fmt: skip
    caption = (
        "Each type at its own best option. A winner is named against every other type, beyond the region of "
        "equivalence and with p below 0.05 after correction for the options among which it was picked and for all rows."
    )
    return table(f"gpu-winners-{slug}", columns, rows, caption)


def _limits(s: Study, w: Win) -> str:
    if w.load:
        return f"at {load_words(w.load)}, measured on all"
    limits = limits_of(s.group, w.workload)
    words = [f"{_METRICS[m]} up to {number(ms)} ms" for m, ms in limits.items()]
    return ", ".join(words) or "no limits in the study"


def _winner(w: Win) -> str:
    if w.named and w.best is not None:
        return f"<strong>{text(w.best.gpu)}</strong>"
    return "none named" if w.why else "no winner inside the noise"


def _option(s: Study, w: Win, o: Option | None, money: Money) -> str:
    if o is None:
        return "–"
    figures = "; ".join(_value(s, w, x, money) for x in o.spots)
    return f"{text(o.gpu)}, {text(o.variant)}, {load_words(o.load)}: {figures}"


def _value(s: Study, w: Win, x: Spot, money: Money) -> str:
    box = f" <small>{text(x.boxes[0])}</small>" if x.kept_apart else ""
    price = s.prices[x.gpu]
    if w.question == "cheapest" and price is not None:
        e = cost(x, price)
        return f"{money.sign} {money.span(e.value, *span(e))}{box}"
    metric, unit = ("tpot_ms_p50", "ms") if w.question == "fastest" else (THROUGHPUT, "tok/s")
    e = x.figures[metric]
    return f"{spanned(e.value, *span(e))} {unit}{box}"


def _ratio(w: Win, r: Rival) -> str:
    if math.isnan(r.low):
        return f"{signed_percent(r.ratio)} <small>(one repeat: no interval)</small>"
    word = said(f"no word: {w.why}") if w.why else "▲ decided" if r.decided else "? inside the noise"
    return f"{signed_percent(r.ratio)} <small>({signed_percents(r.low, r.high)})</small> {word}"


def flips(s: Study, slug: str) -> str:
    """One row a pair of options: the ratio of prices, and each break-even beside what is listed."""
    if len(s.group.gpus) < 2:
        return none(_ONE)
    if not s.flips:
        return none("No two GPU types have options of one workload within its limits.")
    rows = [_flip(s, f) for f in s.flips]
    columns = [
        Column("Workload"), Column("A"), Column("B"), Column("Price of A / price of B where they cost the same", True),
        Column("So A breaks even at, USD / hour", True), Column("A is listed at, USD / hour", True),
        Column("What it means"),
    ]  # fmt: skip
    caption = (
        "Prices of one GPU's hour. 95 % intervals come from the throughputs; prices are taken as exact. Break-even of "
        "A: at the listed price of B."
    )
    return table(f"gpu-flips-{slug}", columns, rows, caption)


def _flip(s: Study, f: Flip) -> list[str]:
    a, b = s.prices[f.a.gpu], s.prices[f.b.gpu]
    even = "–" if b is None else spanned(b * f.ratio, b * f.low, b * f.high)
    return [
        text(f.a.workload), _spot(s, f.a, best=f.best), _spot(s, f.b, best=f.best), spanned(f.ratio, f.low, f.high),
        even, _listed(s, f.a), _means(s, f, a, b),
    ]  # fmt: skip


def _spot(s: Study, x: Spot, *, best: bool) -> str:
    head = "its cheapest: " if best else ""
    many = f", {x.gpus} GPUs" if x.gpus > 1 else ""
    return f"{text(where(s, x))}: {head}{text(x.variant)}, {load_words(x.load)}{many}"


def _listed(s: Study, x: Spot) -> str:
    gpu = next(g for g in s.group.gpus if g.name == x.gpu)
    price = s.prices[x.gpu]
    return "no price" if price is None else f"{number(price)} <small>{text(gpu.priced.price)}</small>"


def _means(s: Study, f: Flip, a: float | None, b: float | None) -> str:
    side = f.side(a, b)
    if not side or a is None or b is None:
        return "a price or an interval is missing"
    if side == "noise":
        return "at the listed prices neither is cheaper beyond the noise"
    words = f"{text(f.a.gpu if side == 'a' else f.b.gpu)} is cheaper at the listed prices"
    words += f", until A {'rises' if side == 'a' else 'falls'} to {number(b * f.ratio)}"
    return f"{words}{_quoted(s, f, b)}"


def _quoted(s: Study, f: Flip, b: float) -> str:
    """Whether the break-even lies inside what is quoted for that GPU at all."""
    gpu = next(g for g in s.group.gpus if g.name == f.a.gpu).gpu
    known = profiles.load().get(gpu)
    figure = known.price_usd_per_hour if known else None
    if figure is None or figure.low is None or figure.high is None:
        return ""
    inside = figure.low <= b * f.ratio <= figure.high
    words = f"quoted {number(figure.low)} to {number(figure.high)} ({figure.source}, {figure.date})"
    return f"; that is {'inside' if inside else 'outside'} what is {text(words)}"
