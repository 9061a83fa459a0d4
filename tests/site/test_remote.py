"""Results at a URL: a mirror that is whole, verified and no older than the server; nothing hostile gets into it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from collector.bundle import manifest as manifests
from collector.bundle.archive_rules import Limits
from collector.bundle.read import QuantcaseError, open_bundle
from collector.bundle.seal import seal
from quantcase.catalog import folders
from quantcase.remote import Fetched, Remote, bundle
from tests.site.remote_results import ONE, TWO, files_of, into_fleet, make_pair, shown, tree


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair(tmp_path_factory.mktemp("made"))


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """The folder behind file://, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "results"))


# -- a folder at file:// -----------------------------------------------------------------------------------------------


def test_a_first_look_mirrors_every_bundle_byte_for_byte(results: Path, tmp_path: Path) -> None:
    (results / "notes").mkdir()  # a folder without a manifest is no bundle
    remote = Remote(results.as_uri(), tmp_path / "cache")
    fetched = remote.fetch()
    assert (fetched.bundles, fetched.refused) == (2, [])
    assert fetched.files == files_of(results / ONE) + files_of(results / TWO)
    assert fetched.bytes == sum(len(d) for name in (ONE, TWO) for d in tree(results / name).values())
    assert shown(remote) == [ONE, TWO]
    assert tree(remote.folder / ONE) == tree(results / ONE)
    again = Remote(results.as_uri(), tmp_path / "cache").fetch()
    assert again.files == 2  # a disk has no ETag: the two manifests are read, and nothing else


def test_only_the_named_cases_are_mirrored(results: Path, tmp_path: Path) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache")
    assert remote.fetch([TWO]).bundles == 1
    assert shown(remote) == [TWO]
    assert remote.fetch([TWO, "no-such"]) == Fetched(1, 1, len((results / TWO / manifests.MANIFEST).read_bytes()))


def test_a_changed_bundle_costs_its_changed_files_only(results: Path, tmp_path: Path) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache")
    remote.fetch()
    before = (remote.folder / ONE).resolve()
    (results / ONE / "notes.md").write_text("What I learned: nothing.\n")
    seal(results / ONE)
    lines: list[str] = []
    assert remote.fetch(say=lines.append).files == 2 + 1
    assert [line.split(" files")[0] for line in lines] == [f"{ONE}: 1 of {files_of(results / ONE) - 1}"]
    assert tree(remote.folder / ONE) == tree(results / ONE)
    assert before.is_dir(), "a build that is under way elsewhere keeps the version that it reads"


def test_what_is_gone_at_the_server_is_gone_from_the_site_and_later_from_the_disk(
    results: Path, tmp_path: Path
) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache")
    remote.fetch()
    version = (remote.folder / ONE).resolve()
    shutil.rmtree(results / ONE)
    assert remote.fetch().bundles == 1
    assert shown(remote) == [TWO]
    assert version.is_dir()
    os.utime(version.parent, (time.time() - 15 * 86400,) * 2)
    remote.fetch()
    assert not version.parent.exists()
    assert files_of(remote.folder / TWO) == files_of(results / TWO)


def test_a_mirror_that_somebody_tidied_is_mended(results: Path, tmp_path: Path) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache")
    remote.fetch()
    (remote.folder / ONE / "cells.csv").unlink()
    (remote.folder / TWO / "cells.csv").write_bytes(b"x")
    assert remote.fetch().files == 2 + 2
    assert tree(remote.folder / ONE) | tree(remote.folder / TWO) == tree(results / ONE) | tree(results / TWO)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_changed_byte_is_refused_and_the_rest_stays_for_the_next_look(results: Path, tmp_path: Path) -> None:
    file = results / ONE / "cells.csv"
    right = file.read_bytes()
    file.write_bytes(right[:-2] + b"7\n")
    remote = Remote(results.as_uri(), tmp_path / "cache")
    fetched = remote.fetch()
    assert fetched.bundles == 1
    [(name, why)] = fetched.refused
    assert name == ONE
    assert why.startswith(f"A204: a file is not what the manifest says ({ONE}/cells.csv)")
    assert shown(remote) == [TWO]
    file.write_bytes(right)
    mended = remote.fetch()
    assert mended.bundles == 2
    paths = sorted(r.path for r in open_bundle(results / ONE).manifest.resources)
    before = [r.path for r in open_bundle(results / ONE).manifest.resources].index("cells.csv")
    assert mended.files == 2 + len(paths) - before  # what had come before it is not fetched again


def test_a_bundle_that_went_bad_is_not_shown_as_it_was(results: Path, tmp_path: Path) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache")
    remote.fetch()
    manifest = results / ONE / manifests.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"grade": "measured"', b'"grade": "imported"', 1))
    assert (
        remote.fetch().refused[0][1].startswith(f"A204: a file is not what the manifest says ({ONE}/{manifest.name})")
    )
    assert shown(remote) == [TWO]
    (results / ONE / manifests.MANIFEST).write_bytes(b"{")
    assert remote.fetch().refused[0][1].startswith("A201: ")


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("../../cells.csv", "A102"),
        ("/etc/cells.csv", "A102"),
        ("c:cells.csv", "A117"),
        ("logs/nul.csv", "A113"),
        ("cells\u202e.csv", "A114"),
        ("notes.MD", "A111"),
        (manifests.MANIFEST, "A110"),
        ("missing.csv", "A203"),
    ],
)
def test_hostile_names_in_a_manifest_never_reach_the_disk(results: Path, tmp_path: Path, path: str, rule: str) -> None:
    opened = open_bundle(results / ONE)
    next(r for r in opened.manifest.resources if r.path == "cells.csv").path = path
    manifests.write(results / ONE, opened.manifest)
    remote = Remote(results.as_uri(), tmp_path / "cache")
    [(name, why)] = remote.fetch([ONE]).refused
    assert (name, why[:5]) == (ONE, f"{rule}:")
    assert why.isascii()
    assert shown(remote) == []
    assert not list((tmp_path / "cache").rglob("cells*"))


def test_hostile_names_of_folders_are_refused(results: Path, tmp_path: Path) -> None:
    for name in ("aux", "two\u202e", TWO.upper(), "x."):
        shutil.copytree(results / TWO, results / name)
    remote = Remote(results.as_uri(), tmp_path / "cache")
    rules = {name: why[:4] for name, why in remote.fetch().refused}
    assert rules == {"aux": "A113", "two\\u202e": "A114", TWO: "A111", "x.": "A115"}
    assert shown(remote) == [ONE, TWO.upper()]
    assert remote.fetch(["../results"]).refused[0][1].startswith("A102")


@pytest.mark.parametrize(
    ("limits", "rule"),
    [(Limits(members=9), "A120"), (Limits(total_bytes=9000), "A121"), (Limits(ratio=2, ratio_from_bytes=0), "A122")],
)
def test_the_limits_of_archives_hold(results: Path, tmp_path: Path, limits: Limits, rule: str) -> None:
    remote = Remote(results.as_uri(), tmp_path / "cache", limits)
    assert remote.fetch([ONE]).refused[0][1].startswith(rule)
    assert not list((tmp_path / "cache").rglob("*.gz"))


def test_more_folders_than_a_place_may_have_end_the_build(results: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match=r"A120: .*file:///"):
        Remote(results.as_uri(), tmp_path / "cache", Limits(members=1)).fetch()


# -- the folders of fleets ---------------------------------------------------------------------------------------------


def test_the_bundles_of_a_fleet_are_cases_as_in_a_folder_of_this_machine(results: Path, tmp_path: Path) -> None:
    fleet = into_fleet(results, TWO)
    (fleet / "logs").mkdir()  # no bundle
    shutil.copytree(results / ONE, fleet / "deeper" / "too-deep")
    (fleet / "deeper" / "fleet.json").write_text("{}")  # and no fleet in a fleet
    remote = Remote(results.as_uri(), tmp_path / "cache")
    fetched = remote.fetch()
    assert (fetched.bundles, fetched.refused) == (2, [])
    assert fetched.files == files_of(results / ONE) + files_of(fleet / TWO)
    assert [p.name for p in folders(remote.folder)[0]] == [p.name for p in folders(results)[0]] == [ONE, TWO]
    assert tree(remote.folder / TWO) == tree(fleet / TWO)
    assert remote.fetch().files == 2  # the two manifests
    (fleet / TWO).rename(results / TWO)
    assert remote.fetch().files == 2  # where it lies is no change of a bundle
    (results / TWO).rename(fleet / TWO)
    shutil.rmtree(fleet / TWO)
    assert remote.fetch().bundles == 1
    assert shown(remote) == [ONE]


def test_cases_are_named_without_their_fleet(results: Path, tmp_path: Path) -> None:
    fleet = into_fleet(results, TWO)
    remote = Remote(results.as_uri(), tmp_path / "cache")
    assert remote.fetch([TWO]).bundles == 1
    assert shown(remote) == [TWO]
    assert remote.fetch(["boxes", f"boxes/{TWO}"]).refused[0][1].startswith("A102")
    assert Remote(fleet.as_uri(), tmp_path / "cache").fetch().files == 1, "its own URL shares what is here"
    with pytest.raises(QuantcaseError, match=r"no bundle .* is there"):
        bundle(f"{results.as_uri()}/{TWO}", tmp_path / "cache")
    assert bundle(f"{fleet.as_uri()}/{TWO}", tmp_path / "cache").name == TWO


def test_of_two_bundles_of_one_name_none_is_shown(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / TWO, into_fleet(results) / TWO)
    remote = Remote(results.as_uri(), tmp_path / "cache")
    for only in ([], [TWO]):
        [(name, why)] = remote.fetch(only).refused
        assert (name, why) == (TWO, f"2 bundles have that name ({TWO}, boxes/{TWO}): rename one")
    assert shown(remote) == [p.name for p in folders(results)[0]] == [ONE]


def test_a_fleet_is_trusted_no_more_than_the_place(results: Path, tmp_path: Path) -> None:
    fleet = into_fleet(results, TWO)
    for name in ("aux", "two\u202e", ONE.upper()):
        shutil.copytree(fleet / TWO, fleet / name)
    (fleet / TWO / "cells.csv").write_bytes(b"x")
    manifest = open_bundle(fleet / ONE.upper()).manifest
    manifest.resources[0].path = "../../x"
    manifests.write(fleet / ONE.upper(), manifest)
    remote = Remote(results.as_uri(), tmp_path / "cache")
    said = dict(remote.fetch().refused)
    assert {name: why[:4] for name, why in said.items()} == {
        "aux": "A113", "two\\u202e": "A114", TWO: "A204", ONE.upper(): "A102",
    }  # fmt: skip
    assert f"(boxes/{TWO}/cells.csv)" in said[TWO]
    assert shown(remote) == [ONE]
    with pytest.raises(QuantcaseError, match=r"A120: .*/results/boxes"):  # 2 at the place, and 4 in the fleet
        Remote(results.as_uri(), tmp_path / "cache", Limits(members=5)).fetch()


# -- a run under way ---------------------------------------------------------------------------------------------------


def opened_again(folder: Path) -> None:
    """As a run leaves it that is under way or was killed: a manifest that names no file."""
    bundle = open_bundle(folder)
    bundle.manifest.resources, bundle.info.status = [], "interrupted"
    manifests.write(folder, bundle.manifest)


def test_a_run_under_way_is_known_by_size_and_time(results: Path, tmp_path: Path) -> None:
    opened_again(results / ONE)
    (results / ONE / "cells.csv.tmp").write_text("being written")
    remote = Remote(results.as_uri(), tmp_path / "cache")
    assert remote.fetch([ONE]).files == files_of(results / ONE) - 1
    assert "cells.csv.tmp" not in tree(remote.folder / ONE)
    assert remote.fetch([ONE]).files == 1
    first = (remote.folder / ONE).resolve()
    with (results / ONE / "cells.csv").open("a") as file:
        file.write("one more row\n")
    assert remote.fetch([ONE]).files == 2
    assert tree(remote.folder / ONE)["cells.csv"] == (results / ONE / "cells.csv").read_bytes()
    assert not first.exists(), "each look would leave a version"
    manifest = open_bundle(results / ONE).manifest
    manifest.resources = manifests.resources(results / ONE)
    manifests.write(results / ONE, manifest)
    assert remote.fetch([ONE]).files == 1  # closed: every file is here, by its hash


def test_a_link_in_a_run_under_way_is_refused(results: Path, tmp_path: Path) -> None:
    opened_again(results / ONE)
    (results / ONE / "environment.json").unlink()
    (results / ONE / "environment.json").symlink_to("/etc/hostname")
    remote = Remote(results.as_uri(), tmp_path / "cache")
    assert remote.fetch([ONE]).refused[0][1].startswith("A105")
    assert shown(remote) == []
