"""The load test: Locust itself against a server that keeps count, and its files read as anybody's input."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from collector.budget import Budget
from collector.bundle import loadtest
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError, UsageFault
from collector.loadtest import once
from collector.loadtest import run as locust_run
from collector.loadtest.settings import LoadTest
from collector.progress import View
from collector.study import dumps, loads
from tests.makers import STUDY, study

DELAY_S = 0.1
QUICK = LoadTest(users_from=2, users_to=6, users_step=4, step_s=4, output_tokens=8, request_timeout_s=10)


class Server:
    """Answers chat completions after a known delay and writes down what it saw. Every `fail_every`-th gets a 500."""

    def __init__(self, fail_every: int = 0) -> None:
        self.fail_every = fail_every
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.ended: list[tuple[float, float]] = []  # when, and seconds it took
        self.failed = 0

    async def chat(self, request: web.Request) -> web.Response:
        began = time.monotonic()
        self.bodies.append(await request.json())
        self.keys.add(request.headers.get("Authorization"))
        bad = self.fail_every and len(self.bodies) % self.fail_every == 0
        await asyncio.sleep(DELAY_S)
        self.ended.append((time.monotonic(), time.monotonic() - began))
        if bad:
            self.failed += 1
            return web.json_response({"error": "out of luck"}, status=500)
        message = {"role": "assistant", "content": "word " * 8}
        usage = {"prompt_tokens": 12, "completion_tokens": self.bodies[-1]["max_tokens"]}
        return web.json_response({"choices": [{"message": message, "finish_reason": "length"}], "usage": usage})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def written_study(folder: Path) -> Path:
    path = folder / "study.toml"
    path.write_text(dumps(study()))
    return path


async def measure(server: Server, folder: Path, settings: LoadTest, **more: Any) -> loadtest.LoadTest:
    work, bundle = folder / "work", folder / "bundle"
    work.mkdir()
    bundle.mkdir()
    async with server.serving() as url:
        files = await locust_run.run(
            settings, base_url=url, model="m", study=written_study(folder), words=12, work=work, timeout_s=60, **more
        )
    assert not loadtest.done(bundle, "bf16")
    found = loadtest.save(
        bundle, "bf16", stats=files.stats, history=files.history, failures=files.failures, clean=lambda s: s
    )
    assert loadtest.done(bundle, "bf16")
    assert loadtest.read(bundle, "bf16") == found
    return found


# A real run


async def test_locust_sees_what_the_server_saw(tmp_path: Path) -> None:
    server = Server()
    found = await measure(server, tmp_path, QUICK, api_key="k", extra_body={"top_k": 1})
    assert [s.users for s in found.steps] == [2, 6]
    assert found.requests == len(server.ended)  # the last second is not lost
    assert (found.failed, found.failures) == (0, [])
    middle = 1000 * statistics.median(seconds for _, seconds in server.ended)
    for step in found.steps:
        assert step.p50_ms == pytest.approx(middle, rel=0.25)
        assert (step.p50_ms or 0) <= (step.p95_ms or 0) <= (step.p99_ms or 0)
        assert step.rps == pytest.approx(step.users / DELAY_S, rel=0.3)
        assert step.failures == 0
        # of 4 s, 3 count: the requests of the step by itself
        assert step.requests == pytest.approx(3 * step.users / DELAY_S, rel=0.35)
    # the server's own count over the last three seconds of each step
    first = server.ended[0][0]
    own = [sum(first + a <= t < first + a + 3 for t, _ in server.ended) for a in (0.8, 4.8)]
    assert [s.requests for s in found.steps] == pytest.approx(own, rel=0.25)

    body = server.bodies[0]
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m", "max_tokens": 8, "min_tokens": 8, "ignore_eos": True, "temperature": 0, "stream": False,
        "top_k": 1,
    }  # fmt: skip
    prompts = [b["messages"][0]["content"] for b in server.bodies]
    assert len(set(prompts)) == len(prompts)  # none from the prefix cache
    assert {len(p.split()) for p in prompts} == {12}
    assert server.keys == {"Bearer k"}
    assert "locust" not in sys.modules
    assert not any("Bearer" in p.read_text() for p in (tmp_path / "work").iterdir())


async def test_failures_are_counted_and_named(tmp_path: Path) -> None:
    server = Server(fail_every=5)
    settings = LoadTest(users_from=3, users_to=3, step_s=2.5, output_tokens=8, natural_length=True)
    found = await measure(server, tmp_path, settings)
    assert (found.requests, found.failed) == (len(server.ended), server.failed)
    assert found.failed == pytest.approx(found.requests / 5, abs=1)
    (step,) = found.steps
    assert step.failures == pytest.approx(step.requests / 5, abs=2)
    assert {f.error for f in found.failures} == {"CatchResponseError('HTTP 500')"}
    assert sum(f.count for f in found.failures) == found.failed
    assert "ignore_eos" not in server.bodies[0]


async def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    server = Server()
    settings = LoadTest(users_from=2, users_to=2, step_s=60, processes=2)
    async with server.serving() as url:
        running = asyncio.create_task(
            locust_run.run(settings, base_url=url, model="m", study=written_study(tmp_path), words=12, work=tmp_path)
        )
        for _ in range(300):
            await asyncio.sleep(0.05)
            if server.bodies:
                break
        assert server.bodies
        assert len(mine(tmp_path)) == 3  # one master and two that send
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert mine(tmp_path) == []


def mine(folder: Path) -> list[int]:
    """Processes whose command line names that folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(str(folder).encode() in w for w in words):
                found.append(int(entry.name))
    return found


# What can go wrong


async def test_a_missing_locust_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "locust" else real(name, *a))
    with pytest.raises(QuantcaseError, match="not installed") as e:
        await locust_run.run(
            QUICK, base_url="http://127.0.0.1:1", model="m", study=tmp_path / "s", words=1, work=tmp_path
        )
    assert e.value.fix == "pip install 'quantcase[loadtest]'"


async def test_a_failed_locust_gives_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match=r"exit code 1: FileNotFoundError.*no-such-study"):
        await locust_run.run(
            QUICK, base_url="http://127.0.0.1:1", model="m", study=tmp_path / "no-such-study", words=1, work=tmp_path
        )


def test_the_steps_go_up_to_the_last() -> None:
    assert LoadTest().steps() == [10, 20, 30, 40, 50]
    assert LoadTest(users_to=45).steps() == [10, 20, 30, 40, 45]
    assert LoadTest().seconds() == 300  # five minutes a test
    with pytest.raises(UsageFault):
        LoadTest(users_from=60).steps()


def test_the_command_line_holds_no_key(tmp_path: Path) -> None:
    argv = locust_run.command(LoadTest(processes=4), base_url="http://h:1/v1/", prefix=tmp_path / "x")
    assert argv[argv.index("--host") + 1] == "http://h:1"
    assert argv[argv.index("--processes") + 1] == "4"
    assert "--processes" not in locust_run.command(LoadTest(), base_url="http://h:1", prefix=tmp_path / "x")
    env = locust_run.environment(LoadTest(), model="m", study=tmp_path, words=1, api_key="k")
    assert env["QUANTCASE_LT_API_KEY"] == "k"
    assert json.loads(env["QUANTCASE_LT_EXTRA_BODY"]) == {}
    assert all(name.startswith("QUANTCASE_LT_") for name in env)


def test_the_collector_does_not_import_locust() -> None:
    code = "import sys, collector.loadtest.run, collector.bundle.loadtest; print('locust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# Reading Locust's files

STATS = "Type,Name,Request Count,Failure Count,50%,95%,99%\n"
HISTORY = "Timestamp,User Count,Type,Name,Requests/s,50%,Total Request Count,Total Failure Count\n"
FAILURES = "Method,Name,Error,Occurrences,First Seen,Last Seen\n"


def write(folder: Path, stats: str | None = None, history: str | None = None, failures: str = "") -> Path:
    if stats is None:
        stats = "POST,10 users,100,2,150,300,410\nPOST,between steps,9,0,150,200,200\n,Aggregated,109,2,150,300,400\n"
    if history is None:
        history = "".join(
            f"{1000 + i},{u},,Aggregated,9.9,150,{20 * i},0\n" for i, u in enumerate([4] + [10] * 10 + [0])
        )
    for name, text in zip(loadtest.names("v"), (STATS + stats, HISTORY + history, FAILURES + failures), strict=True):
        (folder / name).write_text(text)
    return folder


def test_a_step_by_hand(tmp_path: Path) -> None:
    found = loadtest.read(write(tmp_path), "v")
    assert found is not None
    # Ten rows show 10 users; the first fifth does not count: seven seconds, 20 requests in each.
    assert found.steps == [
        loadtest.Step(users=10, requests=100, failures=2, p50_ms=150, p95_ms=300, p99_ms=410, rps=20, seconds=7)
    ]
    assert (found.requests, found.failed, found.seconds) == (109, 2, 10)


def test_a_step_without_an_answer_is_one_all_the_same(tmp_path: Path) -> None:
    history = "".join(f"{1000 + i},5,,Aggregated,0,N/A,0,0\n" for i in range(10))
    found = loadtest.read(write(tmp_path, ",Aggregated,0,0,N/A,N/A,N/A\n", history), "v")
    assert found is not None
    (step,) = found.steps
    assert (step.users, step.requests, step.p50_ms, step.rps) == (5, 0, None, 0)


def test_a_starved_machine_is_seen_by_its_stamps(tmp_path: Path) -> None:
    history = "".join(f"{1000 + 2 * i},10,,Aggregated,1,1,{10 * i},0\n" for i in range(10))
    found = loadtest.read(write(tmp_path, history=history), "v")
    assert found is not None
    assert found.steps[0].rps == 5


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert loadtest.read(tmp_path, "v") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stats": ",Aggregated,1,2,1,1,1\n"}, "2 of 1 requests failed"),
        ({"stats": ",Aggregated,1,0,3,2,1\n"}, "do not rise"),
        ({"stats": ",Aggregated,1,0,nan,1,1\n"}, "_stats.csv line 2|not finite"),
        ({"stats": ",Aggregated,-1,0,1,1,1\n"}, "_stats.csv line 2"),
        ({"stats": ",Aggregated,1,0,1,1\n"}, "6 fields, the header has 7"),
        ({"stats": "POST,10 users,1,0,1,1,1\n"}, "no row for all requests"),
        ({"stats": "POST,10 users,1,0,1,1,1\n" * 2 + ",Aggregated,1,0,1,1,1\n"}, "stands twice"),
        ({"history": "1,5,,Aggregated,1,1,5,0\n2,5,,Aggregated,1,1,4,0\n"}, "lower than in the row before"),
        ({"history": "1,x,,Aggregated,1,1,5,0\n"}, "_history.csv line 2"),
        ({"history": ""}, "no row for all requests"),
        ({"failures": "POST,10 users,boom,many,,\n"}, "_failures.csv line 2"),
    ],
)
def test_hostile_files_are_refused_by_file_and_reason(tmp_path: Path, change: dict[str, str], words: str) -> None:
    with pytest.raises(QuantcaseError, match=words):
        loadtest.read(write(tmp_path, **change), "v")


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "loadtest_v_stats.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(QuantcaseError, match="not UTF-8"):
        loadtest.read(tmp_path, "v")
    (tmp_path / "loadtest_v_stats.csv").unlink()
    with pytest.raises(QuantcaseError, match=r"loadtest_v_stats\.csv"):
        loadtest.read(tmp_path, "v")


def test_secrets_do_not_reach_the_bundle(tmp_path: Path) -> None:
    write(tmp_path, failures='POST,10 users,"at http://me:pw@host, ""x""",2,,\n')
    out = tmp_path / "bundle"
    out.mkdir()
    stats, history, failures = (tmp_path / n for n in loadtest.names("v"))
    loadtest.save(
        out, "v", stats=stats, history=history, failures=failures, clean=lambda s: s.replace("me:pw", "[removed]")
    )
    found = loadtest.read(out, "v")
    assert found is not None
    assert found.failures == [loadtest.Failure("10 users", 'at http://[removed]@host, "x"', 2)]


# As part of a run


class Alive:
    """Of a server what a load test asks."""

    base_url, model = "http://127.0.0.1:1", "m"

    def __init__(self, alive: bool = True) -> None:
        self._alive = alive

    def alive(self) -> bool:
        return self._alive


def opened(folder: Path) -> BundleWriter:
    asked = loads(STUDY.format(weights="real"))
    asked.control = "fp8"
    return BundleWriter.create(
        folder / "b", asked, grade="measured", gpu="h200", cells_planned=1, environment=Environment(gpu_asked="h200")
    )


async def try_once(writer: BundleWriter, server: Alive, console: Console) -> None:
    with View(console, 1) as view:
        budget = Budget(minutes=None, usd=None, price=None)
        await once.once(
            LoadTest(), server, "bf16", words=5, writer=writer, budget=budget, view=view, extra_body=None, api_key=None,  # type: ignore[arg-type]
        )  # fmt: skip


def test_what_is_in_the_bundle_is_done_and_the_control_needs_none(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    assert [v.name for v in writer.study.variants if once.due(LoadTest(), writer, v.name)] == [
        "bf16", "awq", "bf16-fp8kv",
    ]  # fmt: skip
    (writer.folder / loadtest.names("awq")[1]).write_text("Timestamp\n")
    assert not once.due(LoadTest(), writer, "awq")
    assert not once.due(None, writer, "bf16")
    writer.manifest.quantcase.grade = "simulated"
    assert not once.due(LoadTest(), writer, "bf16")


async def test_a_failed_test_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise QuantcaseError("Locust ended with exit code 1: boom")

    monkeypatch.setattr(locust_run, "run", fails)
    writer, said = opened(tmp_path), io.StringIO()
    await try_once(writer, Alive(), Console(file=said))
    assert "WARNING bf16: no load test: Locust ended with exit code 1: boom" in said.getvalue()
    assert once.due(LoadTest(), writer, "bf16")
    with pytest.raises(QuantcaseError, match="the engine died during the load test"):
        await try_once(writer, Alive(alive=False), Console(file=said))
