"""Fuzzing: `python -m tests.fuzz.run --seconds 3600`, or `make fuzz FUZZ_SECONDS=3600`.

Each target is a file in targets/ with `one(data)`, which may raise only what its docstring names, and `seeds()`. With
atheris (Python 3.11, Linux) a coverage-guided fuzzer looks for new paths, in a process a target; elsewhere the seeds
are damaged by a random generator with a fixed seed. What is found is written to .cache/fuzz/crashes, and

    python -m tests.fuzz.run TARGET --again FILE

does it again, with its traceback. A finding that was mended becomes a test in test_found.py.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

from tests.fuzz.guard import Hang, time_limit

__all__ = ["TARGETS", "Finding", "main", "seeded"]

TARGETS = ("sse", "stream", "study_toml", "rows", "files", "archives", "importers", "words")
WORK = Path(__file__).parents[2] / ".cache" / "fuzz"
CASE_SECONDS = 10.0
_MOST_BYTES = 60_000

Finding = tuple[bytes, BaseException]


def _target(name: str) -> tuple[Callable[[bytes], object], Callable[[], list[bytes]]]:
    module = import_module(f"tests.fuzz.targets.{name}")
    return module.one, module.seeds


def seeded(name: str, *, seed: int, cases: int, seconds: float = float("inf")) -> tuple[int, list[Finding]]:
    """Damage the seeds of a target by a generator; (how many cases ran, what was found). The same seed, the same cases.

    The seeds themselves come first, undamaged. Looking ends at the fifth finding.
    """
    from tests.fuzz.damage import bits  # here, because it imports what atheris must instrument first

    one, seeds = _target(name)
    rng = random.Random(f"{name} {seed}")
    found: list[Finding] = []
    begun, done = time.monotonic(), 0
    while done < cases and len(found) < 5 and time.monotonic() - begun < seconds:
        data = seeds()[done] if done < len(seeds()) else bits(rng.choice(seeds()), rng, 8)
        try:
            with time_limit(CASE_SECONDS):
                one(data)
        except (Exception, Hang) as e:  # noqa: BLE001 - whatever it is, it is what we look for
            found.append((data, e))
        done += 1
    return done, found


def _keep(name: str, finding: Finding) -> Path:
    data, _ = finding
    path = WORK / "crashes" / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _told(name: str, finding: Finding) -> str:
    path, e = _keep(name, finding), finding[1]
    frame = traceback.extract_tb(e.__traceback__)[-1]
    return f"{name}: {type(e).__name__} at {frame.filename}:{frame.lineno}: {str(e)[:200]!r}\n  {path}"


def _guided(name: str, seconds: float) -> int:
    """libFuzzer in a process of its own: it ends that process, well or not."""
    corpus = WORK / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    (WORK / "crashes").mkdir(parents=True, exist_ok=True)
    for data in _target(name)[1]():
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-timeout={CASE_SECONDS:g}", f"-max_len={_MOST_BYTES}"]
    options += [f"-artifact_prefix={WORK / 'crashes'}/{name}-", "-rss_limit_mb=3072", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz.run", name, "--atheris", *options, str(corpus)]
    return subprocess.run(command, check=False).returncode


def _atheris(name: str, arguments: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["collector", "quantcase"], enable_loader_override=False):
        one, seeds = _target(name)
    seeds()
    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main(given: Sequence[str] | None = None) -> int:
    """The command line; the exit code is 1 when anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"which: {', '.join(TARGETS)}; default: all, one after the other")
    parser.add_argument("--seconds", type=float, default=3600.0, help="of all targets together")
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    parser.add_argument("--seed", type=int, default=seed, help="of the generator, without atheris; or FUZZ_SEED")
    parser.add_argument("--engine", choices=["auto", "seeded", "atheris"], default="auto")
    parser.add_argument("--again", type=Path, help="run one input of one target")
    parser.add_argument("--atheris", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args(given)
    if args.atheris:
        _atheris(args.targets[0], [*rest, *args.targets[1:]])
    if args.again:
        click.echo(_target(args.targets[0])[0](args.again.read_bytes()))
        return 0
    names = args.targets or list(TARGETS)
    guided = args.engine == "atheris" or (args.engine == "auto" and find_spec("atheris") is not None)
    broken = 0
    for name in names:
        if guided:
            broken += bool(_guided(name, args.seconds / len(names)))
            continue
        done, found = seeded(name, seed=args.seed, cases=sys.maxsize, seconds=args.seconds / len(names))
        click.echo(f"{name}: {done} cases, {len(found)} findings")
        for finding in found:
            click.echo(_told(name, finding))
        broken += bool(found)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
