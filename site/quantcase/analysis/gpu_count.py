"""How many GPUs serve a variant: every one of them is paid for, so every one of them counts in a cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from collector.bundle.schema import VariantRow
from quantcase.analysis.plan_checks import command_of

__all__ = ["gpu_count"]

# A server takes tensor x pipeline x data parallel GPUs. vLLM's options, long and short; it takes them with _ for - too.
_OPTIONS = (
    ("--tensor-parallel-size", "-tp"),
    ("--pipeline-parallel-size", "-pp"),
    ("--data-parallel-size", "-dp"),
)


def gpu_count(rows: Sequence[VariantRow]) -> int:
    """GPUs of one variant's server, from its server starts (`rows`, all of one variant); 1 for no rows.

    A row says it in `gpus`. Where it does not (bundles of before that column), its three sizes are multiplied, each
    from its own column, else from the server's command line, else 1. Where starts disagree the largest counts, so that
    no cost is stated too low.
    """
    return max((_of(row) for row in rows), default=1)


def _of(row: VariantRow) -> int:
    if row.gpus is not None:
        return max(1, row.gpus)
    given = {name.replace("_", "-"): values for name, values in command_of(row).items()}
    stated = (row.tensor_parallel, row.pipeline_parallel, row.data_parallel)
    return math.prod(
        max(1, n) if n is not None else _asked(given, names) for n, names in zip(stated, _OPTIONS, strict=True)
    )


def _asked(given: Mapping[str, tuple[str, ...]], names: tuple[str, ...]) -> int:
    """The size that a command line asks for; 1 where it asks for none, or for no number."""
    for name in names:
        if (values := given.get(name)) and values[0].isdecimal():
            return max(1, int(values[0]))
    return 1
