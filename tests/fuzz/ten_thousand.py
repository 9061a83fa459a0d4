"""10,000 damaged bundles and streams: no crash without a one-line error, no hang, no file outside the target folder.

    python -m tests.fuzz.ten_thousand --bundles 5000 --streams 5000 --seed 1

Every case follows from its number and the seed, so `--only NUMBER` does one again, alone. Three kinds:

    stream   a reply, read by the client's parser in several cuts
    read     a bundle, held against the rule book (`collect check`) and read as the site reads it, every table of it
    pages    a bundle, read so, and its whole site written into a folder: every `--pages-every`-th number

A whole site takes a hundred times as long as a reading, and most damage is met by the reader. So pages are a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from pathlib import Path, PurePosixPath

import altair
import click

from collector.bundle.check import outcome
from collector.bundle.check_view import found_json, found_text
from collector.errors import QuantcaseError
from quantcase import catalog
from quantcase.build import generate
from quantcase.charts import cache
from quantcase.pages.view import Options
from tests.fuzz.damage import MARKERS, damage_bundle
from tests.fuzz.guard import Broken, Hang, one_line, time_limit, tree
from tests.fuzz.small import seal, small_bundles
from tests.fuzz.targets import stream

__all__ = ["Bundles", "main"]

PAGES_EVERY = 50
_PAGES_SECONDS = 120.0  # a whole site on a busy machine takes 5 to 20 s
_READ_SECONDS = 20.0
_STREAM_SECONDS = 5.0
_BATCH = 25  # cases that a process takes at once

Said = tuple[str, int, str, str]  # kind, number, what came of it in a word or "", where it broke or ""


class Bundles:
    """Damaged bundles by number."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        self.whole = small_bundles(work / "whole")

    def one(self, number: int, *, pages: bool = True) -> str:
        """Damage a bundle, check it, read it, and make its site where `pages`. Returns what came of it, in words.

        Raises:
            Broken, Hang, or whatever the code under test should not have raised.
        """
        room = self.work / f"case-{number}"
        try:
            return self._judge(number, room, pages)
        finally:
            shutil.rmtree(room)

    def damaged(self, number: int, room: Path) -> tuple[Path, list[str]]:
        """The damaged bundle of a number, and what was done to it."""
        rng = random.Random(f"{self.seed} bundle {number}")
        source = rng.choice(self.whole)
        folder = room / "results" / source.name
        shutil.copytree(source, folder)
        told = damage_bundle(folder, rng)
        if rng.random() < 0.4:
            try:
                seal(folder)
                told.append("sealed")
            except (QuantcaseError, OSError, ValueError):
                told.append("cannot be sealed")
        return folder, told

    def _judge(self, number: int, room: Path, pages: bool) -> str:
        folder, told = self.damaged(number, room)
        (room / "site").mkdir()
        before = tree(room)
        with time_limit(_PAGES_SECONDS if pages else _READ_SECONDS):
            verdict = _checked(folder)
            verdict += " " + (_built(folder, room / "site") if pages else _read(folder))
        after = tree(room)
        changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
        if outside := sorted(p for p in changed if p.split("/")[0] != "site"):
            raise Broken(f"written outside the site: {outside[:3]} ({told})")
        return verdict


def _checked(folder: Path) -> str:
    """What `collect check` prints of it, line by line."""
    said = outcome(folder)
    text = found_text(folder, said, None)
    for line in text.splitlines():
        if not line.isprintable():
            raise Broken(f"a line of `collect check` could move the cursor: {line[:200]!r}")
    json.loads(found_json([(folder, said)], strict=False))
    levels = {f.level for f in said.faults}
    return "error" if "error" in levels else "sound"


# All that pages are made of that needs no word which variant or workload.
_VIEWS = [name for name, kind in vars(catalog.Case).items() if isinstance(kind, property | cached_property)]


def _read(folder: Path) -> str:
    """The bundle as the site reads it, every table; one that cannot be read is told in one line."""
    found = catalog.load(folder.parent)
    for _, why in found.unreadable:
        one_line(why)
    for case in found.cases:
        for view in _VIEWS:
            getattr(case, view)
        for variant in case.measured_variants():
            case.served(variant)
        case.points_of_load()
    return "refused" if found.unreadable else "shown" if found.cases else "no bundle"


def _built(folder: Path, site: Path) -> str:
    """The whole site of it, written; a bundle that cannot be read is told in one line, and the site is made."""
    catalog, outputs = generate(folder.parent, Options())
    for _, why in catalog.unreadable:
        one_line(why)
    for output in outputs:
        uri = PurePosixPath(output.uri)
        if uri.is_absolute() or ".." in uri.parts or "\\" in output.uri or not output.uri.isprintable():
            raise Broken(f"a page is called {output.uri!r}")
        if output.source is not None and not output.source.resolve().is_relative_to(folder.resolve()):
            raise Broken(f"{output.uri} is a copy of {output.source}")
        data = output.data()
        if isinstance(data, str) and output.uri.endswith((".md", ".txt")):
            for marker in MARKERS:
                if marker in data:
                    at = data.index(marker)
                    raise Broken(f"{output.uri} holds {marker} as it is: {data[max(0, at - 80) : at + 80]!r}")
        target = site / output.uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
    return "refused" if catalog.unreadable else "shown" if catalog.cases else "no bundle"


def streams(seed: int, numbers: range) -> Iterator[tuple[int, str, BaseException | None]]:
    """Damaged replies, each read by the client's parser in several cuts."""
    for number in numbers:
        data = stream.damaged(random.Random(f"{seed} stream {number}"))
        try:
            with time_limit(_STREAM_SECONDS):
                yield number, stream.one(data), None
        except (Exception, Hang) as e:  # noqa: BLE001 - whatever it is, it is what we look for
            yield number, "", e


def _where(e: BaseException) -> str:
    """The innermost line of ours that an exception went through: cases of one fault fall together."""
    frames = [
        f for f in traceback.extract_tb(e.__traceback__) if "/collector/" in f.filename or "/quantcase/" in f.filename
    ]
    last = frames[-1] if frames else traceback.extract_tb(e.__traceback__)[-1]
    parts = Path(last.filename).parts
    return f"{type(e).__name__} at {'/'.join(parts[-2:])}:{last.lineno} {last.name}: {' '.join(str(e).split())[:160]}"


_made: list[Bundles] = []  # of this process


def _begin(work: str, seed: int) -> None:
    """Once a process: its own folder, its own whole bundles."""
    altair.utils.schemapi.disable_debug_mode()  # every chart checked against Vega-Lite's schema takes half of the time
    folder = Path(tempfile.mkdtemp(dir=work))
    cache.use(folder / "charts")
    _made[:] = [Bundles(folder, seed)]


def _batch(kind: str, numbers: range, pages_every: int) -> list[Said]:
    """Some cases of one kind, in a process that has begun."""
    made = _made[0]
    if kind == "stream":
        return [(kind, n, verdict, _where(e) if e else "") for n, verdict, e in streams(made.seed, numbers)]
    said: list[Said] = []
    for number in numbers:
        pages = number % pages_every == 0
        what = "pages" if pages else "read"
        try:
            said.append((what, number, made.one(number, pages=pages), ""))
        except (Exception, Hang) as e:  # noqa: BLE001 - whatever it is, it is what we look for
            said.append((what, number, "", _where(e)))
    return said


class _Tally:
    """What came of the cases so far; a fault is told when it is first met."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.found: dict[str, list[str]] = {}

    def add(self, said: list[Said]) -> None:
        for kind, number, verdict, where in said:
            self.counts[f"{kind} {'BROKEN' if where else verdict}"] += 1
            if where:
                if where not in self.found:
                    click.echo(f"{kind} {number}: {where}")
                self.found.setdefault(where, []).append(f"{kind} {number}")

    def line(self) -> str:
        told = ", ".join(f"{n:,} {what}" for what, n in sorted(self.counts.items()))
        return f"{self.counts.total():,} cases in {time.monotonic() - self.begun:,.0f} s: {told}"


def _run(work: str, args: argparse.Namespace, tally: _Tally) -> None:
    """All cases over the processes; none is begun after `--seconds`."""
    waiting = [("stream", n) for n in range(args.first, args.first + args.streams, _BATCH)]
    waiting += [("bundle", n) for n in range(args.first, args.first + args.bundles, _BATCH)]
    waiting.reverse()
    ends = {"stream": args.first + args.streams, "bundle": args.first + args.bundles}
    with ProcessPoolExecutor(args.processes, initializer=_begin, initargs=(work, args.seed)) as pool:
        running: dict[Future[list[Said]], str] = {}
        told = time.monotonic()
        while waiting or running:
            late = time.monotonic() - tally.begun > args.seconds
            while waiting and not late and len(running) < 2 * args.processes:
                kind, n = waiting.pop()
                numbers = range(n, min(n + _BATCH, ends[kind]))
                running[pool.submit(_batch, kind, numbers, args.pages_every)] = f"{kind} {n} to {numbers[-1]}"
            if not running:
                return
            done = next(as_completed(running))
            batch = running.pop(done)
            try:
                tally.add(done.result())
            except BrokenProcessPool:
                under_way = ", ".join([batch, *running.values()])
                tally.found[f"a process was ended in one of: {under_way}"] = [batch]
                return
            if time.monotonic() - told > 60:
                told = time.monotonic()
                click.echo(tally.line())


def main(given: list[str] | None = None) -> int:
    """The command line; the exit code is 1 when anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundles", type=int, default=5_000)
    parser.add_argument("--streams", type=int, default=5_000)
    parser.add_argument("--pages-every", type=int, default=PAGES_EVERY, help="write the site of every n-th bundle")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FUZZ_SEED", "1")), help="or FUZZ_SEED")
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one bundle, its pages included, with its traceback")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this time")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(given)
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix="quantcase-fuzz-") as work:
        if args.only is not None:
            _begin(work, args.seed)
            click.echo(_made[0].damaged(args.only, Path(work) / "told")[1])
            click.echo(_made[0].one(args.only))
            return 0
        _run(work, args, tally)
    click.echo(tally.line())
    for where, numbers in sorted(tally.found.items(), key=lambda f: -len(f[1])):
        click.echo(f"{len(numbers):5} x {where} ({', '.join(numbers[:4])})")
    return 1 if tally.found else 0


if __name__ == "__main__":
    sys.exit(main())
