"""What is asked: one item is one prompt with what is right about it, the same bytes for every variant."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import msgspec

from collector.bundle.answers import QualityItem

__all__ = ["as_completion", "item", "read_object", "seeded"]


def item(
    suite: str,
    task: str,
    number: int | str,
    prompt: str | list[dict[str, str]],
    *,
    reference: str | None = None,
    scorer: str = "",
    output_tokens: int,
    document: str = "",
    length_tokens: int | None = None,
) -> QualityItem:
    """An item. A prompt is one user's turn, or a conversation as messages; its hash is that of all of it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    text = prompt if isinstance(prompt, str) else None
    digest = hashlib.sha256(msgspec.json.encode(["chat", messages])).hexdigest()
    return QualityItem(
        suite=suite,
        task=task,
        prompt_id=f"{suite}/{task}/{number}",
        prompt_sha256=digest,
        prompt=text,
        messages=None if isinstance(prompt, str) else messages,
        reference=reference,
        scorer=scorer,
        output_tokens=output_tokens,
        document=document or None,
        length_tokens=length_tokens,
    )


def read_object(line: str, number: int) -> dict[str, Any]:
    """Line `number` of a person's JSONL file.

    Raises:
        ValueError: it is no JSON object, or not one that could be sent; says which line.
    """
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"line {number}: {e}") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no object")
    return row


def as_completion(asked: QualityItem) -> QualityItem:
    """The item for a base model: a text that ends where the answer begins."""
    turns = asked.messages or [{"role": "", "content": asked.prompt or ""}]
    text = "\n".join(f"{m['role']}: {m['content']}" if len(turns) > 1 else str(m["content"]) for m in turns)
    text += "\nAnswer:"
    digest = hashlib.sha256(msgspec.json.encode(["completions", text])).hexdigest()
    return msgspec.structs.replace(asked, api="completions", prompt=text, messages=None, prompt_sha256=digest)


def seeded(*parts: object) -> random.Random:
    """A generator of its own for every item: leaving one out changes no other."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311 - test data
