"""One address of every kind of page, and a page opened as a reader would."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from playwright.sync_api import Browser, Page

__all__ = ["KINDS", "address", "opened"]

# Kind -> address below the site; {case}, {variant} and {version} are those of the seeded bundle.
KINDS = {
    "home": "",
    "cases": "cases/",
    "case": "cases/{case}/",
    "quality": "cases/{case}/quality/",
    "notes": "cases/{case}/notes/",
    "plan": "cases/{case}/plan/",
    "log": "cases/{case}/log/",
    "projection": "cases/{case}/projection/",
    "data": "cases/{case}/data/",
    "version": "cases/{case}/versions/{version}/",
    "card": "cases/{case}/cards/{variant}/",
    "compare": "compare/",
    "history": "history/",
    "costs": "costs/",
    "fit": "fit/",
    "summary": "summary/",
    "methodology": "methodology/",
    "guide": "guide/studies/",
    "architecture": "architecture/",
    "notebook": "notebooks/open-a-bundle/",
    "offers": "offers/",
    "offer": "offers/quantization-health-check/",
    "not found": "404.html",
}


def address(site: tuple[str, str], kind: str, variant: str = "fp8") -> str:
    """Where a kind of page stands."""
    return f"{site[0]}/{KINDS[kind].format(case=site[1], variant=variant, version=_version(site))}"


@cache
def _version(site: tuple[str, str]) -> str:
    with urllib.request.urlopen(f"{site[0]}/cases/{site[1]}/case.json", timeout=10) as reply:  # noqa: S310
        return str(json.load(reply)["generated_from"]["manifest_sha256"])[:12]


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page after its scripts ran. Options are those of a browser context."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        page.goto(url, wait_until="load")
        yield page
    finally:
        context.close()
