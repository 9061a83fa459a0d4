"""The measured bundles that tests read: those the repository keeps, and one of the CPU demo.

``results/`` of a checkout also holds what its owner measured there (``make demo`` writes ``*-cpu-cpu``, which git
ignores), so no test reads that folder: what passes here must pass in a fresh clone. The CPU bundle beside this file was
measured on two shared cores that were busy with something else, and says so in its client's figures.
"""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from quantcase.catalog import Case, read

__all__ = ["CPU", "CPU_BUNDLE", "RESULTS", "cases", "committed"]

ROOT = Path(__file__).parents[1]
CPU = "2026-11-21-cpu-cpu"
CPU_BUNDLE = ROOT / "tests" / "bundles" / CPU

_OWN = ("-cpu-cpu", "-demo-demo")  # as .gitignore has them


def committed() -> list[Path]:
    """The bundles of ``results/`` that git keeps."""
    folders = sorted(p for p in (ROOT / "results").iterdir() if p.is_dir())
    return [p for p in folders if not any(own in p.name for own in _OWN)]


def cases(*names: str) -> list[Case]:
    """These cases alone: reading and checking all bundles takes seconds."""
    return [read(RESULTS / name) for name in names]


def _linked() -> Path:
    room = tempfile.TemporaryDirectory(prefix="quantcase-real-")
    atexit.register(room.cleanup)
    for folder in (*committed(), CPU_BUNDLE):
        (Path(room.name) / folder.name).symlink_to(folder)
    return Path(room.name)


RESULTS = _linked()
