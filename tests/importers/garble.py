"""Documents with one value replaced by something that does not belong there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from collector.errors import QuantcaseError
from collector.importers.base import Imported

PEERS = Path(__file__).parents[1] / "samples" / "peers"

WRONG: tuple[Any, ...] = (
    None, True, "", "text\nof two lines", -1, -0.5, 0, 1e300, float("nan"), float("inf"), 10**400, [], {}, [[]],
    {"a": {"b": []}}, "\ud800", [None], "9" * 5000,
)  # fmt: skip


def paths(value: Any, most: int = 400, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of a document: of long lists the first three members."""
    found: list[tuple[Any, ...]] = [at] if at else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, most, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:3]):
            found += paths(inner, most, (*at, i))
    return found


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the document with that value at that place."""
    made = copy.deepcopy(document)
    held = made
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = value
    return made


@st.composite
def garbled(draw: st.DrawFn, document: Any) -> Any:
    """The document with one place garbled, or removed."""
    path = draw(st.sampled_from(paths(document)))
    value = draw(st.sampled_from(WRONG) | st.floats() | st.text(max_size=20) | st.integers())
    return replaced(document, path, value)


def read_or_refused(read: Callable[[], Imported]) -> None:
    """Whatever was garbled: it is read into finite figures, or refused in one line of bounded length."""
    try:
        found = read()
    except QuantcaseError as e:
        words = str(e)
    else:
        assert all(f.value == f.value and abs(f.value) < float("inf") for p in found.points for f in p.figures)
        return
    assert "\n" not in words
    assert 10 < len(words) < 600
