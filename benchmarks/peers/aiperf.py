"""AIPerf, from the environment of tools/install_peers.sh."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.process import Figures, PeerFailed, Ran, installed, run, slope

__all__ = ["NAME", "VENV", "measure", "version"]

NAME = "AIPerf"
VENV = Path(__file__).parents[2] / ".cache" / "peers" / "aiperf"


def version() -> str | None:
    """Its version; None when it is not installed."""
    return installed(VENV, "aiperf")


def measure(url: str, streams: int, tokens: int, tokenizer: Path) -> Figures:
    """Two runs of different length; tokens are counted by the server's usage. Its inter-token latency is per reply."""
    (short, one), (long, two) = (_once(url, streams, tokens, tokenizer, rounds) for rounds in (2, 6))
    return slope(short, _tokens(one), long, _tokens(two)) | {
        "ttft_ms_p50": two["time_to_first_token"]["p50"],
        "ttft_ms_p99": two["time_to_first_token"]["p99"],
        "tpot_ms_p50": two["inter_token_latency"]["p50"],
        "throughput_tok_s": two["output_token_throughput"]["avg"],
        "failed": 6 * streams - two["request_count"]["avg"],
    }


def _tokens(result: dict[str, Any]) -> float:
    return float(result["total_output_tokens"]["avg"])


def _once(url: str, streams: int, tokens: int, tokenizer: Path, rounds: int) -> tuple[Ran, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(VENV / "bin" / "aiperf"), "profile", "-m", "truth", "--url", url, "--endpoint-type", "completions",
            "--streaming", "--tokenizer", str(tokenizer), "--use-server-token-count", "--isl", "64", "--osl",
            str(tokens), "--concurrency", str(streams), "--request-count", str(streams * rounds), "--extra-inputs",
            "ignore_eos:true", "--artifact-dir", folder, "--ui", "none",
        ]  # fmt: skip
        # With HF_HUB_OFFLINE it looks for tokenizers in the hub's cache alone, not at a path.
        ran = run(["env", "-u", "HF_HUB_OFFLINE", *command], None, Path(folder))
        result = Path(folder, "profile_export_aiperf.json")
        if not result.exists():
            raise PeerFailed("it wrote no result file")
        return ran, json.loads(result.read_text())
