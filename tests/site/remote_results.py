"""Two small bundles in a folder that stands for a server's, and what the tests of results at a URL look at."""

from __future__ import annotations

from pathlib import Path

from quantcase.remote import Remote
from tests.makers import make_bundle

__all__ = ["ONE", "TWO", "files_of", "into_fleet", "make_pair", "shown", "tree"]

ONE, TWO = "2026-11-20-h200-one", "2026-11-21-h200-two"


def make_pair(home: Path) -> Path:
    """A folder with both bundles."""
    for seed, name in enumerate((ONE, TWO)):
        make_bundle(home, name=name, only=("bf16", "awq"), seed=seed)
    return home


def into_fleet(results: Path, *names: str) -> Path:
    """Move bundles into the folder of a fleet among them, as `collect fleet` leaves one."""
    fleet = results / "boxes"
    fleet.mkdir(exist_ok=True)
    (fleet / "fleet.json").write_text("{}")
    for name in names:
        (results / name).rename(fleet / name)
    return fleet


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by its path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shown(remote: Remote) -> list[str]:
    """The cases of a mirror."""
    return sorted(p.name for p in remote.folder.iterdir())


def files_of(folder: Path) -> int:
    """How many files there are."""
    return len(tree(folder))
