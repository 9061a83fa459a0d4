"""How likely a server finds fixed texts: prompt log-probabilities, teacher-forced, by vLLM's completions API.

Texts go as token ids, spelled once by the first server's tokenizer, so that every variant reads the same tokens; a
variant whose own tokenizer spells a text otherwise is told so and not scored. Windows are short and few go at a time,
because an engine holds the log-probabilities of a whole window over the whole vocabulary at once, outside of what it
has set aside (vllm#5907, vllm#38830).
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

from collector.bundle.answers import AnswerStatus, LikelihoodRow, QualityItem
from collector.quality.ask import Asker, Reply

__all__ = ["LEAST_LOGPROB", "MOST_WINDOW", "TOP", "item", "read", "refused", "score", "spell"]

TOP = 20  # vLLM's --max-logprobs allows no more unless it is raised
MOST_WINDOW = 512
LEAST_LOGPROB = math.log(1e-6)  # likelier tokens are kept; leaving others out keeps the bound a bound
_DECIMALS = 5


async def spell(asker: Asker, text: str, *, timeout_s: float) -> tuple[list[int] | None, str]:
    """(token ids, "") of a text, or (None, why not). vLLM and llama.cpp have /tokenize, with different bodies."""
    body = {"model": asker.model, "prompt": text, "content": text, "add_special_tokens": False, "add_special": False}
    reply = await asker.post("/tokenize", body, timeout_s=timeout_s)
    ids = reply.body.get("tokens")
    if reply.status != "ok" or not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        return None, reply.error or "its /tokenize gives no ids"
    return ids, ""


def item(suite: str, task: str, number: int, text: str, ids: list[int], window: int) -> QualityItem:
    """A text as its first `window` tokens. The hash is that of the ids: they are what is sent."""
    kept = ids[:window]
    return QualityItem(
        suite=suite,
        task=task,
        prompt_id=f"{suite}/{task}/{number}",
        prompt_sha256=hashlib.sha256(msgspec.json.encode(kept)).hexdigest(),
        api="completions",
        prompt=text,
        token_ids=kept,
        document=f"{task}/{number}",
        scorer="likelihood",
    )


async def score(asker: Asker, item: QualityItem, *, timeout_s: float) -> Reply:
    """Ask for the log-probabilities of an item's tokens; see `read` for what comes of it."""
    body: dict[str, Any] = {
        "model": asker.model, "prompt": item.token_ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": TOP,
    }  # fmt: skip
    return await asker.post("/v1/completions", body, timeout_s=timeout_s)


def refused(
    item: QualityItem, *, variant: str, start: int, repeat: int = 1, status: AnswerStatus, error: str | None
) -> LikelihoodRow:
    """The row of a text that was not scored, with the reason."""
    return LikelihoodRow(
        variant=variant, start=start, repeat=repeat, suite=item.suite, task=item.task, prompt_id=item.prompt_id,
        prompt_sha256=item.prompt_sha256, status=status, error=error,
    )  # fmt: skip


def read(reply: Reply, item: QualityItem, *, variant: str, start: int, repeat: int = 1) -> LikelihoodRow:
    """The row of one answer. `unsupported` is a server that answers without log-probabilities; the rest is an error."""
    row = refused(item, variant=variant, start=start, repeat=repeat, status=reply.status, error=reply.error)
    if reply.status != "ok":
        if reply.http_status in (400, 404, 422, 501):
            row.status = "unsupported"
        return row
    try:
        choice = reply.body["choices"][0]
        given = choice.get("prompt_logprobs", reply.body.get("prompt_logprobs"))
    except (KeyError, IndexError, TypeError, AttributeError):
        given = None
    if given is None:
        row.status, row.error = "unsupported", "the server gives no prompt log-probabilities"
        return row
    try:
        row.logprobs, row.top = _positions(given, item.token_ids or [])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        row.status, row.error = "error", f"its prompt log-probabilities cannot be read: {type(e).__name__} {e}"[:200]
    return row


def _positions(given: list[Any], ids: list[int]) -> tuple[list[float], list[list[tuple[int, float]]]]:
    """Log-probability of each token after the first, and the likeliest tokens there."""
    if len(given) != len(ids):
        raise ValueError(f"{len(given)} positions for {len(ids)} tokens")
    logprobs, tops = [], []
    for token, position in zip(ids[1:], given[1:], strict=True):
        logprobs.append(_finite(position[str(token)]["logprob"]))
        ranked = sorted((int(entry["rank"]), int(t), _finite(entry["logprob"])) for t, entry in position.items())
        kept = [(t, lp) for rank, t, lp in ranked if rank <= TOP and (lp >= LEAST_LOGPROB or rank == 1)]
        tops.append(kept)
    return logprobs, tops


def _finite(value: float) -> float:
    """vLLM writes -9999 for minus infinity."""
    number = float(value)
    if math.isnan(number) or number > 1e-3:
        raise ValueError(f"{number} is no log-probability")
    return round(min(0.0, max(number, -9999.0)), _DECIMALS)
