"""Predictions: asked beforehand, written once, read as if a stranger had written them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.bundle.predictions import PREDICTIONS, Answers, read_predictions, write_predictions
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError, UsageFault
from collector.predictions import QUESTIONS, about, ask
from collector.study import loads
from tests.makers import STUDY, make_bundle

WORDS = "summaries, long code"
ALL = Answers(
    variant="fp8",
    vram_reduction_pct=43,
    ttft="same",
    helps_more_at="low",
    p95_latency="improves",
    quality_failures=WORDS,
)
GOOD: dict[str, Any] = {
    "written_at": "2026-11-21T01:00:00+00:00", "late": False, "answers": {"variant": "fp8", "ttft": "same"},
}  # fmt: skip


def put(folder: Path, document: object) -> Path:
    (folder / PREDICTIONS).write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return folder


def typed(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    """A prompt that gives these answers one after the other, and what it was asked."""
    left, asked = list(answers), []

    def prompt(question: str) -> str:
        asked.append(question)
        return left.pop(0)

    return prompt, asked


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 11, 21, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    made = write_predictions(tmp_path, ALL, now=when)
    assert read_predictions(tmp_path) == made
    assert (made.written_at, made.late, made.answers) == ("2026-11-21T01:04:05+00:00", False, ALL)
    assert [p.name for p in tmp_path.iterdir()] == [PREDICTIONS]  # nothing unfinished is left
    assert read_predictions(tmp_path / "elsewhere") is None


def test_predictions_are_made_once_and_say_something(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="answer no question"):
        write_predictions(tmp_path, Answers(variant="fp8"))
    with pytest.raises(QuantcaseError, match="vram_reduction_pct"):
        write_predictions(tmp_path, Answers(variant="fp8", vram_reduction_pct=400))
    assert not list(tmp_path.iterdir())
    write_predictions(tmp_path, ALL)
    with pytest.raises(QuantcaseError, match="has its predictions already"):
        write_predictions(tmp_path, ALL)


def test_they_are_late_when_a_row_was_measured(tmp_path: Path) -> None:
    study = loads(STUDY.format(weights="real"))
    writer = BundleWriter.create(
        tmp_path / "open", study, grade="measured", gpu="h200", cells_planned=1,
        environment=Environment(gpu_asked="h200"),
    )  # fmt: skip
    assert write_predictions(writer.folder, ALL).late is False  # tables stand there with a header and no row
    closed = make_bundle(tmp_path, name="closed", only=("bf16",), status="interrupted")
    assert write_predictions(closed, ALL).late is True


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ({**GOOD, "late": "no"}, "late"),
        ({**GOOD, "more": 1}, "more"),
        ({**GOOD, "written_at": "yesterday"}, "is no time"),
        ({**GOOD, "written_at": "2026-11-21T01:00:00"}, "not in UTC"),
        ({**GOOD, "written_at": "2026-11-21T01:00:00+02:00"}, "not in UTC"),
        ({**GOOD, "answers": {"ttft": "same"}}, "variant"),
        ({**GOOD, "answers": {"variant": "../x"}}, "variant"),
        ({**GOOD, "answers": {"variant": "fp8\n"}}, "variant"),
        ({**GOOD, "answers": {"variant": "fp8", "ttft": "better"}}, "ttft"),
        ({**GOOD, "answers": {"variant": "fp8", "vram_reduction_pct": 101}}, "vram_reduction_pct"),
        ('{"written_at": "2026-11-21T01:00:00+00:00", "late": false, "answers": ' + "[" * 60000, "cannot be read"),
        ({**GOOD, "answers": {"variant": "fp8", "quality_failures": "x" * 501}}, "quality_failures"),
        (" " * 70_000 + json.dumps(GOOD), "larger than 64 KiB"),
    ],
)
def test_a_faulty_file_is_one_clear_line(tmp_path: Path, document: object, says: str) -> None:
    with pytest.raises(QuantcaseError, match=says) as e:
        read_predictions(put(tmp_path, document))
    assert PREDICTIONS in str(e.value)
    assert "\n" not in str(e.value)


def test_free_text_comes_as_one_printable_line(tmp_path: Path) -> None:
    said = {"variant": "fp8", "quality_failures": "a\n\tb \u202e\x00 c"}
    found = read_predictions(put(tmp_path, {**GOOD, "answers": said}))
    assert found is not None
    assert found.answers.quality_failures == "a b c"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    put(tmp_path, GOOD)
    (tmp_path / "inside" / PREDICTIONS).symlink_to(tmp_path / PREDICTIONS)
    with pytest.raises(QuantcaseError, match="not a plain file"):
        read_predictions(tmp_path / "inside")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail_other_than_with_a_fault(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / PREDICTIONS).write_bytes(raw)
    with pytest.raises(QuantcaseError):
        read_predictions(tmp_path)


def test_five_questions_are_asked_about_the_first_quantized_variant() -> None:
    study = loads(STUDY.format(weights="real"))
    prompt, asked = typed("43 %", "S", "lo", "improves", f"  {WORDS} ")
    assert ask(prompt, study) == ALL
    assert len(asked) == len(QUESTIONS) == 5
    assert "the weights of fp8 smaller than those of bf16" in asked[0]


def test_an_empty_answer_skips_and_a_strange_one_is_asked_again() -> None:
    study = loads(STUDY.format(weights="real"))
    prompt, asked = typed("lots", "nan", "28,5", "", "sideways", "high", "", "none")
    assert ask(prompt, study) == Answers(
        variant="fp8", vram_reduction_pct=28.5, helps_more_at="high", quality_failures="none"
    )
    assert asked[1].startswith("A number from -100 to 100. ")
    assert asked[5].startswith("One of: low, high. ")
    nothing, _ = typed("", "", "", "", "")
    assert ask(nothing, study).given is False


def test_a_study_with_the_baseline_alone_has_nothing_to_predict() -> None:
    alone = loads(STUDY.format(weights="real"))
    alone.variants = alone.variants[:1]
    with pytest.raises(UsageFault, match="no variant to predict"):
        about(alone)
    both = loads(STUDY.format(weights="real"))
    both.variants = [both.variant("bf16"), both.variant("bf16-fp8kv")]
    assert about(both) == "bf16-fp8kv"  # none is quantized in its weights
