"""A client's files over the project's, pages that are left out, and the menu: without MkDocs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.bundle.read import QuantcaseError
from quantcase import client, overlay
from quantcase.menu import Menu
from quantcase.output import Output
from quantcase.project import Project
from tests.makers import make_bundle


def test_the_clients_files_are_found_by_their_path_in_the_sources(tmp_path: Path) -> None:
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    for name in ("index.md", "assets/logo.svg", ".readme.txt"):
        (tmp_path / "docs" / name).write_text(name)
    assert [uri for uri, _ in overlay.files(tmp_path / "docs")] == ["assets/logo.svg", "index.md"]
    (tmp_path / "docs" / "secret.md").symlink_to("/etc/passwd")
    with pytest.raises(QuantcaseError, match=r"secret\.md in the overlay is a link"):
        list(overlay.files(tmp_path / "docs"))
    with pytest.raises(QuantcaseError, match="no overlay folder at"):
        list(overlay.files(tmp_path / "none"))


@pytest.mark.parametrize(
    ("uri", "name"),
    [("offers/health-check.md", "health-check.md"), ("offers/index.md", None), ("offers/old/a.md", None),
     ("guide/offers.md", None), ("offers/logo.svg", None)],
)  # fmt: skip
def test_an_offer_is_a_page_right_below_offers(uri: str, name: str | None) -> None:
    assert overlay.offers(uri) == name


def test_links_to_pages_that_are_left_out_become_their_words() -> None:
    made = client.settings({"leave_out": ["guide/*", "cases/*/notes/*"]})
    source = "See [the *guide*](../guide/studies.md#a), [data](../cases/x/data/index.md), [web](https://a.b/guide/x)."
    assert overlay.unlink_markdown(source, "offers/x.md", made.left_out) == (
        "See the *guide*, [data](../cases/x/data/index.md), [web](https://a.b/guide/x)."
    )
    html = '<a class="a" href="../notes/">Notes</a> <a href="../data/#t">Data</a> <a href="#x">here</a>'
    gone = {"cases/x/notes/"}.__contains__
    assert overlay.unlink_html(html, "cases/x/log/", gone) == (
        'Notes <a href="../data/#t">Data</a> <a href="#x">here</a>'
    )


def test_the_menu_holds_so_many_cases_and_no_page_below_one() -> None:
    menu = Menu(2)
    pages = [Output(f"cases/{c}/index.md", "", title=c) for c in "abc"]
    assert [menu.takes(p) for p in pages] == [True, True, False]
    assert not menu.takes(Output("cases/a/log/index.md", ""))
    assert menu.takes(Output("costs/index.md", ""))
    nav: list[Any] = ["index.md", {"Cases": ["cases/index.md"]}, {"Costs": "costs/index.md"}]
    menu.put_into(nav)
    listed = ["cases/index.md", {"a": "cases/a/index.md"}, {"b": "cases/b/index.md"}]
    assert nav == ["index.md", {"Cases": listed}, {"Costs": "costs/index.md"}]
    menu.put_into(None)


def test_a_project_says_what_is_missing_and_leaves_pages_out(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="no results folder at"):
        Project(client.settings({}), tmp_path).watched()
    make_bundle(tmp_path / "results", name="one", only=("bf16",))
    (tmp_path / "own").mkdir()
    project = Project(client.settings({"leave_out": ["guide/*"], "overlay": "own", "cases": ["two"]}), tmp_path)
    assert project.watched() == [tmp_path / "results", tmp_path / "own"]
    assert project.leave_out([("guide/a.md", "guide/a/"), ("index.md", "")]) == ["guide/a.md"]
    assert project.unlinked_html('<a href="../guide/a/">A</a><a href="../">B</a>', "x/") == 'A<a href="../">B</a>'
    with pytest.raises(QuantcaseError, match="no readable case named two below results"):
        project.generated({})
