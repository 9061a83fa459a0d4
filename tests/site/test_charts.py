"""Charts: SVG that is whole, follows the page's palette, and says its finding in words."""

from __future__ import annotations

import html
import math
import re
from functools import cache
from xml.dom import minidom

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from quantcase.charts import (
    Crossing,
    Figure,
    cost_per_million,
    latency_by_concurrency,
    latency_distribution,
    latency_throughput,
    quality_against_size,
    ratio_by_load,
    roofline_position,
    startup_timeline,
    telemetry_over_time,
    throughput_by_concurrency,
    vram_by_part,
)
from quantcase.charts.theme import MOST, SENTINELS


def points(names: list[str], loads: tuple[int, ...] = (1, 8, 16)) -> pd.DataFrame:
    rows = []
    for i, name in enumerate(names):
        for load in loads:
            for metric, value in (
                ("throughput_tok_s", 150.0 * load * (1 + 0.2 * i)),
                ("ttft_ms_p50", 60.0 + load),
                ("e2e_ms_p50", 700.0 + 10 * load - 50 * i),
                ("e2e_ms_p95", 800.0 + 10 * load - 50 * i),
                ("usd_per_1m_output_tokens", 1.0 / (1 + i)),
            ):
                high = math.nan if load == 1 else value * 1.05
                rows.append((name, "chat", f"c{load}", f"concurrency {load}", load, metric, value, value * 0.95, high))
    return pd.DataFrame(rows, columns=["variant", "workload", "load", "at", "amount", "metric", "value", "low", "high"])


def vram(names: list[str]) -> pd.DataFrame:
    parts = ("weights", "kv_cache", "activations", "graphs")
    rows = [(n, part, 10.0 + i) for i, n in enumerate(names) for part in parts]
    return pd.DataFrame(rows, columns=["variant", "part", "gib"])


def spread(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows: list[tuple[str, str, float, float, int]] = []
    for name in names:
        for metric, middle in (("ttft_ms", 40.0), ("e2e_ms", 800.0)):
            values = np.sort(middle * rng.lognormal(0, 0.1, 40))
            rows += [(name, metric, float(v), (k + 1) / 40, 40) for k, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["variant", "metric", "ms", "share", "n"])


def startups(names: list[str]) -> pd.DataFrame:
    parts = {"weights": 2.0, "compile": 17.0, "graphs": 4.0, "rest": 50.0}
    rows = [(n, 1, part, s + i, 73.0 + 4 * i, 75.0 + 4 * i) for i, n in enumerate(names) for part, s in parts.items()]
    return pd.DataFrame(rows, columns=["variant", "start", "part", "seconds", "ready_s", "first_token_s"])


def sizes(names: list[str]) -> pd.DataFrame:
    rows = [(n, 16.0 / 2**i, 1 - 0.01 * i, math.nan if i == 0 else 0.95, 1.02, 500, True) for i, n in enumerate(names)]
    return pd.DataFrame(rows, columns=["variant", "gib", "recovery", "low", "high", "n", "front"])


def positions(names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [
        (n, f"chat, concurrency {c}", 1.0 * c + i, 3.0 * c, 2.9 * c, 3.1 * c, 0.5 + 0.01 * i, 0.01 * c)
        for i, n in enumerate(names)
        for c in (1, 16)
    ]
    columns = ["variant", "at", "intensity", "tflops", "low", "high", "bandwidth_share", "compute_share"]
    roofs = [(r, x, min(989.0, 4.8 * x)) for r in ("BF16", "FP16") for x in (0.5, 206.0, 412.0)]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(roofs, columns=["roof", "intensity", "tflops"])


def samples() -> pd.DataFrame:
    rows = [
        (0, metric, 100 + 3.0 * i, 50.0 + i, 60.0 + i, 55.0 + i, int(i > 20))
        for metric in ("power (W)", "SM clock (MHz)")
        for i in range(40)
    ]
    return pd.DataFrame(rows, columns=["gpu", "metric", "t_s", "low", "high", "mean", "piece"])


def visits(names: list[str]) -> pd.DataFrame:
    rows = [(n, 1, 100 + 30.0 * i, 125 + 30.0 * i) for i, n in enumerate(names)]
    return pd.DataFrame(rows, columns=["variant", "start", "from_s", "to_s"])


def all_charts(names: list[str], loads: tuple[int, ...] = (1, 8, 16)) -> list[Figure]:
    """One of each family, for the same variants; the first is the baseline."""
    return _all_charts(tuple(names), loads)


@cache
def _all_charts(given_names: tuple[str, ...], loads: tuple[int, ...]) -> list[Figure]:
    names = list(given_names)
    table, base = points(names, loads), names[0]
    ratios = [(n, load, 1.2 - 0.03 * load, 1.1 - 0.03 * load, 1.3 - 0.03 * load) for n in names[1:] for load in loads]
    ratio = pd.DataFrame(ratios, columns=["variant", "amount", "ratio", "low", "high"])
    crossings = [Crossing(n, 6.7, 3.3, math.nan, True) for n in names[1:]]
    top = f"c{loads[-1]}"
    return [
        throughput_by_concurrency(table, "chat", base, title="Throughput"),
        latency_by_concurrency(table, "chat", "e2e_ms_p95", base, title="Latency"),
        latency_throughput(table, "chat", "e2e_ms_p95", base, title="Latency against throughput"),
        ratio_by_load(ratio, crossings, "chat", base, 0.02, title="Against the baseline"),
        latency_distribution(spread(names), table, "chat", top, base, title="Every request"),
        vram_by_part(vram(names), base, 139.8, title="Memory"),
        startup_timeline(startups(names), title="Until ready"),
        cost_per_million(table, "chat", top, base, title="Cost"),
        quality_against_size(sizes(names), base, title="Quality against size"),
        roofline_position(*positions(names), base, title="Roofs"),
        telemetry_over_time(samples(), visits(names), 900, 3.0, base, title="GPU over the run"),
    ]


def marks(figure: Figure) -> int:
    return len(re.findall(r"<path ", figure.svg))


def test_charts_are_whole_and_follow_the_page() -> None:
    for figure in all_charts(["bf16", "fp8", "awq"]):
        minidom.parseString(figure.svg)
        assert re.search(r"var\(--qc-series-\d\)", figure.svg), figure.name
        assert "var(--qc-text)" in figure.svg
        assert not any(colour in figure.html() for colour in SENTINELS)
        assert "<script" not in figure.html()
        assert 'role="img"' in figure.svg
        assert re.search(r"\d", figure.alt)
        assert f'aria-label="{html.escape(figure.alt, quote=True)}"' in figure.svg
        assert "\n" not in figure.html()
        assert marks(figure) > 3


def test_ids_are_unique_on_a_page() -> None:
    ids = [i for f in all_charts(["bf16", "fp8", "awq"]) for i in re.findall(r'\bid="([^"]+)"', f.html())]
    assert len(ids) == len(set(ids))


def test_the_words_say_who_leads_and_whether_that_is_sure() -> None:
    figure = all_charts(["bf16", "fp8", "awq"])[0]
    assert "At concurrency 16: highest awq with 3,360 tok/s, lowest bf16 with 2,400 tok/s" in figure.alt
    close = points(["bf16", "fp8"])
    close.loc[close["variant"] == "fp8", ["value", "low", "high"]] *= 0.86
    assert "overlap" in throughput_by_concurrency(close, "chat", "bf16", title="t").alt


def test_every_family_states_its_finding() -> None:
    alts = [f.alt for f in all_charts(["bf16", "fp8", "awq"])]
    assert any("fp8 stops paying at a load of about 6.7 (3.3 to beyond what was measured)" in a for a in alts)
    assert any("Median TTFT 76 ms (awq) to 76 ms (fp8); median E2E 760 ms (awq) to 860 ms (bf16)" in a for a in alts)
    assert any("Ready soonest: bf16 after 73 s; latest: awq after 81 s." in a for a in alts)
    assert any(
        "Smallest: awq, 98.0 % of the baseline's accuracy (95.0 % to 102.0 %), at 25 % of its weights;" in a
        for a in alts
    )
    assert any("Most of the card's bandwidth 52 % (awq, chat, concurrency 16)" in a for a in alts)
    assert any("Power (W) 50 to 99; SM clock (MHz) 50 to 99." in a for a in alts)


@pytest.mark.parametrize("loads", [(1,), (4, 8)])
def test_one_variant_and_one_load_point_will_do(loads: tuple[int, ...]) -> None:
    for figure in all_charts(["only"], loads):
        minidom.parseString(figure.svg)


def test_no_more_series_than_can_be_told_apart_and_the_rest_are_named() -> None:
    names = [f"v{i}" for i in range(MOST + 2)]
    for figure in all_charts(names):
        series = figure.live["usermeta"].get("series", [])
        assert len(series) <= MOST
        for sign in ("color", "shape", "strokeDash"):
            seen = [str(s[sign]) for s in series if sign in s]
            assert len(seen) == len(set(seen)), (figure.name, sign)
        if series and series[0]["name"] == "v0":
            assert [s["name"] for s in series] == names[:MOST]
            assert f"Not drawn, so that {MOST} can be told apart: v8, v9." in figure.caption


def test_a_series_is_never_told_by_colour_alone() -> None:
    for figure in all_charts(["bf16", "fp8", "awq"]):
        meta = figure.live["usermeta"]
        if meta.get("field") == "variant":
            assert all("shape" in s or "strokeDash" in s for s in meta["series"]), figure.name


def test_bars_start_at_zero_and_cannot_be_moved_off_it() -> None:
    for figure in all_charts(["bf16", "fp8", "awq"]):
        if figure.name in ("vram", "startup") or figure.name.startswith("cost"):
            assert figure.live["usermeta"]["zoom"] == {}
            assert '"zero": false' not in str(figure.spec).lower()
            assert re.search(r">0(\.00)?<|>\$0\.00<", figure.svg), figure.name


@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@example("000000000\U00010001Īī\ue1a4")
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20))
def test_hostile_names_break_nothing(name: str) -> None:
    for figure in all_charts(["bf16", f"<b>&\"'{name}"]):
        minidom.parseString(figure.svg)
        assert "<b>" not in figure.html()
