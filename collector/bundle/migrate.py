"""Brings what older versions wrote forward to the newest format. The old folder is only read.

Formats: 0 is a folder of bare CSV and JSON files (`collector.bundle.format0`), 1 is today's bundle. A step from one
format to the next stands in `_STEPS`; a folder goes through as many as it needs.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collector.bundle import format0
from collector.bundle import manifest as manifests
from collector.bundle.check import check
from collector.bundle.marks import MARKS
from collector.bundle.schema import FORMAT
from collector.errors import QuantcaseError, UsageFault
from collector.importers.base import Hints, get
from collector.importers.reading import file_of, read_bytes, short
from collector.importers.store import Read, Said, write_bundle
from collector.probes.redact import redact

__all__ = ["format_of", "migrate"]

_ORIGINALS = "format-0"
_MOST_MANIFEST = 64 << 20
_NOT_STATED = "not stated"
_GPUS = {"rtx16gb": "rtx2000"}  # the notes beside it name the card: RTX 2000 Ada, 16 GB
_BASELINES = ("bf16", "fp16", "f16", "none", "baseline")


def format_of(folder: Path) -> int:
    """The format of a folder: what its manifest says, or 0 for a folder of bare files.

    Raises:
        QuantcaseError: it is neither, or its format is newer than this version knows or no number.
    """
    if not folder.is_dir():
        raise QuantcaseError(f"{short(folder)} is no folder", fix="name a bundle, or a folder of format 0")
    path = folder / manifests.MANIFEST
    if not path.is_file():
        if format0.find(folder) is None:
            raise QuantcaseError(
                f"{short(folder.name)} is no bundle and holds no dayNNN_<workload>_capacity_<gpu>_<variant>.csv",
                fix="see docs/guide/format-0.md",
            )
        return 0
    stated = _stated(path)
    # Only the number is read: a newer manifest may hold what this version cannot decode.
    if isinstance(stated, bool) or not isinstance(stated, int) or stated < 1:
        raise QuantcaseError(
            f"{short(folder.name)}/{manifests.MANIFEST} states no format of a bundle", fix="copy the bundle again"
        )
    if stated > FORMAT:
        raise QuantcaseError(
            f"{short(folder.name)}: format {stated} is newer than this collector knows ({FORMAT})",
            fix="update with pip install -U quantcase",
        )
    return stated


def _stated(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_MANIFEST:
            raise QuantcaseError(f"{manifests.MANIFEST} is larger than {_MOST_MANIFEST >> 20} MiB")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise QuantcaseError(
            f"{short(path.parent.name)}/{path.name} cannot be read: {short(e, 100)}", fix="copy the bundle again"
        ) from None
    info = found.get("quantcase") if isinstance(found, dict) else None
    return info.get("format") if isinstance(info, dict) else None


def migrate(folder: Path, out: Path, *, gpu: str = "", base_model: str = "", baseline: str = "") -> Path | None:
    """Write the folder in the newest format below `out`; None when it is of that format already.

    Args:
        gpu: profile of the card; empty: what the files' names say.
        base_model: the model; empty: "not stated", which is what format 0 says of it.
        baseline: the variant that others are compared with; empty: bf16, fp16, or the only one.

    Raises:
        QuantcaseError: the folder cannot be read, or is newer than this version.
        UsageFault: `out` lies in the old folder, or the baseline is no variant.
    """
    found = format_of(folder)
    if found == FORMAT:
        return None
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageFault(f"{short(out)} lies in the folder that is migrated", fix="--out another folder")
    return _STEPS[found](folder, out, gpu, base_model, baseline)


def _from_0(folder: Path, out: Path, gpu: str, base_model: str, baseline: str) -> Path:
    """Format 0 to 1: the CSV files through the importer, the evaluation as answers and marks, all files kept."""
    files = format0.find(folder)
    if files is None:
        raise QuantcaseError(f"{short(folder.name)} holds no file of format 0")
    answers = format0.read_answers(files.quality) if files.quality else format0.Answers()
    reference = baseline or next((n for n in _BASELINES if n in files.capacity), "")
    if not reference and len(files.capacity) == 1:
        reference = next(iter(files.capacity))
    if reference not in files.capacity:
        known = ", ".join(files.capacity)
        problem = f"no variant is named {short(reference)}" if reference else "no variant is called a baseline"
        raise UsageFault(f"{short(folder.name)}: {problem}", fix=f"--baseline (one of {known})")
    if stray := sorted(answers.rows.keys() - files.capacity.keys()):
        raise QuantcaseError(
            f"{files.quality.name if files.quality else ''}: {short(stray[0])} has answers and no capacity CSV",
            fix="rename it in one of the two",
        )
    importer = get("csv")
    reads = []
    for variant, paths in files.capacity.items():
        read = importer.read(paths, Hints(columns="day004"))
        for point in read.points:
            point.label = ""  # each variant has its own files, and they bear its name
        read.notes.append("max_tokens is the most that an answer may hold: how many tokens it held is not stated.")
        read.items, read.answers = answers.items, answers.rows.get(variant, [])
        read.suite_kind = "sanity"  # short prompts that a person judged, never tasks of lm-eval
        read.missing += [
            "Model, revision, engine, its version and arguments are not in files of format 0.",
            "When it was measured is not in the files: the bundle bears the day of its migration.",
        ]
        if variant == reference:
            read.files += [file_of(p, read_bytes(p)) for p in [files.quality] if p is not None]
            if files.left:
                read.missing.append(f"Not carried along, being no text: {short(', '.join(files.left), 300)}.")
        reads.append(Read(variant=variant, imported=read))
    said = Said(
        gpu=gpu or _GPUS.get(files.gpu, files.gpu),
        baseline=reference,
        base_model=base_model or _NOT_STATED,
        study=files.day,
        title=f"{files.day}: {', '.join(files.capacity)} on {files.gpu} (migrated from format 0)",
    )
    made = write_bundle(reads, out, said)
    try:
        _complete(made, files, answers)
    except BaseException:
        shutil.rmtree(made)  # made a moment ago by this function
        raise
    return made


def _complete(made: Path, files: format0.Files, answers: format0.Answers) -> None:
    """The marks, and every file of format 0 as it was but for secrets; then the manifest again."""
    if answers.marks:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("variant", "prompt_id", "mark", "remark"))
        writer.writerows((m.variant, m.prompt_id, m.mark, " ".join(redact(m.remark).split())) for m in answers.marks)
        manifests.write_atomic(made / MARKS, text.getvalue().encode())
    kept = made / _ORIGINALS
    kept.mkdir()
    originals = [p for paths in files.capacity.values() for p in paths] + files.other
    for path in [*originals, *([files.quality] if files.quality else [])]:
        data = read_bytes(path)
        try:
            clean = redact(data.decode("utf-8")).encode()
        except UnicodeDecodeError:
            raise QuantcaseError(
                f"{short(path.name)} is not UTF-8 text", fix="save it as UTF-8, or take it out"
            ) from None
        manifests.write_atomic(kept / path.name, clean)
    manifest = manifests.read(made)
    stated = {r.path: r for r in manifest.resources}
    fresh = manifests.resources(made)
    manifest.resources = [stated[r.path] if r.path in stated and stated[r.path].hash == r.hash else r for r in fresh]
    manifests.write(made, manifest)
    if faults := [f for f in check(made) if f.level == "error"]:
        raise QuantcaseError(f"the migrated bundle is not sound: {faults[0].where}: {faults[0].problem}")


_STEPS: dict[int, Callable[[Path, Path, str, str, str], Path]] = {0: _from_0}
