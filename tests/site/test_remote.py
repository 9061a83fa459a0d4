"""Results at a URL: a mirror that is whole, verified and no older than the server; nothing hostile gets into it."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec
import pytest
import s3fs
from click.testing import CliRunner

from collector.bundle import manifest as manifests
from collector.bundle.archive_rules import Limits
from collector.bundle.read import QuantcaseError, open_bundle
from collector.bundle.seal import seal
from quantcase.build import generate
from quantcase.client import settings
from quantcase.commands import site as site_command
from quantcase.pages.view import Options
from quantcase.project import Project
from quantcase.remote import Fetched, Remote, bundle
from quantcase.report.command import report as report_command
from tests.carry.servers import s3_server, sftp_server
from tests.makers import make_bundle

ONE, TWO = "2026-11-20-h200-one", "2026-11-21-h200-two"
SECRET = "hunter2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    for seed, name in enumerate((ONE, TWO)):
        make_bundle(home, name=name, only=("bf16", "awq"), seed=seed)
    return home


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """The folder behind file://, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shown(remote: Remote) -> list[str]:
    return sorted(p.name for p in remote.folder.iterdir())


def files_of(folder: Path) -> int:
    return len(tree(folder))


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


def test_a_folder_of_a_fleet_is_named_and_shown_by_its_own_url(results: Path, tmp_path: Path) -> None:
    shutil.move(results / TWO, results / "boxes" / TWO)
    (results / "boxes" / "fleet.json").write_text("{}")
    fetched = Remote(results.as_uri(), tmp_path / "cache").fetch()
    assert fetched.bundles == 1
    assert [name for name, _ in fetched.refused] == ["boxes"]
    assert "name it as `results:`" in fetched.refused[0][1]
    assert Remote((results / "boxes").as_uri(), tmp_path / "cache").fetch().bundles == 1


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


# -- the URL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAKEY:{SECRET}@bucket/x",
        f"s3://{SECRET}@bucket/x",
        f"s3://AKIAKEY:{SECRET}/x@bucket/x",
        f"sftp://me:{SECRET}@host/x",
        f"sftp://me:{SECRET}/x@host/x",
        f"https://{SECRET}@host/x",
        f"https://host/x?X-Amz-Signature={SECRET}",
        f"s3://bucket/x#{SECRET}",
        f"simplecache::s3://me:{SECRET}@bucket",
        f"s3://bucket:{SECRET}/x",
        f"file://{SECRET}/x",
    ],
)
def test_a_secret_in_the_url_is_refused_and_never_printed(url: str, tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError) as refused:
        Project(settings({"results": url}), tmp_path)
    assert SECRET not in str(refused.value)
    assert str(refused.value).startswith("results: ")
    ran = CliRunner().invoke(site_command, ["--out", str(tmp_path / "out"), "--results", url])
    assert SECRET not in ran.output + str(ran.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "s3:// with these parts is no folder"),
        ("file:///a/../b", "must not climb"),
        ("sftp://host", "sftp:// with these parts is no folder"),
        ("nope://host/x", "fsspec knows no nope://"),
        ("file:///no/such/folder", "file:///no/such/folder: there is no such folder"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError) as refused:
        Remote(url, tmp_path).fetch()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("file:///x", "fsspec", "carry"), ("s3://b/x", "s3fs", "carry-s3"), ("sftp://h/x", "sshfs", "carry")],
)
def test_without_the_extra_one_line_names_it(
    url: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)  # what Python itself does with a package it lacks
    with pytest.raises(QuantcaseError) as refused:
        Remote(url, tmp_path).fetch()
    assert f"needs {package}" in str(refused.value)
    assert refused.value.fix == f"pip install 'quantcase[{extra}]'"


def test_memory_and_a_cache_of_none(made: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(made), "/remote-test", recursive=True)
    remote = Remote("memory://remote-test", None)
    assert remote.fetch().bundles == 2
    assert tree(remote.folder / ONE) == tree(made / ONE)
    home = remote.folder
    del remote
    assert not home.exists()
    files.rm("/remote-test", recursive=True)


def test_a_full_disk_is_one_line(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QuantcaseError, match=r"the mirror of file://.*No space left on device; make room"):
        Remote(results.as_uri(), tmp_path / "cache").fetch()


# -- servers -----------------------------------------------------------------------------------------------------------


class S3:
    """Moto's server, and what it was asked."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env, self.url = env, env["AWS_ENDPOINT_URL"]
        self.files = s3fs.S3FileSystem(
            key=env["AWS_ACCESS_KEY_ID"], secret=env["AWS_SECRET_ACCESS_KEY"], endpoint_url=self.url,
            skip_instance_cache=True, use_listings_cache=False,
        )  # fmt: skip

    def _recorder(self, what: str, method: str = "POST") -> str:
        host = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        host.request(method, f"/moto-api/recorder/{what}")
        return host.getresponse().read().decode()

    def asked(self, remote: Remote) -> tuple[Fetched, list[str]]:
        """A look, and the objects that it fetched from the server, by the server's own record."""
        self._recorder("reset-recording")
        self._recorder("start-recording")
        fetched = remote.fetch()
        self._recorder("stop-recording")
        seen = [json.loads(line) for line in self._recorder("download-recording", "GET").splitlines()]
        got = [
            r["url"].split("?")[0].split("/bundles/x/")[1] for r in seen if r["method"] == "GET" and "/x/" in r["url"]
        ]
        return fetched, sorted(set(got))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server("bundles") as env:
        yield S3(dict(env))


@pytest.fixture
def aws(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3:
    for name, value in {**s3.env, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return s3


def test_s3_asks_for_what_changed_and_nothing_else(aws: S3, results: Path, tmp_path: Path) -> None:
    aws.files.put(str(results), "bundles/x", recursive=True)
    remote = Remote("s3://bundles/x", tmp_path / "cache")
    first, got = aws.asked(remote)
    assert (first.bundles, first.refused) == (2, [])
    assert got == sorted(tree(results))
    assert tree(remote.folder / ONE) == tree(results / ONE)

    second, got = aws.asked(Remote("s3://bundles/x", tmp_path / "cache"))
    assert (second.bundles, second.files, got) == (2, 0, [])

    (results / ONE / "notes.md").write_text("What I learned: nothing.\n")
    seal(results / ONE)
    for name in ("notes.md", manifests.MANIFEST):
        aws.files.put(str(results / ONE / name), f"bundles/x/{ONE}/{name}")
    third, got = aws.asked(remote)
    assert (third.files, got) == (2, [f"{ONE}/{manifests.MANIFEST}", f"{ONE}/notes.md"])
    assert tree(remote.folder / ONE) == tree(results / ONE)

    (tmp_path / "bad").write_bytes(b"x" + (results / ONE / "cells.csv").read_bytes()[1:])
    aws.files.put(str(tmp_path / "bad"), f"bundles/x/{TWO}/cells.csv")
    assert aws.asked(remote)[0].files == 0  # its manifest is the same: the mirror has the right bytes
    shutil.rmtree(tmp_path / "cache")
    [(name, why)] = remote.fetch().refused
    assert (name, why.split(" (")[0]) == (TWO, "A204: a file is not what the manifest says")
    assert shown(remote) == [ONE]


def test_an_s3_server_that_does_not_answer_is_one_line(
    aws: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QuantcaseError, match="s3://no-such-bucket/x: there is no such folder"):
        Remote("s3://no-such-bucket/x", tmp_path).fetch()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # else half a minute of patience
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s.getsockname()[1]}")
        with pytest.raises(QuantcaseError) as failed:
            Remote("s3://bundles/x", tmp_path).fetch()
    assert str(failed.value).startswith("s3://bundles/x: ")
    assert not {"\n", "?"} & set(str(failed.value))
    for secret in (aws.env["AWS_ACCESS_KEY_ID"], aws.env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in str(failed.value)


def test_sftp_with_a_key_from_home_and_a_host_that_is_known(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with sftp_server(tmp_path, tmp_path / "home") as port:
        remote = Remote(f"sftp://me@127.0.0.1:{port}/results", tmp_path / "cache")
        assert "me@" not in str(remote.where)
        assert remote.fetch([ONE]).files == files_of(results / ONE)
        assert remote.fetch().bundles == 2
        assert tree(remote.folder / ONE) == tree(results / ONE)
        (tmp_path / "home" / ".ssh" / "known_hosts").write_text("")
        with pytest.raises(QuantcaseError, match="connect once with `ssh`"):
            remote.fetch()


# -- the site ----------------------------------------------------------------------------------------------------------


def test_a_site_from_a_url_is_the_site_of_the_folder(results: Path, tmp_path: Path) -> None:
    """One case read, one refused and told on the home page: the same bytes otherwise."""
    (results / TWO / "cells.csv").write_text("torn")
    options = {"results": results.as_uri(), "cache": "cache"}
    project = Project(settings(options), tmp_path)
    assert project.watched() == []
    assert results.as_uri() in project.unwatched
    catalog, outputs = project.generated({})
    assert [case.id for case in catalog.cases] == [ONE]
    [(name, why)] = catalog.unreadable
    assert (name, why[:5]) == (TWO, "A204:")
    pages = {o.uri: o.data() for o in outputs}
    assert "A204" in str(pages["index.md"]).replace("&#58;", ":")
    shutil.rmtree(results / TWO)
    _, local = generate(results, Options.of(project.site), cache=tmp_path / "other")
    expected = {o.uri: o.data() for o in local}
    assert pages.keys() == expected.keys()
    assert {u for u in pages if u.startswith("cases/") and pages[u] != expected[u]} <= {"cases/index.md"}
    # A case that the site asks for by name, and that is refused, ends the build with its rule.
    make_bundle(results, name=TWO, only=("bf16", "awq"))
    (results / TWO / "cells.csv").write_text("torn")
    with pytest.raises(QuantcaseError, match="A204"):
        Project(settings({**options, "cases": [TWO]}), tmp_path).generated({})


def test_one_bundle_by_its_own_url(results: Path, tmp_path: Path) -> None:
    folder = bundle(f"{results.as_uri()}/{ONE}/", tmp_path / "cache")
    assert (folder.name, tree(folder)) == (ONE, tree(results / ONE))
    with pytest.raises(QuantcaseError, match="no bundle no-such is there"):
        bundle(f"{results.as_uri()}/no-such", tmp_path / "cache")
    ran = CliRunner().invoke(report_command, [f"{results.as_uri()}/no-such", "-o", str(tmp_path / "x.pdf")])
    assert "no bundle no-such is there" in str(ran.exception)
    assert msgspec.json.decode((folder / manifests.MANIFEST).read_bytes())["name"] == ONE
