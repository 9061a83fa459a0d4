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
from collector.engines.facts import facts_json, judge, read_log, startup_seconds, with_metrics

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
    proof = facts.evidence["kernel_path"]
    assert "Selected CutlassFP8ScaledMMLinearKernel for Fp8PerTensorOnlineLinearMethod" in proof.text


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


def test_engines_that_did_not_come_up_still_say_what_they_were() -> None:
    fp8 = read_log(sample("vllm-0.32-cpu/fp8-online.log"))
    assert (fp8.version, fp8.quantization_requested, fp8.kernel_class) == ("0.32.0", "fp8", "slow")
    assert fp8.kernel_path == "PerTensorTorchFP8ScaledMMLinearKernel for Fp8PerTensorOnlineLinearMethod"
    assert fp8.weights_gib is fp8.kv_cache_tokens is None
    bnb4 = read_log(sample("vllm-0.32-cpu/bnb4.log"))
    assert (bnb4.engine, bnb4.version, bnb4.kernel_path, bnb4.kernel_class) == ("vllm", "0.32.0", None, "unknown")


@pytest.mark.parametrize(
    ("log", "tokens", "concurrency", "kv_gib"),
    [("awq", 1_048_576, 1024.0, 1.0), ("ct-w8a8int8", 1_048_576, 1024.0, 1.0), ("kv-fp8", 2_097_152, 2048.0, 1.0)],
)
def test_kv_of_vllm_on_the_cpu(log: str, tokens: int, concurrency: float, kv_gib: float) -> None:
    facts = read_log(sample(f"vllm-0.32-cpu/{log}.log"))
    assert (facts.kv_cache_tokens, facts.max_concurrency, facts.kv_cache_gib) == (tokens, concurrency, kv_gib)
    assert facts.kernel_class == ("unknown" if log == "kv-fp8" else "optimized")


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
        ("Using CutlassW4A8LinearKernel for CompressedTensorsW4A8Fp8", "optimized"),
        ("Using MarlinLinearKernel for CompressedTensorsW4A8Int", "optimized"),
        ("Using MarlinLinearKernel for CompressedTensorsWNA8Int", "optimized"),
        ("Using ConchLinearKernel for CompressedTensorsWNA4Int", "slow"),
        ("Using MarlinLinearKernel for GPTQMarlinLinearMethod", "optimized"),
        ("Using MarlinLinearKernel for AWQMarlinLinearMethod", "optimized"),
        ("Using MarlinLinearKernel for AutoAWQMarlinLinearMethod", "optimized"),
        ("Using MacheteLinearKernel for mixed-precision linear", "optimized"),
        ("The model is convertible to gptq_marlin during runtime. Using gptq_marlin kernel.", "optimized"),
        ("Selected CutlassInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8", "optimized"),
        ("Selected FlashInferFP8ScaledMMLinearKernel for Fp8LinearMethod", "optimized"),
        ("Layer 'x' is not supported by AWQMarlin. Falling back to unoptimized AWQ kernels.", "fallback"),
        ("Layer 'x' is not supported by AutoGPTQ. Falling back to Moe WNA16 kernels.", "fallback"),
        (
            "Your GPU does not have native support for FP4 computation but FP4 quantization is being used. "
            "Weight-only FP4 compression will be used leveraging the Marlin kernel.",
            "fallback",
        ),
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


def test_a_line_that_warns_outweighs_a_good_kernel() -> None:
    facts = read_log(
        "Selected CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod\n"
        "Weight-only FP8 compression will be used leveraging the Marlin kernel.\n"
    )
    assert (facts.kernel_class, facts.evidence["kernel_class"].line) == ("fallback", 2)
    assert facts.kernel_path == "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod"


def test_the_slow_kernel_that_was_forced_is_the_one_that_is_named() -> None:
    facts = read_log(
        "Detected that the model can run with awq_marlin, however you specified quantization=awq explicitly, so "
        "forcing awq. Use quantization=awq_marlin for faster inference\n"
    )
    assert (facts.kernel_path, facts.kernel_class) == ("awq", "slow")


def test_a_hint_says_nothing_of_the_kernel() -> None:
    for line in (
        "Using default W8A8 Block FP8 kernel config. Performance might be sub-optimal! Config file not found at x",
        "You are running Marlin kernel with bf16 on GPUs before SM90.",
        "Using KV cache scaling factor 1.0 for fp8_e4m3.",
    ):
        facts = read_log(f"Initializing a V1 LLM engine (v0.26.0) with config: quantization=fp8,\n{line}\n")
        assert (facts.kernel_path, facts.kernel_class, facts.quantization_applied) == (None, "unknown", None)


def test_another_library_s_version_is_not_the_engine_s() -> None:
    banner = "(APIServer pid=1) INFO 11-20 [api_utils.py:345]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.26.0\n"
    assert read_log(banner + "NCCL version 2.27.3+cuda12.9\n").version == "0.26.0"
    assert read_log("INFO api_server.py:528] vLLM API server version 0.6.3\r\n").version == "0.6.3"


def test_a_word_in_a_path_makes_no_engine() -> None:
    log = sample("llama-server/server-q4_k_m.log")
    assert read_log("started from /venvs/vllm-tests/\n" + log).engine == "llama.cpp"
    assert read_log("ModuleNotFoundError: No module named 'vllm'") == EngineFacts()
    assert read_log("Using nccl backend.") == EngineFacts()


@pytest.mark.parametrize(
    "promise",
    [
        "The model is convertible to awq_marlin during runtime. Using awq_marlin kernel.",
        "awq quantization is not fully optimized yet. The speed can be slower than non-quantized models.",
    ],
)
def test_a_promise_of_the_configuration_is_no_proof(promise: str) -> None:
    """Printed before a layer is made: weights as heavy as the baseline's belie it, a kernel of a layer proves it."""
    log = f"Initializing an LLM engine (v0.6.3) with config: quantization=awq,\n{promise}\n"
    heavy = "Loading model weights took 14.2900 GB\n"
    base = EngineFacts(weights_gib=14.29)
    assert judge(read_log(log + heavy), base).kernel_class == "not_applied"
    lighter = judge(read_log(log + "Loading model weights took 5.2035 GB\n"), base)
    assert lighter.quantization_applied == "awq"
    assert lighter.kernel_class in ("optimized", "slow")
    proven = judge(read_log(log + "Using MarlinLinearKernel for AWQMarlinLinearMethod\n" + heavy), base)
    assert (proven.quantization_applied, proven.evidence["kernel_path"].line) == ("awq", 3)


@pytest.mark.parametrize("gib", [0.0, 0.01])
def test_weights_too_light_to_compare_are_not_judged(gib: float) -> None:
    log = "Initializing a V1 LLM engine (v0.26.0) with config: quantization=auto_gptq,\n"
    facts = read_log(f"{log}Model loading took {gib} GiB and 1.0 seconds")
    assert judge(facts, EngineFacts(weights_gib=gib)) == facts


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


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    facts = read_log(data.decode("utf-8", "replace"))
    assert set(json.loads(facts_json(facts))) == set(KEYS)


PIECES = st.sampled_from(
    "Initializing a V1 LLM engine (v |quantization=|version |Using |Selected | for |GPTQMarlinLinearMethod|"
    "Model loading took | GiB| and | seconds|KV cache size: | tokens|1,|,|.|9|\n|\r|\x1b[0m|"
    "print_info: file size = |MiB (|BPW)|█ |"
    "Graph capturing finished in | secs, took |Maximum concurrency for |x".split("|")
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_no_mixture_of_its_own_words_makes_it_raise(text: str) -> None:
    facts = judge(read_log(text), EngineFacts(weights_gib=14.29))
    for proof in facts.evidence.values():
        assert 1 <= proof.line <= text.count("\n") + 1
    startup_seconds(text)


@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    assert read_log(text).kernel_class in ("unknown", "slow", "fallback", "optimized")


@pytest.mark.parametrize(
    "piece",
    ["Initializing a V1 LLM engine ", "quantization=", "a" * 50, "Using x for ", "\x1b[0m", "1,", "quantization"],
)
def test_a_hostile_line_costs_no_more_than_its_length(piece: str) -> None:
    one_line = piece * (5_000_000 // len(piece))
    many_lines = (piece * (19_990 // len(piece)) + "\n") * 100
    for text in (one_line, many_lines):
        begun = time.process_time()
        read_log(text)
        assert time.process_time() - begun < 8


def test_the_command_prints_just_these_keys() -> None:
    log = str(SAMPLES / "vllm-0.26-h200/fp8.startup.log")
    base = str(SAMPLES / "vllm-0.26-h200/bf16.startup.log")
    result = CliRunner().invoke(cli, ["facts", log, "--baseline", base, "--json"])
    assert result.exit_code == 0
    assert list(json.loads(result.output)) == KEYS
    assert "CutlassFP8" in CliRunner().invoke(cli, ["facts", log]).output
