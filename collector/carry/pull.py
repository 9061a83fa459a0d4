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

from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive import arrive, free, verify
from collector.bundle.archive_rules import ArchiveFault, Limits, shown
from collector.bundle.arriving import MANIFEST_BYTES, judged, receive
from collector.carry.store import Store
from collector.errors import QuantcaseError

__all__ = ["Pulled", "found", "pull"]

_AGAIN = "pull again; if it stays so, push the bundle again"


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
    data = b"".join(store.read(posixpath.join(path, manifests.MANIFEST), MANIFEST_BYTES))
    resources = judged(data, name, limits).resources
    if not resources:
        raise ArchiveFault("A203", shown(name), detail="its run is under way or was killed, and it names no file yet")
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
            pieces = store.read(posixpath.join(path, resource.path), resource.bytes)
            receive(pieces, target, resource.bytes, resource.hash, where=resource.path, fix=_AGAIN)
            fetched += 1
        manifests.write_atomic(folder / manifests.MANIFEST, data)
        status, _ = verify(folder, limits=limits)
        arrive(folder, out)
    except ArchiveFault:
        shutil.rmtree(beside)
        raise
    beside.rmdir()
    return Pulled(out / name, fetched + 1, kept, status)
