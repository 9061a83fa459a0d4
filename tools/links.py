"""Every link and asset of a built site leads somewhere in it: `python -m tools.links public`.

Standard library only, nothing is fetched: other hosts' pages are not asked. Prints each fault and exits with 1.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

__all__ = ["faults", "main"]


class _Page(HTMLParser):
    """The ids of a page and what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("id", "name") if tag == "a" else ("id",):
            if value := given.get(name):
                self.ids.add(value)
        rel = given.get("rel") or ""
        for name in ("href", "src"):
            value = given.get(name)
            if value and rel not in ("canonical", "prev", "next"):
                self.links.append(value)


def faults(site: Path, base: str = "/") -> list[str]:
    """What is wrong, a line each. Absolute addresses break when the site moves: only 404.html may hold them, which is
    served at any address, and they must lie below `base`, the path of the site, as in `/sub/`.
    """
    pages: dict[str, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text("utf-8"))
        pages[path.relative_to(site).as_posix()] = page
    each = ((name, link) for name, page in pages.items() for link in dict.fromkeys(page.links))
    return [f"{n}: {link}: {why}" for n, link in each if (why := _fault(site, pages, n, link, base))]


def _fault(site: Path, pages: dict[str, _Page], name: str, link: str, base: str) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    path = unquote(parts.path)
    if path.startswith("/"):
        if name != "404.html":
            return "an absolute address breaks under a sub-path"
        if not path.startswith(base):
            return f"leads out of {base}"
        target = normpath(path[len(base) :] or ".")
    else:
        target = normpath(join(dirname(name), path)) if path else name
    if target.startswith(".."):
        return "leads out of the site"
    if (site / target).is_dir():
        target = normpath(join(target, "index.html"))
    if not (site / target).is_file():
        return "leads nowhere"
    anchor = unquote(parts.fragment)
    # What a script reads from the address is no element: #sample=..., #a=..., #samples:...
    if anchor and target in pages and "=" not in anchor and ":" not in anchor and anchor not in pages[target].ids:
        return "there is no such place on that page"
    return ""


def main(arguments: list[str]) -> int:
    """Check the site named; `--base /sub/` says where it lies. Returns the exit code."""
    if not arguments:
        sys.stderr.write("usage: python -m tools.links SITE [--base /sub/]\n")
        return 2
    base = arguments[arguments.index("--base") + 1] if "--base" in arguments[:-1] else "/"
    found = faults(Path(arguments[0]), base)
    for line in found:
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(f"{len(found)} faults\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
