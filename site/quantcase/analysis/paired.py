"""The same questions answered by the baseline and by a variant: what was lost, what was gained, and how sure that is.

Both sides answer the same items, so only the answers that changed (flips) carry information on a difference; pairing is
worth four to eight times as many items as comparing two accuracies. The formulas are those of

- exact McNemar for the p of right -> wrong against wrong -> right (McNemar 1947; the binomial form, not chi-square);
- the paired percentile bootstrap for intervals, over whole documents where several items share one;
- flips after Dutta et al. (NeurIPS 2024, arXiv 2407.09141), with the interval of Clopper and Pearson (1934);
- Holm (1979) where several tasks are read at once;
- the sample size for a paired binary outcome, and its short form, the minimum detectable effect (arXiv 2605.28873);
- Kaplan and Meier (1958) for where greedy answers part, since equal answers only say "not before their end".

Everything is a function of its arguments: the same data and seed give the same digits, in whatever order they come.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "LEVEL",
    "Paired",
    "Ratio",
    "confusion",
    "first_difference",
    "holm",
    "items_needed",
    "macro_f1",
    "mcnemar",
    "mean_ratio",
    "median_divergence",
    "paired",
    "percentile_interval",
    "resampled_sums",
]

LEVEL = 0.95
NONE = "(none)"  # how an answer without a label shows
_TAIL = (1 - LEVEL) / 2
_POWER = 0.80
_CELLS = 1 << 18  # units drawn at once: bounds the memory of a bootstrap, not its result's quality

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """0/1 outcomes of `n` items under baseline and variant. Intervals are 95 %; `_pp` is in percentage points.

    The p and the interval of the flips take items as independent; the other intervals take documents, where given. With
    a single document low_pp, high_pp, recovery_low and recovery_high are nan: it tells nothing of other documents.
    """

    n: int
    baseline_right: int
    variant_right: int
    lost: int  # n10: right -> wrong
    gained: int  # n01: wrong -> right
    p_value: float  # exact McNemar, two-sided
    difference_pp: float  # variant - baseline; negative is a loss
    low_pp: float
    high_pp: float
    recovery: float | None  # variant's accuracy / baseline's; None where the baseline got nothing right
    recovery_low: float | None
    recovery_high: float | None
    flips_share: float  # (lost + gained) / n, the discordance
    flips_low: float
    flips_high: float
    mde_pp: float  # the smallest difference that such a test finds with 80 % power


@dataclass(frozen=True)
class Ratio:
    """mean(variant) / mean(baseline) of `n` pairs and its 95 % interval; all nan where the baseline's mean is 0."""

    ratio: float
    low: float
    high: float
    n: int


def paired(
    baseline: Sequence[float],
    variant: Sequence[float],
    documents: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Paired:
    """Variant against baseline, item by item; scores are 0 or 1, entry i of each argument belongs to item i.

    `documents` names what each item is about (a passage, a conversation): items of one document are drawn together in
    the bootstrap, for they are right or wrong together. Without it each item is drawn for itself.

    A bootstrap cannot draw what was never seen: with no loss among the items its interval would say that there are
    none, and with no flip at all it would have no width. So where `lost` is 0 the lower bound is at least
    100 (1 - 0.025^(1/n)) pp below the difference, the exact 97.5 % bound on the rate of an event seen 0 times in n
    (about 3.7/n); where `gained` is 0 the upper bound is at least as far above. The interval of the recovery is widened
    by the same amount over the baseline's accuracy. The bound counts items, also where documents are given.

    The interval of the recovery leaves out draws in which the baseline got nothing right. The minimum detectable effect
    is (z.975 + z.80) sqrt(flips / n), with 3 / n for the flips where none was seen.
    """
    before, after = _binary("baseline", baseline), _binary("variant", variant)
    n = int(before.size)
    if after.size != n:
        raise ValueError(f"baseline has {n} scores, variant {after.size}: they must be of the same items")
    if documents is not None and len(documents) != n:
        raise ValueError(f"{n} scores, but {len(documents)} documents: give one a score")
    # Outcome of an item: 0 right both times, 1 lost, 2 gained, 3 wrong both times.
    outcome = np.where(before, np.where(after, 0, 1), np.where(after, 2, 3))
    both, lost, gained, _ = (int(x) for x in np.bincount(outcome, minlength=4))
    drawn = _drawn_outcomes(outcome, documents, seed, resamples)

    difference = 100 * (gained - lost) / n
    recovery = (both + gained) / (both + lost) if both + lost else None
    low, high = math.nan, math.nan
    recovery_low, recovery_high = (None, None) if recovery is None else (math.nan, math.nan)
    if drawn is not None:
        unseen = 1 - _TAIL ** (1 / n)
        low, high = percentile_interval(100 * (drawn[:, 2] - drawn[:, 1]) / drawn.sum(axis=1))
        low = min(low, difference - 100 * unseen) if lost == 0 else low
        high = max(high, difference + 100 * unseen) if gained == 0 else high
        if recovery is not None:
            some = drawn[drawn[:, 0] + drawn[:, 1] > 0]
            ratios = (some[:, 0] + some[:, 2]) / (some[:, 0] + some[:, 1])
            recovery_low, recovery_high = percentile_interval(ratios) if ratios.size else (math.nan, math.nan)
            margin = unseen * n / (both + lost)
            recovery_low = max(0.0, min(recovery_low, recovery - margin)) if lost == 0 else recovery_low
            recovery_high = max(recovery_high, recovery + margin) if gained == 0 else recovery_high

    flips = lost + gained
    flips_low, flips_high = _clopper_pearson(flips, n)
    discordance = flips / n if flips else min(1.0, 3 / n)
    return Paired(
        n=n,
        baseline_right=both + lost,
        variant_right=both + gained,
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
        difference_pp=difference,
        low_pp=low,
        high_pp=high,
        recovery=recovery,
        recovery_low=recovery_low,
        recovery_high=recovery_high,
        flips_share=flips / n,
        flips_low=flips_low,
        flips_high=flips_high,
        mde_pp=100 * (_z(1 - _TAIL) + _z(_POWER)) * math.sqrt(discordance / n),
    )


def _binary(name: str, scores: Sequence[float]) -> NDArray[np.bool_]:
    values: Array = np.asarray(scores, dtype=float)
    if values.size == 0:
        raise ValueError(f"{name} has no scores")
    if not bool(np.isin(values, (0.0, 1.0)).all()):
        raise ValueError(f"{name} has scores that are neither 0 nor 1")
    right: NDArray[np.bool_] = values == 1.0
    return right


def _drawn_outcomes(
    outcome: NDArray[np.int64], documents: Sequence[str] | None, seed: int, resamples: int
) -> Array | None:
    """(resamples, 4): how often each outcome comes up in each draw; None where there is one document only."""
    if documents is None:
        # Drawing n items of four kinds again is one multinomial draw, whatever n is.
        _check(resamples)
        shares = np.bincount(outcome, minlength=4) / outcome.size
        return np.random.default_rng(seed).multinomial(outcome.size, shares, size=resamples).astype(float)
    names, index = np.unique(np.asarray(documents, dtype=str), return_inverse=True)
    if names.size == 1:
        return None
    counts = np.zeros((names.size, 4))
    np.add.at(counts, (index, outcome), 1.0)
    return resampled_sums(counts, seed, resamples)


def _check(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: at least one is needed")


def resampled_sums(sums: Array, seed: int, resamples: int) -> Array:
    """Bootstrap of sums over units (documents): `sums` is (units, columns), the result (resamples, columns).

    Each row adds up as many units as there are, drawn with replacement. A figure that is a ratio of sums is then that
    ratio of two columns.
    """
    _check(resamples)
    units, columns = sums.shape
    if units == 0:
        raise ValueError("there are no units to draw from")
    rng = np.random.default_rng(seed)
    by_column = np.ascontiguousarray(sums.T)
    drawn: Array = np.empty((resamples, columns))
    step = max(1, _CELLS // units)
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        picks = rng.integers(0, units, size=(rows, units))
        for column in range(columns):
            drawn[at : at + rows, column] = by_column[column].take(picks).sum(axis=1)
    return drawn


def percentile_interval(drawn: Array) -> tuple[float, float]:
    """The 95 % percentile interval of a figure's bootstrap draws (1-d)."""
    low, high = np.percentile(drawn, [100 * _TAIL, 100 * (1 - _TAIL)])
    return float(low), float(high)


def _clopper_pearson(events: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share of `events` in `n`."""
    from scipy import stats  # here: it takes half a second to import, and few cases ask

    low = float(stats.beta.ppf(_TAIL, events, n - events + 1)) if events else 0.0
    high = float(stats.beta.ppf(1 - _TAIL, events + 1, n - events)) if events < n else 1.0
    return low, high


def _z(share: float) -> float:
    return float(special.ndtri(share))


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p that losses and gains are equally likely: min(1, 2 P(X <= min)), X ~ Binomial(both, 1/2)."""
    if lost < 0 or gained < 0:
        raise ValueError(f"counts of flips cannot be negative: {lost} lost, {gained} gained")
    from scipy import stats  # here: it takes half a second to import, and few cases ask

    return min(1.0, 2 * float(stats.binom.cdf(min(lost, gained), lost + gained, 0.5)))


def holm(p_values: Mapping[str, float], alpha: float = 0.05) -> dict[str, float]:
    """Holm's adjusted p of each test of a family, by name; no tests give none.

    Those below `alpha` are the ones that Holm's step-down procedure rejects at that level. The adjusted values
    themselves do not depend on it.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1")
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"the p of {name!r} is {p}: it must lie in 0..1")
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: (p_values[key], key))):
        highest = max(highest, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def items_needed(discordance: float, effect: float, alpha: float = 0.05, power: float = 0.80) -> int:
    """How many paired items find a net loss of `effect` when a share `discordance` of the answers flips.

    Both are shares (0.02 is 2 pp). n = ((z(1 - alpha/2) sqrt(rho) + z(power) sqrt(rho - d^2)) / d)^2, rounded up. A net
    loss cannot be larger than the flips that make it.
    """
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(f"alpha ({alpha}) and power ({power}) must lie between 0 and 1")
    d = abs(effect)
    if not 0 < d <= discordance <= 1:
        raise ValueError(f"no such plan: an effect of {effect} with a discordance of {discordance}")
    root = _z(1 - alpha / 2) * math.sqrt(discordance) + _z(power) * math.sqrt(discordance - d**2)
    return math.ceil((root / d) ** 2)


def mean_ratio(baseline: Sequence[float], variant: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> Ratio:
    """mean(variant) / mean(baseline) of paired amounts, such as the tokens of each answer; bootstrap over the pairs.

    Draws in which the baseline adds up to 0 are left out of the interval. A single pair has no interval (nan).
    """
    if len(baseline) != len(variant):
        raise ValueError(
            f"baseline has {len(baseline)} amounts, variant {len(variant)}: they must be of the same items"
        )
    if not len(baseline):
        raise ValueError("baseline and variant have no amounts")
    pairs: Array = np.column_stack([np.asarray(baseline, dtype=float), np.asarray(variant, dtype=float)])
    if not bool((np.isfinite(pairs) & (pairs >= 0)).all()):
        raise ValueError("amounts must be finite and not negative")
    n = len(pairs)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    before, after = (math.fsum(column) for column in pairs.T)
    if before == 0:
        return Ratio(math.nan, math.nan, math.nan, n)
    if n == 1:
        return Ratio(after / before, math.nan, math.nan, n)
    drawn = resampled_sums(pairs, seed, resamples)
    some = drawn[drawn[:, 0] > 0]
    low, high = percentile_interval(some[:, 1] / some[:, 0]) if len(some) else (math.nan, math.nan)
    return Ratio(after / before, low, high, n)


def median_divergence(positions: Sequence[int], censored: Sequence[bool]) -> float | None:
    """The token position by which half of the greedy answers have parted from the baseline's; Kaplan and Meier.

    `positions` holds the first differing position of each answer or, where `censored`, the length up to which both were
    equal. The smallest position at which the share still equal is at most one half; None when it stays above.
    """
    if len(positions) != len(censored):
        raise ValueError(f"{len(positions)} positions, but {len(censored)} marks of censoring: give one each")
    if not len(positions):
        raise ValueError("there are no positions")
    if min(positions) < 0:
        raise ValueError("positions cannot be negative")
    parted = Counter(at for at, cut in zip(positions, censored, strict=True) if not cut)
    left = Counter(positions)
    at_risk, equal = len(positions), 1.0
    for at in sorted(left):  # what is censored at a position was still at risk there
        equal *= 1 - parted[at] / at_risk
        if equal <= 0.5 + 1e-12:  # products of fractions miss one half by rounding
            return float(at)
        at_risk -= left[at]
    return None


def first_difference(a: Sequence[str], b: Sequence[str]) -> int | None:
    """Index of the first token that differs; where one answer ends inside the other, its length; None when equal."""
    for i, (ours, theirs) in enumerate(zip(a, b, strict=False)):
        if ours != theirs:
            return i
    return None if len(a) == len(b) else min(len(a), len(b))


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Mean over the labels in `gold` of F1 = 2 TP / (2 TP + FP + FN), each label counting the same.

    No label (None) or one that `gold` does not know is a miss of the gold label and no class of its own; a label that
    is never predicted has F1 0.
    """
    _same_items(gold, predicted)
    truth, said = Counter(gold), Counter(predicted)
    hits = Counter(g for g, p in zip(gold, predicted, strict=True) if g == p)
    return math.fsum(2 * hits[label] / (truth[label] + said[label]) for label in truth) / len(truth)


def confusion(gold: Sequence[str], predicted: Sequence[str | None]) -> list[tuple[str, str, int]]:
    """(gold, predicted, how often) of the wrong answers, most frequent first, then by name; None shows as "(none)"."""
    _same_items(gold, predicted)
    wrong = Counter((g, NONE if p is None else p) for g, p in zip(gold, predicted, strict=True) if g != p)
    return sorted(((g, p, count) for (g, p), count in wrong.items()), key=lambda row: (-row[2], row[0], row[1]))


def _same_items(gold: Sequence[str], predicted: Sequence[str | None]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, but {len(predicted)} predicted: they must be of the same items")
    if not len(gold):
        raise ValueError("there are no labels")
