"""What tokens cost: the GPU's hour spread over what it put out.

usd_per_1m_output_tokens = 1e6 * P / (3600 * X_out * u), with P in USD per hour, X_out in output tokens per second, u
the share of the hour that the card is in use. u is 1 here and every page says so: at half the use a token costs twice.
"""

from __future__ import annotations

__all__ = ["saving", "usd_per_million", "usd_per_requests"]


def usd_per_million(usd_per_hour: float, tokens_per_second: float, use: float = 1.0) -> float:
    """USD per million output tokens."""
    return 1e6 * usd_per_hour / (3600 * tokens_per_second * use)


def usd_per_requests(usd_per_1m_tokens: float, tokens_per_request: float, requests: int) -> float:
    """USD for so many requests of a mean output length."""
    return usd_per_1m_tokens * tokens_per_request * requests / 1e6


def saving(throughput_ratio: tuple[float, float, float]) -> tuple[float, float, float]:
    """(saving, low, high) as shares of the baseline's cost, from the throughput ratio, the price held fixed."""
    ratio, low, high = throughput_ratio
    return 1 - 1 / ratio, 1 - 1 / low, 1 - 1 / high
