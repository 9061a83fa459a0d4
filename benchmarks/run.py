"""The client beside its peers, same server, same run: `python -m benchmarks.run` writes benchmarks/RESULTS.md.

The server keeps the truth on core 0, the client runs on core 1. Peers are taken along when they are installed:
`vllm bench serve` (`make test-engines` installs it), GuideLLM and AIPerf (`make bench PEERS=1`).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.ours import TOKENS
from benchmarks.peers import aiperf, guidellm, vllm_bench
from benchmarks.peers.process import Figures, PeerFailed, run

ROOT = Path(__file__).parent.parent
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


def ours(url: str, streams: int) -> Figures:
    """The medians of our client's runs, and how late the server itself was meanwhile."""
    runs = []
    for _ in range(REPEATS):
        _lateness(url)
        got: Figures = json.loads(run([sys.executable, "-m", "benchmarks.ours", url, str(streams), "4"]).output)
        runs.append(got | {f"late_{key}": value for key, value in _lateness(url).items()})
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def _lateness(url: str) -> Figures:
    """How late the server sent its tokens since this was last asked, ms."""
    with urllib.request.urlopen(url + "/lateness", timeout=5) as reply:
        found = json.load(reply)
    return {key: found.get(key, 0.0) for key in ("p50_ms", "p99_ms")}


def row(name: str, streams: int, got: Figures) -> str:
    def n(key: str, digits: int) -> str:
        return f"{got[key]:,.{digits}f}" if key in got else "–"

    share = f"{100 * got['throughput_tok_s'] / ideal(streams):.1f} %"
    return (
        f"| {name} | {streams} | {n('cpu_s_per_million_tokens', 1)} | {n('startup_cpu_s', 2)} | {n('rss_mb', 0)} "
        f"| {n('ttft_ms_p50', 1)} / {n('ttft_ms_p99', 1)} | {n('tpot_ms_p50', 3)} "
        f"| {n('throughput_tok_s', 0)} ({share}) | {n('failed', 0)} |"
    )


def ideal(streams: int) -> float:
    """Tokens per second of streams that follow each other without a gap."""
    return streams * TOKENS / ((TTFT_MS + (TOKENS - 1) * TPOT_MS) / 1000)


def targets(found: dict[int, Figures]) -> list[str]:
    """Each target of the client and whether this run met it; at 512 streams each allowance is half as large again."""
    lines = ["| target | at 64 | at 256 | at 512 |", "|---|---|---|---|"]
    checks: list[tuple[str, Callable[[Figures, int], tuple[float, float]]]] = [
        ("TTFT p50 off the truth, ms (2)", lambda f, _: (abs(f["ttft_ms_p50"] - TTFT_MS), 2.0)),
        ("TTFT p99 off the truth, ms (10)", lambda f, _: (abs(f["ttft_ms_p99"] - TTFT_MS), 10.0)),
        ("TPOT p50 off the truth, % (0.5)", lambda f, _: (100 * abs(f["tpot_ms_p50"] / TPOT_MS - 1), 0.5)),
        ("throughput below ideal, % (1)", lambda f, n: (100 * (1 - f["throughput_tok_s"] / ideal(n)), 1.0)),
        ("CPU s per million tokens (12)", lambda f, _: (f["cpu_s_per_million_tokens"], 12.0)),
        ("start-up CPU s (1)", lambda f, _: (f["startup_cpu_s"], 1.0)),
        ("RSS MB (80)", lambda f, _: (f["rss_mb"], 80.0)),
    ]
    for name, check in checks:
        cells = []
        for streams in (64, 256, 512):
            value, allowed = check(found[streams], streams)
            met = value <= allowed * (1.5 if streams == 512 else 1)
            cells.append(f"{value:.2f} {'met' if met else '**missed**'}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run everything and write the tables."""
    lines: list[str] = []
    mine: dict[int, Figures] = {}
    peers = [(peer, found) for peer in (vllm_bench, guidellm, aiperf) if (found := peer.version())]
    with truth() as url, tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder, "tokenizer")
        if peers:
            maker = ROOT / "tools" / "byte_tokenizer.py"
            subprocess.run([peers[0][0].VENV / "bin" / "python", maker, tokenizer], check=True)
        for streams in (64, 256, 512):
            mine[streams] = ours(url, streams)
            lines.append(row("quantcase", streams, mine[streams]))
            for peer, _ in peers if streams < 512 else []:
                try:
                    lines.append(row(peer.NAME, streams, peer.measure(url, streams, TOKENS, tokenizer)))
                except PeerFailed as e:
                    lines.append(f"| {peer.NAME} | {streams} | failed: {e} | | | | | | |")
                print(lines[-1], flush=True)
    late = ", ".join(f"{n} streams {f['late_p50_ms']:.2f} / {f['late_p99_ms']:.2f} ms" for n, f in mine.items())
    versions = ", ".join(f"{peer.NAME} {version}" for peer, version in peers) or "no peer installed"
    head = (
        f"# The client beside its peers\n\nMade by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {_machine()}, "
        f"{os.cpu_count()} cores, server on one, client on the other, all in one run. Truth: TTFT {TTFT_MS:g} ms from "
        f"when the server has read the request, then a token every {TPOT_MS:g} ms, {TOKENS} tokens. {versions}.\n\n"
        f"quantcase: median of {REPEATS} runs, throughput in the steady window. Peers: one run of their own definition "
        "(whole run, ramps included), latencies as they report them; CPU per token is the slope between two runs, over "
        "the whole process tree; RSS is that of the largest process. The server itself was late by (p50 / p99): "
        f"{late}. A shared machine is noisy: ratios are the message.\n\n"
        "| client | streams | CPU s per million tokens | start-up CPU s | RSS MB | TTFT p50 / p99 (ms) | TPOT p50 (ms) "
        "| throughput (tok/s, of ideal) | failed |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    tail = "\n\n## Targets\n\n" + "\n".join(targets(mine)) + "\n"
    (ROOT / "benchmarks" / "RESULTS.md").write_text(head + "\n".join(lines) + tail, "utf-8")
    print((ROOT / "benchmarks" / "RESULTS.md").read_text())


def _machine() -> str:
    if shutil.which("lscpu"):
        described = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        for line in described.splitlines():
            if line.startswith("Model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
