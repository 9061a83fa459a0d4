"""The quick ways to a chart give the same chart: put together here or by Altair, with any fonts."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
from altair.utils import schemapi

from quantcase import charts
from quantcase.catalog import read
from quantcase.charts import cache, figure, gpus, history, loadtest, offload, projection, quick
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


def with_altair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chart put together by Altair's own classes, checks and data transformer included."""
    schemapi.enable_debug_mode()
    own = {"Chart": alt.Chart, "layer": alt.layer, "vconcat": alt.vconcat, "chart_spec": by_altair}
    for found in pkgutil.iter_modules(charts.__path__, f"{charts.__name__}."):
        module = importlib.import_module(found.name)
        for name in own.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, own[name])


def by_altair(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """A valid chart without Altair's theme; in the order in which it came, for the page holds it so."""
    return {k: v for k, v in chart.to_dict(validate=True).items() if k not in ("config", "$schema")}


def test_every_chart_is_what_altair_makes_of_it_to_the_letter(
    tmp_path: Path, specs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle(tmp_path, weights="real")

    def drawn() -> list[str]:
        view = CaseView(read(folder), Options())
        pages = [made.page(view) for made in (case, data, log, plan)]
        return [*pages, *(f.html() for f in others())]

    quickly, drawn_of = drawn(), specs.copy()
    specs.clear()
    with monkeypatch.context() as changed:
        with_altair(changed)
        try:
            assert drawn() == quickly
        finally:
            quick.hurry()
    assert specs == drawn_of
    assert len(specs) > 15


def others() -> list[figure.Figure]:
    """Charts that a simulated case does not have."""
    bounds = {"low": [0.9, 1.0, None], "high": [1.1, 1.2, None]}
    names = {"variant": ["a", "b", "b"]}
    cost = {side: [1.0, 2.0, 3.0] for side in ("usd", "usd_low", "usd_high", "ms", "ms_low", "ms_high")}
    cells = {"workload": ["w"] * 3, "load": ["c1", "c2", "c4"], "amount": [1, 2, 4], "value": [1.0, 2.0, 3.0]}
    bits = pd.DataFrame({**names, "gib": [4.0, 2.0, 1.0], "recovery": [1.0, 0.9, 0.8], **bounds, "n": [5, 5, 5]})
    vram = pd.DataFrame(
        {"model": ["m", "m"], "quantization": ["q", "q"], "place": ["baseline", "offload"], "gb": [2.0, 1.0]}
    ).assign(shown=["2", "1"])
    runs = pd.DataFrame({**names, **cells, **bounds, "run": [0, 0, 1], "date": "d", "engine": "e", "box": "x"})
    users = pd.DataFrame({**names, "users": [1, 1, 2], "percentile": ["median"] * 3, "ms": [1.0, 2.0, 3.0]})
    roofs = pd.DataFrame({"roof": ["r", "r"], "intensity": [1.0, 9.0], "tflops": [2.0, 5.0]})
    under = pd.DataFrame({**names, **bounds, "at": ["c1"] * 3, "intensity": [1.0, 2.0, 3.0], "tflops": [1.0, 1.5, 2.0]})
    shares = {"bandwidth_share": 0.5, "compute_share": 0.1}
    return [
        charts.quality_against_size(bits.assign(front=[True, False, True]), "a", title="t"),
        charts.roofline_position(under.assign(**shares), roofs, "a", title="t"),
        offload.offload_against_vram(vram, title="t"),
        history.over_time(runs, "a", "u", name=("n",), title="t", finding="f"),
        loadtest.latency_by_users(users, "a", title="t"),
        projection.measured_and_estimated(runs, "w", "ttft_ms_p50", "here", "there", title="t"),
        gpus.cost_against_latency(
            pd.DataFrame({**names, **cells, **cost, "gpu": ["g", "g", "h"], "at": "c"}), "e2e_ms_p95", "USD", "f",
            name=("n",), title="t",
        ),
        gpus.box_against_box(runs.assign(cell=["x", "y", "z"]), 0.05, "f", name=("n",), title="t"),
    ]  # fmt: skip


def test_odd_columns_go_altairs_own_way() -> None:
    frame = pd.DataFrame(
        {"a": [1.0, float("nan")], "n": [1, 2], "w": ["x", None], "d": pd.to_datetime(["2026-01-01"] * 2)}
    )
    assert {"a": None, "n": 2, "w": None, "d": "2026-01-01T00:00:00"} in quick.rows_of(frame)
    for part in (frame, frame[["a", "n", "w"]], frame.iloc[:0]):
        assert quick.rows_of(part) == alt.default_data_transformer(part)["values"]


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
