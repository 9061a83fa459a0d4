"""The mirror of a place on this disk: versions of bundles side by side, and a folder of links to the newest of each.

    remote/bundles/KEY/NAME/       a version, whole; KEY.json beside it says what the server stated of its files
    remote/bundles/.part-KEY/NAME/ one that is not finished: the next look goes on with it
    remote/PLACE/results/NAME      a link to the newest: the folder that the site is made of

A version gets its name when all of it is there, and a link is put in place in one step, so a build that is under way
elsewhere keeps what it reads. What no build used for two weeks is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive_rules import ArchiveFault, Limits, shown
from collector.bundle.arriving import inner_bombs, one_line
from collector.bundle.read import QuantcaseError

__all__ = ["AGAIN", "SHA", "File", "Mirror", "Seen"]

AGAIN = "push the bundle again"
SHA = "sha256:"
Seen = dict[str, tuple[str, str]]  # name -> the ETag of its manifest, and the version
_DAYS = 14
_T = TypeVar("_T")


class File(Struct, frozen=True, array_like=True):
    """A file of a bundle as the server states it."""

    path: str
    bytes: int
    mark: str  # sha256:... in a closed bundle; else its ETag or time, and empty where the server has neither


class Mirror:
    """Below `home`, for one place, named by `where`. Bundles are shared among places."""

    def __init__(self, home: Path, where: str) -> None:
        self._where, self._home = where, home
        self._bundles = home / "bundles"
        place = home / hashlib.sha256(where.encode()).hexdigest()[:16]
        self.folder, self._seen_path = place / "results", place / "seen.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One build at a time writes here; the lock goes with its process.

        Raises:
            QuantcaseError: the disk is full, or the folder cannot be written.
        """
        try:
            self._bundles.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self._home / "lock").open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                self._sweep()
                yield
        except OSError as e:
            fix = "make room, or name another folder with `cache:`"
            raise QuantcaseError(f"the mirror of {self._where}: {one_line(e)}", fix=fix) from None

    def seen(self) -> Seen:
        """What was noted at the last look."""
        return _decoded(self._seen_path, Seen) or {}

    def note(self, seen: Seen) -> None:
        """Note it for the next one."""
        manifests.write_atomic(self._seen_path, msgspec.json.encode(seen))

    # -- versions ------------------------------------------------------------------------------------------------------

    def whole(self, key: str, name: str) -> bool:
        """Whether a version lies here with every file, by size: somebody may have tidied the cache."""
        folder = self._bundles / key / name
        listed = _decoded(_listing(folder), list[File])
        return listed is not None and all(_size(folder / f.path) == f.bytes for f in listed)

    def part(self, key: str, name: str) -> Path:
        """The folder of a version that is not finished."""
        folder = self._bundles / f".part-{key}" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def have(self, part: Path, file: File) -> bool:
        """Whether a file lies in the unfinished version, or in the one that is shown, from which it is copied."""
        if _is(part / file.path, file):
            return True
        shown_now = self._shown(part.name)
        if shown_now is None or not _is(shown_now / file.path, file):
            return False
        if not file.mark.startswith(SHA) and file not in (_decoded(_listing(shown_now), list[File]) or []):
            return False
        (part / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shown_now / file.path, part / file.path)
        return True

    def settle(self, part: Path, files: Sequence[File], limits: Limits) -> None:
        """All is there: give the version its name.

        Raises:
            ArchiveFault: its tables unpack to too much, or two names were one file on this disk. Nothing stays.
        """
        try:
            inner_bombs(part, [f.path for f in files], limits)
            for file in files:
                if _size(part / file.path) != file.bytes:
                    raise ArchiveFault("A203", shown(f"{part.name}/{file.path}"), fix=AGAIN)
        except ArchiveFault:
            shutil.rmtree(part.parent)
            raise
        target = self._bundles / part.parent.name.removeprefix(".part-") / part.name
        if target.parent.exists():
            shutil.rmtree(target.parent)
        manifests.write_atomic(_listing(target), msgspec.json.encode(files))
        part.parent.rename(target.parent)

    # -- what is shown -------------------------------------------------------------------------------------------------

    def show(self, name: str, key: str) -> None:
        """Link a version that is whole."""
        link, draft = self.folder / name, self._home / ".link"
        target = os.path.relpath(self._bundles / key / name, self.folder)
        os.utime(self._bundles / key)
        if link.is_symlink() and str(link.readlink()) == target:
            return
        old = self._shown(name)
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.replace(link)
        if old is not None and any(not f.mark.startswith(SHA) for f in _decoded(_listing(old), list[File]) or []):
            _remove(old.parent)  # a run under way changes with every look

    def hide(self, name: str) -> None:
        """Show nothing under that name; the version stays until it is swept."""
        (self.folder / name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """What is shown."""
        return {p.name for p in self.folder.iterdir()}

    def _shown(self, name: str) -> Path | None:
        link = self.folder / name
        return self._home / "bundles" / link.readlink().parts[-2] / name if link.is_symlink() else None

    def _sweep(self) -> None:
        oldest = time.time() - 24 * 3600 * _DAYS
        for folder in [p for p in self._bundles.iterdir() if p.is_dir() and p.stat().st_mtime < oldest]:
            _remove(folder)


def _is(path: Path, file: File) -> bool:
    """Whether a file of the mirror is what the server states: by its hash where one is known."""
    if _size(path) != file.bytes:
        return False
    return file.mark == f"{SHA}{manifests.file_sha256(path)}" if file.mark.startswith(SHA) else bool(file.mark)


def _size(path: Path) -> int:
    """Bytes of a plain file; -1 where there is none."""
    return path.stat().st_size if path.is_file() else -1


def _listing(version: Path) -> Path:
    """Where the files of a version are noted: beside its folder, for a bundle holds nothing but its own."""
    return version.parent.with_name(f"{version.parent.name}.json")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # it may be gone
    folder.with_name(f"{folder.name}.json").unlink(missing_ok=True)


def _decoded(path: Path, kind: type[_T]) -> _T | None:
    """A note of ours; None where there is none, or a damaged one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
