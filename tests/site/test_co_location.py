"""Cells beside other servers: where a verdict rests on a lighter load than the heaviest, that is told."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from quantcase.analysis.co_location import PassedOver, passed_over, together
from quantcase.analysis.compare import comparisons
from quantcase.analysis.verdict import verdicts
from quantcase.catalog import Case, read
from quantcase.pages.case import page
from quantcase.pages.view import CaseView, Options
from quantcase.text import load_words
from tests.makers import make_bundle

OTHERS = ("fp8", "awq")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made"), only=("bf16", *OTHERS))


def beside(folder: Path, *places: tuple[str, str, str]) -> Case:
    """The case, as if these cells had been measured with another server on the box."""
    case = read(folder)
    case.__dict__["cell_rows"] = [
        replace(r, co_located=int((r.variant, r.workload, r.load) in places)) for r in case.cell_rows
    ]
    return case


def plain_words(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


def loads(case: Case, workload: str) -> list[str]:
    return [load.name for load in case.loads(workload)]


def test_the_heaviest_load_that_does_not_count_is_named_with_the_one_that_does(folder: Path) -> None:
    *_, lighter, heaviest = loads(read(folder), "chat")
    case = beside(folder, *((v, "chat", heaviest) for v in OTHERS))
    assert passed_over(case) == [PassedOver("chat", OTHERS, (heaviest,), lighter)]
    rests = {v.evidence.load for v in verdicts(case, comparisons(case), {}) if v.evidence and v.workload == "chat"}
    assert rests == {lighter}, "the verdict rests where it is said to"
    told = f"the verdict on fp8 and awq rests on {load_words(lighter)}; {load_words(heaviest)} does not count"
    assert plain_words(page(CaseView(case, Options()))).count(told) == 2  # on the first screen and beside the verdicts


def test_variants_differ_in_what_is_passed_over(folder: Path) -> None:
    *_, third, second, first = loads(read(folder), "chat")
    case = beside(folder, ("fp8", "chat", first), ("awq", "chat", first), ("awq", "chat", second))
    assert passed_over(case) == [
        PassedOver("chat", ("fp8",), (first,), second), PassedOver("chat", ("awq",), (first, second), third),
    ]  # fmt: skip


def test_the_baseline_beside_others_passes_over_every_variant(folder: Path) -> None:
    *_, lighter, heaviest = loads(read(folder), "chat")
    assert passed_over(beside(folder, ("bf16", "chat", heaviest))) == [PassedOver("chat", OTHERS, (heaviest,), lighter)]


def test_nothing_is_said_where_the_heaviest_load_counts_or_no_load_does(folder: Path) -> None:
    lightest, *_, heaviest = loads(read(folder), "chat")
    assert passed_over(beside(folder)) == []
    assert passed_over(beside(folder, ("fp8", "chat", lightest))) == []
    assert passed_over(beside(folder, *((v, "chat", heaviest) for v in ("bf16", *OTHERS)))) == []  # alike
    case = beside(folder, *(("fp8", "chat", load) for load in loads(read(folder), "chat")))
    assert passed_over(case) == []
    rules = {v.rule for v in verdicts(case, comparisons(case), {}) if (v.variant, v.workload) == ("fp8", "chat")}
    assert rules == {"co-located"}
    assert together(case).cells > 0
