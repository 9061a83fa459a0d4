"""`collect report`: one bundle as a PDF to hand over."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from collector.bundle.read import QuantcaseError
from quantcase import client as sites
from quantcase import redaction, remote
from quantcase.pages.view import Options
from quantcase.report.document import html_document, open_case
from quantcase.report.pdf import pdf
from quantcase.signs import written_in

__all__ = ["report"]


@click.command()
@click.argument("bundle")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The PDF to write.")
@click.option("--client", default="", metavar="NAME", help="For whom: stands on the title page and in the page heads.")
@click.option(
    "--site", "config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="MKDOCS.YML",
    help="A client's site: its name, prices, currency, number signs, and what it takes out.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over FILE when it is there.")
def report(bundle: str, out: Path, client: str, config: Path | None, force: bool) -> None:
    """Write one case as a PDF report. BUNDLE is a folder, or an fsspec URL of one."""
    folder = remote.bundle(bundle, Path(".cache") / "quantcase") if remote.is_url(bundle) else Path(bundle)
    if out.resolve().is_relative_to(folder.resolve()):
        raise QuantcaseError(
            f"{out} lies inside the bundle", fix="write it elsewhere: a bundle keeps only its own files"
        )
    if out.exists() and not force:
        raise QuantcaseError(f"{out} is there already", fix="give another name, or --force to write over it")
    site = sites.from_config(config) if config is not None else sites.Settings()
    made = _made(
        folder if folder.name else folder.resolve(), msgspec.structs.replace(site, client=client or site.client)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first: a report that is cut off by a full disk leaves no half of one.
    part = out.with_name(out.name + ".tmp")
    part.write_bytes(made)
    part.replace(out)
    click.echo(f"{out}: {len(made) / 1000:,.0f} kB")


def _made(bundle: Path, site: sites.Settings) -> bytes:
    """The PDF of a bundle, or of its copy without what a site takes out."""
    with tempfile.TemporaryDirectory(prefix="quantcase-report-") as home, written_in(site.numbers):
        case = open_case(bundle)  # says what is wrong with the bundle itself
        if site.redact:
            case = open_case(redaction.redacted(bundle, site.redact, Path(home)))
        return pdf(html_document(redaction.case_view(case, Options.of(site))))
