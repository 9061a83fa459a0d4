"""docs/guide/faults.md is true: every line names a test that exists, and every fault that is tested has its line."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.faults import server
from tests.faults.server import REPLIES
from tests.faults.test_engine import ENDS, ROWS

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "guide" / "faults.md"
HEADER = ["Fault", "What you see", "What the bundle says", "What to do", "Test"]
PARAMETERS = {
    "test_a_reply_is_told_for_what_it_is": set(REPLIES),
    "test_a_crash_has_its_reason_in_the_row_of_its_start": set(ENDS),
}


def lines() -> list[list[str]]:
    tables = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in tables]
    assert all(len(row) == len(HEADER) for row in cells)
    return [row for row in cells if row != HEADER and not set("".join(row)) <= {"-"}]


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in tree.body if isinstance(n, kinds) and n.name.startswith("test_"))


def named(row: list[str]) -> tuple[str, str, str]:
    """File, function and parameter of a line's test."""
    match = re.fullmatch(r"`([\w/]+\.py)::(\w+)(?:\[([\w-]+)\])?`", row[-1])
    assert match is not None, row[-1]
    return match[1], match[2], match[3] or ""


@pytest.mark.parametrize("row", lines(), ids=lambda row: row[0])
def test_every_line_is_whole_and_names_a_test_that_exists(row: list[str]) -> None:
    assert all(row)
    file, function, parameter = named(row)
    assert function in functions(file)
    if parameter:
        assert parameter in PARAMETERS[function]


def test_every_tested_fault_has_its_line() -> None:
    told = [named(row) for row in lines()]
    for function, parameters in PARAMETERS.items():
        found = {parameter for _, name, parameter in told if name == function}
        assert found >= parameters - {"oom"}, function  # whose line names the test of its log
    box = {name for file, name, _ in told if file == "faults/test_box.py"}
    assert box >= functions("faults/test_box.py") - {"test_a_stopped_run_is_completed_by_resume"}
    assert {name for file, name, _ in told if file == "faults/test_endpoint.py"} == functions("faults/test_endpoint.py")


@pytest.mark.parametrize("kind", REPLIES)
def test_the_page_quotes_status_and_words_of_the_row(kind: str) -> None:
    status, words = ROWS[kind]
    (says,) = [row[2] for row in lines() if named(row)[2] == kind]
    assert f"`{status}`" in says
    if words:
        assert f"`{words}`" in says


def test_every_fault_of_the_server_is_explained_in_it() -> None:
    text = server.__doc__ or ""
    used = set(re.findall(r'(?:fault == |fault in \(|: )"([a-z-]+)"', (TESTS / "faults" / "server.py").read_text()))
    for fault in {"fine", "replies", "broken", *server.AT, "no-memory", "killed-at-start", "late", "stubborn", "slow"}:
        assert f"\n    {fault} " in text, fault
    assert "endless" in used
