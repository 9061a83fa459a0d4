"""What other tools said of a case: failed requests first, then every figure with its tool and its definition."""

from __future__ import annotations

from collector.bundle.imported import (
    ImportedDocument,
    ImportedRow,
    ImportedSource,
    PointCounts,
    bad_points,
    read_document,
    read_rows,
)
from quantcase.catalog import Case
from quantcase.html import Column, banner, none, table
from quantcase.text import load_words, number, text

__all__ = ["banners", "section"]

_MOST_BANNERS = 4
_MOST_VALUES = 8


def banners(case: Case) -> list[str]:
    """What must be known first, as safe HTML: load points where requests failed, worst first; runs without requests."""
    document = read_document(case.bundle.folder)
    bad = bad_points(document)
    lines = [banner("faulty", _failed(p)) for p in bad[:_MOST_BANNERS]]
    if more := bad[_MOST_BANNERS:]:
        lines.append(
            banner("faulty", f"Requests failed at {number(len(more))} further load points: see the data page.")
        )
    points = document.points if document else []
    if bare := [p for p in points if not p.rows]:
        words = (
            f"{number(len(bare))} of {number(len(points))} imported runs list no requests: no figure of ours is made."
        )
        lines.append(banner("imported", f"{words} The tool's own are on the data page, and nothing is compared."))
    return lines


def _failed(p: PointCounts) -> str:
    where = f"{text(p.variant)}, {text(p.workload)}, {load_words(p.load)}"
    return (
        f"<strong>{number(p.failed)} of {number(p.requests)} requests failed</strong> ({where}). "
        f"Whether its figures hold the failed ones stands in their definitions; they do not describe the server."
    )


def section(case: Case) -> str:
    """The part of the data page about imported figures, as HTML; empty for a bundle that was not imported."""
    document = read_document(case.bundle.folder)
    if document is None:
        return ""
    parts = ["<h3>Files that were read</h3>", _sources(document), "<h3>Requests of each run</h3>", _points(document)]
    parts += ["<h3>Figures as the tool states them</h3>", _figures(case)]
    for source in document.sources:
        parts.append(_words(source))
    return "\n".join(parts)


def _sources(document: ImportedDocument) -> str:
    rows = [
        [
            text(", ".join(s.variants)),
            text(s.tool),
            text(s.tool_version) if s.tool_version else "not stated",
            text(f.name),
            number(f.bytes),
            f"<code>{text(f.sha256)}</code>",
        ]
        for s in document.sources
        for f in s.files
    ]
    if not rows:
        return none("No file is recorded.")
    columns = [Column("Variant"), Column("Tool"), Column("Version"), Column("File"), Column("Bytes", True)]
    return table("imported-files", [*columns, Column("sha256")], rows)


def _points(document: ImportedDocument) -> str:
    rows = [
        [
            text(p.variant),
            text(p.workload),
            load_words(p.load),
            number(p.repeat),
            number(p.requests),
            number(p.ok),
            number(p.failed),
            text("; ".join(f"{n} × {words}" for words, n in p.messages.items())) or "–",
            "ours, from its requests" if p.rows else "the tool's own only",
        ]
        for p in document.points
    ]
    if not rows:
        return none("The files hold no run of requests.")
    names = ["Variant", "Workload", "Load", "Run", "Requests", "Ended well", "Failed", "What went wrong", "Figures"]
    columns = [Column(n, n in ("Run", "Requests", "Ended well", "Failed")) for n in names]
    return table("imported-points", columns, rows)


def _figures(case: Case) -> str:
    """One row a metric of a run, with all that the tool states of it."""
    grouped: dict[tuple[str, ...], list[ImportedRow]] = {}
    for r in read_rows(case.bundle.folder):
        key = (r.variant, r.workload, r.load, f"{r.repeat}", r.metric, r.unit, r.definition, r.tool)
        grouped.setdefault(key, []).append(r)
    if not grouped:
        return none("The tool states no figures of its own.")
    rows = []
    for (variant, workload, load, repeat, metric, unit, definition, tool), mine in grouped.items():
        counts = dict.fromkeys(number(r.n) for r in mine)
        rows.append(
            [
                text(variant),
                text(workload),
                load_words(load),
                text(repeat),
                f"{text(metric)}<br><small>{text(definition)}</small>",
                _values(mine),
                text(unit),
                ", ".join(counts),
                text(tool),
            ]
        )
    figures = ("Run", "n")
    names = ["Variant", "Workload", "Load", "Run", "Metric and definition", "Stated", "Unit", "n", "Tool"]
    caption = (
        "None of these is compared with a figure of ours: the same name means different things in different tools."
    )
    return table("imported-figures", [Column(n, n in figures) for n in names], rows, caption)


def _values(rows: list[ImportedRow]) -> str:
    """The statistics of one metric, at most those of eight samples."""
    shown = [f"{text(r.statistic)}&nbsp;{number(r.value, 4)}" for r in rows[:_MOST_VALUES]]
    if more := rows[_MOST_VALUES:]:
        shown.append(f"{number(len(more))} more in imported&#46;csv")
    return "<br>".join(shown)


def _words(source: ImportedSource) -> str:
    """What the files do not say, what was done, and how the tool came to the columns that are ours."""
    title = f"{text(source.tool)}: {text(', '.join(source.variants))}"
    parts = [f"<h3>{title}</h3>"]
    for heading, sentences in (("What the files do not say", source.missing), ("What was done", source.notes)):
        if sentences:
            items = "".join(f"<li>{text(s)}</li>" for s in sentences)
            parts.append(f"<p>{heading}:</p><ul>{items}</ul>")
    ours = {k: v for k, v in source.definitions.items() if "." not in k}
    if ours:
        rows = [[f"<code>{text(k)}</code>", text(v)] for k, v in ours.items()]
        name = f"imported-columns-{text(source.files[0].sha256[:8])}" if source.files else "imported-columns"
        parts.append(table(name, [Column("Column of ours"), Column("What the tool measured")], rows))
    return "\n".join(parts)
