"""The data page of a case: every file with its hash, every table, what `check` said, and how to do it again."""

from __future__ import annotations

import csv
import io
import re

from collector.bundle.check import RULES, Fault, outcome_of
from collector.bundle.manifest import MANIFEST, list_files
from collector.bundle.schema import TABLES, columns
from collector.bundle.tables import read_text
from quantcase.catalog import Case
from quantcase.html import Column, none, table
from quantcase.pages import figures, imported, origin, version
from quantcase.pages.view import CaseView, render
from quantcase.text import counted, fixed, number, text

__all__ = ["downloads", "page"]

_PREVIEW_ROWS = 12
_PLAIN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
_DATA = (".csv", ".gz", ".json", ".jsonl", ".toml")
_FINDINGS = 100


def downloads(view: CaseView) -> list[tuple[str, str]]:
    """(path in the bundle, name under `files/`) of every file offered: those that are there, of plain names.

    Markdown would be made a page, and a browser would run HTML and SVG as ours: what is no data file gets .txt.
    """
    bundle = view.case.bundle
    there = {f for f in list_files(bundle.folder) if _PLAIN.fullmatch(f)}
    files = [r.path for r in bundle.manifest.resources if r.path in there]
    offered = dict.fromkeys([*files, MANIFEST])
    return [(f, f if f.endswith(_DATA) else f"{f}.txt") for f in offered]


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/data/index.md`."""
    case = view.case
    return render(
        "data.md.j2",
        title=text(case.title),
        trail=view.trail("data"),
        banners=view.banners(),
        check=_check(view),
        version=_version(view),
        files=_files(view),
        tables=[(text(t.path), text(t.holds), _preview(view, name)) for name, t in TABLES.items()],
        environment=_environment(view),
        telemetry=figures.telemetry(view),
        imported=imported.section(case),
        reproduce=origin.again(case),
    )


def _check(view: CaseView) -> str:
    """What the rule book says of the bundle: in a sentence, then a row a finding with the id of its rule."""
    said, faults = outcome_of(view.case.bundle), view.case.faults
    silent = len(RULES) - len(said.applied)
    counted = (
        f"{len(said.passed)} of the {len(said.applied)} rules that apply to it passed; {silent} are about something "
        "that this bundle does not hold."
    )
    whole = "<code>collect check</code> found the bundle whole, unchanged, and true to its own definitions."
    if not view.case.sound:
        head = "The bundle has errors: its figures are not to be believed, and no verdict is given."
    elif not faults:
        head = whole
    elif view.case.bundle.info.status == "interrupted":
        head = f"The run is not finished. As far as it went, {whole}"
    else:
        head = f"{whole} Worth knowing before a figure is quoted:"
    lines = [f"<p>{head}</p>"]
    if faults:
        heads = [Column("Rule"), Column("Level"), Column("Where"), Column("What"), Column("What to do")]
        rows = [_finding(fault, view.case) for fault in faults[:_FINDINGS]]
        caption = f"The first {fixed(len(rows))} of {fixed(len(faults))} findings." if len(rows) < len(faults) else ""
        lines.append(table("check", heads, rows, caption))
    return "\n".join([*lines, f"<p>{counted}</p>"])


def _finding(fault: Fault, case: Case) -> list[str]:
    """One finding; where it names the bundle's folder, not by the path on the machine that builds the site."""
    home = f"results/{case.id}"
    return [
        text(fault.rule),
        f"<strong>{text(fault.level)}</strong>" if fault.level == "error" else text(fault.level),
        *(text(words.replace(str(case.bundle.folder), home)) for words in (fault.where, fault.problem, fault.fix)),
    ]


def _version(view: CaseView) -> str:
    name = version.digits(view)
    if name is None:
        return "This version of the bundle has no permalink: its manifest does not vouch for the figures."
    return (
        f"Permalink of this version: [{name}](../versions/{name}/index.md). It is gone when a file of the bundle "
        "changes; the case stays."
    )


def _files(view: CaseView) -> str:
    names = dict(downloads(view))
    rows = [
        [
            f'<a href="files/{names[r.path]}" download>{text(r.path)}</a>' if r.path in names else text(r.path),
            number(r.bytes, 9),
            f"<code>{text(r.hash.removeprefix('sha256:'))}</code>",
        ]
        for r in view.case.bundle.manifest.resources
    ]
    if not rows:
        return none("The run is not closed yet, so there is no list of files with hashes.")
    return table("files", [Column("File"), Column("Bytes", True), Column("sha256")], rows)


def _preview(view: CaseView, name: str) -> str:
    """The first rows of a table as they stand in the file, empty columns left out."""
    path = view.case.bundle.table_path(name)
    if path is None:
        return none("This table is missing.")
    rows = list(csv.reader(io.StringIO(read_text(path)[0])))
    if len(rows) < 2:
        return none("This table has no rows.")
    head, shown = rows[0], rows[1 : 1 + _PREVIEW_ROWS]
    kinds = {c.name: c for c in columns(TABLES[name].row)}
    used = [i for i, column in enumerate(head) if any(i < len(r) and r[i] for r in shown)]
    titles = []
    for i in used:
        column = kinds.get(head[i])
        titles.append(Column(text(head[i]), column is not None and column.kind != "string"))
    body = [[text(r[i][:160]) if i < len(r) else "" for i in used] for r in shown]
    count = len(rows) - 1
    caption = (
        f"The first {fixed(len(shown))} of {fixed(count)} rows." if len(shown) < count else f"{counted(count, 'row')}."
    )
    return table(f"data-{name}", titles, body, caption)


def _environment(view: CaseView) -> str:
    rows = []
    for session in view.case.bundle.environment().sessions:
        for group in ("host", "software"):
            for key, value in getattr(session, group).items():
                rows.append([str(session.session), text(group), text(key), text(value)])
        for gpu in session.gpus:
            rows += [[str(session.session), "gpu", text(key), text(value)] for key, value in gpu.items()]
    if not rows:
        return none("No environment was recorded.")
    return table("environment", [Column("Session"), Column("Part"), Column("What"), Column("Value")], rows)
