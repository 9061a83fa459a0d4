"""Where this machine has its Chromium: the system's own, which tools/ensure_chromium.sh installs."""

from __future__ import annotations

import shutil

__all__ = ["MISSING", "found"]

MISSING = "no chromium on PATH: tools/ensure_chromium.sh installs one"


def found() -> str | None:
    """The path of the browser; None where there is none."""
    return next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
