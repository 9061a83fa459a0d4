"""Texts with labels: generated, from files, and files that cannot be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import UsageFault
from collector.quality import intents, labels, suites
from collector.quality.items import read_object
from collector.study import QualitySuite
from tests.quality.test_suites import built, said, study, written


def test_the_intents_come_in_turn_and_every_label_stands_in_every_prompt() -> None:
    pairs = labels.generated(46, 1)
    assert Counter(label for _, label in pairs) == dict.fromkeys(intents.INTENTS, 2)
    for i, (text, label) in zip(labels.items("s", pairs), pairs, strict=True):
        assert f"Labels: {', '.join(sorted(intents.INTENTS))}\nMessage: {text}\n" in said(i)
        assert (i.reference, i.scorer) == (label, "label")
        assert "{" not in text


CSV = 'text,label,other\n"Hi, there",greet,1\n"two\nlines",ask,2\nBye, greet ,3\n'
JSONL = """{"text": "Hi, there", "label": "greet"}

{"text": "two\\nlines", "label": "ask"}
{"text": "Bye", "label": "greet"}"""


@pytest.mark.parametrize(
    ("name", "body"),
    [("a.csv", CSV), ("a.csv", "\ufeff" + CSV), ("a.CSV", CSV.replace("\n", "\r\n").replace("two\r\n", "two\n")),
     ("a.jsonl", JSONL), ("a.jsonl", "\ufeff" + JSONL), ("a.ndjson", JSONL)],
)  # fmt: skip
async def test_labels_are_read_from_a_file(tmp_path: Path, name: str, body: str) -> None:
    path = written(tmp_path / name, body)
    wanted = [("Hi, there", "greet"), ("two\nlines", "ask"), ("Bye", "greet")]
    assert labels.from_file(path, "text", "label", 9) == wanted
    assert labels.from_file(path, "text", "label", 2) == wanted[:2]
    suite = QualitySuite(kind="labels", file=str(path))
    suites.check(study(suite))
    assert [i.reference for i in await built(suite)] == ["greet", "ask", "greet"]


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("a.csv", "txt,label\nHi,x\n", "a.csv has no column text; columns: txt, label"),
        (
            "a.csv",
            '"no\nheader",but,"two\nrows"\nHi,x\n',
            "a.csv has no column text; columns: no header, but, two rows",
        ),
        ("a.csv", ",".join(map(str, range(5000))) + "\n1\n", "a.csv has no column text; columns: 0, 1, 2, 3"),
        ("a.csv", "", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "\ufeff", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "text,label\n", "a.csv holds no rows; a CSV with a header"),
        ("a.csv", "text,label\nHi,x\nyou\n", "a.csv: row 2 has no label; label it"),
        ("a.csv", "text,label\n" + "y" * 200_000 + ",x\n", "a.csv cannot be read: field larger than field limit"),
        ("a.csv", b"text,label\nGr\xfc\xdfe,x\n", "a.csv is not UTF-8 text; save it as UTF-8"),
        ("a.csv", "text,label\nHi,x\n".encode("utf-16"), "a.csv is not UTF-8 text; save it as UTF-8"),
        ("a.jsonl", "\n\n", "a.jsonl holds no rows; "),
        ("a.jsonl", '{"text": "Hi", "label": null}', "a.jsonl: row 1 has no label; label it"),
        ("a.jsonl", '{"text": "Hi", "label": "x"}\n\n["Hi"]', "a.jsonl cannot be read: line 3 is no object; "),
        ("a.jsonl", '{"text": "Hi", "label": "x"}\n\n{"text"', "a.jsonl cannot be read: line 3: "),
        ("a.jsonl", '{"text": "\\ud800", "label": "x"}', "a.jsonl cannot be read: line 1: "),
        ("a.jsonl", "[" * 100_000, "a.jsonl cannot be read: line 1: maximum recursion depth"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl is not UTF-8 text; save it as UTF-8"),
        (
            "a.csv",
            "text,label\nHi,x\nYo,x\n",
            "suite labels: the set has 1 labels, 2 to 200 can be asked; check label_column",
        ),
        ("a.csv", "text,label\n" + "".join(f"Hi,{n}\n" for n in range(201)), "suite labels: the set has 201 labels"),
    ],
)
def test_a_wrong_file_of_labels_is_told_in_one_line(tmp_path: Path, name: str, body: str | bytes, problem: str) -> None:
    path = written(tmp_path / name, body)
    with pytest.raises(UsageFault) as fault:
        suites.check(study(QualitySuite(kind="labels", file=str(path))))
    assert str(fault.value).startswith(problem)
    assert "\n" not in str(fault.value)
    assert len(str(fault.value)) < 300
    assert fault.value.fix


@pytest.mark.parametrize("kind", ["labels", "file", "likelihood"])
def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path, kind: Any) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageFault, match=r"^no file .*; check `file` of the suite$"):
            suites.check(study(QualitySuite(kind=kind, file=str(path))))


@given(st.text(max_size=80))
def test_any_line_is_an_object_or_a_fault_with_its_number(line: str) -> None:
    problem = ""
    try:
        assert isinstance(read_object(line, 7), dict)
    except ValueError as e:
        problem = str(e)
    assert problem.startswith("line 7") or not problem
