"""Charts: SVG that is whole, follows the page's palette, and says its finding in words."""

from __future__ import annotations

import math
import re
from xml.dom import minidom

import pandas as pd
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from quantcase.charts import Figure, cost_per_million, latency_by_concurrency, throughput_by_concurrency, vram_by_part
from quantcase.charts.theme import SENTINELS


def points(names: list[str], loads: tuple[int, ...] = (1, 8, 16)) -> pd.DataFrame:
    rows = []
    for i, name in enumerate(names):
        for load in loads:
            for metric, value in (
                ("throughput_tok_s", 150.0 * load * (1 + 0.2 * i)),
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


def all_charts(names: list[str], loads: tuple[int, ...] = (1, 8, 16)) -> list[Figure]:
    table = points(names, loads)
    return [
        throughput_by_concurrency(table, "chat", names[0], title="Throughput"),
        latency_by_concurrency(table, "chat", "e2e_ms_p95", names[0], title="Latency"),
        vram_by_part(vram(names), names[0], 139.8, title="Memory"),
        cost_per_million(table, "chat", f"c{loads[-1]}", names[0], title="Cost"),
    ]


def marks(figure: Figure) -> int:
    return len(re.findall(r"<path ", figure.svg))


def test_charts_are_whole_and_follow_the_page() -> None:
    for figure in all_charts(["bf16", "fp8", "awq"]):
        minidom.parseString(figure.svg)
        assert "var(--qc-series-0)" in figure.svg or figure.name == "vram"
        assert "var(--qc-text)" in figure.svg
        assert not any(colour in figure.svg for colour in SENTINELS)
        assert "<script" not in figure.svg
        assert 'role="img"' in figure.svg
        assert re.search(r"\d", figure.alt)
        assert "\n" not in figure.html()
        assert marks(figure) > 3


def test_ids_are_unique_on_a_page() -> None:
    ids = [i for f in all_charts(["a", "b"]) for i in re.findall(r'\bid="([^"]+)"', f.html())]
    assert len(ids) == len(set(ids))


def test_the_words_say_who_leads_and_whether_that_is_sure() -> None:
    figure = all_charts(["bf16", "fp8"])[0]
    assert "At concurrency 16: highest fp8 with 2,880 tok/s, lowest bf16 with 2,400 tok/s" in figure.alt
    close = points(["bf16", "fp8"])
    close.loc[close["variant"] == "fp8", ["value", "low", "high"]] *= 0.86
    assert "overlap" in throughput_by_concurrency(close, "chat", "bf16", title="t").alt


@pytest.mark.parametrize("loads", [(1,), (4, 8)])
def test_one_variant_and_one_load_point_will_do(loads: tuple[int, ...]) -> None:
    for figure in all_charts(["only"], loads):
        minidom.parseString(figure.svg)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@example("000000000\U00010001Īī\ue1a4")
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20))
def test_hostile_names_break_nothing(name: str) -> None:
    for figure in all_charts(["bf16", f"<b>&\"'{name}"]):
        minidom.parseString(figure.svg)
        assert "<b>" not in figure.html()
