"""Teacher-forced log-probabilities: by hand, against full softmaxes, and by simulation (intervals cover)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantcase.analysis.likelihood import Fidelity, Text, fidelity, kld_lower_bound

Array = NDArray[np.float64]
Top = list[tuple[int, float]]
SLACK = 4e-7  # what raising the remainders to 1e-6 can add


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def top(logs: Array, k: int) -> Top:
    return [(int(i), float(logs[i])) for i in np.argsort(-logs, kind="stable")[:k]]


def true_kld(p: Array, q: Array) -> float:
    return float(np.sum(np.exp(p) * (p - q)))


def logs(*shares: float) -> Top:
    """(token, log share) of tokens 0, 1, ..."""
    return [(i, math.log(x)) for i, x in enumerate(shares)]


def text(name: str, p: Array, q: Array, tokens: list[int], k: int) -> Text:
    """A text whose distributions are the rows of p and q (log-probabilities, one row a position)."""
    return Text(
        document=name,
        domain="prose",
        logprobs_p=[float(row[x]) for row, x in zip(p, tokens[1:], strict=True)],
        logprobs_q=[float(row[x]) for row, x in zip(q, tokens[1:], strict=True)],
        top_p=[top(row, k) for row in p],
        top_q=[top(row, k) for row in q],
        tokens=tokens,
    )


def corpus(rng: np.random.Generator, documents: int, length: int, noise: float, vocabulary: int = 12) -> list[Text]:
    """Texts drawn from P; Q is P with noise on the logits, more in some documents than in others."""
    found = []
    for d in range(documents):
        base = rng.normal(0, 2, (length, vocabulary))
        p = log_softmax(base)
        q = log_softmax(base + rng.normal(0, noise * rng.lognormal(0, 0.5), (length, vocabulary)))
        drawn = (p + rng.gumbel(size=p.shape)).argmax(axis=1)
        found.append(text(f"d{d:03d}", p, q, [0, *(int(x) for x in drawn)], 4))
    return found


# --- the bound at one position --------------------------------------------------------------------------------------


def test_the_bound_by_hand() -> None:
    # P = .5 .3 | .2, Q = .4 .2 | .4; the actual token 7 is outside both lists: .1 under P, .05 under Q.
    bound, mass = kld_lower_bound(logs(0.5, 0.3), logs(0.4, 0.2), 7, math.log(0.1), math.log(0.05))
    by_hand = 0.5 * math.log(0.5 / 0.4) + 0.3 * math.log(0.3 / 0.2) + 0.1 * math.log(2) + 0.1 * math.log(0.1 / 0.35)
    assert bound == pytest.approx(by_hand)  # 0.177
    assert mass == pytest.approx(0.9)


def test_only_tokens_in_both_lists_and_the_actual_one_are_compared() -> None:
    top_p, top_q = [(1, math.log(0.6)), (2, math.log(0.3))], [(3, math.log(0.5)), (1, math.log(0.4))]
    bound, mass = kld_lower_bound(top_p, top_q, 1, math.log(0.6), math.log(0.4))
    assert bound == pytest.approx(0.6 * math.log(1.5) + 0.4 * math.log(0.4 / 0.6))
    assert mass == pytest.approx(0.6)
    alone, mass = kld_lower_bound(top_p, [(3, math.log(0.9))], 5, math.log(0.05), math.log(0.02))  # nothing shared
    assert alone == pytest.approx(0.05 * math.log(2.5) + 0.95 * math.log(0.95 / 0.98))
    assert mass == pytest.approx(0.05)


def test_a_distribution_is_no_distance_from_itself() -> None:
    assert kld_lower_bound(logs(0.7, 0.2), logs(0.7, 0.2), 9, -5.0, -5.0)[0] == 0.0


def test_tokens_that_an_engine_gives_no_chance() -> None:
    for nothing in (-9999.0, -math.inf):
        bound, mass = kld_lower_bound(logs(0.9), logs(0.8), 5, nothing, math.log(0.1))
        assert bound == pytest.approx(0.9 * math.log(9 / 8) + 0.1 * math.log(0.1 / 0.1))
        assert mass == pytest.approx(0.9)
        impossible, _ = kld_lower_bound(logs(0.9), logs(0.8), 5, math.log(0.1), nothing)
        assert math.isfinite(impossible)
        assert impossible > 900  # what P holds likely and Q impossible is infinitely far in truth


@pytest.mark.parametrize("wrong", [math.nan, 12.5, 1e4, math.inf])
def test_what_is_no_log_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="not log-probabilities"):
        kld_lower_bound(logs(0.9), logs(0.8), 5, -3.0, wrong)
    with pytest.raises(ValueError, match="not log-probabilities"):
        kld_lower_bound([(0, wrong)], logs(0.8), 5, -3.0, -3.0)
    with pytest.raises(ValueError, match=r"add up to 1\.6"):
        kld_lower_bound(logs(0.8, 0.8), logs(0.5, 0.4), 0, math.log(0.8), math.log(0.5))


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.integers(2, 60),
    spread=st.floats(0, 12),
    noise=st.floats(0, 8),
    k=st.integers(1, 60),
)
def test_the_bound_never_exceeds_the_divergence(
    seed: int, vocabulary: int, spread: float, noise: float, k: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, vocabulary) * spread
    p, q = log_softmax(logits), log_softmax(logits + rng.normal(0, 1, vocabulary) * noise)
    actual = int(rng.integers(vocabulary))
    truth = true_kld(p, q)
    bound, mass = kld_lower_bound(top(p, k), top(q, k), actual, float(p[actual]), float(q[actual]))
    assert 0 <= bound <= truth + SLACK + 1e-9 * truth
    assert 0 <= mass <= 1
    if k >= vocabulary:
        assert bound == pytest.approx(truth, abs=1e-9)
        assert mass == pytest.approx(1.0)
    more, more_mass = kld_lower_bound(top(p, k + 5), top(q, k + 5), actual, float(p[actual]), float(q[actual]))
    assert more >= bound - 2e-5  # finer bins: not less, but for remainders that were raised to 1e-6
    assert more_mass >= mass - 1e-12


def test_twenty_tokens_recover_most_of_the_divergence() -> None:
    rng = np.random.default_rng(1)
    found, truth = 0.0, 0.0
    for _ in range(200):
        base = rng.normal(0, 1, 4000) - 1.5 * np.log(np.arange(1, 4001))
        p, q = log_softmax(base), log_softmax(base + rng.normal(0, 0.3, 4000))
        actual = int((p + rng.gumbel(size=4000)).argmax())
        found += kld_lower_bound(top(p, 20), top(q, 20), actual, float(p[actual]), float(q[actual]))[0]
        truth += true_kld(p, q)
    assert 0.6 < found / truth < 1


# --- over texts -----------------------------------------------------------------------------------------------------


def by_hand() -> list[Text]:
    """Two documents, three positions; P and Q of the actual tokens are .5 .25 .8 and .4 .5 .2."""
    a = Text(
        document="a",
        domain="prose",
        logprobs_p=[math.log(0.5), math.log(0.25)],
        logprobs_q=[math.log(0.4), math.log(0.5)],
        top_p=[[(1, math.log(0.5))], [(9, math.log(0.6))]],
        top_q=[[(1, math.log(0.4))], [(2, math.log(0.5))]],
        tokens=[0, 1, 2],
    )
    b = Text("b", "code", [math.log(0.8)], [math.log(0.2)], [[(3, math.log(0.8))]], [[(4, math.log(0.7))]], [0, 3])
    return [a, b]


def test_fidelity_by_hand() -> None:
    found = fidelity(by_hand())
    assert (found.documents, found.tokens) == (2, 3)
    assert found.ppl_ratio == pytest.approx((0.5 / 0.4 * 0.25 / 0.5 * 0.8 / 0.2) ** (1 / 3))  # 2.5^(1/3)
    assert found.top1_agreement == pytest.approx(1 / 3)
    assert found.mean_delta_p == pytest.approx((-0.1 + 0.25 - 0.6) / 3)
    assert found.rms_delta_p == pytest.approx(math.sqrt((0.01 + 0.0625 + 0.36) / 3))
    assert found.captured_mass == pytest.approx((0.5 + 0.25 + 0.8) / 3)

    def two_bins(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    expected = (two_bins(0.5, 0.4) + two_bins(0.25, 0.5) + two_bins(0.8, 0.2)) / 3
    assert found.kld_topk_lower_bound == pytest.approx(expected)
    # Of two documents a quarter of the draws hold only the one and a quarter only the other.
    assert (found.top1_agreement_low, found.top1_agreement_high) == pytest.approx((0.0, 0.5))
    assert found.ppl_ratio_low == pytest.approx((0.5 / 0.4 * 0.25 / 0.5) ** 0.5)
    assert found.ppl_ratio_high == pytest.approx(4.0)


def test_a_variant_equal_to_the_baseline_differs_by_nothing() -> None:
    texts = [
        replace(t, logprobs_q=t.logprobs_p, top_q=t.top_p) for t in corpus(np.random.default_rng(2), 10, 8, noise=0.0)
    ]
    found = fidelity(texts)
    assert (found.ppl_ratio, found.top1_agreement, found.rms_delta_p, found.mean_delta_p) == (1, 1, 0, 0)
    assert (found.kld_topk_lower_bound, found.kld_topk_lower_bound_high) == (0, 0)
    assert (found.ppl_ratio_low, found.ppl_ratio_high) == (1, 1)


def test_more_noise_is_less_fidelity() -> None:
    little, much = (fidelity(corpus(np.random.default_rng(3), 30, 20, noise)) for noise in (0.1, 0.6))
    assert little.kld_topk_lower_bound_high < much.kld_topk_lower_bound_low
    assert little.rms_delta_p_high < much.rms_delta_p_low
    assert little.top1_agreement_low > much.top1_agreement_high
    assert little.ppl_ratio < much.ppl_ratio


def test_the_same_texts_give_the_same_digits_in_any_order() -> None:
    texts = corpus(np.random.default_rng(4), 20, 10, 0.3)
    found = fidelity(texts)
    assert found == fidelity(texts) == fidelity(texts[::-1])
    assert found != fidelity(texts, seed=1)
    # Pieces of one document are one document, wherever they stand.
    pieces = [replace(t, document=f"d{i % 7}") for i, t in enumerate(texts)]
    assert fidelity(pieces) == fidelity(pieces[::-1])
    assert fidelity(pieces).documents == 7
    assert fidelity(pieces).ppl_ratio == pytest.approx(found.ppl_ratio, rel=1e-12)


def test_copied_documents_narrow_nothing_within_a_document() -> None:
    """A document that repeats itself ten times says no more than once."""
    texts = corpus(np.random.default_rng(5), 40, 6, 0.4)
    once, tenfold = fidelity(texts), fidelity([t for t in texts for _ in range(10)])
    assert tenfold.tokens == 10 * once.tokens
    assert tenfold.ppl_ratio_low == pytest.approx(once.ppl_ratio_low, rel=1e-12)
    assert tenfold.ppl_ratio_high == pytest.approx(once.ppl_ratio_high, rel=1e-12)


def test_intervals_cover() -> None:
    """Of figures whose truth is known from very many documents; 60 documents with unequal noise in each run."""
    rng = np.random.default_rng(6)
    truth = fidelity(corpus(rng, 6000, 6, 0.5), resamples=1)
    runs = [fidelity(corpus(rng, 60, 6, 0.5), resamples=500) for _ in range(120)]

    def covered(name: str) -> float:
        at = getattr(truth, name)
        return float(np.mean([getattr(r, f"{name}_low") <= at <= getattr(r, f"{name}_high") for r in runs]))

    for name in ("ppl_ratio", "top1_agreement", "rms_delta_p", "kld_topk_lower_bound"):
        assert 0.85 <= covered(name) <= 1.0, name  # percentile intervals of 60 skewed documents fall a little short


def intervals(found: Fidelity) -> list[float]:
    return [
        found.ppl_ratio_low,
        found.ppl_ratio_high,
        found.top1_agreement_low,
        found.top1_agreement_high,
        found.rms_delta_p_low,
        found.rms_delta_p_high,
        found.kld_topk_lower_bound_low,
        found.kld_topk_lower_bound_high,
    ]


def test_one_document_has_no_interval() -> None:
    found = fidelity(by_hand()[:1])
    assert found.documents == 1
    assert found.ppl_ratio == pytest.approx(0.625**0.5)
    assert all(math.isnan(x) for x in intervals(found))


def test_texts_without_a_position_do_not_count() -> None:
    short = Text("short", "prose", [], [], [], [], [5])
    assert fidelity([*by_hand(), short]) == fidelity(by_hand())
    for nothing in ([], [short], [replace(short, tokens=[])]):
        with pytest.raises(ValueError, match="no texts with a scored position"):
            fidelity(nothing)


def test_a_variant_that_is_broken_beyond_numbers() -> None:
    texts = [replace(t, logprobs_q=[-math.inf] * len(t.logprobs_q)) for t in by_hand()]
    found = fidelity(texts)
    assert (found.ppl_ratio, found.ppl_ratio_low, found.ppl_ratio_high) == (math.inf, math.inf, math.inf)
    assert math.isfinite(found.rms_delta_p)


def test_fidelity_names_what_is_wrong() -> None:
    a, b = by_hand()
    with pytest.raises(ValueError, match="document 'a': 3 tokens have 2 scored positions, but top_q has 1"):
        fidelity([replace(a, top_q=a.top_q[:1]), b])
    with pytest.raises(ValueError, match="document 'b', position 0: no likeliest tokens"):
        fidelity([a, replace(b, top_p=[[]])])
    with pytest.raises(ValueError, match="document 'a', position 1: these are not log-probabilities"):
        fidelity([replace(a, logprobs_q=[-1.0, math.nan]), b])
    with pytest.raises(ValueError, match="at least one"):
        fidelity(by_hand(), resamples=0)
