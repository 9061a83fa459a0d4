"""`collect redact`: a copy of a bundle that says how fast and how good, and not what was asked and answered.

Prompts, references, answers and tokens become marks: keyed BLAKE2b (RFC 7693) under 32 random bytes. The same words at
the same place give the same mark, so that answers of two variants are still paired and told equal or different, and
accuracy, flips, macro-F1, the place where answers part, and the likeness of the distributions come out as before. A
token's mark holds for its prompt and its position alone, an answer's for its prompt, a label's for its suite: how often
a word occurs in the texts cannot be read off the marks. Without the salt nobody can try out texts; with it one can.

Only files and fields that this version knows are copied. `redacted.json`, and its description in the manifest, say
what was taken.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from collector import __version__
from collector.bundle import manifest as manifests
from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.answers_write import ITEMS, LIKELIHOOD, ROWS
from collector.bundle.check import check, errors
from collector.bundle.marks import MARKS
from collector.bundle.predictions import PREDICTIONS
from collector.bundle.read import Bundle, open_bundle
from collector.bundle.schema import TABLES, columns
from collector.bundle.stress import STRESS
from collector.bundle.tables import read_text
from collector.errors import QuantcaseError, UsageFault
from collector.study import dumps as study_toml

__all__ = ["REDACTED", "TAKEN_OUT", "Redacted", "Wish", "read_redacted", "read_salt", "redacted_copy"]

REDACTED = "redacted.json"
TAKEN_OUT = "texts were taken out"  # stands where a text stood; before a mark in brackets where texts are compared
_PLAIN = {
    "client.json", "prompts.json", "planned.json", "published.csv", "imported.csv", "imported.json", "cells.csv",
    "chunk_gaps.csv", "telemetry.csv.gz", "engine_metrics.csv.gz", "variants.csv",
}  # fmt: skip
_LOADTEST = re.compile(r"loadtest_.+_(?:stats|history|failures)\.csv")
_LOG = re.compile(r"logs/.+\.log\.gz")
_GPU_FACTS = ("index", "name", "vram_mib", "driver")  # of a card, where the host is taken out: what rules hold against
# Lines in which engines write down what they were sent: vLLM with --enable-log-requests, llama.cpp's server with -v.
_QUOTES = re.compile(
    r"(?i)received request|generated (?:response|text)|\bprompt(?:_token_ids)?[\"']?\s*[:=]"
    r"|\"?(?:content|messages)\"?\s*[:=]"
)
_SALT_BYTES = 32
_MARK_CHARS = 12
_TOKEN_BYTES = 5  # of a token's mark, which has to be a number that JSON readers hold exactly


class Wish(Struct, frozen=True, kw_only=True):
    """What is to be taken out of a copy."""

    texts: bool = True  # prompts, references, answers, tokens, and words of engines that quote them
    logs: bool = False  # the engines' logs, and the lines quoted from them
    notes: bool = False  # the person's own words: notes, remarks, predictions
    host: bool = False  # what is known of the machine beside the cards' name, memory and driver
    columns: tuple[str, ...] = ()  # TABLE.COLUMN


class Redacted(Struct, kw_only=True):
    """redacted.json: what a copy does not hold."""

    taken: list[str]  # in words
    columns: list[str] = []  # TABLE.COLUMN
    texts: bool = True
    salt: Literal["thrown away", "kept elsewhere"] = "thrown away"
    source_manifest_sha256: str = ""  # of the bundle that it was made of
    collector_version: str = ""


def read_redacted(folder: Path) -> Redacted | None:
    """What was taken out of a bundle; None for one that is whole.

    Raises:
        QuantcaseError: the file is not of this form.
    """
    path = folder / REDACTED
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Redacted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise QuantcaseError(f"{folder.name}/{REDACTED} cannot be read: {e}", fix="make the copy again") from None


def read_salt(path: Path) -> bytes:
    """The salt in a file, which is made when it is not there, readable by its owner only: copies made with the same
    salt have the same marks.

    Raises:
        QuantcaseError: the file cannot be read or made, or holds no salt.
    """
    try:
        if not path.exists():
            made = secrets.token_bytes(_SALT_BYTES)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
                f.write(made.hex() + "\n")
            return made
        salt = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as e:
        raise QuantcaseError(
            f"--salt-file {path.name}: {e.strerror or e}", fix="name a file that may be written"
        ) from None
    except ValueError:
        salt = b""
    if len(salt) < _SALT_BYTES:
        raise QuantcaseError(
            f"--salt-file {path.name} holds no salt", fix="name a file that is not there: it will be made"
        )
    return salt


def redacted_copy(source: Path, out: Path, wish: Wish, *, salt_file: Path | None = None) -> tuple[Path, Redacted]:
    """Write `out/<name of the bundle>`; returns the folder, and what was taken.

    Raises:
        UsageFault: the place is taken, the salt would lie in a bundle, or a column does not exist or cannot be missed.
        QuantcaseError: the bundle is open or not sound, so that its copy would hide that; or the copy would not be.
    """
    bundle = open_bundle(source)
    place = out / source.resolve().name
    if salt_file is not None:
        for folder in (source, place):
            if salt_file.resolve().is_relative_to(folder.resolve()):
                raise UsageFault("the salt must not lie in a bundle", fix="name a --salt-file elsewhere")
    if place.exists():
        raise UsageFault(f"{place} is there already", fix="name another --out, or remove it")
    _known_columns(wish.columns)
    if not bundle.manifest.resources:
        raise QuantcaseError(f"{bundle.id} is still open", fix="finish or resume the run first")
    if faults := errors(check(source)):
        raise QuantcaseError(f"{bundle.id} is not sound: {faults[0].where}: {faults[0].problem}", fix=faults[0].fix)
    salt = read_salt(salt_file) if salt_file is not None else secrets.token_bytes(_SALT_BYTES)
    out.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=out, prefix=".redact-"))
    try:
        copy = draft / place.name
        copy.mkdir()
        said = _Copy(bundle, copy, wish, salt).write()
        said.salt = "thrown away" if salt_file is None else "kept elsewhere"
        _seal(bundle, copy, said)
        if faults := errors(check(copy)):
            raise QuantcaseError(
                f"the copy would not be sound: {faults[0].where}: {faults[0].problem}",
                fix="leave those columns in that other figures are computed from",
            )
        copy.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place, said


def _known_columns(names: Iterable[str]) -> None:
    for name in names:
        table, _, column = name.partition(".")
        known = {c.name: c for c in columns(TABLES[table].row)} if table in TABLES else {}
        if not known:
            raise UsageFault(f"--column {name}: no such table", fix=f"TABLE.COLUMN with one of {', '.join(TABLES)}")
        if column not in known:
            raise UsageFault(f"--column {name}: no such column", fix=f"columns: {', '.join(known)}")
        if known[column].required:
            raise UsageFault(f"--column {name} is needed to tell rows apart", fix="name one that may be empty")


def _seal(bundle: Bundle, copy: Path, said: Redacted) -> None:
    """Write redacted.json and the manifest. Schemas name only the columns that are there."""
    said.source_manifest_sha256 = bundle.info.manifest_sha256
    said.collector_version = __version__
    manifests.write_atomic(copy / REDACTED, msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n")
    manifest = msgspec.structs.replace(bundle.manifest, resources=manifests.resources(copy))
    gone = {tuple(name.split(".", 1)) for name in said.columns}
    tables = {table.path: name for name, table in TABLES.items()}
    for resource in manifest.resources:
        if resource.path == REDACTED:
            resource.description = f"this is a redacted copy: it lacks {'; '.join(said.taken)}"
        elif resource.schema is not None and resource.path in tables:
            header = read_text(copy / resource.path)[0].split("\n", 1)[0].split(",")
            fields = [f for f in resource.schema["fields"] if (tables[resource.path], f["name"]) not in gone]
            resource.schema["fields"] = [f for f in fields if f["name"] in header]
    manifests.write(copy, manifest)


class _Copy:
    """One copy in the making."""

    def __init__(self, bundle: Bundle, to: Path, wish: Wish, salt: bytes) -> None:
        self._bundle = bundle
        self._from = bundle.folder
        self._to = to
        self._wish = wish
        self._salt = salt
        self._taken: list[str] = []
        self._items = {i.prompt_id: i for i in bundle.quality_items()}

    def write(self) -> Redacted:
        wish = self._wish
        names = [r.path for r in self._bundle.manifest.resources]
        if wish.texts:
            self._taken.append("prompts, references, answers and tokens (marks under a salt stand in their place)")
            self._taken.append("engines' words on failed requests")
        for name in names:
            self._file(name)
        self._environment()
        self._study()
        if wish.logs:
            self._taken.append("the engines' logs")
        if wish.notes:
            self._taken.append("the author's own words")
        if wish.host:
            self._taken.append("the host's hardware and system")
        if wish.columns:
            self._taken.append(f"the columns {', '.join(wish.columns)}")
        return Redacted(taken=list(dict.fromkeys(self._taken)), columns=list(wish.columns), texts=wish.texts)

    def _file(self, name: str) -> None:
        wish, source = self._wish, self._from / name
        if name in ("environment.json", "study.toml", REDACTED):
            return  # written by themselves
        if name in _PLAIN or name == "requests.csv.gz" or _LOADTEST.fullmatch(name):
            self._table(name)
        elif name == STRESS:
            self._stress()
        elif _LOG.fullmatch(name):
            if not wish.logs:
                self._log(name)
        elif name in ("notes.md", PREDICTIONS):
            if not wish.notes:
                shutil.copyfile(source, self._to / name)
        elif name == MARKS:
            if not (wish.notes or wish.texts):
                shutil.copyfile(source, self._to / name)
            else:
                self._marks()
        elif name in (ITEMS, ROWS, LIKELIHOOD):
            self._answers(name)
        else:
            self._taken.append("files that this version does not know")

    # -- tables and documents ------------------------------------------------------------------------------------

    def _table(self, name: str) -> None:
        """A file as it is, less columns that were chosen and, in CSV, engines' words on what they were sent."""
        table = next((key for key, t in TABLES.items() if t.path == name), "")
        gone = {c.partition(".")[2] for c in self._wish.columns if c.partition(".")[0] == table} if table else set()
        quoted = {"error"} if self._wish.texts and table != "variants" else set()
        if self._wish.logs and table == "variants":
            quoted = {"error", "evidence"}
        if not name.endswith((".csv", ".csv.gz")) or not (gone or quoted):
            shutil.copyfile(self._from / name, self._to / name)
            return
        rows = list(csv.reader(io.StringIO(read_text(self._from / name)[0], newline="")))
        header = rows[0] if rows else []
        kept = [i for i, column in enumerate(header) if column not in gone]
        said = {i for i, column in enumerate(header) if column.lower() in quoted}
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        for number, row in enumerate(rows):
            writer.writerow([TAKEN_OUT if number and i in said and row[i] else row[i] for i in kept if i < len(row)])
        self._save(name, out.getvalue().encode())

    def _stress(self) -> None:
        lines = []
        for line in (self._from / STRESS).read_bytes().splitlines():
            row = msgspec.json.decode(line, type=dict[str, object])
            if row.get("words") and (self._wish.texts or self._wish.logs):
                row["words"] = TAKEN_OUT
            lines.append(row)
        self._save(STRESS, b"".join(msgspec.json.encode(row) + b"\n" for row in lines))

    def _log(self, name: str) -> None:
        (self._to / "logs").mkdir(exist_ok=True)
        if not self._wish.texts:
            shutil.copyfile(self._from / name, self._to / name)
            return
        lines = read_text(self._from / name)[0].split("\n")
        self._save(name, "\n".join(TAKEN_OUT if _QUOTES.search(line) else line for line in lines).encode())

    def _marks(self) -> None:
        """A person's marks without the remarks, which quote answers."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["variant", "prompt_id", "mark", "remark"])
        for mark in self._bundle.marks():
            writer.writerow([mark.variant, mark.prompt_id, mark.mark, ""])
        self._save(MARKS, out.getvalue().encode())
        self._taken.append("remarks on answers")

    def _environment(self) -> None:
        if not (self._from / "environment.json").is_file():
            return
        found = self._bundle.environment()
        if self._wish.host:
            for session in found.sessions:
                session.host = {}
                session.gpus = [{k: card[k] for k in _GPU_FACTS if k in card} for card in session.gpus]
        data = msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"
        self._save("environment.json", data)

    def _study(self) -> None:
        if not self._wish.notes:
            shutil.copyfile(self._from / "study.toml", self._to / "study.toml")
            return
        study = self._bundle.study()
        variants = [msgspec.structs.replace(v, note="") for v in study.variants]
        said = msgspec.structs.replace(study, predictions=None, next_steps=[], variants=variants)
        self._save("study.toml", study_toml(said).encode())

    def _save(self, name: str, data: bytes) -> None:
        target = self._to / name
        target.write_bytes(gzip.compress(data, mtime=0) if target.suffix == ".gz" else data)

    # -- texts ---------------------------------------------------------------------------------------------------

    def _answers(self, name: str) -> None:
        if not self._wish.texts:
            shutil.copyfile(self._from / name, self._to / name)
            return
        rows: list[Struct] = []
        if name == ITEMS:
            rows += [self._item(i) for i in self._items.values()]
        elif name == ROWS:
            rows += [self._row(r) for r in self._bundle.quality()]
        else:
            rows += [self._scored(r) for r in self._bundle.likelihood()]
        self._save(name, b"".join(msgspec.json.encode(r) + b"\n" for r in rows))

    def _at(self, *place: str) -> hashlib.blake2b:
        """The hash of a place, ready to be copied and fed the words there. Lengths keep the parts apart."""
        data = b"".join(len(p).to_bytes(8, "big") + p for p in (x.encode("utf-8", "replace") for x in place))
        return hashlib.blake2b(data, key=self._salt, digest_size=32)

    def _mark(self, words: str, *place: str) -> str:
        """The mark of words at a place."""
        digest = self._at(*place)
        digest.update(words.encode("utf-8", "replace"))
        return digest.hexdigest()

    def _label(self, scope: str, words: str | None) -> str | None:
        """The mark of a label or of what was read as the answer: one word in the spelling that labels have, so that
        equal labels stay equal however they were written.
        """
        if not words:
            return words
        spelled = "_".join(words.casefold().replace("-", " ").replace("_", " ").split())
        return f"taken_out_{self._mark(spelled, 'label', scope)[:_MARK_CHARS]}"

    def _scope(self, item: QualityItem | None, prompt_id: str) -> str:
        """Labels are the same thing throughout their suite; any other answer is its prompt's alone."""
        return f"suite {item.suite}" if item is not None and item.scorer == "label" else f"prompt {prompt_id}"

    def _tokens(self, prompt_id: str, position: int, tokens: Iterable[int]) -> list[int]:
        """Marks of tokens that may stand at one position of one prompt."""
        place = self._at("token id", prompt_id, str(position))
        found = []
        for token in tokens:
            digest = place.copy()
            digest.update(token.to_bytes(8, "big", signed=True))
            found.append(int.from_bytes(digest.digest()[:_TOKEN_BYTES], "big"))
        return found

    def _item(self, item: QualityItem) -> QualityItem:
        scope = self._scope(item, item.prompt_id)
        ids = item.token_ids
        return msgspec.structs.replace(
            item,
            prompt=TAKEN_OUT,
            messages=None,
            prompt_sha256=self._mark(item.prompt_sha256, "prompt"),
            # Position i of a likelihood row speaks of token i + 1: it is marked as what stands at i.
            token_ids=None if ids is None else [self._tokens(item.prompt_id, i - 1, [t])[0] for i, t in enumerate(ids)],
            reference=None if item.scorer == "criterion" else self._label(scope, item.reference),
            choices=None if item.choices is None else [self._label(scope, c) or "" for c in item.choices],
            document=None if item.document is None else self._mark(item.document, "document", item.suite)[:_MARK_CHARS],
            free_because=TAKEN_OUT if item.free_because else "",
        )

    def _row(self, row: QualityRow) -> QualityRow:
        scope = self._scope(self._items.get(row.prompt_id), row.prompt_id)
        key = row.prompt_id
        return msgspec.structs.replace(
            row,
            prompt=None if row.prompt is None else TAKEN_OUT,
            prompt_sha256=self._mark(row.prompt_sha256, "prompt"),
            reference=self._label(scope, row.reference),
            output=f"{TAKEN_OUT} ({self._mark(row.output, 'answer', key)[:_MARK_CHARS]})" if row.output else row.output,
            parsed=self._label(scope, row.parsed),
            tokens=None if row.tokens is None else [self._piece(key, i, t) for i, t in enumerate(row.tokens)],
            top=None if row.top is None else [[self._piece(key, i, t) for t in at] for i, at in enumerate(row.top)],
            error=TAKEN_OUT if row.error else None,
        )

    def _piece(self, prompt_id: str, position: int, token: str) -> str:
        return self._mark(token, "token", prompt_id, str(position))[:_MARK_CHARS]

    def _scored(self, row: LikelihoodRow) -> LikelihoodRow:
        """Log-probabilities stay; the tokens that they belong to become marks of their position."""
        return msgspec.structs.replace(
            row,
            prompt_sha256=self._mark(row.prompt_sha256, "prompt"),
            top=[self._likeliest(row.prompt_id, i, at) for i, at in enumerate(row.top)],
            error=TAKEN_OUT if row.error else None,
        )

    def _likeliest(self, prompt_id: str, position: int, at: list[tuple[int, float]]) -> list[tuple[int, float]]:
        marks = self._tokens(prompt_id, position, (token for token, _ in at))
        return [(mark, nats) for mark, (_, nats) in zip(marks, at, strict=True)]
