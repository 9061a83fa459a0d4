"""`collect handover`: a client's site as one ZIP file that opens from a disk, without a server and without a network.

The site is built as usual and then made fit for file addresses: links name index.html, ES modules become plain
scripts (browsers load no modules from a disk), JSON that a page asks for becomes a script, and the search gets its
index in one. The same site gives the same bytes.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import quote, unquote

import click

from collector.bundle.read import QuantcaseError

__all__ = ["archive", "bundled", "handover", "make_offline"]

_EPOCH = "315532800"  # 1980-01-01, the first day that a ZIP knows: dates in the site are the same in every build
_STAMP = (1980, 1, 1, 0, 0, 0)
_HREF = re.compile(r'(<a\b[^>]*?\bhref=)(?:"([^"]*)"|([^\s">]+))')
_ABROAD = re.compile(
    r'<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc="?(?:https?:)?//|<link\b(?![^>]*\brel="?(?:canonical|prev|next|'
    r'alternate))[^>]*?\bhref="?(?:https?:)?//', re.I,
)  # fmt: skip
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
# What only a server's pages need: a policy whose 'self' is no disk, modules ahead of time.
_ONLINE = re.compile(r"<!--online-->.*?<!--/online-->", re.S)
_MODULE = re.compile(r'<script type="?module"? src="?([^">\s]+)"?></script>')
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";[ \t]*$', re.M)
_EXPORT = re.compile(r"^export ((?:async )?function\*?|const|let|class) (\w+)", re.M)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.M)
_SCRIPTS = ("iframe-worker.js", "offline.js")
_PLACE = "assets/quantcase"


@click.command()
@click.argument("client")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The ZIP to write.")
@click.option(
    "--project", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(),
    help="Folder with mkdocs.yml; the present one by default.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over FILE when it is there.")
def handover(client: str, out: Path, project: Path, force: bool) -> None:
    """Build the site of CLIENT as one ZIP file that opens without a server."""
    config = project / "clients" / client / "mkdocs.yml"
    if re.fullmatch(r"[a-z0-9-]+", client) is None or not config.is_file():
        known = ", ".join(sorted(p.parent.name for p in (project / "clients").glob("*/mkdocs.yml")))
        raise QuantcaseError(
            f"no client named {client[:60]}", fix=f"clients: {known or 'none yet, see `collect new-client`'}"
        )
    if out.exists() and not force:
        raise QuantcaseError(f"{out} is there already", fix="give another name, or --force to write over it")
    with tempfile.TemporaryDirectory(prefix="quantcase-") as work:
        site = Path(work) / "site"
        _build(config, site)
        count = make_offline(site)
        made = archive(site, client)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first: a file that is cut off by a full disk is no half of a site.
    part = out.with_name(out.name + ".tmp")
    part.write_bytes(made)
    part.replace(out)
    click.echo(f"{out}: {count} pages, {len(made) / 1e6:,.1f} MB; unpack it and open {client}/index.html")


def _build(config: Path, site: Path) -> None:
    """The site by MkDocs, as a process of its own: only plugin.py knows MkDocs."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", str(config), "-d", str(site)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise QuantcaseError(
            f"the site could not be built: {said[-1].strip()[:300] if said else 'mkdocs said nothing'}",
            fix=f"try `mkdocs build -f {config.as_posix()}`",
        )


def make_offline(site: Path) -> int:
    """Make a built site fit for file addresses, in place; returns its number of pages.

    Raises:
        QuantcaseError: a page loads something from another host, a link leads nowhere, or a module cannot be joined.
    """
    for name in ("404.html", "sitemap.xml", "sitemap.xml.gz", "search/search_index.js"):
        (site / name).unlink(missing_ok=True)
    for name in _SCRIPTS:
        target = site / _PLACE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(resources.files("quantcase.offline").joinpath(name).read_bytes())
    _search(site)
    _data(site)
    pages = sorted(site.rglob("*.html"))
    names = {p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file()}
    joined: set[str] = set()
    for path in pages:
        where = path.relative_to(site).as_posix()
        path.write_text(_page(path.read_text("utf-8"), where, names, joined), "utf-8")
    for name in sorted(joined):
        source = site / name
        source.with_suffix(".plain.js").write_text(bundled(source), "utf-8")
    return len(pages)


def _page(source: str, where: str, names: set[str], joined: set[str]) -> str:
    """One page with links to files and plain scripts."""
    source = _ONLINE.sub("", source)
    if found := _ABROAD.search(source):
        raise QuantcaseError(f"{where} asks another host: {found[0][-80:]}", fix="keep the file in the project's docs/")
    here = dirname(where)

    def file(match: re.Match[str]) -> str:
        quoted = match[2] is not None
        address = match[2] if quoted else match[3]
        return f'{match[1]}"{_file(address, where, names)}"'

    def plain(match: re.Match[str]) -> str:
        joined.add(normpath(join(here, match[1])))
        return f'<script defer src="{match[1].removesuffix(".js")}.plain.js"></script>'

    up = "../" * where.count("/")
    head = "".join(f'<script src="{up}{_PLACE}/{name}"></script>' for name in _SCRIPTS)
    # The shim of workers needs a body to stand in only when a worker is asked for; both may come first.
    made = _MODULE.sub(plain, _HREF.sub(file, source))
    return made.replace("</head>", f"{head}</head>", 1)


def _file(address: str, where: str, names: set[str]) -> str:
    """A relative address that names a file; others as they are."""
    plain = html.unescape(address)
    if not plain or plain.startswith("#") or _SCHEME.match(plain):
        return address
    path, mark = re.split(r"(?=[?#])", plain, maxsplit=1) if re.search(r"[?#]", plain) else (plain, "")
    target = normpath(join(dirname(where), unquote(path)))
    if path.startswith("/"):
        raise QuantcaseError(f"{where}: {plain[:80]} is an absolute address", fix="write it relative to the page")
    if target in names:
        return address
    index = normpath(join(target, "index.html"))
    if index not in names:
        raise QuantcaseError(f"{where}: the link {plain[:80]} leads nowhere", fix="mend it, or see `leave_out`")
    folder = path if path.endswith("/") else f"{path}/"
    return html.escape(f"{folder}index.html{mark}")


def _search(site: Path) -> None:
    """The search index as a script; its locations name files."""
    path = site / "search" / "search_index.json"
    if not path.is_file():
        return
    index = json.loads(path.read_text("utf-8"))
    for entry in index["docs"]:
        page, mark, rest = entry["location"].partition("#")
        if page == "" or page.endswith("/"):
            entry["location"] = f"{page}index.html{mark}{rest}"
    path.with_suffix(".js").write_text(f"var __index = {json.dumps(index)}", "utf-8")
    path.unlink()


def _data(site: Path) -> None:
    """JSON that scripts ask for, as scripts that hand it over. What is only downloaded stays as it is."""
    for path in sorted(site.glob("cases/*/quality/samples/*.json")):
        name = quote(path.relative_to(site).as_posix())
        value = json.dumps(json.loads(path.read_text("utf-8")))
        path.with_suffix(".json.js").write_text(f"quantcaseFiles[{json.dumps(name)}] = {value};\n", "utf-8")
        path.unlink()


def bundled(source: Path) -> str:
    """An ES module of ours with those that it imports, as one plain script.

    Only the forms that our scripts use are known: named imports of a file beside it, and exported declarations.

    Raises:
        QuantcaseError: another form.
    """
    done: dict[str, str] = {}
    parts: list[str] = []

    def join_in(path: Path) -> str:
        if path.name not in done:
            done[path.name] = ""  # a circle would come back here, with nothing to give
            body = _joined(path, join_in)
            done[path.name] = f"m{len(parts)}"
            parts.append(f"const {done[path.name]} = {body};")
        return done[path.name]

    join_in(source)
    return '(function () {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


def _joined(path: Path, join_in: Callable[[Path], str]) -> str:
    """A module as a function's value: an object of what it exports."""

    def imported(match: re.Match[str]) -> str:
        wanted = ", ".join(w.strip().replace(" as ", ": ") for w in match[1].split(",") if w.strip())
        return f"const {{ {wanted} }} = {join_in(path.with_name(match[2]))};"

    source = path.read_text("utf-8")
    names = [m[2] for m in _EXPORT.finditer(source)]
    body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(imported, source))
    if left := _LEFT.search(body):
        raise QuantcaseError(
            f"{path.name}: `{left[0][:60]}` cannot be joined into one script", fix='use import { a } from "./b.js";'
        )
    return f"(() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})()"


def archive(site: Path, name: str) -> bytes:
    """A folder as a ZIP under one folder `name`: the same files give the same bytes."""
    with tempfile.TemporaryFile() as made:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for path in sorted(
                (p for p in site.rglob("*") if p.is_file()), key=lambda p: p.relative_to(site).as_posix()
            ):
                info = zipfile.ZipInfo(f"{name}/{path.relative_to(site).as_posix()}", _STAMP)
                info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
                packed.writestr(info, path.read_bytes())
        made.seek(0)
        return made.read()
