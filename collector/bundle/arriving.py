"""A bundle that comes from a place which nobody vouches for: what its manifest may name, files hashed while they come.

`collect pull` and a site whose results lie on a server both take bundles in this way; archives share the last part.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from collector.bundle import manifest as manifests
from collector.bundle.archive_read import DAMAGED
from collector.bundle.archive_rules import ArchiveFault, Limits, Member, check_members, shown
from collector.bundle.schema import Manifest
from collector.probes.redact import redact

__all__ = ["MANIFEST_BYTES", "PART", "inner_bombs", "judged", "one_line", "receive"]

MANIFEST_BYTES: Final = 16 << 20
"""A longer manifest is not read."""

PART: Final = ".quantcase-part"
"""What an unfinished file is called, behind its own name."""

_PIECE: Final = 1 << 20
_MOST_SAID: Final = 300


def judged(data: bytes, name: str, limits: Limits) -> Manifest:
    """A manifest from elsewhere, once the names and sizes in it break no rule. That of an open run names no files.

    Args:
        data: the bytes of the manifest.
        name: of the bundle's folder.
        limits: how much a bundle may be.

    Raises:
        ArchiveFault: A201, or the rule that a name or a size breaks.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ArchiveFault("A201", shown(name), detail=shown(str(e))) from None
    members = [Member(f"{name}/{r.path}", "file", r.bytes) for r in manifest.resources]
    check_members([Member(f"{name}/{manifests.MANIFEST}", "file", len(data)), *members], limits)
    return manifest


def receive(pieces: Iterable[bytes], target: Path, size: int, digest: str, *, where: str, fix: str = "") -> None:
    """Write a file under a temporary name, counted and hashed while it comes, and then give it its own.

    Args:
        pieces: its bytes.
        target: where it shall lie; folders are made.
        size: bytes that it must have.
        digest: `sha256:` and the hash that it must have; empty where nobody knows it.
        where: its path as a message names it.
        fix: what to do when it is another one.

    Raises:
        ArchiveFault: A204; nothing of it stays.
    """
    part = target.with_name(f"{target.name}{PART}")
    target.parent.mkdir(parents=True, exist_ok=True)
    seen, done = hashlib.sha256(), 0
    try:
        with part.open("wb") as f:
            for piece in pieces:
                seen.update(piece)
                done += len(piece)
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        if done != size or (digest and f"sha256:{seen.hexdigest()}" != digest):
            raise ArchiveFault("A204", shown(where), fix=fix)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def inner_bombs(folder: Path, paths: Collection[str], limits: Limits) -> None:
    """The packed tables of a bundle are archives too: count what they unpack to before anybody reads them.

    Raises:
        ArchiveFault: A121 or A122.
    """
    total = 0
    for path in sorted(p for p in paths if p.endswith(".gz")):
        file, done = folder / path, 0
        try:
            with gzip.open(file) as source:
                while piece := source.read(_PIECE):
                    done += len(piece)
                    if total + done > limits.total_bytes:
                        raise ArchiveFault("A121", shown(path), detail=f"more than {limits.total_bytes >> 20} MiB")
                    if done > limits.ratio_from_bytes and done > limits.ratio * file.stat().st_size:
                        raise ArchiveFault("A122", shown(path), detail=f"more than {limits.ratio}:1")
        except DAMAGED:
            continue  # no bomb; the hash or the check says what is wrong with it
        total += done


def one_line(error: Exception) -> str:
    """What another's code says of a failure, in one line without secrets."""
    return (" ".join(redact(str(error)).split()) or type(error).__name__)[:_MOST_SAID]
