"""Can I trust this? The panel of a case: what speaks for the measurement, what must be looked at, what is not known."""

from __future__ import annotations

from quantcase.analysis.trust import Trust
from quantcase.html import Column, delta, table
from quantcase.pages import company, little
from quantcase.pages.view import CaseView
from quantcase.text import fixed, number, percent, said, text

__all__ = ["panel", "repeats", "section"]

_STATES = {"ok": "✓ ok", "look": "! look", "none": "– not recorded"}
Row = tuple[str, str, str]  # what, seen, state; safe text


def panel(view: CaseView) -> str:
    """One line that says it in short, and all checks behind it."""
    seen, rows = view.trust, _rows(view)
    look = sum(state == "look" for _, _, state in rows)
    many = "s" if seen.starts[1] > 1 else ""
    words = [
        f"{repeats(view)} a cell over {_span(seen.starts)} server start{many}",
        f"{fixed(seen.requests)} requests, {fixed(seen.failed)} failed",
        "A/A control measured" if seen.control else "no A/A control",
        f"{look} of {len(rows)} checks want a look" if look else f"all {len(rows)} checks passed or were not recorded",
    ]
    state = "look" if look else "ok"
    return (
        f'<details class="qc-trust" data-state="{state}" id="trust"><summary><strong>Can I trust this?</strong> '
        f"{'; '.join(words)}.</summary>{_table(rows, 'trust')}</details>"
    )


def repeats(view: CaseView) -> str:
    """How often the cells were measured: `3 repeats`, `1 to 3 repeats`."""
    return f"{_span(view.trust.repeats)} repeat{'' if view.trust.repeats[1] == 1 else 's'}"


def section(view: CaseView) -> str:
    """The same table in the methodology, and every single doubt."""
    parts = ["### Can I trust this?", _table(_rows(view), "trust-all"), *company.section(view.trust.together)]
    if view.trust.flags:
        rows = [[text(f.kind), text(f.where), said(f.words)] for f in view.trust.flags]
        parts.append("### Doubts\n\n" + table("doubts", [Column("Kind"), Column("Where"), Column("What")], rows))
    return "\n\n".join(parts)


def _table(rows: list[Row], name: str) -> str:
    cells = [
        [what, seen, f'<span class="qc-check" data-state="{state}">{_STATES[state]}</span>']
        for what, seen, state in rows
    ]
    return table(name, [Column("Check"), Column("Seen"), Column("")], cells)


def _span(values: tuple[int, int]) -> str:
    low, high = values
    return f"{low}" if low == high else f"{low} to {high}"


def _rows(view: CaseView) -> list[Row]:
    seen = view.trust
    return [
        *_design(view, seen),
        *_steady(seen),
        little.row(seen.little),
        *_client(seen),
        *_engine(seen),
        *_machine(view, seen),
    ]


def _design(view: CaseView, seen: Trust) -> list[Row]:
    few = seen.repeats[0] < 3
    starts = "intervals hold what changes from start to start" if seen.starts[0] > 1 else "one start of some variants"
    rows = [
        ("Repeats of each cell", _span(seen.repeats), "look" if few else "ok"),
        ("Server starts of each variant", f"{_span(seen.starts)}: {starts}", "ok" if seen.starts[0] > 1 else "look"),
        ("Requests", f"{fixed(seen.requests)}, {fixed(seen.failed)} failed", "look" if seen.failed else "ok"),
    ]
    if seen.control:
        c = seen.control
        same = c.kind in ("equivalent", "negligible")
        words = f"at its widest {delta(c)} ({text(c.workload)} {text(c.load)})"
        rows.append(("Control: the baseline against itself", words, "ok" if same else "look"))
    else:
        rows.append(("Control: the baseline against itself", "none measured", "none"))
    return rows


def _steady(seen: Trust) -> list[Row]:
    low, high = seen.windows_s
    windows = "none" if low != low else f"{number(low)} to {number(high)} s" if low != high else f"{number(low)} s"
    if not seen.steady:
        state, words = "none", "not recorded by that collector"
    else:
        counts = [
            f"{seen.steady[k]} {name}" for k, name in (("yes", "steady"), ("no", "drifting"), ("short", "too short"))
        ]
        state, words = ("look" if seen.steady["no"] else "ok"), ", ".join(counts)
    return [("Steady windows", windows, "ok" if low == low else "look"), ("Trend inside the windows", words, state)]


def _client(seen: Trust) -> list[Row]:
    if not seen.recorded:
        return [("The client", "left no record of itself", "none")]
    limited = ", ".join(f"{text(v)} {text(w)} {text(load)}" for v, w, load in sorted(seen.limited)) or "none"
    rows = [
        _seen("Latest wake-up of the client, p99 of the worst repeat", seen.lag_ms_p99, "ms"),
        _seen("Busiest client process, share of a core", seen.cpu_pct, "%"),
        _seen("TTFT that the client sees of a server that answers at once", seen.floor_ms, "ms"),
        ("Load points at which the client was the limit", limited, "look" if seen.limited else "ok"),
    ]  # fmt: skip
    if seen.late_ms_p99 is not None:
        rows.append(("Requests sent after they were due, p99", f"{number(seen.late_ms_p99)} ms", "ok"))
    return rows


def _seen(what: str, value: float | None, unit: str) -> Row:
    return (what, "not recorded", "none") if value is None else (what, f"{number(value)} {unit}".strip(), "ok")


def _engine(seen: Trust) -> list[Row]:
    share, hits = seen.engine_tokens_share, seen.prefix_hit_share
    rows = [_seen("Most tokens in a chunk, mean of a repeat", seen.tokens_per_chunk, "")]
    if share is None:
        rows.append(("Tokens by the engine's own counter", "not recorded", "none"))
    else:
        state = "ok" if abs(share - 1) < 0.01 else "look"
        rows.append(("Tokens by the engine's own counter, against usage", f"{percent(share, 2)} at the widest", state))
    if hits is None:
        rows.append(("Prompt tokens from the prefix cache", "not recorded", "none"))
    else:
        rows.append(("Prompt tokens from the prefix cache", percent(hits, 2), "ok" if hits < 0.01 else "look"))
    return rows


def _machine(view: CaseView, seen: Trust) -> list[Row]:
    kinds = {f.kind for f in seen.flags}
    rows: list[Row] = []
    if seen.sm_clock_mhz is None:
        rows.append(("Clocks under load", "no GPU telemetry", "none"))
    else:
        low, high = seen.sm_clock_mhz
        words = f"SM {fixed(low)} to {fixed(high)} MHz (5th to 95th percentile)"
        rows.append(("Clocks under load", words, "look" if kinds & {"clocks", "throttled"} else "ok"))
    noise = sum(f.kind == "spread" for f in seen.flags)
    rows.append(("Cells whose repeats vary by more than 5 %", f"{noise}", "look" if noise else "ok"))
    rows += company.rows(seen.together)
    others = [f for f in seen.flags if f.kind in ("foreign", "machines")]
    words = "; ".join(f"{text(f.where)}: {said(f.words)}" for f in others[:3]) or "no sign of it"
    rows.append(("Anything else on the machine", words, "look" if others else "ok"))
    return rows
