"""The quality files of a bundle: written an answer at a time, gone on with after a kill, checked like all else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.answers_write import ITEMS, LIKELIHOOD, ROWS, AnswerStore, read_lines
from collector.bundle.check import check, errors
from collector.bundle.marks import read_marks
from collector.bundle.read import open_bundle
from collector.bundle.seal import seal
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError
from tests.makers import make_bundle


def item(n: int, suite: str = "exact") -> QualityItem:
    return QualityItem(suite=suite, task="dates", prompt_id=f"{suite}/dates/{n}", prompt_sha256=f"{n:064}", prompt="?")


def row(n: int, variant: str = "bf16", repeat: int = 1) -> QualityRow:
    return QualityRow(
        variant=variant, start=1, suite="exact", task="dates", prompt_id=f"exact/dates/{n}", prompt_sha256=f"{n:064}",
        repeat=repeat, output="4", score=1.0,
    )  # fmt: skip


def likely(n: int) -> LikelihoodRow:
    return LikelihoodRow(
        variant="bf16", start=1, suite="likelihood", task="prose", prompt_id=f"likelihood/prose/{n}",
        prompt_sha256=f"{n:064}", logprobs=[-0.5, -1.25], top=[[(7, -0.5)], [(9, -0.75), (3, -1.25)]],
    )  # fmt: skip


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add_items("exact", [item(1), item(2)])
    store.add(row(1))
    again = AnswerStore(tmp_path)
    assert [i.prompt_id for i in again.missing("exact", "bf16", 1)] == ["exact/dates/2"]
    assert len(again.missing("exact", "bf16", 2)) == 2  # the second pass asks all of it
    assert len(again.missing("exact", "awq", 1)) == 2
    again.add(row(2))
    assert again.whole("bf16", 1, ["exact"])


def test_a_pass_is_not_whole_before_every_suite_was_asked(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add_items("exact", [item(1)])
    store.add(row(1))
    assert store.whole("bf16", 1, ["exact"])
    assert not store.whole("bf16", 1, ["exact", "likelihood"])


def test_items_stay_as_they_were_first_settled(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add_items("exact", [item(1)])
    other = msgspec.structs.replace(item(1), prompt="another")
    store.add_items("exact", [other])
    assert [i.prompt for i in AnswerStore(tmp_path).items_of("exact")] == ["?"]


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add_items("exact", [item(1), item(2)])
    store.add(row(1))
    with (tmp_path / ROWS).open("ab") as f:
        f.write(b'{"variant":"bf16","start":1,"sui')
    assert len(AnswerStore(tmp_path).missing("exact", "bf16", 1)) == 1
    assert len(read_lines(tmp_path / ROWS, QualityRow, "b")) == 1


def test_equal_answers_give_equal_files_in_whatever_order_they_came(tmp_path: Path) -> None:
    for name, order in (("a", (1, 2, 3)), ("b", (3, 1, 2))):
        (tmp_path / name).mkdir()
        store = AnswerStore(tmp_path / name)
        for n in order:
            store.add(row(n))
            store.add_likelihood(likely(n))
        store.close()
    for file in (ROWS, LIKELIHOOD):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_packed_log_probabilities_come_back_and_can_be_gone_on_with(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add_likelihood(likely(1))
    store.close()
    assert (tmp_path / LIKELIHOOD).is_file()
    again = AnswerStore(tmp_path)
    again.add_likelihood(likely(2))
    again.close()
    found = read_lines(tmp_path / LIKELIHOOD, LikelihoodRow, "b")
    assert [r.prompt_id for r in found] == ["likelihood/prose/1", "likelihood/prose/2"]
    assert found[0].top == [[(7, -0.5)], [(9, -0.75), (3, -1.25)]]


def test_a_line_that_is_no_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text('{"variant":"bf16"}\n')
    with pytest.raises(QuantcaseError, match=r"quality\.jsonl line 1"):
        read_lines(tmp_path / ROWS, QualityRow, "b")
    (tmp_path / LIKELIHOOD).write_bytes(b"no gzip")
    with pytest.raises(QuantcaseError, match="cannot be unpacked"):
        read_lines(tmp_path / LIKELIHOOD, LikelihoodRow, "b")


def answered_bundle(out: Path, rows: list[QualityRow]) -> Path:
    """A sound bundle that also holds answers."""
    folder = make_bundle(out, weights="real", status="interrupted")
    writer = BundleWriter.resume(folder)
    writer.answers.add_items("exact", [item(1), item(2)])
    for r in rows:
        writer.answers.add(r)
    writer.close("complete")
    return folder


def test_check_finds_answers_to_nothing_doubles_and_impossible_scores(tmp_path: Path) -> None:
    assert errors(check(answered_bundle(tmp_path / "ok", [row(1), row(2, variant="fp8")]))) == []
    for name, wrong, said in (
        ("a", row(3), "no such prompt"),
        ("b", row(1, variant="int3"), "not in study.toml"),
        ("c", msgspec.structs.replace(row(1), prompt_sha256="f" * 64), "another prompt"),
        ("d", msgspec.structs.replace(row(1), score=7.0), "not between 0 and 1"),
    ):
        assert any(said in f.problem for f in check(answered_bundle(tmp_path / name, [wrong]))), name
    assert any("stands twice" in f.problem for f in check(answered_bundle(tmp_path / "e", [row(1), row(1)])))


def test_marks_are_a_persons_own_and_are_sealed_like_notes(tmp_path: Path) -> None:
    folder = answered_bundle(tmp_path, [row(1), row(2)])
    marks = folder / "marks.csv"
    marks.write_text("variant,prompt_id,mark,remark\nbf16,exact/dates/1,Minor,a comma, even\n", "utf-8")
    assert any(f.where == "marks.csv" and "collect seal" in f.fix for f in check(folder))
    assert seal(folder) == ["marks.csv"]
    assert errors(check(folder)) == []
    (mark,) = open_bundle(folder).marks()
    assert (mark.variant, mark.prompt_id, mark.mark) == ("bf16", "exact/dates/1", "minor")
    marks.write_text("variant,prompt_id,mark\nbf16,exact/dates/9,good\n", "utf-8")
    assert any("no such answer" in f.problem for f in check(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variant,prompt_id\na,b\n", "no column mark"),
        ("variant,prompt_id,mark\na,b,great\n", "line 2: 'great' is no mark"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_marks_that_cannot_be_read_say_where(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "marks.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(QuantcaseError, match=said):
        read_marks(tmp_path)


def test_without_quality_there_is_nothing_to_read(tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path))
    assert (bundle.quality_items(), bundle.quality(), bundle.likelihood(), bundle.marks()) == ([], [], [], [])
    assert not (bundle.folder / ITEMS).exists()
