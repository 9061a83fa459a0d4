"""A bundle that grows on a node, mirrored at home piece by piece.

The node tells new bytes of tables and whole new documents; home knows how many bytes of each file it has and their
hash, so that nothing is sent twice, also not after either side was killed. Two rules keep what lies at home a bundle at
any moment: a row in cells.csv comes after the requests that it sums up, and the manifest comes last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from collector.bundle.manifest import MANIFEST
from collector.errors import QuantcaseError

__all__ = ["Have", "Mirror", "Piece", "Source", "hashes"]

# Ray puts results of up to 100 KiB into the reply itself: they are home even when the node dies the next moment.
PIECE_BYTES = 64 * 1024
_REHASH_BYTES = 1 << 20  # up to this size a file is compared by content whenever it changed
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}(/[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}){0,5}")
_LATE = ("cells.csv", MANIFEST)
Have = Mapping[str, tuple[int, str]]  # path -> bytes and sha256 that lie at home


class Piece(Struct, frozen=True, array_like=True):
    """New bytes of a file. `offset` 0 with `whole` begins it anew; `gone` says that there is no such file any more."""

    path: str
    offset: int = 0
    data: bytes = b""
    whole: bool = False
    last: bool = True
    gone: bool = False


class _Sent:
    """What home has of one file."""

    def __init__(self, size: int, sha256: str) -> None:
        self.size = size
        self.sha256 = sha256
        self.digest: Any = None
        self.stat: tuple[int, int, int] | None = None


class Source:
    """The node's side: what changed in a bundle's folder since home was told last."""

    def __init__(self, folder: Path, have: Have) -> None:
        self._folder = folder
        self._sent = {path: _Sent(size, sha256) for path, (size, sha256) in have.items()}

    def changes(self) -> Iterator[Piece]:
        """Every new piece, in an order that leaves a bundle at home after each."""
        paths = _files(self._folder)
        late = {p: _size(self._folder / p) for p in _LATE if p in paths}  # before the rest: rows of these may be fewer
        for path in [p for p in paths if p not in _LATE]:
            yield from self._file(path, None)
        for path in [p for p in self._sent if p not in paths]:
            del self._sent[path]
            yield Piece(path, gone=True)
        for path, size in late.items():
            yield from self._file(path, size)

    def _file(self, path: str, limit: int | None) -> Iterator[Piece]:
        file = self._folder / path
        sent = self._sent.get(path)
        try:
            with file.open("rb") as f:
                stat = (s := file.stat()).st_ino, s.st_mtime_ns, s.st_size
                if sent is not None and sent.stat == stat:
                    return
                if sent is None or not self._continues(f, sent, stat):
                    sent = self._sent[path] = _Sent(0, hashlib.sha256().hexdigest())
                    sent.digest = hashlib.sha256()
                whole = sent.size == 0
                f.seek(sent.size)
                end = s.st_size if limit is None or path == MANIFEST else max(sent.size, min(limit, s.st_size))
                while True:
                    data = f.read(min(PIECE_BYTES, end - sent.size))
                    offset, sent.size = sent.size, sent.size + len(data)
                    sent.digest.update(data)
                    last = not data or sent.size >= end
                    if data or whole:
                        yield Piece(path, offset, data, whole, last)
                    if last:
                        break
                sent.sha256 = sent.digest.hexdigest()
                sent.stat = stat if end == s.st_size else None
        except FileNotFoundError:
            return  # replaced or packed this moment: the next look finds it

    def _continues(self, f: Any, sent: _Sent, stat: tuple[int, int, int]) -> bool:
        """Whether the file begins with what home has."""
        if stat[2] < sent.size:
            return False
        same_file = sent.stat is not None and sent.stat[0] == stat[0]
        if same_file and sent.digest is not None and sent.size > _REHASH_BYTES:
            return True  # a large table that is appended to; the hash at the end would tell otherwise
        digest = hashlib.sha256()
        left = sent.size
        while left and (data := f.read(min(1 << 20, left))):
            digest.update(data)
            left -= len(data)
        if left or digest.hexdigest() != sent.sha256:
            return False
        sent.digest = digest
        return True


class Mirror:
    """Home's side: takes the pieces into a folder. What comes over the wire chooses no place outside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def have(self) -> dict[str, tuple[int, str]]:
        """What lies here."""
        if not self.folder.is_dir():
            return {}
        for torn in self.folder.rglob("*.tmp"):
            torn.unlink()
        return {p: ((self.folder / p).stat().st_size, hashes(self.folder, p)[p]) for p in _files(self.folder)}

    def take(self, piece: Piece) -> None:
        """Write a piece.

        Raises:
            QuantcaseError: its path is none of a bundle, or it does not follow on what lies here.
        """
        if not _PATH.fullmatch(piece.path):
            raise QuantcaseError(f"a box sent a file of the name {piece.path!a}", fix="is that box yours?")
        file = self.folder / piece.path
        if piece.gone:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        target = file.with_name(file.name + ".tmp") if piece.whole else file
        if piece.offset == 0 and piece.whole:
            target.write_bytes(piece.data)
        else:
            if not target.is_file() or target.stat().st_size != piece.offset:
                raise QuantcaseError(f"{self.folder.name}/{piece.path}: a piece is missing", fix="--resume fetches it")
            with target.open("ab") as f:
                f.write(piece.data)
        if piece.whole and piece.last:
            target.replace(file)

    def differs(self, told: Mapping[str, str]) -> list[str]:
        """Files that are not what the box says it has, by their hashes."""
        here = hashes(self.folder)
        return sorted(p for p in here.keys() | told.keys() if here.get(p) != told.get(p))


def hashes(folder: Path, *paths: str) -> dict[str, str]:
    """sha256 of these files of a bundle; of all without any."""
    found = {}
    for path in paths or _files(folder):
        with (folder / path).open("rb") as f:
            found[path] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


def _files(folder: Path) -> list[str]:
    """Finished plain files by their relative names."""
    found = (p for p in folder.rglob("*") if not p.name.endswith(".tmp") and p.is_file() and not p.is_symlink())
    return sorted(p.relative_to(folder).as_posix() for p in found)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
