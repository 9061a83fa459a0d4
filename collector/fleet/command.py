"""`collect fleet` and `collect fleet status`. Ray is loaded when a fleet is measured, and not before."""

from __future__ import annotations

import datetime
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collector.fleet.index import Index
    from collector.study import Study

__all__ = ["fleet"]

_folder = click.Path(file_okay=False, path_type=Path)


class _Group(click.Group):
    """`collect fleet FLEET.toml` measures, `collect fleet status DIR` looks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def fleet() -> None:
    """Measure studies on many boxes, on a Ray cluster: `collect fleet FLEET.toml`."""


@fleet.command("run", short_help="Measure a fleet (the word `run` may be left out).")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="FLEET.toml")
@click.option("--ray", "address", metavar="ADDRESS", help="The cluster (`auto`: this node's); a local one without.")
@click.option("--out", type=_folder, default=Path("results"), show_default=True, help="Folder for the fleet's folder.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Stop cleanly before all boxes cost more.")
@click.option("--until", "until_", metavar="TIME", help="Stop cleanly by then: 2h, 90m, 2026-11-21T18:00.")
@click.option("--resume", type=_folder, metavar="FLEETDIR", help="Go on with a fleet.")
def run(
    file: Path | None, address: str | None, out: Path, max_usd: float | None, until_: str | None, resume: Path | None
) -> None:
    """Measure what FLEET.toml asks for, a bundle per box, and write an index."""
    from collector.errors import UsageFault
    from collector.fleet import limits
    from collector.fleet import start as starts

    if (file is None) == (resume is None):
        raise UsageFault("name a FLEET.toml, or --resume FLEETDIR", fix="see docs/guide/fleet.md")
    now = datetime.datetime.now(datetime.UTC)
    by = limits.until(until_, now) if until_ else None
    if resume is not None:
        folder, (index, studies) = resume, starts.gone_on_with(resume)
    else:
        assert file is not None  # noqa: S101 - checked above
        folder, index, studies = starts.begun(file, out, secrets.token_hex(4), now)
    starts.check_prices(index, max_usd)
    index.max_usd, index.until = max_usd, by.isoformat(timespec="seconds") if by else ""
    _drive(folder, index, studies, address, limits.Limits(max_usd=max_usd, by=by), resumed=resume is not None)
    _report(folder, index)


def _drive(
    folder: Path, index: Index, studies: dict[int, Study], address: str | None, limits: Any, *, resumed: bool
) -> None:
    from rich.console import Console

    from collector.fleet import start as starts
    from collector.fleet.cluster import Cluster
    from collector.fleet.driver import Driver
    from collector.fleet.view import View

    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    with Cluster(address, index.folder) as cluster:
        if not resumed:
            starts.written(folder, index, studies)
        before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            with View(Console()) as view:
                driver = Driver(cluster, index, studies, folder, limits, view, lambda: bool(asked))
                if resumed:
                    driver.fetch()
                driver.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _report(folder: Path, index: Index) -> None:
    from rich.console import Console

    from collector.errors import QuantcaseError
    from collector.fleet.start import unfinished
    from collector.fleet.view import overview

    Console().print(overview(index))
    if left := unfinished(index):
        raise QuantcaseError(
            f"not finished: {len(left)} server starts are missing", fix=f"go on with: collect fleet --resume {folder}"
        )
    click.echo(f"fleet complete: {folder}")


@fleet.command()
@click.argument("folder", type=_folder, metavar="DIR")
def status(folder: Path) -> None:
    """All boxes of a fleet in one table, now or afterwards; needs no Ray."""
    from rich.console import Console

    from collector.fleet import index as indexes
    from collector.fleet.view import overview

    Console().print(overview(indexes.read(folder)))
