"""The answers of the golden bundle that was judged, drawn from a seed."""

from __future__ import annotations

import hashlib
import math
import random

from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.door import CleanAnswers

__all__ = ["write"]

PASSES = (("bf16", 1), ("bf16", 2), ("fp8", 1))  # variant, pass: the n-th pass is made in the n-th server start
_LABELS = ("card_lost", "refund", "exchange_rate")
_TOKENS = 24


def _sha(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()


def _items() -> list[QualityItem]:
    sums = [
        QualityItem(
            suite="exact", task="arithmetic", prompt_id=f"exact/arithmetic/{i}", prompt_sha256=_sha(words),
            prompt=words, reference=str(17 + 3 * i), scorer="number", output_tokens=8,
        )
        for i in range(8) if (words := f"What is {17 + i} + {2 * i}? Answer with the number.")
    ]  # fmt: skip
    intents = [
        QualityItem(
            suite="labels", task="labels", prompt_id=f"labels/{i}", prompt_sha256=_sha(words), prompt=words,
            reference=_LABELS[i % 3], scorer="label", output_tokens=8, answers="constrained",
            constraint="structured_outputs", choices=list(_LABELS), source="intents.csv",
        )
        for i in range(4) if (words := f"Message {i}, about {_LABELS[i % 3]}. Which of the labels?")
    ]  # fmt: skip
    texts = [
        QualityItem(
            suite="likelihood", task="prose", prompt_id=f"likelihood/prose/{i}", prompt_sha256=_sha(f"text {i}"),
            api="completions", token_ids=[100 * i + j for j in range(_TOKENS + 1)], document=f"book-{i // 2}",
        )
        for i in range(6)
    ]  # fmt: skip
    return [*sums, *intents, *texts]


def _top(token: int, logprob: float) -> list[tuple[int, float]]:
    """The token that stands there and another that takes 60 % of the rest, likeliest first."""
    rest = round(math.log(0.6 * (1 - math.exp(logprob)) + 1e-9), 5)
    return sorted([(token, logprob), (7, rest)], key=lambda pair: -pair[1])


def write(store: CleanAnswers, rng: random.Random) -> str:
    """Settle the items, answer each in every pass, and return the text of marks.csv."""
    items = _items()
    for suite in ("exact", "labels", "likelihood"):
        store.add_items(suite, [i for i in items if i.suite == suite])
    logprobs = {i.prompt_id: [round(-0.001 - rng.expovariate(1.5), 5) for _ in range(_TOKENS)] for i in items}
    for variant, number in PASSES:
        for n, item in enumerate(items):
            if item.suite == "likelihood":
                shift = 0.02 if variant == "fp8" else 0.0
                own = [round(x - shift, 5) for x in logprobs[item.prompt_id]]
                store.add_likelihood(
                    LikelihoodRow(
                        variant=variant,
                        start=number,
                        repeat=number,
                        suite=item.suite,
                        task=item.task,
                        prompt_id=item.prompt_id,
                        prompt_sha256=item.prompt_sha256,
                        logprobs=own,
                        top=[_top(token, x) for token, x in zip((item.token_ids or [])[1:], own, strict=True)],
                    )
                )
                continue
            row = QualityRow(
                variant=variant, start=number, repeat=number, suite=item.suite, task=item.task,
                prompt_id=item.prompt_id, prompt_sha256=item.prompt_sha256, input_tokens=20, output_tokens=2,
            )  # fmt: skip
            if variant == "fp8" and n == 5:
                row.status, row.error = "timeout", "timeout after 300 s"
            else:
                wrong = n % 6 == 0 or (variant == "fp8" and n % 7 == 3)
                other = "refund" if item.suite == "labels" and item.reference != "refund" else "0"
                row.output = row.parsed = other if wrong else item.reference
                row.score, row.finish_reason = float(not wrong), "stop"
                row.tokens = [row.output or "", "<eos>"]
                row.top = [[row.output or "", "no", "yes", "1", "2"], ["<eos>", ".", ",", "!", "?"]]
            store.add(row)
    return (
        "variant,prompt_id,mark,remark\n"
        "fp8,exact/arithmetic/3,bad,plainly wrong\nfp8,labels/1,good,\nbf16,exact/arithmetic/0,minor,off by a little\n"
    )
