"""`collect pull`: bundles from a folder, an SFTP or an S3 server; resumable, verified before they get their name.

The place may be hostile: names, sizes and hashes are judged by the rules of `collect unpack`.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive import arrive, free, verify
from collector.bundle.archive_rules import ArchiveFault, Limits, Member, check_members, shown
from collector.bundle.schema import Manifest, Resource
from collector.carry.store import PART, Store
from collector.errors import QuantcaseError

__all__ = ["Pulled", "found", "pull"]

_MANIFEST_BYTES = 16 << 20


class Pulled(Struct, frozen=True):
    """One bundle that has arrived and was verified."""

    folder: Path
    fetched: int  # files
    kept: int  # files that an earlier, cut pull had brought
    status: str


def found(store: Store) -> list[tuple[str, str]]:
    """The bundles at a place: (path below it, name). The place may be one bundle, or a folder of them.

    Raises:
        QuantcaseError: there is none.
    """
    if store.size(manifests.MANIFEST) is not None:
        return [("", posixpath.basename(os.path.abspath(store.where.path).rstrip("/")))]  # noqa: PTH100
    names = [(n, n) for n in store.folders() if store.size(f"{n}/{manifests.MANIFEST}") is not None]
    if not names:
        raise QuantcaseError(f"{store.where}: no bundle is there", fix="a push that was cut is none: finish it first")
    return names


def pull(
    store: Store,
    path: str,
    name: str,
    out: Path,
    say: Callable[[str], None] = lambda _: None,
    limits: Limits | None = None,
) -> Pulled:
    """Fetch the bundle at `path` into `out/<name>`; one that is there with the same manifest is left alone.

    Raises:
        ArchiveFault: it breaks a rule; nothing of it stays.
        QuantcaseError: another bundle of that name is here, or the transfer failed (what arrived stays for the next).
    """
    limits = limits or Limits()
    data = b"".join(store.read(posixpath.join(path, manifests.MANIFEST), _MANIFEST_BYTES))
    resources = _judged(data, name, limits)
    if (out / name / manifests.MANIFEST).is_file() and (out / name / manifests.MANIFEST).read_bytes() == data:
        status, _ = verify(out / name, limits=limits)
        return Pulled(out / name, 0, len(resources) + 1, status)
    free(out, name)
    beside = out / f".pull-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    folder = beside / name
    folder.mkdir(parents=True, exist_ok=True)
    fetched = kept = 0
    try:
        for resource in resources:
            target = folder / resource.path
            if target.is_file() and f"sha256:{manifests.file_sha256(target)}" == resource.hash:
                kept += 1
                continue
            say(f"{name}/{resource.path} ({resource.bytes} bytes)")
            _fetch(store, posixpath.join(path, resource.path), target, resource)
            fetched += 1
        manifests.write_atomic(folder / manifests.MANIFEST, data)
        status, _ = verify(folder, limits=limits)
        arrive(folder, out)
    except ArchiveFault:
        shutil.rmtree(beside)
        raise
    beside.rmdir()
    return Pulled(out / name, fetched + 1, kept, status)


def _judged(data: bytes, name: str, limits: Limits) -> list[Resource]:
    """The files that a manifest from elsewhere names, once its names and sizes break no rule."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ArchiveFault("A201", shown(name), detail=shown(str(e))) from None
    if not manifest.resources:
        raise ArchiveFault("A203", shown(name), detail="its run is under way or was killed, and it names no file yet")
    members = [Member(f"{name}/{r.path}", "file", r.bytes) for r in manifest.resources]
    check_members([Member(f"{name}/{manifests.MANIFEST}", "file", len(data)), *members], limits)
    return manifest.resources


def _fetch(store: Store, path: str, target: Path, resource: Resource) -> None:
    """One file, counted and hashed while it comes."""
    part = target.with_name(f"{target.name}{PART}")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    try:
        with part.open("wb") as f:
            for piece in store.read(path, resource.bytes):
                digest.update(piece)
                size += len(piece)
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        if size != resource.bytes or f"sha256:{digest.hexdigest()}" != resource.hash:
            raise ArchiveFault("A204", shown(resource.path), fix="pull again; if it stays so, push the bundle again")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
