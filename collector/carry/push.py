"""`collect push`: bundles to a folder, an SFTP or an S3 server; resumable, the manifest last.

A folder without a manifest is no bundle to anybody. So a push that was cut is not one, and the next push of the same
bundle goes on: files that are there with the same hash stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive import Contents, contents
from collector.bundle.archive_rules import shown
from collector.carry.store import PART, Store
from collector.errors import QuantcaseError

__all__ = ["Pushed", "push"]


class Pushed(Struct, frozen=True):
    """One bundle that has arrived whole."""

    name: str
    sent: int  # files
    kept: int  # files that were there already, byte for byte
    sent_bytes: int
    status: str


def push(folder: Path, store: Store, say: Callable[[str], None] = lambda _: None) -> Pushed:
    """Send a bundle to `store/<bundle>`; `say` hears a line for each file.

    Raises:
        QuantcaseError: the bundle has errors, another bundle of that name is there, or the transfer failed.
    """
    what = contents(folder)
    top, manifest = what.name, f"{what.name}/{manifests.MANIFEST}"
    digest = hashlib.sha256(what.manifest).hexdigest()
    there = store.size(manifest) is not None
    if there and not store.same(manifest, len(what.manifest), digest):
        raise QuantcaseError(
            f"{store.where}: another bundle named {shown(top)} is there and stays as it is",
            fix="push to another folder",
        )
    if not there:
        _no_cut_uploads(store, top, say)
    sent = kept = sent_bytes = 0
    for path, wanted in what.hashes.items():
        source = what.folder / path
        size = source.stat().st_size
        if store.same(f"{top}/{path}", size, wanted):
            kept += 1
            continue
        if there:
            raise QuantcaseError(
                f"{store.where}: {shown(top)} is there, but its {shown(path)} is not what the manifest says",
                fix="remove it there, then push again",
            )
        say(f"{top}/{path} ({size} bytes)")
        store.put(f"{top}/{path}", _pieces(source), size, wanted)
        sent, sent_bytes = sent + 1, sent_bytes + size
    if not there:
        _no_strangers(store, what)
        say(manifest)
        store.put(manifest, iter((what.manifest,)), len(what.manifest), digest)
        sent, sent_bytes = sent + 1, sent_bytes + len(what.manifest)
    return Pushed(top, sent, kept + there, sent_bytes, what.status)


def _pieces(source: Path) -> Iterator[bytes]:
    with source.open("rb") as f:
        while piece := f.read(1 << 20):
            yield piece


def _no_cut_uploads(store: Store, top: str, say: Callable[[str], None]) -> None:
    """What a push that was killed left on S3. Keys that may not list uploads keep nobody from pushing."""
    try:
        if taken := store.forget_cut(top):
            say(f"{top}: {taken} cut upload{'s' if taken > 1 else ''} taken back")
    except QuantcaseError as e:
        say(f"{top}: cut uploads cannot be looked for ({e.problem})")


def _no_strangers(store: Store, what: Contents) -> None:
    """Nothing but this bundle's files may lie there: a file from elsewhere would make the bundle unsound."""
    for path in store.names(what.name):
        if path.endswith(PART):
            store.remove(f"{what.name}/{path}")
        elif path not in what.hashes:
            raise QuantcaseError(
                f"{store.where}: {shown(what.name)}/{shown(path)} is not of this bundle",
                fix="remove it there, push again",
            )
