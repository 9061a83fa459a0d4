"""What an engine said before it ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.engines.last_words import cause, telling, without_frames

RAISED = [
    "INFO 11-21 attention: FlashMLA is not supported, another is taken",
    "(EngineCore pid=7) ERROR 11-21 22:57:53 [core.py:1330] Traceback (most recent call last):",
    '(EngineCore pid=7) ERROR 11-21 22:57:53 [core.py:1330]   File "core.py", line 1, in run',
    "(APIServer pid=6) INFO 11-21 still waiting",
    "(EngineCore pid=7) ERROR 11-21 22:57:53 [core.py:1330]     raise ValueError(",
    "(EngineCore pid=7) ERROR 11-21 22:57:53 [core.py:1330] ValueError: no room",
    "(EngineCore pid=7) Traceback (most recent call last):",
    '(EngineCore pid=7)   File "core.py", line 1, in run',
    "(EngineCore pid=7) ValueError: no room",
    "(EngineCore pid=7)   Value error, an indented word of the exception itself",
]


def test_frames_go_and_an_exception_is_told_once() -> None:
    assert without_frames(RAISED) == [RAISED[0], RAISED[3], RAISED[5], RAISED[9]]


def test_with_a_traceback_the_cause_is_in_no_line_of_information() -> None:
    assert "no room" in cause(RAISED)
    assert "not supported" not in cause(RAISED)


def test_without_one_the_cause_is_at_the_end() -> None:
    lines = ["failed to allocate", *["loading"] * 60]
    assert "failed to allocate" not in cause(lines)
    assert "failed to allocate" in cause(lines[:-1])


def test_the_telling_line_is_the_first_with_the_word_or_the_first_exception() -> None:
    assert telling(RAISED, ()) == "ValueError: no room"
    assert telling(RAISED, ("an indented word",)) == "Value error, an indented word of the exception itself"
    assert telling(RAISED, ("not supported",)) == ""  # information is no cause
    assert telling(["loading", "error: failed to allocate buffer"], ("failed to allocate",)).startswith("error: ")


@given(st.lists(st.text()))
def test_no_line_is_invented_and_order_stays(lines: list[str]) -> None:
    kept = without_frames(lines)
    rest = iter(lines)
    assert all(line in rest for line in kept)
