"""What the site adds to the `collect` command."""

from __future__ import annotations

from pathlib import Path

import click

from quantcase.build import generate
from quantcase.pages.view import Options
from quantcase.remote import Remote, is_url

__all__ = ["site"]


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the pages.")
@click.option("--results", default="results", show_default=True, help="Folder with bundles, or an fsspec URL of one.")
def site(out: Path, results: str) -> None:
    """Write the generated pages as plain Markdown and assets, for another site engine."""
    cache, folder, refused = Path(".cache") / "quantcase", Path(results), list[tuple[str, str]]()
    if is_url(results):
        remote = Remote(results, cache)
        folder, refused = remote.folder, remote.fetch(say=lambda line: click.echo(f"  {line}")).refused
    elif not folder.is_dir():
        raise click.BadParameter(f"Directory {results!r} does not exist.", param_hint="'--results'")
    catalog, outputs = generate(folder, Options(), cache=cache, refused=refused)
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
