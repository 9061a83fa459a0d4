"""The same bundles give the same bytes: every file of the site, whatever was kept, however sets are ordered."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers import make_bundle
from tests.site.test_cache import SMALL
from tests.site.test_mkdocs import project

EPOCH = "1795219200"  # 2026-11-21


def built(folder: Path, seed: str, **more: str) -> dict[str, str]:
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": seed, **more}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    public = folder / "public"
    files = sorted(p for p in public.rglob("*") if p.is_file())
    return {p.relative_to(public).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("site")
    for i, name in enumerate(("one", "two")):
        make_bundle(home / "results", name=name, asked=SMALL, only=("bf16", "awq"), seed=i)
    project(home, shared=False)
    config = (home / "mkdocs.yml").read_text()
    (home / "mkdocs.yml").write_text(config.replace("plugins: [", "site_url: https://example.org/\nplugins: [search, "))
    return home


def test_two_builds_are_the_same_byte_for_byte(site: Path) -> None:
    """The second one starts from nothing, the third from what the second kept."""
    first = built(site, "1")
    (site / ".cache").rename(site / "kept by the first")
    second = built(site, "2", QUANTCASE_CHART_CACHE="")
    third = built(site, "3")
    assert {n for n in first if first[n] != second.get(n)} == set()
    assert first == second == third
    assert {"index.html", "sitemap.xml", "sitemap.xml.gz", "search/search_index.json"} <= set(first)
    assert "cases/one/case.json" in first
    assert b"2026-11-21" in (site / "public" / "sitemap.xml").read_bytes()
