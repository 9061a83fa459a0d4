"""Where all on the site comes from: each table and chart of the real bundles has an entry, tools and working links."""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown.extensions.toc import slugify

from collector.bundle.schema import TABLES
from quantcase.catalog import load
from quantcase.dress import Files, dress
from quantcase.output import Output
from quantcase.pages import data
from quantcase.pages.view import CaseView, Options
from quantcase.provenance import REGISTRY, kind_of, source
from tests import sites
from tests.makers import make_bundle
from tests.real import RESULTS

ROOT = Path(__file__).parents[2]
ANY = re.compile(r'<(?:div class="qc-table"|figure class="qc-figure") id="([^"]*)"')
TABLE = re.compile(r'<div class="qc-table" id="([^"]*)"><table>(.*?)</table></div>', re.S)
CELL = re.compile(r'<(?:td|th scope="row")( class="num")?>(.*?)</t[dh]>', re.S)
# Counts, ratios and scores: what has no unit. Everything else says its unit in the header or in each cell.
UNITLESS = {
    "n", "n, both", "Repeats, both", "Runs", "Repeats", "Requests", "Cell repeats", "Failed", "Prompts",
    "Right", "Baseline right", "Ok",
    "Errors", "Timeouts", "Preemptions", "Times", "Times, in the whole test", "Users", "Failures", "Cut", "Workers",
    "Bits", "Bits per weight", "Batch size", "Server start", "Without an answer", "Tokens in texts", "Length ratio",
    "Perplexity ratio", "chrF to the baseline (information only)", "S", "g", "throughput", "1 / TPOT", "KV capacity",
    "1 / cost of a request", "at the lower bound", "Captured mass", "RMS Δp", "good", "minor", "bad", "Conc.", "Flips",
    "Contexts at once", "GPUs", "Layers", "Hidden", "Heads", "KV heads", "Head dimension", "Vocabulary",
    "Variants", "Price of A / price of B where they cost the same",
    "Its bandwidth over this card's",
    "Output tokens",
}  # fmt: skip
UNIT = re.compile(
    r"\((?:[^()]* )?(?:ms|s|tok/s|samples/s|GiB|GB|MiB|MB|GB/s|TFLOP/s|TOPS|tokens|points|%|nats"
    r"|W|tokens/J|GPUs|\$ an hour|in flight|tokens, about|% of the card's)\)"
    r"|^(?:tok/s|samples/s|Requests/min|USD/h|Bytes|RPS)$|\$ / 1|USD per 1"
    r"|, (?:ms|s|GiB|MiB|USD / hour|10⁹)(?:$|:)|^USD / |^Requests / day$"
)
CARRIES = re.compile(
    r"^(?:–|baseline|n = .*|not .*|none.*|no .*|[\d,]+ of [\d,]+|one run.*|inside|[+−±]? ?[\d,.]+ ?%.*"
    r"|.*\d (?:tok/s|requests|tokens|GiB)\b.*|.* in flight)$"
)

OTHER_FILES = {
    "study.toml", "environment.json", "client.json", "datapackage.json", "quality.jsonl", "quality_items.jsonl",
    "stress.jsonl", "marks.csv", "published.csv", "notes.md", "logs/*", "loadtest_*.csv", "co_location.json",
    "imported.json", "imported.csv",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Output], Files]:
    """The outputs of the real bundles and of a seeded one, dressed, and what each case offers."""
    results = tmp_path_factory.mktemp("results")
    make_bundle(results, name="seeded", weights="real")
    for folder in sorted(RESULTS.iterdir()):
        (results / folder.name).symlink_to(folder)
    catalog, outputs = sites.made(results)
    assert catalog.unreadable == []
    assert len(catalog.cases) >= 4
    files = {case.id: dict(data.downloads(CaseView(case, Options()))) for case in catalog.cases}
    found = {}
    for output in outputs:
        if output.uri.endswith(".md") and isinstance(output.content, str) and "qc-frame" not in output.content:
            output = replace(output, content=dress(output.content, output.uri, files))
        found[output.uri] = output
    return found, files


def pages(built: tuple[dict[str, Output], Files]) -> dict[str, str]:
    return {uri: str(o.content) for uri, o in built[0].items() if uri.endswith(".md")}


def test_every_table_and_chart_has_an_entry(built: tuple[dict[str, Output], Files]) -> None:
    without = {
        f"{kind_of(uri)}:{name}"
        for uri, page in pages(built).items()
        for name in map(html.unescape, ANY.findall(page))
        if source(kind_of(uri), name) is None
    }
    assert without == set(), "add these to site/quantcase/provenance.py"


def test_every_table_and_chart_stands_once_on_its_page_in_a_frame_with_tools(
    built: tuple[dict[str, Output], Files],
) -> None:
    count = 0
    for uri, page in pages(built).items():
        names = ANY.findall(page)
        assert len(names) == len(set(names)), uri
        assert page.count('<div class="qc-frame">') == len(names)
        for name in names:
            assert f'<a class="qc-permalink" href="#{name}"' in page
        labels = re.findall(r'role="region" tabindex="0" aria-label="([^"]*)"', page)
        assert len(labels) == len(set(labels)) == len(names), uri
        assert page.count('<details class="qc-how">') == len(names)
        count += len(names)
    assert count > 300


def test_every_table_has_a_caption_and_headers_with_a_scope(built: tuple[dict[str, Output], Files]) -> None:
    for uri, page in pages(built).items():
        for name, inside in TABLE.findall(page):
            assert re.match(r"<caption>\S.*?</caption>", inside), f"{uri} {name}"
            assert not re.search(r"<th(?! scope=\"(?:col|row)\")[ >]", inside), f"{uri} {name}"


def test_every_figure_has_a_unit_or_is_a_count(built: tuple[dict[str, Output], Files]) -> None:
    """A table that shows a file as it is has the units in the names of its columns."""
    bare = set()
    for uri, page in pages(built).items():
        for name, inside in TABLE.findall(page):
            if name.startswith("table-data-"):
                continue
            head, body = inside.split("</thead>")
            titles = [(words(t), bool(c)) for c, t in re.findall(r'<th scope="col"( class="num")?>(.*?)</th>', head)]
            rows = [[words(cell) for _, cell in CELL.findall(row)] for row in body.split("</tr>")[:-1]]
            for i, (title, figures) in enumerate(titles):
                if not figures or title in UNITLESS or UNIT.search(title):
                    continue
                if not all(CARRIES.match(row[i]) or any(map(UNIT.search, row[:i])) for row in rows):
                    bare.add(f"{kind_of(uri)}:{html.unescape(name)}: {title}: {rows[0][i]}")
    assert bare == set()


def words(cell: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()


def test_every_link_beneath_a_table_or_chart_leads_to_a_file_or_page_of_the_site(
    built: tuple[dict[str, Output], Files],
) -> None:
    known = {uri.removesuffix("index.md") for uri in built[0] if uri.endswith("index.md")} | set(built[0])
    seen = set()
    for uri, page in pages(built).items():
        for tools in re.findall(r'<div class="qc-tools" data-search-exclude>(.*?)</div></div>', page, re.S):
            for href in re.findall(r'href="([^"#]+)', tools):
                target = posixpath.normpath(posixpath.join(posixpath.dirname(uri), unquote(href)))
                target += "/" if href.endswith("/") else ""
                assert target == "methodology/" or target in known, f"{uri}: {href}"
                seen.add(target)
    assert "cases/seeded/data/files/cells.csv" in seen
    assert "cases/2026-11-21-cpu-cpu/data/files/quality.jsonl" in seen
    assert "cases/2025-10-09-gh200-shimmy-moe/data/files/published.csv" in seen


def test_every_anchor_is_a_heading_of_the_methodology() -> None:
    page = (ROOT / "docs" / "methodology.md").read_text("utf-8")
    headings = {slugify(h, "-") for h in re.findall(r"^##+ (.+)$", page, re.M)}
    assert {entry.anchor for entry in REGISTRY} <= headings


def test_every_entry_says_what_of_how_many_and_from_which_files() -> None:
    files = OTHER_FILES | {table.path for table in TABLES.values()}
    for entry in REGISTRY:
        assert entry.what.endswith("."), entry.names
        assert entry.rows.startswith("n: "), entry.names
        assert entry.files, entry.names
        assert set(entry.files) <= files, entry.names
    names = [entry.names for entry in REGISTRY]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("uri", "kind"),
    [("index.md", "home"), ("cases/index.md", "cases"), ("costs/index.md", "costs"), ("cases/x/index.md", "case"),
     ("cases/x/log/index.md", "log"), ("cases/x/cards/fp8/index.md", "card"), ("compare/index.md", "compare")],
)  # fmt: skip
def test_pages_have_a_kind(uri: str, kind: str) -> None:
    assert kind_of(uri) == kind


def test_the_name_of_a_family_is_in_its_title_as_text() -> None:
    found = source("log", "table-experiment-q4_k_m")
    assert found is not None
    assert html.unescape(found[1]) == "Results by batch size: q4_k_m"
    assert "_" not in found[1]
    notes = source("notes", "table-notes-vram")
    assert notes is not None
    assert notes[1] == "Memory"
    assert source("case", "table-nobody-knows-this") is None


# -- one page, by hand -------------------------------------------------------------------------------------------------

TWO = '<div class="qc-table" id="table-vram"><table><thead></thead><tbody></tbody></table></div>'
SEEN: Files = {"a": {"variants.csv": "variants.csv", **{f"logs/v-{i}.log.gz": f"logs/v-{i}.log.gz" for i in range(5)}}}


def test_a_page_below_a_case_links_by_its_own_depth() -> None:
    made = dress(TWO.replace("vram", "models"), "cases/a/notes/index.md", SEEN)
    assert '<a href="../../../cases/a/data/files/variants.csv" download' in made
    assert 'href="../../../methodology/#was-the-quantization-applied"' in made
    assert "../../../cases/a/data/#files" in made
    assert "logs (5 files)" in made
    assert "<table><caption>Models and quantizations</caption>" in made


def test_a_caption_that_is_there_stays_and_what_is_around_is_not_touched() -> None:
    page = "# A\n\n" + TWO.replace("<table>", "<table><caption>Mine.</caption>") + "\n\ntext <table> text\n"
    made = dress(page, "cases/a/index.md", SEEN)
    assert made.startswith('# A\n\n<div class="qc-frame"><div class="qc-scroll" role="region" tabindex="0"')
    assert made.count("<caption>") == 1
    assert made.endswith("</div></div>\n\ntext <table> text\n")


def test_a_bundle_that_offers_no_files_is_linked_by_its_data_page() -> None:
    made = dress(TWO, "cases/a/index.md", {})
    assert '<a href="../../cases/a/data/">Data</a>' in made
    assert "download" not in made
    assert "its run is not closed" in made


def test_a_table_of_several_cases_has_a_link_for_each() -> None:
    rows = '<tr><th><a href="cases/a/">a</a></th></tr><tr><th><a href="cases/b/">b</a></th></tr>'
    page = TWO.replace("vram", "matrix").replace("<tbody></tbody>", f"<tbody>{rows}</tbody>")
    offered: Files = {name: {"cells.csv": "cells.csv"} for name in ("a", "b", "c")}
    made = dress(page, "index.md", offered)
    assert re.findall(r'href="(cases/./data/files/cells.csv)"', made) == [
        "cases/a/data/files/cells.csv", "cases/b/data/files/cells.csv",
    ]  # fmt: skip
    one = dress(TWO.replace("vram", "gguf-c"), "summary/index.md", offered)
    assert 'href="../cases/c/data/files/cells.csv" download aria-label="Data: cells&#46;csv' in one


def test_a_chart_can_be_scrolled_by_keyboard_and_has_the_same_tools() -> None:
    chart = '<figure class="qc-figure" id="fig-vram"><div class="qc-chart"><svg></svg></div></figure>'
    made = dress(chart, "cases/a/index.md", SEEN)
    assert '<div class="qc-chart" role="region" tabindex="0" aria-label="Memory by part"><svg>' in made
    assert 'href="#fig-vram"' in made


def test_an_unknown_name_still_gets_a_link_and_no_claim() -> None:
    made = dress(TWO.replace("vram", "new-thing"), "cases/a/index.md", SEEN)
    assert "<caption>new thing</caption>" in made
    assert "qc-how" not in made


def test_the_real_bundles_are_read() -> None:
    """What the tests above rest on: a measured GPU case, a CPU case with quality, a published one."""
    grades = {(c.bundle.info.grade, bool(c.answers)) for c in load(RESULTS).cases}
    assert {("measured", True), ("measured", False), ("published", False)} <= grades


def test_what_a_chart_carries_for_the_browser_stays_on_it() -> None:
    page = '<figure class="qc-figure" id="fig-vram" data-spec=\'{"a":1}\'><div class="qc-chart"></div></figure>'
    assert 'id="fig-vram" data-spec=\'{"a":1}\'><div class="qc-chart" role="region"' in dress(page, "cases/a/index.md")
