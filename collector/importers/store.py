"""Writes what importers read, joined with what a person said, as one bundle of grade `imported`.

Nothing is guessed: the GPU, the base model and the baseline come from the person, and what no file and no person says
is written down as missing. Cells are computed from request rows by our own definitions; every other figure goes to
imported.csv under the tool's name.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle import metrics
from collector.bundle.check import check
from collector.bundle.imported import (
    DOCUMENT,
    FAILED_SHARE,
    TABLE,
    ImportedDocument,
    ImportedRow,
    ImportedSource,
    PointCounts,
    bad_points,
)
from collector.bundle.schema import Environment, VariantRow, columns, rounded
from collector.bundle.tables import header_line, row_line
from collector.bundle.write import BundleWriter, bundle_name
from collector.errors import QuantcaseError
from collector.importers.base import Imported, Point
from collector.importers.form import Said, study_of
from collector.importers.reading import short
from collector.probes.redact import redact
from collector.study import Load, Study

__all__ = ["Read", "Said", "failures", "unpaired", "write_bundle"]

_GAP_S = 1.0  # between runs whose times of day are not known: they stand one after another
_LENGTHS_APART = 1.25


class Read(Struct, kw_only=True):
    """Files as an importer read them. Without a variant they are the baseline's, or of the variants that they name."""

    variant: str
    imported: Imported


class _Placed(Struct, kw_only=True):
    """A point with its place in the bundle."""

    variant: str
    workload: str
    repeat: int
    point: Point
    source: Imported


def write_bundle(reads: Sequence[Read], out: Path, said: Said, *, today: datetime.date | None = None) -> Path:
    """Write the bundle into a new folder of `out` and check it; nothing stays when it is not sound.

    Raises:
        QuantcaseError: nothing was read, files contradict each other or what was said, or the rows are no measurement.
        UsageFault: a name that is no name, or a baseline that is no variant.
    """
    _same_file_twice(reads)
    placed = _place(reads, said)
    _one_workload(placed)
    sources = {p.variant: _of_label(p) for p in placed}
    sources |= {r.variant or said.baseline: r.imported for r in reads if r.imported.answers}
    study = study_of(sources, [(p.workload, p.point) for p in placed], said)
    known = [p.point.began_unix_s for p in placed if p.point.began_unix_s is not None]
    began = datetime.datetime.fromtimestamp(min(known), datetime.UTC) if known else None
    day = today or (began or datetime.datetime.now(datetime.UTC)).date()
    folder = out / bundle_name(out, said.gpu, said.study, day)
    rows_of = [p for p in placed if p.point.rows]
    writer = BundleWriter.create(
        folder,
        study,
        grade="imported",
        gpu=said.gpu,
        cells_planned=len(rows_of),
        environment=Environment(gpu_asked=said.gpu),
    )
    try:
        if began is not None:
            writer.manifest.created = began.isoformat(timespec="milliseconds")
        _variants(writer, sources, study, said)
        _requests(writer, rows_of, began, study)
        _answers(writer, reads, said)
        unlike = unpaired(reads, said)
        for r in reads:
            if line := unlike.get(r.variant or said.baseline):
                r.imported.missing.append(line)
        document = _document(reads, placed, said)
        _figures(folder, placed)
        manifests.write_atomic(folder / DOCUMENT, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        (folder / "notes.md").write_text(_notes(document), "utf-8")
        writer.close("complete")
        _describe(writer)
        faults = [f for f in check(folder) if f.level == "error" and not f.where.startswith(f"{DOCUMENT}:")]
        if faults:
            raise QuantcaseError(f"what was read is no measurement: {faults[0].where}: {faults[0].problem}")
    except BaseException:
        shutil.rmtree(folder)  # made a moment ago by this function
        raise
    return folder


def unpaired(reads: Sequence[Read], said: Said) -> dict[str, str]:
    """By name, one line for each variant with answers of which none is to a question that the baseline answered."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for r in reads:
        asked[r.variant or said.baseline] |= {a.prompt_id for a in r.imported.answers}
    base = asked.pop(said.baseline, set())
    why = "were other prompts, tasks or few-shot examples asked?" if base else "it has no answers"
    return {
        variant: f"{variant}: none of its {len(ids):,} answers is to a question of the baseline, {said.baseline} "
        f"({why}): nothing is compared answer by answer"
        for variant, ids in sorted(asked.items())
        if ids and not ids & base
    }


def failures(folder_document: ImportedDocument) -> list[str]:
    """One line for each point of which more than 5 % of the requests failed, worst first."""
    return [
        f"{p.failed} of {p.requests} requests failed ({p.variant}, {p.workload}, {p.load}): "
        f"whether its figures hold the failed ones stands in their definitions"
        for p in bad_points(folder_document)
    ]


def _same_file_twice(reads: Sequence[Read]) -> None:
    seen: dict[str, str] = {}
    for r in reads:
        for f in r.imported.files:
            if f.sha256 in seen:
                raise QuantcaseError(f"{f.name} holds the same bytes as {seen[f.sha256]}", fix="name each file once")
            seen[f.sha256] = f.name


def _place(reads: Sequence[Read], said: Said) -> list[_Placed]:
    """Every point with its variant, workload and repeat: the same load again is the next repeat."""
    out: list[_Placed] = []
    repeats: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    both = {p.load[:1] for r in reads for p in r.imported.points if p.rows and not p.workload} >= {"c", "r"}
    for r in reads:
        labels = sorted({p.label for p in r.imported.points})
        if not r.imported.points and not r.imported.answers:
            raise QuantcaseError(
                f"{r.variant or said.baseline}: the files hold no result", fix="name the tool's result files"
            )
        for p in r.imported.points:
            variant = r.variant or said.baseline
            if len(labels) > 1:
                variant = f"{r.variant}-{p.label}".strip("-") or said.baseline
            workload = p.workload or said.workload
            if both and not p.workload and p.load.startswith("r"):
                workload = f"{workload}-rate"  # a workload has one kind of schedule
            key = (variant, workload, p.load)
            repeats[key] += 1
            out.append(_Placed(variant=variant, workload=workload, repeat=repeats[key], point=p, source=r.imported))
    return out


def _of_label(placed: _Placed) -> Imported:
    """The source as its variant has it: of a file with several models, the one that its label names."""
    model = placed.source.models.get(placed.point.label)
    if model is None:
        return placed.source
    return msgspec.structs.replace(placed.source, model=model.name, method=model.method, bits=model.bits)


def _one_workload(placed: Sequence[_Placed]) -> None:
    """Points that are to be compared had prompts and answers of about the same length."""
    by_workload: defaultdict[str, list[_Placed]] = defaultdict(list)
    for p in placed:
        if not p.point.failed or not p.point.requests or p.point.failed / p.point.requests <= FAILED_SHARE:
            by_workload[p.workload].append(p)
    for workload, points in by_workload.items():
        for what in ("input_tokens", "output_tokens"):
            known = [(v, p) for p in points if (v := getattr(p.point, what))]
            if known and max(known, key=_length)[0] > _LENGTHS_APART * min(known, key=_length)[0] + 8:
                (low, a), (high, b) = min(known, key=_length), max(known, key=_length)
                raise QuantcaseError(
                    f"workload {workload}: {what.replace('_', ' ')} are {low:.0f} a request in {a.variant} "
                    f"{a.point.load} and {high:.0f} in {b.variant} {b.point.load}",
                    fix="these are different workloads: import them apart, each with its own --workload and --study",
                )


def _length(pair: tuple[float, _Placed]) -> float:
    return pair[0]


def _variants(writer: BundleWriter, sources: dict[str, Imported], study: Study, said: Said) -> None:
    for v in study.variants:
        source = sources[v.name]
        writer.set_variant(
            VariantRow(
                variant=v.name,
                start=1,
                exit_state="ok",
                engine=said.engine or source.engine or "not stated",
                engine_version=said.engine_version or source.engine_version,
                model=v.model,
                method=v.method,
                bits=v.bits,
                kv_dtype=v.kv_dtype,
                argv="[]",
            )
        )


def _requests(writer: BundleWriter, placed: Sequence[_Placed], began: datetime.datetime | None, study: Study) -> None:
    """Request rows on the bundle's clock, and the cells that they give."""
    zero = began.timestamp() if began else 0.0
    absolute = bool(placed) and all(p.point.began_unix_s is not None for p in placed)
    at = 0.0
    for p in placed:
        offset = (p.point.began_unix_s or 0.0) - zero if absolute else at
        load = Load.of(p.point.load)
        if load is None or load.name != p.point.load:
            raise QuantcaseError(f"{p.point.load} is no load point", fix="c16 or r2.5")
        rows = [
            rounded(
                msgspec.structs.replace(
                    r,
                    variant=p.variant,
                    start=1,
                    workload=p.workload,
                    load=p.point.load,
                    repeat=p.repeat,
                    started_s=r.started_s + offset,
                    due_s=None if r.due_s is None else r.due_s + offset,
                )
            )
            for r in p.point.rows
        ]
        at = max([at, *(r.started_s + (r.e2e_ms or 0.0) / 1000 for r in rows)]) + _GAP_S
        writer.add_repeat(rows, [], metrics.cell(rows, load, study.workload(p.workload)))


def _answers(writer: BundleWriter, reads: Sequence[Read], said: Said) -> None:
    for r in reads:
        for suite in sorted({i.suite for i in r.imported.items}):
            writer.answers.add_items(suite, [i for i in r.imported.items if i.suite == suite])
        for row in r.imported.answers:
            writer.answers.add(msgspec.structs.replace(row, variant=r.variant or said.baseline, start=1))


def _tool(source: Imported) -> str:
    return f"{source.tool} {source.tool_version}" if source.tool_version else source.tool


def _figures(folder: Path, placed: Sequence[_Placed]) -> None:
    lines = [header_line(ImportedRow)]
    for p in placed:
        for f in p.point.figures:
            row = ImportedRow(
                variant=p.variant,
                workload=p.workload,
                load=p.point.load,
                repeat=p.repeat,
                metric=f.metric.name,
                statistic=f.statistic,
                value=f.value,
                unit=f.metric.unit,
                n=f.n,
                definition=f.metric.definition,
                tool=_tool(p.source),
            )
            lines.append(row_line(row))
    manifests.write_atomic(folder / TABLE, "".join(lines).encode())


def _document(reads: Sequence[Read], placed: Sequence[_Placed], said: Said) -> ImportedDocument:
    sources = []
    for r in reads:
        i = r.imported
        names = {f.metric.name: f.metric.definition for p in i.points for f in p.figures}
        sources.append(
            ImportedSource(
                tool=i.tool,
                tool_version=i.tool_version,
                variants=sorted({p.variant for p in placed if p.source is i} or {r.variant or said.baseline}),
                files=i.files,
                definitions=i.definitions | names,
                missing=[redact(m) for m in dict.fromkeys(i.missing)],
                notes=[redact(n) for n in dict.fromkeys(i.notes)],
                facts={k: redact(v) for k, v in i.facts.items()},
            )
        )
    points = [
        PointCounts(
            variant=p.variant,
            workload=p.workload,
            load=p.point.load,
            repeat=p.repeat,
            requests=len(p.point.rows) or p.point.requests,
            ok=sum(r.status == "ok" for r in p.point.rows) if p.point.rows else p.point.ok,
            failed=sum(r.status in ("error", "timeout") for r in p.point.rows) if p.point.rows else p.point.failed,
            messages={redact(short(k, 200)): v for k, v in p.point.messages.items()},
            rows=bool(p.point.rows),
        )
        for p in placed
    ]
    told = {k: v for k, v in msgspec.to_builtins(said).items() if v}
    return ImportedDocument(sources=sources, points=points, said={k: redact(str(v)) for k, v in told.items()})


def _notes(document: ImportedDocument) -> str:
    lines = ["# Where these figures come from", "", "Imported from other tools' files, not measured by this collector."]
    if bad := failures(document):
        lines += ["", "## Failed requests", "", *(f"- {line}" for line in bad)]
    for s in document.sources:
        lines += ["", f"## {s.tool} {s.tool_version or '(version not stated)'}: {', '.join(s.variants)}", ""]
        lines += [f"- {f.name}, {f.bytes:,} bytes, sha256 {f.sha256}" for f in s.files]
        lines += ["", "What the files do not say:", "", *(f"- {m}" for m in s.missing)] if s.missing else []
        lines += ["", "What was done:", "", *(f"- {n}" for n in s.notes)] if s.notes else []
    lines += ["", "`study.toml` is a form: what no file and no person stated stands there as the format's default.", ""]
    return "\n".join(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", line) for line in lines)


def _describe(writer: BundleWriter) -> None:
    """The manifest says what the columns of imported.csv mean."""
    for resource in writer.manifest.resources:
        if resource.path == TABLE:
            resource.description = "figures as the tool states them, each with its definition"
            resource.schema = {
                "fields": [
                    {"name": c.name, "type": c.kind, "description": c.meaning}
                    | ({"unit": c.unit} if c.unit else {})
                    | ({"constraints": {"required": True}} if c.required else {})
                    for c in columns(ImportedRow)
                ],
                "missingValues": [""],
            }
        elif resource.path == DOCUMENT:
            resource.description = "which files of which tool, what they do not say, how many requests failed"
    manifests.write(writer.folder, writer.manifest)
