"""The bundles in results/ are sound, and somebody else's arithmetic agrees with ours.

The recomputation below uses the standard library and the definitions alone: no code of the project.
"""

from __future__ import annotations

import csv
import gzip
import json
import tomllib
from statistics import mean

import pytest

from collector.bundle.check import check
from tests import sites
from tests.real import RESULTS

BUNDLES = sorted(p.name for p in RESULTS.iterdir() if p.is_dir() and "-cpu-cpu" not in p.name)


@pytest.mark.parametrize("name", BUNDLES)
def test_every_bundle_in_results_is_sound(name: str) -> None:
    assert [f for f in check(RESULTS / name) if f.level == "error"] == []  # one is to be resumed


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] * (1 - (place - below)) + ordered[above] * (place - below)


def throughput(rows: list[dict[str, str]], concurrency: int) -> float:
    """Tokens received between the send that reaches the concurrency and the last send, over that time."""
    starts = sorted(float(r["started_s"]) for r in rows)
    begin, end = starts[concurrency - 1], starts[-1]
    tokens = 0
    for r in rows:
        first = float(r["started_s"]) + float(r["ttft_ms"]) / 1000
        gap = (float(r["e2e_ms"]) - float(r["ttft_ms"])) / 1000 / (int(r["output_tokens"]) - 1)
        tokens += sum(begin <= first + k * gap <= end for k in range(int(r["output_tokens"])))
    return tokens / (end - begin)


CELLS = {
    "2026-11-21-h200-h200-pair": 16, "2026-11-21-h200-h200-pair-70b": 9, "2026-11-21-h200-h200-shape": 30,
    "2026-11-21-h200-h200-shape-2": 20, "2026-11-21-h200-small-model": 12,
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in BUNDLES if "-h200-" in n])
def test_case_json_agrees_with_an_independent_recomputation(name: str) -> None:
    with gzip.open(RESULTS / name / "requests.csv.gz", "rt", newline="") as f:
        rows = list(csv.DictReader(f))
    _, outputs = sites.made(RESULTS, only=(name,))
    document = next(o for o in outputs if o.uri.endswith("case.json")).data()
    figures = {f["key"]: f["value"] for f in json.loads(document)["figures"]}
    cells: dict[tuple[str, str, str], dict[tuple[str, str], list[dict[str, str]]]] = {}
    for r in rows:
        runs = cells.setdefault((r["workload"], r["load"], r["variant"]), {})
        runs.setdefault((r["start"], r["repeat"]), []).append(r)
    with (RESULTS / name / "variants.csv").open(newline="") as f:
        gpus = {r["variant"]: int(r.get("gpus") or 1) for r in csv.DictReader(f)}
    price = tomllib.loads((RESULTS / name / "study.toml").read_text()).get("price")
    assert len(cells) == CELLS[name]
    for (workload, load, variant), runs in cells.items():
        key = f"{workload}.{load}.{variant}"
        speed = mean(throughput(run, int(load[1:])) for run in runs.values())
        assert figures[f"{key}.throughput_tok_s"] == pytest.approx(speed, rel=1e-3)
        ok = [r for run in runs.values() for r in run if r["status"] == "ok"]
        for metric, column, q in (
            ("ttft_ms_p50", "ttft_ms", 0.5), ("tpot_ms_p50", "tpot_ms", 0.5),
            ("e2e_ms_p95", "e2e_ms", 0.95), ("e2e_ms_p99", "e2e_ms", 0.99),
        ):  # fmt: skip
            value = quantile([float(r[column]) for r in ok], q)
            assert figures[f"{key}.{metric}"] == pytest.approx(value, rel=1e-3)
        cost = figures.get(f"cost.{key}.usd_per_1m_output_tokens")
        expected = 1e6 * gpus[variant] * price["usd_per_hour"] / (3600 * speed) if price else None
        assert cost == (pytest.approx(expected, rel=1e-3) if price else None)


def test_the_recording_in_the_package_is_of_a_bundle_in_results() -> None:
    from collector.engines.recording import load, record

    shipped = load("")
    assert shipped.bundle in BUNDLES
    assert shipped == record(RESULTS / shipped.bundle)
