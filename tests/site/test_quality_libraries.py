"""The statistics of quality against other people's: McNemar and Holm of statsmodels, F1 and confusion of scikit-learn.

The tables are random, from seeds, and hold the odd ones: nothing flipped, ties, labels that are never predicted or that
nobody knows.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score  # type: ignore[import-untyped, unused-ignore]
from statsmodels.stats import contingency_tables  # type: ignore[import-untyped, unused-ignore]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped, unused-ignore]

from quantcase.analysis.paired import NONE, confusion, holm, macro_f1, mcnemar, paired

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_exact_mcnemar_is_that_of_statsmodels(seed: int) -> None:
    r = random.Random(seed)
    for most in (1, 6, 40, 3000):
        lost, gained = r.randint(0, most), r.randint(0, most)
        table = [[r.randint(0, 500), lost], [gained, r.randint(0, 500)]]
        theirs = contingency_tables.mcnemar(table, exact=True).pvalue
        assert mcnemar(lost, gained) == pytest.approx(theirs, rel=1e-9, abs=1e-300), (lost, gained)


def test_no_flip_at_all_says_nothing_here_and_there() -> None:
    assert mcnemar(0, 0) == contingency_tables.mcnemar([[5, 0], [0, 5]], exact=True).pvalue == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_flips_of_two_runs_of_answers_are_the_corners_of_their_table(seed: int) -> None:
    r = random.Random(f"answers {seed}")
    n = r.randint(5, 300)
    before = [float(r.random() < 0.7) for _ in range(n)]
    after = [b if r.random() < 0.9 else 1 - b for b in before]
    found = paired(before, after, resamples=200)
    table = confusion_matrix(before, after, labels=[1.0, 0.0])  # rows: the baseline right, wrong
    assert (found.lost, found.gained) == (table[0, 1], table[1, 0])
    assert (found.baseline_right, found.variant_right) == (table[0].sum(), table[:, 0].sum())
    assert found.p_value == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_holms_adjusted_p_are_those_of_statsmodels_and_reject_the_same_tests(seed: int) -> None:
    r = random.Random(seed)
    n = r.randint(1, 12)
    p_values = [r.choice([0.0, 1.0, 0.01, 0.05, r.random(), r.random() ** 6]) for _ in range(n)]  # ties among them
    names = [f"test {i}" for i in range(n)]
    ours = holm(dict(zip(names, p_values, strict=True)))
    rejected, theirs, _, _ = multipletests(p_values, alpha=0.05, method="holm")
    assert list(ours) == names
    assert list(ours.values()) == pytest.approx(list(theirs), rel=1e-12, abs=0)
    for name, reject, p in zip(names, rejected, theirs, strict=True):
        if abs(p - 0.05) > 1e-12:
            assert (ours[name] < 0.05) == reject


def answers(seed: int) -> tuple[list[str], list[str | None]]:
    """Right labels with one that is rare, and what was said: often right, sometimes nothing or an unknown label."""
    r = random.Random(seed)
    labels = [f"label_{i}" for i in range(r.randint(2, 23))]
    gold = [r.choice(labels[: 1 + r.randrange(len(labels))]) for _ in range(r.randint(3, 400))]
    skill = r.random()
    said = [g if r.random() < skill else r.choice([*labels, None, "unheard_of"]) for g in gold]
    return gold, said


@pytest.mark.parametrize("seed", SEEDS)
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_that_are_asked_about(seed: int) -> None:
    gold, said = answers(seed)
    spoken = [NONE if s is None else s for s in said]
    theirs = f1_score(gold, spoken, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert macro_f1(gold, said) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_confusions_are_the_matrix_of_scikit_learn_beside_its_diagonal(seed: int) -> None:
    gold, said = answers(seed)
    spoken = [NONE if s is None else s for s in said]
    labels = sorted({*gold, *spoken})
    matrix = confusion_matrix(gold, spoken, labels=labels)
    np.fill_diagonal(matrix, 0)
    theirs = {(labels[i], labels[j]): int(matrix[i, j]) for i, j in zip(*matrix.nonzero(), strict=True)}
    ours = confusion(gold, said)
    assert {(g, p): n for g, p, n in ours} == theirs
    assert [n for _, _, n in ours] == sorted(theirs.values(), reverse=True)
    assert sum(theirs.values()) == sum(1 for g, p in zip(gold, spoken, strict=True) if g != p)
    assert Counter(g for g, _, _ in ours).keys() <= set(gold)
