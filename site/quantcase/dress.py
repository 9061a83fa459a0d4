"""What stands beneath every table and chart: a permalink, the rows behind it, and how it came about.

A page is dressed once, when it is done: `dress` finds the tables and figures in its Markdown and puts each into a frame
with a row of tools. All of it is HTML that works without JavaScript; the copy buttons are added by tables.js.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from urllib.parse import quote

from quantcase.provenance import Source, kind_of, source
from quantcase.text import text

__all__ = ["Files", "dress"]

Files = Mapping[str, Mapping[str, str]]  # case -> path in its bundle -> name under its page's data/files/

_FRAMED = re.compile(
    r'<div class="qc-table" id="(?P<table>[^"]*)">(?P<inside><table>.*?</table>)</div>'
    r'|<figure class="qc-figure" id="(?P<figure>[^"]*)"(?P<more>[^>]*)>(?P<drawn>.*?)</figure>',
    re.S,
)
_MOST_FILES = 4  # of one kind; beyond it the data page lists them


def dress(markdown: str, uri: str, files: Files | None = None) -> str:
    """The page with a frame and tools for each table and figure. Links are relative to the page's own address.

    Args:
        markdown: a generated page; text out of bundles in it is made of entities, so none of it can look like a table.
        uri: the page's path in the site's sources, `cases/<id>/log/index.md`.
        files: what each case offers for download; a case that offers nothing is linked by its data page.
    """
    page = _Page(uri, files or {})
    return _FRAMED.sub(page.framed, markdown)


class _Page:
    def __init__(self, uri: str, files: Files) -> None:
        *folders, name = uri.split("/")
        self._kind, self._files = kind_of(uri), files
        self._case = folders[1] if folders[:1] == ["cases"] and len(folders) > 1 else None
        self._up = "../" * (len(folders) + (name != "index.md"))
        self._titles: Counter[str] = Counter()

    def framed(self, match: re.Match[str]) -> str:
        ident = match["table"] or match["figure"]
        name = html.unescape(ident)
        entry, title = source(self._kind, name) or (None, text(name.partition("-")[2].replace("-", " ")))
        self._titles[title] += 1
        label = title if self._titles[title] == 1 else f"{title} {self._titles[title]}"
        region = f'role="region" tabindex="0" aria-label="{label}"'
        if match["table"]:
            inside = match["inside"]
            if not inside.startswith("<table><caption>"):
                inside = inside.replace("<table>", f"<table><caption>{title}</caption>", 1)
            body = f'<div class="qc-scroll" {region}><div class="qc-table" id="{ident}">{inside}</div></div>'
        else:
            drawn = match["drawn"].replace('<div class="qc-chart">', f'<div class="qc-chart" {region}>', 1)
            body = f'<figure class="qc-figure" id="{ident}"{match["more"]}>{drawn}</figure>'
        tools = [f'<a class="qc-permalink" href="#{ident}" aria-label="Link to: {label}">Link</a>']
        tools += [self._data(entry, match[0], name, label), self._how(entry, match[0], name, label)]
        return f'<div class="qc-frame">{body}<div class="qc-tools" data-search-exclude>{"".join(tools)}</div></div>'

    # -- data ----------------------------------------------------------------------------------------------------------

    def _cases(self, entry: Source | None, block: str, name: str) -> list[str]:
        """The cases whose rows are shown: the page's own, else those that are linked or named, else all that could."""
        if self._case is not None:
            return [self._case]
        named = re.compile(rf"-({'|'.join(map(re.escape, self._files))})(-\d+)?$").search(name) if self._files else None
        seen = [c for c in self._files if f'/{c}/"' in block or f'"{c}/"' in block or (named and c == named[1])]
        return seen or [c for c in self._files if entry and self._found(c, entry.files[0])]

    def _found(self, case: str, pattern: str) -> dict[str, str]:
        offered = self._files.get(case, {})
        return {path: name for path, name in offered.items() if fnmatchcase(path, pattern)}

    def _page_of(self, case: str) -> str:
        return f"{self._up}cases/{quote(case)}/data/"

    def _links(self, case: str, patterns: Sequence[str]) -> list[str]:
        """Every file that the bundle offers, as a link; a crowd of one kind as one link to the data page."""
        links = []
        for pattern in patterns:
            found = self._found(case, pattern)
            if len(found) > _MOST_FILES:
                words = f"{text(pattern.rpartition('/')[0] or pattern)} ({len(found)} files)"
                links.append(f'<a href="{self._page_of(case)}#files">{words}</a>')
            else:
                links += [self._link(case, name, text(path)) for path, name in found.items()]
        return links

    def _link(self, case: str, name: str, words: str, more: str = "") -> str:
        return f'<a href="{self._page_of(case)}files/{quote(name, safe="/")}" download{more}>{words}</a>'

    def _data(self, entry: Source | None, block: str, name: str, label: str) -> str:
        cases = self._cases(entry, block, name)
        if len(cases) > 1:
            shown = "".join(f"<li>{text(c)}: {self._first(c, entry, '')}</li>" for c in cases)
            return (
                f'<details class="qc-data"><summary aria-label="Data: {label}">Data</summary><ul>{shown}</ul></details>'
            )
        return self._first(cases[0], entry, label) if cases else ""

    def _first(self, case: str, entry: Source | None, label: str) -> str:
        """The file that holds the rows, or the data page where the bundle offers none of those named."""
        for pattern in entry.files if entry else ():
            found = self._found(case, pattern)
            if 0 < len(found) <= _MOST_FILES:
                path, name = next(iter(found.items()))
                words = f"Data: {text(path)}" if label else text(path)
                return self._link(case, name, words, f' aria-label="{words}, behind: {label}"' if label else "")
        return f'<a href="{self._page_of(case)}">{"Data" if label else "data page"}</a>'

    # -- how -----------------------------------------------------------------------------------------------------------

    def _how(self, entry: Source | None, block: str, name: str, label: str) -> str:
        if entry is None:
            return ""
        cases = self._cases(entry, block, name)
        each = [(case, ", ".join(self._links(case, entry.files))) for case in cases]
        known = [(case, links) for case, links in each if links]
        if not known:
            rows = "the bundle offers no files yet: its run is not closed"
        elif len(cases) == 1:
            rows = known[0][1]
        else:
            rows = ", ".join(text(f) for f in entry.files) + " of each case"
        where = f'<a href="{self._up}methodology/#{entry.anchor}">methodology</a>'
        return (
            f'<details class="qc-how"><summary aria-label="How: {label}">How</summary><dl>'
            f"<dt>What it says</dt><dd>{text(entry.what)} Defined in the {where}.</dd>"
            f"<dt>n and window</dt><dd>{text(entry.rows)}</dd><dt>Source rows</dt><dd>{rows}</dd></dl></details>"
        )
