"""A client's own files over the project's docs, and the pages that this client does not get.

Nothing here knows MkDocs: paths are those of the site's sources, addresses count from the site's root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from posixpath import join, normpath

from collector.bundle.read import QuantcaseError

__all__ = ["files", "offers", "unlink_html", "unlink_markdown"]

_MD_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)(?:\{[^{}]*\})?")
_A = re.compile(r'<a\b[^>]*?\bhref="([^"]*)"[^>]*>(.*?)</a>', re.S)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|/|#")


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path in the site's sources, file) of the client's own files, which stand in for those of docs/.

    Raises:
        QuantcaseError: the folder is not there, or holds a link.
    """
    if not folder.is_dir():
        raise QuantcaseError(f"no overlay folder at {folder}", fix="make it, or leave `overlay` out")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise QuantcaseError(
                f"{path.relative_to(folder)} in the overlay is a link", fix="put the file itself there"
            )
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix(), path


def offers(uri: str) -> str | None:
    """The name of the offer that a page of the sources is, `health-check.md`; None for any other page."""
    name = uri.removeprefix("offers/")
    return None if name == uri or name == "index.md" or "/" in name or not name.endswith(".md") else name


def unlink_markdown(markdown: str, uri: str, gone: Callable[[str], bool]) -> str:
    """Markdown links to pages that this site leaves out become their words. `uri` is the page's path in the sources."""

    def plain(match: re.Match[str]) -> str:
        target = match[2].partition("#")[0]
        if not target or _SCHEME.match(target):
            return match[0]
        return match[1] if gone(normpath(join(uri.rpartition("/")[0], target))) else match[0]

    return _MD_LINK.sub(plain, markdown)


def unlink_html(html: str, url: str, gone: Callable[[str], bool]) -> str:
    """The same in HTML: `url` is the page's address from the site's root, `gone` asked with the target's address."""

    def plain(match: re.Match[str]) -> str:
        target = match[1].partition("#")[0]
        if not target or _SCHEME.match(target):
            return match[0]
        folder = target.endswith("/") or target in (".", "..")
        found = normpath(join(url.rpartition("/")[0], target)) + ("/" if folder else "")
        return match[2] if gone(found) else match[0]

    return _A.sub(plain, html)
