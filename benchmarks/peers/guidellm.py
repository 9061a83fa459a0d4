"""GuideLLM, from the environment of tools/install_peers.sh."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.process import Figures, PeerFailed, Ran, installed, run, slope

__all__ = ["NAME", "VENV", "measure", "version"]

NAME = "GuideLLM"
VENV = Path(__file__).parents[2] / ".cache" / "peers" / "guidellm"


def version() -> str | None:
    """Its version; None when it is not installed."""
    return installed(VENV, "guidellm")


def measure(url: str, streams: int, tokens: int, tokenizer: Path) -> Figures:
    """Two runs of different length. Its time per token is what it calls inter-token latency, over the whole reply."""
    (short, one), (long, two) = (_once(url, streams, tokens, tokenizer, rounds) for rounds in (2, 6))
    metrics, totals = two["metrics"], two["metrics"]["request_totals"]
    first, per_token = (metrics[m]["successful"] for m in ("time_to_first_token_ms", "inter_token_latency_ms"))
    return slope(short, _tokens(one), long, _tokens(two)) | {
        "ttft_ms_p50": first["median"],
        "ttft_ms_p99": first["percentiles"]["p99"],
        "tpot_ms_p50": per_token["median"],
        "throughput_tok_s": metrics["output_tokens_per_second"]["successful"]["mean"],
        "failed": totals["errored"] + totals["incomplete"],
    }


def _tokens(benchmark: dict[str, Any]) -> float:
    return float(benchmark["metrics"]["output_token_count"]["successful"]["total_sum"])


def _once(url: str, streams: int, tokens: int, tokenizer: Path, rounds: int) -> tuple[Ran, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "r.json")
        command = [
            str(VENV / "bin" / "guidellm"), "run", "--disable-console",
            "--backend", f"kind=openai_http,target={url},model=truth,request_format=/v1/completions,http2=false",
            "--profile", f"kind=concurrent,streams={streams}",
            "--constraint", f"kind=max_requests,count={streams * rounds}",
            "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
            "--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={tokens}",
            "--output", f"kind=json,path={result}",
        ]  # fmt: skip
        ran = run(command, {"HF_HUB_OFFLINE": "1"}, Path(folder))
        if not result.exists():
            raise PeerFailed("it wrote no result file")
        return ran, json.loads(result.read_text())["benchmarks"][0]
