"""Prompts are repeatable, unique, and of the calibrated length."""

from hypothesis import given
from hypothesis import strategies as st

from collector.load.prompts import Calibration, PromptMaker
from tests.makers import study


def test_the_same_study_gives_the_same_prompts_and_no_two_are_alike() -> None:
    s = study()
    made = [
        PromptMaker(s, Calibration()).prompt(w, c.name, repeat, i, warmup=warmup)
        for w, c in s.cells()
        for repeat in (1, 2)
        for i in range(w.requests(c))
        for warmup in (False, True)
    ]
    again = PromptMaker(s, Calibration()).prompt(s.workloads[0], "c1", 1, 0)
    assert made[0] == again
    assert len(set(made)) == len(made)
    # No shared beginning that a prefix cache of 16-token blocks could answer from.
    assert len({p[:60] for p in made}) == len(made)


@given(st.floats(0, 60), st.floats(0.2, 4), st.integers(80, 4000))
def test_calibration_finds_the_words_that_make_the_tokens(fixed: float, per_word: float, tokens: int) -> None:
    def count(words: int) -> int:
        return round(fixed + per_word * words)

    got = Calibration.of((16, count(16)), (400, count(400)))
    assert abs(count(got.words(tokens)) - tokens) <= max(3, 0.02 * tokens + per_word)
