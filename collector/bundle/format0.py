"""Format 0: the bare CSV and JSON files of the time before bundles, as docs/guide/format-0.md tells of them.

A folder of `dayNNN_<workload>_capacity_<gpu>_<variant>.csv`, with or without `dayNNN_quant_quality_eval.json`. Reading
them is all that happens here; `migrate` writes the bundle.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from collector.bundle.answers import Mark, QualityItem, QualityRow
from collector.errors import QuantcaseError
from collector.importers.reading import Node, read_json, short

__all__ = ["SUITE", "Answers", "Files", "find", "read_answers"]

SUITE = "sanity"
_CAPACITY = re.compile(
    r"(?P<day>day\d{3})_(?P<workload>[A-Za-z0-9-]+)_capacity_(?P<gpu>[A-Za-z0-9-]+)_(?P<variant>[A-Za-z0-9-]+)\.csv",
    re.ASCII,
)
_QUALITY = re.compile(r"day\d{3}_quant_quality_eval\.json", re.ASCII)
_MOST_FILES = 1_000
_MOST_PROMPTS = 10_000
_MOST_TEXT = 200_000
_MARKS: dict[str, Literal["good", "minor", "bad"]] = {
    "good": "good",
    "ok": "good",
    "minor": "minor",
    "caution": "minor",
    "bad": "bad",
    "fail": "bad",
}


class Files(Struct, kw_only=True):
    """What a folder of format 0 holds."""

    day: str
    gpu: str  # as the names write it: `rtx16gb`
    capacity: dict[str, list[Path]]  # variant -> its CSV files
    quality: Path | None = None
    other: list[Path] = field(default_factory=list)  # notes, logs, scripts: carried along as they are
    left: list[str] = field(default_factory=list)  # names of what is not: folders, links, files that are no text


class Answers(Struct, kw_only=True):
    """The quality evaluation: what was asked, what each variant answered, and what a person said of it."""

    items: list[QualityItem] = field(default_factory=list)
    rows: dict[str, list[QualityRow]] = field(default_factory=dict)  # variant -> its answers
    marks: list[Mark] = field(default_factory=list)


def find(folder: Path) -> Files | None:
    """The files of format 0 in a folder; None where there is no capacity CSV.

    Raises:
        QuantcaseError: too many files, a link among them, or several days or GPUs in one folder.
    """
    entries = sorted(folder.iterdir())
    if len(entries) > _MOST_FILES:
        raise QuantcaseError(
            f"{short(folder.name)} holds more than {_MOST_FILES:,} files", fix="name one experiment's folder"
        )
    found: dict[str, list[Path]] = {}
    quality: list[Path] = []
    other: list[Path] = []
    left: list[str] = []
    days: dict[str, None] = {}
    gpus: dict[str, None] = {}
    for path in entries:
        if m := _CAPACITY.fullmatch(path.name):
            _plain(path)
            found.setdefault(m["variant"].lower(), []).append(path)
            days[m["day"]] = gpus[m["gpu"].lower()] = None
        elif _QUALITY.fullmatch(path.name):
            _plain(path)
            quality.append(path)
        elif (
            path.is_file() and not path.is_symlink() and path.suffix in (".md", ".csv", ".json", ".log", ".txt", ".py")
        ):
            other.append(path)
        else:
            left.append(path.name)
    if not found:
        return None
    for what, names in (("days", days), ("GPUs", gpus)):
        if len(names) > 1:
            raise QuantcaseError(
                f"{short(folder.name)} holds several {what}: {short(', '.join(names))}", fix="one folder for each"
            )
    if len(quality) > 1:
        raise QuantcaseError(f"{quality[0].name} and {quality[1].name} are both evaluations", fix="keep one")
    return Files(
        day=next(iter(days)),
        gpu=next(iter(gpus)),
        capacity=found,
        quality=next(iter(quality), None),
        other=other,
        left=left,
    )


def _plain(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise QuantcaseError(f"{short(path.name)} is no plain file", fix="put the file itself there")


def read_answers(path: Path) -> Answers:
    """The evaluation's prompts, answers and marks.

    An entry has `prompt`, and under each variant's name `output` and `quality` (Good, Minor, Bad); `id`, `type`,
    `reference` and `notes` may be there.

    Raises:
        QuantcaseError: the file is not such JSON; with the path to the fault.
    """
    document, _ = read_json(path)
    found = Answers()
    entries = list((document["prompts"] if isinstance(document.value, dict) else document).items())
    if len(entries) > _MOST_PROMPTS:
        raise document.fault(f"holds {len(entries):,} prompts, more than {_MOST_PROMPTS:,}")
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        name = short(entry["id"].value, 40) if "id" in entry else str(number)
        if name in seen:
            raise entry.fault(f"a second prompt with the id {name}", "ids must differ")
        seen.add(name)
        _entry(entry, name, found)
    return found


def _entry(entry: Node, name: str, found: Answers) -> None:
    prompt = entry["prompt"].text(_MOST_TEXT)
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    item = QualityItem(
        suite=SUITE,
        task=entry["type"].text(80) if "type" in entry else "not stated",
        prompt_id=f"{SUITE}/{name}",
        prompt_sha256=digest,
        prompt=prompt,
        reference=entry["reference"].text(_MOST_TEXT) if "reference" in entry else None,
    )
    found.items.append(item)
    remark = entry["notes"].text() if "notes" in entry else ""
    marks: list[Mark] = []
    for variant in entry.keys():  # noqa: SIM118 - a Node is no mapping
        if not isinstance(entry.value[variant], dict):
            continue
        said = entry[variant]
        output = said["output"].text(_MOST_TEXT) if "output" in said else None
        error = said["error"].text(400) if "error" in said else None
        if output is None and error is None:
            error = "no output in the file"
        row = QualityRow(
            variant=variant,
            start=1,
            suite=SUITE,
            task=item.task,
            prompt_id=item.prompt_id,
            prompt_sha256=digest,
            reference=item.reference,
            status="error" if error else "ok",
            output=None if error else output,
            error=error,
        )
        found.rows.setdefault(variant, []).append(row)
        if "quality" in said:
            word = re.sub(r"[^a-z]", "", said["quality"].text(40).lower())
            if word not in _MARKS:
                raise said["quality"].fault(f"{short(said['quality'].value)!r} is no mark", "marks: Good, Minor, Bad")
            marks.append(Mark(variant=variant, prompt_id=item.prompt_id, mark=_MARKS[word]))
    faulty = [m for m in marks if m.mark != "good"]  # a note tells of what is wrong, where something is
    for mark in faulty or marks:
        mark.remark = remark
    found.marks += marks
