"""Somebody else's script: cells.csv of the committed bundles, computed again from requests.csv.gz.

The standard library and the definitions of the methodology page alone; nothing of the project is imported.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.real import RESULTS

BUNDLES = sorted(
    p
    for p in RESULTS.iterdir()
    if (p / "requests.csv.gz").is_file() and "-cpu-cpu" not in p.name and "-shimmy-" not in p.name
)
KEY = ("variant", "start", "workload", "load", "repeat")
Row = dict[str, str]


def repeats(bundle: Path) -> dict[tuple[str, ...], list[Row]]:
    found: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    with gzip.open(bundle / "requests.csv.gz", "rt", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            found[tuple(row[k] for k in KEY)].append(row)
    return found


def percentile(values: list[float], percent: float) -> float:
    """Linear interpolation between the closest ranks."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low, high = math.floor(rank), math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def steady_window(rows: list[Row], concurrency: int) -> tuple[float, float]:
    """From the time the concurrency is first reached to the time the last request is issued."""
    events = sorted(
        [(float(r["started_s"]), 1) for r in rows]
        + [(float(r["started_s"]) + float(r["e2e_ms"]) / 1000, -1) for r in rows]
    )
    running = 0
    for when, step in events:
        running += step
        if running == concurrency:
            return when, max(float(r["started_s"]) for r in rows)
    raise AssertionError("the concurrency was never reached")


def tokens_inside(row: Row, begin: float, end: float) -> int:
    """Tokens of one answer that arrive in the window, spread evenly from the first content to the last."""
    count = int(row["output_tokens"])
    first = float(row["started_s"]) + float(row["ttft_ms"]) / 1000
    last = float(row["started_s"]) + float(row["e2e_ms"]) / 1000
    return sum(begin <= first + (last - first) * i / (count - 1) <= end for i in range(count))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_cells_agree(bundle: Path) -> None:
    measured = repeats(bundle)
    with (bundle / "cells.csv").open(encoding="utf-8", newline="") as f:
        cells = list(csv.DictReader(f))
    assert len(cells) == len(measured) > 0
    for cell in cells:
        rows = measured[tuple(cell[k] for k in KEY)]
        answered = [r for r in rows if r["status"] == "ok"]
        assert (int(cell["n"]), int(cell["ok"])) == (len(rows), len(answered))
        begin, end = steady_window(answered, int(cell["load"].removeprefix("c")))
        speed = sum(tokens_inside(r, begin, end) for r in answered) / (end - begin)
        assert float(cell["throughput_tok_s"]) == pytest.approx(speed, rel=1e-3), cell
        for metric in ("ttft_ms", "tpot_ms", "e2e_ms"):
            for percent in (50, 95, 99):
                if (name := f"{metric}_p{percent}") in cell:
                    expected = percentile([float(r[metric]) for r in answered], percent)
                    assert float(cell[name]) == pytest.approx(expected, rel=1e-3), (name, cell)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_each_row_keeps_the_definitions(bundle: Path) -> None:
    """TPOT is (last content - first content) / (tokens - 1), and nothing comes before it was asked for."""
    for rows in repeats(bundle).values():
        for r in rows:
            if r["status"] == "ok":
                ttft, e2e = float(r["ttft_ms"]), float(r["e2e_ms"])
                assert 0 <= float(r["first_chunk_ms"]) <= ttft <= e2e
                assert float(r["tpot_ms"]) == pytest.approx((e2e - ttft) / (int(r["output_tokens"]) - 1), rel=1e-3)


def test_the_checker_agrees() -> None:
    stated = {b: json.loads((b / "datapackage.json").read_text())["quantcase"]["status"] for b in BUNDLES}
    whole = [b for b, status in stated.items() if status == "complete"]
    command = [sys.executable, "-m", "collector.cli", "check", *map(str, whole)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stdout.count(": ok (")) == (0, len(whole)), ran.stdout
