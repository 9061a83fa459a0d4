"""What the driver orders of a box, and what the box answers: plain data that Ray carries."""

from __future__ import annotations

from msgspec import Struct, field

from collector.fleet.mirror import Piece

__all__ = ["Ended", "Facts", "Further", "Said", "Told", "Work"]


class Further(Struct, frozen=True):
    """Repeats that a cell is to have in the end, beyond the plan: a count, so that an order may be given twice."""

    variant: str
    workload: str
    load: str
    repeats: int


class Work(Struct, frozen=True, kw_only=True):
    """One server start of one variant, or of several side by side, on the bundle that lies on that box."""

    fleet: str  # names the fleet's folder on the box
    box: str
    bundle: str
    gpu: str
    study: str  # TOML of all that this bundle measures, with its secrets: goes over standard input, onto no disk
    variants: tuple[str, ...]
    round: int
    max_minutes: float | None = None
    further: tuple[Further, ...] = ()  # a round beyond the plan: these cells and no others
    stress: bool = False  # all else of these variants is measured: push them until they break
    side_by_side: bool = False  # at once, each on GPUs of its own, where there is room and a trial allows it


class Facts(Struct, frozen=True, kw_only=True):
    """What a box says of itself. No name and no address."""

    box: str  # a hash
    version: str
    profiles: tuple[str, ...]  # the GPU profiles of its cards
    bundles: tuple[str, ...]  # of this fleet, on its disk
    note: str = ""


class Said(Struct, frozen=True):
    """A line of the collector's own progress."""

    line: str


class Ended(Struct, frozen=True, kw_only=True):
    """The end of an order. `problem` is of the box or the collector; `failed` is of the engine, and a finding."""

    done: bool  # the server start is measured, as far as the engine can
    status: str = ""  # of the bundle
    ended_by: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    hopeless: tuple[str, ...] = ()  # variants that are not tried again: out of memory, unsupported
    problem: str = ""
    hashes: dict[str, str] = field(default_factory=dict)


Told = Piece | Said | Ended
