"""Results at a URL: which URLs are taken, what servers are asked, and the site that is made of one."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec
import pytest
import s3fs
from click.testing import CliRunner

from collector.bundle import manifest as manifests
from collector.bundle.read import QuantcaseError
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
from tests.site.remote_results import ONE, TWO, files_of, into_fleet, make_pair, shown, tree

SECRET = "hunter2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pair(tmp_path_factory.mktemp("made"))


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """The folder behind file://, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "results"))


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
    fleet = into_fleet(results, ONE)
    aws.files.put(str(results), "bundles/x", recursive=True)
    remote = Remote("s3://bundles/x", tmp_path / "cache")
    first, got = aws.asked(remote)
    assert (first.bundles, first.refused) == (2, [])
    assert got == sorted(tree(results).keys() - {"boxes/fleet.json"})
    assert tree(remote.folder / ONE) == tree(fleet / ONE)

    second, got = aws.asked(Remote("s3://bundles/x", tmp_path / "cache"))
    assert (second.bundles, second.files, got) == (2, 0, [])

    (fleet / ONE / "notes.md").write_text("What I learned: nothing.\n")
    seal(fleet / ONE)
    for name in ("notes.md", manifests.MANIFEST):
        aws.files.put(str(fleet / ONE / name), f"bundles/x/boxes/{ONE}/{name}")
    third, got = aws.asked(remote)
    assert (third.files, got) == (2, [f"boxes/{ONE}/{manifests.MANIFEST}", f"boxes/{ONE}/notes.md"])
    assert tree(remote.folder / ONE) == tree(fleet / ONE)

    (tmp_path / "bad").write_bytes(b"x" + (fleet / ONE / "cells.csv").read_bytes()[1:])
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
    """One case read, out of a fleet's folder, one refused and told on the home page: the same bytes otherwise."""
    into_fleet(results, ONE)
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
