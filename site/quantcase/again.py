"""What `mkdocs serve` need not do again: rendering pages whose source, and writing pages whose all, is as it was.

One object lives as long as the server. Of every page it remembers what Markdown made of it, by a hash of what went in;
and the page as it was written, by that hash and one of everything that all pages share: the settings, the menu, the
templates. Pages that were written lie in a temporary folder. A page of whose rendering something was said (a link that
leads nowhere) is rendered again, so that it is said again.

Nothing of MkDocs is imported here: `plugin.py` hands its objects over. But what its pages are is known: their
attributes (`_STATE`; one of them is private to MkDocs), their `render`, which is replaced, and the logger that it
speaks to.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, ChoiceLoader, DictLoader, Environment
from jinja2.bccache import Bucket

__all__ = ["KEPT", "Again"]

KEPT = "quantcase_kept"  # the page as it was written, in the context of a template that writes nothing else
_TEMPLATE = "quantcase-kept.html"
_STATE = ("content", "toc", "_title_from_render", "present_anchor_ids", "title")  # what rendering leaves in a page
_TEMPLATES = (".html", ".xml", ".yml")


@dataclass
class _Page:
    """What is remembered of one page."""

    source: str = ""  # hash of what it was rendered from
    state: dict[str, Any] = field(default_factory=dict)
    links: dict[str, dict[str, str]] | None = None  # to anchors, by the file they lead to
    whole: str = ""  # hash of what it was written from
    file: Path | None = None
    entries: list[Any] = field(default_factory=list)  # in the search index
    anchors: tuple[object, set[str]] | None = (
        None  # in its blocks, which were found to fit; and what these were made of
    )


class _Said(logging.Handler):
    """Whether anything was said."""

    said = False

    def emit(self, record: logging.LogRecord) -> None:
        self.said = True


class _Compiled(BytecodeCache):
    """Templates as they were compiled, for the next build; jinja2 knows a changed one by its checksum."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


class Again:
    """The memory of a server."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quantcase-serve-")
        self._pages: dict[str, _Page] = {}
        self._compiled = _Compiled()
        self._shared = self._listed = ""
        self._nav: Any = None
        self._kept: set[str] = set()

    def begin(self, config: Any) -> None:
        """A build begins with these settings."""
        theme = config.theme
        plugins = [[name, dict(plugin.config)] for name, plugin in config.plugins.items()]
        settings = [dict(config), plugins, theme.dirs, {k: theme[k] for k in theme}]
        self._shared = _hash(_json(settings), _json(list(_stamps(theme.dirs))))
        self._kept = set()

    def listed(self, nav: Any, files: Any) -> None:
        """The files of the site, to which links lead, and its menu, whose titles are known when all pages are read."""
        self._nav = nav
        self._listed = _hash(_json(sorted((f.src_uri, f.url, str(f.inclusion)) for f in files)))

    def renders(self, page: Any) -> None:
        """Have a page rendered only if what it is made of is not what it was."""
        own = page.render

        def render(config: Any, files: Any) -> None:
            known = self._pages.setdefault(page.file.src_uri, _Page())
            source = _hash(self._shared, self._listed, page.markdown, _json(page.meta), _json(_file(page.file)))
            if known.source == source and self._restored(page, known, files):
                return
            said, logger = _Said(), logging.getLogger("mkdocs")
            logger.addHandler(said)
            try:
                own(config, files)
            finally:
                logger.removeHandler(said)
            known.source, known.state = (
                "" if said.said else source,
                {k: vars(page)[k] for k in _STATE if k in vars(page)},
            )
            links, known.anchors = page.links_to_anchors, None
            known.links = None if links is None else {file.src_uri: dict(to) for file, to in links.items()}

        page.render = render

    def _restored(self, page: Any, known: _Page, files: Any) -> bool:
        found = {uri: files.get_file_from_path(uri) for uri in known.links or ()}
        if None in found.values():
            return False
        vars(page).update(known.state)
        if known.links is not None:
            page.links_to_anchors = {found[uri]: to for uri, to in known.links.items()}
        return True

    def anchors(self, uri: str, made_from: object) -> set[str] | None:
        """What `found` was told of a page that is as it was, its blocks included."""
        known = self._pages.get(uri)
        return known.anchors[1] if known and known.anchors and known.anchors[0] == made_from else None

    def found(self, uri: str, made_from: object, anchors: set[str]) -> None:
        """A page as it was rendered fits its blocks, in which there are these anchors."""
        if uri in self._pages:
            self._pages[uri].anchors = made_from, anchors

    def settled(self, env: Environment, pages: Mapping[str, tuple[Any, object]]) -> None:
        """All pages are rendered: those that would be written as they were take a template that writes just that.

        Args:
            env: of the templates.
            pages: by their path in the sources, each with what else it is made of.
        """
        if env.loader is not None:
            env.loader = ChoiceLoader([DictLoader({_TEMPLATE: f"{{{{ {KEPT} }}}}"}), env.loader])
        env.bytecode_cache = self._compiled
        shared = _hash(
            self._shared, _json([list(_menu(self._nav.items)), self._nav.homepage and self._nav.homepage.url])
        )
        for uri, (page, made_from) in pages.items():
            known = self._pages.get(uri)
            if known is None:
                continue
            whole = ""  # not to be kept
            if known.source and "template" not in page.meta:
                whole = _hash(shared, known.source, _json(page.meta), str(page.title), repr(made_from))
            if whole and known.whole == whole and known.file is not None and known.file.is_file():
                page.meta = {**page.meta, "template": _TEMPLATE, "search": {"exclude": True}}
                self._kept.add(uri)
            else:
                known.whole, known.file = whole, None

    def kept(self, uri: str, entries: list[Any] | None) -> str | None:
        """A page as it was written; its entries go into the search index. None for one that must be written anew."""
        known = self._pages.get(uri)
        if uri not in self._kept or known is None or known.file is None:
            return None
        if entries is not None:
            entries += known.entries
        return known.file.read_text("utf-8")

    def writes(self, uri: str) -> bool:
        """Whether a page is written anew."""
        return uri not in self._kept

    def wrote(self, uri: str, output: str, entries: list[Any]) -> None:
        """Remember a page as it was written, with its entries in the search index."""
        known = self._pages.get(uri)
        if known is None or not known.whole:
            return
        path = Path(self._folder.name) / _hash(uri)
        path.write_text(output, "utf-8")
        known.file, known.entries = path, entries

    def forget(self) -> None:
        """A build failed: nothing is certain."""
        self._pages.clear()


def _file(file: Any) -> list[Any]:
    """What a file on disk is known by: pages such as notebooks read it past `page.markdown`."""
    path = Path(file.abs_src_path or "")
    if not path.is_file():
        return [file.src_uri, file.url]
    stat = path.stat()
    return [file.src_uri, file.url, str(path), stat.st_size, stat.st_mtime_ns]


def _menu(items: list[Any]) -> Iterator[Any]:
    for item in items:
        yield [str(item.title), getattr(item, "url", None), list(_menu(item.children or []))]


def _stamps(folders: list[str]) -> Iterator[list[Any]]:
    """The templates of a theme, as far as size and time tell them from others; icons are never edited."""
    for folder in folders:
        for root, below, files in os.walk(folder):
            below[:] = sorted(b for b in below if b not in (".icons", "assets", "node_modules"))
            for name in sorted(f for f in files if f.endswith(_TEMPLATES)):
                stat = (Path(root) / name).stat()
                yield [root, name, stat.st_size, stat.st_mtime_ns]


def _json(value: Any) -> str:
    """Settings as text; objects, which are made anew for every build, by their kind."""
    return json.dumps(value, default=_named, skipkeys=True)


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value) if isinstance(value, Path) else f"{type(value).__module__}.{type(value).__qualname__}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
