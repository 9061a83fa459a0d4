"""EleutherAI's own harness against variants that real llama.cpp serves, as a suite of one `collect run`.

The task is a YAML file beside a JSONL of the model's own sanity questions: nothing comes from a hub.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import cast

import msgspec
import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import QualityRow, open_bundle
from collector.engines.base import Server, ServeRequest
from collector.engines.llamacpp import LlamaCpp
from collector.engines.process import free_port
from collector.errors import QuantcaseError
from collector.quality import harness
from collector.study import EngineSpec, QualitySuite, Variant
from quantcase.analysis.quality import control, qualities
from quantcase.catalog import load
from tests.e2e.test_quality import STUDY
from tests.e2e.tools import collect, processes
from tests.makers import study

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

VENV = Path(__file__).parents[3] / ".cache" / "lm-eval"
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {docs}
test_split: test
output_type: generate_until
doc_to_text: {text}
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 96
  do_sample: false
filter_list:
  - name: named
    filter:
      - function: regex
        regex_pattern: "(?i)({answers})"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
metadata:
  version: 1.0
"""
SUITES = """
[[quality]]
kind = "lm-eval"
name = "facts"
tasks = ["tiny_facts"]
args = ["--include_path", "{folder}"]
concurrency = 2
[[quality]]
kind = "lm-eval"
name = "facts-text"
api = "completions"
items = 4
tasks = ["tiny_facts_text"]
args = ["--include_path", "{folder}"]
concurrency = 2
"""
CHOICES = """
task: tiny_choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {docs}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["{{{{answer}}}}", "nothing"]
doc_to_target: 0
metric_list:
  - metric: acc
metadata:
  version: 1.0
"""
PLAIN = "{{question}}"
TURN = "<|im_start|>user\\n{{question}}<|im_end|>\\n<|im_start|>assistant\\n"  # the model's own template, as a text


def facts() -> list[dict[str, str]]:
    """The sanity suite's factual questions that one word answers."""
    lines = (resources.files("collector.quality") / "suites/sanity.jsonl").read_text("utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    found = [
        {"question": a["prompt"], "answer": a["criterion"]["all_of"][0][0]}
        for a in asked
        if a["task"] == "factual" and a["criterion"].get("all_of")
    ]
    assert len(found) >= 6
    return found


def right(row: QualityRow) -> bool:
    """Read off the answer anew, without lm-eval's filter."""
    return (row.reference or "").casefold() in (row.output or "").casefold()


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """lm_eval on the path and no hub; a folder of tasks about one file."""
    assert (VENV / "bin" / "lm_eval").exists(), "run `make test-engines`, which installs it"
    monkeypatch.setenv("PATH", f"{VENV / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    docs, folder = tmp_path / "docs.jsonl", tmp_path / "tasks"
    docs.write_text("".join(json.dumps(d) + "\n" for d in facts()))
    folder.mkdir()
    answers = "|".join(re.escape(d["answer"]) for d in facts())
    for name, text in (("tiny_facts", PLAIN), ("tiny_facts_text", TURN)):
        task = TASK.format(name=name, text=f'"{text}"', docs=docs, answers=answers)
        (folder / f"{name}.yaml").write_text(task)
    (folder / "tiny_choices.yaml").write_text(CHOICES.format(docs=docs))
    return folder


def test_the_harness_asks_every_variant_and_its_answers_pair(tmp_path: Path, tasks: Path) -> None:
    docs = facts()
    (tmp_path / "s.toml").write_text(STUDY + SUITES.format(folder=tasks))
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results", timeout=800)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert errors(check(folder)) == []

    bundle = open_bundle(folder)
    items, rows = {i.prompt_id: i for i in bundle.quality_items()}, bundle.quality()
    assert {i.suite: i.api for i in items.values()} == {"facts": "chat", "facts-text": "completions"}
    assert {i.scorer for i in items.values()} == {"exact_match,named"}
    chat = [i for i in items.values() if i.suite == "facts"]
    assert sorted((i.messages or [])[-1]["content"] for i in chat) == sorted(d["question"] for d in docs)
    asked = [TURN.replace("\\n", "\n").replace(PLAIN, d["question"]) for d in docs[:4]]
    assert {i.prompt for i in items.values() if i.suite == "facts-text"} == set(asked)
    passes = {(r.variant, r.repeat) for r in rows}
    assert passes == {("f16", 1), ("f16", 2), ("q2_k", 1)}
    for one in passes:  # every pass answers every item, once
        assert sorted(r.prompt_id for r in rows if (r.variant, r.repeat) == one) == sorted(items)
    assert {r.status for r in rows} == {"ok"}, {r.error for r in rows}
    assert all(r.output for r in rows)
    for row in rows:
        if row.score:
            assert right(row), row
    for suite, n in (("facts", len(docs)), ("facts-text", 4)):  # the model has been taught these answers
        assert [r.score for r in rows if (r.suite, r.variant) == (suite, "f16")].count(1.0) > n  # of two passes
    written = [json.loads(line) for line in (folder / "quality_items.jsonl").open()]
    assert {i["source"] for i in written} == {
        f"lm-eval 0.4.13, {name} version 1.0, 0 examples before the question"
        for name in ("tiny_facts", "tiny_facts_text")
    }

    (case,) = load(tmp_path / "results").cases
    same, (quantized,) = control(case), qualities(case)
    assert same is not None
    assert same.accuracy is not None
    assert quantized.accuracy is not None
    assert same.accuracy.n == quantized.accuracy.n == len(items)
    base, mine = (
        sum(r.score or 0 for r in rows if (r.variant, r.repeat) == (variant, 1)) for variant in ("f16", "q2_k")
    )
    assert (quantized.accuracy.baseline_right, quantized.accuracy.variant_right) == (base, mine)
    assert not processes(str(tmp_path))


async def test_a_task_that_compares_likelihoods_is_told_what_it_needs(tmp_path: Path, tasks: Path) -> None:
    """llama.cpp's server gives no log-probabilities of a prompt: an error with its reason, and the log stays."""
    spec = EngineSpec(name="llamacpp", args=["--cache-ram", "0", "-c", "512", "-np", "2"])
    asked = msgspec.structs.replace(study(), engine=spec, context_tokens=512)
    server = await LlamaCpp().start(
        ServeRequest(
            study=asked, variant=Variant(name="f16", model="trained:small", method="gguf:F16"), spec=spec,
            port=free_port(), log_path=tmp_path / "log", work=tmp_path,
        )
    )  # fmt: skip
    suite = QualitySuite(
        kind="lm-eval", api="completions", tasks=["tiny_choices"], args=["--include_path", str(tasks)], items=2
    )
    try:
        with pytest.raises(QuantcaseError) as fault:
            await harness.answers(
                suite, asked, cast(Server, server), variant="f16", start=1, number=1, say=lambda _: None, api_key=None
            )
    finally:
        await server.stop()
    assert "compare likelihoods" in fault.value.fix
    assert str(fault.value).startswith("lm_eval failed with exit code 1: AssertionError: Tokenizer is required")
    log = Path(fault.value.fix.rpartition("its log is ")[2])
    assert "tiny_choices" in log.read_text()
    shutil.rmtree(log.parent)
