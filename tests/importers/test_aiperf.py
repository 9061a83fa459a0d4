"""AIPerf 0.13.0: real files, against a server that fails every third request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from collector.errors import QuantcaseError
from collector.importers.aiperf import AIPerf
from collector.importers.base import Hints, Imported
from tests.importers.garble import PEERS, garbled, read_or_refused

CLOSED = PEERS / "aiperf-0.13-failed"
RATE = PEERS / "aiperf-0.13-rate"
SUMMARY, LINES = "profile_export_aiperf.json", "profile_export.jsonl"
HEAD = json.loads((CLOSED / SUMMARY).read_text())
REQUESTS = [json.loads(line) for line in (CLOSED / LINES).read_text().splitlines() if line]


def read(*paths: Path, load: str = "") -> Imported:
    return AIPerf().read(paths, Hints(load=load))


def folder(tmp_path: Path, head: Any, requests: Any) -> Path:
    (tmp_path / SUMMARY).write_text(json.dumps(head))
    (tmp_path / LINES).write_text("".join(json.dumps(r) + "\n" for r in requests))
    return tmp_path


def test_three_of_nine_requests_failed() -> None:
    found = read(CLOSED)
    [point] = found.points
    assert found.tool_version == "0.13.0"
    assert found.model == "truth"
    assert (point.load, point.requests, point.ok, point.failed) == ("c2", 9, 6, 3)
    assert [r.status for r in point.rows].count("error") == 3
    assert point.messages == {'500 Internal Server Error {"error":"no room"}': 3}


def test_a_request_by_hand() -> None:
    row = read(CLOSED).points[0].rows[0]
    assert (row.ttft_ms, row.e2e_ms) == (64.208, 132.998)  # 64.208421 and 132.997876 ms
    assert row.tpot_ms == pytest.approx((132.998 - 64.208) / 15)
    assert (row.input_tokens, row.output_tokens, row.chunks) == (7, 16, 16)
    assert read(CLOSED).points[0].rows[1].started_s == pytest.approx(0.003925683, abs=1e-6)  # 342249500 - 338323817 ns


def test_a_rate_is_an_open_loop() -> None:
    found = read(RATE)
    assert (found.points[0].load, found.points[0].ok, found.points[0].failed) == ("r4", 6, 2)
    assert any("were due" in m for m in found.missing)


def test_its_own_figures_keep_its_name_and_definition() -> None:
    figures = {(f.metric.name, f.statistic): f for f in read(CLOSED).points[0].figures}
    gap = figures["aiperf.inter_token_latency", "mean"]
    assert gap.value == HEAD["inter_token_latency"]["avg"]
    assert gap.n == 6
    assert "tokens of the first chunk" in gap.metric.definition
    assert figures["aiperf.output_token_throughput", "value"].value == 224.33881112936987
    assert figures["aiperf.benchmark_duration", "value"].metric.unit == "sec"


def test_the_two_files_may_be_named_one_by_one() -> None:
    assert len(read(CLOSED / SUMMARY, CLOSED / LINES).points[0].rows) == 9
    assert not read(CLOSED / SUMMARY).points[0].rows
    with pytest.raises(QuantcaseError, match="say it: --load"):
        read(CLOSED / LINES)
    assert read(CLOSED / LINES, load="c2").points[0].load == "c2"


def test_warm_up_is_left_out_and_said(tmp_path: Path) -> None:
    warm = json.loads(json.dumps(REQUESTS[0]))
    warm["metadata"]["benchmark_phase"] = "warmup"
    found = read(folder(tmp_path, HEAD, [warm, *REQUESTS]))
    assert len(found.points[0].rows) == 9
    assert any("1 requests of the warm-up" in n for n in found.notes)


def test_answers_that_were_not_streamed_have_no_ttft(tmp_path: Path) -> None:
    requests = json.loads(json.dumps(REQUESTS))
    for r in requests:
        r["metrics"].pop("time_to_first_token", None)
    found = read(folder(tmp_path, HEAD, requests))
    assert not found.points[0].rows
    assert any("not streamed" in m for m in found.missing)


def test_a_time_is_converted_by_the_unit_that_stands_beside_it(tmp_path: Path) -> None:
    requests = json.loads(json.dumps(REQUESTS))
    requests[0]["metrics"]["time_to_first_token"] = {"value": 64_208_421, "unit": "ns"}
    assert read(folder(tmp_path, HEAD, requests)).points[0].rows[0].ttft_ms == 64.208


def test_files_of_two_runs_are_refused(tmp_path: Path) -> None:
    shutil.copy(CLOSED / SUMMARY, tmp_path)
    shutil.copy(RATE / LINES, tmp_path)
    with pytest.raises(QuantcaseError, match=r"time_to_first_token is|two files of one run"):
        read(tmp_path)


def test_seconds_for_milliseconds_are_refused(tmp_path: Path) -> None:
    requests = json.loads(json.dumps(REQUESTS))
    for r in requests:
        for tag in ("time_to_first_token", "request_latency"):
            if tag in r["metrics"]:
                r["metrics"][tag]["value"] /= 1000
    with pytest.raises(QuantcaseError, match="one is in seconds, the other in milliseconds"):
        read(folder(tmp_path, HEAD, requests))
    head = HEAD | {"time_to_first_token": HEAD["time_to_first_token"] | {"unit": "sec"}}
    with pytest.raises(QuantcaseError, match="is in sec, AIPerf writes it in ms"):
        read(folder(tmp_path, head, REQUESTS))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=garbled(HEAD), request=garbled(REQUESTS[0]))
def test_garbage_is_read_or_refused_in_one_line(tmp_path: Path, head: Any, request: Any) -> None:
    read_or_refused(lambda: read(folder(tmp_path, head, REQUESTS)))
    read_or_refused(lambda: read(folder(tmp_path, HEAD, [request, *REQUESTS[1:]])))
