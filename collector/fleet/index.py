"""fleet.json: what a fleet is to measure, where each part of it stands, and what it took. No name, no address."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from collector.bundle.manifest import write_atomic
from collector.errors import QuantcaseError
from collector.fleet.order import Further

__all__ = ["FILE", "FORMAT", "BoxEntry", "BundleEntry", "Index", "RunEntry", "TaskEntry", "read", "write"]

FILE = "fleet.json"
FORMAT = 1
TaskKind = Literal["planned", "precise", "stress"]  # in the order in which a bundle's are done
TaskState = Literal["waiting", "running", "done", "failed", "moved"]
BundleState = Literal["waiting", "running", "complete", "interrupted", "failed"]
BoxState = Literal["held", "released", "lost"]


class RunEntry(Struct, kw_only=True):
    """One of the runs that were asked for."""

    number: int  # from 1
    gpu: str
    study: str
    boxes: int
    ray_type: str = ""
    usd_per_hour: float | None = None  # of one GPU
    price_source: str = ""
    until_precise: float | None = None  # the share to which every ratio to the baseline is to be known
    side_by_side: bool = False
    stress: bool = False

    @property
    def wishes(self) -> str:
        """What it was asked for beyond its study, in words."""
        precise = "" if self.until_precise is None else f"until every ratio is known to {self.until_precise:.1%}"
        told = (precise, "side by side" if self.side_by_side else "", "stress at last" if self.stress else "")
        return ", ".join(words for words in told if words)


class BoxEntry(Struct, kw_only=True):
    """One physical machine that the fleet used."""

    box: str  # a hash
    gpu: str
    gpus: int = 0  # cards that were held, hence paid
    state: BoxState = "held"
    reason: str = ""
    note: str = ""
    minutes: float = 0.0  # held
    usd: float | None = None


class BundleEntry(Struct, kw_only=True):
    """One bundle: one box, one study or what was left of it."""

    name: str
    run: int
    variants: list[str]
    box: str | None = None
    state: BundleState = "waiting"
    continues: str = ""  # the bundle whose box was lost
    cells_planned: int = 0
    cells_done: int = 0
    precision: str = ""  # how its extra rounds ended


class TaskEntry(Struct, kw_only=True):
    """One server start of one variant."""

    number: int
    bundle: str
    variant: str
    round: int
    state: TaskState = "waiting"
    reason: str = ""
    tries: int = 0
    minutes: float = 0.0
    usd: float | None = None
    kind: TaskKind = "planned"  # else an extra round, or the stress
    further: list[Further] = field(default_factory=list)  # of an extra round: what its cells are to have in the end

    @property
    def words(self) -> str:
        """Which start of its variant it is."""
        if self.kind == "stress":
            return "stress"
        return f"round {self.round}" if self.kind == "planned" else f"extra round {self.round}"


class Index(Struct, kw_only=True):
    """The whole document."""

    format: int = FORMAT
    id: str
    title: str
    key: str  # tells this fleet's folders on the boxes from those of another of the same id
    started: str
    collector_version: str
    updated: str = ""
    ended_by: str = ""  # empty while it runs
    max_usd: float | None = None
    until: str = ""
    runs: list[RunEntry] = field(default_factory=list)
    boxes: list[BoxEntry] = field(default_factory=list)
    bundles: list[BundleEntry] = field(default_factory=list)
    tasks: list[TaskEntry] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """The name of this fleet's folder on every box."""
        return f"{self.id}-{self.key}"

    def run(self, number: int) -> RunEntry:
        return self.runs[number - 1]

    def bundle(self, name: str) -> BundleEntry:
        """The bundle of that name; KeyError when there is none."""
        return {b.name: b for b in self.bundles}[name]

    def box(self, box: str) -> BoxEntry:
        """The box of that hash; KeyError when there is none."""
        return {b.box: b for b in self.boxes}[box]

    def tasks_of(self, bundle: str) -> list[TaskEntry]:
        return [t for t in self.tasks if t.bundle == bundle]

    def next_task(self, bundle: str) -> TaskEntry | None:
        """What this bundle's box measures next: the stress last of all, because it may end anything."""
        waiting = [t for t in self.tasks_of(bundle) if t.state == "waiting"]
        return min(waiting, key=lambda t: t.kind == "stress", default=None)

    def next_order(self, bundle: str) -> list[TaskEntry]:
        """What this bundle's box is given next: one server start, or a whole round of them side by side."""
        first = self.next_task(bundle)
        if first is None or first.kind == "stress" or not self.run(self.bundle(bundle).run).side_by_side:
            return [] if first is None else [first]
        waiting = (t for t in self.tasks_of(bundle) if t.state == "waiting")
        return [t for t in waiting if (t.kind, t.round) == (first.kind, first.round)]

    @property
    def usd(self) -> float | None:
        """All boxes' money so far; None where no box has a price."""
        known = [b.usd for b in self.boxes if b.usd is not None]
        return sum(known) if known else None


def read(folder: Path) -> Index:
    """The index of a fleet's folder.

    Raises:
        QuantcaseError: there is none, it cannot be read, or a newer version wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        raise QuantcaseError(f"{folder}: no {FILE}", fix="name the folder of a fleet, e.g. results/FLEET-ID")
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise QuantcaseError(
            f"{folder.name}/{FILE} cannot be read: {e}", fix="was it written by this version?"
        ) from None
    if index.format > FORMAT:
        raise QuantcaseError(f"{folder.name} is of format {index.format}, this version reads up to {FORMAT}")
    return index


def write(folder: Path, index: Index) -> None:
    """Write it whole, so that after a crash the old or the new one stands there."""
    write_atomic(folder / FILE, msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n")
