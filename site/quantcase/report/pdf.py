"""A document to PDF bytes by WeasyPrint, which is imported only here: it needs system libraries (Pango)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
from typing import Any

from collector.bundle.read import QuantcaseError

__all__ = ["DEBIAN_PACKAGES", "nobody", "pdf"]

DEBIAN_PACKAGES = (
    "libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-liberation", "fonts-dejavu-core",
)  # fmt: skip


def pdf(document: str) -> bytes:
    """The PDF of a self-contained document; nothing is fetched, whatever it names.

    Raises:
        QuantcaseError: WeasyPrint or its system libraries are missing.
    """
    engine = _engine()
    # Of the text itself, so that the same document is the same file.
    identifier = hashlib.sha256(document.encode()).digest()[:16]
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    source = engine.HTML(string=document, url_fetcher=nobody(engine))
    return bytes(source.write_pdf(pdf_identifier=identifier, pdf_tags=True))


def nobody(engine: Any) -> Any:
    """WeasyPrint's fetcher, asked by the document for anything: it refuses."""

    class Nobody(engine.urls.URLFetcher):  # type: ignore[misc]  # the class is known only once the engine is there
        def fetch(self, url: str, headers: object = None) -> Any:
            refuse(url)

    return Nobody()


def refuse(url: str) -> None:
    """Every request of the document, to this machine or another, ends here."""
    raise ValueError(f"a report holds all it needs; not fetched: {url}")


def _engine() -> Any:
    """The module `weasyprint`, or what to install."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints advice when a library is missing
            return importlib.import_module("weasyprint")
    except ImportError as e:
        raise QuantcaseError(
            f"a PDF report needs WeasyPrint ({e.name or e} cannot be imported)", fix="pip install 'quantcase[report]'"
        ) from e
    except OSError as e:
        raise QuantcaseError(
            f"WeasyPrint lacks a system library ({' '.join(str(e).split())[:120]})",
            fix=f"on Debian or Ubuntu: apt-get install {' '.join(DEBIAN_PACKAGES)}",
        ) from e
