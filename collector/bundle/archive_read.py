"""Reads zip and tar.gz archives as members and byte streams, trusting nothing that they state about themselves.

Both formats are read with Python 3.11's own modules. tar.zst is not: the standard library reads it from 3.14 on.
"""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Protocol, cast

from collector.bundle.archive_rules import ArchiveFault, Limits, Member, shown

__all__ = ["DAMAGED", "Reader", "open_archive"]

_PIECE: Final = 1 << 20
_DIRECTORY_BYTES: Final = 16 << 20  # a zip's central directory: 10,000 members take 3 MiB
DAMAGED: Final = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError)
"""What the standard library raises on a damaged archive."""


class Reader(Protocol):
    """An open archive."""

    def members(self) -> Iterator[Member]:
        """Every entry, in the archive's order, judged by nobody yet."""

    def open(self, path: str) -> IO[bytes]:
        """The bytes of one file. Only after `archive_rules.check_members` had nothing to say."""


@contextmanager
def open_archive(file: Path, limits: Limits | None = None) -> Iterator[Reader]:
    """Open an archive; its first bytes tell the format, not its name.

    Raises:
        ArchiveFault: no archive of ours, or one whose outer form is not plain.
    """
    limits = limits or Limits()
    with file.open("rb") as raw:
        head = raw.read(4)
        raw.seek(0)
        try:
            if head == b"PK\x03\x04":
                _plain_directory(raw, limits)
                with zipfile.ZipFile(raw) as packed:
                    yield _Zip(packed, file.stat().st_size, limits)
            elif head[:2] == b"\x1f\x8b":
                with tempfile.TemporaryFile() as plain:
                    _gunzip(raw, plain, file.stat().st_size, limits)
                    bounded = cast("IO[bytes]", _Bounded(plain))
                    with tarfile.TarFile(fileobj=bounded, encoding="utf-8", errors="surrogateescape") as tar:
                        yield _Tar(tar, limits)
            elif head == b"\x28\xb5\x2f\xfd":
                raise ArchiveFault("A101", shown(file.name), fix="unzstd it, then gzip the tar: zstd is not read here")
            else:
                raise ArchiveFault("A101", shown(file.name), fix="`collect pack` writes .zip and .tar.gz")
        except UnicodeDecodeError:
            raise ArchiveFault("A116", shown(file.name)) from None
        except NotImplementedError as e:  # zipfile: a newer version of the format, or a method that it does not know
            raise ArchiveFault("A123", shown(file.name), detail=str(e)) from None
        except (*DAMAGED, struct.error, ValueError, OverflowError) as e:
            raise ArchiveFault("A101", shown(file.name), detail=shown(str(e)), fix="copy it again") from None


# -- zip -------------------------------------------------------------------------------------------------------------


def _plain_directory(raw: IO[bytes], limits: Limits) -> None:
    """The end record lies at the very end and states a directory of sane size just before it: no comment, no zip64,
    nothing before or behind. zipfile reads the whole directory into memory, so it is looked at first."""
    size = raw.seek(0, 2)
    if size < 22:
        raise ArchiveFault("A101", detail="it is cut off", fix="copy it again")
    raw.seek(size - 22)
    sign, disk, disk_of, here, entries, length, offset, comment = struct.unpack("<4s4H2LH", raw.read(22))
    if sign != b"PK\x05\x06":
        raise ArchiveFault("A101", detail="its end is missing", fix="copy it again")
    if disk or disk_of or comment or here != entries or 0xFFFFFFFF in (length, offset) or entries == 0xFFFF:
        raise ArchiveFault("A124")
    if entries > limits.members or length > _DIRECTORY_BYTES:
        raise ArchiveFault("A120", detail=f"more than {limits.members}")
    raw.seek(max(0, size - 42))
    if offset + length != size - 22 or raw.read(4) == b"PK\x06\x07":
        raise ArchiveFault("A124")
    raw.seek(0)


class _Zip:
    def __init__(self, packed: zipfile.ZipFile, size: int, limits: Limits) -> None:
        self._packed = packed
        self._infos = packed.infolist()
        self._by_path = {i.orig_filename: i for i in self._infos}
        self._size, self._limits = size, limits

    def members(self) -> Iterator[Member]:
        end = 0
        for info in sorted(self._infos, key=lambda i: i.header_offset):
            if info.header_offset < end:  # members that share bytes: how a small file holds a large bomb
                raise ArchiveFault("A124", shown(info.orig_filename), detail="members overlap")
            end = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "replace")) + info.compress_size
        unpacked = sum(i.file_size for i in self._infos)
        if unpacked > self._limits.total_bytes:
            raise ArchiveFault("A121", detail=f"{unpacked >> 20} MiB, more than {self._limits.total_bytes >> 20} MiB")
        if unpacked > self._limits.ratio_from_bytes and unpacked > self._limits.ratio * self._size:
            raise ArchiveFault("A122", detail=f"{unpacked // self._size}:1")
        for info in self._infos:
            name = info.orig_filename  # `filename` is cut at a NUL
            if not name.isascii() and not info.flag_bits & 0x800:
                raise ArchiveFault("A116", shown(name))
            if info.flag_bits & 0x61 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveFault("A123", shown(name))
            yield Member(name, _kind(info.external_attr >> 16, name.endswith("/")), info.file_size)

    def open(self, path: str) -> IO[bytes]:
        return self._packed.open(self._by_path[path])


def _kind(mode: int, folder: bool) -> str:
    """What a Unix mode in a zip says that a member is; most zips made elsewhere say nothing."""
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        return "device"
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return "fifo"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or (stat.S_ISDIR(mode) and not folder):
        return "other"
    return "folder" if folder else "file"


# -- tar.gz ----------------------------------------------------------------------------------------------------------


def _gunzip(raw: IO[bytes], plain: IO[bytes], size: int, limits: Limits) -> None:
    """Unpack the outer gzip into an unnamed file, counting."""
    most = limits.total_bytes + limits.members * 2048  # a header and padding for each member
    done = 0
    with gzip.GzipFile(fileobj=raw) as source:
        while piece := source.read(_PIECE):
            done += len(piece)
            if done > most:
                raise ArchiveFault("A121", detail=f"more than {limits.total_bytes >> 20} MiB")
            if done > limits.ratio_from_bytes and done > limits.ratio * size:
                raise ArchiveFault("A122", detail=f"more than {limits.ratio}:1")
            plain.write(piece)
    plain.seek(0)


class _Bounded:
    """A file that tarfile may not ask for all at once: extended headers are read whole, whatever size they state."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            raise ArchiveFault("A124", detail=f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, to: int, whence: int = 0) -> int:
        return self._file.seek(to, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Tar:
    def __init__(self, tar: tarfile.TarFile, limits: Limits) -> None:
        self._tar, self._limits = tar, limits
        self._by_path: dict[str, tarfile.TarInfo] = {}

    def members(self) -> Iterator[Member]:
        count = 0
        while (info := self._tar.next()) is not None:
            count += 1
            if count > self._limits.members:  # counted here too: a damaged header can lead tarfile round in a circle
                raise ArchiveFault("A120", detail=f"more than {self._limits.members}")
            self._by_path[info.name] = info
            yield Member(info.name, _tar_kind(info), info.size)

    def open(self, path: str) -> IO[bytes]:
        source = self._tar.extractfile(self._by_path[path])
        if source is None:
            raise ArchiveFault("A109", shown(path))
        return source


def _tar_kind(info: tarfile.TarInfo) -> str:
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.AREGTYPE: "file",
        tarfile.DIRTYPE: "folder",
        tarfile.SYMTYPE: "symlink",
        tarfile.LNKTYPE: "hardlink",
        tarfile.CHRTYPE: "device",
        tarfile.BLKTYPE: "device",
        tarfile.FIFOTYPE: "fifo",
    }
    return "other" if info.issparse() else kinds.get(info.type, "other")
