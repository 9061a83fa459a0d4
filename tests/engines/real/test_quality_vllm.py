"""Quality over real vLLM on the CPU: answers token by token, log-probabilities, and the page's likeness from them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from quantcase.analysis.quality import control, qualities
from quantcase.catalog import load
from tests.e2e.tools import collect
from tests.engines.real.test_vllm_cpu import VENV

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

STUDY = """
id = "vllm-quality"
title = "Random weights on vLLM: what answers differ by"
gpu = "cpu"
base_model = "tiny llama, random weights"
baseline = "bf16"
repeats = 1
context_tokens = 512
[prompts]
kind = "id_words"
vocabulary = 1000
[engine]
name = "vllm"
command = ["{venv}/bin/vllm", "serve"]
args = ["--kv-cache-memory-bytes", "64M", "--distributed-executor-backend", "uni", "--enforce-eager"]
[engine.env]
VLLM_ENABLE_V1_MULTIPROCESSING = "0"
HF_HUB_OFFLINE = "1"
[[variants]]
name = "bf16"
model = "{models}/bf16"
args = ["--dtype", "float32"]
[[variants]]
name = "half"
model = "{models}/bf16"
args = ["--dtype", "bfloat16"]
[[workloads]]
name = "chat"
input_tokens = 16
output_tokens = 4
concurrency = [1]
requests_per_stream = 2
min_requests = 2
warmup_requests = 1
[[quality]]
kind = "file"
name = "words"
file = "{models}/own.jsonl"
output_tokens = 12
[[quality]]
kind = "likelihood"
file = "{models}/texts.jsonl"
window_tokens = 64
"""


def test_answers_and_log_probabilities_come_from_the_server_that_was_measured(tmp_path: Path) -> None:
    models = tmp_path / "models"
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", maker, models], check=True, timeout=120)
    own = [f'{{"prompt": "w{n} w{n + 1} w{n + 2}", "reference": "w7", "scorer": "contains"}}' for n in range(200, 212)]
    (models / "own.jsonl").write_text("\n".join(own) + "\n")
    texts = [" ".join(f"w{200 + (7 * n + 13 * i) % 700}" for i in range(80)) for n in range(4)]
    (models / "texts.jsonl").write_text("".join(f'{{"text": "{t}", "domain": "words"}}\n' for t in texts))
    (tmp_path / "s.toml").write_text(STUDY.format(venv=VENV, models=models))
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results", timeout=500)
    assert ran.returncode == 0, ran.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert errors(check(folder)) == []
    rows = open_bundle(folder).likelihood()
    assert {r.status for r in rows} == {"ok"}, {r.error for r in rows}
    assert {(r.variant, r.repeat) for r in rows} == {("bf16", 1), ("bf16", 2), ("half", 1)}
    assert all(len(r.logprobs) == 63 for r in rows)  # the first token of 64 has nothing before it
    (case,) = load(tmp_path / "results").cases
    same, (half,) = control(case), qualities(case)
    assert same is not None
    assert same.fidelity is not None
    assert half.fidelity is not None
    # The baseline over two starts finds every text as likely as before; half the digits do not.
    assert same.fidelity.ppl_ratio == pytest.approx(1, abs=1e-4)
    assert same.fidelity.top1_agreement == 1
    assert same.fidelity.kld_topk_lower_bound < 1e-6 < half.fidelity.kld_topk_lower_bound
    assert half.fidelity.ppl_ratio == pytest.approx(1, abs=0.05)
    assert 0 < half.fidelity.captured_mass <= 1
    assert not any(str(models) in p.read_text("utf-8", "replace") for p in folder.glob("*.jsonl"))
