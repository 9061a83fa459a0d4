"""A study: what is read can be written and read again; all else is one line."""

from __future__ import annotations

from functools import cache

from collector.errors import QuantcaseError
from collector.study import dumps, loads, ready_studies
from tests.fuzz.guard import one_line

__all__ = ["one", "seeds"]


@cache
def seeds() -> list[bytes]:
    """The ready studies."""
    return [p.read_bytes() for p in ready_studies().values()]


def one(data: bytes) -> None:
    """Read a study. Only QuantcaseError may come of it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # `load` tells it
    try:
        found = loads(text)
    except QuantcaseError as e:
        one_line(e)
        return
    assert dumps(loads(dumps(found))) == dumps(found)
