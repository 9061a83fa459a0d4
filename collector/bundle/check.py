"""`collect check`: is this bundle whole, unchanged, and true to its own definitions?

Each fault names the file, what is wrong and what to do. The levels: `error` (do not believe it), `interrupted` (not
finished; what is there is sound), `note` (worth knowing).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from collector.bundle import loadtest, metrics
from collector.bundle import manifest as manifests
from collector.bundle.answers import LikelihoodRow, QualityRow
from collector.bundle.marks import MARKS
from collector.bundle.predictions import PREDICTIONS, read_predictions
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.schema import TABLES, CellRow, RequestRow, columns
from collector.bundle.stress import STRESS, problems, read_stress
from collector.errors import QuantcaseError
from collector.study import Load, Study

__all__ = ["Fault", "check", "check_bundle"]

_TOLERANCE = 1e-3  # relative: cells against what requests give (0.1 %)


class Fault(Struct, frozen=True):
    """One finding about a bundle."""

    level: Literal["error", "interrupted", "note"]
    where: str  # file, or file and row
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        tail = f"; {self.fix}" if self.fix else ""
        return f"{self.level}: {self.where}: {self.problem}{tail}"


def check(folder: Path) -> list[Fault]:
    """All faults of the bundle in `folder`, gravest first; an empty list when it is sound and complete."""
    try:
        bundle = open_bundle(folder)
    except QuantcaseError as e:
        return [Fault("error", manifests.MANIFEST, e.problem, e.fix)]
    return check_bundle(bundle)


def check_bundle(bundle: Bundle) -> list[Fault]:
    """All faults of an open bundle; see `check`."""
    faults: list[Fault] = []
    closed = bool(bundle.manifest.resources)
    if not manifests.self_hash_ok(bundle.folder, bundle.manifest):
        faults.append(
            Fault("error", manifests.MANIFEST, "its bytes were changed after it was written", "copy it again")
        )
    try:
        if closed:
            faults += _files(bundle)
        faults += _contents(bundle)
    except QuantcaseError as e:
        faults.append(Fault("error", bundle.id, e.problem, e.fix))
    except (OSError, UnicodeDecodeError) as e:
        faults.append(Fault("error", bundle.id, f"cannot be read: {e}"))
    info = bundle.info
    if info.status == "interrupted":
        done = len(bundle.cells()) if not any(f.level == "error" for f in faults) else info.cells_done
        faults.append(
            Fault(
                "interrupted",
                bundle.id,
                f"{done} of {info.cells_planned} cell repeats are measured",
                f"finish it with `collect run --resume {bundle.folder}`",
            )
        )
    elif info.status == "failed":
        faults.append(Fault("note", bundle.id, "the run failed: see variants.csv and logs/"))
    order = {"error": 0, "interrupted": 1, "note": 2}
    return sorted(faults, key=lambda f: order[f.level])


def _files(bundle: Bundle) -> Iterator[Fault]:
    """Every file stands in the manifest and is byte for byte what it was."""
    listed = {r.path: r for r in bundle.manifest.resources}
    present = set(manifests.list_files(bundle.folder))
    for path in sorted(listed.keys() - present):
        yield Fault("error", path, "is missing", "copy the bundle again")
    for path in sorted(present - listed.keys()):
        fix = "run `collect seal`" if path == MARKS else "remove it, or put your words into notes.md"
        yield Fault("error", path, "is not in the manifest", fix)
    for path in sorted(present & listed.keys()):
        file, resource = bundle.folder / path, listed[path]
        if file.stat().st_size != resource.bytes or f"sha256:{manifests.file_sha256(file)}" != resource.hash:
            own = path in ("notes.md", MARKS)
            fix = "if these are your own words, run `collect seal`" if own else "copy the bundle again"
            yield Fault("error", path, "its bytes were changed after the bundle was closed", fix)


def _contents(bundle: Bundle) -> Iterator[Fault]:
    """The rows agree with the study, with each other, and with the definitions."""
    study = bundle.study()
    bundle.environment()
    bundle.client()
    expected = read_predictions(bundle.folder)  # a faulty file raises, and is told as an error
    if expected and expected.answers.variant not in {v.name for v in study.variants}:
        yield Fault("error", PREDICTIONS, f"variant {expected.answers.variant} is not in study.toml")
    yield from _answers(bundle, study)
    for variant in study.variants:
        loadtest.read(bundle.folder, variant.name)  # raises what is wrong with it
    for where, problem in problems(read_stress(bundle.folder), {v.name for v in study.variants}):
        yield Fault("error", f"{STRESS}: {where}", problem)
    for name in TABLES:
        if bundle.table_path(name) is None:
            yield Fault("error", TABLES[name].path, "is missing", "copy the bundle again")
    requests, cells = bundle.requests(), bundle.cells()
    started = {(v.variant, v.start) for v in bundle.variants()}
    by_cell: dict[tuple[str, int, str, str, int], list[RequestRow]] = defaultdict(list)
    for r in requests:
        by_cell[(r.variant, r.start, r.workload, r.load, r.repeat)].append(r)
    yield from _references(study, by_cell, started, bundle.info.status == "complete")
    yield from _sane(requests)
    seen: set[tuple[str, int, str, str, int]] = set()
    written = bundle.columns_of("cells")
    for c in cells:
        key = (c.variant, c.start, c.workload, c.load, c.repeat)
        where = f"cells.csv: {c.variant} {c.workload} {c.load} repeat {c.repeat} (start {c.start})"
        if key in seen:
            yield Fault("error", where, "stands twice")
        seen.add(key)
        if key not in by_cell:
            yield Fault("error", where, "has no rows in requests.csv.gz")
        else:
            yield from _recomputed(c, by_cell[key], study, where, written)
    if bundle.info.status == "complete":
        for key in sorted(by_cell.keys() - seen):
            yield Fault("error", f"requests.csv.gz: {' '.join(map(str, key))}", "has no row in cells.csv")


def _answers(bundle: Bundle, study: Study) -> Iterator[Fault]:
    """Every answer belongs to an item and a variant, stands once, and a score is between 0 and 1."""
    asked = {i.prompt_id: i for i in bundle.quality_items()}
    variants = {v.name for v in study.variants}
    answers: list[QualityRow | LikelihoodRow] = [*bundle.quality(), *bundle.likelihood()]
    seen: set[tuple[str, int, str]] = set()
    for row in answers:
        where = f"quality: {row.variant} {row.prompt_id} pass {row.repeat}"
        if row.variant not in variants:
            yield Fault("error", where, f"variant {row.variant} is not in study.toml")
        if row.prompt_id not in asked:
            yield Fault("error", where, "no such prompt in quality_items.jsonl")
        elif asked[row.prompt_id].prompt_sha256 != row.prompt_sha256:
            yield Fault("error", where, "it answers another prompt than the one in quality_items.jsonl")
        key = (row.variant, row.repeat, row.prompt_id)
        if key in seen:
            yield Fault("error", where, "stands twice")
        seen.add(key)
        if isinstance(row, QualityRow) and row.score is not None and not 0 <= row.score <= 1:
            yield Fault("error", where, f"the score {row.score} is not between 0 and 1")
    for mark in bundle.marks():
        if mark.variant not in variants or mark.prompt_id not in asked:
            yield Fault("error", MARKS, f"{mark.variant} {mark.prompt_id}: no such answer", "mend that line")


def _references(
    study: Study,
    by_cell: dict[tuple[str, int, str, str, int], list[RequestRow]],
    started: set[tuple[str, int]],
    complete: bool,
) -> Iterator[Fault]:
    variants = {v.name for v in study.variants}
    workloads = {w.name for w in study.workloads}
    for variant, start, workload, _load, _repeat in sorted(by_cell):
        if variant not in variants:
            yield Fault("error", "requests.csv.gz", f"variant {variant} is not in study.toml")
        elif complete and (variant, start) not in started:
            yield Fault("error", "requests.csv.gz", f"{variant} start {start} has no row in variants.csv")
        if workload not in workloads:
            yield Fault("error", "requests.csv.gz", f"workload {workload} is not in study.toml")


def _sane(requests: list[RequestRow]) -> Iterator[Fault]:
    """What no correct measurement can hold."""
    for line, r in enumerate(requests, 2):
        where = f"requests.csv.gz line {line}"
        if r.status == "ok" and (r.ttft_ms is None or r.e2e_ms is None or not r.output_tokens):
            yield Fault("error", where, "an ok request lacks TTFT, E2E or output tokens")
        numbers = [x for x in (r.ttft_ms, r.tpot_ms, r.e2e_ms, r.first_chunk_ms) if x is not None]
        if any(x < 0 or not math.isfinite(x) for x in numbers):
            yield Fault("error", where, "a time is negative or not finite")
        elif r.ttft_ms is not None and r.e2e_ms is not None and r.ttft_ms > r.e2e_ms + 0.001:
            yield Fault("error", where, f"TTFT {r.ttft_ms} ms is longer than E2E {r.e2e_ms} ms")
        elif r.status == "ok" and r.tpot_ms is not None and r.ttft_ms is not None and r.e2e_ms is not None:
            expected = (r.e2e_ms - r.ttft_ms) / max(1, (r.output_tokens or 2) - 1)
            if abs(expected - r.tpot_ms) > max(0.002, _TOLERANCE * expected):
                yield Fault("error", where, f"TPOT {r.tpot_ms} ms is not (E2E - TTFT) / (tokens - 1) = {expected:.3f}")


def _recomputed(
    row: CellRow, requests: list[RequestRow], study: Study, where: str, written: set[str]
) -> Iterator[Fault]:
    """cells.csv says what requests.csv.gz gives, column by column that was written."""
    load = Load.of(row.load)
    if load is None:
        yield Fault("error", where, f"{row.load} is no load point")
        return
    try:
        limits = study.workload(row.workload)
    except KeyError:
        return
    again = metrics.cell(requests, load, limits)
    for column in columns(CellRow):
        old, new = getattr(row, column.name), getattr(again, column.name)
        if old == new or column.name not in written:
            continue
        if isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=_TOLERANCE):
            continue
        yield Fault("error", where, f"{column.name} is {old}, requests.csv.gz gives {new}")
