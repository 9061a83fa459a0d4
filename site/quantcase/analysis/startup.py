"""How long a server takes to be ready, part by part, for every server start that served.

The engine states how long it loads weights, compiles and captures graphs; when it did so it does not say. So the parts
are lengths, not places in time: what is left of the time to ready is everything else (imports, profiling, the KV pool).
"""

from __future__ import annotations

import pandas as pd

from collector.bundle.schema import VariantRow
from quantcase.catalog import Case

__all__ = ["STATED", "startups"]

STATED = {"weights": "weights_s", "compile": "compile_s", "graphs": "graphs_s"}


def startups(case: Case) -> pd.DataFrame:
    """One row per server start and part: `variant, start, part, seconds, ready_s, first_token_s`.

    Seconds are from the spawn of the process. `ready_s` is when it answered as healthy; `rest` is ready_s less the
    parts stated, and left out where these overlap so much that nothing is left. Starts that were never ready are not
    here.
    """
    rows = [
        (row.variant, row.start, part, seconds, row.healthy_s, row.first_token_s)
        for name in sorted((v.name for v in case.study.variants), key=lambda n: n != case.baseline)
        for row in case.starts(name)
        if row.exit_state == "ok" and row.healthy_s is not None
        for part, seconds in _parts(row, row.healthy_s)
    ]
    return pd.DataFrame(rows, columns=["variant", "start", "part", "seconds", "ready_s", "first_token_s"])


def _parts(row: VariantRow, ready_s: float) -> list[tuple[str, float]]:
    stated = [(p, float(s)) for p, column in STATED.items() if (s := getattr(row, column)) is not None and s > 0]
    rest = ready_s - sum(s for _, s in stated)
    return [*stated, ("rest", rest)] if rest > 0 else stated
