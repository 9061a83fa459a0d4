"""Paired outcomes: by hand, against SciPy, and by simulation (intervals cover, losses are found, ties are none)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from quantcase.analysis.paired import (
    Paired,
    confusion,
    first_difference,
    holm,
    items_needed,
    macro_f1,
    mcnemar,
    mean_ratio,
    median_divergence,
    paired,
)


def scores(both: int, lost: int, gained: int, neither: int) -> tuple[list[float], list[float]]:
    """(baseline, variant) with so many items of each outcome."""
    baseline = [1.0] * (both + lost) + [0.0] * (gained + neither)
    variant = [1.0] * both + [0.0] * lost + [1.0] * gained + [0.0] * neither
    return baseline, variant


def draw(rng: np.random.Generator, n: int, lost: float, gained: float) -> tuple[list[float], list[float]]:
    """n items of a population of which shares are lost and gained, and 60 % are right both times."""
    counts = rng.multinomial(n, [0.6, lost, gained, 0.4 - lost - gained])
    return scores(*(int(c) for c in counts))


# --- paired ---------------------------------------------------------------------------------------------------------


def test_a_table_by_hand() -> None:
    found = paired(*scores(70, 8, 2, 20))
    assert (found.n, found.baseline_right, found.variant_right, found.lost, found.gained) == (100, 78, 72, 8, 2)
    assert found.difference_pp == pytest.approx(-6.0)
    assert found.recovery == pytest.approx(72 / 78)
    assert found.flips_share == pytest.approx(0.10)
    assert found.p_value == pytest.approx(2 * (1 + 10 + 45) / 1024)  # 0.109
    assert found.mde_pp == pytest.approx(100 * (1.959964 + 0.841621) * math.sqrt(0.1 / 100), rel=1e-6)  # 8.9 pp
    assert found.low_pp < -6 < found.high_pp
    # The variance of a paired difference: (rho - d^2) / n.
    half = 196 * math.sqrt((0.10 - 0.06**2) / 100)
    assert found.high_pp - found.low_pp == pytest.approx(2 * half, rel=0.15)
    assert found.recovery_low is not None
    assert found.recovery_high is not None
    assert found.recovery_low < 72 / 78 < found.recovery_high


@pytest.mark.parametrize(("flips", "n"), [(0, 50), (10, 100), (1, 1), (300, 300)])
def test_the_interval_of_flips_is_scipys_exact_one(flips: int, n: int) -> None:
    found = paired(*scores(0, flips, 0, n - flips))
    exact = stats.binomtest(flips, n).proportion_ci(0.95, "exact")
    assert (found.flips_low, found.flips_high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_no_flips_is_not_certainty() -> None:
    found = paired(*scores(225, 0, 0, 75))
    bound = 100 * (1 - 0.025 ** (1 / 300))
    assert bound == pytest.approx(100 * stats.binomtest(0, 300).proportion_ci(0.95, "exact").high)  # 1.22 pp
    assert (found.low_pp, found.high_pp) == pytest.approx((-bound, bound))
    assert found.p_value == 1.0
    assert found.recovery == 1.0
    assert (found.recovery_low, found.recovery_high) == pytest.approx((1 - bound / 75, 1 + bound / 75))
    assert found.mde_pp == pytest.approx(280.158521 * math.sqrt(3) / 300, rel=1e-6)  # 3 / n stands for the flips


def test_the_bound_on_what_was_not_seen_holds_on_its_side_only() -> None:
    bound = 100 * (1 - 0.025 ** (1 / 500))
    gains, losses = paired(*scores(400, 0, 3, 97)), paired(*scores(400, 3, 0, 97))
    assert gains.low_pp == pytest.approx(0.6 - bound)
    assert gains.low_pp < 0 < gains.high_pp
    assert losses.high_pp == pytest.approx(-0.6 + bound)
    assert losses.low_pp < 0 < losses.high_pp
    plain = paired(*scores(400, 30, 30, 40))
    assert plain.low_pp > -5  # both kinds seen: the bootstrap alone
    assert paired(*scores(400, 60, 0, 40)).high_pp < -9  # a large one-sided loss stays a loss


def test_a_baseline_that_gets_nothing_right_has_no_recovery() -> None:
    found = paired([0, 0, 0, 0], [0, 1, 0, 0])
    assert (found.recovery, found.recovery_low, found.recovery_high) == (None, None, None)
    assert found.difference_pp == 25.0
    once = paired([1, 0, 0, 0], [1, 0, 0, 0])  # many draws have no right answer at all
    assert once.recovery == 1.0
    assert once.recovery_low is not None
    assert 0 <= once.recovery_low < 1


def test_the_same_data_give_the_same_digits_in_any_order() -> None:
    rng = np.random.default_rng(5)
    baseline, variant = draw(rng, 400, 0.07, 0.04)
    documents = [f"d{i}" for i in rng.integers(0, 60, 400)]
    order = rng.permutation(400)
    shuffled = [baseline[i] for i in order], [variant[i] for i in order]
    assert paired(baseline, variant) == paired(*shuffled)
    by_document = paired(baseline, variant, documents)
    assert by_document == paired(*shuffled, [documents[i] for i in order])
    assert by_document != paired(baseline, variant)
    assert paired(baseline, variant, seed=1) != paired(baseline, variant)


def test_one_item_a_document_is_no_clustering() -> None:
    baseline, variant = draw(np.random.default_rng(6), 600, 0.08, 0.04)
    plain, each = paired(baseline, variant), paired(baseline, variant, [str(i) for i in range(600)])
    assert each.low_pp == pytest.approx(plain.low_pp, abs=0.3)
    assert each.high_pp == pytest.approx(plain.high_pp, abs=0.3)
    assert replace(each, low_pp=0, high_pp=0, recovery_low=0, recovery_high=0) == replace(
        plain, low_pp=0, high_pp=0, recovery_low=0, recovery_high=0
    )


def test_copies_of_an_item_are_no_evidence() -> None:
    """Each document's ten items flip together: as wide as one item a document, sqrt(10) wider than ten apart."""
    baseline, variant = scores(60, 6, 4, 30)
    once = paired(baseline, variant)
    tenfold = [x for x in baseline for _ in range(10)], [x for x in variant for _ in range(10)]
    together = paired(*tenfold, [str(i) for i in range(100) for _ in range(10)])
    apart = paired(*tenfold)
    assert together.high_pp - together.low_pp == pytest.approx(once.high_pp - once.low_pp, rel=0.1)
    assert (together.high_pp - together.low_pp) / (apart.high_pp - apart.low_pp) == pytest.approx(10**0.5, rel=0.1)


def test_one_document_tells_nothing_of_others() -> None:
    found = paired(*scores(5, 2, 1, 2), ["only"] * 10)
    assert found.difference_pp == -10.0
    assert all(math.isnan(x) for x in (found.low_pp, found.high_pp))
    assert found.recovery_low is not None
    assert math.isnan(found.recovery_low)


def test_a_planted_loss_of_five_points_is_found() -> None:
    rng = np.random.default_rng(7)
    runs = [paired(*draw(rng, 1000, 0.065, 0.015)) for _ in range(200)]
    assert sum(r.p_value < 0.05 for r in runs) >= 198
    assert sum(r.high_pp < 0 for r in runs) >= 198


def test_no_loss_is_rarely_called_one() -> None:
    rng = np.random.default_rng(8)
    runs = [paired(*draw(rng, 1000, 0.04, 0.04)) for _ in range(400)]
    assert sum(r.high_pp < 0 for r in runs) <= 0.05 * 400 + 8
    assert sum(r.low_pp > 0 for r in runs) <= 0.05 * 400 + 8
    assert sum(r.p_value < 0.05 for r in runs) <= 0.05 * 400 + 8


@pytest.mark.parametrize(("n", "lost", "gained"), [(1000, 0.065, 0.015), (300, 0.06, 0.04)])
def test_the_interval_covers_the_true_difference(n: int, lost: float, gained: float) -> None:
    rng = np.random.default_rng(9)
    runs = [paired(*draw(rng, n, lost, gained)) for _ in range(400)]
    truth = 100 * (gained - lost)
    assert 0.92 <= np.mean([r.low_pp <= truth <= r.high_pp for r in runs]) <= 0.98
    recovery = (0.6 + gained) / (0.6 + lost)
    assert 0.92 <= np.mean([(r.recovery_low or 0) <= recovery <= (r.recovery_high or 0) for r in runs]) <= 0.98


def test_the_interval_covers_when_rates_of_flips_are_tiny() -> None:
    """0.2 % lost, none gained, 300 items: half of the plain bootstrap's intervals would have no width at 0."""
    rng = np.random.default_rng(10)
    runs = [paired(*draw(rng, 300, 0.002, 0.0)) for _ in range(300)]
    assert sum(r.lost == 0 for r in runs) > 120
    assert np.mean([r.low_pp <= -0.2 <= r.high_pp for r in runs]) >= 0.95


def test_documents_cover_where_items_do_not() -> None:
    """80 documents of ten items that tend to flip together: taken as independent, intervals are far too narrow."""
    rng = np.random.default_rng(11)
    documents = [str(d) for d in range(80) for _ in range(10)]

    def run() -> tuple[Paired, Paired]:
        rate: NDArray[np.float64] = np.repeat(rng.beta(0.15, 1.35, 80), 10)  # of losing, 10 % in the mean
        lost = rng.random(800) < rate
        baseline, variant = [1.0] * 800, [0.0 if x else 1.0 for x in lost]
        return paired(baseline, variant, documents), paired(baseline, variant)

    runs = [run() for _ in range(120)]
    covered = np.mean([[r.low_pp <= -10 <= r.high_pp for r in pair] for pair in runs], axis=0)
    assert covered[0] >= 0.90  # percentile intervals of 80 skewed documents fall a little short of 95 %
    assert covered[1] <= 0.85


@pytest.mark.parametrize(
    ("baseline", "variant", "documents", "said"),
    [
        ([], [], None, "no scores"),
        ([1, 0], [1], None, "same items"),
        ([1, 0.5], [1, 0], None, "neither 0 nor 1"),
        ([1, 0], [1, math.nan], None, "neither 0 nor 1"),
        ([1, 0], [1, 0], ["a"], "1 documents"),
    ],
)
def test_paired_refuses(baseline: list[float], variant: list[float], documents: list[str] | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired(baseline, variant, documents)


def test_paired_refuses_to_draw_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired([1, 0], [1, 0], resamples=0)


# --- mcnemar, holm, items_needed ------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


@pytest.mark.parametrize(("gained", "smallest"), [(0, 6), (1, 8), (2, 10), (3, 12), (5, 15), (10, 23)])
def test_smallest_significant_losses(gained: int, smallest: int) -> None:
    assert mcnemar(smallest, gained) < 0.05 <= mcnemar(smallest - 1, gained)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


def test_holm_by_hand() -> None:
    # Ascending .01 .02 .03 .04: times 4, 3, 2, 1 is .04 .06 .06 .04, then never less than the one before.
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.02})
    assert found == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
    with pytest.raises(ValueError, match="'a' is nan"):
        holm({"a": math.nan})
    with pytest.raises(ValueError, match="alpha"):
        holm({"a": 0.1}, alpha=5)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values: dict[str, float], alpha: float) -> None:
    found = holm(p_values, alpha)
    rejected, going = set(), True
    for rank, name in enumerate(sorted(p_values, key=lambda k: p_values[k])):
        going = going and p_values[name] * (len(p_values) - rank) <= alpha
        if going:
            rejected.add(name)
    assert {name for name, p in found.items() if p <= alpha} == rejected
    assert all(p_values[k] <= found[k] <= 1 for k in p_values)


@pytest.mark.parametrize(
    ("discordance", "effect", "n"),
    [
        (0.03, 0.01, 2353),
        (0.05, 0.02, 979),
        (0.08, 0.02, 1568),
        (0.08, 0.05, 249),
        (0.10, 0.03, 870),
        (0.15, 0.01, 11771),
        (0.15, -0.05, 469),
    ],
)
def test_items_needed_is_the_table(discordance: float, effect: float, n: int) -> None:
    assert abs(items_needed(discordance, effect) - n) <= 1  # the table rounds


def test_so_many_items_have_that_power() -> None:
    n = items_needed(0.08, 0.03)
    rng = np.random.default_rng(12)
    counts = rng.multinomial(n, [0.055, 0.025, 0.92], size=2000)
    found = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in counts])
    assert 0.74 <= found <= 0.84  # the exact test is a little less powerful than the formula's


@pytest.mark.parametrize(("discordance", "effect"), [(0.03, 0.05), (0.05, 0.0), (1.5, 0.1)])
def test_items_needed_refuses(discordance: float, effect: float) -> None:
    with pytest.raises(ValueError, match="no such plan"):
        items_needed(discordance, effect)


# --- mean_ratio -----------------------------------------------------------------------------------------------------


def test_mean_ratio_by_hand() -> None:
    found = mean_ratio([10, 20, 30], [12, 20, 40])
    assert (found.ratio, found.n) == (1.2, 3)
    assert 1.0 <= found.low <= 1.2 <= found.high <= 4 / 3  # no draw leaves the range of the single ratios
    same = mean_ratio([3, 5, 9], [6, 10, 18])
    assert (same.ratio, same.low, same.high) == (2.0, 2.0, 2.0)


def test_mean_ratio_covers_and_repeats() -> None:
    rng = np.random.default_rng(13)

    def run() -> tuple[list[float], list[float]]:
        before = rng.lognormal(4, 0.6, 200)
        return list(before), list(before * rng.lognormal(-0.02, 0.2, 200) * 1.05)  # mean of the noise: 1

    runs = [mean_ratio(*run(), resamples=500) for _ in range(200)]
    assert 0.91 <= np.mean([r.low <= 1.05 <= r.high for r in runs]) <= 0.985
    before, after = run()
    assert mean_ratio(before, after) == mean_ratio(before, after)
    assert mean_ratio(before, after) == mean_ratio(before[::-1], after[::-1])


def test_mean_ratio_where_it_cannot_be_had() -> None:
    assert math.isnan(mean_ratio([0, 0], [1, 2]).ratio)
    single = mean_ratio([4], [5])
    assert single.ratio == 1.25
    assert math.isnan(single.low)
    with pytest.raises(ValueError, match="no amounts"):
        mean_ratio([], [])
    with pytest.raises(ValueError, match="same items"):
        mean_ratio([1], [1, 2])
    with pytest.raises(ValueError, match="finite"):
        mean_ratio([1, 2], [1, math.inf])


# --- form of answers ------------------------------------------------------------------------------------------------


def test_median_divergence_by_hand() -> None:
    # Still equal after 3: 4/5; after 5: 4/5 x 3/4 = 3/5; after 8: 3/5 x 1/2 = 3/10.
    assert median_divergence([3, 5, 5, 8, 10], [False, False, True, False, True]) == 8.0
    assert median_divergence([3, 5, 9, 9], [False, True, True, True]) is None
    assert median_divergence([4, 4], [True, True]) is None
    assert median_divergence([0, 1, 2, 3, 4, 5], [False] * 6) == 2.0  # exactly one half left: reached
    assert median_divergence([7], [False]) == 7.0


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40))
def test_median_divergence_is_scipys(found: list[tuple[int, bool]]) -> None:
    positions, censored = [x for x, _ in found], [c for _, c in found]
    curve = stats.ecdf(stats.CensoredData.right_censored(positions, censored)).sf
    expected = [float(q) for q, share in zip(curve.quantiles, curve.probabilities, strict=True) if share <= 0.5 + 1e-9]
    assert median_divergence(positions, censored) == (expected[0] if expected else None)


def test_median_divergence_refuses() -> None:
    with pytest.raises(ValueError, match="no positions"):
        median_divergence([], [])
    with pytest.raises(ValueError, match="marks"):
        median_divergence([1], [])
    with pytest.raises(ValueError, match="negative"):
        median_divergence([-1], [False])


@pytest.mark.parametrize(
    ("a", "b", "at"),
    [
        ("the cat sat", "the cat sat", None),
        ("the cat sat", "the dog sat", 1),
        ("the cat", "the cat sat", 2),
        ("the cat sat", "the", 1),
        ("", "the", 0),
        ("", "", None),
    ],
)
def test_first_difference(a: str, b: str, at: int | None) -> None:
    assert first_difference(a.split(), b.split()) == at
    assert first_difference(b.split(), a.split()) == at


def test_macro_f1_by_hand() -> None:
    gold = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", None, "x"]
    # a: 2 TP, 0 FP, 1 FN: 4/5. b: 1 TP, 1 FP, 1 FN: 2/4. c: never predicted: 0.
    assert macro_f1(gold, predicted) == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert macro_f1(gold, gold) == 1.0
    assert macro_f1(gold, [None] * 6) == 0.0
    # The rare label counts as much as the frequent one: accuracy 90 %, macro-F1 (18/19 + 0) / 2.
    assert macro_f1(["a"] * 9 + ["b"], ["a"] * 10) == pytest.approx(9 / 19)


def test_confusion_by_hand() -> None:
    gold = ["a", "a", "b", "b", "b", "c", "a"]
    predicted = ["b", "a", "c", "c", None, None, "c"]
    assert confusion(gold, predicted) == [
        ("b", "c", 2),
        ("a", "b", 1),
        ("a", "c", 1),
        ("b", "(none)", 1),
        ("c", "(none)", 1),
    ]
    assert confusion(["a"], ["a"]) == []


def test_labels_are_needed() -> None:
    with pytest.raises(ValueError, match="no labels"):
        macro_f1([], [])
    with pytest.raises(ValueError, match="no labels"):
        confusion([], [])
    with pytest.raises(ValueError, match="same items"):
        macro_f1(["a"], [])
