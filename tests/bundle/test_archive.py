"""One file to carry: what goes in comes out, byte for byte, and what is hostile leaves nothing behind."""

from __future__ import annotations

import gzip
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from collector.bundle import archive, manifest
from collector.bundle.archive_rules import ArchiveFault, Limits, Member, check_members, check_path, shown
from collector.bundle.check import check
from collector.bundle.write import BundleWriter
from collector.carry import commands
from collector.errors import QuantcaseError, UsageFault
from tests.makers import make_bundle

TOP = "2026-11-21-h200-h200-shape"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("home"), name=TOP)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("cut"), name=TOP, status="interrupted", only=("bf16",))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", archive.FORMATS)
def test_what_is_packed_comes_out_byte_for_byte(bundle: Path, tmp_path: Path, ending: str) -> None:
    packed = archive.pack(bundle, tmp_path / f"x{ending}")
    arrived = archive.unpack(packed.file, tmp_path / "out")
    assert arrived.folder == tmp_path / "out" / TOP
    assert tree(arrived.folder) == tree(bundle)
    assert [f for f in check(arrived.folder) if f.level == "error"] == []
    assert [p.name for p in (tmp_path / "out").iterdir()] == [TOP]


@pytest.mark.parametrize("ending", archive.FORMATS)
def test_equal_bundles_give_equal_archives(bundle: Path, tmp_path: Path, ending: str) -> None:
    one = archive.pack(bundle, tmp_path / f"one{ending}")
    for path in bundle.rglob("*"):
        if path.is_file():
            path.touch()  # other times on disk
    other = archive.pack(bundle, tmp_path / f"other{ending}")
    assert one.sha256 == other.sha256
    assert one.file.read_bytes() == other.file.read_bytes()


def test_members_are_sorted_and_carry_no_time_and_no_owner(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive.pack(bundle, tmp_path / "x.zip").file) as z:
        assert z.namelist() == sorted(z.namelist())
        assert {i.date_time for i in z.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {i.external_attr >> 16 for i in z.infolist()} == {stat.S_IFREG | 0o644}
    with tarfile.open(archive.pack(bundle, tmp_path / "x.tar.gz").file) as t:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in t} == {(0, 0, 0, "", "", 0o644)}


def test_an_interrupted_bundle_is_packed_with_a_word(interrupted: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(commands.pack, [str(interrupted), "-o", str(tmp_path / "x.zip")])
    assert said.exit_code == 0
    assert f"{TOP}: interrupted" in said.output
    said = CliRunner().invoke(commands.unpack, [str(tmp_path / "x.zip"), "--out", str(tmp_path / "out")])
    assert said.exit_code == 0
    assert f"{TOP}: interrupted" in said.output
    assert "unpacked:" in said.output


def test_a_killed_run_travels_with_hashes_and_can_be_resumed(interrupted: Path, tmp_path: Path) -> None:
    """kill -9 leaves a manifest that names no files; in the archive it names them all."""
    killed = tmp_path / TOP
    killed.mkdir()
    for path, data in tree(interrupted).items():
        (killed / path).parent.mkdir(exist_ok=True)
        (killed / path).write_bytes(data)
    opened = manifest.read(killed)
    opened.resources = []
    manifest.write(killed, opened)
    (killed / "cells.csv.tmp").write_text("torn")
    before = tree(killed)
    arrived = archive.unpack(archive.pack(killed, tmp_path / "x.zip").file, tmp_path / "out")
    assert tree(killed) == before
    named = {r.path for r in manifest.read(arrived.folder).resources}
    assert named == before.keys() - {manifest.MANIFEST, "cells.csv.tmp"}
    assert len(BundleWriter.resume(arrived.folder).cells) == manifest.read(arrived.folder).quantcase.cells_done > 0


def test_a_bundle_with_errors_is_packed_only_by_force_and_unpacked_only_by_force(bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / TOP
    for path, data in tree(bundle).items():
        (bad / path).parent.mkdir(parents=True, exist_ok=True)
        (bad / path).write_bytes(data)
    (bad / "cells.csv").write_text((bad / "cells.csv").read_text().replace("c16", "c61", 1))
    with pytest.raises(QuantcaseError, match=r"has errors: cells\.csv"):
        archive.pack(bad, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
    forced = CliRunner().invoke(commands.pack, [str(bad), "-o", str(tmp_path / "x.zip"), "--force"])
    assert forced.exit_code == 0
    assert "packed nevertheless" in forced.output
    with pytest.raises(ArchiveFault) as refused:
        archive.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert refused.value.rule == "A204"
    assert refused.value.where == "cells.csv"
    assert not (tmp_path / "out").exists()
    taken = archive.unpack(tmp_path / "x.zip", tmp_path / "out", force=True)
    assert taken.forced == ["A204: a file is not what the manifest says (cells.csv)"]


def test_a_bundle_that_is_there_is_never_written_over(bundle: Path, tmp_path: Path) -> None:
    file = archive.pack(bundle, tmp_path / "x.zip").file
    (tmp_path / "out" / TOP).mkdir(parents=True)
    for force in (False, True):
        with pytest.raises(QuantcaseError, match="is there already and stays as it is"):
            archive.unpack(file, tmp_path / "out", force=force)
    assert tree(tmp_path / "out") == {}
    with pytest.raises(UsageFault, match="is there already"):
        archive.pack(bundle, tmp_path / "x.zip")


def test_an_archive_is_known_by_its_bytes_and_zstd_is_told(bundle: Path, tmp_path: Path) -> None:
    file = archive.pack(bundle, tmp_path / "x.zip").file
    file.rename(tmp_path / "x.tar.gz")
    assert archive.unpack(tmp_path / "x.tar.gz", tmp_path / "out").files == len(tree(bundle))
    (tmp_path / "x.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(ArchiveFault, match=r"A101: .*zstd is not read here"):
        archive.unpack(tmp_path / "x.tar.zst", tmp_path / "out2")
    with pytest.raises(UsageFault, match="not written"):
        archive.pack(bundle, tmp_path / "y.tar.zst")


# -- names, by the thousand ------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_a_path_that_passes_is_safe_everywhere(path: str) -> None:
    try:
        parts = check_path(path)
    except ArchiveFault:
        return
    root = Path("/srv/results")
    assert root in (root / path).resolve().parents
    assert "/".join(parts) == path
    assert not set(path) & set('\\:<>"|?*')
    assert path.isprintable()
    assert all(p == p.strip() and not p.endswith(".") for p in parts)


@given(st.lists(st.text(alphabet="aAäÄeE\u0301éßsS.", min_size=1, max_size=3), min_size=2, max_size=6))
def test_names_that_pass_together_stay_apart_on_a_forgiving_file_system(names: list[str]) -> None:
    try:
        check_members([Member("top", "folder"), *(Member(f"top/{n}", "file") for n in names)])
    except ArchiveFault:
        return
    assert len({unicodedata.normalize("NFC", n).casefold() for n in names}) == len(names)


@given(st.text())
def test_a_shown_name_is_harmless(name: str) -> None:
    assert shown(name).isascii()
    assert shown(name).isprintable()
    assert len(shown(name)) <= 80


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_without_another_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for head in (b"", b"PK\x03\x04", b"\x1f\x8b\x08\x00"):
        (folder / "x").write_bytes(head + data)
        with pytest.raises(ArchiveFault):
            archive.unpack(folder / "x", folder / "out")
    (folder / "x").write_bytes(gzip.compress(data))
    with pytest.raises(ArchiveFault):
        archive.unpack(folder / "x", folder / "out", limits=Limits())
    assert [p.name for p in folder.iterdir()] == ["x"]
