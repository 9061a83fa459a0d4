"""What an engine said before it ended: the cause lies above the frames of tracebacks, which say nothing to a reader.

vLLM's own words for it stand some 80 lines above the end of its log: the engine core's exception comes first, then the
same once more from multiprocessing, then the API server's, which only says "see root cause above".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["cause", "telling", "without_frames"]

_SOURCE = re.compile(r"^(\(\w+ pid=\d+\) )?(?:ERROR \S+ \S+ \[[^\]]*\] )?")  # vLLM marks each line with its process
_HEADER = "Traceback (most recent call last):"
_LESS = re.compile(r"(?:^|\) )(?:INFO|DEBUG|WARNING) ")
_RAISED = re.compile(r"[\w.]*(?:Error|Exception)\b")
_MOST_WITHOUT_TRACEBACK = 60
_MOST_CHARS = 200


def without_frames(lines: Sequence[str]) -> list[str]:
    """The lines without tracebacks' headers and frames, each exception once."""
    inside: dict[str, bool] = {}
    kept: dict[str, str] = {}
    for line in lines:
        found = _SOURCE.match(line)
        said, source = (line[found.end() :], found[1] or "") if found else (line, "")
        if said.startswith(_HEADER):
            inside[source] = True
        elif not (inside.get(source) and said.startswith(" ")):
            inside[source] = False
            kept.setdefault(said, line)
    return list(kept.values())


def cause(lines: Sequence[str]) -> str:
    """Where to look for why it ended, in small letters: what was said as an error, with a traceback; else the end."""
    if any(_HEADER in line for line in lines):
        return "\n".join(line for line in lines if not _LESS.search(line)).lower()
    return "\n".join(lines[-_MOST_WITHOUT_TRACEBACK:]).lower()


def telling(lines: Sequence[str], words: Sequence[str]) -> str:
    """The first line that has one of these words (in small letters) and is no mere information; without words the first
    exception. Empty where there is none. vLLM's marks are cut off.
    """
    for line in without_frames(lines):
        said = _SOURCE.sub("", line).strip()
        if _LESS.search(line):
            continue
        if any(word in said.lower() for word in words) if words else _RAISED.match(said):
            return said[:_MOST_CHARS]
    return ""
