"""`collect migrate`: an older format to the newest."""

from __future__ import annotations

from pathlib import Path

import click

from collector.bundle.schema import FORMAT

__all__ = ["migrate"]

_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_folder)
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for bundles.")
@click.option("--gpu", default="", metavar="NAME", help="GPU profile, where the files' names do not say it.")
@click.option("--base-model", default="", metavar="MODEL", help="The model: format 0 does not state it.")
@click.option("--baseline", default="", metavar="V", help="The variant that others are compared with.")
def migrate(folder: Path, out: Path, gpu: str, base_model: str, baseline: str) -> None:
    """Bring FOLDER, of an older format, forward to the newest one; the old folder stays as it is."""
    from collector.bundle import migrate as migrations

    made = migrations.migrate(folder, out, gpu=gpu, base_model=base_model, baseline=baseline)
    if made is None:
        click.echo(f"{folder.name} is of format {FORMAT} already: nothing to do")
    else:
        click.echo(f"migrated: {made}")
        click.echo(f"next: collect check {made}; collect show {made}")
