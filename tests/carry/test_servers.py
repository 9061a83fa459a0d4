"""Push and pull over a folder, a real SFTP server and a real S3 server: whole, resumable, never half a bundle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from collector.bundle import manifest
from collector.bundle.check import check
from collector.carry import commands
from collector.carry.store import PART, Store, address, connect
from collector.errors import QuantcaseError
from tests.carry.servers import s3_server, sftp_server
from tests.makers import make_bundle

ROOT = Path(__file__).parents[2]
TOP = "2026-11-21-h200-h200-shape"


class Place:
    """Somewhere to carry to, and the environment in which a command finds it."""

    def __init__(self, url: str, home: Path, **more: str) -> None:
        self.url, self.env = url, {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **more}

    def argv(self, command: str, *args: object) -> list[str]:
        """`collect COMMAND ...`, as cli.py runs it."""
        code = (
            "import sys; from collector import cli; from collector.carry import commands as c; "
            "[cli.cli.add_command(getattr(c, n)) for n in ('pack', 'unpack', 'push', 'pull')]; cli.main(sys.argv[1:])"
        )
        return [sys.executable, "-c", code, command, *map(str, args)]

    def run(self, command: str, *args: object) -> subprocess.CompletedProcess[str]:
        """The command in this process: loading S3's client takes seconds each time."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            done = CliRunner().invoke(getattr(commands, command), [str(a) for a in args])
        if done.exception is not None and not isinstance(done.exception, QuantcaseError):
            raise done.exception
        error = f"error: {done.exception}" if done.exception else ""  # as cli.main prints it
        return subprocess.CompletedProcess([], done.exit_code, done.stdout, done.stderr + error)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("results"), name=TOP)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server("carry") as env:
        yield dict(env)


@pytest.fixture(params=["folder", "sftp", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "home"
    if request.param == "folder":
        home.mkdir()
        yield Place(str(tmp_path / "share" / "bundles"), home)
    elif request.param == "sftp":
        (tmp_path / "srv").mkdir()
        with sftp_server(tmp_path / "srv", home) as port:
            yield Place(f"sftp://me@127.0.0.1:{port}/bundles", home)
    else:
        home.mkdir()
        yield Place(f"s3://carry/{tmp_path.name}", home, **request.getfixturevalue("s3"))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_there_and_back_byte_for_byte_and_again(place: Place, bundle: Path, tmp_path: Path) -> None:
    count = len(tree(bundle))
    pushed = place.run("push", bundle, place.url)
    assert pushed.returncode == 0, pushed.stderr
    assert f"pushed: {TOP} ({count} files sent and read back, 0 there already)" in pushed.stdout
    assert f"(0 files sent and read back, {count} there already)" in place.run("push", bundle, place.url).stdout
    pulled = place.run("pull", place.url, "--out", tmp_path / "one")
    assert pulled.returncode == 0, pulled.stderr
    assert f"{count} files fetched, 0 here already, verified" in pulled.stdout
    assert tree(tmp_path / "one") == {f"{TOP}/{p}": d for p, d in tree(bundle).items()}
    assert [p.name for p in (tmp_path / "one").iterdir()] == [TOP]
    assert [f for f in check(tmp_path / "one" / TOP) if f.level == "error"] == []
    assert place.run("pull", f"{place.url}/{TOP}", "--out", tmp_path / "two").returncode == 0  # the one by its name
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    assert f"0 files fetched, {count} here already" in place.run("pull", place.url, "--out", tmp_path / "two").stdout


# kill -9 from within, at a line of its own: a signal from here may come when all is done.
_DYING = """
import os, signal, sys
class Dying:
    def __init__(self, out, lines): self.out, self.left = out, lines
    def write(self, text):
        self.out.write(text)
        self.left -= text.count(chr(10))
        if self.left <= 0:
            self.out.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    def __getattr__(self, name): return getattr(self.out, name)
sys.stdout = Dying(sys.stdout, {lines})
"""


def killed_after(argv: list[str], env: dict[str, str], lines: int) -> list[str]:
    """Run a command that is killed (kill -9) when it has begun its n-th file."""
    python, flag, code, *rest = argv
    code = _DYING.format(lines=lines) + code
    done = subprocess.run([python, flag, code, *rest], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    seen = done.stdout.splitlines()
    assert len(seen) == lines
    return seen


def test_a_killed_push_is_no_bundle_and_goes_on_where_it_was(place: Place, bundle: Path, tmp_path: Path) -> None:
    count = len(tree(bundle))
    seen = killed_after(place.argv("push", bundle, place.url), place.env, 6)
    assert not any(manifest.MANIFEST in line for line in seen)
    nothing = place.run("pull", place.url, "--out", tmp_path / "half")
    assert nothing.returncode == 1
    assert "no bundle is there" in nothing.stderr
    assert not (tmp_path / "half").exists()
    again = place.run("push", bundle, place.url)
    assert again.returncode == 0, again.stderr
    kept = int(again.stdout.rsplit("read back, ", 1)[1].split()[0])
    assert 5 <= kept < count  # the five before the kill were whole
    assert f"({count - kept} files sent" in again.stdout
    assert place.run("pull", place.url, "--out", tmp_path / "whole").returncode == 0
    assert tree(tmp_path / "whole" / TOP) == tree(bundle)
    if place.url.startswith("/"):
        assert tree(Path(place.url) / TOP) == tree(bundle)  # and no unfinished file stays


def test_a_killed_pull_goes_on_where_it_was(place: Place, bundle: Path, tmp_path: Path) -> None:
    assert place.run("push", bundle, place.url).returncode == 0
    out = tmp_path / "out"
    killed_after(place.argv("pull", place.url, "--out", out), place.env, 6)
    assert not (out / TOP).exists()
    again = place.run("pull", place.url, "--out", out)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.rsplit("fetched, ", 1)[1].split()[0]) >= 5
    assert tree(out) == {f"{TOP}/{p}": d for p, d in tree(bundle).items()}


def test_another_bundle_of_that_name_is_never_written_over(place: Place, bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", name=TOP, seed=2)
    assert place.run("push", bundle, place.url).returncode == 0
    refused = place.run("push", other, place.url)
    assert refused.returncode == 1
    assert "another bundle named" in refused.stderr
    here = place.run("pull", place.url, "--out", tmp_path / "other")
    assert here.returncode == 1
    assert "is there already and stays as it is" in here.stderr
    assert place.run("pull", place.url, "--out", tmp_path / "back").returncode == 0
    assert tree(tmp_path / "back" / TOP) == tree(bundle)


def test_nothing_that_aws_or_ssh_keep_secret_is_printed(s3: dict[str, str], bundle: Path, tmp_path: Path) -> None:
    wrong = Place("s3://no-such-bucket/x", tmp_path, **s3)
    said = wrong.run("push", bundle, wrong.url)
    assert said.returncode == 1
    assert said.stderr.startswith("error: s3://no-such-bucket/x: ")
    assert len(said.stderr.splitlines()) == 1
    for secret in (s3["AWS_ACCESS_KEY_ID"], s3["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in said.stdout + said.stderr


def test_an_ssh_host_that_is_not_known_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    with sftp_server(tmp_path / "srv", tmp_path / "home") as port:
        (tmp_path / "home" / ".ssh" / "known_hosts").write_text("")
        place = Place(f"sftp://me@127.0.0.1:{port}/x", tmp_path / "home")
        said = place.run("push", bundle, place.url)
    assert said.returncode == 1
    assert "connect once with `ssh 127.0.0.1`" in said.stderr
    assert list((tmp_path / "srv").iterdir()) == []


BLOCK = 5 << 20  # the smallest part that S3 takes; s3fs sends larger ones by itself


def uploads(store: Store) -> list[str]:
    """The keys of uploads that nobody has ended."""
    files: Any = store._files
    return [u["Key"] for u in files.call_s3("list_multipart_uploads", Bucket="carry").get("Uploads", [])]


@pytest.fixture
def s3_store(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    store = connect(address(f"s3://carry/{tmp_path.name}"))
    store._files.default_block_size = BLOCK  # type: ignore[attr-defined]
    return store


@pytest.mark.parametrize("cut", [OSError("the cable"), KeyboardInterrupt()])
def test_a_large_upload_that_is_cut_leaves_no_parts_on_s3(s3_store: Store, cut: BaseException) -> None:
    there: list[list[str]] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(2 * BLOCK >> 20):
            yield bytes(1 << 20)
        there.append(uploads(s3_store))
        raise cut

    with pytest.raises((QuantcaseError, KeyboardInterrupt)):
        s3_store.put("b/requests.csv.gz", pieces(), 1 << 30, "")
    assert [len(keys) for keys in there] == [1]  # parts were on their way
    assert uploads(s3_store) == []
    assert s3_store.names("") == []


def test_the_next_push_takes_back_what_a_killed_one_left_and_nothing_else(
    s3_store: Store, bundle: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    files: Any = s3_store._files
    ours, of_another = f"{tmp_path.name}/{TOP}/requests.csv.gz{PART}", f"{tmp_path.name}/{TOP}/film.mov"
    for key in (ours, of_another):
        files.call_s3("create_multipart_upload", Bucket="carry", Key=key)
    place = Place(f"s3://carry/{tmp_path.name}", tmp_path, **s3)
    said = place.run("push", bundle, place.url)
    assert said.returncode == 0, said.stderr
    assert f"{TOP}: 1 cut upload taken back" in said.stdout + said.stderr
    assert uploads(s3_store) == [of_another]
