"""What counts as right: the value said last, in whatever dress; and no answer at all brings a scorer down."""

from __future__ import annotations

import itertools
import json
import time
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.quality import exact, labels, long_context
from collector.quality.scorers import SCORERS, Judged, ScorerName, problem_of, score

REFERENCES: dict[ScorerName, str] = {
    "number": "42",
    "text": "Berlin",
    "lines": "- red\n- blue",
    "json": '{"a": 1}',
    "label": "track_order",
    "criterion": '{"all_of": [["a b", "x"], ["light"]], "none_of": ["y"], "pattern": "z|q", "most_words": 9}',
    "contains": "a b c",
}
ANY = st.sampled_from(list(get_args(ScorerName)))
# Text as models write it: more than random letters it holds what the scorers look for.
PIECES = st.sampled_from(
    [
        "```", "```json\n", "**", "__", "Answer:", " ", "\n", ",", ".", "-", "\u2212", "42", "1,024", '"', "{", "}",
        "[", "]", '{"a": 1}', "a", "b", "Berlin", "track order", "\u202e", "\ud7ff", "NaN", "\\ud800", "е́", "٤٢", "²",
    ]
)  # fmt: skip
ANSWERS = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))


def right(scorer: ScorerName, output: str, reference: str) -> bool:
    return score(scorer, output, reference).score == 1


@pytest.mark.parametrize(
    "output",
    [
        "42", "42.", "+42", "42.0", "Answer: **42**.", "**Answer: 42.**", "The final answer is: 42", "```\n42\n```",
        "```42```", "```python\n40 + 2\n```\nIt prints 42.", "40 + 2 = 42", "10-3+35=42", "$42", "42 km", "(42)",
        "Not 43 but\n\n42!", "__42__", "٤٢",
    ],
)  # fmt: skip
def test_a_number_in_any_dress_is_right(output: str) -> None:
    assert right("number", output, "42")


@pytest.mark.parametrize(
    "output",
    [
        "43", "It is 42? No: 43.", "42 or 43", "```\n42\n```\nSo the answer is 43.", "421", "4.2", "0.42", "42.5",
        "42,5", "1,42", "-42", "\u221242", "x42", "42nd", "2026-10-42", "40-42", "4 2", "42e1", "forty-two", "½",
        "v1.42", "42,000",
    ],
)  # fmt: skip
def test_a_right_number_within_a_wrong_answer_is_wrong(output: str) -> None:
    assert not right("number", output, "42")


def test_numbers_are_compared_by_value() -> None:
    assert right("number", "1,024", "1024")
    assert right("number", "12,345,678.50", "12345678.5")
    assert not right("number", "1,02", "1024")
    assert right("number", "It is \u22127 degrees", "-7")
    assert score("number", "x = 9" + "9" * 400, "42").score == 0


@pytest.mark.parametrize(
    "output",
    [
        "Berlin", "berlin.", "**Berlin**", "**Berlin.**", "Answer: **Berlin**.", "**Answer:** Berlin", "`Berlin`",
        '"Berlin."', '"Berlin".', "'Berlin'!", "```\nBerlin\n```", "```Berlin```", "Result =  BERLIN",
        "It is:\nBerlin\n\n",
    ],
)  # fmt: skip
def test_a_text_in_any_dress_is_right(output: str) -> None:
    assert right("text", output, "Berlin")


@pytest.mark.parametrize(
    "output",
    ["Berlin or Paris", "Berlin\nParis", "East Berlin", "Berlin, Germany", "Not Berlin.", "Berli", "\u202eBerlin", ""],
)
def test_a_right_text_within_a_wrong_answer_is_wrong(output: str) -> None:
    assert not right("text", output, "Berlin")


def test_a_date_is_one_text_and_no_three_numbers() -> None:
    for output in ("2024-02-25", "2024-02-25.", "**2024-02-25**", "Answer: 2024-02-25."):
        assert score("text", output, "2024-02-25") == Judged(1.0, "2024-02-25")
    for output in ("2024-2-25", "25-02-2024", "2024 02 25", "2024, 2, 25", "2024-02-26", "2024-02-250"):
        assert not right("text", output, "2024-02-25")
    assert score("number", "2024-02-25", "25") == Judged(0.0, None, "invalid")


def test_a_list_of_numbers_as_text_keeps_its_order_and_all_its_numbers() -> None:
    assert right("text", "Sorted:\n3, 17,  22.", "3, 17, 22")
    assert not right("text", "3, 22, 17", "3, 17, 22")
    assert not right("text", "3, 17, 22, 40", "3, 17, 22")


def test_lines_are_the_form_itself() -> None:
    assert right("lines", "```\nRED\nBLUE\n```", "RED\nBLUE")
    assert right("lines", "```text \nRED\n\nBLUE  \n```\nDone.", "RED\nBLUE")
    for output in ("red\nblue", "BLUE\nRED", "RED BLUE", "RED\nBLUE\nGREEN", "Here:\nRED\nBLUE", "**RED**\nBLUE"):
        assert not right("lines", output, "RED\nBLUE")


@pytest.mark.parametrize(
    "output",
    [
        '{"age": 34, "city": "Oslo"}', '{"city":"Oslo","age":34.0}',
        '```json\n{"city": "Oslo", "age": 34}\n```\nThere!',
        'Here it is: {"city": "Oslo", "age": 34} I hope it helps.', '```{"city": "Oslo", "age": 34}```',
        '{"city": "\\u004fslo", "age": 34}\n{"city": "Rome"',
    ],
)  # fmt: skip
def test_json_is_right_in_any_order_and_with_prose_around(output: str) -> None:
    assert right("json", output, '{"city": "Oslo", "age": 34}')


@pytest.mark.parametrize(
    "output",
    [
        '{"city": "Oslo", "age": "34"}', '{"city": "Oslo"}', '{"city": "Oslo", "age": 34, "x": null}', "[34]",
        '{"city": "oslo", "age": 34}', '[{"city": "Oslo", "age": 34}]', '{"city": "Oslo", "age": true}',
        '{"city": "Oslo", "age": null}', '{"Age": 34, "city": "Oslo"}', '{"city": "Oslo", "age": [34]}',
    ],
)  # fmt: skip
def test_json_with_another_value_type_or_key_is_wrong(output: str) -> None:
    assert score("json", output, '{"city": "Oslo", "age": 34}').score == 0
    assert score("json", output, '{"city": "Oslo", "age": 34}').problem == ""


@pytest.mark.parametrize(
    "output",
    [
        "Oslo", '{"a": 1', "{'a': 1}", '{"a": 1, "a": 1}', '{"a": 2, "a": 1}', '{"a": NaN}', '{"a": Infinity}',
        "{a: 1}",
        "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": 1,}', "}{",
    ],
)  # fmt: skip
def test_what_is_no_json_is_told_as_invalid(output: str) -> None:
    assert score("json", output, '{"a": 1}') == Judged(0.0, None, "invalid")


def test_json_nested_just_as_deep_as_python_can_is_no_crash() -> None:
    for depth in range(800, 1100):
        assert score("json", "[" * depth + "]" * depth, '{"a": 1}').score == 0


def test_true_is_not_one_and_null_is_not_nothing() -> None:
    assert right("json", '{"a": true, "b": null}', '{"a": true, "b": null}')
    assert not right("json", '{"a": 1}', '{"a": true}')
    assert not right("json", "{}", '{"a": null}')
    assert not right("json", '{"a": 0}', '{"a": false}')


def test_half_a_surrogate_pair_in_json_can_be_written_down() -> None:
    judged = score("json", '{"a": "\\ud83d"}', '{"a": "x"}')
    assert judged == Judged(0.0, '{"a": "?"}')


@pytest.mark.parametrize(
    "output",
    [
        "track_order",
        "Track Order",
        "track-order.",
        "`track_order`",
        "**Track_Order**",
        "Answer: track order\nBecause...",
    ],
)
def test_a_label_in_any_spelling_is_right(output: str) -> None:
    assert score("label", output, "track_order") == Judged(1.0, "track_order")


@pytest.mark.parametrize(
    "output", ["track", "track_orders", "order", "track_order, cancel_order", "not track_order", "-"]
)
def test_a_label_that_is_a_part_of_another_is_wrong(output: str) -> None:
    assert not right("label", output, "track_order")
    assert not right("label", "track_order", output)


def test_contains_takes_whole_words_and_no_pattern() -> None:
    assert right("contains", "It is C++ (of course).", "c++")
    assert right("contains", "costs $5.00 (net)", "$5.00 (net)")
    assert right("contains", "carbon\n  dioxide", "Carbon dioxide")
    for output, reference in [("cccc", "c++"), ("5x00", "5.00"), ("Berliner", "Berlin"), ("100", "10"), ("b", "[a-z]")]:
        assert not right("contains", output, reference)


def test_a_criterion_needs_one_word_of_each_group_and_none_that_is_barred() -> None:
    wanted = '{"all_of": [["light", "sun"], ["blue"]], "none_of": ["ocean"]}'
    assert score("criterion", "Sun makes it blue.", wanted) == Judged(1.0, "met")
    assert score("criterion", "Blue.", wanted) == Judged(0.0, "missed: light/sun")
    assert score("criterion", "Sunlight is blue", wanted) == Judged(0.0, "missed: light/sun")
    assert score("criterion", "The blue ocean in the sun", wanted) == Judged(0.0, "missed: not ocean")


def test_a_criterion_counts_words_at_both_ends() -> None:
    wanted = '{"least_words": 2, "most_words": 3}'
    said = [score("criterion", " ".join("abcde"[:n]), wanted).parsed for n in (1, 2, 3, 4)]
    assert said == ["missed: at least 2 words", "met", "met", "missed: at most 3 words"]


def test_a_criterion_has_a_pattern_over_all_lines_without_regard_to_case() -> None:
    assert right("criterion", "DEF largest(\n  x):\n  Return x", r'{"pattern": "def\\s+largest.*return\\s"}')
    assert not right("criterion", "largest", r'{"pattern": "def\\s+largest"}')


@given(ANY, st.text(" \t\n\r\u00a0\u2028", max_size=9))
def test_an_empty_answer_is_wrong_whatever_was_asked(scorer: ScorerName, output: str) -> None:
    assert score(scorer, output, REFERENCES[scorer]) == Judged(0.0, None, "empty")
    assert problem_of(output, "stop") == "empty"


@settings(max_examples=400)
@given(ANY, ANSWERS)
def test_any_text_at_all_is_judged_right_or_wrong(scorer: ScorerName, output: str) -> None:
    judged = score(scorer, output, REFERENCES[scorer])
    assert judged.score in (0.0, 1.0)
    assert judged.problem in ("", "empty", "repeated", "invalid")
    (judged.parsed or "").encode()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_reference_itself_is_always_right(seed: int) -> None:
    made = exact.items("e", 400, seed) + labels.items("l", labels.generated(46, seed))
    made += long_context.items("c", 5, seed, [512], 512)
    for asked in made:
        assert score(asked.scorer, asked.reference or "", asked.reference or "").score == 1, asked  # type: ignore[arg-type]


@given(
    st.sampled_from(exact.items("e", 160, 3)), st.sampled_from(["{}", "\n{}\n", "```\n{}\n```", "Right:\n```\n{}```"])
)
def test_the_reference_in_a_fence_is_right_for_every_generated_task(asked: object, dress: str) -> None:
    scorer, reference = asked.scorer, asked.reference  # type: ignore[attr-defined]
    assert right(scorer, dress.format(reference), reference)


def test_the_reference_of_another_item_is_wrong_unless_it_is_the_same() -> None:
    made = [i for i in exact.items("e", 400, 1) if i.scorer == "text"]
    for asked, other in itertools.pairwise(made):
        assert right("text", other.reference or "", asked.reference or "") == (asked.reference == other.reference)


@pytest.mark.parametrize("output", ["go " * 40, "I am sure. I am sure. " * 20, "ha" * 150, "1, 2, 3, 4, " * 30])
def test_a_loop_is_told_and_still_scored(output: str) -> None:
    assert problem_of(output, "length") == "repeated"
    assert score("contains", output, output.split()[0].strip(",.")) == Judged(
        1.0, output.split()[0].strip(",."), "repeated"
    )


def test_counting_and_plain_prose_are_no_loop() -> None:
    assert problem_of(", ".join(map(str, range(300))), "stop") == ""
    assert problem_of("yes yes yes", "stop") == ""
    assert problem_of("A long answer that was not done", "length") == "cut"


HOSTILE = {
    "one letter": "x" * 1_000_000,
    "one digit": "9" * 200_000,
    "a lead and blanks": "answer" + " " * 200_000 + "x",
    "a long lead and blanks": "the final answer is" + " " * 200_000 + "x",
    "thousands without end": "1" + ",000" * 50_000 + "x",
    "decimals": "0." * 100_000,
    "dates": "1-" * 100_000,
    "fences": "```" * 66_666,
    "an open fence": "```" + "a" * 200_000,
    "a fence and blanks": "```a" + " " * 200_000,
    "lines": "\n" * 200_000 + "x",
    "dashes": "-_ " * 66_666,
    "stops": "!" * 200_000,
    "bold": "*" * 200_000,
    "right to left": "\u202e" * 200_000,
    "brackets": "[" * 200_000,
    "objects": "{}" * 100_000,
    "a list cut off": "[1" + ",1" * 100_000,
    "words nearly found": "a b  " * 40_000,
    "blanks within": "a" + " " * 200_000 + "b",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_of_200_kb_is_judged_in_under_a_second(name: str) -> None:
    for scorer, reference in REFERENCES.items():
        before = time.process_time()
        assert score(scorer, HOSTILE[name], reference).score == 0
        assert time.process_time() - before < 1, scorer


def test_every_scorer_has_a_name_and_every_name_a_scorer() -> None:
    assert set(SCORERS) == set(get_args(ScorerName)) == set(REFERENCES)
    assert json.loads(REFERENCES["json"])
    with pytest.raises(KeyError):
        score("bleu", "x", "x")  # type: ignore[arg-type]
