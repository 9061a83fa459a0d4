"""`collect import`: from files and a person's words to a bundle that `collect check` and the site take as it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.bundle.check import check
from collector.bundle.imported import read_document, read_rows
from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError, UsageFault
from collector.importers.command import import_results
from quantcase.catalog import load as load_catalog
from quantcase.pages import imported as page
from tests.importers.garble import PEERS

BF16 = PEERS / "vllm-0.26-bf16-with-failures.json"
FP8 = PEERS / "vllm-0.26-fp8-with-failures.json"
RUN = PEERS / "vllm-0.32-completions.json"
GUIDE = PEERS / "guidellm-0.8-failed.json"


def collect(*arguments: object) -> str:
    result = CliRunner().invoke(import_results, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(result.exception, QuantcaseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    """BF16 against FP8, where 73 of 80 requests failed in both."""
    collect(
        "vllm-bench", "--variant", f"bf16={BF16}", "--variant", f"fp8={FP8}", "--baseline", "bf16", "--gpu", "h200",
        "--base-model", "Qwen2.5-7B shape", "--weights", "dummy", "--method", "fp8=fp8", "--study", "failures",
        "--engine", "vllm", "--engine-version", "0.26.0", "--out", tmp_path,
    )  # fmt: skip
    [folder] = tmp_path.iterdir()
    return folder


def test_a_run_that_mostly_failed_is_told_before_anything_else(failed: Path, tmp_path: Path) -> None:
    words = collect("vllm-bench", BF16, "--baseline", "bf16", "--gpu", "h200", "--study", "again", "--out", tmp_path)
    assert words.splitlines()[0].startswith("warning: 73 of 80 requests failed (bf16, imported, c16)")
    assert "## Failed requests\n\n- 73 of 80" in (failed / "notes.md").read_text()
    [case] = [c for c in load_catalog(tmp_path).cases if c.id == failed.name]
    first = page.banners(case)[0]
    assert "<strong>73 of 80 requests failed</strong>" in first
    errors = [f for f in check(failed) if f.level == "error"]
    assert {f.where.split(":")[0] for f in errors} == {"imported.json"}
    assert "more requests failed than did not (73 of 80)" in errors[0].problem
    assert not case.sound  # so that no verdict is given


def test_failed_requests_stand_in_the_cells(failed: Path) -> None:
    cells = open_bundle(failed).cells()
    assert [(c.variant, c.load, c.n, c.ok, c.errors) for c in cells] == [
        ("bf16", "c16", 80, 7, 73),
        ("fp8", "c16", 80, 7, 73),
    ]
    document = read_document(failed)
    assert document is not None
    assert [(p.requests, p.ok, p.failed, p.rows) for p in document.points] == [(80, 7, 73, True)] * 2


def test_what_a_person_said_and_what_is_missing_is_recorded(failed: Path) -> None:
    bundle = open_bundle(failed)
    assert (bundle.info.grade, bundle.info.weights, bundle.info.gpu) == ("imported", "dummy", "h200")
    assert [(v.method, v.engine, v.engine_version) for v in bundle.variants()] == [
        ("none", "vllm", "0.26.0"),
        ("fp8", "vllm", "0.26.0"),
    ]
    document = read_document(failed)
    assert document is not None
    assert document.said["engine_version"] == "0.26.0"
    assert document.sources[0].files[0].name == BF16.name
    assert document.sources[0].files[0].bytes == BF16.stat().st_size
    assert any("GPU" in m for m in document.sources[0].missing)


def test_every_figure_has_a_definition_and_the_name_of_its_tool(tmp_path: Path) -> None:
    collect("guidellm", GUIDE, "--baseline", "a", "--gpu", "cpu", "--out", tmp_path)
    [folder] = tmp_path.iterdir()
    rows = read_rows(folder)
    assert rows
    assert all(r.metric.startswith("guidellm.") and r.definition and r.tool == "guidellm 0.8.1" for r in rows)
    names = next(csv.reader((folder / "cells.csv").open()))
    assert not any("guidellm" in n or "time_per_output" in n for n in names)
    manifest = json.loads((folder / "datapackage.json").read_text())
    [resource] = [r for r in manifest["resources"] if r["path"] == "imported.csv"]
    assert [f["name"] for f in resource["schema"]["fields"]][:5] == ["variant", "workload", "load", "repeat", "metric"]
    created = open_bundle(folder).created()
    assert created.timestamp() == pytest.approx(1795278012.0711753, abs=0.001)  # its first send


def test_the_data_page_shows_definitions_and_stays_text(tmp_path: Path) -> None:
    collect("guidellm", GUIDE, "--baseline", "a", "--gpu", "cpu", "--out", tmp_path, "--workload", "chat-ish")
    [case] = load_catalog(tmp_path).cases
    html = page.section(case)
    assert "holds TTFT" in html
    assert "500 Internal Server Error" in html
    assert "<script" not in html
    assert "3 of 9 requests failed" in page.banners(case)[0]


def test_a_sound_run_is_sound(tmp_path: Path) -> None:
    collect("vllm-bench", RUN, "--baseline", "bf16", "--gpu", "cpu", "--out", tmp_path)
    [folder] = tmp_path.iterdir()
    assert not [f for f in check(folder) if f.level == "error"]
    [case] = load_catalog(tmp_path).cases
    assert page.banners(case) == []
    [cell] = open_bundle(folder).cells()
    value = json.loads(RUN.read_text())
    assert (cell.n, cell.ok, cell.load) == (12, 12, "c3")
    assert cell.ttft_ms_p50 == pytest.approx(value["median_ttft_ms"], abs=1e-3)
    assert cell.tpot_ms_p50 == pytest.approx(value["median_tpot_ms"], abs=1e-3)


def test_the_same_load_again_is_the_next_repeat(tmp_path: Path) -> None:
    other = tmp_path / "second.json"
    other.write_text(RUN.read_text() + "\n")
    collect("vllm-bench", RUN, other, "--baseline", "bf16", "--gpu", "cpu", "--out", tmp_path / "out")
    [folder] = (tmp_path / "out").iterdir()
    cells = open_bundle(folder).cells()
    assert [c.repeat for c in cells] == [1, 2]
    starts = [min(r.started_s for r in open_bundle(folder).requests() if r.repeat == n) for n in (1, 2)]
    assert starts[1] > starts[0] + 0.5  # one after another on the bundle's clock


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([BF16, BF16, "--baseline", "a", "--gpu", "h200"], "holds the same bytes"),
        ([BF16, "--baseline", "A b", "--gpu", "h200"], "is no name of a variant"),
        ([BF16, "--baseline", "a", "--gpu", "h20"], "no GPU profile named h20"),
        ([BF16, "--baseline", "a", "--gpu", "h200", "--method", "b=fp8"], "no variant is named b"),
        (["--variant", f"b={BF16}", "--baseline", "a", "--gpu", "h200"], "no variant is named a"),
        (["--variant", "b", "--baseline", "a", "--gpu", "h200"], "not of the form NAME=FILE"),
        ([BF16, "--baseline", "a", "--gpu", "h200", "--bits", "a=many"], "no number of bits"),
        (["--baseline", "a", "--gpu", "h200"], "no file is named"),
        ([GUIDE, "--baseline", "a", "--gpu", "h200"], "is no result of `vllm bench serve`"),
    ],
)
def test_a_fault_leaves_no_bundle(tmp_path: Path, arguments: list[object], words: str) -> None:
    with pytest.raises(QuantcaseError, match=words) as e:
        collect("vllm-bench", *arguments, "--out", tmp_path)
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_different_lengths_are_no_one_workload(tmp_path: Path) -> None:
    value = json.loads(RUN.read_text())
    value["input_lens"] = [n * 10 for n in value["input_lens"]]
    value["total_input_tokens"] *= 10
    other = tmp_path / "long.json"
    other.write_text(json.dumps(value))
    with pytest.raises(QuantcaseError, match=r"input tokens are .* these are different workloads"):
        collect("vllm-bench", RUN, other, "--baseline", "a", "--gpu", "cpu", "--out", tmp_path / "out")


def test_a_person_must_name_the_model_when_the_file_does_not(tmp_path: Path) -> None:
    value = {k: v for k, v in json.loads(GUIDE.read_text()).items() if k != "config"}
    value["benchmarks"][0]["config"].pop("backend")
    path = tmp_path / "g.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageFault, match="--base-model"):
        collect("guidellm", path, "--baseline", "a", "--gpu", "cpu", "--out", tmp_path / "out")


def test_secrets_and_homes_do_not_get_in(tmp_path: Path) -> None:
    value = json.loads(BF16.read_text())
    value["errors"][0] = 'File "/home/somebody/x.py"\nAuthorization: Bearer abcdef123456 failed'
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    collect("vllm-bench", path, "--baseline", "a", "--gpu", "h200", "--out", tmp_path / "out")
    [folder] = (tmp_path / "out").iterdir()
    text = "".join(str(r.error) for r in open_bundle(folder).requests()) + (folder / "imported.json").read_text()
    assert "abcdef123456" not in text
    assert "somebody" not in text


def test_a_summary_only_case_says_so_and_shows_what_the_tool_states(tmp_path: Path) -> None:
    lists = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors", "generated_texts")
    path = tmp_path / "plain.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(RUN.read_text()).items() if k not in lists}))
    collect("vllm-bench", path, "--baseline", "a", "--gpu", "cpu", "--out", tmp_path / "out")
    [case] = load_catalog(tmp_path / "out").cases
    assert case.sound
    assert case.cells.empty
    [banner] = page.banners(case)
    assert "1 of 1 imported runs list no requests" in banner
    assert "vllm&#45;bench&#46;tpot&#95;ms" in page.section(case)
