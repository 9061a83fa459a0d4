"""The MkDocs plugin: hands the generator's files to MkDocs, and nothing else."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, Literal

from mkdocs.config import config_options as c
from mkdocs.config.base import Config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.livereload import LiveReloadServer
from mkdocs.plugins import BasePlugin, event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.utils.templates import TemplateContext

from collector.bundle.read import QuantcaseError
from quantcase import client, notebooks
from quantcase.build import Output, generate
from quantcase.charts import cache as charts
from quantcase.pages.view import Options

log = get_plugin_logger(__name__)

_MOST_IN_MENU = 40  # every page carries the whole menu: with all cases in it a site grows with their square
_MOST_PROCESSES = 2  # by default: each takes about 300 MB


class QuantcaseConfig(Config):  # type: ignore[no-untyped-call]
    """The options under `plugins: - quantcase:` in mkdocs.yml; see docs/guide/publish.md."""

    results = c.Type(str, default="results")
    cases = c.ListOfItems(c.Type(str), default=[])
    client = c.Type(str, default="")
    currency = c.Optional(c.Type((str, dict)))
    prices = c.Type(dict, default={})
    show_simulated = c.Type(bool, default=True)
    show_published = c.Type(bool, default=True)
    confidential = c.Type((bool, str), default=False)
    overlay = c.Type(str, default="")
    leave_out = c.Type(list, default=[])
    numbers = c.Type(str, default="en")
    colours = c.Type(dict, default={})
    redact = c.Type((bool, list), default=[])
    cache = c.Type(str, default=".cache/quantcase")
    processes = c.Type(int, default=0)


class _Generated(File):
    """A generated file whose content is read when MkDocs asks for it, so that a large site is not held at once."""

    def __init__(self, config: MkDocsConfig, output: Output, inclusion: InclusionLevel) -> None:
        super().__init__(output.uri, None, config.site_dir, config.use_directory_urls, inclusion=inclusion)
        self.generated_by, self.output, self.changed = "quantcase", output, True

    @property
    def _content(self) -> str | bytes:  # type: ignore[override]
        return self.output.data()

    def is_modified(self) -> bool:
        """What `mkdocs serve --dirty` asks, to build nothing else."""
        return self.changed or not Path(self.abs_dest_path).is_file()


class QuantcasePlugin(BasePlugin[QuantcaseConfig]):  # type: ignore[no-untyped-call]
    """Hooks in the order in which MkDocs calls them."""

    def __init__(self) -> None:
        self._built: dict[str, object] = {}  # what each file was made from when it was built last
        self._packed: dict[str, bytes] = {}
        self._site = client.Settings()
        self._gone: set[str] = set()  # addresses of files of docs/ that this site leaves out

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Its presence alone tells MkDocs to keep this object from one build to the next."""

    def _results(self, config: MkDocsConfig) -> Path:
        return (Path(config.config_file_path).parent / self.config.results).resolve()

    def _options(self) -> Options:
        site = self._site
        return Options(
            client=site.client,
            currency=site.currency.code,
            prices=tuple(site.prices.items()),
            show_simulated=site.show_simulated,
            show_published=site.show_published,
            confidential=bool(site.confidential),
            site=site,
        )

    def _cache(self, config: MkDocsConfig) -> Path | None:
        return Path(config.config_file_path).parent / self.config.cache if self.config.cache else None

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Bundles are watched by `mkdocs serve`, and must be somewhere."""
        try:
            self._site = client.settings(dict(self.config))
        except QuantcaseError as e:
            raise PluginError(f"quantcase: {e}") from None
        config.extra_css += [s for s in client.stylesheets(self._site) if s not in config.extra_css]
        results = self._results(config)
        if not results.is_dir():
            raise PluginError(f"quantcase: no results folder at {results}; run `collect run` first, or set `results:`")
        config.watch.append(str(results))
        return config

    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Add every generated page and asset."""
        only = tuple(self.config.cases)
        self._own_files(files, config)
        found = {
            f.src_uri: f
            for f in files.documentation_pages()
            if f.src_uri.startswith("offers/") and f.src_uri != "offers/index.md"
        }
        sold = {uri.removeprefix("offers/"): f.content_string for uri, f in found.items()}
        cache = self._cache(config)
        if cache is not None and charts.ENV not in os.environ:
            charts.use(cache / "charts")
        processes = self.config.processes or min(_MOST_PROCESSES, os.cpu_count() or 1)
        try:
            catalog, outputs = generate(
                self._results(config), self._options(), only=only, cache=cache, processes=processes, sold=sold
            )
            outputs = iter(list(outputs))
        except QuantcaseError as e:
            raise PluginError(f"quantcase: {e}") from None
        for name, why in catalog.unreadable:
            log.info("bundle %s left out: %s", name, why)
        missing = set(only) - {case.id for case in catalog.cases}
        if missing:
            raise PluginError(f"quantcase: no readable case named {sorted(missing)[0]} below {self.config.results}")
        cases: list[Any] = []
        for output in outputs:
            old = files.get_file_from_path(output.uri)
            if old is not None and output.uri in found:
                files.remove(old)  # an offer, with its evidence
            elif old is not None and output.title == "":
                continue  # a page written by hand stands in for the generated one
            # Pages below a case are reached from it: they stand in no menu.
            listed = output.uri.count("/") < 3 and (not output.title or len(cases) < _MOST_IN_MENU)
            file = _Generated(config, output, InclusionLevel.UNDEFINED if listed else InclusionLevel.NOT_IN_NAV)
            made_from = _made_from(output)
            file.changed = self._built.get(output.uri) != made_from
            self._built[output.uri] = made_from
            files.append(file)
            if output.title and listed:
                cases.append({output.title: output.uri})
        _add_to_nav(config, cases)
        home, shown = (cache or notebooks.HOME.parent) / "notebooks", [case.id for case in catalog.cases]
        for book in files:
            if book.src_uri.startswith("notebooks/") and book.src_uri.endswith(".ipynb"):
                try:
                    ran = notebooks.executed(Path(str(book.abs_src_path)), self._results(config), shown, home)
                except QuantcaseError as e:
                    raise PluginError(f"quantcase: {e}") from None
                book.abs_src_path = str(ran.resolve())
        return files

    def _own_files(self, files: Files, config: MkDocsConfig) -> None:
        """The client's own files in, what is left out away."""
        site = self._site
        try:
            own = (
                list(client.overlay((Path(config.config_file_path).parent / site.overlay).resolve()))
                if site.overlay
                else []
            )
        except QuantcaseError as e:
            raise PluginError(f"quantcase: {e}") from None
        for uri, path in own:
            if (old := files.get_file_from_path(uri)) is not None:
                files.remove(old)
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        self._gone = {f.url for f in files if site.left_out(f.src_uri)}
        for file in [f for f in files if site.left_out(f.src_uri)]:
            files.remove(file)

    def on_page_markdown(self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Links to pages that are left out become their words."""
        return client.unlink_markdown(markdown, page.file.src_uri, self._site.left_out)

    def _gone_at(self, url: str) -> bool:
        return url in self._gone or (url.endswith("/") and self._site.left_out(f"{url}index.md"))

    # MkDocs renders all pages before it writes the first. What is rendered waits packed, a tenth of its size.

    @event_priority(-100)  # after whoever else changes the page
    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Put a rendered page aside; its source is not needed again."""
        html = client.unlink_html(html, page.url, self._gone_at) + client.confidential_html(self._site)
        if not isinstance(page.file, _Generated):
            return html
        self._packed[page.file.src_uri] = zlib.compress(html.encode(), 1)
        page.markdown = ""
        return ""

    @event_priority(100)  # before the search index and whoever else reads the page
    def on_page_context(
        self, context: TemplateContext, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        """Take it out again when its turn has come."""
        packed = self._packed.pop(page.file.src_uri, None)
        if packed is not None:
            page.content = zlib.decompress(packed).decode()
        return context

    @event_priority(-100)
    def on_post_page(self, output: str, *, page: Page, config: MkDocsConfig) -> str:
        """Written: let it go."""
        if isinstance(page.file, _Generated):
            page.content = ""
        return output

    def on_build_error(self, *, error: Exception, **_: Any) -> None:
        """What was not built is built the next time."""
        self._built.clear()
        self._packed.clear()

    def on_serve(self, server: LiveReloadServer, /, *, config: MkDocsConfig, builder: Any) -> LiveReloadServer:
        """The generator's own code is watched too, for those who work on it."""
        server.watch(str(Path(__file__).parent))
        return server


def _made_from(output: Output) -> object:
    """What tells a changed output from the same one again, without reading it."""
    if output.kept is not None:
        return output.kept.path, output.kept.offset
    if output.source is not None:
        found = output.source.stat()
        return found.st_size, found.st_mtime_ns
    return output.content


def _add_to_nav(config: MkDocsConfig, cases: list[Any]) -> None:
    """Put the cases under the navigation entry that holds cases/index.md."""
    for entry in config.nav or []:
        if isinstance(entry, dict):
            for title, target in entry.items():
                if target == "cases/index.md" or (isinstance(target, list) and "cases/index.md" in target):
                    entry[title] = ["cases/index.md", *cases]
