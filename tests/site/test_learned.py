"""What I learned: drafted from the case's own figures, for a customer, and replaced by the author's words."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from collector.bundle.manifest import resources, write
from collector.bundle.read import open_bundle
from collector.study import loads
from quantcase.catalog import Catalog, load
from quantcase.pages import case, learned
from quantcase.pages.view import CaseView, Options
from tests.makers import STUDY, make_bundle
from tests.real import RESULTS

MEASURED = ("2026-11-21-h200-h200-shape", "2026-11-21-cpu-cpu")
FIGURE = re.compile(r"\d(?:[\d,]*\d)?(?:\.\d+)?")


def plain(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load(RESULTS)


@pytest.fixture(scope="module")
def views(catalog: Catalog) -> dict[str, CaseView]:
    """One view of each case for all tests: what it works out is kept on it."""
    return {case.id: CaseView(case, Options()) for case in catalog.cases}


@pytest.mark.parametrize("name", MEASURED)
def test_the_draft_is_of_150_to_300_words(views: dict[str, CaseView], name: str) -> None:
    assert 150 <= len(plain(learned.draft(views[name])).split()) <= 300


@pytest.mark.parametrize("name", MEASURED)
def test_every_figure_of_the_draft_stands_elsewhere_on_the_case_page(views: dict[str, CaseView], name: str) -> None:
    view = views[name]
    above, heading, below = case.page(view).partition("## What I learned")
    assert heading
    assert plain(learned.draft(view)) == plain(below)
    figures = set(FIGURE.findall(plain(below)))
    assert len(figures) > 20
    assert figures - set(FIGURE.findall(plain(above))) == set()


def test_the_h200_draft_says_gain_memory_cost_risk_gaps_and_next(views: dict[str, CaseView]) -> None:
    said = plain(learned.draft(views[MEASURED[0]]))
    assert "chat: fp8 +36.3 % (+23.7 to +50.1 %) throughput at concurrency 16" in said
    assert "With fp8, chat throughput at concurrency 1 changes by +38.3 % (+33.9 to +42.9 %)" in said
    assert "p95 E2E latency at concurrency 32 by −27.5 % (−30.4 to −24.5 %)" in said
    assert "The weights of gptq take 5.39 GiB instead of 15.0 GiB (−64.1 %)" in said
    assert "975,664 tokens instead of 896,912: +8.8 % contexts of the same length" in said
    assert "at 6.35 $ an hour and a card always in use, 0.488 (0.461–0.516) $ instead of 0.664" in said
    assert "What is risked in the answers is not known: the weights are dummies" in said
    assert "3 repeats of each load point, 9 server starts and 7,992 requests" in said
    assert "no second baseline (A/A) was timed" in said
    assert "Not measured: requests that arrive by the clock (open loop), a load test with users" in said


def test_the_cpu_draft_leans_on_no_figure_of_a_client_at_its_limit(views: dict[str, CaseView]) -> None:
    said = plain(learned.draft(views[MEASURED[1]]))
    assert said.startswith("No answer: at the highest load the client was the limit")
    assert (
        "q4_k_m, +89.0 % (+40.9 to +153.3 %) throughput at concurrency 4 (faster; the client was at its limit)" in said
    )
    assert "Of 509 questions the baseline got 374 right" in said
    assert "q2_k −1.2 points (−2.6 to +0.2; a loss cannot be ruled out)" in said
    assert "No price is known for this machine" in said
    assert "Next: measure again from a quieter machine" in said


def test_a_long_case_keeps_to_its_length_and_loses_the_least_first(tmp_path: Path) -> None:
    asked = loads(STUDY.format(weights="real"))
    step = "word " * 80
    asked = msgspec.structs.replace(asked, next_steps=[step])
    view = CaseView(load(make_bundle(tmp_path, asked=asked).parent).cases[0], Options())
    said = plain(learned.draft(view))
    assert len(said.split()) <= learned.MOST_WORDS
    assert "word word" not in said
    assert "With awq, chat throughput" in said


def written(tmp_path: Path, notes: str) -> str:
    """The case page of a copy of the H200 bundle whose notes.md somebody wrote."""
    folder = tmp_path / MEASURED[0]
    shutil.copytree(RESULTS / MEASURED[0], folder)
    (folder / "notes.md").write_text(notes)
    manifest = open_bundle(folder).manifest
    manifest.resources = resources(folder)
    write(folder, manifest)
    return case.page(CaseView(load(tmp_path).cases[0], Options())).partition("## What I learned")[2]


def test_the_authors_own_words_replace_the_draft(tmp_path: Path) -> None:
    made = plain(written(tmp_path, "# Notes\n\n## What I learned\n\nFP8 is enough for us.\n"))
    assert made == "FP8 is enough for us."


def test_words_of_other_places_stand_beside_the_draft(tmp_path: Path) -> None:
    made = written(tmp_path, "# Notes\n\n## After: what I saw\n\nIt was <b onclick=x>quick</b> {{ 7*7 }}.\n")
    assert plain(made).startswith("Speed says yes")
    assert "In the author's words After: what I saw It was quick {{ 7*7 }}." in plain(made)
    assert "onclick" not in made
    assert "{{" not in made


def test_published_figures_draft_nothing(views: dict[str, CaseView]) -> None:
    view = views["2025-10-09-gh200-shimmy-moe"]
    assert plain(learned.draft(view)).startswith("No answer of ours")
    assert "Where these figures come from" in plain(learned.section(view))
