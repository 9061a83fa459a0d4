"""vLLM's command line and its failures; the engine itself runs in tests/engines/real."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import msgspec
import pytest

from collector.engines.base import ServeRequest, StartFailed
from collector.engines.process import free_port
from collector.engines.vllm import Vllm, arguments
from collector.errors import QuantcaseError
from collector.study import EngineSpec, Variant
from tests.makers import study

SAMPLES = Path(__file__).parent.parent / "samples"


def request(tmp_path: Path, variant: Variant, spec: EngineSpec, port: int = 8000) -> ServeRequest:
    return ServeRequest(
        study=msgspec.structs.replace(study(), engine=spec), variant=variant, spec=spec, port=port,
        log_path=tmp_path / "log", work=tmp_path,
    )  # fmt: skip


def test_the_command_line_says_what_the_study_says(tmp_path: Path) -> None:
    variant = Variant(name="q", model="org/m", kv_dtype="fp8", revision="abc", args=["--quantization", "fp8"])
    argv = arguments(request(tmp_path, variant, EngineSpec(name="vllm", args=["--max-num-seqs", "64"])))
    assert (
        argv
        == (
            "vllm serve org/m --host 127.0.0.1 --port 8000 --served-model-name q --max-model-len 4096 "
            "--kv-cache-dtype fp8 --revision abc --max-num-seqs 64 --quantization fp8"
        ).split()
    )


def test_what_the_study_gives_is_never_overridden(tmp_path: Path) -> None:
    spec = EngineSpec(name="vllm", args=["--max-model-len=512", "--served-model-name", "mine"])
    argv = arguments(request(tmp_path, Variant(name="q", model="m"), spec))
    assert "4096" not in argv
    assert argv.count("--served-model-name") == 1


def test_no_vllm_is_one_line(tmp_path: Path) -> None:
    spec = EngineSpec(name="vllm", command=["no-such-vllm", "serve"])
    with pytest.raises(QuantcaseError, match="no-such-vllm is not installed or not on PATH; pip install"):
        Vllm().check(msgspec.structs.replace(study(), engine=spec))


async def test_an_engine_that_refuses_the_format_is_unsupported_with_its_own_words(tmp_path: Path) -> None:
    log = SAMPLES / "vllm-0.32-cpu/bnb4.log"
    code = f"import sys, pathlib; print(pathlib.Path({str(log)!r}).read_text()); sys.exit(1)"
    spec = EngineSpec(name="vllm", command=[sys.executable, "-c", code])
    with pytest.raises(StartFailed) as e:
        await Vllm().start(request(tmp_path, Variant(name="bnb", model="m"), spec, free_port()))
    assert e.value.exit_state == "unsupported"
    assert any("Unknown quantization method" in line for line in e.value.log_tail)


async def test_no_room_on_the_card_is_oom(tmp_path: Path) -> None:
    words = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    spec = EngineSpec(name="vllm", command=[sys.executable, "-c", f"import sys; sys.exit({words!r})"])
    with pytest.raises(StartFailed) as e:
        await Vllm().start(request(tmp_path, Variant(name="bf16", model="m"), spec, free_port()))
    assert (e.value.exit_state, e.value.log_tail) == ("oom", [words])
    assert e.value.argv[3:6] == ["m", "--host", "127.0.0.1"]


async def test_the_cause_above_three_tracebacks_is_found_and_shown(tmp_path: Path) -> None:
    log = SAMPLES / "vllm-0.26-h200/bf16-70b.no-room.log"
    code = f"import sys, pathlib; print(pathlib.Path({str(log)!r}).read_text()); sys.exit(1)"
    spec = EngineSpec(name="vllm", command=[sys.executable, "-c", code])
    with pytest.raises(StartFailed) as e:
        await Vllm().start(request(tmp_path, Variant(name="bf16", model="m"), spec, free_port()))
    assert e.value.exit_state == "oom"
    assert str(e.value).startswith("the engine ended with exit code 1 at start: ValueError: No available memory for")
    said = [line for line in e.value.log_tail if "No available memory for the cache blocks" in line]
    assert len(said) == 1
    assert "Available KV cache memory: -8.06 GiB" in "\n".join(e.value.log_tail)
    assert not [line for line in e.value.log_tail if "File " in line or "^^^" in line]


async def test_a_busy_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(QuantcaseError, match=f"port {port} is in use"):
            await Vllm().start(request(tmp_path, Variant(name="q", model="m"), EngineSpec(name="vllm"), port))
