"""The fonts in which vl-convert measures texts: its own copies first, then those of the machine.

Left alone, vl-convert takes Liberation Sans from the machine where it is installed, and opens and maps that file anew
for every single character it measures: a third of the time of a drawing. Its own copy of the same font lies in memory.
So the machine's fonts are hidden while vl-convert looks for fonts, which it does once, and named to it afterwards:
what its own fonts lack (other scripts) is still found, and a drawing no longer depends on the machine.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

import vl_convert

__all__ = ["ready"]

_ENV = "FONTCONFIG_FILE"  # the one file that vl-convert asks for folders with fonts, on Linux
_CONFIG = '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>{}</dir></fontconfig>'
_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_SMALLEST = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><text>a</text></svg>'


@functools.cache
def ready() -> None:
    """Do so once in a process, before its first drawing; where somebody chose the fonts already, leave them."""
    if sys.platform != "linux" or _ENV in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="quantcase-fonts-") as empty:
        config = Path(empty) / "fonts.conf"
        config.write_text(_CONFIG.format(empty), "utf-8")
        os.environ[_ENV] = str(config)
        try:
            vl_convert.svg_to_png(_SMALLEST)  # looks for fonts, and starts no JavaScript
        finally:
            del os.environ[_ENV]
    for folder in map(Path, _FOLDERS):
        if folder.expanduser().is_dir():
            vl_convert.register_font_directory(str(folder.expanduser()))
