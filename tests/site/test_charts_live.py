"""What the browser gets of a chart; drawings kept on disk; colours that can be told apart."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import vl_convert
from numpy.typing import NDArray

from quantcase.charts import cache, throughput_by_concurrency
from quantcase.charts.bundle import vega_js
from quantcase.charts.figure import _draw
from quantcase.charts.interactive import HIDDEN, attribute, painted, rounded
from quantcase.charts.theme import CONFIG, SENTINELS, SERIES
from tests.site.test_charts import all_charts, points

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=hacked()> {{7*7}} {% raw %} [x](javascript:1) `a` '\"&\\ \U0001f600 é **b** | # _c_"

# -- what the browser gets


def spec_of(html: str) -> dict[str, object]:
    """As a browser reads it: the attribute has no entity."""
    found = re.search(r"data-spec='([^']*)'", html)
    assert found is not None
    made: dict[str, object] = json.loads(found[1])
    return made


def test_the_page_carries_the_specification_and_hostile_names_mean_nothing_in_it() -> None:
    for figure in all_charts(["bf16", HOSTILE]):
        written = attribute(figure.live)
        assert spec_of(figure.html()) == figure.live
        assert not re.search(r"[<>&'`#*|\\](?!u[0-9a-f]{4})|\{\{|\{%|\]\(", written), figure.name
        assert written.isascii()
    assert HOSTILE in json.dumps(all_charts(["bf16", HOSTILE])[0].live, ensure_ascii=False).replace(
        "\\\\", "\\"
    ).replace('\\"', '"')


def test_the_data_is_that_of_the_drawing_to_six_digits() -> None:
    figure = all_charts(["bf16", "fp8", "awq"])[0]
    assert figure.live["datasets"] == figure.spec["datasets"]
    assert rounded({"a": [1234.56789012, float("nan"), 3, "x", True]}) == {"a": [1234.57, None, 3, "x", True]}


def test_colours_are_the_page_s_and_the_legend_is_left_to_it() -> None:
    for figure in all_charts(["bf16", "fp8", "awq"]):
        words = json.dumps(figure.live)
        assert not any(s in words for s in SENTINELS)
        assert "config" not in figure.live
        meta = figure.live["usermeta"]
        if "series" in meta:
            assert all(re.fullmatch(r"var\(--qc-series-\d\)", s["color"]) for s in meta["series"] if "color" in s)
            assert {"name": HIDDEN, "value": []} in figure.live["params"]
            assert f"indexof({HIDDEN}, datum['{meta['field']}'])" in words
    assert painted(CONFIG)["axis"]["gridColor"] == "var(--qc-grid)"


def test_vega_is_one_file_with_its_licences_and_the_theme(tmp_path: Path) -> None:
    made = vega_js()
    assert made.startswith("/*! Vega")
    assert "BSD-3-Clause" in made[:600]
    assert "window.quantcaseVega" in made
    assert "var(--qc-text)" in made
    assert 0.5e6 < len(made.encode()) < 1.1e6


# -- kept on disk


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A cache of its own for a test; the way back is that of the process."""
    cache.use(tmp_path)
    _draw.cache_clear()
    yield tmp_path
    cache._given.clear()
    _draw.cache_clear()


def test_a_second_build_draws_nothing_and_says_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = []
    draw = vl_convert.vegalite_to_svg

    def counted(spec: str) -> str:
        drawings.append(spec)
        return str(draw(spec))

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", counted)

    def build() -> list[str]:
        _draw.cache_clear()  # as a new process
        table = points(["bf16", "fp8"])
        return [throughput_by_concurrency(table, "chat", "bf16", title=t).html() for t in ("One", "Two")]

    first = build()
    assert len(drawings) == 2
    assert build() == first
    assert len(drawings) == 2
    kept = sorted(folder.iterdir())
    assert [p.suffix for p in kept] == [".svg", ".svg"]
    for path, broken in zip(kept, (b"", kept[1].read_bytes()[:-40]), strict=True):
        path.write_bytes(broken)
    assert build() == first
    assert len(drawings) == 4
    kept[0].write_bytes(kept[0].read_bytes().replace(b"</svg>", b"<script>1</script></svg>"))
    assert build() == first
    assert len(drawings) == 5
    assert all(p.suffix == ".svg" for p in folder.iterdir())  # no draft is left behind


def test_what_was_drawn_by_another_version_is_drawn_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.kept("a", ".svg", lambda: "one") == "one"
    assert cache.kept("a", ".svg", lambda: "two") == "one"
    assert cache.kept("b", ".svg", lambda: "two") == "two"
    monkeypatch.setattr(cache, "version", lambda _: "0.0.0")
    assert cache.kept("a", ".svg", lambda: "three") == "three"


def test_the_folder_is_that_given_then_the_environment_s_then_one_below(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cache.ENV, raising=False)
    cache._given.clear()
    assert cache.folder() == tmp_path / ".cache" / "quantcase" / "charts"
    monkeypatch.setenv(cache.ENV, "/somewhere")
    assert cache.folder() == Path("/somewhere")
    monkeypatch.setenv(cache.ENV, "")
    assert cache.folder() is None
    cache.use(tmp_path / "given")
    assert cache.folder() == tmp_path / "given"
    cache._given.clear()


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache.use(tmp_path / "file" / "below")
    assert cache.kept("a", ".svg", lambda: "drawn") == "drawn"
    cache._given.clear()


def test_two_builds_at_once_do_each_other_no_harm(tmp_path: Path) -> None:
    code = (
        "from quantcase.charts import cache\n"
        "for i in range(400):\n"
        "    text = str(i % 5) * 200_000\n"
        "    assert cache.kept(f'{i % 5}', '.svg', lambda: text) == text\n"
        "    if i % 7 == 0:\n"
        "        for p in list(cache.folder().glob('*.svg'))[:1]: p.unlink(missing_ok=True)\n"
    )
    env = {**os.environ, cache.ENV: str(tmp_path), "PYTHONPATH": str(ROOT / "site")}
    both = [subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    assert not list(tmp_path.glob(".draft-*"))


# -- colours

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
_SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def linear(colour: str) -> NDArray[np.float64]:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    lab: NDArray[np.float64] = _LAB @ np.cbrt(_LMS @ np.clip(rgb, 0, 1))
    return lab


def contrast(a: str, b: str) -> float:
    """WCAG's ratio."""
    x, y = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(c))) + 0.05 for c in (a, b))
    return y / x


def palette(scheme: str) -> tuple[list[str], str]:
    """The eight series and the card of a scheme."""
    found: dict[str, str] = {}
    light, dark = (ROOT / "site" / "quantcase" / "assets" / "quantcase.css").read_text().split('"slate"', 1)
    for part in (light, dark.split("}", 1)[0]) if scheme == "dark" else (light,):
        found |= dict(re.findall(r"--qc-(series-\d|card): (#[0-9a-f]{6});", part))
    return [found[f"series-{i}"] for i in range(len(SERIES))], found["card"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_series_can_be_told_apart_by_everybody(scheme: str) -> None:
    series, card = palette(scheme)
    for a, b in itertools.combinations(series, 2):
        for kind, matrix in _SEEN.items():
            apart = float(np.linalg.norm(oklab(matrix @ linear(a)) - oklab(matrix @ linear(b))))
            assert apart >= 0.06, (scheme, kind, a, b)
    for colour in series:
        assert contrast(colour, card) >= 3.0, (scheme, colour)
