"""The MkDocs plugin: hands the generator's files to MkDocs, and nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mkdocs.config import config_options as c
from mkdocs.config.base import LegacyConfig
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.livereload import LiveReloadServer
from mkdocs.plugins import BasePlugin, event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.utils.templates import TemplateContext

from collector.bundle.read import QuantcaseError
from quantcase import client, overlay
from quantcase.menu import Menu
from quantcase.output import Output
from quantcase.project import Project

log = get_plugin_logger(__name__)


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


@contextmanager
def _told() -> Iterator[None]:
    """Our errors are one line, which MkDocs prints as it is."""
    try:
        yield
    except QuantcaseError as e:
        raise PluginError(f"quantcase: {e}") from None


class QuantcasePlugin(BasePlugin[LegacyConfig]):  # type: ignore[no-untyped-call]
    """Hooks in the order in which MkDocs calls them."""

    # MkDocs only passes the options on: `client.settings` checks them, and says what is wrong in one line.
    config_scheme = tuple((name, c.Optional(c.Type(object))) for name in client.Settings.__struct_fields__)

    def __init__(self) -> None:
        self._built: dict[str, object] = {}  # what each file was made from when it was built last
        self._packed: dict[str, bytes] = {}

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Its presence alone tells MkDocs to keep this object from one build to the next."""

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Read the options; bundles are watched by `mkdocs serve`."""
        with _told():
            site = client.settings(dict(self.config))
            self._project = Project(site, Path(config.config_file_path).parent)
            config.watch += map(str, self._project.watched())
        config.extra_css += [s for s in client.stylesheets(site) if s not in config.extra_css]
        return config

    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Put the client's own files in, take what is left out away, and add every generated page and asset."""
        with _told():
            self._own_files(files, config)
            pages = {f.src_uri: f for f in files.documentation_pages()}
            offers = {uri: name for uri in pages if (name := overlay.offers(uri))}
            catalog, outputs = self._project.generated({n: pages[uri].content_string for uri, n in offers.items()})
            for name, why in catalog.unreadable:
                log.info("bundle %s left out: %s", name, why)
            menu = Menu()
            for output in outputs:
                old = files.get_file_from_path(output.uri)
                if old is not None and output.uri in offers:
                    files.remove(old)  # an offer, with its evidence
                elif old is not None and output.title == "":
                    continue  # a page written by hand stands in for the generated one
                files.append(self._file(config, output, listed=menu.takes(output)))
            menu.put_into(config.nav)
            books = {f.src_uri: f for f in files if f.src_uri.startswith("notebooks/") and f.src_uri.endswith(".ipynb")}
            ran = self._project.executed({uri: Path(str(f.abs_src_path)) for uri, f in books.items()}, catalog)
            for uri, path in ran.items():
                books[uri].abs_src_path = str(path)
        return files

    def _own_files(self, files: Files, config: MkDocsConfig) -> None:
        for uri, path in self._project.own_files():
            if (old := files.get_file_from_path(uri)) is not None:
                files.remove(old)
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        gone = self._project.leave_out([(f.src_uri, f.url) for f in files])
        for file in [f for f in files if f.src_uri in gone]:
            files.remove(file)

    def _file(self, config: MkDocsConfig, output: Output, *, listed: bool) -> _Generated:
        file = _Generated(config, output, InclusionLevel.UNDEFINED if listed else InclusionLevel.NOT_IN_NAV)
        made_from = output.made_from()
        file.changed = self._built.get(output.uri) != made_from
        self._built[output.uri] = made_from
        return file

    def on_page_markdown(self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Links to pages that are left out become their words."""
        return self._project.unlinked_markdown(markdown, page.file.src_uri)

    # MkDocs renders all pages before it writes the first. What is rendered waits packed, a tenth of its size.

    @event_priority(-100)  # after whoever else changes the page
    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Put a rendered page aside; its source is not needed again."""
        html = self._project.unlinked_html(html, page.url) + client.confidential_html(self._project.site)
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
        return client.numbers_html(self._project.site, output)

    def on_build_error(self, *, error: Exception, **_: Any) -> None:
        """What was not built is built the next time."""
        self._built.clear()
        self._packed.clear()

    def on_serve(self, server: LiveReloadServer, /, *, config: MkDocsConfig, builder: Any) -> LiveReloadServer:
        """The generator's own code is watched too, for those who work on it."""
        server.watch(str(Path(__file__).parent))
        return server
