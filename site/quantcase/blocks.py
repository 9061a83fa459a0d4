"""Parts of a generated page that are HTML already: tables and charts, each on a line of its own, most of a page's size.

Markdown would pass them through as they are, after reading every tag of them twice, and a search index takes nothing
but their words. So a page's blocks are taken out before Markdown sees it and put back when it is written. What comes
out is the same, byte for byte; where it might not be, a page is left whole.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

__all__ = ["anchors", "marked", "put_back", "taken_out", "words"]

# A line alone between blank lines: what Markdown takes for one block of HTML, as long as its elements are closed.
_BLOCK = re.compile(
    r'(?<=\n\n)<(?:div class="qc-frame"|details)[ >][^\n]{300,}</(?:div|details)>(?=\n\n|\n?\Z)'  # shorter: cheap
)
_MORE = (" markdown", "<!", "<?", "<script", "<style")  # what Markdown would not only pass through
_MARK = '<div id="qc-block-%d"></div>'
_MARKED = re.compile(r'<div id="qc-block-(\d+)"></div>')
_ID = re.compile(r'\sid="([^"]+)"|<a\s(?:[^>]*\s)?name="([^"]+)"')
# In a search index stand words, and the tags of Material's `search` plugin that it keeps; headings part its entries.
_PARTED = re.compile(r"<h[1-6]\b|<(?:script|style|object)\b|linenodiv|data-search-(?!exclude>)")
_FOR_SEARCH = re.compile(r'data-search-\w+="')
_UNSAID = re.compile(r'<div class="qc-tools" data-search-exclude>.*?</div>| data-spec=\'[^\']*\'', re.S)
_TAG = re.compile(r"</?(?!/|(?:p|code|pre|li|ol|ul|sub|sup)\b)[a-zA-Z][^>]*>")


def taken_out(markdown: str) -> tuple[str, list[str]]:
    """A page with a short mark for each of its blocks, and the blocks in order."""
    if _MARKED.search(markdown):
        return markdown, []  # somebody wrote such a mark
    blocks: list[str] = []

    def mark(found: re.Match[str]) -> str:
        block = found[0]
        if any(m in block for m in _MORE) or not _one(block, "div" if block.startswith("<div") else "details"):
            return block
        blocks.append(block)
        return _MARK % (len(blocks) - 1)

    return _BLOCK.sub(mark, markdown), blocks


def _one(block: str, tag: str) -> bool:
    """Whether a line is one element: it closes as often as it opens, and nothing begins where the first one may end."""
    opened = block.count(f"<{tag} ") + block.count(f"<{tag}>")
    first = block[: block.index(">") + 1]
    return opened == block.count(f"</{tag}>") and f"</{tag}>{first}" not in block


def put_back(rendered: str, blocks: Sequence[str]) -> str | None:
    """The rendered page with its blocks; None where not every mark is there once, in order: render it whole then."""
    found = [int(n) for n in _MARKED.findall(rendered)]
    if found != list(range(len(blocks))):
        return None
    return _MARKED.sub(lambda m: blocks[int(m[1])], rendered) if blocks else rendered


def anchors(blocks: Sequence[str]) -> set[str]:
    """What links may lead to inside the blocks."""
    return {html.unescape(ident or name) for block in blocks for ident, name in _ID.findall(block)}


def words(block: str) -> str:
    """The block as far as a search index takes it in; one that an index would part, or exclude in part, as it is."""
    said = _UNSAID.sub("", block)
    return block if _PARTED.search(said) or "data-search-exclude" in said else f"<div>{_TAG.sub('', said)}</div>"


def marked(page: str) -> bool:
    """Whether a page holds marks for Material's search, which takes them out of it."""
    return _FOR_SEARCH.search(page) is not None
