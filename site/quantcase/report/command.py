"""`collect report`: one bundle as a PDF to hand over."""

from __future__ import annotations

from pathlib import Path

import click

from collector.bundle.read import QuantcaseError
from quantcase.pages.view import CaseView, Options
from quantcase.report.document import html_document, open_case
from quantcase.report.pdf import pdf

__all__ = ["report"]


@click.command()
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The PDF to write.")
@click.option("--client", default="", metavar="NAME", help="For whom: stands on the title page and in the page heads.")
@click.option("--force", is_flag=True, help="Write over FILE when it is there.")
def report(bundle: Path, out: Path, client: str, force: bool) -> None:
    """Write one case as a PDF report."""
    if out.resolve().is_relative_to(bundle.resolve()):
        raise QuantcaseError(
            f"{out} lies inside the bundle", fix="write it elsewhere: a bundle keeps only its own files"
        )
    if out.exists() and not force:
        raise QuantcaseError(f"{out} is there already", fix="give another name, or --force to write over it")
    made = pdf(html_document(CaseView(open_case(bundle if bundle.name else bundle.resolve()), Options(client=client))))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first: a report that is cut off by a full disk leaves no half of one.
    part = out.with_name(out.name + ".tmp")
    part.write_bytes(made)
    part.replace(out)
    click.echo(f"{out}: {len(made) / 1000:,.0f} kB")
