"""The load test of a case: what users wait when more of them come, as Locust saw it."""

from __future__ import annotations

from quantcase.analysis.loadtest import Row, errors, frame, load_tests, rows, summary
from quantcase.charts.loadtest import latency_by_users
from quantcase.html import Column, none, table
from quantcase.pages.view import CaseView
from quantcase.text import fixed, number, text

__all__ = ["section"]

_COLUMNS = [
    Column("Quantization"),
    Column("Batch size", True),
    Column("Users", True),
    Column("RPS", True),
    Column("P95 (ms)", True),
    Column("P99 (ms)", True),
    Column("Failures", True),
    Column("Notes"),
]
_CAPTION = (
    "Batch size: requests that the server runs at once at most, by its command line. RPS: requests that ended per "
    "second, without the first fifth of a step. P95, P99: from the send to the end of the whole answer, of all "
    "requests sent in the step after it had settled; Locust rounds times to two significant digits. Failures: of those "
    "requests."
)


def section(view: CaseView) -> str:
    """Configuration, table, chart and what failed; a sentence where no load test was run."""
    tests, faults = load_tests(view.case)
    torn = [none(f"A load test cannot be read: {text(fault)}.") for fault in faults]
    if not tests:
        return "\n\n".join(torn) or none("No Locust load test was run for this bundle.")
    found, whole = rows(view.case, tests), summary(tests)
    parts = [
        f"**Locust**, {_span(*whole.users)} users in {_steps(whole.steps)}, about {_minutes(*whole.minutes)} a "
        "variant. Each user sends a chat completion, waits for the whole answer (not streamed), and sends the next at "
        "once; prompts are seeded, none is asked twice. One test a variant and no times of single requests: the "
        "figures have no intervals, so it is at fixed loads that variants are compared.",
        table("loadtest", _COLUMNS, [_cells(row) for row in found], _CAPTION),
    ]
    points = frame(found)
    if points.empty:
        parts.append(none("Too few requests ended for a chart of the latency."))
    else:
        title = "Latency against users"
        parts.append(latency_by_users(points, view.case.baseline, title=title).html())
    if failed := errors(tests):
        cells = [[text(e.variant), text(e.error), number(e.count)] for e in failed]
        columns = [Column("Variant"), Column("What failed"), Column("Times, in the whole test", True)]
        parts.append("### Failed requests\n\n" + table("loadtest-failures", columns, cells))
    else:
        parts.append(f"None of {fixed(whole.requests)} requests failed.")
    return "\n\n".join([*torn, *parts])


def _span(low: int, high: int) -> str:
    return fixed(low) if low == high else f"{fixed(low)} to {fixed(high)}"


def _steps(count: int) -> str:
    return f"{count} steps" if count > 1 else "one step"


def _minutes(low: float, high: float) -> str:
    shown = [number(value, 2) for value in (low, high)]
    return f"{shown[0]} min" if shown[0] == shown[1] else f"{shown[0]} to {shown[1]} min"


def _cells(row: Row) -> list[str]:
    method = "" if row.method == "none" else f" <small>{text(row.method)}</small>"
    return [
        f'<span class="qc-name">{text(row.variant)}</span>{method}',
        number(row.batch, 6) if row.batch is not None else "not stated",
        number(row.users),
        number(row.rps),
        _percentile(row, 95),
        _percentile(row, 99),
        f"{fixed(row.failures)} of {fixed(row.requests)}",
        "; ".join(text(note) for note in row.notes) or "–",
    ]


def _percentile(row: Row, p: int) -> str:
    value = row.ms[p]
    if value is None or row.shown[p]:
        return number(None if value is None else int(value))  # Locust's are whole
    return f'<span class="qc-few" title="too few requests for this percentile">n = {row.requests}, too few</span>'
