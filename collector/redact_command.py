"""The command `collect redact`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["redact"]

_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("bundle", type=_folder)
@click.option("--out", type=_folder, required=True, help="Folder for the copy, which keeps the bundle's name.")
@click.option("--keep-texts", is_flag=True, help="Leave prompts, answers and engines' error messages in.")
@click.option("--logs", is_flag=True, help="Take the engines' logs out, too.")
@click.option("--notes", is_flag=True, help="Take your own words out, too: notes, remarks, predictions.")
@click.option("--host", is_flag=True, help="Take the machine out, too: CPU, memory, kernel, system.")
@click.option(
    "--column", "columns", multiple=True, metavar="TABLE.COLUMN", help="Take a column out; may be given again."
)
@click.option(
    "--salt-file", type=click.Path(dir_okay=False, path_type=Path), help="Keep the salt here; without it nobody has it."
)
def redact(
    bundle: Path,
    out: Path,
    keep_texts: bool,
    logs: bool,
    notes: bool,
    host: bool,
    columns: tuple[str, ...],
    salt_file: Path | None,
) -> None:
    """Copy BUNDLE without its prompts and answers."""
    from collector.bundle.door import warnings
    from collector.bundle.redaction import Wish, redacted_copy
    from collector.errors import UsageFault

    if keep_texts and not (logs or notes or host or columns):
        raise UsageFault("nothing would be taken out", fix="leave out --keep-texts, or say what is to go")
    wish = Wish(texts=not keep_texts, logs=logs, notes=notes, host=host, columns=columns)
    place, said = redacted_copy(bundle, out, wish, salt_file=salt_file)
    click.echo(f"{place}: without {'; '.join(said.taken)}")
    if salt_file is not None:
        click.echo(f"salt: {salt_file} (who has it can try out texts against the marks: keep it to yourself)")
    for line in warnings(place):
        click.echo(f"WARNING {line}")
