"""`datapackage.json`: what a bundle holds, with every file's size and hash, written last and atomically.

The manifest guards itself too: `manifest_sha256` is the sha256 of the file's own bytes with that value replaced by 64
zeros, so that one flipped byte anywhere in the bundle is found, the manifest included.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector.bundle import imported, published
from collector.bundle.schema import FORMAT, TABLES, Manifest, Resource, Table, columns
from collector.errors import QuantcaseError

__all__ = [
    "MANIFEST",
    "file_sha256",
    "list_files",
    "read",
    "resources",
    "self_hash_ok",
    "table_schema",
    "write",
    "write_atomic",
]

MANIFEST = "datapackage.json"
_ZEROS = "0" * 64
_MEDIA = {".csv": "text/csv", ".gz": "application/gzip", ".json": "application/json", ".jsonl": "application/jsonl"}
_MEDIA |= {".toml": "application/toml", ".md": "text/markdown"}
_HEADER_BYTES = 1 << 16
_TABLES = {t.path: t for t in TABLES.values()}
_TABLES |= {  # of bundles that were not measured
    imported.TABLE: Table(
        imported.TABLE, imported.ImportedRow, "figures as the tool states them, each with its definition"
    ),
    published.TABLE: Table(published.TABLE, published.PublishedRow, "figures as their source published them"),
}
_HOLDS = {t.path: t.holds for t in _TABLES.values()}
_HOLDS[imported.DOCUMENT] = "which files of which tool, what they do not say, how many requests failed"


class _Number(msgspec.Struct):
    format: int


class _Numbered(msgspec.Struct):
    """So much of a manifest as every version of it has."""

    quantcase: _Number


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of all regular files of a bundle except the manifest and unfinished ones, sorted.

    Raises:
        QuantcaseError: the folder holds a link or a device, or a name that cannot be printed.
    """
    found = []
    for root, folders, files in os.walk(folder, followlinks=False):
        for name in [*folders, *files]:
            path = Path(root) / name
            if not name.isprintable():  # also of bytes that are no UTF-8
                raise QuantcaseError(f"the file name {name!a} cannot be printed", fix="rename that file")
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise QuantcaseError(
                    f"{path.relative_to(folder)} is not a plain file", fix="a bundle holds plain files only"
                )
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(f for f in found if f != MANIFEST and not f.endswith(".tmp"))


def table_schema(path: str, header: Sequence[str] | None = None) -> dict[str, Any] | None:
    """The Table Schema of a CSV of ours: type, unit and meaning of each field; None for other files.

    Args:
        path: of the file inside a closed bundle.
        header: the columns that a file holds, where it may have been written by another version: then these are
            described, in their order, and one that this version does not know is of type `any`.
    """
    if path not in _TABLES:
        return None
    known = {
        c.name: {"name": c.name, "type": c.kind, "description": c.meaning}
        | ({"unit": c.unit} if c.unit else {})
        | ({"constraints": {"required": True}} if c.required else {})
        for c in columns(_TABLES[path].row)
    }
    fields = list(known.values()) if header is None else [known.get(n, {"name": n, "type": "any"}) for n in header]
    return {"fields": fields, "missingValues": [""]}


def _header(path: Path) -> list[str] | None:
    """The columns of a CSV on disk; None where its first line cannot be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as f:
            line = f.readline(_HEADER_BYTES).decode()
    except (EOFError, UnicodeDecodeError, zlib.error, gzip.BadGzipFile):
        return None
    try:
        return next(csv.reader([line])) if line.endswith("\n") else None
    except csv.Error:  # a carriage return in the middle
        return None


def resources(folder: Path) -> list[Resource]:
    """Every file of the bundle with its size, hash and, for tables, its schema."""
    return [
        Resource(
            name=path.replace("/", "-").replace(".", "-").lower(),
            path=path,
            bytes=(folder / path).stat().st_size,
            hash=f"sha256:{file_sha256(folder / path)}",
            mediatype=_MEDIA.get(Path(path).suffix, "application/octet-stream"),
            description=_HOLDS.get(path, ""),
            schema=table_schema(path, _header(folder / path)) if path in _TABLES else None,
        )
        for path in list_files(folder)
    ]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that after a crash either the old or the new content stands there, whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with its own hash."""
    manifest.quantcase.manifest_sha256 = _ZEROS
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    manifest.quantcase.manifest_sha256 = digest
    write_atomic(folder / MANIFEST, data.replace(_ZEROS.encode(), digest.encode(), 1))


def read(folder: Path) -> Manifest:
    """The manifest of a bundle.

    Raises:
        QuantcaseError: there is none, or it is not one.
    """
    path = folder / MANIFEST
    if not path.is_file():  # also of a pipe, which would be waited for without an end
        raise QuantcaseError(f"{folder.name}: no {MANIFEST}", fix="this folder is not a result bundle")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        _refuse_newer(folder)
        raise QuantcaseError(f"{folder.name}/{MANIFEST} cannot be read: {e}", fix="copy the bundle again") from None


def _refuse_newer(folder: Path) -> None:
    """A newer manifest may hold what this version cannot decode: its number says more than the decoder's complaint."""
    try:
        stated = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Numbered).quantcase.format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if stated > FORMAT:
        raise QuantcaseError(
            f"{folder.name} is of format {stated}, this version reads up to {FORMAT}", fix="install a newer quantcase"
        )


def self_hash_ok(folder: Path, manifest: Manifest) -> bool:
    """Whether the manifest's bytes are those that its own hash was taken of."""
    stated = manifest.quantcase.manifest_sha256
    if len(stated) != 64:
        return False
    data = (folder / MANIFEST).read_bytes().replace(stated.encode(), _ZEROS.encode(), 1)
    return hashlib.sha256(data).hexdigest() == stated
