"""Tables and charts pass Markdown by and come back as they were, and a search index reads the same words."""

from __future__ import annotations

import markdown
import pytest
from material.plugins.search.plugin import Parser  # type: ignore[import-untyped]

from quantcase import blocks
from quantcase.build import generate
from quantcase.pages.view import Options
from tests.real import RESULTS

EXTENSIONS = [
    "admonition", "attr_list", "md_in_html", "tables", "toc", "pymdownx.details", "pymdownx.highlight",
    "pymdownx.superfences",
]  # fmt: skip
TABLE = '<div class="qc-frame"><div class="qc-scroll"><table><tr><td>{}</td></tr></table></div></div>'


def rendered(source: str) -> str:
    return markdown.markdown(source, extensions=EXTENSIONS, extension_configs={"toc": {"permalink": True}})


def entries(page: str) -> list[tuple[str | None, str, str]]:
    """What Material's search makes of a page."""
    parser = Parser()
    parser.feed(page)
    parser.close()
    return [(s.id, "".join(s.title).strip(), "".join(s.text).strip()) for s in parser.data if not s.is_excluded()]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of a real run with quality, and those across cases."""
    _, outputs = generate(RESULTS, Options(), only=("2026-11-21-h200-small-model",), cache=tmp_path_factory.mktemp("c"))
    return {o.uri: str(o.data()) for o in outputs if o.uri.endswith(".md")}


def test_every_page_is_rendered_the_same_and_found_by_the_same_words(pages: dict[str, str]) -> None:
    taken = 0
    for uri, source in pages.items():
        short, found = blocks.taken_out(source)
        html = rendered(short)
        whole = blocks.put_back(html, found)
        assert whole == rendered(source), uri
        assert entries(blocks.put_back(html, [blocks.words(b) for b in found]) or "") == entries(whole), uri
        assert sum(map(len, found)) + len(short) >= len(source)
        taken += sum(map(len, found))
    assert taken > sum(map(len, pages.values())) / 2  # most of a site is tables and charts


@pytest.mark.parametrize(
    "line",
    [TABLE.format("x" * 400) + "</div>", TABLE.format("x" * 400) * 2, TABLE.format("x <!-- y" + "x" * 400),
     TABLE.format("x" * 400).replace("<table>", '<table markdown="1">'), f"`{TABLE.format('x' * 400)}`",
     TABLE.format("x" * 400) + " and more"],
)  # fmt: skip
def test_what_markdown_might_read_otherwise_stays(line: str) -> None:
    assert blocks.taken_out(f"# A\n\n{line}\n\nwords\n") == (f"# A\n\n{line}\n\nwords\n", [])


def test_in_code_a_mark_does_not_come_back_and_says_so() -> None:
    source = f"# A\n\n```\n\n{TABLE.format('x' * 400)}\n\n```\n"
    short, found = blocks.taken_out(source)
    assert len(found) == 1
    assert blocks.put_back(rendered(short), found) is None


def test_a_page_that_has_such_a_mark_already_is_left_whole() -> None:
    source = f'# A\n\n<div id="qc-block-0"></div>\n\n{TABLE.format("x" * 400)}\n'
    assert blocks.taken_out(source) == (source, [])


def test_links_may_lead_into_blocks() -> None:
    assert blocks.anchors(['<div id="table-a&#45;b"><a href="#x" name="n"></a><svg id="s"></svg></div>']) == {
        "table-a-b", "n", "s",
    }  # fmt: skip


def test_what_an_index_leaves_out_is_left_out() -> None:
    tools = '<div class="qc-tools" data-search-exclude><a href="#t">Link</a></div>'
    assert blocks.words(f"<div><svg><text x='1'>12</text></svg>{tools}<p>a</p></div>") == "<div>12<p>a</p></div>"
    parted = '<div><h3 id="a">A</h3></div>'
    assert blocks.words(parted) == parted
