"""`collect plan --page FILE`: the comparison plan as a page, made by whichever package brings such pages.

The collector knows no site. A page comes from the entry point group `collect.plan_page`: a function of study, GPU
profile, plan and the file's suffix that returns the page as text.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from collector.bundle.planned import Plan
from collector.errors import QuantcaseError, UsageFault
from collector.gpus import GpuProfile
from collector.study import Study

__all__ = ["GROUP", "check", "write"]

GROUP = "collect.plan_page"
_SUFFIXES = (".md", ".html")

Maker = Callable[[Study, GpuProfile, Plan, str], str]


def check(file: Path, *, force: bool) -> None:
    """Whether such a file can be written, asked before anything is worked out.

    Raises:
        UsageFault: it is neither Markdown nor HTML.
        QuantcaseError: it is there already: a plan in which somebody has ticked boxes is not written over.
    """
    if file.suffix not in _SUFFIXES:
        raise UsageFault(f"--page {file} is neither Markdown nor HTML", fix="end its name with .md or .html")
    if file.exists() and not force:
        raise QuantcaseError(f"{file} is there already", fix="give another name, or --force to write over it")


def write(file: Path, study: Study, profile: GpuProfile, plan: Plan) -> None:
    """Write the page.

    Args:
        study: as it is to be run on the card (`plan.for_profile`).

    Raises:
        QuantcaseError: no installed package makes such pages.
    """
    page = _maker()(study, profile, plan, file.suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first: what is cut off by a full disk leaves no half of a plan.
    part = file.with_name(f"{file.name}.tmp")
    part.write_text(page, "utf-8")
    part.replace(file)


def _maker() -> Maker:
    fix = "pip install 'quantcase[site]'"
    for entry in entry_points(group=GROUP):
        try:
            maker: Maker = entry.load()
        except ImportError as e:
            package = e.name or "a package"
            raise QuantcaseError(
                f"`collect plan --page` needs the site's packages ({package} is missing)", fix=fix
            ) from None
        return maker
    raise QuantcaseError("`collect plan --page` needs the site's packages, and they are not installed", fix=fix)
