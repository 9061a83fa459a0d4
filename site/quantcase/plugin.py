"""The MkDocs plugin: hands the generator's files to MkDocs, and nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment
from mkdocs.config import config_options as c
from mkdocs.config.base import LegacyConfig
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.livereload import LiveReloadServer
from mkdocs.plugins import BasePlugin, CombinedEvent, event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.utils.templates import TemplateContext

from collector.bundle.read import QuantcaseError
from quantcase import blocks, client, overlay
from quantcase.again import KEPT, Again
from quantcase.menu import Menu
from quantcase.output import Output
from quantcase.project import Project
from quantcase.signs import joined
from quantcase.standing import Standing

log = get_plugin_logger(__name__)

# What these do with a page is known: parts of it may be kept from them, and a page that did not change may be kept.
_KNOWN = {"search", "material/search", "quantcase", "mkdocs-jupyter"}


class _Generated(File):
    """A generated file whose content is read when MkDocs asks for it, so that a large site is not held at once."""

    def __init__(self, config: MkDocsConfig, output: Output, inclusion: InclusionLevel) -> None:
        super().__init__(output.uri, None, config.site_dir, config.use_directory_urls, inclusion=inclusion)
        self.generated_by, self.output, self.changed = "quantcase", output, True
        self.stands = False  # what was built last lies where it will be written

    @property
    def _content(self) -> str | bytes:  # type: ignore[override]
        return self.output.data()

    def copy_file(self, dirty: bool = False) -> None:
        """Nothing, where the same content lies there already."""
        if self.changed or not self.stands or not Path(self.abs_dest_path).is_file():
            super().copy_file(dirty)

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
        self._built: dict[str, object] = {}  # what each file is made from in this build
        self._last: dict[str, object] = {}  # and in the build before it
        self._files: list[str] = []  # where all files of this build go
        self._packed: dict[str, bytes] = {}
        self._page: str | None = None  # what the template gets, while the search index sees less
        self._entries: list[Any] | None = None
        self._before = 0
        self._serving = self._alone = False
        self._again: Again | None = None
        self._standing: Standing | None = None

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Its presence alone tells MkDocs to keep this object from one build to the next."""
        self._serving = command == "serve" and not dirty

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Read the options; bundles are watched by `mkdocs serve`."""
        with _told():
            site = client.settings(dict(self.config))
            self._project = Project(site, Path(config.config_file_path).parent)
            config.watch += map(str, self._project.watched())
        config.extra_css += [s for s in client.stylesheets(site) if s not in config.extra_css]
        self._alone = set(config.plugins) <= _KNOWN and not config.hooks
        self._again = (self._again or Again()) if self._serving and self._alone else None
        if self._again is not None:
            self._again.begin(config)
        return config

    def on_pre_build(self, *, config: MkDocsConfig) -> None:
        """While serving, files of the last build are written over rather than removed and made."""
        self._standing = (self._standing or Standing()) if self._again is not None else None
        if self._standing is not None:
            self._standing.put_aside(Path(config.site_dir))

    def on_files(self, files: Files, *, config: MkDocsConfig) -> Files:
        """Put the client's own files in, take what is left out away, and add every generated page and asset."""
        if self._standing is not None:
            self._standing.put_back(Path(config.site_dir))
        self._last, self._built = self._built, {}
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
        self._files = [f.abs_dest_path for f in files]
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
        file.changed, file.stands = self._last.get(output.uri) != made_from, self._standing is not None
        self._built[output.uri] = made_from
        return file

    def on_nav(self, nav: Navigation, /, *, config: MkDocsConfig, files: Files) -> Navigation:
        """Every page carries the menu."""
        if self._again is not None:
            self._again.listed(nav, files)
        return nav

    @event_priority(-100)  # after who else renders a page in a way of its own
    def on_pre_page(self, page: Page, /, *, config: MkDocsConfig, files: Files) -> Page:
        """While serving, a page whose source did not change is not rendered again."""
        if self._again is not None:
            self._again.renders(page)
        return page

    @event_priority(-100)  # Markdown is next
    def on_page_markdown(self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Links to pages that are left out become their words; tables and charts pass Markdown by."""
        markdown = self._project.unlinked_markdown(markdown, page.file.src_uri)
        if not isinstance(page.file, _Generated) or not self._alone:
            return markdown
        return blocks.taken_out(markdown)[0]

    # MkDocs renders all pages before it writes the first. What is rendered waits packed, and without its blocks.

    @event_priority(-100)  # after whoever else changes the page
    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Put a rendered page aside; its source is not needed again."""
        if not isinstance(page.file, _Generated):
            return self._finished(html, page)
        uri, made_from = page.file.src_uri, self._built.get(page.file.src_uri)
        anchors = self._again.anchors(uri, made_from) if self._again is not None else None
        if anchors is None:
            found = self._blocks(page.file)
            if blocks.put_back(html, found) is None:
                page.markdown, found = self._source(page.file), []
                page.render(config, files)
                html = page.content or ""
            anchors = blocks.anchors(found)
            if self._again is not None and found:
                self._again.found(uri, made_from, anchors)
        page.present_anchor_ids = (page.present_anchor_ids or set()) | anchors
        self._packed[uri] = zlib.compress(html.encode(), 1)
        page.markdown = ""
        return ""

    def _source(self, file: _Generated) -> str:
        return self._project.unlinked_markdown(file.content_string, file.src_uri)

    def _blocks(self, file: _Generated) -> list[str]:
        """The blocks of a page, read again rather than held."""
        return blocks.taken_out(self._source(file))[1] if self._alone else []

    def _finished(self, html: str, page: Page) -> str:
        return self._project.unlinked_html(html, page.url) + client.confidential_html(self._project.site)

    def on_env(self, env: Environment, /, *, config: MkDocsConfig, files: Files) -> Environment:
        """While serving, a page that would be written as it was is not put together again."""
        if self._again is not None:
            shown = [f for f in files.documentation_pages() if f.page is not None]
            made = {f.src_uri: self._built.get(f.src_uri) if isinstance(f, _Generated) else None for f in shown}
            self._again.settled(env, {f.src_uri: (f.page, made[f.src_uri]) for f in shown})
        return env

    @event_priority(100)  # before the search index and whoever else reads the page
    def _before_search(
        self, context: TemplateContext, /, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        """Take a page out again when its turn has come. An index of words is shown no more than those."""
        uri, self._page = page.file.src_uri, None
        packed = self._packed.pop(uri, None)
        self._entries = self._index(config)
        self._before = len(self._entries or ())
        if self._again is not None and (kept := self._again.kept(uri, self._entries)) is not None:
            context[KEPT] = kept  # type: ignore[literal-required]
        elif packed is not None and isinstance(page.file, _Generated):
            html, found = zlib.decompress(packed).decode(), self._blocks(page.file)
            whole = blocks.put_back(html, found)
            page.content = html if whole is None else self._finished(whole, page)
            if found and whole is not None and self._entries is not None and not blocks.marked(page.content):
                self._page, page.content = (
                    page.content,
                    self._finished(blocks.put_back(html, [blocks.words(b) for b in found]) or "", page),
                )
        return context

    @event_priority(-100)
    def _after_search(
        self, context: TemplateContext, /, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        """The template gets the page itself."""
        page.content = self._page if self._page is not None else page.content
        self._page = None
        return context

    on_page_context = CombinedEvent(_before_search, _after_search)

    def _index(self, config: MkDocsConfig) -> list[Any] | None:
        """The entries of Material's search index, which is made of words and a few tags; None for another one."""
        index = getattr(config.plugins.get("material/search"), "search_index", None)
        return getattr(index, "entries", None) if self._alone else None

    @event_priority(-100)
    def on_post_page(self, output: str, *, page: Page, config: MkDocsConfig) -> str:
        """Written: let it go."""
        if isinstance(page.file, _Generated):
            page.content = ""
        if self._again is None:
            return joined(client.numbers_html(self._project.site, output))
        if self._again.writes(page.file.src_uri):
            output = joined(client.numbers_html(self._project.site, output))
            self._again.wrote(page.file.src_uri, output, (self._entries or [])[self._before :])
        return output

    @event_priority(-100)  # after whoever else writes into the site
    def on_post_build(self, *, config: MkDocsConfig) -> None:
        """While serving, what no page is any more goes."""
        if self._standing is not None:
            self._standing.tidy(Path(config.site_dir), self._files)

    def on_build_error(self, *, error: Exception, **_: Any) -> None:
        """What was not built is built the next time."""
        self._built.clear()
        self._packed.clear()
        if self._again is not None:
            self._again.forget()

    def on_serve(self, server: LiveReloadServer, /, *, config: MkDocsConfig, builder: Any) -> LiveReloadServer:
        """The generator's own code is watched too, for those who work on it."""
        server.watch(str(Path(__file__).parent))
        return server
