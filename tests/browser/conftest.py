"""A built site and the system's Chromium."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import sites
from tools import chromium

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-quic",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class _Published(SimpleHTTPRequestHandler):
    """The site below /sub/, as GitHub Pages has it; beside that there is nothing."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/sub") if path.startswith("/sub/") else "/nothing here")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def served(name: str, options: str = "") -> Iterator[tuple[str, str]]:
    """(address, case id) of the project's own site, with further options, as tests/sites.py builds it."""
    public, folder = sites.built(name, options)
    handler = functools.partial(_Published, directory=str(public))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/sub", folder.name
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site() -> Iterator[tuple[str, str]]:
    """(address, case id) of the project's own site."""
    with served("own") as found:
        yield found


@pytest.fixture(scope="session")
def german() -> Iterator[tuple[str, str]]:
    """The same with German signs and euros."""
    euros = "      numbers: de\n      currency: {code: EUR, rate: 0.92, source: ECB, date: 2026-11-20}\n"
    with served("german", euros) as found:
        yield found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium. In CI a missing one is a failure; for a person without one it is a skip that says so.

    Ends with these tests: Playwright's loop must not be running when asyncio tests begin.
    """
    path = chromium.found()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium on PATH: the browser tests must run in CI")
        pytest.skip("no chromium on PATH: install it to run the browser tests")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()
