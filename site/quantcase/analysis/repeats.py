"""Every repeat by itself, for the dots behind bars and lines: a mean without its values hides how it came about."""

from __future__ import annotations

import pandas as pd

from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.servers import gpu_counts
from quantcase.catalog import Case

__all__ = ["repeats"]


def repeats(case: Case, metric: str, usd_per_hour: float | None = None) -> pd.DataFrame:
    """`variant, workload, load, amount, start, repeat, value` of each repeat that has a value.

    `metric` is a column of cells.csv, or `usd_per_1m_output_tokens`, which follows from throughput and the price
    of one GPU, times the GPUs of the server.
    """
    cost = metric == "usd_per_1m_output_tokens"
    column = "throughput_tok_s" if cost else metric
    amounts = {load.name: load.amount for _, load in case.points_of_load()}
    table = case.cells[["variant", "workload", "load", "start", "repeat", column]].rename(columns={column: "value"})
    table = table[table["value"].notna() & table["load"].isin(set(amounts))]
    if cost:
        if usd_per_hour is None:
            return table.iloc[0:0].assign(amount=pd.Series(dtype=float))
        table = table[table["value"] > 0]
        counts = gpu_counts(case)
        pairs = zip(table["variant"], table["value"], strict=True)
        table = table.assign(value=[usd_per_million(usd_per_hour * counts[name], float(v)) for name, v in pairs])
    return table.assign(amount=table["load"].map(amounts))
