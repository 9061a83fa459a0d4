"""The experiment log's figures: states, rows, the rules that choose, the score, capacity, workers, settings."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from collector import study
from collector.bundle.manifest import resources, write
from collector.bundle.read import Load, open_bundle
from collector.bundle.schema import VariantRow
from quantcase.analysis.experiments import (
    QUALITY,
    WEIGHTS,
    Figure,
    Row,
    balance,
    best,
    eligible,
    excluded,
    experiment_rows,
    kind_of,
    matrix,
    pareto,
    usd_per_request,
)
from quantcase.analysis.memory import memory
from quantcase.analysis.points import Point, points
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.scaling import capacity, deployment, need, workers
from quantcase.catalog import Case, load
from tests.makers import STUDY, make_bundle, variant_row
from tests.makers import study as seeded


def point(value: float, metric: str = "throughput_tok_s", *, share: float = 0.01, shown: bool = True) -> Point:
    return Point(
        "v", "chat", "c8", 8, metric, value, value * (1 - share), value * (1 + share), 400, 3, "", "", shown
    )  # fmt: skip


def row(variant: str, tok_s: float, p95: float, gib: float | None = 10.0, *, at: int = 8, **more: object) -> Row:
    given: dict[str, object] = {
        "variant": variant, "workload": "chat", "load": Load.closed(at), "n": 400, "failed": 0, "mean_ms": None,
        "req_s": Figure(tok_s / 100, tok_s / 101, tok_s / 99, 3), "weights_gib": gib, "kv_tokens": 1000,
        "tok_s": point(tok_s), "p95": point(p95, "e2e_ms_p95"), "p99": None, "tpot": point(1e4 / tok_s, "tpot_ms_p50"),
    }  # fmt: skip
    return Row(**{**given, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = make_bundle(tmp_path_factory.mktemp("results"), weights="real")
    return load(folder.parent).cases[0]


def reload(folder: Path) -> Case:
    """The bundle after a test changed a file: its manifest renewed."""
    bundle = open_bundle(folder)
    bundle.manifest.resources = resources(folder)
    write(folder, bundle.manifest)
    return load(folder.parent).cases[0]


def test_a_whole_run_is_complete_and_an_open_one_says_what_is_left(case: Case, tmp_path: Path) -> None:
    assert {(e.status, e.done, e.planned) for e in matrix(case)} == {("complete", 15, 15)}
    make_bundle(tmp_path, status="interrupted", only=("bf16",))
    open_run = {e.variant: e for e in matrix(load(tmp_path).cases[0])}
    assert open_run["bf16"].status == "complete"
    assert (open_run["fp8"].status, open_run["fp8"].reason, open_run["fp8"].done) == ("pending", "not started yet", 0)


def test_a_variant_that_did_not_serve_failed_in_the_engines_words(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "fp8"))
    table = folder / "variants.csv"
    table.write_text(table.read_text().replace("fp8,1,ok,,", "fp8,1,oom,CUDA out of memory,", 1))
    case = reload(folder)
    found = {e.variant: e for e in matrix(case)}
    assert (found["fp8"].status, found["fp8"].reason) == ("failed", "oom: CUDA out of memory")
    assert (found["awq"].status, found["awq"].reason) == ("skipped", "the run ended without it")
    assert excluded(case, {})["fp8"] == "did not serve"


def test_a_started_variant_of_an_open_run_is_in_progress(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, status="interrupted", only=("bf16",))
    cells = folder / "cells.csv"
    cells.write_text("".join(x for x in cells.read_text().splitlines(keepends=True) if ",batch,c32," not in x))
    found = matrix(reload(folder))[0]
    assert (found.status, found.reason) == ("in progress", "1 of 5 load points not fully measured")
    assert (found.done, found.planned) == (12, 15)


def test_a_closed_run_without_load_skipped_it_and_nothing_failed(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16",))
    for name in ("cells.csv", "chunk_gaps.csv"):
        path = folder / name
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    found = matrix(reload(folder))[0]
    assert (found.status, found.reason) == ("skipped", "5 of 5 load points not fully measured")


def test_a_row_holds_what_the_bundles_rows_give(case: Case) -> None:
    rows = experiment_rows(case, points(case))
    assert len(rows) == 4 * 5
    one = next(r for r in rows if (r.variant, r.workload, r.load.name) == ("fp8", "chat", "c16"))
    asked = [r for r in case.bundle.requests() if (r.variant, r.workload, r.load) == ("fp8", "chat", "c16")]
    cells = [c for c in case.bundle.cells() if (c.variant, c.workload, c.load) == ("fp8", "chat", "c16")]
    assert one.mean_ms is not None
    assert one.req_s is not None
    assert one.mean_ms.value == pytest.approx(statistics.fmean(r.e2e_ms for r in asked if r.e2e_ms))
    assert one.req_s.value == pytest.approx(statistics.fmean(c.whole_run_req_s for c in cells if c.whole_run_req_s))
    assert one.req_s.low < one.req_s.value < one.req_s.high
    assert (one.n, one.failed, one.req_s.runs) == (288, 0, 3)
    assert one.p99 is not None
    assert not one.p99.shown  # 288 requests are too few for a p99
    assert next(m for m in memory(case) if m.row.variant == "fp8").saved_gib == pytest.approx(14.99 - 8.49)


def test_the_best_is_chosen_by_one_figure_and_ties_are_said() -> None:
    rows = [row("bf16", 1000, 500), row("fp8", 1500, 400), row("awq", 1495, 480)]
    assert [c.row.variant for by in ("latency", "throughput", "cost") if (c := best(rows, by))] == ["fp8"] * 3
    latency, throughput = best(rows, "latency"), best(rows, "throughput")
    assert latency is not None
    assert throughput is not None
    assert [r.variant for r in latency.tied] == []
    assert [r.variant for r in throughput.tied] == ["awq"]
    assert best([replace(rows[0], p95=point(1, shown=False))], "latency") is None


def test_without_an_interval_nothing_can_be_told_apart() -> None:
    unknown = Point("v", "chat", "c8", 8, "throughput_tok_s", 9.0, math.nan, math.nan, 400, 1, "", "")
    choice = best([row("a", 10, 1), replace(row("b", 9, 1), tok_s=unknown)], "throughput")
    assert choice is not None
    assert [r.variant for r in choice.tied] == ["b"]


def test_the_front_drops_what_another_beats_in_everything() -> None:
    fast, light, beaten = row("fast", 2000, 400, 8.0), row("light", 1000, 500, 4.0), row("beaten", 900, 600, 9.0)
    assert pareto([fast, light, beaten]) == ([fast, light], ["throughput", "E2E p95", "memory of the weights"])
    front, dimensions = pareto([fast, row("unstated", 1000, 500, None)])
    assert (front, dimensions) == ([fast], ["throughput", "E2E p95"])


def test_the_score_is_the_weighted_geometric_mean_times_quality() -> None:
    base, fp8 = row("bf16", 1000, 500, 16.0), row("fp8", 2000, 300, 8.0, kv_tokens=1500)
    found = balance([base, fp8], "bf16", "chat", {"fp8": "caution"})
    assert found is not None
    (score,) = found.scores  # the baseline is beaten in all three
    w = WEIGHTS["chat"]
    expected = QUALITY["caution"] * 2 ** w["throughput"] * 2 ** w["tpot"] * 1.5 ** w["kv"] * 2 ** w["cost"]
    assert score.value == pytest.approx(expected)
    assert score.low < score.value < score.high
    assert score.ratios == pytest.approx({"throughput": 2, "tpot": 2, "kv": 1.5, "cost": 2})
    assert (found.reference, found.tied) == (base, [])
    assert score.halves == pytest.approx({"throughput": math.log(1.01 / 0.99) / 2, "tpot": math.log(1.01 / 0.99) / 2,
                                          "kv": 0, "cost": math.log(101 / 99) / 2})  # fmt: skip


def test_a_part_without_weight_is_shown_and_does_not_count() -> None:
    base, fp8 = row("bf16", 1000, 500, 16.0), row("fp8", 2000, 300, 8.0)
    found = balance([base, fp8], "bf16", "batch", {"fp8": "pass"})
    assert found is not None
    assert (found.kind, found.asked) == ("batch", WEIGHTS["batch"])
    assert "tpot" not in found.weights
    assert found.scores[0].ratios["tpot"] == pytest.approx(2)
    assert found.scores[0].value == pytest.approx(2**0.9)  # the KV capacity is the same


def test_the_order_does_not_depend_on_the_reference_and_near_scores_tie() -> None:
    rows = [row("bf16", 1000, 500, 4.0), row("a", 1500, 400, 8.0), row("b", 1501, 401, 7.0)]
    found = balance(rows, "bf16", "chat", dict.fromkeys("ab", "pass"))
    other = balance(rows, "a", "chat", {**dict.fromkeys("ab", "pass"), "bf16": "pass"})
    assert found is not None
    assert other is not None
    assert [s.row.variant for s in found.scores] == [s.row.variant for s in other.scores] == ["b", "a", "bf16"]
    assert [s.row.variant for s in found.tied] == ["a"]


def test_a_missing_part_is_left_out_for_all_and_no_baseline_means_no_score() -> None:
    rows = [row("bf16", 1000, 500, 16.0), row("fp8", 2000, 300, 8.0, kv_tokens=None)]
    found = balance(rows, "bf16", "chat", {"fp8": "pass"})
    assert found is not None
    assert found.weights == pytest.approx({"throughput": 0.25, "tpot": 0.5, "cost": 0.25})
    assert balance(rows[1:], "bf16", "chat", {}) is None


def test_weights_are_a_whole_and_follow_the_workload() -> None:
    assert all(math.isclose(sum(w.values()), 1) for w in WEIGHTS.values())
    chat, batch = seeded().workloads
    assert (kind_of(chat), kind_of(batch)) == ("chat", "batch")
    assert kind_of(msgspec.structs.replace(chat, input_tokens=16_384)) == "long"


def test_a_variant_that_fails_on_quality_takes_no_part(case: Case) -> None:
    judged = {"fp8": QualityVerdict("fp8", "fail", "a loss was found", "", [])}
    out = excluded(case, judged)
    assert out == {"fp8": "quality: a loss was found"}
    rows = eligible(case, experiment_rows(case, points(case)), "chat", out)
    assert {r.variant for r in rows} == {"bf16", "awq", "bf16-fp8kv"}


def test_a_load_point_at_which_the_client_was_the_limit_takes_no_part(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "fp8"))
    path = folder / "client.json"
    client = json.loads(path.read_text())
    for cell in client["cells"]:
        if (cell["variant"], cell["load"]) == ("fp8", "c8"):
            cell["client_limited"] = True
    path.write_text(json.dumps(client))
    case = reload(folder)
    at = [(r.variant, r.load.name) for r in eligible(case, experiment_rows(case, points(case)), "chat", {})]
    assert ("fp8", "c8") not in at
    assert ("fp8", "c16") in at


def test_cost_spreads_the_hour_over_its_requests() -> None:
    assert usd_per_request(3.6, 2.0) == pytest.approx(0.0005)
    assert usd_per_request(3.6, 2.0, 1_000_000) == pytest.approx(500)


@pytest.mark.parametrize(("per_minute", "total"), [(60, 2), (100, 2), (1_000, 4), (10_000, 25), (420, 2), (421, 3)])
def test_workers_follow_from_the_measured_capacity(per_minute: int, total: int) -> None:
    assert workers(per_minute, 10.0) == total  # ceil(lambda / (60 * 10 * 0.7)) + 1


def test_capacity_is_the_highest_rate_inside_the_limits(tmp_path: Path) -> None:
    limits = STUDY.format(weights="dummy").replace(
        "requests_per_stream = 6", "e2e_limit_ms = 950\nrequests_per_stream = 6"
    )
    folder = make_bundle(tmp_path, asked=study.loads(limits), only=("bf16",))
    case = load(folder.parent).cases[0]
    cells = [c for c in case.bundle.cells() if (c.variant, c.workload) == ("bf16", "chat")]
    rates = {at: [c for c in cells if c.load == at] for at in ("c1", "c8", "c16")}
    assert all((c.goodput_req_s or 0) < 0.95 * (c.whole_run_req_s or 0) for c in rates["c16"])
    found = capacity(case, "bf16", "chat")
    assert found is not None
    assert (found.load.name, found.basis, found.runs) == ("c8", "goodput", 3)
    assert found.req_s == pytest.approx(statistics.fmean(c.whole_run_req_s for c in rates["c8"] if c.whole_run_req_s))
    free = capacity(case, "bf16", "batch")
    assert free is not None
    assert (free.load.name, free.basis) == ("c32", "whole run")
    wanted = need(free, 10_000, 2.0)
    assert wanted.busy == math.ceil(10_000 / (60 * free.req_s * 0.7))
    assert (wanted.total, wanted.usd_per_hour) == (wanted.busy + 1, 2.0 * (wanted.busy + 1))
    assert wanted.total_low is not None
    assert wanted.total_low >= wanted.total


def test_no_capacity_where_no_load_keeps_its_limits(tmp_path: Path) -> None:
    limits = STUDY.format(weights="dummy").replace(
        "requests_per_stream = 6", "e2e_limit_ms = 1\nrequests_per_stream = 6"
    )
    assert (
        capacity(load(make_bundle(tmp_path, asked=study.loads(limits), only=("bf16",)).parent).cases[0], "bf16", "chat")
        is None
    )


def started(argv: list[str]) -> VariantRow:
    return msgspec.structs.replace(variant_row(seeded().variants[1]), argv=json.dumps(argv))


def test_settings_come_from_the_recorded_command_without_its_place() -> None:
    argv = ["vllm", "serve", "org/model", "--host", "127.0.0.1", "--port=8000", "--load-format", "dummy"]
    argv += ["--max-num-seqs", "32", "--gpu-memory-utilization=0.85", "--json", '{"a": 1}', "--eager"]
    found = deployment(started(argv))
    assert found is not None
    assert (found.quantization, found.max_num_seqs, found.gpu_memory_utilization) == ("fp8", "32", "0.85")
    assert found.lines == [
        "vllm serve org/model", "--max-num-seqs 32", "--gpu-memory-utilization 0.85", "--json '{\"a\": 1}'", "--eager",
    ]  # fmt: skip
    assert found.dummy
    for broken in ("[]", "not JSON", "{}", "[1]"):
        assert deployment(msgspec.structs.replace(started([]), argv=broken)) is None


def test_the_seeds_study_asks_four_methods_at_five_batch_sizes_of_one_server() -> None:
    s = study.load("a100-batch")
    assert [v.method for v in s.variants] == ["none", "bitsandbytes", "awq", "gptq"]
    assert [at.concurrency for _, at in s.cells()] == [1, 4, 8, 16, 32]
    assert s.engine.args[s.engine.args.index("--max-num-seqs") + 1] == "32"
    least = min(w.requests(at) for w, at in s.cells()) * s.repeats * s.starts
    assert least >= 400  # so that every p99 is shown
