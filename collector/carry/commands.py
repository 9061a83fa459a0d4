"""`collect pack`, `unpack`, `push` and `pull`. The first two need nothing but the collector."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["pack", "pull", "push", "unpack"]

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_INTERRUPTED = "interrupted: the run was not finished; what is there is sound"


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="FILE.zip or FILE.tar.gz."
)
@click.option("--force", is_flag=True, help="Pack a bundle in which `collect check` finds errors.")
def pack(bundle: Path, out: Path | None, force: bool) -> None:
    """Pack BUNDLE into one file to carry."""
    from collector.bundle import archive

    packed = archive.pack(bundle, out, force=force)
    what = packed.contents
    errors = [f for f in what.faults if f.level == "error"]
    for fault in errors:
        click.echo(f"packed nevertheless: {fault}", err=True)
    if what.status == "interrupted":
        click.echo(f"{what.name}: {_INTERRUPTED}")
    click.echo(f"packed: {packed.file} ({packed.bytes} bytes, {len(what.hashes) + 1} files, read back)")
    click.echo(f"sha256: {packed.sha256}")


@click.command()
@click.argument("file", type=_file)
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for bundles.")
@click.option("--force", is_flag=True, help="Take a bundle whose files are missing, changed or wrong (A203 to A205).")
def unpack(file: Path, out: Path, force: bool) -> None:
    """Unpack FILE, verified, into a folder of bundles."""
    from collector.bundle import archive

    arrived = archive.unpack(file, out, force=force)
    for problem in arrived.forced:
        click.echo(f"taken nevertheless: {problem}", err=True)
    if arrived.status == "interrupted":
        click.echo(f"{arrived.folder.name}: {_INTERRUPTED}")
    word = "with errors" if arrived.forced else "verified"
    click.echo(f"unpacked: {arrived.folder} ({arrived.files} files, {word})")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="BUNDLE... DEST")
def push(places: tuple[str, ...]) -> None:
    """Send bundles to DEST: a folder, sftp:// or s3://."""
    from collector.carry import push as pushing
    from collector.carry import store

    if len(places) < 2:
        raise click.UsageError("Name at least one bundle, then the place: BUNDLE... DEST.")
    where = store.connect(store.address(places[-1]))
    for bundle in places[:-1]:
        done = pushing.push(Path(bundle), where, lambda line: click.echo(f"  {line}"))
        if done.status == "interrupted":
            click.echo(f"{done.name}: {_INTERRUPTED}")
        click.echo(f"pushed: {done.name} ({done.sent} files sent and read back, {done.kept} there already)")


@click.command()
@click.argument("src")
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for bundles.")
def pull(src: str, out: Path) -> None:
    """Fetch the bundle at SRC, or all bundles in it."""
    from collector.carry import pull as pulling
    from collector.carry import store

    where = store.connect(store.address(src))
    for path, name in pulling.found(where):
        done = pulling.pull(where, path, name, out, lambda line: click.echo(f"  {line}"))
        if done.status == "interrupted":
            click.echo(f"{name}: {_INTERRUPTED}")
        click.echo(f"pulled: {done.folder} ({done.fetched} files fetched, {done.kept} here already, verified)")
