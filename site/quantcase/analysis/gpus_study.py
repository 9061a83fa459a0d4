"""Which cases are one study on several GPUs or boxes: the groups of the GPU pages, by GPU type and physical box.

Cases belong together when grade, kind of weights, base model, prompts with their seed, engine and the baseline's
format are the same and a workload is defined alike; variants are paired by definition, which is format and GPUs of the
server, and not by name. What else differs (engine version, arguments, driver) does not part them: it is named
(`caveats`), because a difference between two cards then holds it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from quantcase.analysis.between import Side, differences
from quantcase.analysis.between_document import CaseDocument, CellDocument
from quantcase.analysis.gpus_boxes import apart
from quantcase.analysis.gpus_facts import VariantFacts

__all__ = ["MIXED", "UNKNOWN", "Box", "GpuType", "Group", "caveats", "facts_of", "groups"]

UNKNOWN = "card not recorded"
MIXED = " and "  # between the boxes of a variant whose server starts ran on several
# Of what surrounds a case, what would move figures. Hardware is what is compared here, but not these facts of it.
_CAVEATS = ("Engine", "Sampling parameters", "Prompt length distribution", "Output length distribution", "Client")
_OF_HARDWARE = ("driver", "power limit")


@dataclass(frozen=True)
class Box:
    """One physical box of one GPU type: the cases that were measured on it, newest first."""

    name: str
    cases: tuple[CaseDocument, ...]

    @property
    def known(self) -> bool:
        """Whether the bundle says which card it was, and that it was one throughout."""
        return self.name != UNKNOWN and MIXED not in self.name


@dataclass(frozen=True)
class GpuType:
    """One GPU type of a study: `name` in the driver's words, else its profile's; `gpu` is the newest case's profile."""

    gpu: str
    name: str
    boxes: tuple[Box, ...]

    @property
    def cases(self) -> list[CaseDocument]:
        """Every case measured on it, newest first."""
        found = {c.case: c for box in self.boxes for c in box.cases}
        return sorted(found.values(), key=lambda c: c.created, reverse=True)

    @property
    def priced(self) -> CaseDocument:
        """The case whose price counts: the newest that has one."""
        return next((c for c in self.cases if c.usd_per_hour is not None), self.cases[0])


@dataclass(frozen=True)
class Group:
    """One study on one or more GPU types. `variants`: definition -> name; `workloads`: what all types measured."""

    grade: str
    weights: str
    base_model: str
    baseline: str  # the newest case's, by its definition
    gpus: tuple[GpuType, ...]
    variants: Mapping[str, str]
    workloads: tuple[str, ...]

    @property
    def cases(self) -> list[CaseDocument]:
        """Every case of the group, newest first."""
        return sorted((c for g in self.gpus for c in g.cases), key=lambda c: c.created, reverse=True)

    @cached_property
    def several(self) -> bool:
        """Whether there is anything to compare: two GPU types, or two boxes of one that are known to be two."""
        if len(self.gpus) > 1:
            return True
        names = [[b.name] for g in self.gpus for b in g.boxes if b.known]
        return any(apart(a, b) for a, b in combinations(names, 2))  # one card alone and with another is one box

    def side(self, box: Box, definition: str, workload: str, load: str = "") -> Side | None:
        """The newest case of a box in which a variant was measured there; `load` empty: at any load point."""
        for case in box.cases:
            for name, cells in _measured(case, workload):
                mine = facts_of(case, name).defined == definition and _box_of(case, name) == box.name
                if mine and (not load or load in cells):
                    return Side(case, name)
        return None


def facts_of(case: CaseDocument, variant: str) -> VariantFacts:
    """The facts of a variant; of one that never served, none of use."""
    known = case.hardware.variants.get(variant) if case.hardware else None
    return known or VariantFacts("", "", 1, [])


def groups(cases: Sequence[CaseDocument]) -> list[Group]:
    """The groups: those with something to compare first, then the newest. Published cases and CPUs are in none."""
    found: dict[tuple[str, ...], list[CaseDocument]] = {}
    for case in cases:
        if case.hardware and case.hardware.kind != "cpu" and case.grade != "published" and _ways(case):
            found.setdefault(_identity(case), []).append(case)
    made = [_group(part) for same in found.values() for part in _parts(same)]
    made.sort(key=lambda g: g.cases[0].created, reverse=True)
    return sorted(made, key=lambda g: not g.several)


def caveats(group: Group) -> list[tuple[str, str, str]]:
    """(case, reference case, what differs) against the newest case, for what moves figures beside the card."""
    reference = group.cases[0]
    found = []
    for other in group.cases[1:]:
        for ours, theirs in _pairs(other, reference):
            words = [
                d.words for d in differences(ours, theirs) if d.variable in _CAVEATS and d.state in ("bad", "look")
            ]
            words += _hardware(ours, theirs)
            if words:
                found.append((other.case, reference.case, "; ".join(words)))
            break
    return found


def _hardware(ours: Side, theirs: Side) -> Iterator[str]:
    one, two = (s.variant.fixed.get("Hardware", {}) for s in (ours, theirs))
    for fact in _OF_HARDWARE:
        a, b = one.get(fact, ""), two.get(fact, "")
        if a and b and a != b and (fact != "power limit" or one.get("GPU") == two.get("GPU")):
            yield f"{fact} {a} against {b}"


def _pairs(ours: CaseDocument, theirs: CaseDocument) -> Iterator[tuple[Side, Side]]:
    """Variants of the same definition, in the order of the first; the baseline first."""
    names = sorted(ours.variants, key=lambda n: n != ours.baseline)
    for name in names:
        defined = facts_of(ours, name).defined
        other = next((n for n in theirs.variants if defined and facts_of(theirs, n).defined == defined), None)
        if other is not None:
            yield Side(ours, name), Side(theirs, other)


def _measured(case: CaseDocument, workload: str) -> Iterator[tuple[str, Mapping[str, CellDocument]]]:
    """Variants with cells of a workload: of several of one definition the first, because a control is the baseline."""
    seen = set()
    for name, variant in case.variants.items():
        defined = facts_of(case, name).defined
        if defined and defined not in seen and variant.cells.get(workload):
            seen.add(defined)
            yield name, variant.cells[workload]


def _box_of(case: CaseDocument, variant: str) -> str:
    return MIXED.join(facts_of(case, variant).boxes) or UNKNOWN


def _ways(case: CaseDocument) -> set[tuple[tuple[str, str], ...]]:
    """The workloads that were measured, each as its name and definition."""
    measured = {w for v in case.variants.values() for w in v.cells}
    return {
        (("", name), *sorted((k, x) for k, x in definition.items() if k != "title"))
        for name, definition in case.workloads.items()
        if name in measured
    }


def _identity(case: CaseDocument) -> tuple[str, ...]:
    first = case.variants.get(case.baseline) or next(iter(case.variants.values()))
    facts = first.fixed
    prompts = facts.get("Prompts", {})
    return (
        case.grade, case.weights, facts.get("Model", {}).get("base model", ""), prompts.get("kind", ""),
        prompts.get("seed", ""), facts.get("Engine", {}).get("engine", ""), facts_of(case, case.baseline).format,
    )  # fmt: skip


def _parts(cases: Sequence[CaseDocument]) -> Iterator[list[CaseDocument]]:
    """Cases that share a workload, directly or through others."""
    left = list(cases)
    while left:
        part, known, grew = [left.pop(0)], set[tuple[tuple[str, str], ...]](), True
        known |= _ways(part[0])
        while grew:
            joined = [c for c in left if _ways(c) & known]
            left = [c for c in left if c not in joined]
            part += joined
            for c in joined:
                known |= _ways(c)
            grew = bool(joined)
        yield part


def _group(cases: Sequence[CaseDocument]) -> Group:
    newest = sorted(cases, key=lambda c: c.created, reverse=True)
    types: dict[str, dict[str, list[CaseDocument]]] = {}
    profiles: dict[str, str] = {}
    names: dict[str, str] = {}
    for case in newest:
        gpu = (case.hardware.name if case.hardware else "") or case.gpu
        boxes = types.setdefault(gpu, {})
        profiles.setdefault(gpu, case.gpu)
        for workload in case.workloads:
            for variant, _ in _measured(case, workload):
                mine = boxes.setdefault(_box_of(case, variant), [])
                if case not in mine:
                    mine.append(case)
                names.setdefault(facts_of(case, variant).defined, _named(case, variant))
    first = newest[0]
    baseline = facts_of(first, first.baseline).defined
    order = sorted(names, key=lambda d: d != baseline)
    gpus = tuple(
        GpuType(profiles[name], name, tuple(Box(b, tuple(found)) for b, found in sorted(boxes.items())))
        for name, boxes in sorted(types.items())
    )
    shared = [
        w for w in dict.fromkeys(w for c in newest for w in c.workloads)
        if all(any(next(_measured(c, w), None) for c in g.cases) for g in gpus) and _alike(newest, w)
    ]  # fmt: skip
    model = next(iter(first.variants.values())).fixed.get("Model", {}).get("base model", "")
    return Group(
        first.grade, first.weights, model, baseline, gpus, _labels({d: names[d] for d in order}), tuple(shared)
    )


def _alike(cases: Sequence[CaseDocument], workload: str) -> bool:
    """Whether a workload's name means one definition in every case that measured it."""
    return len({w for c in cases for w in _ways(c) if w[0][1] == workload}) == 1


def _labels(names: Mapping[str, str]) -> dict[str, str]:
    """Definition -> name; where one name stands for two definitions, the later ones are numbered."""
    seen: dict[str, int] = {}
    made = {}
    for definition, name in names.items():
        seen[name] = seen.get(name, 0) + 1
        made[definition] = name if seen[name] == 1 else f"{name} (definition {seen[name]})"
    return made


def _named(case: CaseDocument, variant: str) -> str:
    """A variant's name, with the GPUs of its server where these are several and the name does not say so."""
    gpus = facts_of(case, variant).gpus
    return f"{variant} on {gpus} GPUs" if gpus > 1 else variant
