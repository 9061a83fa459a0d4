"""How far a variant's next-token distribution is from the baseline's on the same texts (teacher forcing).

P is the baseline, Q the variant, x_t the token that the text really has at position t; logarithms are natural, so
divergences are in nats per token. An API gives the log-probability of x_t and of the K likeliest tokens only, so the
Kullback-Leibler divergence itself cannot be had; merging all other tokens into one bin gives a lower bound on it (the
data-processing inequality). It recovers about three quarters with K = 20: good for comparing variants, not for
quoting beside full-vocabulary figures, and therefore never called "KLD".

Tokens of one document depend on each other, so intervals come from a bootstrap over documents (percentile, 95 %).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcase.analysis.paired import percentile_interval, resampled_sums

__all__ = ["Fidelity", "Text", "fidelity", "kld_lower_bound"]

_LEAST_REST = 1e-6  # of the bin of all other tokens: below it, 1 - sum is rounding
_LEAST_LOG = -9999.0  # what vLLM writes for -inf
_ROUNDING = 0.05  # probabilities may exceed 1 by so much (engines round); more means that they are none

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Text:
    """One scored text. Entry i of each list but `tokens` is of the position that predicts `tokens[i + 1]`.

    So there is one entry less than tokens. Texts with the same `document` are drawn together. The top lists hold
    (token id, log-probability), likeliest first; they may be of any length from 1 and may lack the actual token.
    """

    document: str
    domain: str
    logprobs_p: list[float]  # of the actual token under the baseline, nats
    logprobs_q: list[float]  # the same under the variant
    top_p: list[list[tuple[int, float]]]
    top_q: list[list[tuple[int, float]]]
    tokens: list[int]


@dataclass(frozen=True)
class Fidelity:
    """Variant against baseline over all texts; means are over tokens, `_low` and `_high` bound 95 %.

    The bounds are nan when there is one document only: it tells nothing of the spread of documents.
    """

    documents: int
    tokens: int  # scored positions
    ppl_ratio: float  # perplexity of Q / that of P: exp(mean(ln P(x) - ln Q(x)))
    ppl_ratio_low: float
    ppl_ratio_high: float
    top1_agreement: float  # share of positions where both find the same token likeliest
    top1_agreement_low: float
    top1_agreement_high: float
    rms_delta_p: float  # root of mean (Q(x) - P(x))^2, a share
    rms_delta_p_low: float
    rms_delta_p_high: float
    mean_delta_p: float  # mean of Q(x) - P(x), a share; negative is damage
    kld_topk_lower_bound: float  # nats per token
    kld_topk_lower_bound_low: float
    kld_topk_lower_bound_high: float
    captured_mass: float  # mean share of P that the compared tokens hold


def fidelity(texts: Sequence[Text], *, seed: int = 0, resamples: int = 2000) -> Fidelity:
    """Perplexity ratio, top-1 agreement, delta p and the divergence's lower bound of the texts, with their intervals.

    Documents without a scored position (one token long) do not count. The order of the texts does not matter.
    """
    by_document: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for text in texts:
        by_document[text.document].extend(_rows(text))
    found = [by_document[name] for name in sorted(by_document) if by_document[name]]
    if not found:
        raise ValueError("there are no texts with a scored position")
    # One row a document: the sum of each column of _rows, and how many positions.
    sums: Array = np.array([[*(math.fsum(c) for c in zip(*rows, strict=True)), float(len(rows))] for rows in found])
    total: Array = np.array([[math.fsum(column) for column in sums.T]])
    worse, agreement, rms, delta, bound, mass = (float(values[0]) for values in _figures(total))
    spans = [(math.nan, math.nan)] * 6
    if len(found) > 1:
        spans = [percentile_interval(values) for values in _figures(resampled_sums(sums, seed, resamples))]
    return Fidelity(
        documents=len(found),
        tokens=sum(len(rows) for rows in found),
        ppl_ratio=_exp(worse),
        ppl_ratio_low=_exp(spans[0][0]),
        ppl_ratio_high=_exp(spans[0][1]),
        top1_agreement=agreement,
        top1_agreement_low=spans[1][0],
        top1_agreement_high=spans[1][1],
        rms_delta_p=rms,
        rms_delta_p_low=spans[2][0],
        rms_delta_p_high=spans[2][1],
        mean_delta_p=delta,
        kld_topk_lower_bound=bound,
        kld_topk_lower_bound_low=spans[4][0],
        kld_topk_lower_bound_high=spans[4][1],
        captured_mass=mass,
    )


def _figures(sums: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Of rows of sums: log perplexity ratio, top-1 agreement, RMS delta p, mean delta p, bound, captured mass."""
    mean = sums[:, :-1] / sums[:, -1:]
    return mean[:, 0], mean[:, 1], np.sqrt(mean[:, 2]), mean[:, 3], mean[:, 4], mean[:, 5]


def _exp(x: float) -> float:
    """e^x; infinite where a broken variant is more perplexed than a float can hold."""
    return math.inf if x > 700 else math.exp(x)


def _rows(text: Text) -> list[tuple[float, ...]]:
    """For each position: ln P(x) - ln Q(x), same top token (0 or 1), squared delta p, delta p, bound, captured mass."""
    positions = max(len(text.tokens) - 1, 0)
    for name in ("logprobs_p", "logprobs_q", "top_p", "top_q"):
        if len(getattr(text, name)) != positions:
            raise ValueError(
                f"document {text.document!r}: {len(text.tokens)} tokens have {positions} scored positions, "
                f"but {name} has {len(getattr(text, name))}"
            )
    rows: list[tuple[float, ...]] = []
    for i, (raw_p, raw_q, top_p, top_q) in enumerate(
        zip(text.logprobs_p, text.logprobs_q, text.top_p, text.top_q, strict=True)
    ):
        if not top_p or not top_q:
            raise ValueError(f"document {text.document!r}, position {i}: no likeliest tokens")
        try:
            bound, mass = kld_lower_bound(top_p, top_q, text.tokens[i + 1], raw_p, raw_q)
        except ValueError as fault:
            raise ValueError(f"document {text.document!r}, position {i}: {fault}") from fault
        lp_p, lp_q = max(raw_p, _LEAST_LOG), max(raw_q, _LEAST_LOG)
        delta = math.exp(lp_q) - math.exp(lp_p)
        rows.append((lp_p - lp_q, float(top_p[0][0] == top_q[0][0]), delta * delta, delta, bound, mass))
    return rows


def kld_lower_bound(
    top_p: Sequence[tuple[int, float]], top_q: Sequence[tuple[int, float]], actual: int, lp_p: float, lp_q: float
) -> tuple[float, float]:
    """(lower bound on KLD(P || Q) in nats, share of P captured) at one position.

    S holds the tokens in both top lists and the actual token, whose own log-probabilities `lp_p` and `lp_q` are used:
    sum over S of P ln(P / Q) + (1 - p_S) ln((1 - p_S) / (1 - q_S)), p_S and q_S being the sums of P and Q over S. The
    two remainders are taken as at least 1e-6, so the bound may exceed the divergence by 4e-7 (1e-6 / e) at most. No
    divergence is negative, so neither is the bound.
    """
    in_q = dict(top_q)
    compared = {token: (log_p, in_q[token]) for token, log_p in top_p if token in in_q}
    compared[actual] = (lp_p, lp_q)
    bound = mass_p = mass_q = 0.0
    try:
        for log_p, log_q in compared.values():
            share = math.exp(log_p)
            mass_p += share
            mass_q += math.exp(log_q)
            if share:  # else 0 ln 0, which is 0
                bound += share * (log_p - (log_q if log_q > _LEAST_LOG else _LEAST_LOG))
    except OverflowError:
        mass_p = math.inf
    for mass in (mass_p, mass_q):
        if not mass <= 1 + _ROUNDING:  # also true of nan
            raise ValueError(f"these are not log-probabilities: as probabilities they add up to {mass:.3g}")
    rest_p, rest_q = max(1 - mass_p, _LEAST_REST), max(1 - mass_q, _LEAST_REST)
    return max(0.0, bound + rest_p * math.log(rest_p / rest_q)), min(1.0, mass_p)
