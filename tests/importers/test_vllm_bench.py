"""`vllm bench serve`: real results of vLLM 0.26 (H200) and 0.32 (CPU, chat), where many requests failed."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from collector.bundle import metrics
from collector.errors import QuantcaseError
from collector.importers.base import Figure, Hints, Imported
from collector.importers.vllm_bench import VllmBench
from collector.study import Load
from tests.importers.garble import PEERS, garbled, read_or_refused

BF16 = PEERS / "vllm-0.26-bf16-with-failures.json"
CHAT = PEERS / "vllm-0.32-chat-with-failures.json"
RUN = PEERS / "vllm-0.32-completions.json"
ARRAYS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors", "generated_texts")


def read(*paths: Path, **hints: str) -> Imported:
    return VllmBench().read(paths, Hints(**hints))


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def saved(tmp_path: Path, value: Any, name: str = "r.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(value))
    return path


def figure(found: Imported, name: str, statistic: str = "value") -> Figure:
    [one] = [f for f in found.points[0].figures if (f.metric.name, f.statistic) == (name, statistic)]
    return one


def test_73_of_80_failed_requests_stay_failed() -> None:
    [point] = read(BF16).points
    assert (point.load, point.requests, point.ok, point.failed) == ("c16", 80, 7, 73)
    assert [r.status for r in point.rows].count("error") == 73
    assert list(point.messages.values()) == [73]
    assert next(iter(point.messages)).startswith("Never received a valid chunk")
    assert all(r.ttft_ms is None and r.output_tokens is None for r in point.rows if r.status == "error")


def test_a_request_by_hand() -> None:
    row = read(BF16).points[0].rows[10]
    assert row.started_s == pytest.approx(192.971962907 - 192.970146589)
    assert row.ttft_ms == 47.338  # 0.04733751899999561 s
    assert row.e2e_ms == 641.609  # TTFT and the 127 gaps: 0.6416093990000036 s
    assert row.tpot_ms == pytest.approx((641.609 - 47.338) / 127)
    assert (row.output_tokens, row.chunks, row.status) == (128, 128, "ok")
    assert row.first_chunk_ms is None  # a completions stream: the first chunk is the first token


def test_our_cell_gives_the_medians_that_the_file_states() -> None:
    rows = read(BF16).points[0].rows
    load = Load.of("c16")
    assert load is not None
    cell = metrics.cell(rows, load)
    assert (cell.n, cell.ok, cell.errors) == (80, 7, 73)
    assert cell.ttft_ms_p50 == 53.481  # median_ttft_ms 53.48086300000432
    assert cell.tpot_ms_p50 == pytest.approx(4.698273724409408, abs=1e-4)
    assert cell.e2e_ms_p99 == pytest.approx(660.4256, abs=0.01)
    assert cell.steady == "short"


def test_its_own_figures_keep_its_name_and_definition() -> None:
    found = read(BF16)
    assert figure(found, "vllm-bench.output_throughput").value == 1072.8576941677736
    assert figure(found, "vllm-bench.output_throughput").metric.unit == "tok/s"
    assert "did not fail / duration" in figure(found, "vllm-bench.output_throughput").metric.definition
    assert figure(found, "vllm-bench.ttft_ms", "p99").value == 61.914080700016704
    assert figure(found, "vllm-bench.ttft_ms", "p99").n == 7
    assert figure(found, "vllm-bench.max_output_tokens_per_s").metric.unit == "chunks/s"


def test_what_the_file_does_not_say_is_said() -> None:
    found = read(BF16)
    assert found.tool_version is None
    assert (found.method, found.engine_version, found.model) == ("", None, "m")
    assert any("GPU" in m for m in found.missing)
    assert found.files[0].sha256 == hashlib.sha256(BF16.read_bytes()).hexdigest()


def test_a_chat_stream_whose_content_follows_the_first_chunk_at_once() -> None:
    row = read(CHAT).points[0].rows[1]
    assert row.first_chunk_ms == pytest.approx(52.677, abs=1e-3)
    assert (row.ttft_ms, row.e2e_ms, row.output_tokens, row.chunks) == (52.677, 176.011, 33, 34)


def test_a_person_may_say_that_the_first_chunk_is_empty() -> None:
    row = read(CHAT, first_chunk="role").points[0].rows[1]
    assert row.ttft_ms == 52.686  # 8.573 us later
    assert row.first_chunk_ms == pytest.approx(52.677, abs=1e-3)


def test_a_chat_stream_whose_first_chunk_may_be_empty_gives_no_ttft_of_ours(tmp_path: Path) -> None:
    value = document(CHAT)
    for gaps in value["itls"]:
        if gaps:
            gaps[0], gaps[1] = gaps[1], gaps[0]
    path = saved(tmp_path, value)
    [point] = (found := read(path)).points
    assert not point.rows
    assert (point.requests, point.ok, point.failed) == (20, 14, 6)
    assert any("--first-chunk" in m for m in found.missing)
    assert figure(found, "vllm-bench.ttft_ms", "median").value == 24.686030499879053
    assert len(read(path, first_chunk="content").points[0].rows) == 20


def test_a_result_without_lists_gives_figures_only(tmp_path: Path) -> None:
    value = {k: v for k, v in document(RUN).items() if k not in ARRAYS}
    found = read(saved(tmp_path, value))
    assert not found.points[0].rows
    assert not found.definitions
    assert any("--save-detailed" in m for m in found.missing)
    assert figure(found, "vllm-bench.tpot_ms", "mean").value == value["mean_tpot_ms"]


def test_lines_of_append_result_are_runs_of_their_own(tmp_path: Path) -> None:
    line = json.dumps(document(RUN))
    path = tmp_path / "appended.json"
    path.write_text(f"{line}\n{line}\n")
    assert [p.load for p in read(path).points] == ["c3", "c3"]


def test_a_sweep_folder_names_its_servers(tmp_path: Path) -> None:
    for server in ("BF16", "FP8"):
        folder = tmp_path / "exp" / f"SERVE--{server}-BENCH--c3"
        folder.mkdir(parents=True)
        saved(folder, document(RUN) | {"run_number": server}, "run=0.json")
        saved(folder, [], "summary.json")
    (folder / "run=1.failure.json").write_text("{}")
    found = read(tmp_path / "exp")
    assert [p.label for p in found.points] == ["bf16", "fp8"]
    assert any("failed" in m for m in found.missing)


def test_a_rate_is_an_open_loop(tmp_path: Path) -> None:
    value = document(RUN) | {"request_rate": 4.0}
    assert read(saved(tmp_path, value)).points[0].load == "r4"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(mean_ttft_ms=d["mean_ttft_ms"] / 1000), "mean_ttft_ms is .* one is in seconds"),
        (lambda d: d.update(ttfts=[t * 1000 for t in d["ttfts"]]), "in seconds"),
        (lambda d: d.update(output_throughput=d["output_throughput"] * 2), "output_throughput"),
        (lambda d: d["errors"].pop(), "errors: holds 11 entries for 12 requests"),
        (lambda d: d["ttfts"].__setitem__(2, float("nan")), r"ttfts\[2\]: is nan"),
        (lambda d: d["itls"].__setitem__(1, "x"), r"itls\[1\]: is no list"),
        (lambda d: d["itls"][1].__setitem__(0, -1), r"itls\[1\]\[0\]: -1 is not between"),
        (lambda d: d.update(completed=13), "do not add up"),
        (lambda d: d.update(completed=0, failed=0), "request_throughput is .*, its requests give 0;"),
        (lambda d: d.pop("completed"), "is no result of `vllm bench serve`"),
        (lambda d: d.update(num_prompts=True), "num_prompts: 'True' is no number"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, change: Any, words: str) -> None:
    value = copy.deepcopy(document(RUN))
    change(value)
    with pytest.raises(QuantcaseError, match=words):
        read(saved(tmp_path, value))


def test_aggregates_in_seconds_are_found_by_littles_law(tmp_path: Path) -> None:
    value = {k: v for k, v in document(RUN).items() if k not in ARRAYS}
    value |= {k: v / 1000 for k, v in value.items() if k.endswith("_ms")}
    with pytest.raises(QuantcaseError, match="must be in milliseconds"):
        read(saved(tmp_path, value))


def test_hostile_files_end_in_one_line(tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    for path, words in ((deep, "deep|JSON"), (tmp_path / "absent.json", "no file"), (tmp_path, "run=N.json")):
        with pytest.raises(QuantcaseError, match=words) as e:
            read(path)
        assert "\n" not in str(e.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=garbled(document(RUN)))
def test_garbage_is_read_or_refused_in_one_line(tmp_path: Path, value: Any) -> None:
    read_or_refused(lambda: read(saved(tmp_path, value)))
