"""`collect check`: is this bundle whole, unchanged, and true to its own definitions?

The rules are in `collector.bundle.rules`; docs/guide/rules.md lists them. Each fault names its rule, the file, what is
wrong and what to do. The levels: `error` (do not believe it), `interrupted` (not finished; what is there is sound),
`warning` (a figure may mislead), `note` (worth knowing).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from collector.bundle import manifest as manifests
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.rules import LEVELS, RULES, Fault, Level, Outcome, Rule, judge_bundle
from collector.errors import QuantcaseError

__all__ = [
    "LEVELS",
    "RULES",
    "Fault",
    "Level",
    "Outcome",
    "Rule",
    "check",
    "check_bundle",
    "errors",
    "outcome",
    "outcome_of",
]

_said: WeakKeyDictionary[Bundle, Outcome] = WeakKeyDictionary()


def outcome(folder: Path) -> Outcome:
    """What every rule says of the bundle in `folder`, one that cannot even be opened included."""
    try:
        bundle = open_bundle(folder)
    except QuantcaseError as e:
        return _unreadable(e)
    return outcome_of(bundle)


def outcome_of(bundle: Bundle) -> Outcome:
    """What every rule said of an open bundle when it was last checked; checks it where it was not yet.

    A page that lists the rules beside what the catalog found asks here, so that large bundles are read once.
    """
    if bundle not in _said:
        _said[bundle] = judge_bundle(bundle)
    return _said[bundle]


def check(folder: Path) -> list[Fault]:
    """All faults of the bundle in `folder`, gravest first; an empty list when nothing is to be said against it."""
    return outcome(folder).faults


def check_bundle(bundle: Bundle) -> list[Fault]:
    """All faults of an open bundle as it stands on disk now; see `check`."""
    _said[bundle] = judge_bundle(bundle)
    return _said[bundle].faults


def errors(faults: Iterable[Fault]) -> list[Fault]:
    """The faults for which a bundle is not to be believed, or not finished: neither warnings nor notes."""
    return [f for f in faults if f.level in ("error", "interrupted")]


def _unreadable(e: QuantcaseError) -> Outcome:
    rule = RULES["Q101"]
    fault = Fault(rule.level, manifests.MANIFEST, e.problem, e.fix or rule.fix, rule.id)
    return Outcome([fault], frozenset({rule.id}))
