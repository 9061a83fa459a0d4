"""Little's law on measured rows: what agrees by definition, what does not, and the bundles in results/."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pandas as pd
import pytest

from collector.bundle import metrics
from collector.bundle.schema import RequestRow, rounded
from collector.study import Load
from quantcase.analysis.little import Agreement, Little, agreement, little
from quantcase.catalog import load
from quantcase.pages.little import row
from tests.makers import make_bundle
from tests.real import CPU, cases


def request(index: int, begun: float, e2e: float, ttft: float = 0.1, tokens: int = 10) -> RequestRow:
    return rounded(
        RequestRow(
            variant="bf16", start=1, workload="chat", load="c2", repeat=1, index=index, started_s=begun,
            ttft_ms=1000 * ttft, tpot_ms=1000 * (e2e - ttft) / max(1, tokens - 1), e2e_ms=1000 * e2e, input_tokens=8,
            output_tokens=tokens, chunks=tokens, status="ok",
        )
    )  # fmt: skip


def table(rows: list[RequestRow]) -> pd.DataFrame:
    return pd.DataFrame([{f: getattr(r, f) for f in RequestRow.__struct_fields__} for r in rows])


def even(gap: float = 0.0) -> list[RequestRow]:
    """Two slots, four requests each, a second long, `gap` seconds between two."""
    return [request(2 * n + slot, n * (1 + gap), 1.0) for n in range(4) for slot in (0, 1)]


def test_by_hand() -> None:
    """In the window from 0 to 3 s six requests lie whole, 60 tokens: 20 tok/s, 2 requests/s x 1 s = 2 in flight."""
    found = little(table(even()), 2, (0.0, 3.0), 20.0)
    assert found is not None
    assert (found.throughput_req_s, found.e2e_s, found.product, found.in_flight) == (2.0, 1.0, 2.0, 2.0)
    # The two that were sent at 3 s: a TTFT of 0.1 s and one token of a tenth of a second each, over 3 s x 2.
    assert found.tolerance == pytest.approx(2 * (0.1 + 0.1) / 6)
    assert found.fits
    assert found.full


def test_tokens_that_nobody_received_do_not_fit() -> None:
    found = little(table(even()), 2, (0.0, 3.0), 24.0)
    assert found is not None
    assert found.share == pytest.approx(1.2)
    assert not found.fits


def test_slots_that_stand_empty_fit_and_are_not_full() -> None:
    rows = even(gap=0.25)
    found = little(table(rows), 2, (0.0, 3.75), 60 / 3.75)
    assert found is not None
    assert found.in_flight == pytest.approx(1.6)
    assert found.product == pytest.approx(1.6)
    assert (found.fits, found.full) == (True, False)


def test_a_failure_a_missing_window_or_a_request_longer_than_it_is_not_asked() -> None:
    rows = even()
    assert little(table(rows), 2, (3.0, 3.0), 20.0) is None
    assert little(table(rows), 2, (2.5, 3.0), 20.0) is None
    assert little(table(rows), 2, (0.0, 3.0), math.nan) is None
    rows[3].status = "timeout"
    assert little(table(rows), 2, (0.0, 3.0), 20.0) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_tolerance_holds_for_any_closed_loop(seed: int) -> None:
    """Lengths, latencies and waits at random: product and rows agree as near as the bound says, by the collector's own
    throughput.
    """
    rng = random.Random(seed)
    concurrency = rng.choice([1, 2, 8, 16])
    free = [0.001 * i for i in range(concurrency)]
    rows = []
    for index in range(concurrency * rng.randint(5, 9)):
        slot = min(range(concurrency), key=lambda i: free[i])
        ttft, tokens = rng.lognormvariate(-2, 0.5), rng.randint(4, 60)
        e2e = ttft + (tokens - 1) * rng.lognormvariate(-4.5, 0.3)
        rows.append(request(index, free[slot], e2e, ttft, tokens))
        free[slot] += e2e + rng.uniform(0, 0.002)
    cell = metrics.cell(rows, Load.closed(concurrency))
    assert cell.window_start_s is not None
    assert cell.window_end_s is not None
    assert cell.throughput_tok_s is not None
    window = (cell.window_start_s, cell.window_end_s)
    found = little(table(rows), concurrency, window, cell.throughput_tok_s)
    if found is None:  # a request longer than the window
        assert max(r.e2e_ms or 0 for r in rows) / 1000 >= window[1] - window[0]
        return
    assert found.fits
    doubled = little(table(rows), concurrency, window, 2 * cell.throughput_tok_s)
    assert doubled is not None
    assert not doubled.fits


def test_the_h200_bundle_agrees_in_every_repeat() -> None:
    (case,) = cases("2026-11-21-h200-h200-shape")
    found = agreement(case)
    assert len(found.rows) == len(case.cells)
    assert found.left_out == 0
    assert not found.unfit
    assert not found.empty
    assert all(abs(r.in_flight / r.asked - 1) < 0.002 for r in found.rows)
    low, high = found.span
    assert 0.97 < low < high < 1.01
    assert found.widest_tolerance < 0.06
    one = found.rows[0]
    cell = case.cells.iloc[0]
    assert one.throughput_req_s == pytest.approx(cell["throughput_tok_s"] / cell["output_tokens_mean"])
    what, seen, state = row(found)
    assert "Little" in what
    assert state == "ok"
    assert f"{100 * low:.1f} % to {100 * high:.1f} % of it over {len(case.cells)} closed repeats" in seen


def test_the_cpu_bundle_agrees_and_names_the_repeats_with_empty_slots() -> None:
    found = agreement(*cases(CPU))
    assert not found.unfit
    assert [(r.variant, r.load, r.repeat) for r in found.empty] == [("f16", "c4", 1), ("q8_0", "c4", 1)]
    _, seen, state = row(found)
    assert state == "look"
    assert "Fewer than 95 % of the slots were filled in f16 chat c4 start 1 repeat 1" in seen


def test_what_was_published_or_failed_is_said(tmp_path: Path) -> None:
    assert row(agreement(*cases("2025-10-09-gh200-shimmy-moe")))[2] == "none"
    make_bundle(tmp_path)
    (case,) = load(tmp_path).cases
    rows = agreement(case)
    assert len(rows.rows) == len(case.cells)
    assert not rows.unfit
    bad = case.requests.index[case.requests["load"] == "c8"][0]
    case.requests.loc[bad, "status"] = "error"
    again = agreement(case)
    assert (len(again.rows), again.left_out) == (len(rows.rows) - 1, 1)
    assert "1 left out" in row(again)[1]


def test_a_contradiction_is_named() -> None:
    sound = Little("bf16", 1, "chat", "c2", 1, 2, 2.0, 2.0, 2.0, 1.0, 0.05)
    bad = dataclasses.replace(sound, variant="<b>", product=3.0)
    _, seen, state = row(Agreement((sound, bad), 0))
    assert state == "look"
    assert "contradict each other: &#60;b&#62; chat c2 start 1 repeat 1" in seen
