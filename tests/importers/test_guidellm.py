"""GuideLLM: real files of 0.5.3 (schema 1) and 0.8.1 (schema 2), against a server that fails every third request."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from collector.errors import QuantcaseError
from collector.importers.base import Hints, Imported
from collector.importers.guidellm import GuideLLM
from tests.importers.garble import PEERS, garbled, read_or_refused

V1 = PEERS / "guidellm-0.5-failed.json"
V2 = PEERS / "guidellm-0.8-failed.json"
RATE = PEERS / "guidellm-0.8-constant.json"
LEAST = json.loads(V2.read_text())


def read(path: Path) -> Imported:
    return GuideLLM().read([path], Hints())


def saved(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "g.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(("path", "version"), [(V1, "0.5.3"), (V2, "0.8.1")])
def test_three_of_nine_requests_failed(path: Path, version: str) -> None:
    found = read(path)
    [point] = found.points
    assert found.tool_version == version
    assert (point.load, point.requests, point.ok, point.failed) == ("c2", 9, 6, 3)
    assert sorted(r.status for r in point.rows) == ["error"] * 3 + ["ok"] * 6
    [(words, n)] = point.messages.items()
    assert n == 3
    assert "500 Internal Server Error" in words


def test_a_request_by_hand_from_its_time_stamps() -> None:
    row = read(V2).points[0].rows[0]
    assert row.ttft_ms == pytest.approx(1000 * (2.1403463 - 2.0711753), abs=1e-3)  # the stamps, less 1795278010 s
    assert row.e2e_ms == pytest.approx(1000 * (2.1979172 - 2.0711753), abs=1e-3)
    assert row.tpot_ms == pytest.approx((126.742 - 69.171) / 15)
    assert (row.output_tokens, row.input_tokens, row.chunks) == (16, 7, 16)
    assert row.due_s is None  # a closed loop: nothing was due


def test_a_rate_is_an_open_loop_with_the_times_that_were_due() -> None:
    [point] = read(RATE).points
    assert (point.load, point.ok, point.failed) == ("r4", 8, 0)
    assert point.rows[0].due_s == 0
    assert point.rows[0].started_s == pytest.approx(881.4511998 - 881.448508, abs=1e-6)
    assert [r.due_s for r in point.rows[:3]] == pytest.approx([0, 0.25, 0.5], abs=1e-5)
    assert point.began_unix_s == 1795277881.448508


def test_its_time_per_output_token_holds_ttft_and_is_kept_apart() -> None:
    found = read(V2)
    figures = {(f.metric.name, f.statistic): f for f in found.points[0].figures}
    tpot = figures["guidellm.time_per_output_token_ms", "mean"]
    ours = [r.tpot_ms for r in found.points[0].rows if r.tpot_ms]
    assert tpot.value == pytest.approx(7.96745220820109)
    assert "holds TTFT" in tpot.metric.definition
    assert max(ours) < 5  # what the server was told to take is 5 ms a token
    assert not any("time_per_output_token" in column for column in found.definitions)


def test_figures_are_of_successful_requests_only() -> None:
    value = copy.deepcopy(LEAST)
    names = {f.metric.name: f for f in read(V2).points[0].figures if f.statistic == "mean"}
    stated = value["benchmarks"][0]["metrics"]["time_to_first_token_ms"]
    assert names["guidellm.time_to_first_token_ms"].value == stated["successful"]["mean"]
    assert names["guidellm.request_latency"].metric.unit == "s"


def test_a_sample_of_the_requests_gives_no_cell(tmp_path: Path) -> None:
    value = copy.deepcopy(LEAST)
    value["benchmarks"][0]["requests"]["successful"].pop()
    found = read(saved(tmp_path, value))
    assert not found.points[0].rows
    assert (found.points[0].requests, found.points[0].failed) == (9, 3)
    assert any("lists 8 of 9 requests" in m for m in found.missing)


def test_what_the_end_of_the_benchmark_stopped_is_cut_not_failed(tmp_path: Path) -> None:
    value = copy.deepcopy(LEAST)
    benchmark = value["benchmarks"][0]
    benchmark["requests"]["incomplete"] = benchmark["requests"]["errored"]
    benchmark["requests"]["errored"] = []
    benchmark["metrics"]["request_totals"] |= {"errored": 0, "incomplete": 3}
    found = read(saved(tmp_path, value))
    assert [r.status for r in found.points[0].rows].count("cut") == 3
    assert found.points[0].failed == 0


def test_an_older_file_without_the_time_of_the_first_text_gives_figures_only(tmp_path: Path) -> None:
    value = copy.deepcopy(LEAST)
    for request in value["benchmarks"][0]["requests"]["successful"]:
        del request["info"]["timings"]["first_token_iteration"]
    found = read(saved(tmp_path, value))
    assert not found.points[0].rows
    assert any("no time of their first text" in m for m in found.missing)


def test_reasoning_that_was_not_counted_is_told() -> None:
    assert any("reasoning" in n for n in read(V1).notes)
    assert not any("reasoning" in n for n in read(V2).notes)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["metrics", "time_to_first_token_ms", "successful", "mean"], 0.06645913918813069, "one is in seconds"),
        (["metrics", "time_to_first_token_ms", "successful", "mean"], float("nan"), "is nan, no finite number"),
        (["config", "strategy"], None, "strategy"),
        (["config", "strategy", "streams"], 2.5, "streams: 2.5 is no whole number"),
        (["requests", "successful", 0, "info", "timings", "first_token_iteration"], 1795278099.0, "after the send"),
        (["requests", "successful", 0, "info", "timings", "request_start"], 12.5, "is the unit right"),
        (["requests"], [], "requests: is no object"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, path: list[Any], value: Any, words: str) -> None:
    document = copy.deepcopy(LEAST)
    held = document["benchmarks"][0]
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = value
    with pytest.raises(QuantcaseError, match=words) as e:
        read(saved(tmp_path, document))
    assert "\n" not in str(e.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=garbled(LEAST))
def test_garbage_is_read_or_refused_in_one_line(tmp_path: Path, value: Any) -> None:
    read_or_refused(lambda: read(saved(tmp_path, value)))
