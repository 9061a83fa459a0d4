"""The site as it is published: below a sub-path, with its own 404 page, preview cards, and a notebook that ran."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from collector.bundle.read import QuantcaseError
from quantcase import notebooks, social
from quantcase.catalog import load
from quantcase.client import Settings
from quantcase.pages.view import CaseView, Options
from quantcase.project import Project
from tests import sites
from tests.makers import make_bundle
from tools.links import faults


@pytest.fixture(scope="module")
def published() -> tuple[Path, Path]:
    """(site, bundle): the project's own site, built strictly for https://example.org/sub/."""
    return sites.built()


def test_every_link_and_asset_is_relative_and_there(published: tuple[Path, Path]) -> None:
    assert faults(published[0], "/sub/") == []


def test_the_404_page_works_at_any_address_below_the_sub_path(published: tuple[Path, Path]) -> None:
    page = (published[0] / "404.html").read_text()
    assert "Page not found" in page
    assert 'href="/sub/cases/index.html"' in page
    found = [
        link for link in re.findall(r'(?:href|src)="([^"]+)"', page) if not link.startswith(("#", "http", "data:"))
    ]
    assert found
    assert all(link.startswith("/sub/") for link in found)


def test_the_sitemap_names_every_case(published: tuple[Path, Path]) -> None:
    site, folder = published
    assert f"<loc>https://example.org/sub/cases/{folder.name}/</loc>" in (site / "sitemap.xml").read_text()


def test_a_case_has_a_preview_card_of_the_right_size(published: tuple[Path, Path]) -> None:
    site, folder = published
    for page, card in ((f"cases/{folder.name}/log", social.uri(folder.name)), ("costs", "assets/quantcase/card.png")):
        html = (site / page / "index.html").read_text()
        assert f'<meta property="og:image" content="https://example.org/sub/{card}">' in html
        data = (site / card).read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == social.SIZE
        assert len(data) < 100_000


def test_a_card_is_drawn_from_the_headline_whatever_it_holds(tmp_path: Path) -> None:
    make_bundle(tmp_path, weights="real")
    made = social.case_card(CaseView(load(tmp_path).cases[0], Options()))
    assert made != social.site_card()
    assert social.card("<b>&\x00 \u202e" * 50, "]]>" * 500, "").startswith(b"\x89PNG")


def test_the_notebook_ran_on_the_bundle_and_the_page_shows_its_chart(published: tuple[Path, Path]) -> None:
    page = (published[0] / "notebooks" / "open-a-bundle" / "index.html").read_text()
    assert "made by a seed" in page  # the title of the bundle that it opened
    assert "<svg" in page
    assert "Traceback" not in page


def test_links_are_checked(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a id="x" href="a/"></a><a href="#y"></a><img src="/b.png"><a href="#x"></a>')
    assert [f.rsplit(": ", 1)[1] for f in faults(tmp_path)] == [
        "leads nowhere", "there is no such place on that page", "an absolute address breaks under a sub-path",
    ]  # fmt: skip


def test_a_notebook_runs_once_and_again_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_bundle(tmp_path / "results")
    book = tmp_path / "book.ipynb"

    def write(code: str) -> None:
        cell: dict[str, object] = {
            "cell_type": "code",
            "id": "a",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": code,
        }
        book.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    def run() -> Path:
        return notebooks.executed(book, {folder.name: folder}, tmp_path / "home")

    write("import os; print(os.environ['QUANTCASE_BUNDLE'].rsplit('/')[-1])")
    first = run()
    assert folder.name in first.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(notebooks, "_run", None)  # would fail if it were called
        assert run() == first
    write("1 / 0")
    with pytest.raises(QuantcaseError, match="ZeroDivisionError: division by zero") as e:
        run()
    assert "\n" not in str(e.value)
    assert notebooks.executed(book, {}, tmp_path / "home") == book


def test_a_notebook_opens_a_case_of_a_fleet(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "results" / "fleet", only=("bf16",))
    (tmp_path / "results" / "fleet" / "fleet.json").write_text("{}")
    book = tmp_path / "book.ipynb"
    cell: dict[str, Any] = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [],
            "source": "import os; print(os.environ['QUANTCASE_BUNDLE'])"}  # fmt: skip
    book.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    project = Project(Settings(), tmp_path)
    catalog, _ = project.generated({})
    assert str(folder.resolve()) in project.executed({"book.ipynb": book}, catalog)["book.ipynb"].read_text()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_kernel_leaves_nothing_where_the_build_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Sockets beside a notebook once broke every later build: whatever the transport, none is left, here or there."""
    from jupyter_client.manager import KernelManager

    folder = make_bundle(tmp_path / "results", only=("bf16",))
    docs, here = tmp_path / "docs", tmp_path / "here"
    docs.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(KernelManager.transport, "default_value", transport)
    code = "import pathlib; pathlib.Path('left.txt').touch()"
    cell: dict[str, object] = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None}
    cell |= {"outputs": [], "source": code}
    (docs / "book.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    before = set(Path(tempfile.gettempdir()).glob("quantcase-notebook-*"))
    ran = notebooks.executed(docs / "book.ipynb", {folder.name: folder}, tmp_path / "home")
    assert [p.name for p in docs.iterdir()] == ["book.ipynb"]
    assert list(here.iterdir()) == []
    assert [p.name for p in ran.parent.iterdir()] == ["book.ipynb"]
    assert set(Path(tempfile.gettempdir()).glob("quantcase-notebook-*")) <= before
