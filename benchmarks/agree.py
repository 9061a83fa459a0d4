"""Do two clients see the same server? `python -m benchmarks.agree URL MODEL --vllm vllm --tokenizer DIR`.

Our client and `vllm bench serve` in turn on one live vLLM server, the same lengths, counts and concurrencies; beside
them what the server's own /metrics histograms say of the very same requests. Prints one JSON object a concurrency.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import msgspec
import uvloop

from collector.load.measure import Client, calibrate
from collector.load.prompts import PromptMaker
from collector.study import EngineSpec, Load, Prompts, Study, Variant, Workload

__all__ = ["Seen", "by_server", "by_us", "by_vllm", "main"]

Seen = dict[str, float]
_HISTOGRAMS = {
    "tpot_ms_mean": "vllm:request_time_per_output_token_seconds",
    "ttft_ms_mean": "vllm:time_to_first_token_seconds",
    "e2e_ms_mean": "vllm:e2e_request_latency_seconds",
}


def study(args: argparse.Namespace, concurrency: int) -> Study:
    """A study of one load point; only its prompts and sizes are used."""
    workload = Workload(
        name="agree", api="completions", input_tokens=args.input, output_tokens=args.output,
        concurrency=[concurrency], requests_per_stream=max(2, args.requests // concurrency), min_requests=args.requests,
    )  # fmt: skip
    return Study(
        id="agree", title="agree", gpu="any", base_model="any", baseline="served", engine=EngineSpec(name="endpoint"),
        variants=[Variant(name="served", model=args.model)], workloads=[workload], prompts=Prompts(kind=args.prompts),
        seed=args.seed,
    )  # fmt: skip


async def by_us(args: argparse.Namespace, concurrency: int) -> Seen:
    """What our client sees."""
    asked = study(args, concurrency)
    client = Client(args.url, args.model)
    maker = PromptMaker(asked, await calibrate(client, asked))
    before = by_server(args.url)
    got = await client.repeat(
        maker, asked.workloads[0], Load.closed(concurrency),
        variant="served", start=1, repeat=1, zero=0.0, prompts_of=1,
    )  # fmt: skip
    if got.cell.ok != got.cell.n:
        raise SystemExit(f"{got.cell.n - got.cell.ok} requests failed: {got.first_error}")
    rows = got.requests
    return {
        "tpot_ms_median": statistics.median(r.tpot_ms for r in rows if r.tpot_ms is not None),
        "tpot_ms_mean": statistics.fmean(r.tpot_ms for r in rows if r.tpot_ms is not None),
        "ttft_ms_median": statistics.median(r.ttft_ms for r in rows if r.ttft_ms is not None),
        "ttft_ms_mean": statistics.fmean(r.ttft_ms for r in rows if r.ttft_ms is not None),
        "e2e_ms_mean": statistics.fmean(r.e2e_ms for r in rows if r.e2e_ms is not None),
        "output_tok_s": got.cell.whole_run_tok_s or 0.0,
        "requests": len(rows),
        "input_tokens": got.cell.input_tokens_mean or 0.0,
    } | _server_since(args.url, before)


def by_vllm(args: argparse.Namespace, concurrency: int) -> Seen:
    """What `vllm bench serve` reports."""
    before = by_server(args.url)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *args.vllm.split(), "bench", "serve", "--backend", "openai", "--base-url", args.url, "--endpoint",
            "/v1/completions", "--model", args.model, "--tokenizer", args.tokenizer, "--dataset-name", "random",
            "--random-input-len", str(args.input), "--random-output-len", str(args.output),
            "--num-prompts", str(max(args.requests, 2 * concurrency)), "--max-concurrency", str(concurrency),
            "--ignore-eos", "--seed", str(args.seed), "--save-result", "--result-dir", folder,
            "--result-filename", "r.json", "--disable-tqdm", "--num-warmups", "0",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"vllm bench serve failed:\n{done.stderr[-1500:]}")
        got = json.loads(Path(folder, "r.json").read_text())
    return {
        "tpot_ms_median": got["median_tpot_ms"],
        "tpot_ms_mean": got["mean_tpot_ms"],
        "ttft_ms_median": got["median_ttft_ms"],
        "ttft_ms_mean": got["mean_ttft_ms"],
        "output_tok_s": got["output_throughput"],
        "requests": got["completed"],
        "input_tokens": got["total_input_tokens"] / max(1, got["completed"]),
    } | _server_since(args.url, before)


def by_server(url: str) -> Seen:
    """Sums and counts of the server's own histograms, since it was started."""
    with urllib.request.urlopen(url + "/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found: Seen = {}
    for name in _HISTOGRAMS.values():
        for part in ("sum", "count"):
            values = re.findall(rf"^{re.escape(name)}_{part}(?:{{[^}}]*}})? (\S+)$", text, flags=re.M)
            found[f"{name}_{part}"] = sum(map(float, values))
    return found


def _server_since(url: str, before: Seen) -> Seen:
    after = by_server(url)
    found: Seen = {}
    for key, name in _HISTOGRAMS.items():
        count = after[f"{name}_count"] - before[f"{name}_count"]
        if count > 0:
            found[f"server_{key}"] = 1000 * (after[f"{name}_sum"] - before[f"{name}_sum"]) / count
    return found


def main() -> None:
    """Measure in turn, so that both meet the same machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--vllm", default="vllm", help="the command")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--input", type=int, default=64)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--prompts", default="prose")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for concurrency in args.concurrency:
        ours, theirs = [], []
        for number in range(args.rounds):
            args.seed = number + 1
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                ours.append(runner.run(by_us(args, concurrency)))
            theirs.append(by_vllm(args, concurrency))
        medians = [{k: statistics.median(r[k] for r in rs) for k in rs[0]} for rs in (ours, theirs)]
        print(
            msgspec.json.encode(
                {"concurrency": concurrency, "rounds": args.rounds, "quantcase": medians[0], "vllm_bench": medians[1]}
            ).decode(),
            flush=True,
        )


if __name__ == "__main__":
    main()
