"""Our client against a server: `python -m benchmarks.ours URL STREAMS ROUNDS`; prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

STARTED = time.process_time()

import msgspec  # noqa: E402
import uvloop  # noqa: E402

from collector.load.measure import Client, Measured  # noqa: E402
from collector.load.prompts import Calibration, PromptMaker  # noqa: E402
from collector.study import EngineSpec, Load, Study, Variant, Workload  # noqa:E402

TOKENS = 128


def study(streams: int, rounds: int) -> Study:
    """A study with one load point; it is never run as such, only its prompts and sizes are used."""
    chat = Workload(
        name="chat",
        input_tokens=64,
        output_tokens=TOKENS,
        concurrency=[streams],
        requests_per_stream=rounds,
        min_requests=2,
    )
    variant = Variant(name="truth", model="truth")
    return Study(
        id="bench", title="bench", gpu="cpu", base_model="truth", baseline="truth", engine=EngineSpec(name="endpoint"),
        variants=[variant], workloads=[chat],
    )  # fmt: skip


def cpu_s() -> float:
    """CPU seconds of this process so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(url: str, streams: int, rounds: int) -> Measured:
    """One warm-up wave, then one repeat."""
    asked = study(streams, rounds)
    client, maker = Client(url, "truth"), PromptMaker(asked, Calibration(0.0, 1.0))
    workload = asked.workloads[0]
    short = msgspec.structs.replace(workload, requests_per_stream=2)
    await client.repeat(maker, short, Load.closed(streams), variant="truth", start=1, repeat=1, zero=0.0, prompts_of=1)
    begun = cpu_s()
    got = await client.repeat(
        maker, workload, Load.closed(streams), variant="truth", start=1, repeat=2, zero=0.0, prompts_of=2
    )
    tokens = sum(r.output_tokens or 0 for r in got.requests)
    sys.stdout.write(
        json.dumps(
            {
                "cpu_s_per_million_tokens": (cpu_s() - begun) / tokens * 1e6,
                "startup_cpu_s": START_CPU,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "ttft_ms_p50": got.cell.ttft_ms_p50,
                "ttft_ms_p99": got.cell.ttft_ms_p99,
                "tpot_ms_p50": got.cell.tpot_ms_p50,
                "throughput_tok_s": got.cell.throughput_tok_s,
                "failed": got.cell.n - got.cell.ok,
                "loop_lag_ms_p99": got.client.loop_lag_ms_p99,
            }
        )
        + "\n"
    )
    return got


START_CPU = cpu_s()

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
