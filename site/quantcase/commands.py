"""What the site adds to the `collect` command."""

from __future__ import annotations

from pathlib import Path

import click

from quantcase.build import generate
from quantcase.pages.view import Options

__all__ = ["site"]


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the pages.")
@click.option(
    "--results", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("results"),
    show_default=True, help="Folder with bundles.",
)  # fmt: skip
def site(out: Path, results: Path) -> None:
    """Write the generated pages as plain Markdown and assets, for another site engine."""
    catalog, outputs = generate(results, Options(), cache=Path(".cache") / "quantcase")
    count = 0
    for output in outputs:
        target = out / output.uri
        target.parent.mkdir(parents=True, exist_ok=True)
        data = output.data()
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        count += 1
    for name, why in catalog.unreadable:
        click.echo(f"left out: {name}: {why}", err=True)
    click.echo(f"{count} files of {len(catalog.cases)} cases written to {out}")
