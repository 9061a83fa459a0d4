"""`__main__` of collect.pyz: unpacks the collector once, then runs it with this machine's Python.

Runs before anything is installed, so it uses the standard library alone, and Python 3.7 can read it: an old Python is
told what is missing. What is unpacked is a folder that Python takes for a virtual environment (`pyvenv.cfg` beside
`bin/python`): processes that the collector starts with its own Python find its packages, and PYTHONPATH stays as it
was, so the engine under measurement never sees them.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import NoReturn

__all__ = ["main"]

# tools/make_pyz.sh writes these into the copy that goes into the file.
BUILD = "@BUILD@"
PYTHONS = "@PYTHONS@"
MACHINES = "@MACHINES@"


def _stop(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n")
    raise SystemExit(1)


def _fits() -> None:
    """Refuse in one line where the wheels in this file cannot work."""
    here, machine = "{}.{}".format(*sys.version_info[:2]), os.uname().machine
    if sys.implementation.name != "cpython" or here not in PYTHONS.split():
        listed = PYTHONS.replace(" ", ", ")
        _stop(f"collect.pyz runs on CPython {listed}, this is {sys.implementation.name} {here}; try another python3.x")
    glibc = sys.platform == "linux" and "CS_GNU_LIBC_VERSION" in os.confstr_names
    if not glibc or machine not in MACHINES.split():
        listed = MACHINES.replace(" ", ", ")
        _stop(f"collect.pyz is for Linux with glibc on {listed}, this is {sys.platform} on {machine}; install with pip")


def _cache() -> Path:
    """A folder of this user's own, that nobody else may write to."""
    wanted = os.environ.get("XDG_CACHE_HOME")
    homes = Path(wanted) if wanted else Path("~/.cache").expanduser()
    for folder in (homes / "quantcase", Path(tempfile.gettempdir()) / f"quantcase-{os.getuid()}"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = folder.lstat()
        except OSError:
            continue
        if state.st_uid == os.getuid() and not state.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    _stop("no folder to unpack into; set XDG_CACHE_HOME to one of yours")


def _base() -> Path:
    """The Python behind a virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def _unpack(archive: Path, home: Path) -> None:
    """Unpack beside, then rename: two at once, or one that is killed, do no harm."""
    beside = Path(tempfile.mkdtemp(prefix=".pyz-", dir=home.parent))
    try:
        site = beside / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
        ours = sysconfig.get_config_var("EXT_SUFFIX")
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if not name.startswith("site/") or (".cpython-" in name and not name.endswith(ours)):
                    continue  # another Python's or another machine's
                target = site.joinpath(*name.split("/")[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(name) as source, target.open("wb") as written:
                    shutil.copyfileobj(source, written)
        (beside / "bin").mkdir()
        (beside / "bin" / "python").symlink_to(_base())
        (beside / "pyvenv.cfg").write_text(f"home = {_base().parent}\ninclude-system-site-packages = false\n")
        try:
            beside.rename(home)
        except OSError:
            if not home.is_dir():  # else another one was quicker
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def main() -> NoReturn:
    """Unpack when needed, then become the collector."""
    _fits()
    which = "_".join(_base().parts[1:])
    home = _cache() / f"{BUILD}-{sysconfig.get_config_var('SOABI')}-{which}"
    python = home / "bin" / "python"
    if not python.exists():
        shutil.rmtree(home, ignore_errors=True)  # half of one, or one whose Python is gone
        _unpack(Path(sys.argv[0]).absolute(), home)
    os.execv(python, [str(python), "-P", "-m", "collector.cli", *sys.argv[1:]])  # noqa: S606  (no shell is meant)


if __name__ == "__main__":
    main()
