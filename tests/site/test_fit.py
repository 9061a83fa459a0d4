"""Will it fit: shapes that add up to the known sizes, the formula beside the real H200, and the verdict's edges."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from collector.bundle.read import open_bundle
from quantcase.analysis.fit import (
    GIB,
    Ask,
    Overhead,
    agreement,
    estimate,
    fit,
    kv_bytes_per_token,
    kv_gib_per_context,
    overhead,
    starts,
    weights_gib,
)
from quantcase.catalog import load
from quantcase.pages import fit as fit_page
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle
from tests.real import RESULTS

ROOT = Path(__file__).parents[2]
REAL = RESULTS / "2026-11-21-h200-h200-shape"
LLAMA = fit_page.shapes()["llama-3_1-8b"]
FORMATS = fit_page.formats()


def views(results: Path) -> list[CaseView]:
    return [CaseView(c, Options()) for c in load(results).cases]


@pytest.fixture(scope="module")
def real() -> list[CaseView]:
    return [v for v in views(RESULTS) if v.case.id == REAL.name]


@pytest.mark.parametrize(
    ("key", "billions"),  # as the models' own cards state them
    [
        ("llama-3_1-8b", 8.03), ("llama-3_2-3b", 3.21), ("llama-3_1-70b", 70.6), ("mistral-7b", 7.25),
        ("qwen2_5-3b", 3.09), ("qwen2_5-7b", 7.61), ("qwen2_5-14b", 14.7), ("qwen2_5-32b", 32.5), ("qwen2_5-72b", 72.7),
        ("qwen3-8b", 8.2),
    ],
)  # fmt: skip
def test_a_shape_adds_up_to_the_parameters_that_its_model_is_known_for(key: str, billions: float) -> None:
    assert fit_page.shapes()[key].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_every_shape_and_format_says_where_it_was_read() -> None:
    assert LLAMA.parameters == 8_030_261_248
    assert all(s.source and re.fullmatch(r"20\d\d-\d\d", s.date) for s in fit_page.shapes().values())
    assert all(f.source for f in FORMATS.values())


@pytest.mark.parametrize(("key", "gb"), [("bf16", 16.06), ("awq", 5.73), ("int8", 9.08), ("q8_0", 8.53)])
def test_weights_of_llama_8b_in_gb(key: str, gb: float) -> None:
    stored = FORMATS[key]
    gib = weights_gib(LLAMA.parameters, LLAMA.sixteen, stored.bits, whole=stored.whole)
    assert gib * GIB / 1e9 == pytest.approx(gb, abs=0.005)


def test_kv_is_rounded_up_to_blocks_of_16_tokens() -> None:
    assert kv_bytes_per_token(LLAMA, 2) == 131_072
    assert kv_gib_per_context(LLAMA, Ask(tokens=8192)) == pytest.approx(1.0)
    assert kv_gib_per_context(LLAMA, Ask(tokens=8193)) == pytest.approx(8208 / 8192)
    assert kv_gib_per_context(LLAMA, Ask(tokens=8192, kv_bytes=1.0)) == pytest.approx(0.5)


def test_between_the_two_overheads_the_answer_depends_on_it() -> None:
    ask = Ask(share=1.0)
    bare = fit(LLAMA, FORMATS["bf16"], ask, 1000, Overhead(0, 0))
    need = bare.weights + bare.kv
    rest = Overhead(1.0, 3.0)
    assert fit(LLAMA, FORMATS["bf16"], ask, need + 3.01, rest).verdict == "fits"
    assert fit(LLAMA, FORMATS["bf16"], ask, need + 2.0, rest).verdict == "depends on overhead"
    assert fit(LLAMA, FORMATS["bf16"], ask, need + 0.99, rest).verdict == "does not fit"
    found = fit(LLAMA, FORMATS["bf16"], ask, need + 4.0, rest)
    assert found.free == pytest.approx((1.0, 3.0))
    assert found.most == (17, 19)  # a context is 1 GiB
    assert fit(LLAMA, FORMATS["bf16"], ask, 1.0, rest).most == (0, 0)


def test_the_contexts_that_fit_at_most_do_fit_and_one_more_does_not() -> None:
    rest = Overhead(1.0, 2.0)
    for memory in (24.0, 44.4, 139.8):
        most = fit(LLAMA, FORMATS["awq"], Ask(tokens=3000), memory, rest).most[0]
        for contexts, verdict in ((most, True), (most + 1, False)):
            asked = Ask(tokens=3000, contexts=contexts)
            assert (fit(LLAMA, FORMATS["awq"], asked, memory, rest).verdict == "fits") is verdict


def test_the_formula_agrees_with_the_real_h200(real: list[CaseView]) -> None:
    """Nine server starts of vLLM 0.26: weights within 3 %, KV exact, the driver's peak inside the estimate."""
    found = starts([v.case for v in real], fit_page.shapes(), FORMATS)
    stated = [r for r in open_bundle(REAL).variants() if r.exit_state == "ok"]
    assert len(found) == len(stated) == 9
    for start, row in zip(found, stated, strict=True):
        assert start.weights[1] == row.weights_gib
        assert start.kv[1] == row.kv_cache_gib
        assert start.weights[0] == pytest.approx(start.weights[1], rel=0.03)
        assert start.kv[0] == pytest.approx(start.kv[1], rel=0.0005)
        assert start.peak == pytest.approx((row.vram_peak_mib or 0) / 1024)
        assert start.total[0] <= start.peak <= start.total[1]
    assert agreement(found).inside == 9


def test_the_page_states_the_difference_and_n(real: list[CaseView]) -> None:
    page = html.unescape(fit_page.page(real))
    assert "Over 9 server starts" in page
    assert "−2.8 % to −0.3 %" in page  # AWQ and BF16: 5.34 of 5.49 GiB, 14.96 of 15.0
    assert "in 9 of 9" in page
    assert "measured, n = 9 server starts" in page
    assert "estimated, not measured" in page
    assert page.count("data-gpu=") == 13
    assert "from memory, unverified" in page


def test_measured_bounds_go_from_what_the_engine_stated_to_the_driver_s_peak(real: list[CaseView]) -> None:
    found = starts([v.case for v in real], fit_page.shapes(), FORMATS)
    rest = overhead("llama-3_1-8b", LLAMA, 16, found)
    rows = [r for r in open_bundle(REAL).variants() if r.exit_state == "ok"]
    least = min((r.activations_gib or 0) + (r.graphs_gib or 0) for r in rows)
    most = max((r.vram_peak_mib or 0) / 1024 - (r.weights_gib or 0) - (r.kv_cache_gib or 0) for r in rows)
    assert (rest.low, rest.high) == pytest.approx((least, most), abs=1e-4)
    assert rest.starts == 9
    other = fit_page.shapes()["qwen2_5-72b"]
    assert overhead("qwen2_5-72b", other, 16, found) == estimate(other, 16)


def test_a_formula_that_is_off_is_told_as_such(real: list[CaseView]) -> None:
    wrong = {"llama-3_1-8b": replace(LLAMA, layers=40)}
    found = starts([v.case for v in real], wrong, FORMATS)
    assert agreement(found).inside == 0
    assert agreement(found).kv_off[0] == pytest.approx(0.25, abs=0.001)
    assert all(s.peak_off < 0 for s in found)


def test_a_replayed_bundle_measures_nothing_and_no_bundle_is_a_sentence(tmp_path: Path) -> None:
    make_bundle(tmp_path, grade="simulated")
    assert starts([v.case for v in views(tmp_path)], fit_page.shapes(), FORMATS) == []
    assert "the formula is not checked" in fit_page.page(views(tmp_path))
    assert "the formula is not checked" in fit_page.page([])


def test_the_sum_is_shown_with_its_numbers() -> None:
    said = fit_page.lines(LLAMA, FORMATS["bf16"], Ask(), Overhead(1.0, 2.0, 9), "a card", 50.0)
    assert said[0] == "Weights: (8.030 − 1.051) × 10⁹ × 16.00 bits / 8 + 1.051 × 10⁹ × 2 bytes = 15.0 GiB"
    assert "131,072 bytes a token; × 8,192 tokens × 16 contexts = 16.0 GiB" in said[1]
    assert said[3] == "Need: 32.0 to 33.0 GiB"
    assert said[5].startswith("Result: fits; free 12.0 to 13.0 GiB; at most 28 to 29 contexts")
