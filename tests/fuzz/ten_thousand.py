"""10,000 damaged bundles and streams: no crash without a one-line error, no hang, no file outside the target folder.

    python -m tests.fuzz.ten_thousand --bundles 5000 --streams 5000 --seed 1

Every case follows from its number and the seed, so `--only NUMBER` does one again, alone. A bundle is judged as a
person would meet it: `collect check`, then the whole site of it, written into a folder.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import altair
import click

from collector.bundle.check import outcome
from collector.bundle.check_view import found_json, found_text
from collector.errors import QuantcaseError
from quantcase.build import generate
from quantcase.charts import cache
from quantcase.pages.view import Options
from tests.fuzz.damage import MARKERS, damage_bundle
from tests.fuzz.guard import Broken, Hang, one_line, time_limit, tree
from tests.fuzz.small import seal, small_bundles
from tests.fuzz.targets import stream

__all__ = ["Bundles", "main"]

CASE_SECONDS = 120.0  # a whole site on a busy machine takes 5 to 20 s
_STREAM_SECONDS = 5.0


class Bundles:
    """Damaged bundles by number."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        self.whole = small_bundles(work / "whole")

    def one(self, number: int) -> str:
        """Damage a bundle, check it, make its site. Returns what came of it, in a word.

        Raises:
            Broken, Hang, or whatever the code under test should not have raised.
        """
        room = self.work / f"case-{number}"
        try:
            return self._judge(number, room)
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

    def _judge(self, number: int, room: Path) -> str:
        folder, told = self.damaged(number, room)
        (room / "site").mkdir()
        before = tree(room)
        with time_limit(CASE_SECONDS):
            verdict = _checked(folder)
            verdict += " " + _built(folder, room / "site")
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


def _bundles(made: Bundles, numbers: range) -> Iterator[tuple[int, str, BaseException | None]]:
    for number in numbers:
        try:
            yield number, made.one(number), None
        except (Exception, Hang) as e:  # noqa: BLE001 - as above
            yield number, "", e


def _where(e: BaseException) -> str:
    """The innermost line of ours that an exception went through: cases of one fault fall together."""
    frames = [
        f for f in traceback.extract_tb(e.__traceback__) if "/collector/" in f.filename or "/quantcase/" in f.filename
    ]
    last = frames[-1] if frames else traceback.extract_tb(e.__traceback__)[-1]
    parts = Path(last.filename).parts
    return f"{type(e).__name__} at {'/'.join(parts[-2:])}:{last.lineno} {last.name}: {' '.join(str(e).split())[:160]}"


def main(given: list[str] | None = None) -> int:
    """The command line; the exit code is 1 when anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundles", type=int, default=5_000)
    parser.add_argument("--streams", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="one bundle, with its traceback")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    args = parser.parse_args(given)
    altair.utils.schemapi.disable_debug_mode()  # every chart checked against Vega-Lite's schema takes half of the time
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quantcase-fuzz-") as folder:
        cache.use(Path(folder) / "charts")
        made = Bundles(Path(folder), args.seed)
        if args.only is not None:
            click.echo(made.damaged(args.only, Path(folder) / "told")[1])
            click.echo(made.one(args.only))
            return 0
        found: dict[str, list[str]] = {}
        counts: Counter[str] = Counter()
        first = args.first
        for kind, cases in (
            ("stream", streams(args.seed, range(first, first + args.streams))),
            ("bundle", _bundles(made, range(first, first + args.bundles))),
        ):
            for number, verdict, e in cases:
                counts[f"{kind} {verdict}" if e is None else f"{kind} BROKEN"] += 1
                if e is not None:
                    where = _where(e)
                    if where not in found:
                        click.echo(f"{kind} {number}: {where}")
                    found.setdefault(where, []).append(f"{kind} {number}")
                if sum(counts.values()) % 100 == 0:
                    click.echo(f"{time.monotonic() - begun:.0f} s {dict(counts)}")
                if time.monotonic() - begun > args.seconds:
                    break
    click.echo(f"{sum(counts.values())} cases in {time.monotonic() - begun:.0f} s: {dict(counts)}")
    for where, numbers in sorted(found.items(), key=lambda f: -len(f[1])):
        click.echo(f"{len(numbers):5} x {where} ({', '.join(numbers[:4])})")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
