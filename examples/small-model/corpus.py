"""The training text: the same kinds of items that Quantcase asks, drawn with other seeds, and plain documents.

Everything comes from a seed, so the corpus is the same wherever it is made. The items that the ready studies ask (seed
1) are left out by their prompts.
"""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from importlib import resources

import numpy as np
from lessons import ANSWERS, WAYS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from collector.engines.tiny_gguf import SPECIALS, vocabulary
from collector.quality import exact, intents, labels, long_context, texts

START, END = "<|im_start|>", "<|im_end|>"
_PIECE = 2000  # documents that one task makes


def tokenizer() -> Tokenizer:
    """The byte-level BPE of the embedded model, as Hugging Face's library runs it."""
    tokens, merges = vocabulary()
    made = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges])
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    return made


def chat(messages: list[dict[str, str]]) -> str:
    """A conversation in the model's own template."""
    return "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)


def _asked() -> frozenset[str]:
    return frozenset(i.prompt or "" for i in exact.items("exact", 1000, 1))


def _one(r: random.Random, most_words: int, prompts: list[str], label_set: list[str]) -> tuple[str, str]:
    """(prompt, text) of one document of the corpus."""
    kind = r.random()
    if kind < 0.62:
        prompt, answer, _, _ = exact.TASKS[r.choice(list(exact.TASKS))](r)
    elif kind < 0.70:
        text, answer = _intent(r)
        prompt = labels.prompt(text, label_set)
    elif kind < 0.74:
        prompt, answer = long_context.needle(r, r.randint(10, most_words))
    elif kind < 0.76:
        messages, answer = long_context.conversation(r, r.randint(5, most_words))
        return "", chat([*messages, {"role": "assistant", "content": answer}])
    elif kind < 0.80:
        n = r.randrange(len(ANSWERS))
        prompt, answer = r.choice(WAYS).format(prompts[n]), ANSWERS[n]
    else:
        return "", texts.document(r.choice(texts.DOMAINS), r.randint(1 << 20, 1 << 50), 0, r.randint(4, 20))
    return prompt, chat([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}])


def _intent(r: random.Random) -> tuple[str, str]:
    label = r.choice(sorted(intents.INTENTS))
    sentence = r.choice(intents.INTENTS[label]).format(
        n=r.randint(1000, 9999), k=r.randint(2, 9), thing=r.choice(exact.THINGS), thing2=r.choice(exact.THINGS),
        place=r.choice(exact.PLACES), colour=r.choice(exact.COLOURS), name=r.choice(exact.NAMES),
    )  # fmt: skip
    return sentence, label


def _piece(seed: int, number: int, most_words: int) -> bytes:
    """Tokens of `_PIECE` documents, an end token after each, as little-endian uint16."""
    lines = (resources.files("collector.quality") / "suites/sanity.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    r = random.Random(f"corpus/{seed}/{number}")  # noqa: S311 - training text
    asked, label_set = _asked(), sorted(intents.INTENTS)
    made = []
    while len(made) < _PIECE:
        prompt, text = _one(r, most_words, prompts, label_set)
        if prompt not in asked or not prompt:
            made.append(text)
    encode = tokenizer().encode_batch
    ids = [i for e in encode(made, add_special_tokens=False) for i in [*e.ids, 0]]
    return np.asarray(ids, "<u2").tobytes()


def tokens(count: int, seed: int, most_words: int) -> np.ndarray:
    """At least `count` training tokens, the same for the same seed whatever the number of cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pieces: list[np.ndarray] = []
    number = 0
    with ProcessPoolExecutor() as pool:
        while sum(map(len, pieces)) < count:
            batch = range(number, number + 32)
            made = pool.map(_piece, [seed] * len(batch), batch, [most_words] * len(batch))
            pieces += [np.frombuffer(m, "<u2") for m in made]
            number += len(batch)
    return np.concatenate(pieces)[:count]
