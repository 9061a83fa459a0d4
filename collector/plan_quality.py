"""What a study's quality suites will ask, as far as that is known without a server: how many questions, how long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.bundle.answers import QualityItem
from collector.errors import QuantcaseError
from collector.quality import labels, likelihood, long_context, suites
from collector.quality.ask import Asker
from collector.quality.items import read_object
from collector.study import QualitySuite, Study

__all__ = ["Asked", "asked"]

_CHARS_PER_TOKEN = 4  # English prose and code; for a suite whose prompts no tokenizer has counted
_USUAL = {"labels": 500, "likelihood": 64, "long-context": 50}  # collector/quality/suites.py; a test compares
_FILL = 0.9  # long-context: a prompt fills nine tenths of the length asked for
_NEEDLE_ANSWER = 16


class Asked(Struct, frozen=True, kw_only=True):
    """One suite, one pass: a length for every question. `problem` says why nothing is known."""

    suite: str
    kind: str
    concurrency: int
    input_tokens: list[int]
    output_tokens: list[int]  # the most that each answer may hold
    words: str
    problem: str = ""


def asked(study: Study) -> list[Asked]:
    """Every suite of the study. Nothing is asked of a server or a hub; files are read."""
    return [found for suite in study.quality if (found := _suite(suite, study)) is not None]


def _suite(suite: QualitySuite, study: Study) -> Asked | None:
    """None for a folder of another harness's results, which is read and not asked."""
    if suite.kind == "lm-eval":
        problem = "the harness alone knows how many questions its tasks have"
        return None if suite.file else _made(suite, [], [], "", problem)
    if suite.kind == "long-context":
        return _long_context(suite, study)
    try:
        if suite.kind == "likelihood":
            return _likelihood(suite, study)
        items = _items(suite, study)
    except QuantcaseError as e:
        return _made(suite, [], [], "", e.problem)
    words = f"{len(items):,} questions, a token taken as {_CHARS_PER_TOKEN} characters"
    if suite.dataset:
        words += "; as long as the generated ones: the data set is not fetched for a plan"
    return _made(suite, [_tokens(i) for i in items], [i.output_tokens for i in items], words)


def _made(suite: QualitySuite, inputs: list[int], outputs: list[int], words: str, problem: str = "") -> Asked:
    return Asked(
        suite=suite.title, kind=suite.kind, concurrency=suite.concurrency, input_tokens=inputs, output_tokens=outputs,
        words=words, problem=problem,
    )  # fmt: skip


def _items(suite: QualitySuite, study: Study) -> list[QualityItem]:
    """The items themselves, of suites that need no server to make theirs.

    Raises:
        UsageFault: a file of the suite is missing or wrong.
    """
    if suite.kind == "labels":
        count = suite.items or _USUAL["labels"]
        path = Path(suite.file).expanduser()
        texts = labels.from_file(path, suite.text_column, suite.label_column, count) if suite.file else None
        return labels.items(suite.title, texts if texts is not None else labels.generated(count, study.seed))
    # Never opened: these kinds ask nothing of a server.
    return asyncio.run(suites.build(suite, study, Asker("http://127.0.0.1", "plan")))


def _likelihood(suite: QualitySuite, study: Study) -> Asked:
    """Windows of texts. Generated ones fill theirs.

    Raises:
        UsageFault: the suite's file is missing or wrong.
    """
    window = min(suite.window_tokens, likelihood.MOST_WINDOW, study.context_tokens - 1)
    lengths = [window] * (suite.items or _USUAL["likelihood"])
    if suite.file:
        suites.check(msgspec.structs.replace(study, quality=[suite]))
        lines = Path(suite.file).expanduser().read_text("utf-8-sig").splitlines()
        texts = [read_object(line, n)["text"] for n, line in enumerate(lines, 1) if line.strip()]
        lengths = [min(window, max(1, len(t) // _CHARS_PER_TOKEN)) for t in texts[: len(lengths)]]
    return _made(suite, lengths, [0] * len(lengths), f"{len(lengths):,} texts of at most {window} tokens")


def _tokens(item: QualityItem) -> int:
    said = item.prompt if item.prompt is not None else " ".join(str(m.get("content")) for m in item.messages or [])
    return max(1, len(said) // _CHARS_PER_TOKEN)


def _long_context(suite: QualitySuite, study: Study) -> Asked:
    """By rule, not made: a hundred prompts of 128k tokens take longer to write than to count."""
    each = suite.items or _USUAL["long-context"]
    lengths = [n for n in suite.lengths or long_context.lengths(study.context_tokens) if n <= study.context_tokens]
    count = each + max(1, each // 5)
    inputs = [int(_FILL * length) for length in lengths for _ in range(count)]
    words = f"{count} questions at each of {', '.join(f'{n:,}' for n in lengths)} tokens"
    return _made(suite, inputs, [_NEEDLE_ANSWER] * len(inputs), words)
