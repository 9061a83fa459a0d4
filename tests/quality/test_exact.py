"""The references of generated items, worked out again by another way."""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import json
import re
from collections import Counter

from tests.quality.test_suites import ITEMS, numbers_in, of_task, said


def test_sums_are_right() -> None:
    for i in of_task("arithmetic"):
        asked = re.fullmatch(r"What is ([\d +*-]+)\? Reply with the number only\.", said(i))
        assert asked is not None
        assert eval(asked[1]) == int(i.reference or "")  # noqa: S307


def test_dates_are_right_by_the_calendar() -> None:
    for i in of_task("dates"):
        first, *last = [datetime.date.fromisoformat(d) for d in re.findall(r"\d{4}-\d\d-\d\d", said(i))]
        if last:
            assert last[0].toordinal() - first.toordinal() == int(i.reference or "")
        else:
            step = int(said(i).split()[3])
            assert datetime.date.fromordinal(first.toordinal() + step).isoformat() == i.reference


def test_what_is_extracted_stands_in_the_note() -> None:
    note = re.compile(
        r"Order (?P<number>\d+): (?P<name>\w+) from (?P<city>\w+) bought \d+ of the article (?P<article>\w+) "
        r"for (?P<price>\d+) dollars each and pays by card\.\nWhat is the (?P<what>.+)\? Reply with that only\."
    )
    kinds = {"customer's name": "name", "order number": "number", "price of one article in dollars": "price"}
    for i in of_task("extraction"):
        found = note.fullmatch(said(i))
        assert found is not None
        assert found[kinds.get(found["what"], found["what"])] == i.reference


def test_json_says_what_the_sentence_says_with_the_keys_that_were_asked_for() -> None:
    for i in of_task("json"):
        found = re.match(r"(\w+) is (\d+) years old, lives in (\w+) and is (not )?a member\.", said(i))
        assert found is not None
        whole = {"name": found[1], "age": int(found[2]), "city": found[3], "member": found[4] is None}
        keys = re.findall(r'"(\w+)" \(', said(i))
        assert json.loads(i.reference or "") == {k: whole[k] for k in keys}


def test_formats_hold_the_three_words_in_their_form() -> None:
    for i in of_task("format"):
        words = re.findall(r"\w+", said(i).split("Write ")[1])[:3]
        one, two, three = words
        forms = {
            "capital": f"{one.upper()}\n{two.upper()}\n{three.upper()}",
            "numbered": f"1. {one}\n2. {two}\n3. {three}",
            "semicolon": f"{one};{two};{three}",
            "dash": f"- {one}\n- {two}\n- {three}",
        }
        (kind,) = [k for k in forms if k in said(i)]
        assert i.reference == forms[kind]


def test_lists_are_sorted_reversed_and_counted_rightly() -> None:
    for i in of_task("lists"):
        given_numbers = numbers_in(said(i))
        wanted = numbers_in(i.reference or "")
        if said(i).startswith("Sort"):
            assert Counter(wanted) == Counter(given_numbers)
            assert all(a < b for a, b in itertools.pairwise(wanted))
        elif "largest" in said(i):
            assert wanted[0] in given_numbers
            assert not any(n > wanted[0] for n in given_numbers)
        elif said(i).startswith("How many"):
            assert wanted == [said(i).count(",") + 1]
        else:
            assert list(reversed(wanted)) == given_numbers


def test_letters_are_taken_turned_and_joined_rightly() -> None:
    for i in of_task("strings"):
        word, *other = re.findall(r'"(\w+)"', said(i))
        kinds = {
            "Join": "-".join([word, *other]),
            "What is letter number": word[(numbers_in(said(i)) or [1])[0] - 1],
            "Write the letters": "".join(reversed(word)),
            "How many letters": str(sum(1 for _ in word)),
            "What is the last": word[len(word) - 1],
            "Spell": re.sub(r"(?<=\w)(?=\w)", "-", word),
        }
        (kind,) = [k for k in kinds if said(i).startswith(k)]
        assert i.reference == kinds[kind]


def test_code_prints_its_reference_when_it_is_run() -> None:
    for i in of_task("code"):
        program = (
            said(i).removeprefix("What does this Python program print?\n").removesuffix("\nReply with the output only.")
        )
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {})  # noqa: S102
        assert out.getvalue().strip() == i.reference


def test_every_answer_has_room_for_its_reference() -> None:
    for i in ITEMS:
        assert len(i.reference or "") / 2 < i.output_tokens, i  # two characters a token is a bad tokenizer
