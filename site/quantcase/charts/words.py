"""Numbers in the words of a chart, which are English until it is drawn."""

from __future__ import annotations

__all__ = ["short"]


def short(value: float) -> str:
    """Three significant digits; from 100 on a whole number with separators, never a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
