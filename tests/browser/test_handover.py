"""A client's site as a ZIP, unpacked and opened from the disk: no server, no network, nothing missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page

from tests.makers import make_bundle
from tests.project import put_project
from tests.real import RESULTS

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
ANSWERED = "2026-11-21-h200-small-model"  # a measured bundle with answers


def collect(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-c", "import sys; from collector.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, env=env, check=False)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The unpacked site of a client made by `collect new-client`, and a case."""
    work = tmp_path_factory.mktemp("handover")
    folder = make_bundle(work / "results", weights="real")
    shutil.copytree(RESULTS / ANSWERED, work / "results" / ANSWERED)
    put_project(work)
    assert collect("new-client", "acme", cwd=work).returncode == 0
    config = work / "clients" / "acme" / "mkdocs.yml"
    config.write_text(config.read_text().replace("redact: [texts, logs, notes]", "redact: []"))
    for name in ("one.zip", "two.zip"):
        done = collect("handover", "acme", "-o", name, cwd=work)
        assert done.returncode == 0, done.stderr
    assert (work / "one.zip").read_bytes() == (work / "two.zip").read_bytes()
    again = collect("handover", "acme", "-o", "one.zip", cwd=work)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    with zipfile.ZipFile(work / "one.zip") as packed:
        packed.extractall(work / "open me")  # a blank in the path, as people have
    return work / "open me" / "acme", folder.name


@contextmanager
def opened(browser: Browser, path: Path) -> Iterator[Page]:
    """A page from the disk that asks nothing but the disk, and has no error."""
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("requestfailed", lambda r: problems.append(f"failed: {r.url}"))
    page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(path.as_uri(), wait_until="load")
    yield page
    assert problems == []
    context.close()


def test_every_page_opens_from_the_disk(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, _ = unpacked
    pages = sorted(site.rglob("index.html"))
    assert len(pages) > 15
    for path in pages:
        with opened(browser, path) as page:
            assert page.locator("h1").first.is_visible(), path


def test_links_lead_to_files(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, case = unpacked
    with opened(browser, site / "index.html") as page:
        page.locator(f".qc-card a[href*='{case}']").first.click()
        page.wait_for_url(f"**/cases/{case}/index.html")
        page.locator(".md-tabs a, .md-nav--primary a", has_text="Costs").locator("visible=true").first.click()
        page.wait_for_url("**/costs/index.html")
    for path in site.rglob("*.html"):
        for found in re.findall(r'<a\b[^>]*?href="([^"]+)"', path.read_text()):
            link = re.split(r"[#?]", unescape(found))[0]
            if link and not re.match(r"[a-z]+:", link):
                assert (path.parent / unquote(link)).is_file(), (path, found)


def test_the_search_finds_words_and_its_results_open(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, _ = unpacked
    with opened(browser, site / "index.html") as page:
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("percentile")
        result = page.locator(".md-search-result__link").first
        result.wait_for(state="visible", timeout=20_000)
        result.click()
        page.wait_for_url(re.compile(r"file://.*index\.html"))
        assert page.locator("h1").first.is_visible()


def test_tables_sort_and_calculators_count(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, case = unpacked
    with opened(browser, site / "cases" / case / "index.html") as page:
        page.locator("#table-vram thead th").nth(1).locator("button").click()
        numbers = [float(c) for c in page.locator("#table-vram tbody tr td:nth-child(2)").all_inner_texts()]
        assert len(numbers) == 4
        assert numbers in (sorted(numbers), sorted(numbers, reverse=True))
    with opened(browser, site / "costs" / "index.html") as page:
        before = page.locator("#table-costs tbody").text_content()
        page.locator("#costs-calculator input[type=number]").first.fill("7.25")
        page.wait_for_function(
            "before => document.querySelector('#table-costs tbody').textContent !== before", arg=before
        )


def test_samples_are_brought_without_reading_files(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, _ = unpacked
    with opened(browser, site / "cases" / ANSWERED / "quality" / "index.html") as page:
        page.locator(".qc-samples-static").first.scroll_into_view_if_needed()
        live = page.locator(".qc-samples-live")
        live.wait_for(state="visible", timeout=20_000)
        assert re.search(r"[0-9]", live.inner_text())


def test_charts_come_alive(browser: Browser, unpacked: tuple[Path, str]) -> None:
    site, case = unpacked
    with opened(browser, site / "cases" / case / "index.html") as page:
        page.locator(".qc-chart-tools button").first.click()
        page.locator(".qc-live svg").first.wait_for(state="visible", timeout=20_000)
