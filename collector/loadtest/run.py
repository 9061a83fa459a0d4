"""Locust as a process: its command line, its run, and the files it leaves. It is never imported."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from collector.engines.process import EngineProcess
from collector.errors import QuantcaseError
from collector.loadtest.settings import LoadTest
from collector.probes.redact import redact

__all__ = ["Files", "check", "command", "environment", "run"]

_INSTALL = "pip install 'quantcase[loadtest]'"
_START_S = 60.0  # to start Locust and its processes
_USERS_FILE = Path(__file__).with_name("users.py")


class Files(Struct, frozen=True):
    """What Locust wrote. `exceptions` are Python errors of the locustfile: none in a sound run."""

    stats: Path
    history: Path
    failures: Path
    exceptions: Path


def command(settings: LoadTest, *, base_url: str, prefix: Path) -> list[str]:
    """Locust's command line.

    No `--run-time`: the shape of the load ends the test, and Locust passes over that option where there is a shape.
    Requests that fail are a result, so they leave the exit code at 0; and the last step's requests are waited for.

    Args:
        base_url: the server, without `/v1`.
        prefix: Locust's files are named so, followed by `_stats.csv` and so on.
    """
    several = ["--processes", str(settings.processes)] if settings.processes > 1 else []
    return [
        sys.executable, "-m", "locust", "-f", str(_USERS_FILE), "--headless", "--only-summary",
        "--csv", str(prefix), "--csv-full-history", "--host", base_url.rstrip("/").removesuffix("/v1"),
        "--exit-code-on-error", "0", "--stop-timeout", f"{settings.request_timeout_s:g}", *several,
    ]  # fmt: skip


def environment(
    settings: LoadTest,
    *,
    model: str,
    study: Path,
    words: int,
    extra_body: Mapping[str, Any] | None = None,
    api_key: str | None = None,
) -> dict[str, str]:
    """The settings of the locustfile. The key goes this way, because a command line can be read by everybody.

    Args:
        model: the name that the server knows.
        study: a study.toml, for the seed and the kind of the prompts.
        words: of a prompt, so many that it has about `settings.input_tokens`.
        extra_body: keys that this engine needs in every request.
    """
    given = {
        "STEPS": ",".join(str(users) for users in settings.steps()),
        "STEP_S": f"{settings.step_s:g}",
        "WORDS": str(words),
        "OUTPUT_TOKENS": str(settings.output_tokens),
        "EXACT": "0" if settings.natural_length else "1",
        "REQUEST_TIMEOUT_S": f"{settings.request_timeout_s:g}",
        "MODEL": model,
        "STUDY": str(study.resolve()),
        "EXTRA_BODY": json.dumps(dict(extra_body or {})),
        "API_KEY": api_key or "",
    }
    return {f"QUANTCASE_LT_{name}": value for name, value in given.items()}


def check() -> None:
    """Raises QuantcaseError when Locust is not installed; to be asked before anything is measured."""
    if importlib.util.find_spec("locust") is None:
        raise QuantcaseError("the load test needs Locust, and it is not installed", fix=_INSTALL)


class _Process(EngineProcess):
    def exit_code(self) -> int | None:
        return self._process.poll()


async def run(
    settings: LoadTest,
    *,
    base_url: str,
    model: str,
    study: Path,
    words: int,
    work: Path,
    extra_body: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    timeout_s: float | None = None,
) -> Files:
    """One load test, from the first step to the last. Whatever happens, nothing of Locust is left running.

    Args:
        work: an empty folder for its files and its log.
        timeout_s: seconds for all of it; by default what the steps take, and the last answers.

    Raises:
        QuantcaseError: Locust is not installed, ended with an error, was not done in time, or wrote no statistics.
    """
    check()
    if timeout_s is None:
        timeout_s = settings.seconds() + settings.request_timeout_s + _START_S
    prefix, log = work / "locust", work / "locust.log"
    env = environment(settings, model=model, study=study, words=words, extra_body=extra_body, api_key=api_key)
    process = _Process(command(settings, base_url=base_url, prefix=prefix), env=env, log_path=log)
    deadline = time.monotonic() + timeout_s
    try:
        while (code := process.exit_code()) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)
    finally:
        # Shielded: a second Ctrl-C must not leave the group behind.
        await asyncio.shield(process.stop(10))
    said = redact(next(iter(process.log_tail(1)), "it said nothing"))
    if code is None:
        raise QuantcaseError(f"Locust was not done after {timeout_s:g} s: {said}", fix="is the server answering?")
    if code != 0:
        fix = _INSTALL if "No module named" in said else f"its log: {log}"
        raise QuantcaseError(f"Locust ended with exit code {code}: {said}", fix=fix)
    files = Files(*(prefix.with_name(f"locust_{n}.csv") for n in ("stats", "stats_history", "failures", "exceptions")))
    for path in (files.stats, files.history, files.failures):
        if not path.is_file() or not path.stat().st_size:
            raise QuantcaseError(f"Locust wrote no {path.name}: {said}", fix=f"its log: {log}")
    return files
