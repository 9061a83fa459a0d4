"""What charts show against the rows of the bundle, and the analysis behind them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from collector.bundle.check import check_bundle
from collector.bundle.read import open_bundle
from quantcase.analysis.distribution import METRICS, distribution, heaviest, thinned
from quantcase.analysis.plan_answers import roofs
from quantcase.analysis.points import frame, pick
from quantcase.analysis.roofline import ceilings, positions
from quantcase.analysis.startup import startups
from quantcase.analysis.timeline import SERIES, timeline
from quantcase.analysis.timeline import thinned as stretches
from quantcase.analysis.tradeoff import frontier, quality_by_size
from quantcase.catalog import Case
from quantcase.charts import (
    Figure,
    latency_distribution,
    latency_throughput,
    quality_against_size,
    roofline_position,
    startup_timeline,
    telemetry_over_time,
    throughput_by_concurrency,
)
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle, variant_row
from tests.site.test_samples import answered, asked, case_of


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    bundle = open_bundle(make_bundle(tmp_path_factory.mktemp("results"), weights="real"))
    return CaseView(Case(bundle, bundle.study(), check_bundle(bundle)), Options())


def rows_of(figure: Figure, *columns: str) -> set[tuple[Any, ...]]:
    """The rows of a figure's data that have these columns, as the browser gets them."""
    return {
        tuple(row[c] for c in columns)
        for rows in figure.live["datasets"].values()
        for row in rows
        if all(c in row for c in columns)
    }


def test_points_of_the_load_charts_are_those_of_the_table(view: CaseView) -> None:
    table = frame(view.points)
    figure = throughput_by_concurrency(table, "chat", "bf16", title="t")
    shown = {(v, a): (x, lo, hi) for v, a, x, lo, hi in rows_of(figure, "variant", "amount", "value", "low", "high")}
    assert len(shown) == 12
    for (variant, amount), values in shown.items():
        point = pick(view.points, variant, "chat", f"c{amount:g}", "throughput_tok_s")
        assert point is not None
        assert values == pytest.approx((point.value, point.low, point.high), rel=1e-5)
    both = latency_throughput(table, "chat", "e2e_ms_p50", "bf16", title="t")
    for variant, load, speed, ms, low in rows_of(both, "variant", "load", "tok_s", "ms", "ms_low"):
        tok_s = pick(view.points, variant, "chat", load, "throughput_tok_s")
        wait = pick(view.points, variant, "chat", load, "e2e_ms_p50")
        assert tok_s is not None
        assert wait is not None
        assert (speed, ms, low) == pytest.approx((tok_s.value, wait.value, wait.low), rel=1e-5)


def test_every_corner_of_a_distribution_is_a_request_with_its_own_share(view: CaseView) -> None:
    requests = view.case.requests
    assert heaviest(view.case, "chat") == "c16"
    found = distribution(view.case, "chat", "c16")
    assert set(found["variant"]) == set(view.case.measured_variants())
    for (variant, metric), drawn in found.groupby(["variant", "metric"]):
        mine = requests[
            (requests["variant"] == variant) & (requests["workload"] == "chat") & (requests["load"] == "c16")
        ]
        values = mine[str(metric)].to_numpy()
        assert len(values) == 288
        assert set(drawn["n"]) == {288}
        assert set(drawn["ms"]) <= set(values)
        assert drawn["ms"].min() == values.min()
        assert drawn["ms"].max() == values.max()
        for ms, share in drawn[["ms", "share"]].to_numpy():
            assert share == (values <= ms).sum() / 288
    figure = latency_distribution(found, frame(view.points), "chat", "c16", "bf16", title="t")
    assert rows_of(figure, "variant", "ms", "share") >= {
        (v, float(f"{ms:.6g}"), float(f"{s:.6g}")) for v, ms, s in found[["variant", "ms", "share"]].to_numpy().tolist()
    }
    assert "n: 288 answered requests" in figure.caption
    assert set(METRICS) == set(found["metric"])


def test_failed_requests_are_not_in_a_distribution(view: CaseView, tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path, weights="real"))
    case = Case(bundle, bundle.study(), [])
    case.requests.loc[
        (case.requests["variant"] == "fp8") & (case.requests["load"] == "c16") & (case.requests["index"] == 0), "status"
    ] = "timeout"
    found = distribution(case, "chat", "c16")
    assert set(found[found["variant"] == "fp8"]["n"]) == {285}
    assert set(found[found["variant"] == "awq"]["n"]) == {288}


@pytest.mark.parametrize(("n", "most"), [(0, 48), (1, 48), (48, 48), (49, 48), (288, 48), (100_000, 48)])
def test_thinning_keeps_both_ends_and_looks_closer_at_the_tail(n: int, most: int) -> None:
    ranks = thinned(n, most)
    assert ranks == sorted(set(ranks))
    assert len(ranks) <= most
    assert not ranks or (ranks[0], ranks[-1]) == (1, n)
    if n > 1000:
        gaps = np.diff(ranks)
        assert gaps.max() <= n / 30
        assert gaps[-1] < gaps[0]


def test_a_server_start_is_cut_into_what_the_engine_states(view: CaseView) -> None:
    found = startups(view.case)
    assert list(dict.fromkeys(found["variant"])) == ["bf16", "fp8", "awq", "bf16-fp8kv"]
    fp8 = found[found["variant"] == "fp8"].set_index("part")["seconds"]
    assert dict(fp8) == pytest.approx({"weights": 1.4, "compile": 17.3, "graphs": 4.0, "rest": 80 - 22.7})
    figure = startup_timeline(found, title="t")
    assert "Ready soonest: bf16 after 72 s; latest: fp8 after 80 s." in figure.alt
    assert rows_of(figure, "label", "ready_s", "first_token_s") == {
        (n, 72.0 if n == "bf16" else 80.0, 73.1) for n in ("bf16", "fp8", "awq", "bf16-fp8kv")
    }


def test_parts_that_overlap_leave_no_rest_and_a_start_that_failed_is_not_shown(view: CaseView, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, weights="real")
    path = folder / "variants.csv"
    path.write_text(path.read_text().replace("fp8,1,ok,", "fp8,1,oom,", 1).replace(",1.4,17.3,", ",1.4,99.3,", 1))
    bundle = open_bundle(folder)
    found = startups(Case(bundle, bundle.study(), []))
    assert "fp8" not in set(found["variant"])
    assert set(found[found["variant"] == "bf16"]["part"]) == {"weights", "compile", "graphs"}


def test_roofs_are_the_profile_s_and_positions_lie_below_them(view: CaseView) -> None:
    made, why = roofs(view.case, view.points)
    assert made, why
    found = positions(view.case, made)
    tops = ceilings(view.case, found)
    profile = view.case.profile
    assert profile is not None
    assert profile.bandwidth_gb_s is not None
    assert profile.bf16_tflops is not None
    tb_s = profile.bandwidth_gb_s.value / 1000
    columns = found[["intensity", "tflops", "low", "high"]].to_numpy(float).tolist()
    for (intensity, tflops, low, high), roof in zip(columns, made, strict=True):
        # FLOP/byte from the definition: two operations a 16-bit weight and request, over the bytes of a step.
        requests = int(roof.load[1:])
        flop = 2 * 14.99 * 2**30 / 2 * requests
        assert intensity == pytest.approx(flop / (roof.bytes_gb * 1e9))
        assert tflops == pytest.approx(flop / (roof.tpot.value / 1000) / 1e12)
        assert tflops / intensity == pytest.approx(roof.bandwidth_share * tb_s)
        assert low < tflops < high
    bf16 = tops[tops["roof"] == "BF16"]
    assert bf16["ridge"].iloc[0] == pytest.approx(profile.bf16_tflops.value / tb_s)
    assert bf16["tflops"].max() == profile.bf16_tflops.value
    assert (bf16["tflops"] <= bf16["intensity"] * tb_s * (1 + 1e-9)).all()
    figure = roofline_position(found, tops, "bf16", title="t")
    assert f"BF16 {profile.bf16_tflops.value:,.0f} TFLOP/s" in figure.svg


def test_no_profile_no_roofs(view: CaseView) -> None:
    none = positions(view.case, [])
    assert none.empty
    assert ceilings(view.case, none).empty


def test_quality_against_size_takes_recovery_and_weights_as_they_stand(tmp_path: Path) -> None:
    items = [asked(n) for n in range(100)]
    right = {"bf16": 80, "fp8": 80, "awq": 76}
    rows = [answered(i, v, "4", float(n < most)) for v, most in right.items() for n, i in enumerate(items)]
    case = case_of(tmp_path, items, rows)
    case.__dict__["variants"] = [variant_row(v) for v in case.study.variants]
    view = CaseView(case, Options())
    found = quality_by_size(case, view.quality)
    assert found["variant"].tolist() == ["bf16", "fp8", "awq"]
    assert found["gib"].tolist() == [14.99, 8.49, 5.37]
    assert found["recovery"].tolist() == [1.0, 1.0, 0.95]
    assert found["right"].tolist() == [80, 80, 76]
    assert found["n"].tolist() == [100, 100, 100]
    assert found["front"].tolist() == [False, True, True]
    assert math.isnan(found["low"].iloc[0])
    awq = next(q.accuracy for q in view.quality if q.variant == "awq")
    assert awq is not None
    assert (found["low"].iloc[2], found["high"].iloc[2]) == (awq.recovery_low, awq.recovery_high)
    figure = quality_against_size(found, "bf16", title="t")
    assert rows_of(figure, "variant", "size", "recovery") == {
        ("bf16", 14.99, 1.0), ("fp8", 8.49, 1.0), ("awq", 5.37, 0.95)
    }  # fmt: skip
    assert "Smallest: awq, 95.0 % of the baseline's accuracy" in figure.alt
    assert "most is left by fp8, 100.0 %" in figure.alt
    assert quality_by_size(case, []).empty


def test_the_front_holds_what_no_other_beats() -> None:
    assert frontier([(16, 1.0), (8, 1.0), (5, 0.98), (5, 0.97), (4, 0.99)]) == [False, True, False, False, True]
    assert frontier([(8, 1.0), (8, 1.0)]) == [True, True]
    assert frontier([]) == []


def test_a_stretch_of_telemetry_keeps_its_least_and_its_most(view: CaseView) -> None:
    found = timeline(view.case)
    assert found is not None
    table = view.case.telemetry
    assert found.count == len(table)
    words, factor = SERIES["power_w"]
    power = found.samples[found.samples["metric"] == words]
    for t_s, low, high in power[["t_s", "low", "high"]].to_numpy(float).tolist():
        near = (table["t_s"] - t_s).abs() <= found.bin_s / 2 + 1e-6
        assert {low, high} <= set(table[near]["power_w"] * factor)
    assert power["low"].min() == table["power_w"].min()
    assert power["high"].max() == table["power_w"].max()
    vram = found.samples[found.samples["metric"] == "VRAM used (GiB)"]
    assert vram["high"].max() == pytest.approx(128_900 / 1024)
    assert set(found.samples["metric"]) == {"power (W)", "VRAM used (GiB)"}  # no clock, no use was read
    first = found.visits.iloc[0]
    rows = view.case.requests[view.case.requests["variant"] == "bf16"]
    assert (first["variant"], first["from_s"]) == ("bf16", rows["started_s"].min())
    assert first["to_s"] == (rows["started_s"] + rows["e2e_ms"] / 1000).max()
    figure = telemetry_over_time(found.samples, found.visits, found.count, found.bin_s, "bf16", title="t")
    assert f"{len(table):,} samples" in figure.caption


def test_no_line_is_drawn_across_a_gap() -> None:
    t = np.array([0.0, 0.4, 1.2, 2.9, 7.0, 7.5, 10.0])
    table = stretches(t, t * 10, 0.0, 1.0, 10)
    assert table["t_s"].tolist() == [0.5, 1.5, 2.5, 7.5, 9.5]
    assert table["piece"].tolist() == [0, 0, 0, 1, 2]
    assert table[["low", "high", "mean"]].iloc[0].tolist() == [0.0, 4.0, 2.0]
    assert table["high"].iloc[-1] == 100.0


def test_a_run_without_a_gpu_has_no_timeline(view: CaseView, tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path))
    case = Case(bundle, bundle.study(), [])
    case.__dict__["telemetry"] = case.telemetry.iloc[0:0]
    assert timeline(case) is None
    assert isinstance(view.case.telemetry, pd.DataFrame)
