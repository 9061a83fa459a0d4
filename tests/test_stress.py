"""The stress of a server: a real one on a real socket that refuses, gets slow, preempts, or dies; and llama.cpp."""

from __future__ import annotations

import gc
import json
import resource
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from collector import study as studies
from collector.budget import Budget, OutOfBudget
from collector.bundle.stress import STRESS, StressRow, append_row, outcome, problems, read_stress
from collector.engines.base import Server, ServeRequest
from collector.engines.llamacpp import LlamaCpp
from collector.engines.process import free_port
from collector.errors import QuantcaseError
from collector.load.measure import Client, calibrate
from collector.load.prompts import PromptMaker
from collector.stress import Stress, ladders, left
from collector.study import Price, Study, Workload
from tests.shaky import CONTEXT, Shaky

STUDY = f"""
id = "s"
title = "S"
gpu = "cpu"
base_model = "b"
baseline = "f16"
context_tokens = {CONTEXT}
[engine]
name = "endpoint"
[[variants]]
name = "f16"
model = "m"
[[workloads]]
name = "chat"
input_tokens = 50
output_tokens = 64
concurrency = [1, 2]
request_timeout_s = 5.0
"""


@pytest.fixture(autouse=True)
def _frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client collects all garbage before it measures; this process also holds what all other tests imported, which
    tests/conftest.py sets aside. The client would take it back each time.
    """
    monkeypatch.setattr(gc, "unfreeze", lambda: None)


def a_study(**limits: Any) -> Study:
    study = studies.loads(STUDY)
    study.workloads = [msgspec.structs.replace(w, **limits) for w in study.workloads]
    return study


async def climb(server: Server, folder: Path, study: Study | None = None, **more: Any) -> tuple[bool, list[StressRow]]:
    """Both ladders, up to 8 in flight; whether both have an end, and the rows as they stand on disk."""
    study = study or a_study()
    client = Client(server.base_url, server.model)
    maker = PromptMaker(study, await calibrate(client, study))
    given: dict[str, Any] = {"most": 8, "recover_s": 1.0, "grace_s": 0.3, "start": 1, **more}
    one = Stress(
        study=study, variant="f16", server=server, client=client, maker=maker, folder=folder, **given,
    )  # fmt: skip
    return await one.climb(), read_stress(folder)


def a_row(**more: Any) -> StressRow:
    given: dict[str, Any] = {
        "variant": "f16", "start": 1, "ladder": "context", "step": 1, "concurrency": 4, "input_tokens": 50,
        "output_tokens": 32, "n": 8, "ok": 8, "errors": 0, "timeouts": 0, "verdict": "good", **more,
    }  # fmt: skip
    return StressRow(**given)


def only_concurrency(folder: Path) -> None:
    """The context ladder has its end already: it is not climbed."""
    append_row(folder, a_row(ok=0, errors=8, verdict="refused"))


def of(rows: list[StressRow], ladder: str) -> list[StressRow]:
    return [r for r in rows if r.ladder == ladder]


# -- the plan --------------------------------------------------------------------------------------------------------


def test_concurrency_doubles_from_the_highest_that_was_measured_to_the_limit() -> None:
    steps = ladders(a_study(), most=20)["concurrency"]
    assert [s.concurrency for s in steps] == [2, 4, 8, 16, 20]
    assert {(s.input_tokens, s.output_tokens) for s in steps} == {(50, 32)}


def test_context_doubles_to_just_inside_what_is_served_and_then_beyond() -> None:
    steps = ladders(a_study())["context"]
    assert [s.input_tokens for s in steps] == [50, 100, 200, 331, 800]
    assert {s.concurrency for s in steps} == {4}


def test_the_longest_prompt_of_the_study_is_where_context_begins() -> None:
    study = a_study()
    study.workloads.append(Workload(name="long", input_tokens=390, output_tokens=8, concurrency=[1]))
    assert [s.input_tokens for s in ladders(study)["context"]] == [390, 780]


def test_no_more_connections_are_planned_than_this_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (200, 200))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, _limits: None)
    assert ladders(a_study())["concurrency"][-1].concurrency == 136


# -- what breaks -----------------------------------------------------------------------------------------------------


async def test_a_sound_server_is_good_to_the_top_and_refuses_only_beyond_its_context(tmp_path: Path) -> None:
    async with Shaky().serve() as server:
        ended, rows = await climb(server, tmp_path, most=16)
    assert ended
    context = of(rows, "context")
    assert [(r.input_tokens, r.verdict) for r in context] == [
        (50, "good"), (100, "good"), (200, "good"), (331, "good"), (800, "refused"),
    ]  # fmt: skip
    assert context[-1].words.startswith("HTTP 400: This model's maximum context length is 400 tokens; you asked for 8")
    assert (context[-1].ok, context[-1].errors, context[-1].after) == (0, 8, "answers")
    flights = of(rows, "concurrency")
    assert [(r.concurrency, r.n, r.ok, r.verdict) for r in flights] == [
        (2, 8, 8, "good"), (4, 8, 8, "good"), (8, 16, 16, "good"), (16, 32, 32, "good"),
    ]  # fmt: skip
    assert all(r.after == "" and r.words == "" and (r.ttft_ms_p95 or 0) > 0 for r in flights)
    assert server.most_in_flight == 16
    assert not list(problems(rows, {"f16"}))


async def test_a_ladder_ends_at_the_step_that_is_refused_and_says_why_without_names(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(busy_above=5).serve() as server:
        _, rows = await climb(server, tmp_path)
    flights = of(rows, "concurrency")
    assert [(r.concurrency, r.verdict) for r in flights] == [(2, "good"), (4, "good"), (8, "refused")]
    assert flights[-1].words == "HTTP 503: the queue of alice@[removed] is full"
    assert flights[-1].after == "answers"
    climbed = outcome(rows)[("f16", "concurrency")]
    assert climbed.last_good is not None
    assert climbed.last_good.concurrency == 4
    assert climbed.first_bad == flights[-1]


async def test_a_prompt_that_is_cut_in_silence_is_not_called_good(tmp_path: Path) -> None:
    async with Shaky(cut=True).serve() as server:
        _, rows = await climb(server, tmp_path)
    last = of(rows, "context")[-1]
    assert (last.ok, last.n, last.verdict) == (8, 8, "refused")
    assert last.words == "no error, but only 368 prompt tokens counted: the server cut the prompt"


async def test_a_server_that_takes_more_than_the_study_serves_is_good_and_says_so(tmp_path: Path) -> None:
    async with Shaky(context=9000).serve() as server:
        _, rows = await climb(server, tmp_path)
    last = of(rows, "context")[-1]
    assert (last.input_tokens, last.verdict) == (800, "good")
    assert last.words == "800 prompt tokens were taken; context_tokens is 400"


async def test_what_is_slower_than_the_limit_missed_its_budget(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(slow_above=5).serve() as server:
        _, rows = await climb(server, tmp_path, a_study(ttft_limit_ms=150.0))
    last = of(rows, "concurrency")[-1]
    assert (last.concurrency, last.ok, last.n, last.verdict) == (8, 16, 16, "missed_budget")
    assert last.ttft_ms_p95 is not None
    assert last.words.startswith(f"TTFT p95 {last.ttft_ms_p95:,.0f} ms, limit 150 ms")


async def test_without_limits_slow_is_no_fault(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(slow_above=5).serve() as server:
        _, rows = await climb(server, tmp_path)
    assert {r.verdict for r in of(rows, "concurrency")} == {"good"}


async def test_requests_without_an_end_are_timeouts_and_the_step_is_bounded(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(hang_above=5).serve() as server:
        _, rows = await climb(server, tmp_path, a_study(request_timeout_s=0.4))
    last = of(rows, "concurrency")[-1]
    assert (last.concurrency, last.verdict, last.after) == (8, "timeouts", "answers")
    assert last.words == f"{last.timeouts} of 16 requests had no end within 0.4 s"


async def test_a_step_that_takes_too_long_is_cut_off(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    one_at_a_time = a_study(concurrency=[1])  # eight requests of 0.2 s each, and no single one is late
    async with Shaky(slow_above=0).serve() as server:
        _, rows = await climb(server, tmp_path, one_at_a_time, step_s=0.9)
    (row,) = of(rows, "concurrency")
    assert (row.n, row.timeouts, row.verdict) == (8, 8, "timeouts")
    assert row.words == "the step had no end within 0.9 s"


async def test_preemptions_are_read_off_the_engines_counter(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(preempt_above=5, slow_above=5).serve() as server:
        _, rows = await climb(server, tmp_path)
    flights = of(rows, "concurrency")
    assert [(r.concurrency, r.preemptions, r.verdict) for r in flights[:2]] == [(2, 0, "good"), (4, 0, "good")]
    last = flights[-1]
    assert (last.concurrency, last.verdict) == (8, "preempted")
    assert last.preemptions is not None
    assert last.words == f"{last.preemptions} preemptions by the engine's counter"
    assert (last.kv_usage_max or 0) >= 0.8


async def test_a_death_is_told_with_the_logs_last_words_and_another_start_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("E an error long before\n")
    async with Shaky(die_above=3).serve() as server:
        server.log = log
        ended, rows = await climb(server, tmp_path, log_path=log)
    assert not ended, "the concurrency ladder is still to be climbed"
    (row,) = rows
    assert (row.ladder, row.ok, row.verdict, row.after) == ("context", 0, "died", "gone")
    assert row.words == "E torch.OutOfMemoryError: CUDA out of memory at ~/x"
    assert left(a_study(), rows, "f16", 16) == ["concurrency"]

    async with Shaky(die_above=9).serve() as server:
        ended, rows = await climb(server, tmp_path, start=2, most=16)
        assert server.seen[2][0] == pytest.approx(50, abs=2), "after calibrating, straight to the other ladder"
    assert ended, "it died at the last ladder's end: there is nothing left to climb"
    assert [(r.start, r.concurrency, r.verdict) for r in of(rows, "concurrency")] == [
        (2, 2, "good"), (2, 4, "good"), (2, 8, "good"), (2, 16, "died"),
    ]  # fmt: skip
    assert not left(a_study(), rows, "f16", 16)


async def test_a_death_without_a_word_is_told_as_such(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("E an error long before\n")
    async with Shaky(die_above=3, last_words="I slot 3 took 0.02 ms\n").serve() as server:
        server.log = log
        _, rows = await climb(server, tmp_path, log_path=log)
    assert rows[-1].words == "no error in its log; the last line: I slot 3 took 0.02 ms"


async def test_an_endpoint_on_which_nobody_listens_any_more_is_gone_too(tmp_path: Path) -> None:
    only_concurrency(tmp_path)
    async with Shaky(die_above=5, stay_up=True).serve() as server:
        _, rows = await climb(server, tmp_path)
    last = rows[-1]
    assert (last.concurrency, last.verdict, last.after) == (8, "died", "gone")
    assert "closed" in last.words


# -- resuming, and what it may cost ----------------------------------------------------------------------------------


async def test_a_resumed_run_goes_on_where_it_was_killed_and_leaves_ended_ladders_alone(tmp_path: Path) -> None:
    async with Shaky().serve() as server:
        await climb(server, tmp_path, most=16)
        lines = (tmp_path / STRESS).read_bytes().splitlines(keepends=True)
        (tmp_path / STRESS).write_bytes(b"".join(lines[:7]) + lines[7][:40])  # killed while it wrote 8 in flight
        assert len(read_stress(tmp_path)) == 7
        server.seen.clear()
        _, rows = await climb(server, tmp_path, most=16, start=2)
        asked = len(server.seen) - 2  # without calibration
        assert asked == 16 + 32
        server.seen.clear()
        assert await climb(server, tmp_path, most=16, start=3) == (True, rows)
        assert len(server.seen) == 2
    assert [(r.start, r.concurrency) for r in of(rows, "concurrency")] == [(1, 2), (1, 4), (2, 8), (2, 16)]


async def test_the_budget_ends_it_between_steps(tmp_path: Path) -> None:
    spent = Budget(minutes=None, usd=1e-9, price=Price(usd_per_hour=1.0, source="x", date="x"))
    async with Shaky().serve() as server:
        with pytest.raises(OutOfBudget, match="money"):
            await climb(server, tmp_path, budget=spent)
    assert read_stress(tmp_path) == []


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "splendid"}, "Invalid enum value"),
        ({"ladder": "ceiling"}, "Invalid enum value"),
        ({"n": -1}, ">= 0"),
        ({"kv_usage_max": 1.5}, "<= 1"),
        ({"words": "x" * 301}, "length <= 300"),
        ({"ok": "eight"}, "Expected `int`"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    append_row(tmp_path, a_row())
    bad = json.dumps(msgspec.to_builtins(a_row()) | change)
    with (tmp_path / STRESS).open("a") as f:
        f.write(bad + "\n")
    with pytest.raises(QuantcaseError, match=rf"{STRESS} line 2: .*{words}"):
        read_stress(tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([a_row(variant="q9")], "not in study.toml"),
        ([a_row(), a_row()], "stands twice"),
        ([a_row(errors=1, verdict="refused")], "more than 8 requests"),
        ([a_row(ok=7, errors=1)], "called good with 7 of 8"),
        ([a_row(preemptions=3)], "3 preemptions"),
        ([a_row(), a_row(step=3)], "steps below it are missing"),
        ([a_row(ok=0, errors=8, verdict="refused"), a_row(step=2)], "went on after step 1, which was refused"),
    ],
)
def test_rows_that_cannot_be_true_together_are_told(rows: list[StressRow], words: str) -> None:
    assert any(words in problem for _, problem in problems(rows, {"f16"}))


def test_a_bundle_that_was_not_stressed_has_no_rows(tmp_path: Path) -> None:
    assert read_stress(tmp_path) == []


# -- a real engine ---------------------------------------------------------------------------------------------------


async def test_llama_cpp_refuses_a_prompt_beyond_its_context_in_its_own_words(tmp_path: Path) -> None:
    study = studies.load("cpu")
    study.context_tokens = 256
    study.workloads = [msgspec.structs.replace(study.workloads[1], output_tokens=8, concurrency=[4])]
    study.variants = [v for v in study.variants if v.name == "q8_0"]
    log = tmp_path / "q8_0.log"
    request = ServeRequest(
        study=study, variant=study.variants[0], spec=study.engine, port=free_port(), log_path=log, work=tmp_path
    )
    server = cast(Server, await LlamaCpp().start(request))
    try:
        client = Client(server.base_url, server.model)
        maker = PromptMaker(study, await calibrate(client, study))
        ended = await Stress(
            study=study, variant="q8_0", start=1, server=server, client=client, maker=maker, folder=tmp_path,
            log_path=log, most=16,
        ).climb()  # fmt: skip
    finally:
        await server.stop()
    rows = read_stress(tmp_path)
    assert ended
    context = of(rows, "context")
    assert [r.verdict for r in context] == ["good"] * (len(context) - 1) + ["refused"]
    assert context[-1].input_tokens > 256
    assert context[-1].words.startswith("HTTP 400: ")
    assert "context size" in context[-1].words
    assert context[-1].after == "answers"
    assert [r.concurrency for r in of(rows, "concurrency")] == [4, 8, 16]
