"""The best balance of one workload: the score with its weights, and the data with which they are turned on the page.

What stands here is whole without JavaScript. `assets/balance.js` reads the block's data attribute, puts sliders before
the table, and works the same figures out again for other weights; its sentences are those of this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from quantcase.analysis.experiments import QUALITY, SWING, Balance, Row, Score
from quantcase.html import Column, table
from quantcase.text import fixed, number, plain, span, text

__all__ = ["at", "block", "named"]

_PARTS = {"throughput": "throughput", "tpot": "1 / TPOT", "kv": "KV capacity", "cost": "1 / cost of a request"}
_MOST_NAMED = 4  # more are counted, not named
_STAYS = "The first place stays when any one weight is moved by half either way."


def at(row: Row) -> str:
    """A configuration in words, as safe text."""
    return text(_plain(row))


def _plain(row: Row) -> str:
    return f"{row.variant} at {row.load.words}"


def named(rows: Sequence[Row]) -> str:
    """The first few configurations by name, the others by their number, as safe text."""
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return ", ".join(at(r) for r in rows[:_MOST_NAMED]) + more


def block(workload: str, b: Balance | None, configurations: int) -> str:
    """The score of one workload as one block of HTML; a sentence where there is none.

    `configurations`: how many take part, of which the front is chosen.
    """
    name = f"<strong>{text(workload)}</strong>"
    if b is None:
        return f"<p>{name}: no score: it needs a P95 E2E of some configuration, and the baseline as the reference.</p>"
    top = b.scores[0]
    tie = f" No winner over {named([s.row for s in b.tied])}: the intervals of S meet." if b.tied else ""
    moved = ", ".join(_PARTS[k] for k in b.unstable)
    sure = f"The first place changes when the weight of {moved} is moved by half." if b.unstable else _STAYS
    weights = ", ".join(f"{_PARTS[k]} {fixed(b.weights.get(k, 0.0), 2)}" for k in b.asked)
    first = f"{at(top.row)}, S = {span(top.value, top.low, top.high)}"
    words = (
        f"<p>{name}: {_part('first', first)}. Reasoning: {len(b.scores)} of {configurations} configurations are on "
        f"the Pareto front (no other is at least as good in {', '.join(b.dimensions)} and better in one), and of these "
        f"it has the highest S.{_part('tie', tie)} {_part('sure', sure)}</p>"
        f"<p>Weights ({b.kind}): {_part('weights', weights)}.</p>"
    )
    data = text(json.dumps(_data(workload, b), allow_nan=False))
    return f'<div class="qc-balance" data-balance="{data}">{words}{_table(workload, b)}</div>'


def _part(name: str, words: str) -> str:
    """Words that the script replaces."""
    return f'<span data-part="{name}">{words}</span>'


def _table(workload: str, b: Balance) -> str:
    body = [
        [at(s.row), span(s.value, s.low, s.high), *(fixed(s.ratios[k], 3) for k in b.asked), plain(s.quality),
         number(s.row.n)]
        for s in b.scores
    ]  # fmt: skip
    names = ["Configuration", "S", *(_PARTS[k] for k in b.asked), "g", "n"]
    caption = (
        f"Ratios to {at(b.reference)}. S = g times the product of ratio to the power of weight. g: 1 for quality that "
        f"passes (and the baseline), {plain(QUALITY['caution'])} for caution or not measured."
    )
    return table(f"balance-{text(workload)}", [Column(n, i > 0) for i, n in enumerate(names)], body, caption)


def _data(workload: str, b: Balance) -> dict[str, object]:
    """What the script needs, in the order of the table's rows; weights in percent, as its sliders have them."""
    return {
        "workload": workload,
        "parts": [{"key": k, "name": _PARTS[k], "weight": round(100 * w)} for k, w in b.asked.items()],
        "rows": [_row(s, list(b.asked)) for s in b.scores],
        "most": _MOST_NAMED,
        "swing": SWING,
        "stays": _STAYS,
    }


def _row(s: Score, parts: Sequence[str]) -> dict[str, object]:
    halves = [None if math.isnan(s.halves[k]) else s.halves[k] for k in parts]
    return {"name": _plain(s.row), "quality": s.quality, "ratios": [s.ratios[k] for k in parts], "halves": halves}
