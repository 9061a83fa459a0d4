"""What can be read off real logs, line by line, and what must not be read into others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from collector.cli import cli
from collector.engines.base import EngineFacts
from collector.engines.facts import judge, read_log, startup_seconds, with_metrics

SAMPLES = Path(__file__).parent.parent / "samples"
KEYS = (
    "engine version quantization_requested quantization_applied kernel_path kernel_class attention_backend weights_gib "
    "kv_cache_gib kv_cache_tokens max_concurrency graphs_gib activations_gib evidence"
).split()


def sample(name: str) -> str:
    return (SAMPLES / name).read_text("utf-8")


def test_bf16_on_an_h200() -> None:
    facts = read_log(sample("vllm-0.26-h200/bf16.startup.log"))
    assert (facts.engine, facts.version) == ("vllm", "0.26.0")
    assert facts.quantization_requested is facts.quantization_applied is facts.kernel_path is None
    assert facts.kernel_class == "unknown"
    assert facts.attention_backend == "FLASH_ATTN"
    assert (facts.weights_gib, facts.kv_cache_gib, facts.kv_cache_tokens) == (14.29, 110.18, 2_063_088)
    assert (facts.max_concurrency, facts.graphs_gib, facts.activations_gib) == (251.84, 0.89, 1.13)


def test_fp8_on_an_h200() -> None:
    facts = read_log(sample("vllm-0.26-h200/fp8.startup.log"))
    assert (facts.quantization_requested, facts.quantization_applied) == ("fp8", "fp8")
    assert facts.kernel_path == "CutlassFP8ScaledMMLinearKernel for Fp8PerTensorOnlineLinearMethod"
    assert facts.kernel_class == "optimized"
    assert facts.weights_gib == 8.2


def test_startup_times_of_the_log() -> None:
    seconds = startup_seconds(sample("vllm-0.26-h200/bf16.startup.log"))
    assert seconds == {"weights_s": 1.413877, "compile_s": 17.33, "graphs_s": 4.0}


@pytest.mark.parametrize(
    ("log", "kernel", "requested", "tokens"),
    [
        ("awq", "CPUWNA16LinearKernel for mixed-precision linear", "awq", 1_048_576),
        ("ct-w8a8int8", "CPUInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8", "compressed-tensors", 1_048_576),
        ("kv-fp8", None, None, 2_097_152),
    ],
)
def test_vllm_on_the_cpu(log: str, kernel: str | None, requested: str | None, tokens: int) -> None:
    facts = read_log(sample(f"vllm-0.32-cpu/{log}.log"))
    assert facts.version == "0.32.0"
    assert (facts.kernel_path or "").startswith(kernel or "")
    assert (facts.kernel_path is None) == (kernel is None)
    assert facts.quantization_requested == requested
    assert facts.kv_cache_tokens == tokens
    assert ("kv_cache_dtype" in facts.evidence) == (log == "kv-fp8")


def test_llama_cpp_on_the_cpu() -> None:
    facts = read_log(sample("llama-server/server-q4_k_m.log"))
    assert facts.engine == "llama.cpp"
    assert facts.quantization_applied == "Q4_K - Medium"
    assert facts.weights_gib == pytest.approx(1.02 / 1024)
    assert facts.kv_cache_gib == pytest.approx(2.0 / 1024)
    assert facts.kv_cache_tokens == 2048
    assert facts.max_concurrency == 2


@pytest.mark.parametrize("log", sorted(p.relative_to(SAMPLES).as_posix() for p in SAMPLES.rglob("*.log")))
def test_every_fact_names_a_line_that_stands_in_the_log(log: str) -> None:
    text = sample(log)
    lines = text.split("\n")
    facts = read_log(text)
    for name in facts.__struct_fields__:
        if name not in ("engine", "evidence", "kernel_class") and getattr(facts, name) is not None:
            assert name in facts.evidence or name == "quantization_requested", name
    for proof in facts.evidence.values():
        assert proof.text[:60].strip() in lines[proof.line - 1].replace("\x1b[0m", "")


OLD = {
    "0.6.3": (
        'INFO llm_engine.py:237] Initializing an LLM engine (v0.6.3) with config: model="x", quantization=awq_marlin, '
        "kv_cache_dtype=auto\nThe model is convertible to awq_marlin during runtime. Using awq_marlin kernel.\n"
        "Loading model weights took 5.2035 GB\n# GPU blocks: 7,\nMaximum concurrency for 4096 tokens per request: 8.50x"
    ),
    "0.8.5": (
        "Initializing a V1 LLM engine (v0.8.5) with config: model='x', quantization=gptq_marlin, kv_cache_dtype=auto\n"
        "Using MarlinLinearKernel for GPTQMarlinLinearMethod\nModel loading took 5.3472 GiB and 12.1 seconds\n"
        "GPU KV cache size: 60,912 tokens\nMaximum concurrency for 4,096 tokens per request: 14.87x"
    ),
    "0.30.0": (
        "Initializing a V1 LLM engine (v0.30.0) with config: model='x', quantization=None, kv_cache_dtype=auto\n"
        "Model loading took 15.0 GiB memory and 2.0 seconds\n"
        "XPU KV cache size: 60,912 tokens, Maximum concurrency for 4,096 tokens per request: 14.87x"
    ),
}


def test_older_and_newer_layouts() -> None:
    """Lines as the versions' sources write them; not recorded from a run."""
    old = read_log(OLD["0.6.3"])
    assert (old.version, old.weights_gib, old.max_concurrency) == ("0.6.3", 5.2035, 8.5)
    assert (old.kernel_class, old.quantization_applied) == ("optimized", "awq_marlin")
    two_lines = read_log(OLD["0.8.5"])
    assert (two_lines.kv_cache_tokens, two_lines.max_concurrency, two_lines.weights_gib) == (60_912, 14.87, 5.3472)
    assert two_lines.kernel_class == "optimized"
    one_line = read_log(OLD["0.30.0"])
    assert (one_line.kv_cache_tokens, one_line.max_concurrency, one_line.weights_gib) == (60_912, 14.87, 15.0)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Using MacheteLinearKernel for CompressedTensorsWNA16", "optimized"),
        ("Using ExllamaLinearKernel for AutoGPTQLinearMethod", "slow"),
        ("Selected TritonScaledMMLinearKernel for CompressedTensorsW8A8Int8", "slow"),
        ("Selected MarlinFP8ScaledMMLinearKernel for Fp8LinearMethod", "fallback"),
        ("Weight-only FP8 compression will be used leveraging the Marlin kernel. This may degrade", "fallback"),
        ("Layer 'x' is not supported by AutoAWQMarlin. Falling back to unoptimized AWQ kernels.", "fallback"),
        ("awq quantization is not fully optimized yet. The speed can be slower than non-quantized models.", "slow"),
        ("NVFP4 linear falling back to the slow and unoptimized emulation backend", "fallback"),
        ("Loading weights with BitsAndBytes quantization. May take a while ...", "slow"),
        ("Selected SomethingNewKernel for Fp8LinearMethod", "unknown"),
    ],
)
def test_the_class_of_a_kernel_line(line: str, kind: str) -> None:
    facts = read_log(f"Initializing a V1 LLM engine (v0.26.0) with config: quantization=fp8,\n{line}\n")
    assert facts.kernel_class == kind
    assert facts.evidence["kernel_class"].line == 2


def test_requested_is_not_applied() -> None:
    base = EngineFacts(weights_gib=14.29)
    log = "Initializing a V1 LLM engine (v0.26.0) with config: quantization=auto_gptq,\n"
    log += "Model loading took {} GiB and 1.0 seconds"
    same = judge(read_log(log.format(14.29)), base)
    assert (same.kernel_class, same.quantization_applied) == ("not_applied", "none")
    lighter = judge(read_log(log.format(5.39)), base)
    assert (lighter.kernel_class, lighter.quantization_applied) == ("unknown", "auto_gptq")
    # Without the baseline nothing is known; without a request nothing is missing.
    assert judge(read_log(log.format(14.29)), None).kernel_class == "unknown"
    assert judge(read_log(log.format(14.29)), base, requested="none").kernel_class == "unknown"


def test_a_quantized_kv_cache_is_not_a_quantized_model() -> None:
    facts = read_log(sample("vllm-0.32-cpu/kv-fp8.log"))
    assert judge(facts, facts, requested="none") == facts


def test_metrics_fill_in_only_what_the_log_leaves_out() -> None:
    text = sample("vllm-0.32-cpu/metrics_under_load.txt")
    filled = with_metrics(EngineFacts(), text)
    assert filled.kv_cache_tokens is not None
    assert with_metrics(EngineFacts(kv_cache_tokens=5), text).kv_cache_tokens == 5


def test_nothing_matched_is_nothing_known() -> None:
    assert read_log("hello\nworld") == EngineFacts()


@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    assert read_log(text).kernel_class in ("unknown", "slow", "fallback", "optimized")


@pytest.mark.parametrize(
    "piece", ["Initializing a V1 LLM engine ", "quantization=", "a" * 50, "Using x for ", "\x1b[0m", "1,"]
)
def test_a_hostile_line_costs_no_more_than_its_length(piece: str) -> None:
    begun = time.monotonic()
    read_log("vllm\n" + piece * (3_000_000 // len(piece)))
    assert time.monotonic() - begun < 20


def test_the_command_prints_just_these_keys() -> None:
    log = str(SAMPLES / "vllm-0.26-h200/fp8.startup.log")
    base = str(SAMPLES / "vllm-0.26-h200/bf16.startup.log")
    result = CliRunner().invoke(cli, ["facts", log, "--baseline", base, "--json"])
    assert result.exit_code == 0
    assert list(json.loads(result.output)) == KEYS
    assert "CutlassFP8" in CliRunner().invoke(cli, ["facts", log]).output
