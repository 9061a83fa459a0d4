"""The quality files of a bundle: what was asked (`quality_items.jsonl`), what was answered (`quality.jsonl`), how
likely each variant found fixed texts (`likelihood.jsonl.gz`), and what a person thinks (`marks.csv`).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = ["AnswerStatus", "LikelihoodRow", "Mark", "QualityItem", "QualityRow"]

AnswerStatus = Literal["ok", "error", "timeout", "refused", "unsupported"]


class QualityItem(Struct, kw_only=True, omit_defaults=True):
    """quality_items.jsonl: one prompt of a suite, the same for every variant and server start."""

    suite: str
    task: str
    prompt_id: str
    prompt_sha256: str
    api: Literal["chat", "completions"] = "chat"
    prompt: str | None = None  # one user's turn
    messages: list[dict[str, Any]] | None = None  # a conversation
    token_ids: list[int] | None = None  # likelihood: the text as the baseline's tokenizer spells it
    reference: str | None = None
    scorer: str = ""
    output_tokens: int = 0  # the most that an answer may hold
    document: str | None = None  # items of one document are resampled together; empty: each is its own
    length_tokens: int | None = None  # long-context: how long the prompt was meant to be
    answers: Literal["", "constrained", "free"] = ""  # labels: how it was asked; empty in older bundles: freely
    constraint: str = ""  # constrained: the field of the request that holds the answer to `choices`
    choices: list[str] | None = None
    free_because: str = ""  # free although the study wants constrained answers: what the engine said to each field
    source: str = ""  # where the text comes from: a hub's data set with its revision, or the harness and its task


class _Answer(Struct, kw_only=True, omit_defaults=True):
    """What every row of an answer says: who answered what, in which pass, and how that went."""

    variant: str
    start: int
    suite: str
    task: str
    prompt_id: str
    prompt_sha256: str
    status: AnswerStatus = "ok"
    repeat: int = 1  # the pass: the baseline has two, over two server starts
    error: str | None = None


class QualityRow(_Answer, kw_only=True, omit_defaults=True):
    """quality.jsonl: one answer of one server start to one item. What failed is a row, too."""

    prompt: str | None = None  # of imported answers, whose items are not ours
    reference: str | None = None
    output: str | None = None
    parsed: str | None = None
    score: float | None = None  # None where nothing was scored: an unscored item, or one that failed
    problem: str = ""  # empty, repeated, invalid, cut: what is wrong with the answer's form
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens: list[str] | None = None  # the answer token by token, where the engine gives it
    top: list[list[str]] | None = None  # the five likeliest tokens at each position


class LikelihoodRow(_Answer, kw_only=True, omit_defaults=True):
    """likelihood.jsonl.gz: how likely one server start found one text, teacher-forced.

    Position i speaks of token i + 1: the first token has nothing before it and is not scored.
    """

    logprobs: list[float] = []  # nats, of the token that stands there
    top: list[list[tuple[int, float]]] = []  # (token id, nats), likeliest first; what is under 1e-6 is left out


class Mark(Struct, kw_only=True):
    """marks.csv: what a person says of an answer."""

    variant: str
    prompt_id: str
    mark: Literal["good", "minor", "bad"]
    remark: str = ""
