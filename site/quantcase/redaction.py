"""A case for a client's site without what the client keeps to itself: prompts and answers, logs, the author's notes.

The pages are made from a copy of the bundle that does not hold these words, so that no page, download or table can show
them, whoever wrote it. Figures of the answers come from the whole bundle: they are worked out first, and handed on.

Equal words stay equal: each is replaced by a mark that is made of it with a key that nobody has who lacks the words, so
that "the same answer" is still said where it is true. Only known files are copied, and of these only known fields.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import hmac
import io
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import overload

import msgspec
import tomli_w

from collector.bundle import manifest as manifests
from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.answers_write import ITEMS, LIKELIHOOD, ROWS
from collector.bundle.check import check_bundle
from collector.bundle.marks import MARKS
from collector.bundle.predictions import PREDICTIONS
from collector.bundle.read import Bundle, QuantcaseError, open_bundle
from collector.bundle.stress import STRESS
from collector.bundle.tables import read_text
from quantcase.analysis.quality import Quality, control, qualities
from quantcase.catalog import Case
from quantcase.client import KINDS
from quantcase.pages.view import CaseView, Options

__all__ = ["HOME", "WITHHELD", "case_view", "copies", "redacted"]

WITHHELD = "withheld"
HOME = Path(".cache") / "quantcase" / "redacted"
_PLAIN = {
    "redacted.json",
    "environment.json", "client.json", "prompts.json", "planned.json", "cells.csv", "chunk_gaps.csv",
    "telemetry.csv.gz", "engine_metrics.csv.gz", "published.csv",
}  # fmt: skip
_LOADTEST = ("_stats.csv", "_history.csv")
_FIGURES = "quality.msgpack"  # beside a copy: what was worked out of the answers before they were withheld


class _Figures(msgspec.Struct):
    quality: list[Quality]
    quality_control: Quality | None


def copies(folders: Sequence[Path], kinds: Sequence[str], home: Path = HOME) -> list[Path]:
    """The bundles that pages are made of: copies without the words of these kinds, or the bundles themselves.

    Raises:
        QuantcaseError: a bundle has faults or is still open, so that its copy would hide them.
    """
    return [redacted(f, kinds, home) for f in folders] if kinds else list(folders)


def case_view(case: Case, options: Options) -> CaseView:
    """The view of a case; of a redacted copy with the figures of its answers as they were before."""
    shown = CaseView(case, options)
    path = case.bundle.folder.parent / _FIGURES
    if options.site.redact and path.is_file():
        found = msgspec.msgpack.decode(path.read_bytes(), type=_Figures)
        # As functools.cached_property keeps them: a value in the instance stands before the property.
        shown.__dict__.update({"quality": found.quality, "quality_control": found.quality_control})
    return shown


def redacted(folder: Path, kinds: Sequence[str], home: Path = HOME) -> Path:
    """A copy of a closed bundle below `home` without the words of these kinds, its hashes renewed; kept by content.

    Args:
        folder: the bundle.
        kinds: of `client.KINDS`.
        home: a folder for copies; it holds nothing that was withheld.

    Raises:
        QuantcaseError: the bundle has faults or is still open.
    """
    chosen = tuple(k for k in KINDS if k in kinds)
    bundle = open_bundle(folder)
    name = _name(bundle, chosen)
    place = home / name / folder.name
    if place.is_dir():
        return place
    case = Case(bundle, bundle.study(), check_bundle(bundle))
    if not case.sound or not bundle.manifest.resources:
        raise QuantcaseError(
            f"{case.id} cannot be redacted: it has faults or its run is not closed",
            fix="mend it (`collect check`), or leave it out with `cases:`",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=".draft-"))
    try:
        _write(bundle, draft, set(chosen))
        made = open_bundle(draft)
        made.manifest.resources = manifests.resources(draft)
        manifests.write(draft, made.manifest)
        figures = _Figures([_silent(q) for q in qualities(case)], _silent(control(case)))
        manifests.write_atomic(place.parent / _FIGURES, msgspec.msgpack.encode(figures))
        try:
            draft.replace(place)
        except OSError:  # another build put it there meanwhile
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def _name(bundle: Bundle, chosen: tuple[str, ...]) -> str:
    """By every file as it is now, what is withheld, and the code that decides it."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + f"{chosen}".encode())
    for path in [*manifests.list_files(bundle.folder), manifests.MANIFEST]:
        digest.update(f"{path} {manifests.file_sha256(bundle.folder / path)}".encode())
    return digest.hexdigest()[:24]


@overload
def _silent(q: Quality) -> Quality: ...
@overload
def _silent(q: None) -> None: ...
def _silent(q: Quality | None) -> Quality | None:
    """Without the one field of a result that quotes an engine."""
    return None if q is None else dataclasses.replace(q, unscored=WITHHELD if q.unscored else "")


def _write(bundle: Bundle, to: Path, kinds: set[str]) -> None:
    for resource in bundle.manifest.resources:
        path = resource.path
        if path in _PLAIN or (path.startswith("loadtest_") and path.endswith(_LOADTEST)):
            shutil.copyfile(bundle.folder / path, to / path)
        elif path.startswith("logs/") and "logs" not in kinds:
            (to / "logs").mkdir(exist_ok=True)
            shutil.copyfile(bundle.folder / path, to / path)
        elif path in ("notes.md", PREDICTIONS) and "notes" not in kinds:
            shutil.copyfile(bundle.folder / path, to / path)
    shutil.copyfile(bundle.folder / manifests.MANIFEST, to / manifests.MANIFEST)
    _study(bundle, to, kinds)
    for table in ("requests.csv.gz", "variants.csv"):
        _without_errors(bundle.folder / table, to / table)
    for failures in sorted(bundle.folder.glob("loadtest_*_failures.csv")):
        _without_errors(failures, to / failures.name)
    if (bundle.folder / STRESS).is_file():
        _stress(bundle.folder / STRESS, to / STRESS)
    if "notes" not in kinds and "texts" not in kinds and (bundle.folder / MARKS).is_file():
        shutil.copyfile(bundle.folder / MARKS, to / MARKS)
    _answers(bundle, to, "texts" in kinds)


def _study(bundle: Bundle, to: Path, kinds: set[str]) -> None:
    source = bundle.folder / "study.toml"
    data = tomllib.loads(source.read_text("utf-8"))
    if "notes" in kinds and data.pop("predictions", None) is not None:
        (to / "study.toml").write_text(tomli_w.dumps(data), "utf-8")
    else:
        shutil.copyfile(source, to / "study.toml")


def _without_errors(source: Path, target: Path) -> None:
    """A CSV whose error columns say only that there was one: an engine quotes what it was sent."""
    if not source.is_file():
        return
    rows = list(csv.reader(io.StringIO(read_text(source)[0])))
    said = [i for i, name in enumerate(rows[0]) if name.lower() == "error"] if rows else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, row in enumerate(rows):
        kept = list(row)
        for i in said:
            if number and i < len(kept) and kept[i]:
                kept[i] = WITHHELD
        writer.writerow(kept)
    _save(target, out.getvalue().encode())


def _stress(source: Path, target: Path) -> None:
    """Each step without the engine's words."""
    lines = []
    for line in source.read_text("utf-8").splitlines():
        row = msgspec.json.decode(line)
        if isinstance(row, dict):
            kept = {k: WITHHELD if k == "words" and v else v for k, v in row.items()}
            lines.append(msgspec.json.encode(kept))
    _save(target, b"".join(line + b"\n" for line in lines))


def _save(target: Path, data: bytes) -> None:
    if target.suffix != ".gz":
        target.write_bytes(data)
        return
    with target.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
        packed.write(data)


def _answers(bundle: Bundle, to: Path, withhold: bool) -> None:
    names = [r.path for r in bundle.manifest.resources]
    if not withhold:
        for path in (ITEMS, ROWS, LIKELIHOOD):
            if path in names:
                shutil.copyfile(bundle.folder / path, to / path)
        return
    items, rows, scored = bundle.quality_items(), bundle.quality(), bundle.likelihood()
    mark = _marker(items, rows)
    if ITEMS in names:
        _lines(to / ITEMS, (_item(i, mark) for i in items))
    if ROWS in names:
        _lines(to / ROWS, (_row(r, mark) for r in rows))
    if LIKELIHOOD in names:
        _lines(to / LIKELIHOOD, (_scored(r) for r in scored))


def _marker(items: Iterable[QualityItem], rows: Iterable[QualityRow]) -> Callable[[str | None], str | None]:
    """Words -> a mark of them, the same for the same words. The key is the hash of all words of the bundle: a short
    answer cannot be found again by trying, and the same bundle gives the same marks.
    """
    digest = hashlib.sha256()
    for part in (*items, *rows):
        digest.update(msgspec.json.encode(part))
    key = digest.digest()

    @cache
    def mark(words: str | None) -> str | None:
        if not words:
            return words
        return f"{WITHHELD} {hmac.new(key, words.encode('utf-8', 'replace'), 'sha256').hexdigest()[:10]}"

    return mark


def _item(item: QualityItem, mark: Callable[[str | None], str | None]) -> QualityItem:
    return msgspec.structs.replace(
        item, prompt=WITHHELD, messages=None, token_ids=None if item.token_ids is None else [0] * len(item.token_ids),
        reference=mark(item.reference), prompt_sha256=_hash(item.prompt_sha256),
        choices=None if item.choices is None else [mark(c) or "" for c in item.choices],
        free_because=WITHHELD if item.free_because else "",
    )  # fmt: skip


def _row(row: QualityRow, mark: Callable[[str | None], str | None]) -> QualityRow:
    return msgspec.structs.replace(
        row, prompt=None if row.prompt is None else WITHHELD, reference=mark(row.reference), output=mark(row.output),
        parsed=mark(row.parsed), prompt_sha256=_hash(row.prompt_sha256), error=WITHHELD if row.error else None,
        tokens=None if row.tokens is None else [mark(t) or "" for t in row.tokens], top=None,
    )  # fmt: skip


def _scored(row: LikelihoodRow) -> LikelihoodRow:
    """Log-probabilities stay; the tokens' numbers would spell the text."""
    return msgspec.structs.replace(
        row, prompt_sha256=_hash(row.prompt_sha256), error=WITHHELD if row.error else None,
        top=[[(rank, nats) for rank, (_, nats) in enumerate(at)] for at in row.top],
    )  # fmt: skip


def _hash(sha256: str) -> str:
    """A hash of the hash: rows still belong together, and it is not that of the prompt's own text."""
    return hashlib.sha256(f"{WITHHELD} {sha256}".encode()).hexdigest()


def _lines(path: Path, rows: Iterable[msgspec.Struct]) -> None:
    _save(path, b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
