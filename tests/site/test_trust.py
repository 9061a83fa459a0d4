"""What a reader is told of the measurement itself, and the doubts that follow by rule."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from collector.bundle.metrics import client_limit
from collector.bundle.schema import ClientCell
from quantcase.analysis.compare import comparisons
from quantcase.analysis.crossover import crossing, crossover
from quantcase.analysis.noise import flags
from quantcase.analysis.repeats import repeats
from quantcase.analysis.trust import client_limited, trust
from quantcase.catalog import Case, load
from tests import sites
from tests.makers import make_bundle


def cell(**more: object) -> ClientCell:
    return ClientCell(variant="bf16", start=1, workload="chat", load="c8", repeat=1, **more)  # type: ignore[arg-type]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    make_bundle(tmp_path)
    (found,) = load(tmp_path).cases
    return found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loop_lag_ms_p99": 5.1}, "event loop late"),
        ({"cpu_pct": 81.0}, "of a core"),
        ({"concurrency_asked": 8, "concurrency_reached": 7}, "7 of 8"),
        ({"late_ms_p99": 6.0}, "after they were due"),
    ],
)
def test_the_client_is_the_limit(more: dict[str, object], words: str) -> None:
    assert words in (client_limit(cell(**more)) or "")
    assert client_limited(cell(**more))
    assert not client_limited(cell(**more, client_limited=False))  # what was decided on the box stands


def test_a_quiet_client_is_none() -> None:
    quiet = cell(loop_lag_ms_p99=1.0, cpu_pct=20.0, concurrency_asked=8, concurrency_reached=8, late_ms_p99=0.5)
    assert client_limit(quiet) is None


def test_a_case_tells_what_speaks_for_it(case: Case) -> None:
    seen = trust(case, comparisons(case))
    assert seen.repeats == (3, 3)
    assert seen.starts == (1, 1)
    assert seen.failed == 0
    assert seen.requests == len(case.requests)
    assert set(seen.steady) <= {"yes", "no", "short"}
    assert sum(seen.steady.values()) == len(case.cells)
    assert seen.control is None
    assert seen.recorded == len(case.cells)


def test_doubts_by_rule(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path)
    text = (folder / "variants.csv").read_text()
    header = text.splitlines()[0].split(",")
    place = header.index("vram_idle_mib")
    rows = [line.split(",") for line in text.splitlines()]
    assert len(rows) > 2
    (found,) = load(tmp_path).cases
    assert not [f for f in flags(found) if f.kind in ("foreign", "machines", "throttled")]
    found.variants[0].vram_idle_mib = 4096.0
    (foreign,) = [f for f in flags(found) if f.kind == "foreign"]
    assert "4,096 MiB" in foreign.words
    assert place > 0
    (found,) = load(tmp_path).cases  # what was worked out of its samples is kept
    busy = found.telemetry
    busy["utilisation_pct"] = 99.0
    busy["throttle_reasons"] = "sw_thermal_slowdown"
    busy["sm_clock_mhz"] = [1000.0 if i < len(busy) / 2 else 1980.0 for i in range(len(busy))]
    found.cells["window_start_s"] = busy["t_s"].min()
    found.cells["window_end_s"] = busy["t_s"].max()
    assert "throttled" in {f.kind for f in flags(found)}
    found.cells["steady"] = "no"
    found.cells.loc[found.cells["repeat"] == 1, "throughput_tok_s"] *= 1.3
    assert {"drift", "spread"} <= {f.kind for f in flags(found)}


def test_the_panel_is_on_the_page_with_shape_and_word(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    _, outputs = sites.made(tmp_path)
    page = next(str(o.data()) for o in outputs if o.uri.endswith("-shape/index.md"))
    assert "Can I trust this?" in page
    assert page.index("Can I trust this?") < page.index("## Setup")
    assert 'data-state="none">– not recorded' in page
    assert 'data-state="ok">✓ ok' in page


def test_a_planted_crossover_is_found_with_its_interval() -> None:
    """log ratio falls by 0.2 a doubling from +0.3: it is 0 one and a half doublings after the first load."""
    logs = [0.3 - 0.2 * k for k in range(5)]
    rows = [(2.0**k, math.exp(y), math.exp(y - 0.1), math.exp(y + 0.1)) for k, y in enumerate(logs)]
    found = crossover("awq", "chat", rows)
    assert found is not None
    assert found.at == pytest.approx(2**1.5)
    assert [found.low, found.high] == pytest.approx([2, 4])
    assert found.stops
    rising = crossover("awq", "chat", [(x, 1 / r, 1 / h, 1 / lo) for x, r, lo, h in rows])
    assert rising is not None
    assert not rising.stops
    assert [rising.low, rising.high] == pytest.approx([2, 4])


def test_where_nothing_crosses_nothing_is_named() -> None:
    assert crossing([(1, 1.3), (8, 1.2), (16, 1.1)]) is None
    assert crossing([(4, 1.1)]) is None
    assert crossing([]) is None
    open_ended = crossover("v", "w", [(1.0, 1.2, 1.1, 1.4), (2.0, 0.98, 0.9, 1.05)])
    assert open_ended is not None
    assert math.isnan(open_ended.high)  # its upper end stays above 1 up to the last load


def test_single_repeats_are_those_of_the_cells(case: Case) -> None:
    table = repeats(case, "throughput_tok_s")
    assert len(table) == len(case.cells)
    cost = repeats(case, "usd_per_1m_output_tokens", 3.6)
    assert cost["value"].tolist() == pytest.approx((1000 / table["value"]).tolist())
    assert repeats(case, "usd_per_1m_output_tokens").empty
    assert msgspec.json.encode(list(table.columns))
