"""Arrivals and searches: what is due when, and which rate comes next."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import UsageFault
from collector.load.schedule import Probe, arrivals, kept_up, next_load, read_trace
from collector.study import Load, Workload
from tests.makers import cell_row


def workload(**more: object) -> Workload:
    given = {"name": "open", "input_tokens": 10, "output_tokens": 10, "schedule": "poisson", "rates": [2.0], **more}
    return msgspec.convert(given, Workload)


@given(st.floats(0.1, 50), st.floats(1, 120))
def test_a_constant_schedule_is_even(rate: float, duration: float) -> None:
    load = Load.open(rate)
    due = arrivals(workload(schedule="constant", duration_s=duration), load, "k")
    assert load.rate is not None
    assert len(due) == max(1, round(load.rate * duration))
    assert all(b - a == pytest.approx(1 / load.rate) for a, b in itertools.pairwise(due))


def test_poisson_arrivals_have_the_mean_and_the_spread_of_an_exponential_and_follow_from_the_key() -> None:
    w = workload(duration_s=5000.0)
    due = arrivals(w, Load.open(2.0), "a")
    assert due == arrivals(w, Load.open(2.0), "a") != arrivals(w, Load.open(2.0), "b")
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps))
    assert mean == pytest.approx(0.5, rel=0.03)
    assert spread == pytest.approx(mean, rel=0.05)  # the mark of an exponential
    assert due == sorted(due)
    assert due[0] == 0.0
    assert due[-1] < 5000


def test_a_ramp_rises_from_the_first_rate_to_the_second() -> None:
    w = workload(schedule="ramp", rates=[1.0, 9.0], duration_s=100.0)
    due = arrivals(w, w.loads()[0], "k")
    assert len(due) == 500
    first, last = sum(t < 10 for t in due), sum(t >= 90 for t in due)
    assert first == pytest.approx(14, abs=1)  # the integral of the rate over the first tenth
    assert last == pytest.approx(86, abs=1)
    assert due[0] >= 0
    assert due[-1] < 100


def test_a_trace_is_taken_as_it_is_and_its_faults_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("# arrivals\n100.5\n101\n101\n\n103.25\n")
    assert read_trace(str(file)) == [0, 0.5, 0.5, 2.75]
    for text, words in (
        ("1\nx\n", "line 2: no number"), ("2\n1\n", "line 2: earlier"), ("1\n", "fewer than two"),
        ("1\ninf\n", "line 2"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(UsageFault, match=words):
            read_trace(str(file))
    with pytest.raises(UsageFault, match="No such file"):
        read_trace(str(tmp_path / "none"))


def search(workload: Workload, holds_to: float, saturates_at: float = 1e9) -> list[float]:
    """The rates that a search asks of a server that holds the SLO up to one rate and keeps up to another."""
    done: list[Probe] = []
    while (load := next_load(workload, done)) is not None:
        assert load.rate is not None
        done.append(Probe(load.rate, load.rate <= saturates_at, load.rate <= holds_to))
    return [p.rate for p in done]


@given(st.floats(0.3, 300))
def test_a_search_for_an_slo_ends_within_a_tenth_of_the_answer(limit: float) -> None:
    rates = search(workload(search="slo", rates=[2.0], ttft_limit_ms=100), limit)
    best = max((r for r in rates if r <= limit), default=0)
    worst = min(r for r in rates if r > limit)
    assert len(rates) <= 12
    assert len(set(rates)) == len(rates)
    assert worst / best <= 1.1 * 1.001


def test_a_search_for_saturation_is_a_ladder_that_all_variants_share() -> None:
    w = workload(search="saturation", rates=[1.5])
    assert search(w, 0, saturates_at=10) == [1.5, 3, 6, 12]
    assert search(w, 0, saturates_at=20) == [1.5, 3, 6, 12, 24]


def test_keeping_up_is_ending_what_arrives() -> None:
    row = cell_row(offered_req_s=10.0, whole_run_req_s=9.2, steady="yes")
    assert kept_up(row)
    assert not kept_up(msgspec.structs.replace(row, steady="no"))
    assert not kept_up(msgspec.structs.replace(row, whole_run_req_s=7.0))
