"""What was generated before, on disk: a case whose bundle, options and generator are the same is not made again.

An entry is one file: the pages of a case packed one after another, then what other pages need to know of that case,
then the hash of it all. It is put in place whole, so two builds may share a folder; one that is cut or changed is
made anew; one that nobody used for two weeks is removed.

A bundle is known by the hash of every file in it, so that an edited note, a mark or a damaged table is seen, and a
fresh checkout of the same files is not mistaken for a change. Files whose size, times and inode are those of the last
time are not opened to say so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from quantcase.output import Output, Slice
from quantcase.pages.view import Options

__all__ = ["Entry", "Store", "combined", "key_of"]

_FORMAT = 1
_DAYS = 14  # an entry that was not used for so long is removed
_SETTLED_NS = 50_000_000  # a file changed within this time of its reading may change again without a new time
_DRAWN_WITH = (
    "altair", "vl-convert-python", "jinja2", "pandas", "numpy", "scipy", "markdown", "nh3", "sacrebleu", "msgspec",
)  # fmt: skip
_HASH = 32  # bytes of a sha256

Stamp = tuple[int, int, int, int]  # size, mtime and ctime in ns, inode


class _Member(Struct, array_like=True):
    uri: str
    title: str
    offset: int
    length: int  # as packed; 0: a copy of `source`
    text: bool
    source: str


class _Footer(Struct, array_like=True):
    members: list[_Member]
    digest: _Member


class _Seen(Struct, array_like=True):
    """The files of a bundle as they were when they were last hashed."""

    at_ns: int
    stamps: dict[str, Stamp]
    hashes: dict[str, str]


class Entry:
    """Made files that lie in one file of the cache, found whole."""

    def __init__(self, path: Path, home: Path, footer: _Footer, seal: bytes, owner: object) -> None:
        self._path, self._home, self._footer, self._seal, self._owner = path, home, footer, seal, owner

    def _slice(self, m: _Member) -> Slice:
        return Slice(self._path, m.offset, m.length, m.text, self._seal, self._owner)

    def outputs(self) -> Iterator[Output]:
        """The made files, in the order in which they were made; nothing is read before it is asked for."""
        for m in self._footer.members:
            if m.source:
                yield Output(m.uri, source=self._home / m.source, title=m.title)
            else:
                yield Output(m.uri, kept=self._slice(m), title=m.title)

    def digest(self) -> bytes:
        """What other pages need to know, as it was given to `write`."""
        data = self._slice(self._footer.digest).read()
        return data if isinstance(data, bytes) else data.encode()


class Store:
    """A folder of entries. Without one, or where it cannot be written, a temporary one that goes with this object."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder.absolute() if folder is not None and _writable(folder) else self._temporary()
        _sweep(self.folder)

    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="quantcase-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _path(self, home: Path, key: str) -> Path:
        return self.folder / "pages" / f"{home.name}-{key[:32]}.bin"

    def read(self, home: Path, key: str) -> Entry | None:
        """What was made of the bundle in `home`; None where nothing was, or where it is not as it was written."""
        path = self._path(home, key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        body, seal = data[:-_HASH], data[-_HASH:]
        if hashlib.sha256(body).digest() != seal:
            return None
        length = int.from_bytes(body[-8:], "big")
        return Entry(path, home, msgspec.msgpack.decode(body[-8 - length : -8], type=_Footer), seal, self)

    def write(
        self, home: Path, key: str, outputs: Iterable[Output], digest: bytes, lasting: Callable[[], bool] = lambda: True
    ) -> Entry:
        """Put an entry in place.

        Args:
            home: the bundle's folder: copies of its files are not kept, only their names.
            key: see `key_of`.
            outputs: taken one by one, so that they need not be held together.
            digest: what other pages need to know.
            lasting: asked when all is made; what does not last serves this build alone.
        """
        members: list[_Member] = []
        with _draft(self.folder / "pages") as draft:
            with draft.open("w+b") as file:
                for output in outputs:
                    if output.source is not None and output.source.is_relative_to(home):
                        source = output.source.relative_to(home).as_posix()
                        members.append(_Member(output.uri, output.title, 0, 0, False, source))
                    else:
                        members.append(_packed(file, output.uri, output.title, output.data()))
                footer = _Footer(members, _packed(file, "", "", digest))
                packed = msgspec.msgpack.encode(footer)
                file.write(packed + len(packed).to_bytes(8, "big"))
                file.seek(0)
                seal = _hash(file)
                file.write(seal)
            path = self._path(home, key if lasting() else f"passing-{os.getpid()}")
            draft.replace(path)
        return Entry(path, home, footer, seal, self)

    # -- bundles -------------------------------------------------------------------------------------------------------

    def fingerprint(self, folder: Path) -> str:
        """The hash of all that a bundle's folder holds."""
        return combined(self.hashes(folder))

    def hashes(self, folder: Path) -> dict[str, str]:
        """The hash of every file of a bundle's folder, by its name. Only files whose stamp is not known are opened."""
        path = self.folder / "seen" / hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:32]
        seen, stamps, at = _seen(path), _stamps(folder), time.time_ns()
        known = {
            name: seen.hashes[name]
            for name, stamp in stamps.items()
            if seen.stamps.get(name) == stamp and max(stamp[1], stamp[2]) + _SETTLED_NS < seen.at_ns
        }
        found = {name: known.get(name) or _content(folder / name) for name in stamps}
        hashes = {_utf8(name): content for name, content in found.items()}
        if hashes != seen.hashes or len(known) < len(stamps):
            body = msgspec.msgpack.encode(_Seen(at, {_utf8(name): stamp for name, stamp in stamps.items()}, hashes))
            with _draft(path.parent) as draft:
                draft.write_bytes(body + hashlib.sha256(body).digest())
                draft.replace(path)
        return hashes


def combined(hashes: Mapping[str, str]) -> str:
    """One hash of the hashes of files."""
    return hashlib.sha256(msgspec.msgpack.encode(sorted(hashes.items()))).hexdigest()


def key_of(options: Options, *parts: str) -> str:
    """The key of an entry: what it was made of, by which options and by which generator."""
    made = [str(_FORMAT), _code(), _templates(), *parts]
    return hashlib.sha256(msgspec.msgpack.encode([made, options])).hexdigest()


def _packed(file: IO[bytes], uri: str, title: str, data: str | bytes) -> _Member:
    packed = zlib.compress(data.encode("utf-8") if isinstance(data, str) else data, 1)
    at = file.tell()
    file.write(packed)
    return _Member(uri, title, at, len(packed), isinstance(data, str), "")


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A file to be written and then put in its place; it is removed where that does not come about."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".draft-")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _hash(file: IO[bytes]) -> bytes:
    """The hash of the rest of a file."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.digest()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _sweep(folder: Path) -> None:
    """Remove what nobody used for long, drafts of builds that were killed among them."""
    oldest = time.time() - 24 * 3600 * _DAYS
    for path in [*folder.glob("pages/*"), *folder.glob("pages/.draft-*"), *folder.glob("seen/.draft-*")]:
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:
            continue  # another build was quicker


def _seen(path: Path) -> _Seen:
    try:
        data = path.read_bytes()
    except OSError:
        return _Seen(0, {}, {})
    body, seal = data[:-_HASH], data[-_HASH:]
    whole = hashlib.sha256(body).digest() == seal
    return msgspec.msgpack.decode(body, type=_Seen) if whole else _Seen(0, {}, {})


def _stamps(folder: Path) -> dict[str, Stamp]:
    found: dict[str, Stamp] = {}
    for root, folders, files in os.walk(folder):
        for name in [*files, *(f for f in folders if (Path(root) / f).is_symlink())]:
            path = Path(root) / name
            s = path.lstat()
            found[path.relative_to(folder).as_posix()] = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    return found


def _utf8(name: str) -> str:
    """A file's name as text that can be written down; bytes that are no UTF-8 as \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _content(path: Path) -> str:
    """A file's hash; of what is no plain file, what it is: `check` refuses it, and it is never followed."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return f"no plain file: {stat.S_IFMT(mode):o}"
    try:
        with path.open("rb") as file:
            return _hash(file).hex()
    except OSError as e:
        return f"not readable: {e.errno}"


@cache
def _code() -> str:
    """The hash of the generator's sources and of the versions it draws with, as this process began with them."""
    digest = hashlib.sha256()
    for package, patterns in (("quantcase", ("*.py", "*.toml")), ("collector", ("*.py", "*.toml"))):
        for root in _folders(package):
            for path in sorted(p for pattern in patterns for p in root.rglob(pattern)):
                digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for name in _DRAWN_WITH:
        digest.update(f"{name} {metadata.version(name)}\0".encode())
    return digest.hexdigest()


def _templates() -> str:
    """The hash of the templates: read again at each build, because Jinja does so too."""
    digest = hashlib.sha256()
    for root in _folders("quantcase"):
        for path in sorted(root.rglob("*.j2")):
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
