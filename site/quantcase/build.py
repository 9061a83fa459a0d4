"""The generator: bundles in, pages and assets out. It knows nothing of MkDocs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from quantcase.analysis.figures import case_document
from quantcase.catalog import Catalog, load
from quantcase.pages import cards, costs, data, home, log, notes, plan, quality, samples, summary
from quantcase.pages import case as case_page
from quantcase.pages.view import CaseView, Options

__all__ = ["Output", "generate"]


@dataclass(frozen=True)
class Output:
    """One file of the site. `content` is text or bytes, or `source` names a file to be copied as it is."""

    uri: str
    content: str | bytes | None = None
    source: Path | None = None
    title: str = ""  # of a page that belongs into the navigation

    def data(self) -> str | bytes:
        """The content, read when it is a copy."""
        if self.content is not None:
            return self.content
        if self.source is None:
            raise ValueError(f"{self.uri} has neither content nor source")
        return self.source.read_bytes()


def generate(results: Path, options: Options, *, only: tuple[str, ...] = ()) -> tuple[Catalog, Iterator[Output]]:
    """All pages and assets for the bundles below `results`, and the catalog they were made from.

    `only` names the cases to show; empty shows all.
    """
    catalog = load(results, simulated=options.show_simulated, published=options.show_published)
    if only:
        catalog.cases = [c for c in catalog.cases if c.id in only]
    return catalog, _outputs(catalog, options)


def _outputs(catalog: Catalog, options: Options) -> Iterator[Output]:
    views = [CaseView(c, options) for c in catalog.cases]
    yield Output("index.md", home.page(views, catalog.unreadable, options))
    yield Output("cases/index.md", home.cases_page(views))
    yield Output("costs/index.md", costs.page(views))
    yield Output("summary/index.md", summary.page(views))
    for view in views:
        base = f"cases/{view.case.id}"
        yield Output(f"{base}/index.md", case_page.page(view), title=view.case.title)
        yield Output(f"{base}/data/index.md", data.page(view))
        yield Output(f"{base}/quality/index.md", quality.page(view))
        yield Output(f"{base}/notes/index.md", notes.page(view))
        yield Output(f"{base}/plan/index.md", plan.page(view))
        yield Output(f"{base}/log/index.md", log.page(view))
        for name in cards.variants(view):
            yield Output(f"{base}/cards/{name}/index.md", cards.page(view, name))
            yield Output(f"{base}/cards/{name}/README.md.txt", cards.readme(view, name))
        for name, content in samples.files(view.case):
            yield Output(f"{base}/quality/samples/{name}", content)
        document = case_document(view.case, view.points, view.quality, view.quality_verdicts)
        yield Output(f"{base}/case.json", case_page.case_json(document))
        for path, name in data.downloads(view):
            yield Output(f"{base}/data/files/{name}", source=view.case.bundle.folder / path)
    assets = resources.files("quantcase").joinpath("assets")
    for asset in sorted(assets.iterdir(), key=lambda a: a.name):
        if asset.is_file():
            yield Output(f"assets/quantcase/{asset.name}", asset.read_bytes())
