"""The generator: bundles in, pages and assets out. It knows nothing of MkDocs.

A case is made, put into the cache and let go; the pages across cases are made of what was kept of each. What is in the
cache already is not made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path

from collector.bundle.read import QuantcaseError, open_bundle
from quantcase import catalog as bundles
from quantcase import client, digest, redaction, social, workers
from quantcase.analysis.between_document import CaseDocument
from quantcase.analysis.figures import case_document
from quantcase.cache import Entry, Store, combined, key_of
from quantcase.catalog import Catalog
from quantcase.charts.bundle import vega_js
from quantcase.digest import Head, Views
from quantcase.dress import dress
from quantcase.money import Money
from quantcase.output import Output
from quantcase.pages import (
    cards,
    compare,
    costs,
    data,
    fit,
    gpus,
    history,
    home,
    llms,
    log,
    notes,
    offers,
    plan,
    projection,
    quality,
    samples,
    save_gpu,
    schemas,
    summary,
    version,
)
from quantcase.pages import case as case_page
from quantcase.pages.view import CaseView, Options
from quantcase.signs import written_in

__all__ = ["Output", "generate", "make_case"]


_ACROSS, _SUMMARY = Path("across cases"), Path("across cases, words")  # no bundle has a blank in its name
_WORDS = ("notes.md",)  # of a bundle's files, what few pages show: `_worded`, and across cases the summary
_LAST: dict[tuple[Path, Path], tuple[str, str]] = {}  # by cache and bundle: what it was without its words, and its key


@dataclass(frozen=True)
class _Made:
    """One bundle in the cache."""

    folder: Path
    key: str
    facts: str  # hash of all that pages without notes are made of
    entry: Entry
    head: Head

    def view(self, options: Options) -> CaseView:
        return digest.view(self.entry.digest(), self.folder, options)

    def document(self) -> CaseDocument:
        return digest.document(self.entry.digest())


def generate(
    results: Path,
    options: Options,
    *,
    only: tuple[str, ...] = (),
    cache: Path | None = None,
    processes: int = 1,
    sold: Mapping[str, str] | None = None,
    refused: Sequence[tuple[str, str]] = (),
) -> tuple[Catalog, Iterator[Output]]:
    """All pages and assets for the bundles below `results`, and the catalog they were made from.

    Args:
        results: the folder of bundles.
        options: what the person who publishes decided.
        only: names of the cases to show; empty shows all. Other bundles are not opened.
        cache: folder of what was made before; without one all is made, and its outputs hold their content.
        processes: in how many cases may be made at once, with a cache; each takes about 300 MB.
        sold: the offers, file name -> Markdown with front matter; evidence is put into them.
        refused: folders that never came here from a server, and why: they are told with the unreadable.
    """
    store = Store(cache)
    folders, unreadable = bundles.folders(results)
    unreadable += refused
    if only:
        folders, unreadable = [f for f in folders if f.name in only], []
    folders = redaction.copies(folders, options.site.redact, store.folder / "redacted")
    hashes = {f: store.hashes(f) for f in folders}
    keys = {f: key_of(options, f.name, combined(hashes[f])) for f in folders}
    found = {f: entry for f in folders if (entry := store.read(f, keys[f]))}
    if cache is not None:
        missing = [f for f in folders if f not in found]
        workers.make([workers.Job(str(f), str(store.folder), keys[f], options) for f in missing], processes)
    made = []
    for folder in folders:
        entry = found.get(folder) or store.read(folder, keys[folder])
        entry = entry or make_case(store, folder, keys[folder], options)
        head = digest.head(entry.digest())
        if head.unreadable:
            unreadable.append((folder.name, head.unreadable))
        elif head.title:
            facts = _facts(hashes[folder], folder, options)
            _LAST[store.folder, folder] = facts, keys[folder]
            facts = key_of(options, facts, hashlib.sha256(entry.digest()).hexdigest())
            made.append(_Made(folder, keys[folder], facts, entry, head))
    made.sort(key=lambda m: bundles.order(m.head.created, m.head.grade), reverse=True)
    views = Views([partial(m.view, options) for m in made])
    shown = Catalog(views.cases, sorted(unreadable))
    every = _outputs(store, made, views, shown, options, sold or {})
    outputs = (o for o in every if not options.site.left_out(o.uri))
    return shown, outputs if cache is not None else map(_held, outputs)


def _held(output: Output) -> Output:
    return output if output.kept is None else Output(output.uri, output.kept.read(), title=output.title)


def make_case(store: Store, folder: Path, key: str, options: Options) -> Entry:
    """Make one bundle's pages, and put them with its digest into the cache."""
    hidden = {"simulated": not options.show_simulated, "published": not options.show_published}
    hashes = store.hashes(folder)
    before = combined(hashes)

    def unchanged() -> bool:  # since its key was made, and while it is read: a run may be writing into it
        return key == key_of(options, folder.name, before) and store.fingerprint(folder) == before

    try:
        if hidden.get(open_bundle(folder).info.grade, False):
            return store.write(folder, key, [], digest.pack(Head()), unchanged)
        case = bundles.read(folder)
    except (QuantcaseError, OSError, UnicodeDecodeError) as e:
        lasting = not isinstance(e, OSError)
        return store.write(folder, key, [], digest.pack(Head(unreadable=str(e))), lambda: lasting and unchanged())
    view = redaction.case_view(case, options)
    head = Head(case.title or case.id, case.bundle.info.grade, case.bundle.manifest.created)
    with written_in(options.site.numbers):  # `write` takes all pages before it returns
        facts, of = _LAST.get((store.folder, folder), ("", ""))
        last = store.read(folder, of) if facts == _facts(hashes, folder, options) else None
        if last is not None and digest.taken(view, last.digest()):
            remade = {o.uri: o for o in _dressed(_worded(view), [view])}
            pages: Iterable[Output] = (remade.get(o.uri) or _reworded(view, o) for o in last.outputs())
            packed = last.digest()  # as it is: pages across cases are known by its bytes
        else:
            pages, packed = _dressed(_case(view), [view]), digest.pack(head, view)
        return store.write(folder, key, pages, packed, unchanged)


def _facts(hashes: Mapping[str, str], folder: Path, options: Options) -> str:
    """The hash of a bundle but for a person's words."""
    return key_of(options, folder.name, combined({n: "" if n in _WORDS else content for n, content in hashes.items()}))


def _reworded(view: CaseView, last: Output) -> Output:
    """A page of the same rows as it was made last; of the case page, what a person wrote is written anew."""
    if last.uri != f"cases/{view.case.id}/index.md":
        return last
    return Output(last.uri, case_page.reworded(view, str(last.data())), title=last.title)


def _worded(view: CaseView) -> Iterator[Output]:
    """The pages beside the case page that show what a person wrote, or the hash of it."""
    base = f"cases/{view.case.id}"
    yield Output(f"{base}/data/index.md", data.page(view))
    yield Output(f"{base}/notes/index.md", notes.page(view))
    if name := version.digits(view):
        yield Output(f"{base}/versions/{name}/index.md", version.page(view))


def _outputs(
    store: Store, made: Sequence[_Made], views: Views, catalog: Catalog, options: Options, sold: Mapping[str, str]
) -> Iterator[Output]:
    words = [f"{name}\n{said}" for name, said in [*sorted(sold.items()), *catalog.unreadable]]

    def kept(home: Path, key: str, outputs: Callable[[], Iterator[Output]]) -> Iterator[Output]:
        if (entry := store.read(home, key)) is None:
            with written_in(options.site.numbers):
                entry = store.write(home, key, _dressed(outputs(), views), b"")
        return entry.outputs()

    def across() -> Iterator[Output]:
        return _across(views, [m.document() for m in made], catalog, options, sold)

    yield from kept(_ACROSS, key_of(options, "across", *words, *(m.facts for m in made)), across)
    yield from kept(_SUMMARY, key_of(options, "summary", *(m.key for m in made)), lambda: _summary(views))
    for m in made:
        yield from m.entry.outputs()
    assets = resources.files("quantcase").joinpath("assets")
    for asset in sorted(assets.iterdir(), key=lambda a: a.name):
        if asset.is_file():
            yield Output(f"assets/quantcase/{asset.name}", asset.read_bytes())
    yield Output("assets/quantcase/vega.js", vega_js())


def _dressed(outputs: Iterator[Output], views: Sequence[CaseView]) -> Iterator[Output]:
    """Every output; pages with the tools beneath their tables and charts."""
    files = {view.case.id: dict(data.downloads(view)) for view in views}
    for output in outputs:
        if output.uri.endswith(".md") and isinstance(output.content, str):
            yield replace(output, content=dress(output.content, output.uri, files))
        else:
            yield output


def _summary(views: Views) -> Iterator[Output]:
    """The page across cases that quotes what a person noted."""
    yield Output("summary/index.md", summary.page(views))


def _across(
    views: Views, documents: Sequence[CaseDocument], catalog: Catalog, options: Options, sold: Mapping[str, str]
) -> Iterator[Output]:
    """The pages across cases. They ask for figures, never for rows: those would be read for every case."""
    money = Money(options.site.currency)
    yield Output("index.md", home.page(views, catalog.unreadable, options))
    yield Output("cases/index.md", home.cases_page(views, money))
    yield Output("costs/index.md", costs.page(views, money))
    yield Output("fit/index.md", fit.page(views))
    yield Output("compare/index.md", compare.page(documents, money))
    for name, script in compare.files(documents):
        yield Output(f"compare/{name}", script)
    yield Output("history/index.md", history.page(views, documents, money))
    across = gpus.page(documents, money)
    yield Output("gpus/index.md", across.markdown, title=across.title)
    yield Output("gpus/gpus.json", across.data)
    yield Output("llms.txt", llms.page(views, options))
    yield Output("schema/case-1.json", llms.schema())
    yield Output("schema/gpus-1.json", gpus.schema())
    yield Output("schema/index.md", schemas.page())
    yield from (Output(f"schema/{name}", content) for name, content in schemas.files())
    for name, source in sorted(sold.items()):
        yield Output(f"offers/{name}", offers.page(source, f"docs/offers/{name}", views))
    if sold:
        yield Output("offers/index.md", offers.index(sold))
    if options.site.colours:
        yield Output("assets/brand.css", client.brand_css(options.site))
    yield Output("assets/quantcase/card.png", social.site_card())


def _case(view: CaseView) -> Iterator[Output]:
    """The pages and files of one case."""
    base = f"cases/{view.case.id}"
    yield Output(f"{base}/index.md", case_page.page(view), title=view.case.title)
    yield from _worded(view)
    yield Output(f"{base}/quality/index.md", quality.page(view))
    yield Output(f"{base}/plan/index.md", plan.page(view))
    yield Output(f"{base}/log/index.md", log.page(view))
    yield Output(f"{base}/projection/index.md", projection.page(view))
    for name in cards.variants(view):
        yield Output(f"{base}/cards/{name}/index.md", cards.page(view, name))
        yield Output(f"{base}/cards/{name}/README.md.txt", cards.readme(view, name))
    yield Output(social.uri(view.case.id), social.case_card(view))
    for name, content in samples.files(view.case):
        yield Output(f"{base}/quality/samples/{name}", content)
    saves = save_gpu.found(view)
    document = case_document(view.case, view.points, view.quality, view.quality_verdicts, saves)
    yield Output(f"{base}/case.json", case_page.case_json(document))
    for path, name in data.downloads(view):
        yield Output(f"{base}/data/files/{name}", source=view.case.bundle.folder / path)
