"""EleutherAI's lm-evaluation-harness as a suite: run beside the server, or read from a folder of its results."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.bundle.answers import QualityItem, QualityRow
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.quality import lm_eval, lm_eval_files, lm_eval_results
from collector.study import QualitySuite, Study

__all__ = ["answers", "check"]

_TIMEOUT_S = 4 * 3600.0
_LOOK_S = 10.0


async def answers(
    suite: QualitySuite,
    study: Study,
    server: Server,
    *,
    variant: str,
    start: int,
    number: int,
    say: Callable[[str], None],
    api_key: str | None,
) -> tuple[list[QualityItem], list[QualityRow]]:
    """Items and rows of one pass. A suite with a `file` reads `FILE/<variant>` (pass 2: `FILE/<variant>-again`).

    Raises:
        QuantcaseError: the harness is missing or failed, or there is no folder of that variant.
    """
    if suite.file:
        return _read(_folder(suite, variant, number), suite, variant, start, number)
    work = Path(tempfile.mkdtemp(prefix="quantcase-lm-eval-"))  # stays where it fails: its log says why
    out = work / "out"
    tokenizer = await _tokenizer(suite, server)
    argv = lm_eval.command(
        _executable(), base_url=server.base_url, model=server.model, api=suite.api, tasks=suite.tasks, output=out,
        limit=suite.items, concurrency=suite.concurrency, tokenizer=tokenizer, context_tokens=study.context_tokens,
        seed=study.seed, extra=suite.args,
    )  # fmt: skip
    say(f"{variant} quality {suite.title}: lm-eval runs {', '.join(suite.tasks)}")
    env = {"OPENAI_API_KEY": api_key or "none"}
    await lm_eval.run(argv, env=env, timeout_s=_TIMEOUT_S, log_path=work / "lm-eval.log")
    found = _read(out, suite, variant, start, number)
    shutil.rmtree(work)
    return found


def _read(
    folder: Path, suite: QualitySuite, variant: str, start: int, number: int
) -> tuple[list[QualityItem], list[QualityRow]]:
    """What the harness left, numbered as that pass; each item says which version of which task it comes from."""
    items, rows = lm_eval_results.read(folder, variant=variant, start=start, suite=suite.title)
    for row in rows:
        row.repeat = number
    if not lm_eval_files.find_results(folder):
        return items, rows
    facts = lm_eval_results.facts(folder)
    return [msgspec.structs.replace(i, source=_source(i.task.partition("[")[0], facts)) for i in items], rows


def _source(task: str, facts: dict[str, Any]) -> str:
    """The harness and the task in words: prompts, filters and metrics come with their versions."""
    parts = [f"lm-eval {facts['lm_eval_version'] or '(version not told)'}", task]
    if (version := facts["task_versions"].get(task)) is not None:
        parts[1] += f" version {version}"
    if (shots := facts["num_fewshot"].get(task)) is not None:
        parts.append(f"{shots} examples before the question")
    return ", ".join(parts)


async def _tokenizer(suite: QualitySuite, server: Server) -> str | None:
    """The server's own tokenizer where it shows it (vLLM with --enable-tokenizer-info-endpoint); else none.

    Tasks that generate need none; those that compare likelihoods do, and llama.cpp's server has nothing to offer them.
    """
    if suite.api == "chat":
        return None
    timeout = aiohttp.ClientTimeout(total=_LOOK_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{server.base_url}/tokenizer_info") as response,
        ):
            return "" if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _folder(suite: QualitySuite, variant: str, number: int) -> Path:
    folder = Path(suite.file).expanduser() / (variant if number == 1 else f"{variant}-again")
    if not folder.is_dir():
        raise QuantcaseError(f"{variant}: no lm-eval results in {folder.name}", fix="a folder for every variant")
    return folder


def check(suite: QualitySuite, study: Study) -> None:
    """Whether the harness, or a folder of its results for every variant, is there.

    Raises:
        QuantcaseError: it is not.
    """
    if suite.file:
        for variant in study.variants:
            if variant.name != study.control:
                _folder(suite, variant.name, 1)
        _folder(suite, study.baseline, 2)
    elif shutil.which(_executable()[0]) is None:
        raise QuantcaseError(f"suite {suite.title}: lm_eval is not installed", fix="pip install 'lm-eval[api]'")


def _executable() -> list[str]:
    """`lm_eval` beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("lm_eval")
    return [str(beside)] if beside.is_file() else [shutil.which("lm_eval") or "lm_eval"]
