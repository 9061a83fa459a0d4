"""Results that lie on a server: bundles at an fsspec URL, mirrored into the cache and verified.

A bundle is known by its manifest, which names the hash of every other file. So a build asks for the manifests, and
takes the files that the mirror lacks, hashed while they come. The server is not trusted: names and sizes are judged as
those of archives. A run under way has a manifest that names no files: these are listed, and known by size and ETag or
time. A folder with a `fleet.json` is looked into, one level deep, and its bundles are cases like the others: the mirror
holds them side by side, and `catalog.folders` finds there what it would find in such a folder on this machine.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive_rules import ArchiveFault, Limits, Member, check_members, check_path, shown
from collector.bundle.arriving import MANIFEST_BYTES, PART, judged, receive
from collector.bundle.read import QuantcaseError
from quantcase.catalog import FLEET
from quantcase.mirror import AGAIN, File, Mirror
from quantcase.place import Place, connect

__all__ = ["Fetched", "Remote", "bundle", "is_url"]

_PIECE = 1 << 20
_TOO_MANY = "name a folder that holds bundles only"
_AT_ONCE = 8  # bundles asked for at the same time, where the file system can do that


class Fetched(Struct, frozen=True):
    """What a look at the server brought."""

    bundles: int = 0
    files: int = 0  # fetched now, manifests included
    bytes: int = 0
    refused: list[tuple[str, str]] = msgspec.field(default_factory=list)  # folder's name, and why


class _Spot(Struct, frozen=True):
    """One folder of the server, and what its name and two questions say of it."""

    path: str  # below the place: NAME, or FLEET/NAME
    name: str  # the case's, as in a folder of this machine: without that of the fleet
    kind: Literal["bundle", "fleet", ""] = ""
    etag: str = ""  # of a bundle's manifest, where the server has such
    refused: str = ""


class _Found(Struct, frozen=True):
    """One bundle of the server: the version in the mirror, or why there is none."""

    path: str
    name: str
    key: str = ""
    etag: str = ""
    refused: str = ""
    files: int = 0
    bytes: int = 0


def is_url(results: str) -> bool:
    """Whether `results` names a place for fsspec, and no folder of this machine."""
    return "://" in results


def bundle(url: str, cache: Path | None) -> Path:
    """The mirror of one bundle, by its own URL.

    Raises:
        QuantcaseError: as `Remote` and `Remote.fetch`, or there is no bundle at that place, or it is refused.
    """
    above, _, name = url.rstrip("/").rpartition("/")
    remote = Remote(above, cache)
    fetched = remote.fetch((name,), fleets=False)
    for _, why in fetched.refused:
        raise QuantcaseError(f"{remote.where}: {why}")
    if not fetched.bundles:
        raise QuantcaseError(f"{remote.where}: no bundle {shown(name)} is there", fix="see what lies there")
    return (remote.folder / name).resolve()


class Remote:
    """A folder of bundles on a server, and its mirror below `cache`; without one, in a folder that goes with this.

    Raises:
        QuantcaseError: the URL cannot be read, or holds a password. The message does not repeat it.
    """

    def __init__(self, url: str, cache: Path | None, limits: Limits | None = None) -> None:
        self.where = Place.of(url)
        self._limits = limits or Limits()
        home = (cache if cache is not None else self._temporary()).absolute() / "remote"
        self._mirror = Mirror(home, str(self.where))
        self.folder = self._mirror.folder  # what the site is made of

    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="quantcase-remote-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def fetch(
        self, only: Collection[str] = (), say: Callable[[str], None] = lambda _: None, *, fleets: bool = True
    ) -> Fetched:
        """Bring the mirror up to date.

        Args:
            only: names of the bundles that are needed; empty takes every bundle at the place.
            say: hears a line for each bundle of which something is fetched.
            fleets: whether the folders of fleets are looked into.

        Raises:
            QuantcaseError: the extra is not installed, nobody answers, there is no such folder, or a transfer broke
                off (what has arrived stays). A bundle that breaks a rule is no error: it is among the refused.
        """
        mirror, look = self._mirror, _Look(self.where, self._mirror, self._limits, say)
        with ThreadPoolExecutor(_AT_ONCE if look.parallel else 1) as pool:
            spots = look.spots(
                set(only), fleets, lambda names, fleet: list(pool.map(partial(look.spot, fleet=fleet), names))
            )
            with mirror.alone():
                seen = mirror.seen()
                found = _no_clash(pool.map(lambda s: look.at(s, *seen.get(s.path, ("", ""))), _no_twins(spots)))
                good = {f.name: f.key for f in found if f.key}
                for name in (mirror.names() & set(only) if only else mirror.names()) - good.keys():
                    mirror.hide(name)
                for name, key in good.items():
                    mirror.show(name, key)
                asked = {s.path for s in spots}
                others = {path: s for path, s in seen.items() if only and path not in asked}
                mirror.note(others | {f.path: (f.etag, f.key) for f in found if f.etag})
        refused = [(shown(f.name), f.refused) for f in found if f.refused]
        return Fetched(len(good), sum(f.files for f in found), sum(f.bytes for f in found), refused)


class _Look:
    """One look at the server."""

    def __init__(self, where: Place, mirror: Mirror, limits: Limits, say: Callable[[str], None]) -> None:
        self._where, self._mirror, self._limits, self._say = where, mirror, limits, say
        self._files, self._root = connect(where)
        self.parallel = bool(self._files.async_impl)

    def spots(
        self, only: Collection[str], fleets: bool, each: Callable[[Iterable[str], str], list[_Spot]]
    ) -> list[_Spot]:
        """The bundles at the place and in the folders of its fleets, and what is refused, by name.

        Args:
            only: names of the bundles that are needed; empty asks for all.
            fleets: whether fleets are looked for; without it, and with `only`, the place is not listed.
            each: asks for several folders of a fleet, or of the place, at a time.

        Raises:
            QuantcaseError: there is no such folder, or it holds too many.
        """
        names = self._folders("") if fleets or not only else []
        if names is None:
            raise QuantcaseError(f"{self._where}: there is no such folder", fix="`collect push` makes one")
        if len(names) > self._limits.members:
            raise ArchiveFault("A120", str(self._where), fix=_TOO_MANY)
        found, left = each(sorted({*names, *only}), ""), self._limits.members - len(names)
        for fleet in [s for s in found if s.kind == "fleet" and fleets]:
            inside = self._folders(fleet.path) or []
            if len(inside) > left:  # of all fleets together
                raise ArchiveFault("A120", f"{self._where}/{shown(fleet.path)}", fix=_TOO_MANY)
            left -= len(inside)
            found += each([name for name in inside if not only or name in only], fleet.path)
        wanted = [s for s in found if (s.kind == "bundle" or s.refused) and (not only or s.name in only)]
        return sorted(wanted, key=lambda s: (s.name, s.path))

    def _folders(self, path: str) -> list[str] | None:
        """The names of the folders, and of links, below a path of the place; None where there is no such path."""
        above = f"{self._root}/{path}" if path else self._root
        try:
            with self._where.told():
                found: list[dict[str, Any]] = self._files.ls(above, detail=True)
        except FileNotFoundError:
            return None
        folders = [i for i in found if i["type"] == "directory" or i.get("islink")]
        names = {i["name"].removeprefix(f"{above.rstrip('/')}/").rstrip("/") for i in folders}
        return sorted(names - {"", above.strip("/")})  # S3 may list the folder itself

    def spot(self, name: str, fleet: str = "") -> _Spot:
        """What a folder is, at the place or in a fleet's. In a fleet's folder there are no further fleets."""
        path = f"{fleet}/{name}" if fleet else name
        try:
            if len(check_path(name, self._limits)) != 1:
                raise ArchiveFault("A102", shown(path))
        except ArchiveFault as e:
            return _Spot(path, name, refused=str(e))
        if (info := self._info(f"{path}/{manifests.MANIFEST}")) is not None:
            return _Spot(path, name, "bundle", str(info.get("ETag") or info.get("etag") or ""))
        return _Spot(path, name, "fleet" if not fleet and self._info(f"{path}/{FLEET}") is not None else "")

    def at(self, spot: _Spot, etag: str, key: str) -> _Found:
        """A bundle, mirrored; `etag` is what its manifest had at the last look, `key` its version."""
        if spot.refused:
            return _Found(spot.path, spot.name, refused=spot.refused)
        if spot.etag and spot.etag == etag and self._mirror.whole(key, spot.name):
            return _Found(spot.path, spot.name, key, etag)
        try:
            return self._mirrored(spot)
        except ArchiveFault as e:
            return _Found(spot.path, spot.name, refused=str(e))

    def _info(self, path: str) -> dict[str, Any] | None:
        """Of a file; None where there is none."""
        try:
            with self._where.told():
                info: dict[str, Any] = self._files.info(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        return info if info["type"] == "file" else None

    def _mirrored(self, spot: _Spot) -> _Found:
        path, name = spot.path, spot.name
        data = b"".join(self._pieces(f"{path}/{manifests.MANIFEST}", MANIFEST_BYTES))
        manifest = judged(data, name, self._limits)
        closed = bool(manifest.resources)
        files = [File(r.path, r.bytes, r.hash) for r in manifest.resources] if closed else self._listed(spot)
        stated = b"" if closed else msgspec.json.encode(files)
        key = hashlib.sha256(b"\0".join((name.encode(), data, stated))).hexdigest()[:32]
        etag = spot.etag if closed else ""  # an open run's files change, and its manifest does not
        if self._mirror.whole(key, name):
            return _Found(path, name, key, etag, files=1, bytes=len(data))
        part = self._mirror.part(key, name)
        manifests.write_atomic(part / manifests.MANIFEST, data)
        if manifest.quantcase.manifest_sha256 and not manifests.self_hash_ok(part, manifest):
            raise ArchiveFault("A204", shown(f"{path}/{manifests.MANIFEST}"), fix=AGAIN)
        missing = [f for f in files if not self._mirror.have(part, f)]
        if missing:
            self._say(f"{name}: {len(missing)} of {len(files)} files, {sum(f.bytes for f in missing) / 1e6:,.1f} MB")
        for file in missing:
            where, digest = f"{path}/{file.path}", file.mark if closed else ""
            receive(self._pieces(where, file.bytes, cut=not closed), part / file.path, file.bytes, digest,
                    where=where, fix=AGAIN)  # fmt: skip
        self._mirror.settle(part, files, self._limits)
        return _Found(path, name, key, etag, "", 1 + len(missing), len(data) + sum(f.bytes for f in missing))

    def _listed(self, spot: _Spot) -> list[File]:
        """The files of an open bundle; those that are being written or sent are left."""
        name, below = spot.name, f"{self._root}/{spot.path}/"
        try:
            with self._where.told():
                found: dict[str, dict[str, Any]] = self._files.find(below.rstrip("/"), detail=True)
        except FileNotFoundError:
            raise ArchiveFault("A203", shown(spot.path), fix=AGAIN) from None
        files, members = [], [Member(f"{name}/{manifests.MANIFEST}", "file")]
        for full, info in sorted(found.items()):
            path, size = full.removeprefix(below), int(info["size"])
            if path == manifests.MANIFEST or path.endswith((".tmp", PART)):
                continue
            link = info.get("islink") or info["type"] == "link"
            members.append(Member(f"{name}/{path}", "symlink" if link else info["type"], size))
            if not link and info["type"] != "file":
                raise ArchiveFault("A109", shown(f"{spot.path}/{path}"))
            marks = (f"{k} {info[k]}" for k in ("ETag", "etag", "LastModified", "mtime", "created") if info.get(k))
            files.append(File(path, size, next(marks, "")))
        check_members(members, self._limits)
        return files

    def _pieces(self, path: str, most: int, *, cut: bool = False) -> Iterator[bytes]:
        """The bytes of a file; `cut`: one that has grown since it was listed is taken as it was."""
        done = 0
        try:
            with self._where.told():
                source = self._files.open(f"{self._root}/{path}", "rb")
            with source:
                while not (cut and done == most):
                    with self._where.told():
                        piece: bytes = source.read(min(_PIECE, most - done) if cut else _PIECE)
                    done += len(piece)
                    if done > most:
                        raise ArchiveFault("A204", shown(path), detail="it is longer than was said", fix=AGAIN)
                    if not piece:
                        break
                    yield piece
        except FileNotFoundError:
            raise ArchiveFault("A203", shown(path), fix=AGAIN) from None


def _no_twins(spots: Iterable[_Spot]) -> list[_Spot]:
    """Of bundles of one name, in different folders, none is taken: which of them is meant is not ours to say."""
    spots, kept = list(spots), list[_Spot]()
    count = Counter(s.name for s in spots if s.kind == "bundle")
    for s in spots:
        if s.kind == "bundle" and count[s.name] > 1:
            paths = ", ".join(shown(t.path) for t in spots if t.name == s.name and t.kind == "bundle")
            s = _Spot(s.path, s.name, refused=f"{count[s.name]} bundles have that name ({paths}): rename one")
            if s.name in {k.name for k in kept}:
                continue  # said once
        kept.append(s)
    return kept


def _no_clash(found: Iterator[_Found]) -> list[_Found]:
    """Of two names that a forgiving file system takes for one the second is refused."""
    taken: set[str] = set()
    kept = []
    for f in found:
        if f.key and f.name.casefold() in taken:
            f = _Found(f.path, f.name, refused=str(ArchiveFault("A111", shown(f.name))))
        elif f.key:
            taken.add(f.name.casefold())
        kept.append(f)
    return kept
