"""Which tests measure time: these run alone, all others side by side (`make test`)."""

from __future__ import annotations

from pathlib import Path

import pytest

TIMED = ("load/", "test_loadtest.py", "engines/test_replay.py", "e2e/test_design.py", "probes/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(TIMED):
            item.add_marker(pytest.mark.timed)
