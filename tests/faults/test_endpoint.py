"""Somebody's endpoint over https, behind a name, or not ready: what is said, and that it can be gone on with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from collector.bundle.check import check
from collector.bundle.read import open_bundle
from collector.load.shots import Job, shoot
from collector.load.stream import Outcome
from tests.faults.server import TOKENS
from tests.faults.tools import bundle_in, collected, error_of, last_starts, levels, serving, study

# `openssl req` makes certificates that begin now; only `openssl ca` takes dates.
_CONFIG = """
[ca]
default_ca = here
[here]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


def certificate(folder: Path, name: str, *, begins: str, ends: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key. Dates as YYYYMMDD."""
    folder.mkdir(exist_ok=True)
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(_CONFIG.format(folder=folder))
    key, request, cert = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    made = "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1".split()
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(request)]
    signed = ["ca", "-batch", "-notext", "-config", str(folder / "ca.cnf"), "-selfsign", "-keyfile", str(key)]
    signed += ["-in", str(request), "-out", str(cert)]
    signed += ["-startdate", f"{begins}000000Z", "-enddate", f"{ends}000000Z"]
    for arguments in (made, signed):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    return cert, key


def attach(folder: Path, url: str, trusted: Path | None = None, *more: object) -> subprocess.CompletedProcess[str]:
    """`collect run` on that endpoint into folder/out, or with `more` the resume of a bundle."""
    what = more or (study(folder, {"bf16": "fine"}, requests=4), "--gpu", "cpu", "--out", folder / "out")
    env = {"SSL_CERT_FILE": str(trusted)} if trusted else {}
    # A name server that does not answer is not waited for.
    return collected("run", *what, "--endpoint", url, "--variant", "bf16", env={**env, "RES_OPTIONS": "timeout:1"})


def test_a_certificate_that_nobody_vouches_for_and_then_somebody_does(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "ca", "own", begins="20200101", ends="20900101")
    with serving("fine", "--cert", str(cert), "--key", str(key)) as port:
        url = f"https://127.0.0.1:{port}"
        ran = attach(tmp_path, url)
        folder = bundle_in(tmp_path / "out")
        assert ran.returncode == 1
        assert "its certificate is not accepted: self-signed certificate" in error_of(ran)
        assert "SSL_CERT_FILE" in error_of(ran)
        row = last_starts(open_bundle(folder))["bf16"]
        assert row.exit_state == "crash"
        assert "self-signed certificate" in (row.error or "")
        assert open_bundle(folder).info.status == "failed"
        assert levels(folder) == []  # it is told in a note: what stands there is true
        assert "the run failed; see variants.csv" in " ".join(str(f) for f in check(folder))
        resumed = attach(tmp_path, url, cert, "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    bundle = open_bundle(folder)
    assert (bundle.info.status, levels(folder)) == ("complete", [])
    assert {(c.load, c.ok) for c in bundle.cells()} == {("c1", 4), ("c2", 4)}


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "ca", "old", begins="20200101", ends="20200102")
    with serving("fine", "--cert", str(cert), "--key", str(key)) as port:
        ran = attach(tmp_path, f"https://127.0.0.1:{port}", cert)
    assert "its certificate is not accepted: certificate has expired; renew it" in error_of(ran)


@pytest.mark.parametrize(
    ("host", "says"),
    [("nosuch.invalid", "http://nosuch.invalid:8000 cannot be reached"), ("a..b", "is no http(s) address")],
)
def test_a_name_that_is_none(tmp_path: Path, host: str, says: str) -> None:
    ran = attach(tmp_path, f"http://{host}:8000")
    assert ran.returncode == 1
    assert says in error_of(ran)


async def ask(url: str, count: int = 1) -> list[Outcome]:
    body = b'{"messages": [], "max_tokens": %d}' % TOKENS
    done = await shoot(Job(url, "/v1/chat/completions", {}, [body] * count, 1, 20.0))
    return [s.outcome for s in done.shots]


async def test_a_name_that_is_lost_in_the_middle_is_an_error_of_the_request() -> None:
    with pytest.raises(OSError, match=r"[Nn]ame|resolution"):
        await ask("http://nosuch.invalid:8000")


async def test_a_reply_over_tls_says_when_to_come_back_and_a_reset_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client for https is another one: the same faults, told as well."""
    cert, key = certificate(tmp_path / "ca", "own", begins="20200101", ends="20900101")
    with serving("replies", "--cert", str(cert), "--key", str(key)) as port:
        trust(monkeypatch, cert)
        outcomes = await ask(f"https://127.0.0.1:{port}", 8)
    fine, reset, half, utf8, garbage, deep, event, refused = outcomes
    assert (fine.status, fine.output_tokens) == ("ok", TOKENS)
    for broken in (reset, half):
        assert broken.status == "error"
        assert "cannot be reached: Client" in (broken.error or "")
    assert [o.error for o in (utf8, garbage, deep)] == [
        "a chunk is not UTF-8", "a chunk is not JSON", "a chunk is not JSON",
    ]  # fmt: skip
    assert event.error == "in the stream: a kernel failed"
    assert refused.error == "HTTP 429: slow down (Retry-After: 7)"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_reply_without_an_end_is_cut_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    cert, key = certificate(tmp_path / "ca", "own", begins="20200101", ends="20900101")
    trust(monkeypatch, cert)
    with serving("endless", *(("--cert", str(cert), "--key", str(key)) if scheme == "https" else ())) as port:
        (outcome,) = await ask(f"{scheme}://127.0.0.1:{port}")
    assert (outcome.status, outcome.error) == ("error", "the reply is longer than 64 MiB")


def trust(monkeypatch: pytest.MonkeyPatch, cert: Path) -> None:
    """In this process aiohttp has made its context already; SSL_CERT_FILE would come too late."""
    import ssl

    import aiohttp

    context = ssl.create_default_context(cafile=cert)
    made = aiohttp.TCPConnector
    monkeypatch.setattr(aiohttp, "TCPConnector", lambda **more: made(**more, ssl=context))
