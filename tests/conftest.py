"""Which tests measure time: these run alone, all others side by side (`make test`)."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two shared cores are slow at times: that is no fault of a property.
settings.register_profile("quantcase", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quantcase")

# Sites that tests build elsewhere share the drawings, so that each is drawn once.
os.environ.setdefault("QUANTCASE_CHART_CACHE", str(Path(__file__).parents[1] / ".cache" / "quantcase" / "charts"))

TIMED = ("load/", "faults/", "test_loadtest.py", "engines/test_replay.py", "e2e/test_design.py", "probes/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(TIMED):
            item.add_marker(pytest.mark.timed)


@pytest.fixture(autouse=True)
def _csv_as_it_comes() -> None:
    """frictionless, which checks bundles in some tests, lifts the csv module's limit for the whole process."""
    csv.field_size_limit(131072)
