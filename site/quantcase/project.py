"""One build of one site, whatever engine writes it: which bundles, which cache, which notebooks, what is left out.

`plugin.py` hands MkDocs's files to it and takes back what is to be shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from collector.bundle.read import QuantcaseError
from quantcase import notebooks, overlay
from quantcase.build import generate
from quantcase.catalog import Catalog
from quantcase.charts import cache as charts
from quantcase.client import Settings
from quantcase.output import Output
from quantcase.pages.view import Options
from quantcase.remote import Remote, is_url

__all__ = ["Project"]

_MOST_PROCESSES = 2  # by default: each takes about 300 MB


class Project:
    """The build of a site with these settings; paths in them count from `base`, the folder of its config.

    `say` hears what is fetched from results at a URL.
    """

    def __init__(self, site: Settings, base: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.site, self._say = site, say
        self.cache = base / site.cache if site.cache else None
        self._remote = Remote(site.results, self.cache) if is_url(site.results) else None
        self.results = self._remote.folder if self._remote else (base / site.results).resolve()
        self._overlay = (base / site.overlay).resolve() if site.overlay else None
        self._gone: set[str] = set()

    def watched(self) -> list[Path]:
        """Folders whose change asks for another build.

        Raises:
            QuantcaseError: there is no results folder.
        """
        if self._remote is None and not self.results.is_dir():
            raise QuantcaseError(
                f"no results folder at {self.results}", fix="run `collect run` first, or set `results:`"
            )
        results = [self.results] if self._remote is None else []
        return [*results, *([self._overlay] if self._overlay is not None and self._overlay.is_dir() else [])]

    @property
    def unwatched(self) -> str:
        """What cannot be watched, in a sentence; empty where there is nothing."""
        return f"results at {self._remote.where} are not watched: each build looks there" if self._remote else ""

    def own_files(self) -> list[tuple[str, Path]]:
        """The client's own files, see `overlay.files`."""
        return list(overlay.files(self._overlay)) if self._overlay is not None else []

    def generated(self, sold: Mapping[str, str]) -> tuple[Catalog, list[Output]]:
        """The catalog and every generated file; `sold` are the offers, name -> Markdown.

        Raises:
            QuantcaseError: what is wrong with an option, a bundle that is to be redacted, or an offer.
        """
        if self.cache is not None and charts.ENV not in os.environ:
            charts.use(self.cache / "charts")
        only = tuple(self.site.cases)
        processes = self.site.processes or min(_MOST_PROCESSES, os.cpu_count() or 1)
        options = Options.of(self.site)
        refused = self._remote.fetch(only, self._say).refused if self._remote else []
        if only and refused:
            raise QuantcaseError(f"{refused[0][0]}: {refused[0][1]}")
        catalog, outputs = generate(
            self.results, options, only=only, cache=self.cache, processes=processes, sold=sold, refused=refused
        )
        made = list(outputs)
        if only and (missing := sorted(set(only) - {case.id for case in catalog.cases})):
            raise QuantcaseError(
                f"no readable case named {missing[0]} below {self.site.results}", fix="see `cases:` in mkdocs.yml"
            )
        return catalog, made

    def executed(self, books: Mapping[str, Path], catalog: Catalog) -> dict[str, Path]:
        """Notebooks by their path in the sources, each with its outputs.

        Raises:
            QuantcaseError: one of them fails.
        """
        if not books:
            return {}
        home = (self.cache or notebooks.HOME.parent) / "notebooks"
        shown = {case.id: case.bundle.folder for case in catalog.cases}
        return {uri: notebooks.executed(path, shown, home).resolve() for uri, path in books.items()}

    # -- What is left out ----------------------------------------------------------------------------------------------

    def leave_out(self, pages: Iterable[tuple[str, str]]) -> list[str]:
        """Of (path in the sources, address) those paths that this site leaves out; links to them will become words."""
        found = [(uri, url) for uri, url in pages if self.site.left_out(uri)]
        self._gone = {url for _, url in found}
        return [uri for uri, _ in found]

    def unlinked_markdown(self, markdown: str, uri: str) -> str:
        """A page's Markdown without links to what is left out."""
        return overlay.unlink_markdown(markdown, uri, self.site.left_out) if self.site.leave_out else markdown

    def unlinked_html(self, html: str, url: str) -> str:
        """The same in HTML, where links are addresses."""
        return overlay.unlink_html(html, url, self._left_out_at) if self.site.leave_out else html

    def _left_out_at(self, url: str) -> bool:
        return url in self._gone or (url.endswith("/") and self.site.left_out(f"{url}index.md"))
