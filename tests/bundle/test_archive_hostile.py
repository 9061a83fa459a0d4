"""Hostile archives: each rule of docs/guide/carry.md has a case that breaks it and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from collector.bundle import archive, manifest
from collector.bundle.archive_rules import RULES, ArchiveFault
from tests.bundle.test_archive import TOP, tree
from tests.makers import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("home"), name=TOP)


Entry = tuple[str, bytes, int]  # name, data, Unix mode (0: none stated)


def as_zip(entries: list[Entry]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice: that is the point
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.filename = name  # as given, whatever ZipInfo made of it
            info.external_attr = mode << 16
            z.writestr(info, data, zipfile.ZIP_DEFLATED)
    return raw.getvalue()


def as_tar(bundle: Path, *more: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", errors="surrogateescape") as t:
        for path, data in tree(bundle).items():
            info = tarfile.TarInfo(f"{TOP}/{path}")
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        for info in more:
            t.addfile(info, io.BytesIO(bytes(info.size)))
    return raw.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def good(bundle: Path) -> list[Entry]:
    return [(f"{TOP}/{p}", data, 0) for p, data in tree(bundle).items()]


def named(name: str, mode: int = 0) -> Callable[[Path], bytes]:
    """The good bundle with one member more."""
    return lambda bundle: as_zip([*good(bundle), (name, b"x", mode)])


def tarred(name: str, kind: bytes, link: str = "") -> Callable[[Path], bytes]:
    return lambda bundle: as_tar(bundle, special(name, kind, link))


def patched(old: bytes, new: bytes, name: str) -> Callable[[Path], bytes]:
    return lambda bundle: named(name)(bundle).replace(old, new)


def without_manifest(bundle: Path) -> bytes:
    return as_zip([e for e in good(bundle) if not e[0].endswith(manifest.MANIFEST)])


def with_one_less(bundle: Path) -> bytes:
    return as_zip([e for e in good(bundle) if not e[0].endswith("client.json")])


def with_a_changed_byte(bundle: Path) -> bytes:
    return as_zip([(n, d + b" " if n.endswith("notes.md") else d, m) for n, d, m in good(bundle)])


def encrypted(bundle: Path) -> bytes:
    data = bytearray(as_zip(good(bundle)))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def other_method(bundle: Path) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_LZMA) as z:
        for name, data, _ in good(bundle):
            z.writestr(name, data)
    return raw.getvalue()


def commented(bundle: Path) -> bytes:
    raw = io.BytesIO(as_zip(good(bundle)))
    with zipfile.ZipFile(raw, "a") as z:
        z.comment = b"PK\x05\x06" + bytes(18)
    return raw.getvalue()


def overlapping(bundle: Path) -> bytes:
    """Two names in the directory for one member's bytes: how 10 MB become petabytes."""
    data = as_zip([*good(bundle), (f"{TOP}/zz", b"x", 0)])
    last, first = data.rindex(b"PK\x01\x02"), data.index(b"PK\x01\x02")
    changed = bytearray(data)
    changed[last + 42 : last + 46] = data[first + 42 : first + 46]
    return bytes(changed)


def cut_off(bundle: Path) -> bytes:
    return as_zip(good(bundle))[:-500]


def many(bundle: Path) -> bytes:
    return as_zip([*good(bundle), *((f"{TOP}/f{i}", b"", 0) for i in range(10_001))])


def many_in_a_tar(bundle: Path) -> bytes:
    return as_tar(bundle, *(tarfile.TarInfo(f"{TOP}/f{i}") for i in range(10_001)))


def zeros(bundle: Path) -> bytes:
    return as_zip([*good(bundle), (f"{TOP}/zeros", bytes(64 << 20), 0)])


def zeros_in_a_tar(bundle: Path) -> bytes:
    info = tarfile.TarInfo(f"{TOP}/zeros")
    info.size = 64 << 20
    return as_tar(bundle, info)


def inner_bomb(bundle: Path) -> bytes:
    """A packed table of the bundle is the bomb, and the manifest names it with its true hash."""
    bomb = gzip.compress(bytes(64 << 20), mtime=0)
    data = manifest.read(bundle)
    files = tree(bundle) | {"requests.csv.gz": bomb}
    for r in data.resources:
        if r.path == "requests.csv.gz":
            r.bytes, r.hash = len(bomb), "sha256:" + hashlib.sha256(bomb).hexdigest()
    files[manifest.MANIFEST] = msgspec.json.encode(data)
    return as_zip([(f"{TOP}/{p}", d, 0) for p, d in files.items()])


def huge(bundle: Path) -> bytes:
    """The directory states 4 GiB for a small member."""
    data = bytearray(as_zip(good(bundle)))
    for n in (data.index(b"PK\x01\x02"), data.rindex(b"PK\x01\x02")):
        data[n + 24 : n + 28] = struct.pack("<L", 0xFFFFFFF0)
    return bytes(data)


def long_header(bundle: Path) -> bytes:
    """An extended header that states 3 GiB: tarfile would read it whole."""
    raw = io.BytesIO()
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 3 << 30
    raw.write(head.tobuf(tarfile.USTAR_FORMAT))
    raw.write(bytes(4096))
    return gzip.compress(raw.getvalue())


HOSTILE: list[tuple[str, str, Callable[[Path], bytes]]] = [
    ("A101", "cut off", cut_off),
    ("A101", "no archive", lambda _: b"hello, world, this is no archive"),
    ("A101", "a torn tar.gz", lambda b: as_tar(b)[:-2000]),
    ("A102", "climbing", named(f"{TOP}/../../evil")),
    ("A102", "climbing with backslashes", named(f"{TOP}/..\\..\\evil")),
    ("A102", "a dot", named(f"./{TOP}/evil")),
    ("A102", "an empty part", named(f"{TOP}//evil")),
    ("A103", "absolute", named("/tmp/evil")),
    ("A103", "a share", named("\\\\server\\share\\evil")),
    ("A103", "absolute in a tar", tarred("/tmp/evil", tarfile.REGTYPE)),
    ("A104", "drive", named("C:/evil")),
    ("A105", "symbolic link in a zip", named(f"{TOP}/link", stat.S_IFLNK | 0o777)),
    ("A105", "symbolic link in a tar", tarred(f"{TOP}/link", tarfile.SYMTYPE, "/etc/passwd")),
    ("A106", "hard link", tarred(f"{TOP}/link", tarfile.LNKTYPE, f"{TOP}/notes.md")),
    ("A107", "character device", tarred(f"{TOP}/dev", tarfile.CHRTYPE)),
    ("A107", "block device in a zip", named(f"{TOP}/dev", stat.S_IFBLK | 0o600)),
    ("A108", "fifo", tarred(f"{TOP}/fifo", tarfile.FIFOTYPE)),
    ("A108", "socket in a zip", named(f"{TOP}/sock", stat.S_IFSOCK | 0o600)),
    ("A109", "contiguous file", tarred(f"{TOP}/odd", tarfile.CONTTYPE)),
    ("A109", "a folder that is none", named(f"{TOP}/odd", stat.S_IFDIR | 0o755)),
    ("A110", "twice", named(f"{TOP}/notes.md")),
    ("A110", "a file where a folder is", named(f"{TOP}/logs")),
    ("A110", "twice in a tar", tarred(f"{TOP}/notes.md", tarfile.REGTYPE)),
    ("A111", "case", named(f"{TOP}/NOTES.md")),
    ("A111", "case of a folder", named(f"{TOP}/Logs/x.log.gz")),
    ("A112", "Unicode form", lambda b: as_zip([*good(b), (f"{TOP}/é", b"", 0), (f"{TOP}/e\u0301", b"", 0)])),
    ("A113", "device of Windows", named(f"{TOP}/logs/aux.log")),
    ("A114", "control character", named(f"{TOP}/a\x1b[2Jb")),
    ("A114", "NUL", patched(b"NNN.md", b"N\x00N.md", f"{TOP}/NNN.md")),
    ("A114", "text that turns", named(f"{TOP}/a\u202egpj.exe")),
    ("A115", "trailing dot", named(f"{TOP}/a.")),
    ("A115", "trailing blank", named(f"{TOP}/a ")),
    ("A116", "cp437 in a zip", patched(b"XYZ", b"\xe9\xff\xfe", f"{TOP}/XYZ")),
    ("A116", "bad bytes in a tar", tarred(f"{TOP}/\udcff\udcfe", tarfile.REGTYPE)),
    ("A117", "a stream of NTFS", named(f"{TOP}/notes.md:x")),
    ("A118", "deep", named(f"{TOP}/" + "d/" * 200 + "x")),
    ("A118", "long", named(f"{TOP}/" + "x" * 230)),
    ("A119", "two top folders", named("other/x")),
    ("A119", "a file at the top", named("x")),
    ("A120", "too many", many),
    ("A120", "too many in a tar", many_in_a_tar),
    ("A121", "stated sizes", huge),
    ("A122", "ratio", zeros),
    ("A122", "ratio in a tar", zeros_in_a_tar),
    ("A122", "a bomb inside", inner_bomb),
    ("A123", "encrypted", encrypted),
    ("A123", "another method", other_method),
    ("A124", "a comment that is a second end", commented),
    ("A124", "overlapping members", overlapping),
    ("A124", "a header of 3 GiB", long_header),
    ("A201", "no manifest", without_manifest),
    ("A202", "a stranger", named(f"{TOP}/extra.sh")),
    ("A202", "a stranger that the check passes over", named(f"{TOP}/extra.tmp")),
    ("A203", "one less", with_one_less),
    ("A204", "a changed byte", with_a_changed_byte),
]


@pytest.mark.parametrize(("rule", "what", "make"), HOSTILE, ids=[f"{r} {w}" for r, w, _ in HOSTILE])
def test_a_hostile_archive_is_refused_by_name_and_leaves_nothing(
    bundle: Path, tmp_path: Path, rule: str, what: str, make: Callable[[Path], bytes]
) -> None:
    file = tmp_path / "in" / "hostile.archive"
    file.parent.mkdir()
    file.write_bytes(make(bundle))
    with pytest.raises(ArchiveFault) as refused:
        archive.unpack(file, tmp_path / "new" / "results")
    assert refused.value.rule == rule, str(refused.value)
    assert str(refused.value).startswith(f"{rule}: {RULES[rule]}")
    assert str(refused.value).isprintable()
    assert str(refused.value).isascii()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_bundle_whose_rows_disagree_is_refused(bundle: Path, tmp_path: Path) -> None:
    """A205: every hash is right, because the hostile hand made the manifest too."""
    bad = tmp_path / TOP
    for path, data in tree(bundle).items():
        (bad / path).parent.mkdir(parents=True, exist_ok=True)
        (bad / path).write_bytes(data)
    lines = (bad / "cells.csv").read_text().splitlines()
    (bad / "cells.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    forged = manifest.read(bad)
    forged.resources = manifest.resources(bad)
    manifest.write(bad, forged)
    (tmp_path / "x.zip").write_bytes(as_zip([(f"{TOP}/{p}", d, 0) for p, d in tree(bad).items()]))
    with pytest.raises(ArchiveFault, match="A205"):
        archive.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_rule_has_a_case_and_a_line_in_the_guide() -> None:
    assert {r for r, _, _ in HOSTILE} | {"A205"} == RULES.keys()
    words = (Path(__file__).parents[2] / "docs" / "guide" / "carry.md").read_text()
    for rule, sentence in RULES.items():
        assert f"| {rule} | {sentence} |" in words


def test_a_neighbour_is_not_touched_when_an_archive_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "x").write_bytes(with_a_changed_byte(bundle))
    with pytest.raises(ArchiveFault):
        archive.unpack(tmp_path / "x", tmp_path / "results")
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["mine"]
