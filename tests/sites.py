"""What many tests look at, made once in a session, whichever worker of pytest-xdist comes first.

Pages are kept by what they were made of, as a site keeps them (quantcase.cache; tests/site/test_cache.py says what is
part of the key), in a folder that begins empty with every session: nothing of an older generator is ever looked at.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from quantcase.build import generate
from quantcase.catalog import Catalog
from quantcase.output import Output
from quantcase.pages.view import Options
from tests.makers import make_bundle
from tests.project import put_project

__all__ = ["begin", "built", "kept", "made", "mkdocs", "once", "pages"]

_SHARED: list[Path] = []


def begin(shared: Path) -> None:
    """Tell where this session's workers keep what they share (tests/conftest.py does)."""
    _SHARED[:] = [shared]


def kept() -> Path:
    """The cache of pages of this session: `cache` of `generate`, `cache:` of a site."""
    return _SHARED[0] / "cache"


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of that name, filled by `make` in one worker, while others that want it wait."""
    folder, done = _SHARED[0] / name, _SHARED[0] / f"{name}.done"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (_SHARED[0] / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process, however it ends
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def made(results: Path, options: Options | None = None, *, only: tuple[str, ...] = ()) -> tuple[Catalog, list[Output]]:
    """`generate`, with every output at hand; a case that was made in this session already is not made again."""
    catalog, outputs = generate(results, options or Options(), only=only, cache=kept())
    return catalog, [o if o.kept is None else Output(o.uri, o.kept.read(), title=o.title) for o in outputs]


def pages(results: Path, options: Options | None = None) -> dict[str, str]:
    """The text of every page and document, by its address."""
    every = {o.uri: o.data() for o in made(results, options)[1] if o.source is None}
    return {uri: data for uri, data in every.items() if isinstance(data, str)}


def mkdocs(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The real `mkdocs`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *arguments], cwd=cwd, capture_output=True, text=True, timeout=200,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", **(env or {})}, check=False,
    )  # fmt: skip


def built(name: str = "own", options: str = "") -> tuple[Path, Path]:
    """(site, bundle): the project's own site for https://example.org/sub/, built strictly from one seeded bundle.

    Args:
        name: of the site; the same name must come with the same options.
        options: further lines for the plugin.
    """

    def make(work: Path) -> None:
        make_bundle(work / "results", weights="real")
        more = f"      results: results\n      cache: {kept()}\n{options}"
        put_project(work, lambda config: config.replace("      results: results\n", more))
        ran = mkdocs("build", "--strict", cwd=work, env={"SITE_URL": "https://example.org/sub/"})
        assert ran.returncode == 0, ran.stderr

    work = once(name, make)
    (bundle,) = (work / "results").iterdir()
    return work / "public", bundle
