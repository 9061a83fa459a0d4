"""lm-evaluation-harness: its command line and its run."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from collector.errors import QuantcaseError
from collector.quality import lm_eval


def words(api: Literal["chat", "completions"], **changed: Any) -> list[str]:
    settings: dict[str, Any] = {
        "base_url": "http://127.0.0.1:8000",
        "model": "org/model,v1",
        "tasks": ["gsm8k", "ifeval"],
        "output": Path("out/lm-eval"),
        "limit": None,
        "concurrency": 8,
        "tokenizer": "",
        "context_tokens": 4096,
        "seed": 7,
        "extra": [],
    }
    return lm_eval.command(["lm_eval"], api=api, **(settings | changed))


def after(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


# The command line


def test_chat_asks_with_messages_and_no_tokenizer() -> None:
    argv = words("chat", tokenizer="org/model")
    assert after(argv, "--model") == "local-chat-completions"
    assert json.loads(after(argv, "--model_args")) == {
        "model": "org/model,v1",
        "base_url": "http://127.0.0.1:8000/v1/chat/completions",
        "num_concurrent": 8,
        "max_length": 4096,
        "seed": 7,
    }
    assert "--apply_chat_template" in argv
    assert after(argv, "--apply_chat_template").startswith("--")  # it would take a word after it for a template's name
    assert after(argv, "--tasks") == "gsm8k,ifeval"
    assert after(argv, "--seed") == "7"
    assert after(argv, "--output_path") == "out/lm-eval"
    assert "--log_samples" in argv
    assert "--limit" not in argv


def test_completions_count_tokens_by_a_named_tokenizer_or_the_servers_own() -> None:
    named = words("completions", tokenizer="/models/tokenizer")
    assert after(named, "--model") == "local-completions"
    assert "--apply_chat_template" not in named
    arguments = json.loads(after(named, "--model_args"))
    assert arguments["base_url"] == "http://127.0.0.1:8000/v1/completions"
    assert (arguments["tokenizer"], arguments["tokenizer_backend"]) == ("/models/tokenizer", "huggingface")
    own = json.loads(after(words("completions"), "--model_args"))
    assert own["tokenizer_backend"] == "remote"
    assert "tokenizer" not in own
    none = json.loads(after(words("completions", tokenizer=None), "--model_args"))
    assert none["tokenizer_backend"] == "none"


def test_limit_and_more_words_stand_last() -> None:
    argv = words("chat", limit=20, extra=["--num_fewshot", "5"])
    assert after(argv, "--limit") == "20"
    assert argv[-2:] == ["--num_fewshot", "5"]


@pytest.mark.parametrize("base_url", ["http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_address_may_end_as_people_write_it(base_url: str) -> None:
    arguments = json.loads(after(words("completions", base_url=base_url), "--model_args"))
    assert arguments["base_url"] == "http://h:1/v1/completions"


def test_no_task_is_an_error() -> None:
    with pytest.raises(QuantcaseError, match="no task"):
        words("chat", tasks=[])


# Running


def script(folder: Path, body: str) -> list[str]:
    path = folder / "lm_eval"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return [str(path)]


async def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_run_logs_what_it_prints(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "lm_eval.log"
    argv = [*script(tmp_path, 'echo "asked $1 with $OPENAI_API_KEY"; echo done >&2'), "--tasks"]
    await lm_eval.run(argv, env={"OPENAI_API_KEY": "k"}, timeout_s=20, log_path=log)
    assert log.read_text() == "asked --tasks with k\ndone\n"


async def test_a_failure_gives_its_last_words(tmp_path: Path) -> None:
    body = """
echo 'Traceback (most recent call last):'
echo 'ValueError: Tasks not found: no_such'
printf 'Requesting API: 100%%|####| 4/4 [00:00<00:00, 165.42it/s]\\r\\n'
echo '^^^^'
exit 3"""
    with pytest.raises(QuantcaseError, match="exit code 3: ValueError: Tasks not found: no_such") as e:
        await lm_eval.run(script(tmp_path, body), env={}, timeout_s=20, log_path=tmp_path / "log")
    assert "lm_eval ls tasks" in e.value.fix
    assert str(tmp_path / "log") in e.value.fix


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("/usr/bin/python: No module named lm_eval", "pip install 'lm-eval[api]'"),
        ("ModuleNotFoundError: No module named 'transformers'", "pip install transformers"),
        ("ConnectionError: Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)", "fetch them first"),
        (
            "RuntimeError: RemoteTokenizer: GET http://127.0.0.1:1/tokenizer_info failed after 3 attempts: 404",
            "tokenizer",
        ),
        (
            "RuntimeError: RemoteTokenizer: GET http://127.0.0.1:1/tokenizer_info: Connection refused",
            "is the engine up",
        ),
        (
            "AssertionError: Tokenizer is required for loglikelihood tasks to compute context lengths.",
            "vLLM with --enable-tokenizer-info-endpoint",
        ),
        ("NotImplementedError: Loglikelihood is not supported for chat completions.", "completions API"),
    ],
)
async def test_known_failures_have_a_fix(tmp_path: Path, line: str, fix: str) -> None:
    (tmp_path / "said").write_text(line + "\n")
    with pytest.raises(QuantcaseError) as e:
        await lm_eval.run(
            script(tmp_path, f"cat {tmp_path}/said; exit 1"), env={}, timeout_s=20, log_path=tmp_path / "log"
        )
    assert fix in e.value.fix


async def test_last_words_hold_no_secret(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError) as e:
        await lm_eval.run(
            script(tmp_path, "echo \"ValueError: {'auth_token': 'Zq1'}\"; exit 1"),
            env={},
            timeout_s=20,
            log_path=tmp_path / "log",
        )
    assert "Zq1" not in str(e.value)


async def test_a_silent_failure_and_a_signal_are_told(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="failed with exit code 4; its log is"):
        await lm_eval.run(script(tmp_path, "exit 4"), env={}, timeout_s=20, log_path=tmp_path / "log")
    with pytest.raises(QuantcaseError, match="was ended by signal 9"):
        await lm_eval.run(script(tmp_path, "kill -9 $$"), env={}, timeout_s=20, log_path=tmp_path / "log")


async def test_a_run_out_of_time_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = script(tmp_path, "echo asking; sleep 60 & echo $! > $PIDFILE; wait")
    began = time.monotonic()
    with pytest.raises(QuantcaseError, match=r"not done after 0\.5 s: asking; allow more time"):
        await lm_eval.run(argv, env={"PIDFILE": str(tmp_path / "pid")}, timeout_s=0.5, log_path=tmp_path / "log")
    assert time.monotonic() - began < 20
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_a_cancelled_run_leaves_nothing_behind(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    argv = script(tmp_path, "sleep 60 & echo $! > $PIDFILE.part; mv $PIDFILE.part $PIDFILE; wait")
    task = asyncio.create_task(
        lm_eval.run(argv, env={"PIDFILE": str(pidfile)}, timeout_s=60, log_path=tmp_path / "log")
    )
    while not pidfile.exists():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int(pidfile.read_text()))


async def test_a_missing_program_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="no-such-lm-eval is not installed") as e:
        await lm_eval.run(["no-such-lm-eval"], env={}, timeout_s=5, log_path=tmp_path / "log")
    assert e.value.fix == "pip install 'lm-eval[api]'"
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    with pytest.raises(QuantcaseError, match="cannot be run") as e:
        await lm_eval.run([str(broken)], env={}, timeout_s=5, log_path=tmp_path / "log")
    assert e.value.fix == "pip install 'lm-eval[api]'"


async def test_the_program_is_looked_for_on_the_path_that_it_gets(tmp_path: Path) -> None:
    script(tmp_path, "exit 0")
    path = f"{tmp_path}:{os.environ['PATH']}"
    await lm_eval.run(["lm_eval"], env={"PATH": path}, timeout_s=20, log_path=tmp_path / "log")
