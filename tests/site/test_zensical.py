"""The pages of `collect site`, built by Zensical, which runs no plugin of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers import make_bundle
from tests.site.test_mkdocs import CONFIG

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site of one bundle."""
    home = tmp_path_factory.mktemp("zensical")
    make_bundle(home / "results", name="one", weights="real", only=("bf16", "awq"))
    docs = home / "docs"
    run(home, sys.executable, "-m", "collector.cli", "site", "--results", "results", "--out", "docs")
    (docs / "methodology.md").write_text("# Methodology\n")
    extra = "extra_css: [assets/quantcase/quantcase.css]\nextra_javascript: [assets/quantcase/quantcase.js]\n"
    config = CONFIG.format(results="results").replace("cases/index.md]", "cases/index.md, cases/one/index.md]")
    config = "\n".join(line for line in config.splitlines() if not line.startswith("plugins:"))
    (home / "mkdocs.yml").write_text(f"{config}\n{extra}")
    run(home, str(Path(sys.executable).with_name("zensical")), "build", "--clean", "-f", "mkdocs.yml")
    return home / "public"


def run(home: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_there_with_its_tables_and_charts(public: Path) -> None:
    for page in ("", "cases/", "costs/", "cases/one/", "cases/one/data/", "cases/one/quality/", "cases/one/log/"):
        assert (public / page / "index.html").is_file(), page
    case = (public / "cases/one/index.html").read_text()
    assert case.count("<svg") >= case.count("<figure") > 5
    assert 'aria-label="Throughput against concurrency.' in case
    assert '<th scope="col"' in case
    assert "quantcase.css" in case


def test_files_are_copied_as_they_are(public: Path) -> None:
    results = public.parent / "results" / "one"
    files = public / "cases/one/data/files"
    for name in ("requests.csv.gz", "cells.csv", "datapackage.json"):
        assert (files / name).read_bytes() == (results / name).read_bytes()
    assert (public / "cases/one/case.json").read_text().startswith("{")
    assert (public / "assets/quantcase/quantcase.css").is_file()


def test_links_between_pages_lead_to_addresses(public: Path) -> None:
    home = (public / "index.html").read_text()
    assert 'href="cases/one/"' in home
    assert '.md"' not in home.replace("https://", "")


def test_text_out_of_a_bundle_stays_text(public: Path) -> None:
    assert "made by a seed" in (public / "cases/one/index.html").read_text()
