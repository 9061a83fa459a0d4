"""A place that bundles are carried to and from: a folder, sftp:// or s3://, behind fsspec.

No secret passes through here: SFTP takes the keys and known hosts of ~/.ssh (and the agent), S3 what the AWS tools take
(environment, ~/.aws, the machine's role). A URL that holds a password is refused before anybody connects.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from msgspec import Struct

from collector.bundle.archive_rules import ArchiveFault, shown
from collector.bundle.arriving import PART, one_line
from collector.errors import QuantcaseError, UsageFault

__all__ = ["PART", "Address", "Store", "address", "connect"]

_PIECE: Final = 1 << 20


class Address(Struct, frozen=True):
    """Where to; nothing secret in it."""

    kind: str  # folder, sftp, s3
    path: str  # folder: as given; sftp: absolute; s3: bucket/key
    host: str = ""
    port: int | None = None
    user: str = ""

    def __str__(self) -> str:
        if self.kind == "sftp":
            return f"sftp://{self.host}{self.path}"
        return f"s3://{self.path}" if self.kind == "s3" else self.path


def address(url: str) -> Address:
    """Read DEST or SRC.

    Raises:
        UsageFault: not one of the three, or it holds a password or a key. The message does not repeat it.
    """
    if "://" not in url:
        return Address("folder", url)
    scheme = url.split("://", 1)[0].lower()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageFault("this URL cannot be read", fix="sftp://host/folder or s3://bucket/folder") from None
    if parts.password is not None or (scheme == "s3" and "@" in parts.netloc):
        right = {
            "s3": "leave it out; S3 keys come from AWS_PROFILE, ~/.aws/credentials or the machine's role",
            "sftp": "sftp://user@host/folder with a key in ~/.ssh or the agent",
        }
        raise UsageFault("a URL must not hold a password or a key", fix=right.get(scheme, right["sftp"]))
    if parts.query or parts.fragment:
        raise UsageFault("a URL must not hold ? or #", fix="a signed link is a secret too; use sftp:// or s3://")
    path = parts.path.rstrip("/")
    if ".." in path.split("/"):
        raise UsageFault("a URL must not climb with ..", fix="name the folder itself")
    if scheme == "file" and not parts.netloc:
        return Address("folder", path or "/")
    if scheme == "sftp" and parts.hostname and path:
        return Address("sftp", path, parts.hostname, port, parts.username or "")
    if scheme == "s3" and parts.netloc and port is None:
        return Address("s3", parts.netloc + path)
    raise UsageFault(
        f"{shown(scheme)}:// with these parts is not carried to",
        fix="a folder, sftp://host/folder or s3://bucket/folder",
    )


class _Files(Protocol):
    """What is used of fsspec's file systems."""

    def open(self, path: str, mode: str) -> Any: ...
    def call_s3(self, method: str, **asked: str) -> dict[str, Any]: ...
    def info(self, path: str) -> dict[str, Any]: ...
    def find(self, path: str) -> list[str]: ...
    def ls(self, path: str, detail: bool) -> list[dict[str, Any]]: ...
    def makedirs(self, path: str, exist_ok: bool) -> None: ...
    def mv(self, one: str, other: str) -> None: ...
    def rm_file(self, path: str) -> None: ...


def connect(where: Address) -> Store:
    """Open a place.

    Raises:
        QuantcaseError: the extra is not installed, or nobody answers, or the host's key is unknown.
    """
    try:
        import fsspec

        if where.kind == "folder":
            return Store(where, fsspec.filesystem("file", skip_instance_cache=True), (OSError,))
        if where.kind == "sftp":
            import asyncssh

            options: dict[str, Any] = {"known_hosts": ()}  # sshfs's own default is to trust any host
            options |= {"port": where.port} if where.port else {}
            options |= {"username": where.user} if where.user else {}
            kinds: tuple[type[Exception], ...] = (OSError, asyncssh.Error)
            with _told(where, kinds):
                files = fsspec.filesystem("ssh", host=where.host, skip_instance_cache=True, **options)
            return Store(where, files, kinds)
        import s3fs
        from botocore.exceptions import BotoCoreError, ClientError

        files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        return Store(where, files, (OSError, BotoCoreError, ClientError))
    except ImportError as e:
        extra = "carry-s3" if where.kind == "s3" else "carry"
        raise QuantcaseError(
            f"carrying to {where.kind} needs {e.name or 'a package'}", fix=f"pip install 'quantcase[{extra}]'"
        ) from None


@contextmanager
def _told(where: Address, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """What goes wrong on the way, in one line without secrets."""
    try:
        yield
    except kinds as e:
        said = one_line(e)
        fix = "what has arrived stays; the same command goes on from there"
        if "HostKey" in type(e).__name__ or "host key" in said.lower():
            fix = f"if you trust it, connect once with `ssh {where.host}` and compare the key that it shows"
        elif "Permission" in type(e).__name__ or "redential" in said:
            fix = "docs/guide/carry.md says where keys are taken from"
        raise QuantcaseError(f"{where}: {said}", fix=fix) from None


class Store:
    """An open place. Paths are relative to its folder, with forward slashes."""

    def __init__(self, where: Address, files: object, kinds: tuple[type[Exception], ...]) -> None:
        self.where = where
        self._files = cast("_Files", files)
        self._kinds = kinds
        self._root = str(Path(where.path).absolute()) if where.kind == "folder" else where.path
        self._made: set[str] = set()

    def _full(self, path: str) -> str:
        return posixpath.join(self._root, path) if path else self._root

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is none."""
        with _told(self.where, self._kinds):
            try:
                info = self._files.info(self._full(path))
            except FileNotFoundError:
                return None
        return int(info["size"]) if info["type"] == "file" else None

    def read(self, path: str, most: int) -> Iterator[bytes]:
        """The bytes of a file, in pieces.

        Raises:
            ArchiveFault: it is longer than `most` bytes.
            QuantcaseError: it cannot be read.
        """
        done = 0
        with _told(self.where, self._kinds), self._files.open(self._full(path), "rb") as source:
            while piece := source.read(_PIECE):
                done += len(piece)
                if done > most:
                    raise ArchiveFault("A204", shown(path), detail="it is longer than was said")
                yield piece

    def same(self, path: str, size: int, digest: str) -> bool:
        """Whether a file is there with this size and sha256 (hex): it is read back."""
        if self.size(path) != size:
            return False
        seen = hashlib.sha256()
        for piece in self.read(path, size):
            seen.update(piece)
        return seen.hexdigest() == digest

    def put(self, path: str, pieces: Iterator[bytes], size: int, digest: str) -> None:
        """Write a file under a temporary name, read it back, and only then give it its own.

        Raises:
            QuantcaseError: what came back is not what was sent, or the place failed.
        """
        part = f"{path}{PART}"
        self._folder(posixpath.dirname(path))
        with _told(self.where, self._kinds), self._open(part) as target:
            for piece in pieces:
                target.write(piece)
        if not self.same(part, size, digest):
            raise QuantcaseError(f"{self.where}: {shown(path)} came back changed", fix="push again")
        with _told(self.where, self._kinds):
            if self.where.kind == "folder":  # fsspec would copy across devices; here both are the same
                Path(self._full(part)).replace(self._full(path))
            else:
                self._files.mv(self._full(part), self._full(path))
        if self.size(path) != size:  # an S3 "move" is a copy: look once more
            raise QuantcaseError(f"{self.where}: {shown(path)} did not keep its size", fix="push again")

    @contextmanager
    def _open(self, path: str) -> Iterator[Any]:
        """A file to write. On S3 a cut one is taken back: its parts would lie there unseen, and be charged for."""
        target = self._files.open(self._full(path), "wb")
        try:
            yield target
            target.close()
        except BaseException:
            if self.where.kind == "s3":
                with suppress(*self._kinds):  # the same that cut it, most likely: `forget_cut` is the second try
                    target.discard()
                target.closed = True  # nothing may be sent when it is collected
            else:
                with suppress(*self._kinds):
                    target.close()
            raise

    def forget_cut(self, path: str) -> int:
        """Take back the parts of uploads below a folder that were cut and never taken back; how many uploads.

        Only S3 has such parts, and only unfinished files of ours are looked for: another tool's uploads stay.

        Raises:
            QuantcaseError: the place failed, or does not let us ask.
        """
        if self.where.kind != "s3":
            return 0
        bucket, _, below = self._full(path).partition("/")
        asked = {"Bucket": bucket, "Prefix": f"{below}/"}
        taken, more = 0, True
        with _told(self.where, self._kinds):
            while more:
                found = self._files.call_s3("list_multipart_uploads", **asked)
                for upload in found.get("Uploads", []):
                    if upload["Key"].endswith(PART):
                        which = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                        self._files.call_s3("abort_multipart_upload", **which)
                        taken += 1
                more = bool(found.get("IsTruncated"))
                asked["KeyMarker"] = found.get("NextKeyMarker", "")
                asked["UploadIdMarker"] = found.get("NextUploadIdMarker", "")
        return taken

    def names(self, path: str) -> list[str]:
        """All files below a folder, relative to it; none where there is no folder."""
        full = self._full(path)
        with _told(self.where, self._kinds):
            try:
                found = self._files.find(full)
            except FileNotFoundError:
                return []
        return sorted(posixpath.relpath(f, full) for f in found)

    def folders(self) -> list[str]:
        """The names of the folders right here."""
        with _told(self.where, self._kinds):
            try:
                found = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(posixpath.basename(i["name"].rstrip("/")) for i in found if i["type"] == "directory")

    def remove(self, path: str) -> None:
        """Take an unfinished file away; one that is gone already is fine."""
        with _told(self.where, self._kinds), suppress(FileNotFoundError):
            self._files.rm_file(self._full(path))

    def _folder(self, path: str) -> None:
        if self.where.kind != "s3" and path not in self._made:  # S3 has no folders, and s3fs would make the bucket
            with _told(self.where, self._kinds):
                self._files.makedirs(self._full(path), exist_ok=True)
            self._made.add(path)
