"""Student's t distribution without a library: the collector decides on the box when a ratio is precise enough.

The site uses scipy for everything; a test holds the two against each other.
"""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["t_quantile", "t_tail"]


def t_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0 with df > 0 degrees of freedom: half the regularised incomplete beta I_x(df/2, 1/2)."""
    return 0.5 * _beta(df / (df + t * t), df / 2, 0.5)


@lru_cache(maxsize=256)
def t_quantile(p: float, df: float) -> float:
    """The value that T stays below with probability p, 0.5 <= p < 1, by bisection."""
    low, high = 0.0, 2.0
    while t_tail(high, df) > 1 - p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if t_tail(middle, df) > 1 - p:
            low = middle
        else:
            high = middle
        if high - low <= 1e-12 * high:
            break
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz & Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # Evaluated from the tail: 300 terms are far more than the box of arguments here needs.
    fraction = 1.0
    for k in range(300, 0, -1):
        m, odd = divmod(k, 2)
        top = -(a + m) * (a + b + m) * x if odd else m * (b - m) * x
        fraction = 1 + top / ((a + k - 1) * (a + k)) / fraction
    return front / (a * fraction)
