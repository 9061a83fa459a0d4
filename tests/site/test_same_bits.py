"""Formats of the same bits against each other: which pairs, by which interval, and no winner inside the noise."""

from __future__ import annotations

import html
import math
import re
import statistics
from pathlib import Path

import msgspec
import pytest
from scipy import stats

from collector.bundle.read import QualityItem, QualityRow
from collector.study import Variant, loads
from quantcase.analysis.points import THROUGHPUT
from quantcase.analysis.same_bits import nominal_bits, pairs
from quantcase.catalog import load
from quantcase.pages import same_bits
from quantcase.pages.view import CaseView, Options
from tests import makers
from tests.makers import STUDY, make_bundle
from tests.real import cases

# fp8 runs at 0.66 of the baseline's time a token, int8 at 0.50, awq and gptq both at 0.55.
SPEED = {**makers.SPEED, "gptq": 0.55, "int8": 0.50}


def words(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    asked = loads(STUDY.format(weights="real"))
    more = [
        Variant(name="gptq", model="org/gptq", method="gptq", bits=4),
        Variant(name="int8", model="org/int8", method="w8a8-int8", bits=8),
        Variant(name="int8-fp8kv", model="org/int8", method="w8a8-int8", bits=8, kv_dtype="fp8"),
    ]
    asked = msgspec.structs.replace(asked, variants=[*asked.variants, *more])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.makers.SPEED", SPEED)
        folder = make_bundle(tmp_path_factory.mktemp("results"), asked=asked)
    return CaseView(load(folder.parent).cases[0], Options())


@pytest.mark.parametrize(
    ("method", "bits", "nominal"),
    [("gguf:Q4_K_M", 4.96, 4), ("gguf:IQ3_XXS", 3.06, 3), ("gguf:Q8_0", None, 8), ("awq", 4.0, 4), ("gptq", 4.25, 4),
     ("fp8", 8.0, 8), ("gguf:F16", 16.0, 16), ("awq", None, None)],
)  # fmt: skip
def test_a_format_goes_by_the_bits_it_is_called_by(method: str, bits: float | None, nominal: int | None) -> None:
    row = makers.variant_row(Variant(name="v", model="m", method=method))
    assert nominal_bits(msgspec.structs.replace(row, bits=bits)) == nominal


def test_pairs_are_of_two_methods_the_same_bits_and_the_same_kv_cache(view: CaseView) -> None:
    found = pairs(view.case, view.estimates, {})
    assert [(p.bits, p.first.variant, p.second.variant) for p in found] == [(4, "awq", "gptq"), (8, "fp8", "int8")]
    assert pairs(view.case, view.estimates, {"gptq": "it did not serve"})[0].first.variant == "fp8"


def test_the_ratio_is_of_the_two_and_its_interval_from_their_own_repeats(view: CaseView) -> None:
    """Welch's interval of the logarithms, worked out by hand from cells.csv: one server start, three repeats each."""
    pair = pairs(view.case, view.estimates, {})[1]
    c = pair.at("batch", "c32", THROUGHPUT)
    assert c is not None
    speeds = {
        name: [
            x.throughput_tok_s
            for x in view.case.bundle.cells()
            if (x.variant, x.workload, x.load) == (name, "batch", "c32") and x.throughput_tok_s
        ]
        for name in ("fp8", "int8")
    }
    at = math.log(statistics.fmean(speeds["fp8"]) / statistics.fmean(speeds["int8"]))
    a, b = (statistics.variance(map(math.log, speeds[n])) / 3 for n in ("fp8", "int8"))
    half = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 2 + b**2 / 2)) * math.sqrt(a + b)
    assert (c.ratio, c.low, c.high) == pytest.approx((math.exp(at), math.exp(at - half), math.exp(at + half)))
    assert (c.kind, c.runs) == ("slower", (3, 3))
    assert c.p < c.adjusted_p < 0.05  # after Holm over all pairs and load points


def test_the_faster_one_is_named_and_none_inside_the_noise(view: CaseView) -> None:
    said = words(same_bits.section(view, {}))
    four, eight = said.split("fp8 against int8, 8 bits")
    assert "awq against gptq, 4 bits" in four
    assert re.search(r"Batch summarization at concurrency 32: (no winner|no difference to act on)", four)
    assert "is faster, throughput" not in four
    assert "Batch summarization at concurrency 32: int8 is faster, throughput −" in eight
    assert "Weights: 8.49 and 10.0 GiB, −15.1 % with fp8" in eight
    assert "Their answers were not judged." in eight


def test_one_pair_says_nothing_of_what_the_noise_hides(view: CaseView) -> None:
    awq = pairs(view.case, view.estimates, {})[0]
    assert {c.kind for c in awq.comparisons} <= {"inconclusive", "equivalent", "negligible"}
    ours = [c for c in awq.comparisons if c.metric == THROUGHPUT]
    assert [(c.workload, c.load) for c in ours] == [(w.name, at.name) for w, at in view.case.points_of_load()]


def test_where_the_client_was_the_limit_nothing_is_compared(view: CaseView, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = frozenset({("gptq", "batch", "c32")})
    monkeypatch.setattr("quantcase.analysis.same_bits.limited_loads", lambda _: limited)
    pair = pairs(view.case, view.estimates, {})[0]
    assert pair.limited == [("batch", "c32")]
    assert pair.at("batch", "c32", THROUGHPUT) is None
    assert "not compared at concurrency 32, where the client was the limit" in words(same_bits.section(view, {}))


def test_answers_are_paired_with_each_other(view: CaseView) -> None:
    """awq alone right on 2, gptq alone on 5, of 40: 3 lost, 7.5 points."""
    case = load(view.case.bundle.folder.parent).cases[0]
    items = {
        f"exact/x/{i:02}": QualityItem(
            suite="exact", task="x", prompt_id=f"exact/x/{i:02}", prompt_sha256="0", prompt="?", reference="a",
            scorer="exact",
        )
        for i in range(40)
    }  # fmt: skip
    right = {"awq": {0, 1, *range(10, 40)}, "gptq": {2, 3, 4, 5, 6, *range(10, 40)}}

    def rows(variant: str) -> dict[str, QualityRow]:
        return {
            key: QualityRow(
                variant=variant, start=1, suite="exact", task="x", prompt_id=key, prompt_sha256="0",
                score=float(i in right[variant]),
            )
            for i, key in enumerate(items)
        }  # fmt: skip

    case.__dict__["quality_items"] = items
    case.__dict__["answers"] = {(name, 1): rows(name) for name in right}
    pair = pairs(case, view.estimates, {})[0]
    assert pair.answers is not None
    assert (pair.answers.gained, pair.answers.lost, pair.answers.difference_pp) == (2, 5, -7.5)
    assert "of 40 prompts only awq got 2 right and only gptq 5, −7.5 points (" in words(
        same_bits.section(CaseView(case, Options()), {})
    )


def test_the_recorded_h200_run_names_no_winner_between_awq_and_gptq() -> None:
    (case,) = cases("2026-11-21-h200-h200-shape")
    view = CaseView(case, Options())
    awq, eight = pairs(case, view.estimates, {})
    assert (awq.first.variant, awq.second.variant) == ("awq", "gptq")
    assert not [c for c in awq.comparisons if c.kind in ("faster", "slower")]
    said = words(same_bits.section(view, {}))
    assert "Both run by MacheteLinearKernel" in said
    assert (eight.first.variant, eight.second.variant) == ("fp8", "w8a8-int8")


def test_no_pair_is_a_sentence(tmp_path: Path) -> None:
    view = CaseView(load(make_bundle(tmp_path, only=("bf16", "fp8")).parent).cases[0], Options())
    assert "No two formats of the same bits" in same_bits.section(view, {})
