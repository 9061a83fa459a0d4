"""All bundles of a folder as cases: typed rows, a few pandas tables, and what `check` said about each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from collector import gpus
from collector.bundle.check import Fault, check_bundle
from collector.bundle.read import (
    Bundle,
    LikelihoodRow,
    Load,
    Mark,
    QualityItem,
    QualityRow,
    QuantcaseError,
    Study,
    Workload,
    is_bundle,
    open_bundle,
)
from collector.bundle.rules.facts import gpu_indices
from collector.bundle.schema import TABLES, CellRow, VariantRow, columns

__all__ = ["FLEET", "Case", "Catalog", "folders", "load", "order", "read", "unsealed_words"]

_BUSY_PCT = 50.0  # of a card that works
# Rules whose breach leaves pages without what they are made of: no time, a link in the folder, a file that is no such.
_UNREADABLE = ("Q107", "Q204", "Q301")
_TOLD_ON_PAGES = ("loadtest_", "predictions.json", "stress.jsonl")  # what is wrong with these, their pages say
_SAFE_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")
FLEET = "fleet.json"  # `collect fleet` writes it beside the bundles of its boxes


def unsealed_words(fault: Fault) -> bool:
    """Whether all that was found is that notes.md is not as it was sealed."""
    return (fault.rule, fault.where) == ("Q203", "notes.md")


@dataclass(frozen=True)
class Case:
    """One bundle, read once."""

    bundle: Bundle
    study: Study
    faults: list[Fault]

    @property
    def id(self) -> str:
        """The folder's name: safe in a URL, checked by `load`."""
        return self.bundle.folder.name

    @property
    def title(self) -> str:
        return self.bundle.manifest.title

    @property
    def baseline(self) -> str:
        return self.study.baseline

    @property
    def sound(self) -> bool:
        """Whether `check` found no error: no verdict is given on a bundle that is not sound.

        Words that were edited and not sealed yet are told on the data page; no figure comes from them, so verdicts
        stand while somebody writes.
        """
        return not any(f.level == "error" and not unsealed_words(f) for f in self.faults)

    @cached_property
    def variants(self) -> list[VariantRow]:
        return self.bundle.variants()

    def starts(self, variant: str) -> list[VariantRow]:
        """All server starts of a variant, in order."""
        return [v for v in self.variants if v.variant == variant]

    def served(self, variant: str) -> VariantRow | None:
        """The first server start of a variant that served; None when none did."""
        return next((v for v in self.starts(variant) if v.exit_state == "ok"), None)

    @cached_property
    def requests(self) -> pd.DataFrame:
        return _frame("requests", self.bundle.requests())

    @cached_property
    def cell_rows(self) -> list[CellRow]:
        return self.bundle.cells()

    @cached_property
    def cells(self) -> pd.DataFrame:
        return _frame("cells", self.cell_rows)

    @cached_property
    def ok_counts(self) -> dict[tuple[str, str, str], int]:
        """Requests that ended well, by (variant, workload, load)."""
        ok = self.requests[self.requests["status"] == "ok"]
        return dict(Counter(zip(ok["variant"], ok["workload"], ok["load"], strict=True)))

    @cached_property
    def telemetry(self) -> pd.DataFrame:
        return _frame("telemetry", self.bundle.telemetry())

    @cached_property
    def busy_telemetry(self) -> pd.DataFrame:
        """Samples taken while a cell ran and the card was busy, with the `variant` that it served.

        Where `variants.csv` names the GPUs of a server only theirs count: servers may have run side by side.
        """
        table, cells = self.telemetry, self.cells
        if table.empty or cells.empty:
            return table.assign(variant=pd.Series(dtype=str)).iloc[0:0]
        at, used = table["t_s"].to_numpy(), table["utilisation_pct"].fillna(100).to_numpy() >= _BUSY_PCT
        on = {(v.variant, v.start): gpu_indices(v) for v in self.variants}
        windows = cells[["variant", "start", "window_start_s", "window_end_s"]].dropna().to_numpy().tolist()
        card, found = table["gpu"].to_numpy(), []
        for name, start, begin, end in windows:
            inside = (at >= begin) & (at <= end) & used
            if gpus_of_server := on.get((str(name), int(start))):
                inside &= np.isin(card, gpus_of_server)
            found.append((str(name), np.flatnonzero(inside)))
        if not found:
            return table.iloc[0:0].assign(variant="")
        names = [name for name, places in found for _ in range(len(places))]
        return table.take(np.concatenate([places for _, places in found])).assign(variant=names)

    @cached_property
    def cell_counts(self) -> dict[tuple[str, str, str], int]:
        """Repeats by (variant, workload, load)."""
        return dict(Counter((r.variant, r.workload, r.load) for r in self.cell_rows))

    @cached_property
    def quality_items(self) -> dict[str, QualityItem]:
        """What was asked, by prompt id; empty where quality was not measured."""
        return {item.prompt_id: item for item in self.bundle.quality_items()}

    @cached_property
    def answers(self) -> dict[tuple[str, int], dict[str, QualityRow]]:
        """(variant, pass) -> prompt id -> answer. The baseline has two passes, over two server starts."""
        found: dict[tuple[str, int], dict[str, QualityRow]] = {}
        for row in self.bundle.quality():
            found.setdefault((row.variant, row.repeat), {})[row.prompt_id] = row
        return found

    @cached_property
    def likelihoods(self) -> dict[tuple[str, int], dict[str, LikelihoodRow]]:
        """(variant, pass) -> prompt id -> log-probabilities."""
        found: dict[tuple[str, int], dict[str, LikelihoodRow]] = {}
        for row in self.bundle.likelihood():
            found.setdefault((row.variant, row.repeat), {})[row.prompt_id] = row
        return found

    @cached_property
    def marks(self) -> dict[tuple[str, str], Mark]:
        """(variant, prompt id) -> what a person says of that answer."""
        return {(m.variant, m.prompt_id): m for m in self.bundle.marks()}

    @cached_property
    def profile(self) -> gpus.GpuProfile | None:
        """The GPU profile that the bundle names; None for one that this version does not know."""
        return gpus.load().get(self.bundle.info.gpu)

    def loads(self, workload: str) -> list[Load]:
        """The load points at which a workload was measured, lightest first."""
        return list(self._loads.get(workload, ()))

    @cached_property
    def _loads(self) -> dict[str, list[Load]]:
        found: dict[str, list[Load]] = {}
        for workload, name in sorted({(r.workload, r.load) for r in self.cell_rows}):
            if (load := Load.of(name)) is not None:
                found.setdefault(workload, []).append(load)
        return {w: sorted(loads, key=lambda x: (x.amount, x.name)) for w, loads in found.items()}

    def points_of_load(self) -> list[tuple[Workload, Load]]:
        """Every workload and load point that was measured, in the study's order."""
        return [(w, load) for w in self.study.workloads for load in self.loads(w.name)]

    def measured_variants(self) -> list[str]:
        """Variants that have cells: the baseline first, then in the study's order."""
        have = {r.variant for r in self.cell_rows}
        names = [v.name for v in self.study.variants if v.name in have]
        return sorted(names, key=lambda n: n != self.baseline)


@dataclass
class Catalog:
    """What a results folder holds: cases, newest first, and folders that could not be read, with the reason."""

    cases: Sequence[Case] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def _frame(table: str, rows: Sequence[msgspec.Struct]) -> pd.DataFrame:
    known = columns(TABLES[table].row)
    frame = pd.DataFrame({c.name: list(map(attrgetter(c.name), rows)) for c in known}, columns=[c.name for c in known])
    other = [c.name for c in known if c.kind != "string" and frame[c.name].dtype.kind not in "if"]
    if other:
        frame[other] = frame[other].apply(pd.to_numeric)
    return frame


def folders(results: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """The bundles' folders below `results` by name, those of fleets (with a `fleet.json` beside them) among them, and
    the names that cannot be a case's, with the reason.
    """
    inside = sorted(p for p in results.iterdir() if p.is_dir()) if results.is_dir() else []
    for fleet in [p for p in inside if (p / FLEET).is_file() and not is_bundle(p)]:
        inside += sorted(p for p in fleet.iterdir() if p.is_dir())
    found = [p for p in inside if is_bundle(p)]
    names = Counter(p.name for p in found)
    why = "the folder's name is not safe in a URL: use letters, digits, . _ -"
    twice = "two bundles have that name, one of them in a fleet's folder: rename one"
    good = [p for p in found if _SAFE_ID.match(p.name) and names[p.name] == 1]
    return sorted(good, key=lambda p: p.name), [
        (name, why if not _SAFE_ID.match(name) else twice) for name in names if name not in {p.name for p in good}
    ]


def read(folder: Path) -> Case:
    """One bundle as a case, with what `check` said of it.

    Raises:
        QuantcaseError, OSError, UnicodeDecodeError: it cannot be read, whole or a file of it; told here, and not later.
    """
    bundle = open_bundle(folder)
    case = Case(bundle, bundle.study(), check_bundle(bundle))
    for fault in case.faults:
        if fault.rule in _UNREADABLE and not fault.where.startswith(_TOLD_ON_PAGES):
            raise QuantcaseError(f"{fault.where}: {fault.problem}", fix=fault.fix)
    case.cells, case.requests, case.variants  # noqa: B018 - read now, so that a torn table is told here
    return case


def order(created: str, grade: str) -> tuple[bool, str]:
    """The place of a case among others when sorted in reverse: newest first, simulated ones last."""
    return grade != "simulated", created


def load(results: Path, *, simulated: bool = True, published: bool = True) -> Catalog:
    """Read every bundle below `results`. One that cannot be read is listed, never raised."""
    found, unsafe = folders(results)
    catalog = Catalog([], list(unsafe))
    hidden = {"simulated": not simulated, "published": not published}
    cases: list[Case] = []
    for folder in found:
        try:
            if not hidden.get(open_bundle(folder).info.grade, False):
                cases.append(read(folder))
        except (QuantcaseError, OSError, UnicodeDecodeError) as e:
            catalog.unreadable.append((folder.name, str(e)))
    cases.sort(key=lambda c: order(c.bundle.manifest.created, c.bundle.info.grade), reverse=True)
    return Catalog(cases, sorted(catalog.unreadable))
