"""Every GPU of a server counts: from the row, else from the engine's command line, else one."""

from __future__ import annotations

import json

import pytest

from collector.bundle.schema import VariantRow
from quantcase.analysis.gpu_count import gpu_count
from tests.makers import study, variant_row


def row(*argv: str, **more: int) -> VariantRow:
    made = variant_row(study().variants[0])
    made.argv = json.dumps(["vllm", "serve", "model", *argv])
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("rows", "gpus"),
    [
        ([], 1),
        ([row()], 1),
        ([row(gpus=4)], 4),
        ([row("--tensor-parallel-size", "8", gpus=2)], 2),  # the row knows best
        ([row(tensor_parallel=2, pipeline_parallel=2)], 4),
        ([row("--tensor-parallel-size", "2")], 2),
        ([row("--tensor-parallel-size=2", "-pp", "3")], 6),
        ([row("--tensor_parallel_size", "2", "--data-parallel-size", "2")], 4),
        ([row("-dp", "2", tensor_parallel=2)], 4),
        ([row("--tensor-parallel-size", "two")], 1),
        ([row(), row(gpus=2)], 2),
    ],
)  # fmt: skip
def test_gpus_of_a_server(rows: list[VariantRow], gpus: int) -> None:
    assert gpu_count(rows) == gpus


def test_a_command_line_that_is_no_json_counts_as_one() -> None:
    made = row()
    made.argv = "vllm serve --tensor-parallel-size 2"
    assert gpu_count([made]) == 1
