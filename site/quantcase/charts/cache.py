"""Drawings kept on disk, by what they were drawn from: a rebuild of a site whose figures are the same draws nothing.

A file is named after the hash of its source and of the drawing program's version, and begins with the hash of its own
content: what was cut off or changed is drawn again. Files are put in place whole, so two builds may share a folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

__all__ = ["ENV", "folder", "kept", "use"]

ENV = "QUANTCASE_CHART_CACHE"
_DEFAULT = Path(".cache") / "quantcase" / "charts"
_given: list[Path | None] = []  # what use() was told last; empty: ask the environment


def use(where: Path | None) -> None:
    """Keep drawings in this folder from now on; None keeps none."""
    _given[:] = [where]


def folder() -> Path | None:
    """Where drawings are kept: the folder given, else QUANTCASE_CHART_CACHE (empty: nowhere), else below here."""
    if _given:
        return _given[0]
    named = os.environ.get(ENV)
    if named is not None:
        return Path(named) if named else None
    return Path.cwd() / _DEFAULT


def kept(source: str, suffix: str, make: Callable[[], str]) -> str:
    """The text that `make` draws from `source`, from the disk when it was drawn before by this version of vl-convert.

    A folder that cannot be written costs time and nothing else: the text is drawn as if there were none.
    """
    where = folder()
    if where is None:
        return make()
    name = hashlib.sha256(f"vl-convert {version('vl-convert-python')}\n{source}".encode()).hexdigest()
    path = where / f"{name}{suffix}"
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found)
    return found


def _read(path: Path) -> str | None:
    """The content of a file that is whole; None for none, and for one that is not what was written."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return body.decode("utf-8") if head.decode("ascii", "replace") == hashlib.sha256(body).hexdigest() else None


def _write(path: Path, text: str) -> None:
    body = text.encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    except OSError:
        return  # read-only, or no room: the next build draws again
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body)
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
