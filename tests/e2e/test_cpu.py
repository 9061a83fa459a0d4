"""The embedded llama.cpp, for real: a model is made, quantized, served, measured; then the site is built from it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from collector.bundle.read import open_bundle
from quantcase.commands import site
from tests.e2e.tools import collect

STUDY = """
id = "short-cpu"
title = "A short study on this CPU"
gpu = "cpu"
base_model = "generated"
baseline = "f16"
weights = "dummy"
repeats = 1
context_tokens = 512
[engine]
name = "llamacpp"
[[variants]]
name = "f16"
model = "generated:small"
method = "gguf:F16"
[[variants]]
name = "q4-k-m"
model = "generated:small"
method = "gguf:Q4_K_M"
[[workloads]]
name = "chat"
input_tokens = 64
output_tokens = 16
concurrency = [1, 2]
requests_per_stream = 4
min_requests = 6
warmup_requests = 1
"""


def test_the_embedded_engine_is_measured_and_shown(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(STUDY)
    ran = collect("run", tmp_path / "s.toml", "--gpu", "cpu", "--out", tmp_path / "results")
    assert ran.returncode == 0, ran.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert collect("check", folder).returncode == 0
    bundle = open_bundle(folder)
    assert (bundle.info.grade, bundle.info.weights) == ("measured", "dummy")
    f16, q4 = bundle.variants()
    assert (f16.bits, q4.quantization_applied) == (16.0, "Q4_K - Medium")
    assert 4.5 < (q4.bits or 0) < 5.2
    assert (f16.checkpoint_bytes or 0) > 3 * (q4.checkpoint_bytes or 0)
    assert all(r.status == "ok" and r.output_tokens == 16 for r in bundle.requests())
    assert f16.healthy_s is not None
    assert f16.vram_loaded_mib is None  # no GPU was read, so none is claimed
    out = tmp_path / "pages"
    made = CliRunner().invoke(site, ["--out", str(out), "--results", str(tmp_path / "results")])
    assert made.exit_code == 0, made.output
    figures = json.loads((out / "cases" / folder.name / "case.json").read_text())["figures"]
    assert {f["key"] for f in figures} >= {"chat.c2.q4-k-m.throughput_tok_s", "vram.f16.weights_gib"}
    page = (out / "cases" / folder.name / "index.md").read_text()
    assert "No price was given" in page
    assert "No batch workload was measured" in page
