"""A built site and the system's Chromium."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.makers import make_bundle
from tests.project import put_project

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-quic",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def served(work: Path, options: str = "") -> Iterator[tuple[str, str]]:
    """(address, case id) of the project's own site, built strictly from one seeded bundle, with further options."""
    folder = make_bundle(work / "results", weights="real")
    put_project(work, lambda config: config.replace("      results: results\n", f"      results: results\n{options}"))
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=work, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    handler = functools.partial(_Quiet, directory=str(work / "public"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder.name
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, case id) of the project's own site."""
    with served(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="session")
def german(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The same with German signs and euros."""
    euros = "      numbers: de\n      currency: {code: EUR, rate: 0.92, source: ECB, date: 2026-11-20}\n"
    with served(tmp_path_factory.mktemp("german"), euros) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium. In CI a missing one is a failure; for a person without one it is a skip that says so.

    Ends with its module: Playwright's loop must not be running when asyncio tests begin.
    """
    path = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium on PATH: the browser tests must run in CI")
        pytest.skip("no chromium on PATH: install it to run the browser tests")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()
