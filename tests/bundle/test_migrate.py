"""Older formats come forward; newer ones are refused by name; the old folder is only read."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.bundle.check import check
from collector.bundle.imported import read_document, read_rows
from collector.bundle.migrate import format_of, migrate
from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError, UsageFault
from collector.migrate_command import migrate as command
from tests.makers import make_bundle

SAMPLES = Path(__file__).parent.parent / "samples" / "format-0"
DAY = SAMPLES / "day004"


def content(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = migrate(DAY, tmp_path_factory.mktemp("results"))
    assert folder is not None
    return folder


def test_every_figure_of_the_csvs_is_there(made: Path) -> None:
    assert check(made) == []
    assert open_bundle(made).info.grade == "imported"
    rows = {(r.variant, r.workload, r.load, r.metric, r.statistic): r.value for r in read_rows(made)}
    assert len(rows) == 10 * 2  # 10 lines of four CSVs, a speed and a p95 in each
    assert rows["bf16", "chat", "c16", "csv.throughput_tok_s", "mean"] == 310.5
    assert rows["quant", "batch", "c32", "csv.e2e_ms", "p95"] == 14010
    study = open_bundle(made).study()
    assert (study.id, study.gpu, study.baseline, study.base_model) == ("day004", "rtx2000", "bf16", "not stated")


def test_answers_and_the_persons_marks_are_there(made: Path) -> None:
    bundle = open_bundle(made)
    assert [(i.prompt_id, i.task) for i in bundle.quality_items()] == [
        ("sanity/1", "Factual Q&A"), ("sanity/2", "Reasoning"), ("sanity/3", "Summarization"),
    ]  # fmt: skip
    assert [(s.title, s.kind, s.tasks) for s in bundle.study().quality] == [("sanity", "sanity", [])]  # no lm-eval's
    quant = {r.prompt_id: r for r in bundle.quality() if r.variant == "quant"}
    assert quant["sanity/2"].output == "0.10"
    assert (quant["sanity/3"].status, quant["sanity/3"].error) == ("error", "timeout after 60 s")  # stays a failure
    assert all(r.score is None for r in bundle.quality())  # nobody scored them
    marks = {(m.variant, m.prompt_id): m for m in bundle.marks()}
    assert marks["quant", "sanity/2"].mark == "minor"
    assert marks["quant", "sanity/2"].remark == "the quantized answer takes the tempting short cut"
    assert marks["bf16", "sanity/2"].remark == ""


def test_all_files_are_kept_and_secrets_are_not(made: Path) -> None:
    assert {p.name for p in (made / "format-0").iterdir()} == {p.name for p in DAY.iterdir()}
    name = "day004_chat_capacity_rtx16gb_bf16.csv"
    assert (made / "format-0" / name).read_bytes() == (DAY / name).read_bytes()
    assert "/home/somebody" not in (made / "format-0" / "day004_notes.md").read_text()


def test_what_format_0_does_not_say_is_said(made: Path) -> None:
    document = read_document(made)
    assert document is not None
    for words in ("Model, revision, engine", "When it was measured", "How many requests failed"):
        assert any(words in m for s in document.sources for m in s.missing), words
    assert "day004_quant_quality_eval.json" in {f.name for s in document.sources for f in s.files}
    assert open_bundle(made).requests() == []  # no request was invented


def test_the_old_folder_is_only_read(tmp_path: Path) -> None:
    old = shutil.copytree(DAY, tmp_path / "old")
    before = content(old)
    assert migrate(old, tmp_path / "results") is not None
    assert content(old) == before
    with pytest.raises(UsageFault, match="lies in the folder that is migrated"):
        migrate(old, old / "results")
    assert content(old) == before


def test_failed_requests_are_counted(tmp_path: Path) -> None:
    folder = migrate(SAMPLES / "day005", tmp_path, base_model="some model", gpu="l4")
    assert folder is not None
    document = read_document(folder)
    assert document is not None
    assert [(p.load, p.requests, p.failed) for p in document.points] == [("c1", 20, 0), ("c16", 96, 12)]
    study = open_bundle(folder).study()
    assert (study.gpu, study.base_model, study.baseline) == ("l4", "some model", "fp16")


def test_a_bundle_of_this_format_is_left_alone(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, only=("bf16",))
    before = content(bundle)
    assert migrate(bundle, tmp_path / "out") is None
    assert content(bundle) == before
    assert not (tmp_path / "out").exists()


def newer(folder: Path, stated: object) -> Path:
    """A bundle as a later version might write it: nothing in it but the format is known to this one."""
    folder.mkdir()
    document = {"name": 7, "quantcase": {"format": stated, "grade": "dreamt"}, "resources": {"a": "b"}}
    (folder / "datapackage.json").write_text(json.dumps(document))
    return folder


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError) as e:
        migrate(newer(tmp_path / "later", 2), tmp_path / "out")
    assert str(e.value) == (
        "later: format 2 is newer than this collector knows (1); update with pip install -U quantcase"
    )


@pytest.mark.parametrize("stated", [None, "1", True, 0, -1, 1.5])
def test_a_format_that_is_no_number_is_refused(tmp_path: Path, stated: object) -> None:
    with pytest.raises(QuantcaseError, match="states no format of a bundle"):
        format_of(newer(tmp_path / "x", stated))


def test_what_is_no_bundle_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuantcaseError, match="empty is no bundle and holds no dayNNN_"):
        migrate(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(QuantcaseError, match="is no folder"):
        migrate(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty" / "datapackage.json").write_text("[" * 50_000)
    with pytest.raises(QuantcaseError, match="cannot be read"):
        migrate(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"day004_chat_capacity_rtx16gb_bf16.csv": "concurrency,tok_s\n1,fast\n"},
         r"rtx16gb_bf16\.csv line 2, column 'tok_s': 'fast' is no number"),
        ({"day005_chat_capacity_rtx16gb_bf16.csv": "concurrency,tok_s\n1,2\n"}, "holds several days: day004, day005"),
        ({"day004_chat_capacity_a100_bf16.csv": "concurrency,tok_s\n1,2\n"}, "holds several GPUs: rtx16gb, a100"),
        ({"day004_quant_quality_eval.json": '{"prompts": [{"prompt": "p", "bf16": {"output": 7}}]}'},
         r"eval\.json: prompts\[0\]\.bf16\.output: '?7'? is no text"),
        ({"day004_quant_quality_eval.json": '{"prompts": [{"prompt": "p", "bf16": {"output": "", "quality": "so"}}]}'},
         r"prompts\[0\]\.bf16\.quality: 'so' is no mark; marks: Good, Minor, Bad"),
        ({"day004_quant_quality_eval.json": '{"prompts": [{"prompt": "p", "int4": {"output": "x"}}]}'},
         "int4 has answers and no capacity CSV"),
        ({"day004_quant_quality_eval.json": '{"prompts": [{"id": 1, "prompt": "p"}, {"id": 1, "prompt": "q"}]}'},
         r"prompts\[1\]: a second prompt with the id 1"),
    ],
)  # fmt: skip
def test_a_faulty_folder_is_refused_by_place_and_leaves_nothing(
    tmp_path: Path, edit: dict[str, str], says: str
) -> None:
    old = shutil.copytree(DAY, tmp_path / "old")
    for name, text in edit.items():
        (old / name).write_text(text)
    with pytest.raises(QuantcaseError, match=says) as e:
        migrate(old, tmp_path / "out")
    assert "\n" not in str(e.value)
    assert not list((tmp_path / "out").glob("*"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    old = shutil.copytree(DAY, tmp_path / "old")
    (old / "day004_chat_capacity_rtx16gb_awq.csv").symlink_to("/etc/passwd")
    with pytest.raises(QuantcaseError, match=r"rtx16gb_awq\.csv is no plain file"):
        migrate(old, tmp_path / "out")


def test_the_baseline_is_named_where_no_name_tells_it(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for variant in ("one", "two"):
        (old / f"day004_chat_capacity_rtx16gb_{variant}.csv").write_text(f"concurrency,tok_s\n1,{len(variant)}\n8,9\n")
    (old / "day004_chat_capacity_rtx16gb_two.csv").write_text("concurrency,tok_s\n1,4\n")
    with pytest.raises(UsageFault, match=r"no variant is called a baseline; --baseline \(one of one, two\)"):
        migrate(old, tmp_path / "out")
    with pytest.raises(UsageFault, match="no variant is named three"):
        migrate(old, tmp_path / "out", baseline="three")
    assert migrate(old, tmp_path / "out", baseline="two") is not None


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(DAY), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    folder = next(tmp_path.iterdir())
    assert f"migrated: {folder}" in result.output
    again = CliRunner().invoke(command, [str(folder), "--out", str(tmp_path)])
    assert "is of format 1 already: nothing to do" in again.output
