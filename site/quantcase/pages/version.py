"""The permalink of one version of a bundle: an address that holds until a file behind the figures changes."""

from __future__ import annotations

import re

from quantcase.catalog import unsealed_words
from quantcase.html import Column, badge, table
from quantcase.pages.findings import headline
from quantcase.pages.view import CaseView, render
from quantcase.text import counted, number, text

__all__ = ["digits", "page"]

_DIGITS = 12  # of the manifest's sha256: enough to tell the versions of one bundle apart
_SHA256 = re.compile("[0-9a-f]{64}")


def digits(view: CaseView) -> str | None:
    """What the version is called: its page is `cases/<id>/versions/<digits>/`.

    None where the manifest does not vouch for the figures: a run that is not closed yet, a bundle with errors.
    """
    digest = view.case.bundle.info.manifest_sha256
    return digest[:_DIGITS] if view.case.sound and _SHA256.fullmatch(digest) else None


def page(view: CaseView) -> str:
    """The Markdown of that page: which version it is, what it says, and how to hold a copy of the bundle against it."""
    case, info, manifest = view.case, view.case.bundle.info, view.case.bundle.manifest
    rows = [
        ["sha256 of the manifest", f"<code>{text(info.manifest_sha256)}</code>"],
        ["Bundle", text(case.id)],
        ["Begun", text(manifest.created)],
        ["Evidence", f"{badge(info.grade)} {text(info.weights)} weights, {text(info.status)}"],
        ["Collector", text(info.collector_version)],
        ["Files", counted(len(manifest.resources), "file")],
        ["Bytes", number(sum(r.bytes for r in manifest.resources), 12)],
    ]
    return render(
        "version.md.j2",
        digits=digits(view),
        title=text(case.title),
        banners=view.banners(),
        verdict=view.answer.kind,
        headline=headline(view),
        unsealed=any(unsealed_words(f) for f in case.faults),
        what=table("version", [Column("What"), Column("Value")], rows),
    )
