"""The quick ways to a chart give the same chart: Altair hurried or not, fonts of the machine or vl-convert's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from quantcase.catalog import read
from quantcase.charts import cache, figure, quick
from quantcase.pages import case, data, log, plan
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle

DRAW = """
import sys
from quantcase.charts import fonts
if sys.argv[1] == "ready":
    fonts.ready()
import vl_convert
spec = {"data": {"values": [{"a": 1200, "b": "αβ word"}, {"a": 7, "b": "x"}]}, "mark": "bar", "title": "Words, 1.5",
        "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b", "type": "nominal"}},
        "config": {"font": sys.argv[2]}}
print(vl_convert.vegalite_to_svg(spec).replace(sys.argv[2], "FONT"))
"""


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every specification that is to be drawn; the drawing itself is left out, because it is not what is compared."""
    seen: list[str] = []

    def noted(spec: str, *_: object) -> str:
        seen.append(spec)
        return "<svg></svg>"

    monkeypatch.setattr(figure, "_draw", noted)
    return seen


def test_every_chart_of_a_case_is_the_same_as_altair_makes_it(tmp_path: Path, specs: list[str]) -> None:
    folder = make_bundle(tmp_path, weights="real")

    def pages() -> list[str]:
        view = CaseView(read(folder), Options())
        return [made.page(view) for made in (case, data, log, plan)]

    quickly, drawn = pages(), specs.copy()
    specs.clear()
    with quick.as_it_comes():
        assert pages() == quickly
        assert specs == drawn
    assert len(drawn) > 10


def test_parameters_names_and_odd_columns_go_altairs_own_way() -> None:
    frame = pd.DataFrame(
        {"a": [1.0, float("nan")], "n": [1, 2], "w": ["x", None], "d": pd.to_datetime(["2026-01-01"] * 2)}
    )

    def chart() -> alt.VConcatChart:
        base = alt.Chart(frame).encode(x="a", y="n", tooltip=["w:N", "d:T"])
        named = base.mark_point().add_params(alt.selection_interval(name="brush"))
        return alt.vconcat(
            named + base.mark_line(), base.mark_bar().properties(height=50), alt.Chart(frame).mark_tick()
        )

    quickly = chart().to_dict()
    with quick.as_it_comes():
        assert chart().to_dict() == quickly
    assert {"a": None, "n": 2, "w": None, "d": "2026-01-01T00:00:00"} in next(iter(quickly["datasets"].values()))


@pytest.mark.parametrize("font", ["inherit", figure._MEASURED_IN])
def test_texts_are_measured_as_before_whatever_the_fonts_lie_in(font: str) -> None:
    first, second = (
        subprocess.run([sys.executable, "-c", DRAW, how, named], capture_output=True, text=True, check=True, timeout=60)
        for how, named in (("plain", "inherit"), ("ready", font))
    )
    assert second.stdout == first.stdout
    assert "αβ word" in first.stdout


def test_the_page_names_its_own_font(tmp_path: Path) -> None:
    cache.use(tmp_path)
    svg = figure.render({"data": {"values": [{"a": 1}]}, "mark": "point", "title": "T"}, "n", "alt", "").svg
    assert figure._MEASURED_IN not in svg
    assert 'font-family="inherit"' in svg
