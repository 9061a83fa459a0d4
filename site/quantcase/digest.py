"""What the pages across cases need to know of one case: its figures, not its rows. Kept, so that rows are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

import msgspec
from msgspec import Struct

from collector.bundle.check import Fault
from collector.bundle.read import Bundle, Study
from collector.bundle.schema import CellRow, Manifest, VariantRow
from quantcase.analysis.between_document import CaseDocument
from quantcase.analysis.compare import Comparison
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.memory import Memory
from quantcase.analysis.points import Key, Point
from quantcase.analysis.quality import Quality
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.verdict import Answer, Verdict
from quantcase.catalog import Case, unsealed_words
from quantcase.pages import compare
from quantcase.pages.view import CaseView, Options

__all__ = ["Head", "Views", "document", "head", "pack", "taken", "view"]


class Head(Struct):
    """What the catalog lists of a bundle, whether it could be read or not."""

    title: str = ""
    grade: str = ""
    created: str = ""
    unreadable: str = ""  # why, where it could not be read


class _Digest(Struct):
    """`CaseView` and `Case`, as far as they are worked out from rows. An attribute that is not here reads the rows."""

    manifest: Manifest
    study: Study
    faults: list[Fault]
    cells: list[CellRow]
    variants: list[VariantRow]
    estimates: dict[Key, dict[str, Estimate]]
    points: list[Point]
    comparisons: list[Comparison]
    quality: list[Quality]
    quality_control: Quality | None
    quality_verdicts: dict[str, QualityVerdict]
    memory: list[Memory]
    verdicts: list[Verdict]
    answer: Answer


class _Whole(Struct):
    head: Head
    digest: msgspec.Raw = msgspec.Raw(b"\xc0")
    document: msgspec.Raw = msgspec.Raw(b"\xc0")


_OF_ROWS = ("estimates", "points", "comparisons", "quality", "quality_control", "memory")
_OF_VIEW = (*_OF_ROWS, "quality_verdicts", "verdicts", "answer")  # these ask what `check` says, too


class _KeptBundle(Bundle):
    """A bundle whose small tables are known already."""

    def __init__(self, folder: Path, manifest: Manifest, cells: list[CellRow], variants: list[VariantRow]) -> None:
        super().__init__(folder, manifest)
        self._cells, self._variants = cells, variants

    def cells(self) -> list[CellRow]:
        return self._cells

    def variants(self) -> list[VariantRow]:
        return self._variants


def pack(found: Head, shown: CaseView | None = None) -> bytes:
    """The digest of a case, or of a bundle that is not shown."""
    if shown is None:
        return msgspec.msgpack.encode(_Whole(found))
    case = shown.case
    plain = [msgspec.structs.replace(r, schema=None, description="") for r in case.bundle.manifest.resources]
    digest = _Digest(
        manifest=msgspec.structs.replace(case.bundle.manifest, resources=plain),
        study=case.study,
        faults=case.faults,
        cells=case.cell_rows,
        variants=case.variants,
        **{name: getattr(shown, name) for name in _OF_VIEW},
    )
    encode = msgspec.msgpack.encode
    document = compare.documents([shown])[0]
    return encode(_Whole(found, msgspec.Raw(encode(digest)), msgspec.Raw(encode(document))))


def head(packed: bytes) -> Head:
    """What the catalog lists."""
    return msgspec.msgpack.decode(packed, type=_Whole).head


def view(packed: bytes, folder: Path, options: Options) -> CaseView:
    """The case as its digest has it. Its rows are read only where something asks for them."""
    digest = msgspec.msgpack.decode(msgspec.msgpack.decode(packed, type=_Whole).digest, type=_Digest)
    bundle = _KeptBundle(folder, digest.manifest, digest.cells, digest.variants)
    found = CaseView(Case(bundle, digest.study, digest.faults), options)
    found.__dict__.update({name: getattr(digest, name) for name in _OF_VIEW})  # where cached_property looks first
    return found


def taken(shown: CaseView, packed: bytes) -> bool:
    """Take the figures of a case from a digest of the same rows.

    Returns:
        Whether all of them were: verdicts are not where `check` says something else of the rows now. That words are not
        sealed is told on pages that are made again anyway.
    """
    found = msgspec.msgpack.decode(packed, type=_Whole)
    if found.digest == msgspec.Raw(b"\xc0"):
        return False
    digest = msgspec.msgpack.decode(found.digest, type=_Digest)
    before, now = ([f for f in faults if not unsealed_words(f)] for faults in (digest.faults, shown.case.faults))
    same = before == now
    shown.__dict__.update({name: getattr(digest, name) for name in (_OF_VIEW if same else _OF_ROWS)})
    return same


def document(packed: bytes) -> CaseDocument:
    """What the case publishes for comparisons."""
    return msgspec.msgpack.decode(msgspec.msgpack.decode(packed, type=_Whole).document, type=CaseDocument)


_HELD = 32  # cases at once: the pages across few cases read each of them once, and thousands are never held


class Views(Sequence[CaseView]):
    """Cases in order, each made of its digest when it is asked for; where they are few, they are then held."""

    def __init__(self, made: Sequence[Callable[[], CaseView]]) -> None:
        self._made = [lru_cache(maxsize=1)(make) for make in made] if len(made) <= _HELD else made

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, at: int) -> CaseView: ...
    @overload
    def __getitem__(self, at: slice) -> Views: ...
    def __getitem__(self, at: int | slice) -> CaseView | Views:
        return self._made[at]() if isinstance(at, int) else Views(self._made[at])

    def __iter__(self) -> Iterator[CaseView]:
        return (make() for make in self._made)

    @cached_property
    def cases(self) -> Cases:
        """The same as cases."""
        return Cases(self)


class Cases(Sequence[Case]):
    """The cases of `Views`."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, at: int) -> Case: ...
    @overload
    def __getitem__(self, at: slice) -> Cases: ...
    def __getitem__(self, at: int | slice) -> Case | Cases:
        return self._views[at].case if isinstance(at, int) else Cases(self._views[at])
