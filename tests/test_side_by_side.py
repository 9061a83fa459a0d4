"""Servers side by side: who gets which GPUs, when the company counts, and whether it may."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from scipy import stats

from collector import gpus as profiles
from collector import study as studies
from collector.budget import Budget, OutOfBudget
from collector.bundle.check import check
from collector.bundle.co_location import read_co_location
from collector.bundle.read import open_bundle
from collector.bundle.schema import CellRow, Environment
from collector.bundle.write import BundleWriter
from collector.co_locate import REGIONS, heaviest, judged, ratio_of, trial
from collector.engines import registry
from collector.engines.process import free_port
from collector.errors import QuantcaseError, UsageFault
from collector.lives import Lives
from collector.load import loop, pulse
from collector.load.measure import Client
from collector.load.prompts import Calibration, PromptMaker
from collector.probes.nvml import Gpus
from collector.progress import View
from collector.side_by_side import Company, batches, places
from collector.study import Study, Variant
from quantcase.analysis.compare import ROPE
from tests.e2e.tools import collect
from tests.load.test_pulse import LIMIT_S, TOKENS, hangs_after, serving


def variant(name: str, gpus: int) -> Variant:
    return Variant(name=name, model="m", tensor_parallel=gpus)


def test_variants_stand_together_as_they_find_room() -> None:
    asked = [variant("a", 1), variant("b", 2), variant("c", 2), variant("d", 1), variant("e", 4)]
    found = [[(v.name, cards) for v, cards in batch] for batch in batches(asked, (4, 5, 6, 7), most=2)]
    assert found == [
        [("a", (4,)), ("b", (5, 6))],
        [("c", (4, 5)), ("d", (6,))],
        [("e", (4, 5, 6, 7))],
    ]


def test_no_more_stand_together_than_were_tried() -> None:
    asked = [variant("a", 2), variant("b", 1), variant("c", 1), variant("d", 1), variant("e", 1)]
    room = places(asked, (0, 1, 2, 3))
    assert room == 2
    assert [[v.name for v, _ in batch] for batch in batches(asked, (0, 1, 2, 3), most=room)] == [
        ["a", "b"], ["c", "d"], ["e"],
    ]  # fmt: skip


def test_two_of_the_largest_must_find_room() -> None:
    given = studies.load("demo").variants
    assert places(given, (0, 1, 2)) == 3
    assert places([*given, variant("wide", 2)], (0, 1, 2, 3)) == 2
    with pytest.raises(UsageFault, match="needs GPUs for two servers"):
        places(given, (0,))


async def test_nobody_is_measured_before_all_are_there_and_each_sees_who_still_is() -> None:
    company, seen = Company(3), dict[str, int]()

    async def server(name: str, after: float, *, serves: bool = True) -> None:
        await asyncio.sleep(after)
        company.arrived(serves=serves)
        if not serves:
            return
        await company.together()
        seen[name] = company.others
        company.leave()

    await asyncio.gather(server("a", 0), server("b", 0.05), server("broken", 0.02, serves=False))
    # Whoever is asked first has company, the other is alone by then; the one that did not come is nobody's company.
    assert sorted(seen.values()) == [0, 1]


def test_the_regions_are_those_of_the_pages() -> None:
    assert {metric: ROPE[metric] for metric in REGIONS} == REGIONS


def test_the_trial_takes_the_heaviest_load_point() -> None:
    workload, load = heaviest(studies.load("demo"))
    assert (workload.name, load.name) == ("batch", "c32")


def cell(speed: float | None, ttft: float | None = 100.0) -> CellRow:
    return CellRow(
        variant="bf16", start=0, workload="chat", load="c8", repeat=1, n=8, ok=8, errors=0, timeouts=0, cut=0,
        throughput_tok_s=speed, ttft_ms_p50=ttft, tpot_ms_p50=10.0,
    )  # fmt: skip


def test_the_interval_is_scipys() -> None:
    alone, together = [100.0, 104.0, 99.0, 101.0, 97.0], [98.0, 101.0, 99.0, 97.0, 96.0]
    found = ratio_of("throughput_tok_s", alone, together, 0.03)
    logs = [math.log(t / a) for a, t in zip(alone, together, strict=True)]
    low, high = stats.t.interval(0.95, len(logs) - 1, loc=stats.tmean(logs), scale=stats.sem(logs))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-9)


@pytest.mark.parametrize(
    ("together", "allowed"),
    [
        ([100.0, 100.1, 99.9, 100.0, 100.0], True),
        ([93.0, 93.1, 92.9, 93.0, 93.0], False),  # seven per cent slower, and sure of it
        ([90.0, 110.0, 100.0, 95.0, 106.0], False),  # the mean is the same, but more than 3 % is not excluded
    ],
)
def test_company_is_allowed_only_where_the_whole_interval_lies_within_the_region(
    together: list[float], allowed: bool
) -> None:
    found = judged({"load": "c8"}, [cell(100.0) for _ in range(5)], [cell(s) for s in together], 2)
    assert found.allowed is allowed
    assert ("throughput_tok_s together is" in found.reason) is not allowed


def test_one_metric_beyond_its_region_is_enough() -> None:
    found = judged({"load": "c8"}, [cell(100.0)] * 5, [cell(100.0, ttft=120.0)] * 5, 2)
    assert not found.allowed
    assert "ttft_ms_p50 together is 1.200" in found.reason


def test_repeats_without_a_throughput_tell_nothing() -> None:
    with pytest.raises(QuantcaseError, match="too short to tell"):
        judged({"load": "c8"}, [cell(None)] * 5, [cell(None)] * 5, 2)


def small() -> Study:
    """A study whose one load point is soon measured, and whose server has half a second for each reply."""
    given = studies.loads(STUDY)
    chat = msgspec.structs.replace(given.workloads[0], output_tokens=TOKENS, request_timeout_s=LIMIT_S)
    return msgspec.structs.replace(given, workloads=[chat])


async def tried(*urls: str, budget: Budget) -> None:
    maker = PromptMaker(small(), Calibration())
    await trial(small(), [Client(url, "m") for url in urls], maker, zero=0.0, budget=budget)


async def test_a_trial_whose_server_hangs_or_is_gone_says_so_and_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "TICK_S", 0.1)
    monkeypatch.setattr(loop, "_TICK", 5)
    unbound = Budget(minutes=None, usd=None, price=None)
    async with serving(hangs_after(8)) as hung:
        with pytest.raises(QuantcaseError, match="the trial of side-by-side servers failed: no reply got a byte"):
            await tried(hung, budget=unbound)
    with pytest.raises(QuantcaseError, match=r"the trial of side-by-side servers failed: .*(refused|Connect call)"):
        await tried(f"http://127.0.0.1:{free_port()}", budget=unbound)


async def test_a_trial_is_paid_for_too() -> None:
    async def well(_number: int, _alone: bool) -> None:
        return

    async with serving(well) as url:
        with pytest.raises(OutOfBudget):
            await tried(url, url, budget=Budget(minutes=0, usd=None, price=None))


async def test_side_by_side_each_servers_load_comes_from_a_process_of_its_own(tmp_path: Path) -> None:
    given = studies.loads(STUDY)
    writer = BundleWriter.create(
        tmp_path / "2026-11-21-demo-pair", given, grade="simulated", gpu="demo", cells_planned=2,
        environment=Environment(gpu_asked="demo"),
    )  # fmt: skip
    lives = Lives(
        study=given, profile=profiles.get("demo"), engine=registry.engine("replay"), gpus=Gpus.open(), writer=writer,
        view=View(Console(quiet=True), 2), budget=Budget(minutes=None, usd=None, price=None), work=tmp_path, zero=0.0,
        apart=True,
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        server = await lives.serve(lives.request(given.variants[0], (), tmp_path / "log"))
        stack.push_async_callback(server.stop)
        before = children()
        async with contextlib.AsyncExitStack() as clients:
            for _ in range(2):
                await lives.client(server, clients)
            assert len(children() - before) == 2
        assert children() == before
    assert lives.longest_start_s > 0  # the trial's starts count for what the next one may take
    writer.close("interrupted")


def children() -> set[str]:
    """Processes that this one has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


STUDY = """
id = "pair"
title = "Two replays side by side"
gpu = "demo"
base_model = "replayed"
baseline = "bf16"
repeats = 1
weights = "dummy"
[engine]
name = "replay"
[[variants]]
name = "bf16"
model = "x"
[[variants]]
name = "awq"
model = "x"
[[workloads]]
name = "chat"
input_tokens = 32
output_tokens = 24
concurrency = [4]
requests_per_stream = 2
min_requests = 8
warmup_requests = 1
"""


def test_a_run_side_by_side_says_so_in_every_cell_and_keeps_the_trial(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(STUDY)
    ran = collect(
        "run", tmp_path / "pair.toml", "--gpu", "demo", "--gpus", "0,1", "--side-by-side", "--out", tmp_path / "out"
    )
    assert ran.returncode == 0, ran.stderr
    (folder,) = (tmp_path / "out").iterdir()
    trial = read_co_location(folder)
    assert trial is not None
    assert trial.places == 2
    assert {r.metric for r in trial.ratios} == set(REGIONS)
    cells = open_bundle(folder).cells()
    assert {c.variant for c in cells} == {"bf16", "awq"}
    # Replayed timings are slept, so company costs them little; what a busy machine makes of it decides this run.
    assert {c.co_located for c in cells} == ({1} if trial.allowed else {None})
    assert ("side by side: allowed" in ran.stdout) == trial.allowed
    assert [f for f in check(folder) if f.level == "error"] == []


def test_side_by_side_has_ports_of_its_own(tmp_path: Path) -> None:
    ran = collect("run", "--gpu", "demo", "--side-by-side", "--gpus", "0,1", "--port", "8000", "--out", tmp_path)
    assert ran.returncode == 2
    assert "leave out --port" in ran.stderr
