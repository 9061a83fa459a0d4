"""What an engine said before it ended: the cause lies above the frames of tracebacks, which say nothing to a reader.

vLLM's own words for it stand some 80 lines above the end of its log: the engine core's exception comes first, then the
same once more from multiprocessing, then the API server's, which only says "see root cause above".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["cause", "without_frames"]

_SOURCE = re.compile(r"^(\(\w+ pid=\d+\) )?(?:ERROR \S+ \S+ \[[^\]]*\] )?")  # vLLM marks each line with its process
_HEADER = "Traceback (most recent call last):"
_LESS = re.compile(r"(?:^|\) )(?:INFO|DEBUG|WARNING) ")
_MOST_WITHOUT_TRACEBACK = 60


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
