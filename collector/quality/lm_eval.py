"""EleutherAI's lm-evaluation-harness as a suite: its command line, and its run as a process of its own.

It is never imported: it brings hundreds of megabytes along. `lm_eval_results` reads what it leaves. Tried with lm-eval
0.4.13.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from collector.engines.process import EngineProcess
from collector.errors import QuantcaseError
from collector.probes.redact import redact

__all__ = ["command", "run"]

_INSTALL = "pip install 'lm-eval[api]'"
_PROGRESS = re.compile(r"\d+%\||\b(?:it|s|examples)/(?:it|s)\b")
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Exceeded)(?::|$)")
_FIXES = (  # what the last words say, and what helps
    (re.compile(r"No module named '?transformers"), "pip install transformers: it holds the tokenizer"),
    (re.compile(r"No module named|required packages"), _INSTALL),
    (
        re.compile(r"(?i)huggingface\.co|offline ?mode|LocalEntryNotFound|\bhub\b"),
        "the tasks' data and the tokenizer come from the Hugging Face hub: fetch them first, or name local ones",
    ),
    (re.compile(r"(?i)cannot connect|connection refused"), "is the engine up, and is base_url its address?"),
    (re.compile(r"(?i)tasks? (?:were )?not found|tasks? missing"), "see `lm_eval ls tasks`"),
    (
        re.compile(r"(?i)tokenizer_info"),
        "name the tokenizer, or start the engine with --enable-tokenizer-info-endpoint",
    ),
    (
        re.compile(r"Tokenizer is required for loglikelihood"),
        "tasks that compare likelihoods need a server that shows its tokenizer: vLLM with "
        "--enable-tokenizer-info-endpoint; llama.cpp's has none",
    ),
    (re.compile(r"Loglikelihood is not supported"), "ask tasks of that kind through the completions API"),
)


def command(
    executable: list[str],
    *,
    base_url: str,
    model: str,
    api: Literal["chat", "completions"],
    tasks: list[str],
    output: Path,
    limit: int | None,
    concurrency: int,
    tokenizer: str | None,
    context_tokens: int,
    seed: int,
    extra: list[str],
) -> list[str]:
    """The command line that asks one server all `tasks`.

    An API key belongs into the environment (OPENAI_API_KEY): lm-eval writes its model arguments into its log and files.

    Args:
        executable: how lm_eval is called, as words: `["lm_eval"]` or `["python", "-m", "lm_eval"]`.
        base_url: the server, without `/v1/...`.
        model: the name that the server knows.
        api: `chat` sends messages and cannot run tasks that compare likelihoods; `completions` can.
        tasks: names as lm-eval knows them.
        output: the folder for its files; a name that ends in `.json` would be taken for a file.
        limit: at most so many documents of each task.
        concurrency: requests at a time.
        tokenizer: a Hugging Face name or a folder, for `completions`; empty: the server's own (`/tokenizer_info`);
            None: none, which is enough for answers and not for likelihoods. Chat needs none.
        context_tokens: what the server's context holds. lm-eval takes 2,048 unless told, and cuts prompts at the left.
        seed: of lm-eval's own choices and of each request.
        extra: more words, such as `--num_fewshot 5`; they stand last, so they win.

    Raises:
        QuantcaseError: no task is named.
    """
    if not tasks:
        raise QuantcaseError("lm_eval has no task to run", fix="name at least one; see `lm_eval ls tasks`")
    chat = api == "chat"
    arguments: dict[str, str | int] = {
        "model": model,
        "base_url": base_url.rstrip("/").removesuffix("/v1") + ("/v1/chat/completions" if chat else "/v1/completions"),
        "num_concurrent": concurrency,
        "max_length": context_tokens,
        "seed": seed,
    }
    if not chat and tokenizer:  # the default of the backend, "auto", would ask the server although a name is given
        arguments |= {"tokenizer": tokenizer, "tokenizer_backend": "huggingface"}
    elif not chat:
        arguments["tokenizer_backend"] = "none" if tokenizer is None else "remote"
    argv = [
        *executable,
        "--model",
        "local-chat-completions" if chat else "local-completions",
        "--model_args",
        json.dumps(arguments),  # key=value would split names at commas and take a name of digits for a number
        "--tasks",
        ",".join(tasks),
        *(["--apply_chat_template"] if chat else []),
        "--batch_size",
        "1",
        "--seed",
        str(seed),
    ]
    if limit is not None:
        argv += ["--limit", str(limit)]
    return [*argv, "--log_samples", "--output_path", str(output), *extra]


class _Process(EngineProcess):
    def exit_code(self) -> int | None:
        return self._process.poll()


async def run(argv: list[str], *, env: Mapping[str, str], timeout_s: float, log_path: Path) -> None:
    """Run lm_eval to its end; what it prints goes to `log_path`. Whatever happens, nothing of it is left running.

    Args:
        argv: see `command`.
        env: added to our own environment.
        timeout_s: seconds for all of it.
        log_path: overwritten. lm-eval prints its model arguments, so take secrets out before it goes anywhere.

    Raises:
        QuantcaseError: it is not installed, ended with an error, or was not done in time.
    """
    path = env.get("PATH", os.environ.get("PATH"))
    if shutil.which(argv[0], path=path) is None:
        raise QuantcaseError(f"{argv[0]} is not installed or not on PATH", fix=_INSTALL)
    try:
        process = _Process(argv, env=env, log_path=log_path)
    except QuantcaseError as e:  # its fix speaks of engines
        raise QuantcaseError(e.problem, fix=_INSTALL) from None
    deadline = time.monotonic() + timeout_s
    try:
        while (code := process.exit_code()) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)
    finally:
        await process.stop(10)
    if code == 0:
        return
    words = _last_words(process.log_tail(200))
    if code is None:
        problem, fix = (
            f"{Path(argv[0]).name} was not done after {timeout_s:g} s",
            "allow more time, or ask fewer documents",
        )
    else:
        ending = f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        problem = f"{Path(argv[0]).name} {ending}"
        fix = next((fix for pattern, fix in _FIXES if pattern.search(words)), "")
    see = f"its log is {log_path}"
    raise QuantcaseError(f"{problem}: {words}" if words else problem, fix=f"{fix}; {see}" if fix else see)


def _last_words(lines: list[str]) -> str:
    """The last line that says something: the exception if there is one, and no progress bar."""
    said = [line.strip() for line in lines if not _PROGRESS.search(line) and re.search(r"\w", line)]
    raised = [line for line in said if _RAISED.match(line)]
    return redact((raised or said or [""])[-1])
