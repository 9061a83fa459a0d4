"""The definitions, checked by hand on small cases and against simulated closed loops."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.bundle.metrics import cell, percentile, steady_window, tokens_between
from collector.bundle.schema import RequestRow
from collector.study import Load, Workload
from tests.makers import repeat_rows, study


def row(
    started: float, ttft: float = 100, tokens: int = 11, tpot: float = 10, status: str = "ok", index: int = 0
) -> RequestRow:
    return RequestRow(
        variant="v", start=1, workload="chat", load="c2", repeat=1, index=index, started_s=started, ttft_ms=ttft,
        tpot_ms=tpot, e2e_ms=ttft + tpot * (tokens - 1), input_tokens=5, output_tokens=tokens, chunks=tokens,
        status=status,  # type: ignore[arg-type]
    )  # fmt: skip


def test_percentiles_interpolate_linearly() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert percentile([10, 20], 95) == pytest.approx(19.5)
    assert percentile([7], 99) == 7
    assert percentile([], 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_lies_between_its_neighbours(values: list[float], p: float) -> None:
    got = percentile(values, p)
    assert got is not None
    assert min(values) <= got <= max(values) or got == pytest.approx(min(values))


def test_the_window_runs_from_full_concurrency_to_the_last_send() -> None:
    assert steady_window([row(0.0), row(0.1), row(1.0), row(2.5)], Load.closed(2)) == (0.1, 2.5)
    assert steady_window([row(0.0), row(0.1)], Load.closed(2)) is None


def test_tokens_are_counted_where_they_arrive() -> None:
    r = row(1.0)  # tokens at 1.1, 1.11, ... 1.2
    assert tokens_between(r, 0, 9) == 11
    assert tokens_between(r, 1.15, 9) == 6
    assert tokens_between(r, 0, 1.15) == 6
    assert tokens_between(r, 1.2, 9) == 1
    assert tokens_between(r, 1.205, 9) == 0


@given(st.floats(0, 3), st.floats(0, 3))
def test_every_token_is_on_one_side_of_any_cut(at: float, started: float) -> None:
    r = row(started)
    whole = tokens_between(r, -1, 99)
    cut = round(at, 5) + 1e-7  # never just on a token
    assert tokens_between(r, -1, cut) + tokens_between(r, cut, 99) == whole == 11


def test_throughput_of_a_closed_loop_without_noise_is_exact() -> None:
    """One stream, back to back: 11 tokens every 200 ms."""
    rows = [row(0.2 * i, index=i) for i in range(11)]
    got = cell([*rows], Load.closed(1))
    assert got.throughput_tok_s == pytest.approx(55, rel=1e-3)
    assert (got.n, got.ok, got.errors) == (11, 11, 0)
    assert got.ttft_ms_p50 == 100
    assert got.goodput_req_s is None


def test_failed_requests_stay_beside_and_are_not_averaged_in() -> None:
    rows = [row(0.0), row(0.1), row(0.3, ttft=1e4, status="error", index=2), row(0.4, index=3)]
    got = cell(rows, Load.closed(2))
    assert (got.n, got.ok, got.errors) == (4, 3, 1)
    assert got.ttft_ms_p99 == 100


def test_goodput_counts_what_is_within_all_limits() -> None:
    w = Workload(name="chat", input_tokens=5, output_tokens=11, concurrency=[2], ttft_limit_ms=150.0)
    rows = [row(0.0), row(0.1), row(0.3, ttft=500, index=2)]
    got = cell(rows, Load.closed(2), w)
    assert got.goodput_req_s == pytest.approx(2 / 0.9, rel=1e-3)


def test_a_simulated_loop_gives_the_throughput_that_its_rule_implies() -> None:
    s = study()
    workload = s.workload("chat")
    rows = repeat_rows("bf16", workload, Load.closed(16), 1, random.Random(3), 50.0)
    got = cell(rows, Load.closed(16), workload)
    mean_s = sum(r.e2e_ms or 0 for r in rows) / len(rows) / 1000
    assert got.throughput_tok_s == pytest.approx(16 * 128 / mean_s, rel=0.03)
