"""What push and pull refuse, told with a folder as the place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from collector.bundle import manifest
from collector.bundle.archive_rules import ArchiveFault
from collector.carry import commands
from collector.carry.pull import found, pull
from collector.carry.push import push
from collector.carry.store import PART, Store, address, connect
from collector.errors import QuantcaseError, UsageFault
from tests.makers import make_bundle

TOP = "2026-11-21-h200-h200-shape"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("results"), name=TOP)


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home" / TOP))


def folder(path: Path) -> Store:
    return connect(address(str(path)))


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("sftp://me:hunter2@host/x", "sftp://user@host/folder with a key"),
        ("s3://AKIAX:hunter2@bucket/x", "AWS_PROFILE"),
        ("s3://hunter2@bucket/x", "AWS_PROFILE"),
        ("ftp://me:hunter2@host/x", "with a key"),
        ("s3://bucket/x?X-Amz-Signature=hunter2", "a secret too"),
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str, right: str) -> None:
    with pytest.raises(UsageFault) as refused:
        address(url)
    assert right in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://host/x", "sftp://host", "s3://", "s3://b:99/x", "sftp://h/a/../b", "dir::s3://b"]
)
def test_other_places_are_refused(url: str) -> None:
    with pytest.raises(UsageFault):
        address(url)


def test_a_place_is_shown_without_its_user() -> None:
    assert str(address("sftp://me@host:2222/srv/x")) == "sftp://host/srv/x"
    assert str(address("s3://bucket/a/b/")) == "s3://bucket/a/b"
    assert address("file:///srv/x").path == "/srv/x"


def test_a_bundle_with_errors_is_not_pushed(bundle: Path, tmp_path: Path) -> None:
    (bundle / "cells.csv").write_text("x\n")
    with pytest.raises(QuantcaseError, match="has errors"):
        push(bundle, folder(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_file_of_another_size_or_content_is_sent_again(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "there" / TOP
    there.mkdir(parents=True)
    shutil.copy(bundle / "cells.csv", there)
    (there / "study.toml").write_bytes(bytes((bundle / "study.toml").stat().st_size))
    (there / f"notes.md{PART}").write_text("half")
    done = push(bundle, folder(tmp_path / "there"))
    assert done.kept == 1
    assert (there / "study.toml").read_bytes() == (bundle / "study.toml").read_bytes()
    assert not (there / f"notes.md{PART}").exists()


def test_a_strange_file_at_the_place_stops_the_push_before_the_manifest(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "there" / TOP
    there.mkdir(parents=True)
    (there / "other.csv").write_text("x")
    with pytest.raises(QuantcaseError, match=r"other\.csv is not of this bundle"):
        push(bundle, folder(tmp_path / "there"))
    assert not (there / manifest.MANIFEST).exists()
    assert (there / "other.csv").read_text() == "x"


def test_a_place_that_keeps_other_bytes_than_were_sent_is_found_out(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = folder(tmp_path / "there")
    real = store._files.open

    def lossy(path: str, mode: str) -> object:
        if mode == "wb" and "requests" in path:
            return real("/dev/null", "wb")
        return real(path, mode)

    monkeypatch.setattr(store._files, "open", lossy)
    with pytest.raises(QuantcaseError, match=r"requests\.csv\.gz came back changed"):
        push(bundle, store)
    assert not (tmp_path / "there" / TOP / manifest.MANIFEST).exists()


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "C:evil", "logs/AUX", "a\x1bb", "NOTES.MD"])
def test_a_hostile_place_is_refused_by_the_rules_of_unpack(bundle: Path, tmp_path: Path, name: str) -> None:
    forged = manifest.read(bundle)
    forged.resources[0].path = name
    (bundle / manifest.MANIFEST).write_bytes(msgspec.json.encode(forged))
    store = folder(bundle.parent)
    with pytest.raises(ArchiveFault, match=r"^A1\d\d: "):
        pull(store, TOP, TOP, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_file_at_the_place_leaves_nothing_here(bundle: Path, tmp_path: Path) -> None:
    data = (bundle / "requests.csv.gz").read_bytes()
    for changed in (data[:-1], data[:-1] + b"x", data + b"x"):
        (bundle / "requests.csv.gz").write_bytes(changed)
        with pytest.raises(ArchiveFault, match=r"A204: .*requests\.csv\.gz"):
            pull(folder(bundle.parent), TOP, TOP, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


def test_a_run_that_was_killed_is_pushed_with_a_manifest_that_names_its_files(bundle: Path, tmp_path: Path) -> None:
    opened = manifest.read(bundle)
    opened.resources, opened.quantcase.status = [], "interrupted"
    manifest.write(bundle, opened)
    with pytest.raises(ArchiveFault, match="A203"):  # as it is nothing in it can be verified
        pull(folder(bundle.parent), TOP, TOP, tmp_path / "out")
    said = CliRunner().invoke(commands.push, [str(bundle), str(tmp_path / "there")])
    assert said.exit_code == 0
    assert "interrupted" in said.output
    store = folder(tmp_path / "there")
    assert found(store) == [(TOP, TOP)]
    assert pull(store, TOP, TOP, tmp_path / "out").status == "interrupted"


def test_the_collector_needs_fsspec_only_to_push_and_pull(bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from pathlib import Path; from collector.bundle import archive; from collector.carry import commands, store\n"
        f"archive.pack(Path({str(bundle)!r}), Path({str(tmp_path / 'x.zip')!r}))\n"
        "try: store.connect(store.address('/x'))\n"
        "except Exception as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'quantcase[carry]'" in done.stdout
    assert (tmp_path / "x.zip").is_file()
