"""Comparisons of a whole case: hidden percentiles, many at once, the control, how much is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from collector.design import with_control
from quantcase.analysis.compare import Comparison, _holm, _with_more, comparisons, regions
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.points import LEAST, THROUGHPUT, cell_estimates, points
from quantcase.analysis.verdict import verdicts
from quantcase.catalog import Case, load
from tests.makers import SPEED, make_bundle, study


def a_case(out: Path, **more: object) -> Case:
    make_bundle(out, **more)  # type: ignore[arg-type]
    (case,) = load(out).cases
    return case


def one(kind: str = "faster", p: float = 0.01, **more: object) -> Comparison:
    c = Comparison("fp8", "chat", "c1", 1.0, THROUGHPUT, 1.2, 1.1, 1.3, (3, 3), "faster", p, p, 0.03)
    return replace(c, kind=kind, **more)  # type: ignore[arg-type]


def test_percentiles_with_too_few_requests_are_not_shown_and_not_compared(tmp_path: Path) -> None:
    case = a_case(tmp_path)
    found = points(case)
    assert any(p.metric == "e2e_ms_p95" and not p.shown for p in found)
    for p in found:
        if p.metric.endswith("p95"):
            assert p.shown == (p.n >= LEAST[95])
        if p.metric.endswith("p99"):
            assert p.shown == (p.n >= LEAST[99])
    counts = case.ok_counts
    for c in comparisons(case):
        if c.metric.endswith("p95"):
            assert min(counts[c.variant, c.workload, c.load], counts["bf16", c.workload, c.load]) >= 100


def test_holms_correction_by_hand() -> None:
    found = [one(p=p, variant=f"v{i}") for i, p in enumerate((0.001, 0.02, 0.03, 0.5))]
    after = _holm(found, "")
    assert [c.adjusted_p for c in after] == pytest.approx([0.004, 0.06, 0.06, 0.5])
    assert [c.kind for c in after] == ["faster", "inconclusive", "inconclusive", "inconclusive"]


def test_the_control_is_no_claim_and_does_not_count_among_them() -> None:
    found = [one(p=0.02, variant="fp8"), one(p=0.04, variant="bf16-again")]
    assert [c.adjusted_p for c in _holm(found, "bf16-again")] == [0.02, 0.04]


def test_of_many_true_ties_hardly_any_is_called_a_difference() -> None:
    """Families of 20 comparisons without any difference: at most about 5 % of the families hold one false call."""
    rng = np.random.default_rng(17)
    false = 0
    for _ in range(400):
        family = []
        for i in range(20):
            shift = abs(rng.standard_normal())
            p = math.erfc(shift / math.sqrt(2))
            family.append(one(p=p, variant=f"v{i}"))
        false += any(c.kind == "faster" for c in _holm(family, ""))
    assert false / 400 <= 0.07


def test_how_many_more_repeats_follows_from_the_width_and_the_distance() -> None:
    c = _with_more(one("inconclusive", ratio=1.0, low=math.exp(-0.06), high=math.exp(0.06), rope=math.expm1(0.03)))
    assert c.more_repeats == 9  # the width must halve: four times three repeats
    assert _with_more(one("inconclusive", ratio=1.03, low=1.0, high=1.06)).more_repeats is None  # at the very edge
    assert _with_more(one("faster")).more_repeats is None
    assert _with_more(one("inconclusive", low=math.nan, high=math.nan)).more_repeats is None


def test_a_control_that_differs_widens_the_region_and_is_never_recommended(tmp_path: Path) -> None:
    asked = with_control(study())
    SPEED[asked.control] = 1.06  # the second copy of the baseline is 6 % slower: this set-up cannot tell 5 % apart
    try:
        case = a_case(tmp_path, asked=asked)
    finally:
        del SPEED[asked.control]
    known = cell_estimates(case)
    assert regions(case, known)[THROUGHPUT] > 0.045
    found = comparisons(case, known)
    assert {c.rope for c in found if c.metric == THROUGHPUT} == {regions(case, known)[THROUGHPUT]}
    assert any(c.variant == asked.control for c in found)
    assert asked.control not in {v.variant for v in verdicts(case, found, {})}


def test_an_estimate_knows_its_level(tmp_path: Path) -> None:
    known = cell_estimates(a_case(tmp_path))
    levels = {e.level for arms in known.values() for e in arms.values()}
    assert levels <= {"requests", "repeats", "starts"}
    assert all(isinstance(e, Estimate) and e.variance >= 0 for arms in known.values() for e in arms.values())
    assert msgspec.json.encode(sorted(levels))
