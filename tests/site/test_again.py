"""`mkdocs serve` without --dirty: what did not change is not rendered again, and the site is that of a fresh build."""

from __future__ import annotations

import shutil
from pathlib import Path

import markdown
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort

from tests.makers import make_bundle
from tests.site.test_mkdocs import project

URL = "http://127.0.0.1:8000/"


class Server:
    """The builds of one `mkdocs serve`, one after another, as it makes them."""

    def __init__(self, home: Path, site: Path) -> None:
        self.home, self.site = home, site
        self._config().plugins.on_startup(command="serve", dirty=False)

    def _config(self) -> MkDocsConfig:
        config = load_config(str(self.home / "mkdocs.yml"), site_dir=str(self.site))
        config.site_url = URL
        return config

    def build(self) -> dict[str, bytes]:
        build(self._config(), serve_url=URL)
        return {p.relative_to(self.site).as_posix(): p.read_bytes() for p in self.site.rglob("*") if p.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    project(tmp_path)
    for i in range(2):
        make_bundle(tmp_path / "results", name=f"case-{i}", weights="real", only=("bf16",), seed=i)
    config = (tmp_path / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(config.replace("plugins: [", "plugins: [search, "))
    (tmp_path / "docs" / "linked.md").write_text("# Linked\n\n[how](methodology.md)\n")
    return tmp_path


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of pages that Markdown was given while it is watched. The work itself is not replaced."""
    seen: list[str] = []
    real = markdown.Markdown.convert

    def convert(self: markdown.Markdown, source: str) -> str:
        seen.extend(line for line in source.splitlines()[:1] if line.startswith("# "))
        return real(self, source)

    monkeypatch.setattr(markdown.Markdown, "convert", convert)
    return seen


def test_only_what_changed_is_rendered_and_the_site_is_that_of_a_fresh_build(
    home: Path, tmp_path: Path, rendered: list[str]
) -> None:
    server = Server(home, tmp_path / "served")
    first = server.build()
    whole = len(rendered)
    rendered.clear()
    assert server.build() == first
    assert rendered == []
    # a page of the docs
    (home / "docs" / "methodology.md").write_text("# Methodology\n\nquite another sentence\n")
    second = server.build()
    assert rendered == ["# Methodology"]
    assert b"quite another sentence" in second["methodology/index.html"]
    assert {n for n in first if first[n] != second[n]} == {"methodology/index.html", "search/search_index.json"}
    # a note: the pages that show it, and no other case
    rendered.clear()
    (home / "results" / "case-0" / "notes.md").write_text("## What I learned\n\nseen at once\n")
    third = server.build()
    assert b"seen at once" in third["cases/case-0/notes/index.html"]
    changed = {n for n in second if second[n] != third.get(n)}
    assert "cases/case-0/index.html" in changed
    assert not [n for n in changed if n.startswith("cases/case-1/")]
    assert 0 < len(rendered) < whole - 5  # of one case, and those across cases that name its fault
    assert third == Server(home, tmp_path / "fresh").build()


def test_what_is_no_page_any_more_goes_and_what_is_as_it_was_is_not_written_again(home: Path, tmp_path: Path) -> None:
    (home / "docs" / "deep" / "down").mkdir(parents=True)
    (home / "docs" / "deep" / "down" / "page.md").write_text("# Deep\n")
    (home / "docs" / "loose.txt").write_text("a file at the top\n")
    served = tmp_path / "served"
    server = Server(home, served)
    server.build()
    csv = served / "cases/case-1/data/files/cells.csv"
    assert (served / "deep/down/page/index.html").is_file()
    before = csv.stat()
    (home / "docs" / "loose.txt").unlink()
    shutil.rmtree(home / "docs" / "deep")
    shutil.rmtree(home / "results" / "case-0")
    assert server.build() == Server(home, tmp_path / "fresh").build()
    assert not (served / "deep").exists()
    assert not list(served.glob(".*"))
    assert (csv.stat().st_ino, csv.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # a file of the bundle that changed is written over
    (home / "results" / "case-1" / "notes.md").write_text("written over\n")
    assert [n for n, data in server.build().items() if data == b"written over\n"]


def test_a_generated_file_comes_back_when_the_file_that_stood_in_for_it_goes(home: Path, tmp_path: Path) -> None:
    server = Server(home, tmp_path / "served")
    first = server.build()
    own = home / "docs" / "llms.txt"
    own.write_text("written by hand\n")
    assert server.build()["llms.txt"] == b"written by hand\n"
    own.unlink()
    assert server.build() == first


def test_after_a_build_that_failed_all_is_written_anew(home: Path, tmp_path: Path) -> None:
    server = Server(home, tmp_path / "served")
    first = server.build()
    options = (home / "mkdocs.yml").read_text()
    (home / "mkdocs.yml").write_text(options.replace("quantcase: {", "quantcase: {cases: [nowhere], "))
    with pytest.raises(Abort):
        server.build()
    (home / "mkdocs.yml").write_text(options)
    assert server.build() == first


def test_a_new_title_in_the_menu_changes_every_page(home: Path, tmp_path: Path) -> None:
    server = Server(home, tmp_path / "served")
    server.build()
    (home / "docs" / "methodology.md").write_text("# How we measure\n")
    after = server.build()
    assert b"How we measure" in after["cases/case-1/index.html"]
    assert after == Server(home, tmp_path / "fresh").build()


def test_a_fault_that_was_told_is_told_again_until_it_is_mended(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = home / "docs" / "linked.md"
    page.write_text("# Linked\n\n[nowhere](gone.md)\n")
    server = Server(home, tmp_path / "served")
    for _ in range(2):
        caplog.clear()
        server.build()
        assert "gone.md" in caplog.text
    page.write_text("# Linked\n\n[how](methodology.md)\n")
    caplog.clear()
    server.build()
    assert "gone.md" not in caplog.text
    assert b'href="../methodology/"' in (tmp_path / "served/linked/index.html").read_bytes()


def test_beside_a_plugin_that_is_not_known_every_page_is_made_anew(
    home: Path, tmp_path: Path, rendered: list[str]
) -> None:
    (home / "hook.py").write_text("def on_page_content(html, **_):\n    return html + '<!--hooked-->'\n")
    with (home / "mkdocs.yml").open("a") as config:
        config.write("hooks: [hook.py]\n")
    server = Server(home, tmp_path / "served")
    first = server.build()
    whole = len(rendered)
    rendered.clear()
    second = server.build()
    assert {n for n in first if first[n] != second[n]} == set()
    assert len(rendered) == whole
    assert b"<!--hooked-->" in first["cases/case-0/index.html"]


def test_an_option_that_shows_only_in_the_whole_page_changes_every_page(home: Path, tmp_path: Path) -> None:
    server = Server(home, tmp_path / "served")
    server.build()
    config = (home / "mkdocs.yml").read_text()
    (home / "mkdocs.yml").write_text(config.replace("quantcase: {", "quantcase: {numbers: de, "))
    after = server.build()
    assert b'<html data-numbers="de"' in after["linked/index.html"]
    assert after == Server(home, tmp_path / "fresh").build()


def test_a_page_is_not_kept_from_a_build_in_which_something_was_said_of_it(home: Path, tmp_path: Path) -> None:
    server = Server(home, tmp_path / "served")
    first = server.build()
    away = (home / "docs" / "methodology.md").rename(home / "methodology.md")
    assert b'href="methodology.md"' in server.build()["linked/index.html"]  # leads nowhere, and linked.md is as it was
    away.rename(home / "docs" / "methodology.md")
    assert server.build() == first


def test_links_into_tables_are_held_against_the_tables_of_this_build(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "docs" / "linked.md").write_text("# Linked\n\n[how](cases/case-0/log/index.md#table-against-awq)\n")
    with (home / "mkdocs.yml").open("a") as config:
        config.write("validation: {links: {anchors: warn}}\n")
    server = Server(home, tmp_path / "served")
    server.build()
    assert "#table-against-awq" in caplog.text
    caplog.clear()
    shutil.rmtree(home / "results" / "case-0")
    make_bundle(home / "results", name="case-0", weights="real", only=("bf16", "awq"))
    assert b'id="table-against-awq"' in server.build()["cases/case-0/log/index.html"]
    assert "#table-against-awq" not in caplog.text
