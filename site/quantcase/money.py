"""Money as a site shows it: worked out in US dollars everywhere, converted once, when it is written on a page.

Costs follow from the price of a GPU's hour, which its source quotes in dollars. A site may name another currency
(`Options.site.currency`): costs are then shown in it, and each page with money says once at which rate, whose and of
when. Prices of an hour are inputs and stay as they were quoted, named as USD.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from quantcase.client import Currency
from quantcase.text import number, span

__all__ = ["COST", "DOLLARS", "Money"]

COST = "usd_per_1m_output_tokens"


@dataclass(frozen=True)
class Money:
    """Dollars in the currency of a site."""

    currency: Currency

    @property
    def sign(self) -> str:
        """What stands in headers: `$`, or the currency's code."""
        return self.currency.code if self.currency.foreign else "$"

    @property
    def hourly(self) -> str:
        """The same for prices of an hour, which are never converted: `$`, or `USD` where other money stands beside."""
        return "USD" if self.currency.foreign else "$"

    def of(self, usd: float) -> float:
        """An amount in the site's currency."""
        return usd * self.currency.rate

    def number(self, usd: float | None) -> str:
        """An amount as text, without its unit."""
        return number(None if usd is None else self.of(usd))

    def span(self, usd: float, low: float, high: float) -> str:
        """An amount with its interval, without its unit. The rate is taken as exact."""
        return span(self.of(usd), self.of(low), self.of(high))

    def note(self) -> str:
        """The sentence that a page with money needs once, as a paragraph; empty for dollars."""
        return f'<p class="qc-rate">{self.currency.words()}</p>' if self.currency.foreign else ""

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """A chart's points (`metric`, `value`, `low`, `high`) or single repeats (`value`) with costs converted."""
        if not self.currency.foreign or table.empty:
            return table
        rows = table["metric"] == COST if "metric" in table else [True] * len(table)
        made = table.copy()
        for column in ("value", "low", "high"):
            if column in made:
                made.loc[rows, column] = made.loc[rows, column] * self.currency.rate
        return made


DOLLARS = Money(Currency())
