"""Answers held to the names of labels: which field of a request an engine honours, tried before anything is asked.

A server that does not know a field mostly ignores it, so that "no error" says nothing: what counts is an answer that no
model would give by itself. How a suite is asked is settled once, on the first server (the baseline's, which starts
first), and stands in every item; all variants are asked that way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from collector.bundle.answers import QualityItem
from collector.bundle.answers_write import ITEMS, read_lines
from collector.quality.ask import Asker, Reply

__all__ = ["FIELDS", "as_written", "broken", "fields", "gbnf", "settle", "told"]

# vLLM from 0.10.2 on (docs.vllm.ai, features/structured_outputs); vLLM until 0.11, removed in 0.12; llama.cpp's server.
FIELDS = ("structured_outputs", "guided_choice", "grammar")
_MARK = "zq "  # before each label in the trial: an answer that begins so was not the model's own idea
_TRIAL = {"chat": "What is the capital of France?", "completions": "The capital of France is"}
_SHOWN = 40


async def settle(
    asker: Asker,
    items: list[QualityItem],
    labels: list[str],
    *,
    answers: Literal["constrained", "free"],
    timeout_s: float,
) -> list[QualityItem]:
    """The items of a labels suite with how they are asked: held to `labels` by the first field that the server honours,
    or free.

    Free has a reason (`free_because`) where the study wanted otherwise. `output_tokens` of a constrained item holds the
    longest label even where every byte is a token: the answer ends by itself.
    """
    if not items or answers == "free":
        return [msgspec.structs.replace(i, answers="free") for i in items]
    api = items[0].api
    lead = " " if api == "completions" else ""  # a text for a base model ends in "Answer:", and a word follows a blank
    choices = [lead + label for label in labels]
    most = max(items[0].output_tokens, max(len(c.encode()) for c in choices) + 8)
    refusals = []
    for name in FIELDS:
        trial = [f"{lead}{_MARK}{c.strip()}" for c in choices]
        reply = await asker.answer(
            api, _TRIAL[api], most + len(_MARK), timeout_s=timeout_s, more=_request(name, trial)
        )  # fmt: skip
        why = _why_not(reply, trial)
        if not why:
            how = {"answers": "constrained", "constraint": name, "choices": choices, "output_tokens": most}
            return [msgspec.structs.replace(i, **how) for i in items]
        refusals.append(f"{name}: {why}")
    return [msgspec.structs.replace(i, answers="free", free_because="; ".join(refusals)) for i in items]


def fields(item: QualityItem) -> dict[str, Any]:
    """What the request of an item holds beside its prompt; nothing for one that is asked freely."""
    if item.answers == "constrained":
        return _request(item.constraint, item.choices or [])
    return {}


def broken(item: QualityItem, reply: Reply) -> str:
    """Why an answer cannot have been constrained although its item is; empty where it can. Cut answers can."""
    if item.answers != "constrained" or reply.finish_reason == "length":
        return ""
    if reply.text.strip() in {c.strip() for c in item.choices or []}:
        return ""
    return f"the server did not hold its answer to the labels ({item.constraint}): {_short(reply.text)}"


def as_written(folder: Path, items: list[QualityItem]) -> list[QualityItem]:
    """Those items with all that the bundle's file says of them, as a resumed run needs it."""
    written = {i.prompt_id: i for i in read_lines(folder / ITEMS, QualityItem, folder.name)}
    return [written[i.prompt_id] for i in items]


def told(items: list[QualityItem]) -> str:
    """One line for the person who waits: how the items are asked. Empty for items that do not say."""
    first = items[0] if items else None
    if first is None or not first.answers:
        return ""
    if first.answers == "constrained":
        return f"answers are held to {len(first.choices or [])} labels by the field {first.constraint}"
    if first.free_because:
        return f"answers are free, the engine holds none to labels ({first.free_because})"
    return "answers are free, as the study asks"


def gbnf(choices: list[str]) -> str:
    """llama.cpp's grammar for exactly one of `choices`. Whatever is no plain ASCII goes as its code point."""
    return "root ::= " + " | ".join(f'"{"".join(map(_character, c))}"' for c in choices)


def _character(c: str) -> str:
    return c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08X}"


def _request(name: str, choices: list[str]) -> dict[str, Any]:
    if name == "structured_outputs":
        return {name: {"choice": choices}}
    if name == "guided_choice":
        return {name: choices}
    if name == "grammar":
        return {name: gbnf(choices)}
    raise KeyError(name)


def _why_not(reply: Reply, choices: list[str]) -> str:
    """Why a trial does not show that the field is honoured; empty where it does."""
    if reply.status != "ok":
        return reply.error or reply.status
    if reply.text.strip() in {c.strip() for c in choices}:
        return ""
    if not reply.text.strip():
        return "no answer" + (" within the tokens of a label" if reply.finish_reason == "length" else "")
    return f"ignored, it answered {_short(reply.text)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}...")
