"""Cases of one title told apart, wherever titles alone are listed: cards, menu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Named", "apart"]


@dataclass(frozen=True)
class Named:
    """A case as a list knows it."""

    title: str
    name: str  # of its bundle: no two of a site have the same
    date: str = ""
    status: str = ""  # empty where it is not known


def apart(cases: Sequence[Named]) -> list[str]:
    """What to put behind each title; empty where nobody else has it.

    The date where each of the namesakes has another, else the bundle's name; and how a run ended that did not come to
    its end, where others of them did.
    """
    alike: dict[str, list[Named]] = {}
    for case in cases:
        alike.setdefault(_key(case), []).append(case)
    return [_which(case, alike[_key(case)]) for case in cases]


def _key(case: Named) -> str:
    return " ".join(case.title.split()).casefold()


def _which(case: Named, alike: Sequence[Named]) -> str:
    if len(alike) == 1:
        return ""
    dates = {c.date for c in alike}
    which = case.date if len(dates) == len(alike) and "" not in dates else case.name
    odd = len({c.status for c in alike}) > 1 and case.status not in ("", "complete")
    return f"{which}, {case.status}" if odd else which
