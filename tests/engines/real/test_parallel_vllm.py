"""Real vLLM on the CPU with two workers that share each layer: facts of the log, no worker left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from tests.e2e.tools import collect
from tests.engines.real.test_vllm_cpu import VENV

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

STUDY = """
id = "vllm-two"
title = "Two workers share each layer"
gpu = "cpu"
base_model = "tiny llama, random weights"
baseline = "two"
repeats = 1
context_tokens = 512
[prompts]
kind = "id_words"
vocabulary = 1000
[engine]
name = "vllm"
command = ["{venv}/bin/vllm", "serve"]
args = ["--kv-cache-memory-bytes", "64M", "--enforce-eager", "--dtype", "float32"]
[engine.env]
HF_HUB_OFFLINE = "1"
VLLM_CPU_OMP_THREADS_BIND = "nobind"
[[variants]]
name = "two"
model = "{models}/bf16"
tensor_parallel = 2
[[workloads]]
name = "chat"
input_tokens = 16
output_tokens = 2
concurrency = [1]
requests_per_stream = 2
min_requests = 2
warmup_requests = 1
"""


def test_a_server_of_two_workers_is_started_read_and_ended(tmp_path: Path) -> None:
    models = tmp_path / "models"
    subprocess.run(
        [VENV / "bin" / "python", Path(__file__).with_name("tiny_model.py"), models], check=True, timeout=120
    )
    (tmp_path / "s.toml").write_text(STUDY.format(venv=VENV, models=models))
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results", timeout=800)
    assert ran.returncode == 0, ran.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert errors(check(folder)) == []
    (row,) = open_bundle(folder).variants()
    assert (row.gpus, row.tensor_parallel, row.exit_state) == (2, 2, "ok")
    assert '"--tensor-parallel-size", "2"' in row.argv
    # 64 MB on each worker; half of each head's KV there, so the server holds twice the tokens of one worker alone.
    assert row.kv_cache_tokens == 65_536
    assert row.kv_cache_gib == pytest.approx(0.06, abs=0.005)
    left = subprocess.run(["pgrep", "-f", str(models)], capture_output=True, text=True, check=False).stdout.split()
    assert left == []
