"""`datapackage.json`: what a bundle holds, with every file's size and hash, written last and atomically.

The manifest guards itself too: `manifest_sha256` is the sha256 of the file's own bytes with that value replaced by 64
zeros, so that one flipped byte anywhere in the bundle is found, the manifest included.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from collector.bundle.schema import FORMAT, TABLES, Manifest, Resource, columns
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
        QuantcaseError: the folder holds a link or a device: a bundle holds plain files.
    """
    found = []
    for root, folders, files in os.walk(folder, followlinks=False):
        for name in [*folders, *files]:
            path = Path(root) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise QuantcaseError(
                    f"{path.relative_to(folder)} is not a plain file", fix="a bundle holds plain files only"
                )
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in files]
    return sorted(f for f in found if f != MANIFEST and not f.endswith(".tmp"))


def table_schema(path: str) -> dict[str, Any] | None:
    """The Table Schema of a CSV of ours: type, unit and meaning of each field; None for other files."""
    for table in TABLES.values():
        if table.path == path:
            return {
                "fields": [
                    {"name": c.name, "type": c.kind, "description": c.meaning}
                    | ({"unit": c.unit} if c.unit else {})
                    | ({"constraints": {"required": True}} if c.required else {})
                    for c in columns(table.row)
                ],
                "missingValues": [""],
            }
    return None


def resources(folder: Path) -> list[Resource]:
    """Every file of the bundle with its size, hash and, for tables, its schema."""
    holds = {t.path: t.holds for t in TABLES.values()}
    return [
        Resource(
            name=path.replace("/", "-").replace(".", "-").lower(),
            path=path,
            bytes=(folder / path).stat().st_size,
            hash=f"sha256:{file_sha256(folder / path)}",
            mediatype=_MEDIA.get(Path(path).suffix, "application/octet-stream"),
            description=holds.get(path, ""),
            schema=table_schema(path),
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
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise QuantcaseError(f"{folder.name}: no {MANIFEST}", fix="this folder is not a result bundle") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        _refuse_newer(folder)
        raise QuantcaseError(f"{folder.name}/{MANIFEST} cannot be read: {e}", fix="copy the bundle again") from None


def _refuse_newer(folder: Path) -> None:
    """A newer manifest may hold what this version cannot decode: its number says more than the decoder's complaint."""
    try:
        stated = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Numbered).quantcase.format
    except (msgspec.DecodeError, UnicodeDecodeError):
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
