"""The project's own site in another folder: its docs, theme and config beside bundles made for a test."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["ROOT", "put_project"]

ROOT = Path(__file__).parents[1]


def put_project(work: Path, change: Callable[[str], str] = str) -> None:
    """Copy docs, the theme's own templates and mkdocs.yml to `work`; `change` gets the config's text."""
    config = (ROOT / "mkdocs.yml").read_text()
    theme = re.search(r"^  custom_dir: (\S+)", config, re.M)
    assert theme is not None
    for name in ("docs", theme[1]):
        shutil.copytree(ROOT / name, work / name)
    (work / "mkdocs.yml").write_text(change(config))
