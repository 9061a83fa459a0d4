"""Needles in long prompts, and facts that must survive a conversation: what a quantized KV cache breaks first."""

from __future__ import annotations

import random

from collector.bundle.answers import QualityItem
from collector.quality.exact import COLOURS, NAMES, PLACES, THINGS
from collector.quality.items import item, seeded
from collector.quality.texts import prose_sentence

__all__ = ["TOKENS_PER_WORD", "conversation", "items", "lengths", "needle"]

_USUAL = (4096, 8192, 16384, 32768, 65536, 131072)
_ROOM_TOKENS = 64  # question, template and answer
TOKENS_PER_WORD = 2.0  # where the server does not say: rather high, because prompts must fit
_MARGIN = 0.9  # a prompt may be that much of the length asked for: words differ


def lengths(context_tokens: int) -> list[int]:
    """The prompt lengths to try: 4k, 8k, 16k, ... and all that one request may hold; short contexts in quarters."""
    fit = [n for n in _USUAL if n <= context_tokens]
    if context_tokens not in fit:
        fit.append(context_tokens)
    return fit if len(fit) > 1 else [context_tokens // 4, context_tokens // 2, context_tokens]


def needle(r: random.Random, words: int) -> tuple[str, str]:
    """(prompt, answer): one fact at a random place among about `words` words of prose."""
    name, code = r.choice(NAMES), str(r.randint(1000, 9999))
    fact = f"The secret number of {name} is {code}."
    sentences: list[str] = []
    held = 0
    while held + len((next_one := prose_sentence(r)).split()) <= words:
        sentences.append(next_one)
        held += len(next_one.split())
    sentences.insert(r.randint(0, len(sentences)), fact)
    text = " ".join(sentences)
    return f"{text}\nWhat is the secret number of {name}? Reply with the number only.", code


def conversation(r: random.Random, words: int) -> tuple[list[dict[str, str]], str]:
    """(messages, answer): a fact in the first of three turns, asked for in the last; the turns between are the same
    for every variant.
    """
    name, place, thing, colour = r.choice(NAMES), r.choice(PLACES), r.choice(THINGS), r.choice(COLOURS)
    said: list[str] = []
    held = 0
    while held + len((next_one := prose_sentence(r)).split()) <= words:
        said.append(next_one)
        held += len(next_one.split())
    kind = r.randrange(2)
    ask, right = (("Which city do I live in?", place), ("What colour is my " + thing + "?", colour))[kind]
    return [
        {"role": "user", "content": f"My name is {name}, I live in {place} and I have a {colour} {thing}."},
        {"role": "assistant", "content": f"Hello {name}."},
        {"role": "user", "content": f"Read this: {' '.join(said)}"},
        {"role": "assistant", "content": "I have read it."},
        {"role": "user", "content": f"{ask} Reply with one word."},
    ], right


def items(
    suite: str,
    per_length: int,
    seed: int,
    wanted: list[int],
    context_tokens: int,
    tokens_per_word: float = TOKENS_PER_WORD,
) -> list[QualityItem]:
    """`per_length` needles and a fifth as many conversations for every length that one request may hold.

    Lengths count prompt and answer, so a prompt of length 4096 fits a context of 4096.
    """
    made = []
    for length in wanted or lengths(context_tokens):
        if length > context_tokens:
            continue
        words = max(16, int((_MARGIN * length - _ROOM_TOKENS) / tokens_per_word))
        for n in range(per_length):
            text, right = needle(seeded("needle", seed, length, n), words)
            made.append(
                item(suite, f"needle-{length}", n, text, reference=right, scorer="number", output_tokens=16,
                     length_tokens=length)
            )  # fmt: skip
        for n in range(max(1, per_length // 5)):
            messages, right = conversation(seeded("turns", seed, length, n), max(12, words - 75))
            made.append(
                item(suite, f"turns-{length}", n, messages, reference=right, scorer="contains", output_tokens=16,
                     length_tokens=length)
            )  # fmt: skip
    return made
