"""What tokens cost: the GPU's hour spread over what it put out.

usd_per_1m_output_tokens = 1e6 * P * G / (3600 * X_out * u), with P in USD per hour of one GPU, G the GPUs of the server
(callers pass P * G, the server's hour), X_out its output tokens per second, u the share of the hour that it is in use.
u is 1 unless a reader says otherwise: at half the use a token costs twice. assets/costs.js holds the same formulas for
the reader's own figures; tests/browser/test_play.py runs both over a grid.

A **mix** is requests of several workloads, each with its share of all requests. Its cost is the sum of its parts', and
so are the ends of its interval: exact where the parts err together (they share server starts and clocks), too wide
where they do not, and never too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "HOURS_A_MONTH", "Part", "Span", "bill_per_month", "mix_cost", "mix_saving", "outside", "requests_per_day",
    "saving", "usd_per_million", "usd_per_requests",
]  # fmt: skip

HOURS_A_MONTH = 730.0  # 8,760 hours a year / 12

Span = tuple[float, float, float]  # value, low, high; nan where an end cannot be had


@dataclass(frozen=True)
class Part:
    """One workload of a mix: its share of all requests (0 to 1), output tokens a request, throughput in tok/s."""

    share: float
    output_tokens: float
    speed: Span


def usd_per_million(usd_per_hour: float, tokens_per_second: float, use: float = 1.0) -> float:
    """USD per million output tokens."""
    return 1e6 * usd_per_hour / (3600 * tokens_per_second * use)


def usd_per_requests(usd_per_1m_tokens: float, tokens_per_request: float, requests: int) -> float:
    """USD for so many requests of a mean output length."""
    return usd_per_1m_tokens * tokens_per_request * requests / 1e6


def saving(throughput_ratio: Span) -> Span:
    """(saving, low, high) as shares of the baseline's cost, from the ratio of throughput per GPU, the price of a GPU
    held fixed.
    """
    ratio, low, high = throughput_ratio
    return 1 - 1 / ratio, 1 - 1 / low, 1 - 1 / high


def mix_cost(parts: Sequence[Part], usd_per_hour: float, use: float = 1.0) -> Span:
    """USD per million output tokens of a mix: what its requests cost / the tokens that they put out.

    The low end is that of the high ends of throughput. Shares need not add up to 1.
    """
    tokens = math.fsum(p.share * p.output_tokens for p in parts)
    ends = [
        math.fsum(p.share * p.output_tokens * usd_per_million(usd_per_hour, p.speed[i], use) for p in parts) / tokens
        for i in (0, 2, 1)
    ]
    return ends[0], ends[1], ends[2]


def mix_saving(parts: Sequence[Part], savings: Sequence[Span]) -> Span:
    """What a mix saves: the parts' savings, each weighed by its share of what the *baseline* pays for the mix.

    `parts` are the baseline's, `savings` the variant's in the same order; see the module's head for the interval.
    """
    weights = [p.share * p.output_tokens / p.speed[0] for p in parts]
    whole = math.fsum(weights)
    ends = [math.fsum(w * s[i] for w, s in zip(weights, savings, strict=True)) / whole for i in range(3)]
    return ends[0], ends[1], ends[2]


def outside(share: Span, region: float) -> bool:
    """Whether a saving lies wholly outside the region of equivalence (of the throughput ratio, 1 +- region)."""
    return share[1] > 1 - 1 / (1 + region) or share[2] < -region


def requests_per_day(parts: Sequence[Part], gpus: float, use: float = 1.0) -> Span:
    """Requests of the mix that so many servers, each like the one measured, answer in a day."""
    whole = math.fsum(p.share for p in parts)
    ends = [
        86_400 * gpus * use * whole / math.fsum(p.share * p.output_tokens / p.speed[i] for p in parts) for i in range(3)
    ]
    return ends[0], ends[1], ends[2]


def bill_per_month(usd_per_hour: float, gpus: float) -> float:
    """USD a month of 730 hours for so many GPUs: an hour is paid whether the card is in use or not."""
    return usd_per_hour * gpus * HOURS_A_MONTH
