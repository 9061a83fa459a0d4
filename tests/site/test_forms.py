"""The form of what pages say: one sign of percent, one minus, one and many, no heading over nothing.

All pages of the real bundles and of the golden ones that are imported and interrupted are made once (10 to 30 s on two
cores, which is what so many charts take); they are kept in the cache of the checkout, so that a second time is quick.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from quantcase.build import generate
from quantcase.pages.view import Options
from quantcase.text import counted, percent
from tests.real import RESULTS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "format-1"

UNSEEN = re.compile(r"<(script|style|pre|code|template)\b.*?</\1>|```.*?```|`[^`\n]*`|\A---\n.*?\n---\n", re.S)
MINUS = r"(?<![\w/.,:;+=−–-])-\d"
# What `collect check` says stands on the data page as the terminal shows it; previews of files as they stand in them.
VERBATIM = re.compile(r'<div class="qc-table" id="table-(?:check|data-[^"]*)">.*?</table></div>', re.S)
ONE = re.compile(
    r"(?<!of )(?<![\d.,–-])\b1 (?:closed |more |server |cell )?"
    r"(?:repeats|starts|requests|variants|tokens|rows|prompts|cells|runs|sessions|configurations|figures|cases|answers)\b"
)


def visible(markdown: str) -> str:
    """The words that a reader sees; tags and the addresses of links are gone."""
    bare = UNSEEN.sub(" ", VERBATIM.sub(" ", markdown))
    return html.unescape(re.sub(r"<[^>]*>", " · ", re.sub(r"\]\([^)]*\)", "]", bare)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    results = tmp_path_factory.mktemp("results")
    for folder in (*RESULTS.iterdir(), *GOLDEN.glob("*-imported"), *GOLDEN.glob("*-interrupted")):
        (results / folder.name).symlink_to(folder)
    sold = {p.name: p.read_text("utf-8") for p in (ROOT / "docs" / "offers").glob("*.md")}
    kept = ROOT / ".cache" / "quantcase" / "tests"
    catalog, outputs = generate(results, Options(), cache=kept, processes=1, sold=sold)
    assert catalog.unreadable == []
    assert len(catalog.cases) >= 7
    return {o.uri: str(o.data()) for o in outputs if o.uri.endswith(".md")}


def found(pages: dict[str, str], pattern: str) -> list[str]:
    """Every place where a pattern stands in what is seen, with some words around it."""
    return [
        f"{uri}: …{text[max(0, m.start() - 40) : m.end() + 20]}…".replace("\n", " ")
        for uri, markdown in pages.items()
        for text in [visible(markdown)]
        for m in re.finditer(pattern, text)
    ]


def bare_headings(pages: dict[str, str]) -> list[str]:
    """Headings with nothing beneath them."""
    bare = []
    for uri, markdown in pages.items():
        lines = [line for line in UNSEEN.sub("", markdown).splitlines() if line.strip()]
        for line, after in zip(lines, [*lines[1:], "# end"], strict=True):
            level, below = (len(m[1]) if (m := re.match(r"(#+) ", x)) else 0 for x in (line, after))
            if level and below and below <= level:
                bare.append(f"{uri}: {line}")
    return bare


def places_told(pages: dict[str, str]) -> list[str]:
    """Pages that tell where the site was built. Rows of a bundle may tell where the rented machine had its models."""
    rows = re.compile(r'<div class="qc-table" id="table-data-.*?</table></div>', re.S)
    shown = {uri: html.unescape(rows.sub("", markdown)).replace("/tmp/models", "") for uri, markdown in pages.items()}
    return [uri for uri, text in shown.items() if any(place in text for place in (str(ROOT), str(RESULTS), "/tmp/"))]


def test_all_pages_keep_one_form(pages: dict[str, str]) -> None:
    """One test, because the pages are to be made in one process only."""
    assert found(pages, r"\d%") == []
    assert found(pages, MINUS) == []
    assert found(pages, ONE.pattern) == []
    assert bare_headings(pages) == []
    assert places_told(pages) == []


def test_the_helpers_write_that_form() -> None:
    assert percent(0.9437) == "94.4 %"
    assert [counted(n, "repeat") for n in (0, 1, 2, 1200)] == ["0 repeats", "1 repeat", "2 repeats", "1,200 repeats"]


def test_the_patterns_find_what_they_forbid() -> None:
    bad = {"x.md": "94.4% and 36 %, -4.2 points (-5.4), c1 1 repeats <code>5%</code> 2026-11-21 w8a8-int8, 21 repeats"}
    assert len(found(bad, r"\d%")) == 1
    assert len(found(bad, MINUS)) == 2
    assert len(found(bad, ONE.pattern)) == 1
