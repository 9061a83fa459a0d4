"""`collect pack` and `collect unpack`: one file to carry, verified on both ends.

Packing reads the finished archive back before it gets its name. Unpacking judges every name first (archive_rules), then
unpacks into a folder beside the target, verifies manifest, hashes and rows there, and renames: what is refused leaves
nothing behind, and a bundle that is there already is never touched.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from collector.bundle import manifest as manifests
from collector.bundle.archive_read import Reader, open_archive
from collector.bundle.archive_rules import ArchiveFault, Limits, Member, check_members, check_path, shown
from collector.bundle.arriving import inner_bombs
from collector.bundle.check import Fault, check_bundle
from collector.bundle.read import Bundle, open_bundle
from collector.errors import QuantcaseError, UsageFault

__all__ = ["FORMATS", "Contents", "Packed", "Unpacked", "contents", "pack", "unpack", "verify"]

FORMATS: Final = (".zip", ".tar.gz")
_PIECE: Final = 1 << 20


class Contents(Struct, frozen=True):
    """What travels: the files that the manifest names, and the manifest itself."""

    name: str
    folder: Path
    hashes: dict[str, str]  # relative path to sha256, as hex; without the manifest
    manifest: bytes
    status: str
    faults: list[Fault]


class Packed(Struct, frozen=True):
    """A finished archive."""

    file: Path
    contents: Contents
    sha256: str
    bytes: int


class Unpacked(Struct, frozen=True):
    """A bundle that has arrived. `forced` holds what was wrong with it and taken nevertheless."""

    folder: Path
    status: str
    files: int
    forced: list[str]


# -- what travels ----------------------------------------------------------------------------------------------------


def contents(folder: Path, *, force: bool = False) -> Contents:
    """What of a bundle travels. A killed run's manifest names no files yet: it travels with one that does.

    Raises:
        QuantcaseError: no bundle, or one with errors and not `force`.
    """
    bundle = open_bundle(folder)
    faults = check_bundle(bundle)
    errors = [f for f in faults if f.level == "error"]
    if errors and not force:
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise QuantcaseError(
            f"{bundle.id} has errors: {errors[0].where}: {errors[0].problem}{more}",
            fix="see `collect check`; `collect pack --force` packs it as it is",
        )
    name = folder.resolve().name
    data = (folder / manifests.MANIFEST).read_bytes() if bundle.manifest.resources else _sealed(bundle)
    listed = {r.path: r.hash.removeprefix("sha256:") for r in bundle.manifest.resources}
    for path in listed:
        check_path(f"{name}/{path}")
    present = set(manifests.list_files(folder))
    hashes = {path: listed[path] for path in sorted(listed.keys() & present)}
    if errors:  # forced: the archive is checked against what is there, not against what should be
        hashes = {path: manifests.file_sha256(folder / path) for path in hashes}
    return Contents(name, folder, hashes, data, bundle.info.status, faults)


def _sealed(bundle: Bundle) -> bytes:
    """The manifest of a run that was killed, with its files as they lie there; it still says `interrupted`."""
    bundle.manifest.resources = manifests.resources(bundle.folder)
    bundle.info.cells_done = len(bundle.cells())
    with tempfile.TemporaryDirectory() as beside:
        manifests.write(Path(beside), bundle.manifest)
        return (Path(beside) / manifests.MANIFEST).read_bytes()


# -- packing ---------------------------------------------------------------------------------------------------------


def pack(folder: Path, target: Path | None = None, *, force: bool = False, limits: Limits | None = None) -> Packed:
    """Pack a bundle into `target` (default: its name and .zip, here). Equal bundles give equal archives.

    Raises:
        UsageFault: a format that is not written, or `target` is there already.
        QuantcaseError: the bundle has errors and not `force`.
        ArchiveFault: `collect unpack` would refuse it: its names or its size.
    """
    target = target or Path(f"{folder.resolve().name}.zip")
    if not target.name.endswith(FORMATS):
        raise UsageFault(f"{target.name}: this format is not written", fix=f"name it {' or '.join(FORMATS)}")
    if os.path.lexists(target):
        raise UsageFault(f"{target} is there already", fix="remove it, or name another file with -o")
    what = contents(folder, force=force)
    limits = limits or Limits()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".part", dir=target.absolute().parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw:
            (_write_zip if target.name.endswith(".zip") else _write_tar)(what, raw)
            raw.flush()
            os.fsync(raw.fileno())
        _read_back(part, what, limits)
        packed = Packed(target, what, manifests.file_sha256(part), part.stat().st_size)
        part.chmod(0o644)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return packed


def _members(what: Contents) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """All that goes into an archive, sorted, each with a way to its bytes."""
    for path in sorted([*what.hashes, manifests.MANIFEST]):
        yield (
            f"{what.name}/{path}",
            (lambda: what.manifest) if path == manifests.MANIFEST else (what.folder / path).read_bytes,
        )


def _write_zip(what: Contents, raw: IO[bytes]) -> None:
    with zipfile.ZipFile(raw, "w", allowZip64=False) as out:
        for path, read in _members(what):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, also when packed elsewhere
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_STORED if path.endswith(".gz") else zipfile.ZIP_DEFLATED
            out.writestr(info, read())


def _write_tar(what: Contents, raw: IO[bytes]) -> None:
    with (
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.TarFile(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as out,
    ):
        for path, read in _members(what):
            data = read()
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o644  # time 0, owner 0, no names: as TarInfo has them
            with tempfile.SpooledTemporaryFile(max_size=_PIECE) as source:
                source.write(data)
                source.seek(0)
                out.addfile(info, source)


def _read_back(file: Path, what: Contents, limits: Limits) -> None:
    """Open what was written as a stranger would, and compare every byte's hash."""
    expected = {f"{what.name}/{path}": digest for path, digest in what.hashes.items()}
    expected[f"{what.name}/{manifests.MANIFEST}"] = hashlib.sha256(what.manifest).hexdigest()
    with open_archive(file, limits) as reader:
        members = list(reader.members())
        check_members(members, limits)
        found = {m.path: _hash(reader.open(m.path)) for m in members}
    if found != expected:
        changed = sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))
        raise QuantcaseError(f"{shown(changed[0])} changed while it was packed", fix="pack again when the run is over")


def _hash(source: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with source:
        while piece := source.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


# -- unpacking -------------------------------------------------------------------------------------------------------


def unpack(file: Path, out: Path, *, force: bool = False, limits: Limits | None = None) -> Unpacked:
    """Unpack an archive into `out/<bundle>`.

    `force` takes a bundle whose files are missing, changed or wrong (A203 to A205), and nothing else.

    Raises:
        ArchiveFault: a rule is broken; nothing was written.
        QuantcaseError: a bundle of that name is there already, or it is of a newer format.
    """
    limits = limits or Limits()
    with open_archive(file, limits) as reader:
        members = list(reader.members())
        top = check_members(members, limits)
        if f"{top}/{manifests.MANIFEST}" not in {m.path for m in members}:
            raise ArchiveFault("A201", shown(top), fix="this archive holds no result bundle")
        free(out, top)
        with staging(out) as beside:
            _extract(reader, members, beside, limits)
            status, forced = verify(beside / top, force=force, limits=limits)
            arrive(beside / top, out)
    return Unpacked(out / top, status, sum(m.kind == "file" for m in members), forced)


def free(out: Path, name: str) -> None:
    """Raises QuantcaseError when something of that name is in `out`: a bundle is never written over."""
    if os.path.lexists(out / name):
        raise QuantcaseError(f"{out / name} is there already and stays as it is", fix="take another folder with --out")


def arrive(folder: Path, out: Path) -> None:
    """Give a verified folder its place, in one step."""
    free(out, folder.name)
    folder.rename(out / folder.name)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder beside the target, on the same disk; gone afterwards, and `out` too when it was made for nothing."""
    made = [p for p in (out, *out.parents) if not p.exists()]
    out.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".unpack-", dir=out))
    try:
        yield beside
    finally:
        shutil.rmtree(beside)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _extract(reader: Reader, members: list[Member], beside: Path, limits: Limits) -> None:
    total = 0
    for member in members:
        if member.kind == "folder":
            continue  # made where a file needs it: a bundle has no empty folders
        target = beside / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with reader.open(member.path) as source, target.open("xb") as written:
            while piece := source.read(_PIECE):
                total += len(piece)
                if total > limits.total_bytes:
                    raise ArchiveFault("A121", shown(member.path), detail=f"more than {limits.total_bytes >> 20} MiB")
                written.write(piece)
            written.flush()
            os.fsync(written.fileno())


def verify(folder: Path, *, force: bool = False, limits: Limits | None = None) -> tuple[str, list[str]]:
    """Judge a bundle that has just arrived: its status, and the faults that `force` let pass.

    Raises:
        ArchiveFault: A201 to A205, or a packed table that unpacks to too much.
        QuantcaseError: a bundle of a newer format, or a manifest that cannot be read.
    """
    limits = limits or Limits()
    if not (folder / manifests.MANIFEST).is_file():
        raise ArchiveFault("A201", shown(folder.name))
    bundle = open_bundle(folder)
    listed = {r.path: r for r in bundle.manifest.resources}
    if len(listed) > limits.members:
        raise ArchiveFault("A120", detail=f"more than {limits.members}")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {manifests.MANIFEST}
    if strange := sorted(present - listed.keys()):
        hint = "" if listed else "the run was killed and its manifest names no file; `collect pack` mends that"
        raise ArchiveFault("A202", shown(strange[0]), detail=hint)
    inner_bombs(folder, present, limits)
    faults: list[ArchiveFault] = [ArchiveFault("A203", shown(p)) for p in sorted(listed.keys() - present)]
    for path in sorted(present):
        file, told = folder / path, listed[path]
        if file.stat().st_size != told.bytes or f"sha256:{manifests.file_sha256(file)}" != told.hash:
            faults.append(ArchiveFault("A204", shown(path)))
    if not manifests.self_hash_ok(folder, bundle.manifest):
        faults.append(ArchiveFault("A204", manifests.MANIFEST))
    if not faults:
        errors = (f for f in check_bundle(bundle) if f.level == "error")
        faults += [ArchiveFault("A205", shown(f.where), detail=shown(f.problem)) for f in errors]
    if faults and not force:
        raise faults[0]
    return bundle.info.status, [f.problem for f in faults]
