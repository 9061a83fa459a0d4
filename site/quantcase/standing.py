"""What `mkdocs serve` wrote at the last build stays where it is, to be written over.

MkDocs removes all of its folder before it builds, and writes all of it again. On ext4 that cost more with each build
that followed soon on another: twenty cases with nothing changed took 0.7 processor seconds, then 1.3, then 1.8, where
a folder in memory stayed at 0.7 (benchmarks/SITE.md). So the last build's files are out of MkDocs's sight while it
cleans, are put back, and what the build did not write is removed when it is done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Standing"]

_ASIDE = ".quantcase-last"  # MkDocs leaves hidden names alone when it cleans a folder


class Standing:
    """The folder of one server, from build to build."""

    def __init__(self) -> None:
        self._whole = False  # whether what stands there was written by a build that came to its end
        self._begun_ns = 0

    def put_aside(self, site: Path) -> None:
        """Before MkDocs cleans the folder; after a build that failed it cleans all."""
        aside = site / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        site.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        self._begun_ns = aside.stat().st_mtime_ns  # by the clock of the files that the build will write
        if self._whole:
            for path in _shown(site):
                path.rename(aside / path.name)
        self._whole = False

    def put_back(self, site: Path) -> None:
        """After MkDocs cleaned the folder, before anything is written."""
        aside = site / _ASIDE
        for path in aside.iterdir():
            path.rename(site / path.name)
        aside.rmdir()

    def tidy(self, site: Path, still: Iterable[str]) -> None:
        """When all is written: what is older than this build goes, but for the files that are `still` as they were."""
        known = set(still)
        for top in _shown(site):
            if top.is_dir():
                for root, _, names in os.walk(top, topdown=False):
                    for path in [Path(root, name) for name in names]:
                        self._unless_written(path, known)
                    if not any(os.scandir(root)):
                        Path(root).rmdir()
            else:
                self._unless_written(top, known)
        self._whole = True

    def _unless_written(self, path: Path, known: set[str]) -> None:
        if path.stat().st_mtime_ns < self._begun_ns and str(path) not in known:
            path.unlink()


def _shown(site: Path) -> list[Path]:
    return [path for path in site.iterdir() if not path.name.startswith(".")]
