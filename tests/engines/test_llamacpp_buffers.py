"""Buffers by device out of llama.cpp's logs, as its versions have written them."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.engines.llamacpp_buffers import DeviceBuffer, Offload, device_buffers, offload, vram_mib
from tests.real import CPU_BUNDLE

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "samples" / "llama-server" / "server-q4_k_m.log"

# github.com/ggml-org/llama.cpp/pull/6122, a comment of 2024: two cards, weights without the word `model`
OLD = """
llm_load_tensors: offloaded 41/41 layers to GPU
llm_load_tensors:        CPU buffer size =  1640.62 MiB
llm_load_tensors:      CUDA0 buffer size =  5434.38 MiB
llm_load_tensors:      CUDA1 buffer size = 13989.53 MiB
.......................................................................................
llama_new_context_with_model: n_ctx      = 4096
llama_kv_cache_init:      CUDA0 KV buffer size =  1536.00 MiB
llama_kv_cache_init:      CUDA1 KV buffer size =  3584.00 MiB
llama_new_context_with_model: KV self size  = 5120.00 MiB, K (f16): 2560.00 MiB, V (f16): 2560.00 MiB
llama_new_context_with_model:  CUDA_Host  output buffer size =     1.95 MiB
llama_new_context_with_model: pipeline parallelism enabled (n_copies=4)
llama_new_context_with_model:      CUDA0 compute buffer size =   672.01 MiB
"""
# github.com/mozilla-ai/llamafile/pull/552: a model of which all but the embeddings lies on one card
FULL = """
llm_load_tensors: offloaded 31/31 layers to GPU
llm_load_tensors:        CPU buffer size =   297.00 MiB
llm_load_tensors:      CUDA0 buffer size =  7317.71 MiB
llama_kv_cache_init:      CUDA0 KV buffer size =   180.00 MiB
llama_new_context_with_model: KV self size  =  180.00 MiB, K (f16):   90.00 MiB, V (f16):   90.00 MiB
llama_new_context_with_model:  CUDA_Host  output buffer size =     0.19 MiB
llama_new_context_with_model:      CUDA0 compute buffer size =   105.00 MiB
"""
# Layout of mid 2025 (llama_kv_cache_unified, llama_context), from a sweep of a 61-layer model on one card that
# stands among the stored public files; its repository is not named there.
UNIFIED = """
load_tensors: offloaded 62/62 layers to GPU
load_tensors:        CUDA0 model buffer size = 16303.48 MiB
load_tensors:   CPU_Mapped model buffer size =   471.75 MiB
llama_context: constructing llama_context
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache_unified: kv_size = 32768, type_k = 'f16', type_v = 'f16', n_layer = 61, can_shift = 1, padding = 256
llama_kv_cache_unified:      CUDA0 KV buffer size =  1952.00 MiB
llama_kv_cache_unified: KV self size  = 1952.00 MiB, K (f16):  976.00 MiB, V (f16):  976.00 MiB
llama_context:      CUDA0 compute buffer size =   353.00 MiB
llama_context:  CUDA_Host compute buffer size =    76.01 MiB
"""
# github.com/ggml-org/llama.cpp/issues/27680 (colours as on a terminal) and, for the last four lines, issues/21730
NEW = """
\x1b[34m1.14.608.918\x1b[0m \x1b[32mI \x1b[0mllama_context:  CUDA_Host  output buffer size =     0.49 MiB
\x1b[34m1.14.609.487\x1b[0m \x1b[32mI \x1b[0mllama_kv_cache: size =    0.00 MiB ( 64000 cells,   0 layers,  1/1 seqs)
\x1b[34m1.14.610.021\x1b[0m \x1b[32mI \x1b[0mllama_kv_cache:      CUDA0 KV buffer size =   182.75 MiB
sched_reserve:      CUDA0 compute buffer size =  1366.07 MiB
sched_reserve:      CUDA1 compute buffer size =   636.07 MiB
sched_reserve:  CUDA_Host compute buffer size =  1063.09 MiB
sched_reserve: graph nodes  = 1867
"""
# github.com/Anbeeld/beellama.cpp/issues/7, a fork with llama.cpp's own lines: working memory is reserved once more
AGAIN = """
2.11.005.504 I sched_reserve:      CUDA1 compute buffer size =   144.64 MiB
2.11.005.505 I sched_reserve:  CUDA_Host compute buffer size =    11.54 MiB
2.12.071.817 I sched_reserve: reserving ...
2.12.086.615 I sched_reserve:      CUDA0 compute buffer size =    46.79 MiB
2.12.086.620 I sched_reserve:      CUDA1 compute buffer size =   146.41 MiB
2.12.086.621 I sched_reserve:  CUDA_Host compute buffer size =    17.82 MiB
"""
# The order of a recent server's log: a dry run, the model, then a draft context on it (figures by us).
DRY_AND_DRAFT = """
I load_tensors: CUDA0 model buffer size = 0.00 MiB
I llama_kv_cache: CUDA0 KV buffer size = 0.00 MiB
I sched_reserve: CUDA0 compute buffer size = 154.02 MiB
I load_tensors: CPU_Mapped model buffer size = 682.03 MiB
I load_tensors: CUDA0 model buffer size = 15000.00 MiB
I llama_context: CUDA_Host output buffer size = 0.95 MiB
I llama_kv_cache: CUDA0 KV buffer size = 2000.00 MiB
I llama_kv_cache: CUDA0 KV buffer size = 48.00 MiB
I llama_memory_recurrent: CUDA0 RS buffer size = 600.00 MiB
I sched_reserve: CUDA0 compute buffer size = 150.00 MiB
I sched_reserve: CUDA0 compute buffer size = 154.00 MiB
I llama_context: CUDA_Host output buffer size = 0.95 MiB
I llama_kv_cache: CUDA0 KV buffer size = 128.00 MiB
I sched_reserve: CUDA0 compute buffer size = 130.00 MiB
"""


def test_the_recorded_server_on_a_cpu() -> None:
    found = device_buffers(SAMPLE.read_text("utf-8"))
    assert found == [
        DeviceBuffer("CPU_Mapped", "model", 0.95),
        DeviceBuffer("CPU_REPACK", "model", 0.54),
        DeviceBuffer("CPU", "output", 0.01),
        DeviceBuffer("CPU", "kv", 2.0),
        DeviceBuffer("CPU", "compute", 5.52),
    ]
    assert vram_mib(found) is None  # nothing lies on a card: that is no zero
    assert vram_mib(found, "CPU") == 7.52


@pytest.mark.parametrize("log", sorted(CPU_BUNDLE.glob("logs/*.log.gz")), ids=lambda p: p.name)
def test_logs_of_our_own_runs_name_weights_context_and_working_memory(log: Path) -> None:
    found = device_buffers(gzip.decompress(log.read_bytes()).decode("utf-8", "replace"))
    assert {b.kind for b in found} >= {"model", "kv", "compute"}
    assert all(b.device.startswith("CPU") and b.mib >= 0 for b in found)


@pytest.mark.parametrize(
    ("log", "parts", "total"),
    [
        (OLD, (5434.38, 1536.00, 672.01), 7642.39),
        (FULL, (7317.71, 180.00, 105.00), 7602.71),
        (UNIFIED, (16303.48, 1952.00, 353.00), 18608.48),
        (NEW, (None, 182.75, 1366.07), 1548.82),
    ],
    ids=["2024", "2024, one card", "2025", "2026"],
)
def test_the_three_buffers_of_cuda0_in_every_layout(
    log: str, parts: tuple[float | None, float, float], total: float
) -> None:
    found = {(b.device, b.kind): b.mib for b in device_buffers(log)}
    assert tuple(found.get(("CUDA0", kind)) for kind in ("model", "kv", "compute")) == parts
    assert vram_mib(device_buffers(log)) == total


def test_other_cards_and_pinned_memory_are_not_cuda0() -> None:
    found = device_buffers(OLD)
    assert vram_mib(found, "CUDA1") == 13989.53 + 3584.00
    assert DeviceBuffer("CUDA_Host", "output", 1.95) in found
    assert DeviceBuffer("CPU", "model", 1640.62) in found


def test_working_memory_that_is_reserved_again_is_not_counted_twice() -> None:
    found = {b.device: b.mib for b in device_buffers(AGAIN)}
    assert found == {"CUDA1": 146.41, "CUDA_Host": 17.82, "CUDA0": 46.79}


def test_a_dry_run_counts_nothing_and_a_draft_context_counts_beside_the_first() -> None:
    found = {(b.device, b.kind): b.mib for b in device_buffers(DRY_AND_DRAFT)}
    assert found["CUDA0", "model"] == 15000.0
    assert found["CUDA0", "kv"] == 2000 + 48 + 600 + 128  # two caches and a state of the first context, one of the next
    assert found["CUDA0", "compute"] == 154 + 130
    assert found["CUDA_Host", "output"] == 1.9


def test_no_buffers_no_figures() -> None:
    assert device_buffers("") == []
    assert device_buffers("vLLM: Model loading took 14.29 GiB\nKV buffer size = 3 MiB") == []
    assert vram_mib([]) is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("llama-server -m x.gguf", Offload()),
        ("llama-server -ngl 99 --cpu-moe", Offload(gpu_layers="99", cpu_moe=True)),
        ("llama-server --n-gpu-layers 0 -ngl all", Offload(gpu_layers="all")),
        ("llama-server --gpu-layers 40 --n-cpu-moe 12", Offload(gpu_layers="40", n_cpu_moe=12)),
        ("llama-server --n_cpu_moe 3 -nkvo", Offload(n_cpu_moe=3, kv_on_cpu=True)),
        ("llama-server -ncmoe many -cmoe", Offload(cpu_moe=True)),
        ("llama-server -ot exps=CPU", Offload(overrides=("exps=CPU",))),
        ("llama-server -ngl", Offload()),
    ],
)
def test_what_the_command_line_moves_off_the_card(argv: str, expected: Offload) -> None:
    assert offload(argv.split()) == expected


@pytest.mark.parametrize(
    ("flags", "there"),
    [("--cpu-moe", True), ("--n-cpu-moe 0", False), ("-ncmoe 1", True), ("-ot exps=CPU,attn=CUDA0", True),
     ("-ot exps=CUDA1", False), ("-ngl 0", False)],
)  # fmt: skip
def test_experts_on_the_cpu(flags: str, there: bool) -> None:
    assert offload(flags.split()).experts_on_cpu is there


@given(st.text(max_size=200), st.lists(st.text(max_size=12), max_size=6))
def test_no_text_makes_it_raise(log: str, argv: list[str]) -> None:
    device_buffers("load_tensors:  CUDA0 model buffer size = " + log)
    offload(argv)


@pytest.mark.parametrize("piece", ["load_tensors: ", "buffer size = ", "load_tensors:" + " " * 40, "\x1b[0m", "9"])
def test_a_hostile_log_costs_no_more_than_its_length(piece: str) -> None:
    begun = time.process_time()
    device_buffers(piece * (3_000_000 // len(piece)) + "buffer size")
    device_buffers((piece * (1_900 // len(piece)) + "buffer size\n") * 200)
    assert time.process_time() - begun < 2.0
