"""What a rule is, and the registry that each family of rules adds its own to.

A rule is a pure function of `Facts` (a bundle, read once) that yields what breaks it. `@rule` puts it into the registry
with its id, its level and the sentence that holds for a sound bundle. `needs` names what must be there for the rule to
be judged at all: a rule about telemetry neither passes nor fails in a bundle without telemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from collector.bundle.rules.facts import Facts

__all__ = ["LEVELS", "REGISTRY", "Fault", "Found", "Level", "Outcome", "Rule", "judge", "rule"]

Level = Literal["error", "interrupted", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "interrupted", "warning", "note")  # gravest first


class Fault(Struct, frozen=True):
    """One finding about a bundle."""

    level: Level
    where: str  # file, or file and row
    problem: str
    fix: str = ""
    rule: str = ""  # the id of the rule that it breaks

    def __str__(self) -> str:
        tail = f"; {self.fix}" if self.fix else ""
        return f"{f'{self.rule} ' if self.rule else ''}{self.level}: {self.where}: {self.problem}{tail}"


class Found(NamedTuple):
    """What a rule yields: the place, and what is wrong there."""

    where: str
    words: str
    fix: str = ""  # where it is another than the rule's own


Find = Callable[[Facts], Iterator[Found]]


@dataclass(frozen=True)
class Rule:
    """One rule of the book."""

    id: str
    level: Level
    sentence: str  # what holds for a sound bundle
    why: str  # what a reader would believe wrongly if it did not hold
    fix: str  # what to do when it is broken
    needs: frozenset[str] = frozenset()
    find: Find = field(compare=False, repr=False, default=lambda _: iter(()))

    @property
    def number(self) -> int:
        """By which rules are ordered: Q901 comes before Q1001."""
        return int(self.id[1:])

    @property
    def family(self) -> int:
        return self.number // 100

    def applies(self, facts: Facts) -> bool:
        """Whether the bundle holds what this rule is about."""
        return self.needs <= facts.has


@dataclass(frozen=True)
class Outcome:
    """What the rule book said of one bundle."""

    faults: list[Fault]  # gravest first, then by rule
    applied: frozenset[str]  # ids of the rules that could be judged

    @property
    def broken(self) -> frozenset[str]:
        """Ids of the rules that something was found against."""
        return frozenset(f.rule for f in self.faults)

    @property
    def passed(self) -> frozenset[str]:
        """Ids of the rules that were judged and hold."""
        return self.applied - self.broken


REGISTRY: dict[str, Rule] = {}


def rule(id_: str, level: Level, sentence: str, *, why: str, fix: str, needs: str = "") -> Callable[[Find], Find]:
    """Put a function into the registry. `needs` are words that `Facts.has` knows, apart by spaces.

    Raises:
        ValueError: the id is taken: two rules under one name could not be told apart.
    """

    def register(find: Find) -> Find:
        if id_ in REGISTRY:
            raise ValueError(f"two rules are called {id_}")
        REGISTRY[id_] = Rule(id_, level, sentence, why, fix, frozenset(needs.split()), find)
        return find

    return register


def judge(facts: Facts, rules: Iterable[Rule]) -> Outcome:
    """Hold a bundle against rules; those about something that it does not hold are left out."""
    faults: list[Fault] = []
    applied: set[str] = set()
    for one in sorted(rules, key=lambda r: r.number):
        if one.applies(facts):
            applied.add(one.id)
            faults += [Fault(one.level, f.where, f.words, f.fix or one.fix, one.id) for f in one.find(facts)]
    faults.sort(key=lambda f: LEVELS.index(f.level))  # stable: by rule within a level
    return Outcome(faults, frozenset(applied))
