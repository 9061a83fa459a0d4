"""Quality from the command line to the page: real llama.cpp, the model that ships, and what is no quality."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from quantcase.build import generate
from quantcase.pages.view import Options
from tests.e2e.tools import STUDY as REPLAY
from tests.e2e.tools import collect
from tests.makers import make_bundle

STUDY = """
id = "answers"
title = "Answers of the model that ships"
gpu = "cpu"
base_model = "quantcase trained small"
baseline = "f16"
context_tokens = 512
repeats = 1
[engine]
name = "llamacpp"
args = ["--cache-ram", "0"]
[[variants]]
name = "f16"
model = "trained:small"
method = "gguf:F16"
[[variants]]
name = "q2_k"
model = "trained:small"
method = "gguf:Q2_K"
[[workloads]]
name = "chat"
input_tokens = 32
output_tokens = 8
concurrency = [1]
requests_per_stream = 3
min_requests = 3
warmup_requests = 1
"""
SUITES = """
[[quality]]
kind = "sanity"
[[quality]]
kind = "exact"
items = 48
[[quality]]
kind = "likelihood"
items = 3
[[quality]]
kind = "long-context"
items = 2
"""


def test_the_model_that_ships_answers_and_its_answers_fill_the_pages(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY + SUITES)
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results")
    assert ran.returncode == 0, ran.stderr
    assert "the server gives no prompt log-probabilities" in ran.stdout  # llama.cpp says so once a pass, and goes on
    (folder,) = (tmp_path / "results").iterdir()
    assert errors(check(folder)) == []
    bundle = open_bundle(folder)
    rows = bundle.quality()
    asked = {i.prompt_id for i in bundle.quality_items() if i.suite != "likelihood"}
    passes = {(r.variant, r.repeat) for r in rows}
    assert passes == {("f16", 1), ("f16", 2), ("q2_k", 1)}
    assert all({r.prompt_id for r in rows if (r.variant, r.repeat) == p} == asked for p in passes)
    starts = {r.repeat: r.start for r in rows if r.variant == "f16"}
    assert starts[1] != starts[2]  # the control is another server start
    right = [r for r in rows if r.variant == "f16" and r.repeat == 1 and r.suite == "sanity" and r.score == 1.0]
    assert len(right) >= 36, "the model has been taught these forty answers"
    assert all(r.tokens for r in right)
    assert {r.status for r in bundle.likelihood()} == {"unsupported"}

    _, outputs = generate(tmp_path / "results", Options())
    files = {o.uri: o for o in outputs}
    case = f"cases/{folder.name}"
    document = json.loads(files[f"{case}/case.json"].data())
    keys = {f["key"]: f for f in document["figures"]}
    accuracy = keys["quality.q2_k.accuracy"]
    scored = [r.score for r in rows if r.variant == "q2_k" and r.suite in ("sanity", "exact")]
    assert accuracy["n"] == len(scored) == 88
    assert accuracy["value"] == pytest.approx(sum(s or 0 for s in scored) / 88)
    assert document["quality"]["q2_k"]["verdict"] in ("pass", "caution", "fail")
    page = str(files[f"{case}/quality/index.md"].data())
    assert "The baseline against itself over two server starts" in page
    assert f"{sum(s == 1 for s in scored)} of 88" in page
    index = json.loads(files[f"{case}/quality/samples/index.json"].data())
    assert len(index["items"]) == len(asked)


def test_the_command_line_sets_the_items_or_leaves_quality_out(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY + '[[quality]]\nkind = "exact"\n')
    for option, count in (("--quality-items=5", 15), ("--no-quality", 0)):
        out = tmp_path / option.strip("-=5")
        assert collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", out, option).returncode == 0
        (folder,) = out.iterdir()
        assert len(open_bundle(folder).quality()) == count


def test_a_replay_refuses_to_call_its_text_quality(tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "source")
    text = REPLAY.format(source=source).replace('weights = "dummy"', 'weights = "real"')
    (tmp_path / "s.toml").write_text(text + '[[quality]]\nkind = "exact"\nitems = 3\n')
    ran = collect("run", tmp_path / "s.toml", "--gpu", "demo", "--out", tmp_path / "results")
    assert ran.returncode == 0, ran.stderr
    assert "quality is not measured: a replay's text is nobody's answer" in ran.stdout
    (folder,) = (tmp_path / "results").iterdir()
    assert open_bundle(folder).quality() == []
    _, outputs = generate(tmp_path / "results", Options())
    files = {o.uri: o for o in outputs}
    assert "a replay has timings and no answers" in str(files[f"cases/{folder.name}/index.md"].data())
    assert json.loads(files[f"cases/{folder.name}/case.json"].data())["quality"] == {}


def test_a_suite_that_cannot_be_read_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY + '[[quality]]\nkind = "file"\nfile = "nowhere.jsonl"\n')
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results")
    assert ran.returncode == 2
    assert "no file nowhere.jsonl" in ran.stderr
    assert not (tmp_path / "results").exists()
