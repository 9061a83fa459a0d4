"""EleutherAI's lm-evaluation-harness as a suite: run beside the server, or read from a folder of its results."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from collector.bundle.answers import QualityItem, QualityRow
from collector.engines.base import Server
from collector.errors import QuantcaseError
from collector.quality import lm_eval, lm_eval_results
from collector.study import QualitySuite, Study

__all__ = ["answers", "check"]

_TIMEOUT_S = 4 * 3600.0


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
        folder = _folder(suite, variant, number)
        return _numbered(*lm_eval_results.read(folder, variant=variant, start=start, suite=suite.title), number)
    with tempfile.TemporaryDirectory(prefix="quantcase-lm-eval-") as work:
        out = Path(work) / "out"
        argv = lm_eval.command(
            _executable(), base_url=server.base_url, model=server.model, api=suite.api, tasks=suite.tasks, output=out,
            limit=suite.items, concurrency=suite.concurrency, tokenizer="", context_tokens=study.context_tokens,
            seed=study.seed, extra=suite.args,
        )  # fmt: skip
        say(f"{variant} quality {suite.title}: lm-eval runs {', '.join(suite.tasks)}")
        env = {"OPENAI_API_KEY": api_key or "none"}
        await lm_eval.run(argv, env=env, timeout_s=_TIMEOUT_S, log_path=Path(work) / "lm-eval.log")
        return _numbered(*lm_eval_results.read(out, variant=variant, start=start, suite=suite.title), number)


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


def _numbered(
    items: list[QualityItem], rows: list[QualityRow], number: int
) -> tuple[list[QualityItem], list[QualityRow]]:
    for row in rows:
        row.repeat = number
    return items, rows


def _executable() -> list[str]:
    """`lm_eval` beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("lm_eval")
    return [str(beside)] if beside.is_file() else [shutil.which("lm_eval") or "lm_eval"]
