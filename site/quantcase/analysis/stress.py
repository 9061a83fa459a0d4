"""Where each variant broke: the last step that was good and the first that was not, of each ladder it was pushed up."""

from __future__ import annotations

from dataclasses import dataclass

from collector.bundle.read import QuantcaseError
from collector.bundle.stress import LADDERS, Ladder, StressRow, outcome, read_stress
from quantcase.catalog import Case

__all__ = ["Bracket", "Stressed", "amount", "stressed"]


@dataclass(frozen=True)
class Bracket:
    """One variant on one ladder. Each step was run once: the two rows bracket a limit, they do not measure it."""

    variant: str
    ladder: Ladder
    last_good: StressRow | None
    first_bad: StressRow | None
    steps: tuple[StressRow, ...]
    ahead: int | None  # steps that the last good one is above the baseline's; None where either held none

    @property
    def open_ended(self) -> bool:
        """Whether every step that was run was good: where it breaks lies beyond, or the run was cut off."""
        return self.first_bad is None


@dataclass(frozen=True)
class Stressed:
    """All that a bundle tells of stress."""

    brackets: list[Bracket]  # the baseline first, then in the study's order; within a variant in the order climbed
    missing: list[tuple[str, Ladder | None]]  # variants without a row of that ladder; None: of neither
    unreadable: str = ""  # why the file cannot be read


def amount(row: StressRow) -> int:
    """What the ladder of a row raises: requests in flight, or prompt tokens."""
    return row.concurrency if row.ladder == "concurrency" else row.input_tokens


def stressed(case: Case) -> Stressed:
    """What `stress.jsonl` of a case says, ladder by ladder; rows of variants that the study does not name are left."""
    names = sorted((v.name for v in case.study.variants), key=lambda n: n != case.baseline)
    try:
        climbs = outcome(read_stress(case.bundle.folder))
    except (QuantcaseError, OSError) as e:
        return Stressed([], [(name, None) for name in names], unreadable=str(e))
    brackets: list[Bracket] = []
    missing: list[tuple[str, Ladder | None]] = []
    for name in names:
        without: list[Ladder] = [ladder for ladder in LADDERS if (name, ladder) not in climbs]
        missing += [(name, None)] if len(without) == len(LADDERS) else [(name, ladder) for ladder in without]
        for ladder in LADDERS:
            climb = climbs.get((name, ladder))
            if climb is None:
                continue
            base = climbs.get((case.baseline, ladder))
            held = None if base is None else base.last_good
            ahead = None if held is None or climb.last_good is None else climb.last_good.step - held.step
            brackets.append(Bracket(name, ladder, climb.last_good, climb.first_bad, climb.steps, ahead))
    return Stressed(brackets, missing)
