"""lm-evaluation-harness: two folders become quality rows of one bundle, and its quality page pairs them.

The files are those of `tests/quality/data/lm_eval`, written by lm-eval 0.4.13.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.bundle.check import check
from collector.bundle.imported import read_rows
from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError
from collector.importers.base import Hints, Imported, get
from collector.importers.command import import_results
from collector.importers.store import Read, Said, write_bundle
from quantcase.build import generate
from quantcase.pages.view import Options

DATA = Path(__file__).parent.parent / "quality" / "data" / "lm_eval"


def read(*paths: Path) -> Imported:
    return get("lm-eval").read(paths, Hints())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reads = [Read(variant=v, imported=read(DATA / name)) for v, name in (("bf16", "base"), ("int4", "quant"))]
    said = Said(gpu="h200", baseline="bf16", base_model="tiny/model", study="harness")
    return write_bundle(reads, tmp_path_factory.mktemp("results"), said)


def test_the_bundle_is_sound_and_holds_both_variants_answers(folder: Path) -> None:
    assert [f for f in check(folder) if f.level == "error"] == []
    bundle = open_bundle(folder)
    assert bundle.info.grade == "imported"
    by_variant = {v: {r.prompt_id: r.score for r in bundle.quality() if r.variant == v} for v in ("bf16", "int4")}
    assert by_variant["bf16"].keys() == by_variant["int4"].keys() == {i.prompt_id for i in bundle.quality_items()}
    assert sum(s or 0 for s in by_variant["bf16"].values()) == 6
    assert sum(s or 0 for s in by_variant["int4"].values()) == 2


def test_the_quality_page_pairs_them(folder: Path) -> None:
    pages = {o.uri: o for o in generate(folder.parent, Options())[1]}
    data = pages[f"cases/{folder.name}/quality/index.md"].data()
    assert isinstance(data, str)
    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", data)))
    assert "int4 ✗ fail 2 of 6 −66.7" in words
    assert re.search(r"tiny_sums\[exact_match,strict-match\] lm-eval 2 of 2 0 ! lost 2, gained 0", words)
    assert "lm-eval/tiny_sums/6a9ce3b1c340-bc98aeddd10d/strict-match" in words


def test_what_lm_eval_says_of_a_task_stays_under_its_name(folder: Path) -> None:
    rows = {(r.variant, r.load, r.metric): r for r in read_rows(folder)}
    assert rows["int4", "tiny_colours", "lm-eval.acc[none]"].value == 0.5
    assert rows["int4", "tiny_colours", "lm-eval.acc[none]"].n == 2
    error = rows["int4", "tiny_sums", "lm-eval.exact_match_stderr[flexible-extract]"]
    assert error.value == 0.5
    assert "not paired" in error.definition


def test_the_study_names_the_tasks_as_lm_eval_does(folder: Path) -> None:
    (suite,) = open_bundle(folder).study().quality
    assert (suite.kind, suite.tasks) == ("lm-eval", ["tiny_colours", "tiny_sums"])


def test_answers_to_other_questions_than_the_baselines_are_told_and_kept(tmp_path: Path) -> None:
    """Two runs of which one asked another task: nothing pairs, and nobody should take it for a comparison."""
    for name, dropped in (("base", "tiny_sums"), ("quant", "tiny_colours")):
        shutil.copytree(DATA / name, tmp_path / name)
        for path in (tmp_path / name).rglob(f"samples_{dropped}_*"):
            path.unlink()
    variants = [x for v, name in (("bf16", "base"), ("int4", "quant")) for x in ("--variant", f"{v}={tmp_path / name}")]
    more = ["--baseline", "bf16", "--gpu", "h200", "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(import_results, ["lm-eval", *variants, *more])
    assert ran.exit_code == 0, ran.output
    told = "int4: none of its 4 answers is to a question of the baseline, bf16"
    assert f"warning: {told}" in ran.stderr
    [folder] = (tmp_path / "out").iterdir()
    assert told in (folder / "notes.md").read_text()
    assert {r.variant for r in open_bundle(folder).quality()} == {"bf16", "int4"}


def test_version_model_files_and_limit() -> None:
    found = read(DATA / "base")
    assert (found.tool_version, found.model) == ("0.4.13", "tiny/model")
    assert len(found.files) == 4
    assert "Only a part of each task was asked: --limit 2.0." in found.notes
    assert any("nothing is said of speed" in m for m in found.missing)
    assert found.facts["model"] == "local-completions"


def test_single_files_are_read_when_none_is_left_out() -> None:
    inner = DATA / "base" / "chat" / "tiny__model"
    files = sorted(inner.iterdir())
    assert read(*files).answers == read(inner).answers
    with pytest.raises(QuantcaseError, match=r"also holds results_.*json, which was not named; name the folder"):
        read(*[f for f in files if f.name.startswith("samples")])
    with pytest.raises(QuantcaseError, match="2 folders were named for one variant"):
        read(DATA / "base", DATA / "quant")


def test_results_of_another_run_than_the_samples_are_refused(tmp_path: Path) -> None:
    shutil.copytree(DATA / "base" / "text", tmp_path / "x")
    path = next((tmp_path / "x").rglob("results_*.json"))
    document = json.loads(path.read_text())
    document["results"]["tiny_colours"]["acc,none"] = 0.5
    path.write_text(json.dumps(document))
    with pytest.raises(
        QuantcaseError, match=r"results\.tiny_colours\.acc,none: is 0\.5, the 2 samples give 1; are results and samples"
    ):
        read(tmp_path / "x")


def test_a_cut_samples_file_is_refused_by_line(tmp_path: Path) -> None:
    shutil.copytree(DATA / "base" / "text", tmp_path / "x")
    path = next((tmp_path / "x").rglob("samples_*.jsonl"))
    path.write_text(path.read_text()[:-30])
    with pytest.raises(QuantcaseError, match=r"line 2: the file is cut off in its last line"):
        read(tmp_path / "x")


def test_without_results_the_answers_still_count(tmp_path: Path) -> None:
    shutil.copytree(DATA / "base" / "text", tmp_path / "x")
    next((tmp_path / "x").rglob("results_*.json")).unlink()
    found = read(tmp_path / "x")
    assert found.tool_version is None
    assert len(found.answers) == 2
    assert any("no results_*.json" in m for m in found.missing)
