"""Which tests run alone, which apart, which begin early; and what all tests have in common."""

from __future__ import annotations

import csv
import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import sites

# Two shared cores are slow at times: that is no fault of a property.
settings.register_profile("quantcase", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quantcase")

# Sites that tests build elsewhere share the drawings, so that each is drawn once.
os.environ.setdefault("QUANTCASE_CHART_CACHE", str(Path(__file__).parents[1] / ".cache" / "quantcase" / "charts"))

# What asserts on times: nothing runs beside it (`make test`, second part). A file, or file::beginning of a test's name.
TIMED = (
    "load/test_loop.py", "load/test_pulse.py", "load/test_wire.py::test_reads_are_stamped",
    "engines/test_replay.py::test_what_is", "probes/test_sampler.py::test_the_rate",
    "test_loadtest.py::test_locust_sees", "test_stress.py::test_what_is_slower_than_the_limit",
)  # fmt: skip
# What takes long and guards no figure, no bundle and nothing untrusted: `make test-slow`, which CI runs as well.
SLOW = (
    "browser/test_handover.py", "browser/test_axe.py::test_the_tab_key", "browser/test_axe.py::test_axe_finds_no_fault",
    "browser/test_axe.py::test_it_reads_without", "browser/test_axe.py::test_320", "browser/test_axe.py::test_paper",
    "browser/test_axe.py::test_the_menu_of_a_phone",
    "browser/test_play.py::test_at_the_defaults_the_calculator_shows_what_the_page_says[german]",
    "browser/test_play.py::test_the_pages_fit", "browser/test_samples.py::test_no_page_scrolls",
    "browser/test_samples.py::test_words_can_be_read", "browser/test_site.py::test_no_page_scrolls",
    "browser/test_site.py::test_every_other", "browser/test_tables.py", "browser/test_charts.py",
    "browser/test_weight.py::test_only", "browser/test_weight.py::test_the_search_index", "carry/test_pyz.py",
    "site/test_again.py::test_a_new_title", "site/test_again.py::test_an_option", "site/test_again.py::test_beside",
    "site/test_mkdocs.py::test_gh_deploy",
    "site/test_quick.py::test_texts_are_measured", "site/test_report.py::test_a_wide_table",
    "site/test_report.py::test_no_word_leaves", "site/test_reproducible.py", "site/test_zensical.py",
)  # fmt: skip
# Of these the kinds of page that readers see most stay in `make test`, the others are slow.
EVERY_KIND = (
    "browser/test_axe.py::test_axe_finds_nothing[", "browser/test_csp.py::test_every_kind",
    "browser/test_weight.py::test_a_page",
)  # fmt: skip
OFTEN = ("[home]", "[case]", "[costs]")
# The longest begin first, so that no worker is left with one of them at the end; browser tests in a row share one.
FIRST = (
    "faults/", "e2e/", "browser/", "test_loadtest.py", "site/test_mkdocs.py", "site/test_reproducible.py",
    "site/test_cache.py", "test_stress.py", "carry/", "site/test_build.py", "site/test_client.py",
    "site/test_report.py", "site/test_quality.py", "site/test_money.py", "site/",
)  # fmt: skip
HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of files without a timed (or slow) test nothing is imported when only those are asked for."""
    wanted = {"timed": TIMED, "slow": SLOW + EVERY_KIND}.get(str(config.getoption("markexpr")).partition(" ")[0])
    if wanted is None or collection_path.suffix != ".py":
        return None
    name = collection_path.relative_to(HERE).as_posix()
    return None if name in {w.partition("::")[0] for w in wanted} else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(HERE).as_posix()
        return next((i for i, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))

    for item in items:
        name = f"{item.path.relative_to(HERE).as_posix()}::{item.name}"
        if name.startswith(TIMED):
            item.add_marker(pytest.mark.timed)
        if name.startswith(SLOW) or (name.startswith(EVERY_KIND) and not name.endswith(OFTEN)):
            item.add_marker(pytest.mark.slow)
    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the client collects garbage before it measures, and need not walk all of that."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _csv_as_it_comes() -> None:
    """frictionless, which checks bundles in some tests, lifts the csv module's limit for the whole process."""
    csv.field_size_limit(131072)


@pytest.fixture(scope="session", autouse=True)
def _shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder of this session that all its workers share (tests/sites.py)."""
    base = tmp_path_factory.getbasetemp()
    sites.begin((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared")
