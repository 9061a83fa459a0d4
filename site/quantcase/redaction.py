"""A case for a client's site without what the client keeps to itself: prompts and answers, logs, the author's notes.

The pages are made from a copy of the bundle that does not hold these words, so that no page, download or table can show
them, whoever wrote it. There is one way to take texts out, the collector's (`collect redact`); what is added here is
that figures of the answers come from the whole bundle (they are worked out first, and handed on), that copies are kept
by content, and that the same bundle gives the same copy.

For that the salt of the marks is the hash of every file of the bundle under a constant: who has it all has the words,
too, and who lacks a byte has no salt. It is written nowhere that outlives the copying.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import msgspec

from collector.bundle import manifest as manifests
from collector.bundle import redaction as collector
from collector.bundle.check import check_bundle
from collector.bundle.read import Bundle, QuantcaseError, open_bundle
from quantcase.analysis.quality import Quality, control, qualities
from quantcase.catalog import Case
from quantcase.pages.view import CaseView, Options

__all__ = ["HOME", "case_view", "copies", "redacted"]

HOME = Path(".cache") / "quantcase" / "redacted"
_FIGURES = "quality.msgpack"  # beside a copy: what was worked out of the answers before they were taken out


class _Figures(msgspec.Struct):
    quality: list[Quality]
    quality_control: Quality | None


def copies(folders: Sequence[Path], kinds: Sequence[str], home: Path = HOME) -> list[Path]:
    """The bundles that pages are made of: copies without the words of these kinds, or the bundles themselves.

    Raises:
        QuantcaseError: a bundle has faults or is still open, so that its copy would hide them.
    """
    return [redacted(f, kinds, home) for f in folders] if kinds else list(folders)


def case_view(case: Case, options: Options) -> CaseView:
    """The view of a case; of a redacted copy with the figures of its answers as they were before."""
    shown = CaseView(case, options)
    path = case.bundle.folder.parent / _FIGURES
    if options.site.redact and path.is_file():
        found = msgspec.msgpack.decode(path.read_bytes(), type=_Figures)
        # As functools.cached_property keeps them: a value in the instance stands before the property.
        shown.__dict__.update({"quality": found.quality, "quality_control": found.quality_control})
    return shown


def redacted(folder: Path, kinds: Sequence[str], home: Path = HOME) -> Path:
    """A copy of a closed bundle below `home` without the words of these kinds, its hashes renewed; kept by content.

    Args:
        folder: the bundle.
        kinds: of `client.KINDS`.
        home: a folder for copies; it holds nothing that was taken out.

    Raises:
        QuantcaseError: the bundle has faults or is still open.
    """
    bundle = open_bundle(folder)
    wish = _wish(bundle, kinds)
    content = _content(bundle)
    place = home / _name(content, wish) / folder.name
    if place.is_dir():
        return place
    case = Case(bundle, bundle.study(), check_bundle(bundle))
    faulty = any(f.level == "error" for f in case.faults)
    if faulty or not bundle.manifest.resources or bundle.info.status != "complete":
        raise QuantcaseError(
            f"{folder.name} cannot be redacted: it has faults or its run is not finished",
            fix="mend it (`collect check`), or leave it out with `cases:`",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".draft-") as draft:
        made = _copy(folder, Path(draft), wish, content)
        figures = _Figures([_silent(q) for q in qualities(case)], _silent(control(case)))
        manifests.write_atomic(place.parent / _FIGURES, msgspec.msgpack.encode(figures))
        try:
            made.replace(place)
        except OSError:  # another build put it there meanwhile
            if not place.is_dir():
                raise
    return place


def _wish(bundle: Bundle, kinds: Sequence[str]) -> collector.Wish:
    """What is to be taken out; what an earlier copy lacks stays out, and is said again."""
    before = collector.read_redacted(bundle.folder)
    texts = "texts" in kinds or (before is not None and before.texts)
    # An engine that fails may quote what it was sent; its log's lines go with the logs.
    quoted = ("variants.error",) if texts and "logs" not in kinds else ()
    columns = dict.fromkeys([*(before.columns if before is not None else []), *quoted])
    return collector.Wish(texts=texts, logs="logs" in kinds, notes="notes" in kinds, columns=tuple(columns))


def _content(bundle: Bundle) -> bytes:
    """The hash of every file as it is now."""
    digest = hashlib.sha256()
    for path in [*manifests.list_files(bundle.folder), manifests.MANIFEST]:
        digest.update(f"{path} {manifests.file_sha256(bundle.folder / path)}".encode())
    return digest.digest()


def _name(content: bytes, wish: collector.Wish) -> str:
    """By the bundle, what is taken out, and the code that decides it."""
    code = b"".join(Path(str(f)).read_bytes() for f in (__file__, collector.__file__))
    return hashlib.sha256(code + msgspec.json.encode(wish) + content).hexdigest()[:24]


def _copy(folder: Path, draft: Path, wish: collector.Wish, content: bytes) -> Path:
    """The collector's copy below `draft`, with marks under the bundle's own salt."""
    salt = hashlib.sha256(b"quantcase: marks of a client's site\n" + content).hexdigest()
    handle, name = tempfile.mkstemp(prefix="quantcase-salt-")  # not below `draft`, which lies in a cache
    try:
        with os.fdopen(handle, "w") as file:
            file.write(salt)
        made, _ = collector.redacted_copy(folder, draft, wish, salt_file=Path(name))
    finally:
        Path(name).unlink(missing_ok=True)
    return made


@overload
def _silent(q: Quality) -> Quality: ...
@overload
def _silent(q: None) -> None: ...
def _silent(q: Quality | None) -> Quality | None:
    """Without the one field of a result that quotes an engine."""
    return None if q is None else dataclasses.replace(q, unscored=collector.TAKEN_OUT if q.unscored else "")
