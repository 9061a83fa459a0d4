"""The plan in the terminal, 80 columns wide."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from collector.bundle.planned import Estimate, Plan, Verdict

__all__ = ["plan_table"]

_STYLE: dict[Verdict, str] = {
    "fits": "green",
    "tight": "yellow",
    "does not fit": "red",
    "unsupported": "red",
    "unknown": "dim",
}


def plan_table(plan: Plan) -> Group:
    """Memory a variant (GiB), time part by part (minutes), and what it comes to; all of it estimated."""
    return Group(_memory(plan), Text(), _times(plan), Text(), _sum(plan))


def _memory(plan: Plan) -> Table:
    card = f"{plan.memory_gib:.1f} GiB, engine takes {plan.budget_gib:.1f}" if plan.budget_gib else "no GPU memory"
    table = Table(title=f"{plan.study} on {plan.gpu} ({card}): estimate", width=80)
    table.add_column("variant", no_wrap=True, max_width=12)
    for name in ("weights", "KV", "rest", "need"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("minutes", justify="right", no_wrap=True)
    table.add_column("verdict", ratio=1)
    for v in plan.variants:
        verdict = Text(v.verdict, style=_STYLE[v.verdict]).append(f": {v.reason}", style="default")
        for note in v.notes:
            verdict.append(f"\n{note}", style="dim")
        table.add_row(
            Text(v.variant),
            _gib(v.weights_gib),
            _gib(v.kv_gib),
            _gib(v.rest_gib),
            _gib(v.minimum_gib),
            f"{v.minutes.low:.0f}-{v.minutes.high:.0f}" if v.minutes else "?",
            verdict,
        )
    return table


def _times(plan: Plan) -> Table:
    table = Table(title="time over all variants, minutes: estimate", width=80)
    table.add_column("part", max_width=22)
    table.add_column("about", justify="right", no_wrap=True)
    table.add_column("bounds", justify="right", no_wrap=True)
    table.add_column("rests on", ratio=1)
    for line in plan.times:
        m = line.minutes
        about, bounds = (_minutes(m.mid), f"{_minutes(m.low)}-{_minutes(m.high)}") if m else ("?", "?")
        table.add_row(Text(line.what), about, bounds, Text(line.assumption, style="dim"))
    return table


def _sum(plan: Plan) -> Text:
    held = max((v.gpus for v in plan.variants), default=1)
    lines = [f"{len(plan.load_points)} load points, {plan.cells} cells with repeats, {plan.requests} requests"]
    if plan.minutes:
        lines.append(f"about {plan.minutes.mid:.0f} minutes ({plan.minutes.low:.0f} to {plan.minutes.high:.0f})")
    else:
        lines.append("time: unknown")
    if plan.cost_usd and plan.price:
        each = f" for each of {held} GPUs" if held > 1 else ""
        at = f"at {plan.price.usd_per_hour:.2f} $/h{each} ({plan.price.source}, {plan.price.date})"
        lines.append(f"{_usd(plan.cost_usd)} {at}")
    return Text("\n".join([*lines, *plan.notes]))


def _usd(cost: Estimate) -> str:
    return f"about {cost.mid:.2f} $ ({cost.low:.2f} to {cost.high:.2f})"


def _minutes(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _gib(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"
