"""Errors are one line for the person at the box at 2 a.m., with the right exit code and no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from collector.cli import main
from tests.e2e.tools import STUDY, collect, environment
from tests.makers import make_bundle


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if not line.startswith("  log: ")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in stderr
    return lines[0]


@pytest.fixture
def study_text(tmp_path: Path) -> str:
    return STUDY.format(source=make_bundle(tmp_path / "source", only=("bf16", "awq")))


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    ran = collect("run", "--gpu", "rtx2000", "--out", tmp_path / "out")
    assert ran.returncode == 1
    assert "no NVIDIA GPU or driver was found" in one_line(ran.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nosuch", "--gpu", "cpu"], "no study named nosuch"),
        (["run", "/nowhere/x.toml", "--gpu", "cpu"], "no study named /nowhere/x.toml and no such file"),
        (["run", "--gpu", "demo", "--port", "70000"], "70000 is not in the range"),
        (["run", "--gpu", "demo", "--variant", "nosuch"], "has no variant nosuch; it has bf16"),
        (["run", "--gpu", "demo", "--variant", "fp8"], "the baseline bf16 is not among the variants"),
        (["run", "--gpu", "demo", "--endpoint", "http://127.0.0.1:9", "--variant", "nosuch"], "has no variant nosuch"),
        (["facts", "/nowhere/x.log"], "does not exist"),
        (["run", "--gpu", "rtx200"], "did you mean rtx2000?"),
        (["run", "--nope"], "No such option"),
        (["nope"], "No such command"),
        (["check"], "Missing argument"),
        (["plan", "--gpu", "h20"], "did you mean h200?"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program's own entry, called here; the other tests start it as a process."""
    monkeypatch.setattr(sys, "argv", ["collect", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert says in one_line(capsys.readouterr().err)


def test_no_command_at_all_shows_the_help() -> None:
    ran = collect()
    assert ran.returncode in (0, 2)  # as click of this or that version has it
    assert "Commands:" in (ran.stdout + ran.stderr).splitlines()
    assert "error:" not in ran.stderr


def test_help_of_every_command_fits_a_terminal() -> None:
    """One process for all of them: what takes long is its start."""
    commands = ("run", "plan", "gpus", "studies", "doctor", "facts", "show", "check", "seal")
    code = """import sys
from collector.cli import main
for command in sys.argv[1:]:
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert not end.code, (command, end.code)
    print("\\f", end="")"""
    ran = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True, env=environment(), check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    helps = ran.stdout.split("\f")[:-1]
    for command, said in zip(commands, helps, strict=True):
        assert f"Usage: collect {command}" in said
        assert max(map(len, said.splitlines())) <= 80, command


@pytest.mark.parametrize(
    ("change", "says"),
    [(("repeats = 2", "repeat = 2"), "did you mean `repeats`?"), (("repeats = 2", "repeats = ["), "is not valid TOML")],
)
def test_a_bad_study_ends_with_2(tmp_path: Path, study_text: str, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(study_text.replace(*change))
    ran = collect("run", path, "--gpu", "demo")
    assert ran.returncode == 2
    assert says in one_line(ran.stderr)
    assert "bad.toml" in ran.stderr


def test_a_busy_port(tmp_path: Path, study_text: str) -> None:
    (tmp_path / "s.toml").write_text(study_text)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        ran = collect("run", tmp_path / "s.toml", "--gpu", "demo", "--port", port, "--out", tmp_path / "out")
    assert ran.returncode == 1
    assert f"port {port} is in use" in one_line(ran.stderr)


def test_an_engine_that_dies_at_start_shows_its_last_lines(tmp_path: Path, study_text: str) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text("print('loading'); raise SystemExit('RuntimeError: no kernel image is available')")
    text = study_text.replace('name = "replay"', f'name = "vllm"\ncommand = ["{sys.executable}", "{engine}"]')
    (tmp_path / "s.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("source")))
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "out")
    assert ran.returncode == 1
    assert "  log: RuntimeError: no kernel image is available" in ran.stderr
    assert "exit code 1" in one_line(ran.stderr)


@contextlib.contextmanager
def broken_endpoint() -> Iterator[str]:
    """A server that names a model and answers every question with HTTP 500."""
    loop = asyncio.new_event_loop()

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500, text="out of cheese")

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", models)
        app.router.add_post("/{any:.*}", fail)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_an_endpoint_that_answers_500(tmp_path: Path, study_text: str) -> None:
    (tmp_path / "s.toml").write_text(study_text)
    with broken_endpoint() as url:
        ran = collect(
            "run",
            tmp_path / "s.toml",
            "--gpu",
            "cpu",
            "--endpoint",
            url,
            "--variant",
            "bf16",
            "--out",
            tmp_path / "out",
        )
    assert ran.returncode == 1
    assert "HTTP 500: out of cheese" in one_line(ran.stderr)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    ran = collect("show", tmp_path)
    assert ran.returncode == 1
    assert "is not a result bundle" in one_line(ran.stderr)


def test_a_collector_without_the_site_lists_its_commands_and_says_what_is_missing() -> None:
    code = "import sys; sys.modules['pandas'] = None; from collector.cli import main; main(sys.argv[1:])"
    helped = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    assert "site" in helped.stdout
    ran = subprocess.run(
        [sys.executable, "-c", code, "site", "--out", "x"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "pip install 'quantcase[site]'" in one_line(ran.stderr)
