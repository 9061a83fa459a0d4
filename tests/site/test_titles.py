"""Cases of one title: cards and the menu tell them apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from quantcase.catalog import load
from quantcase.menu import Menu
from quantcase.output import Output
from quantcase.pages.home import cases_page
from quantcase.pages.view import CaseView, Options
from quantcase.text import text
from quantcase.titles import Named, apart
from tests.makers import make_bundle


def test_one_title_says_enough_where_nobody_shares_it() -> None:
    assert apart([]) == []
    assert apart([Named("A", "a", "2026-11-20"), Named("B", "b", "2026-11-20")]) == ["", ""]


def test_the_date_tells_namesakes_apart_where_each_has_another() -> None:
    cases = [Named("A", "a-1", "2026-11-20"), Named("a ", "a-2", "2026-11-21"), Named("B", "b", "2026-11-21")]
    assert apart(cases) == ["2026-11-20", "2026-11-21", ""]


def test_the_bundles_name_does_where_dates_coincide_or_are_not_known() -> None:
    assert apart([Named("A", "a-1", "2026-11-20"), Named("A", "a-2", "2026-11-20")]) == ["a-1", "a-2"]
    assert apart([Named("A", "a-1", "2026-11-20"), Named("A", "a-2")]) == ["a-1", "a-2"]


def test_a_run_that_did_not_come_to_its_end_is_marked_among_those_that_did() -> None:
    done, cut = Named("A", "a-1", "2026-11-20", "complete"), Named("A", "a-2", "2026-11-21", "interrupted")
    assert apart([done, cut]) == ["2026-11-20", "2026-11-21, interrupted"]
    assert apart([cut, Named("A", "a-3", "2026-11-22", "interrupted")]) == ["2026-11-21", "2026-11-22"]


def test_cards_and_menu_show_two_runs_of_one_study_as_two(tmp_path: Path) -> None:
    names = {"2026-11-21-h200-shape": "interrupted", "2026-11-21-h200-shape-2": "complete"}
    for name, status in names.items():
        make_bundle(tmp_path, name=name, status=status, only=("bf16",))  # type: ignore[arg-type]
    views = [CaseView(case, Options()) for case in load(tmp_path).cases]
    heads = re.findall(r"^### \[.*<small>(.*)</small>\]\((.*)/index.md\)$", cases_page(views), re.M)
    expected = {n: f"{n}, interrupted" if s == "interrupted" else n for n, s in names.items()}
    assert {name: which for which, name in heads} == {n: text(which) for n, which in expected.items()}
    menu, title = Menu(), views[0].case.title
    for name in names:
        assert menu.takes(Output(f"cases/{name}/index.md", "", title=title))
    nav: list[Any] = [{"Cases": "cases/index.md"}]
    menu.put_into(nav)
    assert nav == [{"Cases": ["cases/index.md", *({f"{title} ({n})": f"cases/{n}/index.md"} for n in names)]}]
