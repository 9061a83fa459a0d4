"""llama.cpp for real: the wheel's server, started, asked, read and stopped."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector import study as studies
from collector.engines import llamacpp, tiny_gguf
from collector.engines.base import ServeRequest, StartFailed
from collector.engines.llamacpp import LlamaCpp, LlamaCppServer, default_threads
from collector.engines.llamacpp_embedded import parser
from collector.engines.process import EngineProcess, free_port
from collector.errors import QuantcaseError
from collector.study import Study, Variant

LOG = """\
0.00.017.185 I srv    load_model: loading model 'tiny.gguf'
0.00.022.445 I print_info: file size   = 1.02 MiB (5.04 BPW)
0.01.023.397 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
0.01.024.167 I load_tensors:   CPU_Mapped model buffer size =     0.95 MiB
1.02.524.685 I llama_context: constructing llama_context
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One scratch folder, so that the model is made once; a smaller one than the study's."""
    tiny = tiny_gguf.Shape(hidden=256, layers=2, heads=4, kv_heads=2, ffn=512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(llamacpp._GENERATED, "generated:small", tiny)
        yield tmp_path_factory.mktemp("work")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a box without llama-server."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)


def _study(**changes: Any) -> Study:
    text = studies.dumps(studies.load("cpu")).replace("trained:small", "generated:small")
    study = studies.loads(text)
    for key, value in changes.items():
        setattr(study, key, value)
    return study


def _request(study: Study, variant: Variant, work: Path, port: int = 0) -> ServeRequest:
    return ServeRequest(
        study=study,
        variant=variant,
        spec=study.engine,
        port=port or free_port(),
        log_path=work / f"{variant.name}.log",
        work=work,
    )


async def _chat(server: LlamaCppServer, tokens: int) -> tuple[str, dict[str, Any]]:
    """The text and the usage of one streamed answer."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": "What does the engine cost?"}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text = ""
    usage: dict[str, Any] = {}
    url = f"{server.base_url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
    return text, usage


@pytest.mark.usefixtures("embedded")
async def test_serves_answers_tells_and_ends(work: Path) -> None:
    study = _study()
    engine = LlamaCpp()
    engine.check(study)
    variant = study.variant("q4_k_m")
    server = await engine.start(_request(study, variant, work))
    try:
        text, usage = await _chat(server, 23)
        assert usage["completion_tokens"] == 23
        assert usage["prompt_tokens"] > 5
        assert text.isascii()  # so no chunk waited for the rest of a character
        async with aiohttp.ClientSession() as session:
            async with session.get(server.base_url + str(server.metrics_path)) as response:
                assert "llamacpp:tokens_predicted_total 23" in await response.text()
            async with session.get(f"{server.base_url}/props") as response:
                props = await response.json()
        assert props["total_slots"] == 8  # the study's highest concurrency
        assert props["default_generation_settings"]["n_ctx"] == study.context_tokens

        facts = server.facts()
        file_bytes = next(work.glob("*Q4_K_M.gguf")).read_bytes()
        assert facts.weights_gib is not None
        assert len(file_bytes) * 0.5 < facts.weights_gib * 2**30 < len(file_bytes) * 2
        assert facts.kv_cache_gib is not None
        kv = 2 * 2 * 128 * study.context_tokens * 8 * 2  # K and V, layers, width, tokens, slots, bytes
        assert facts.kv_cache_gib * 2**30 == pytest.approx(kv, rel=0.02)
        model = server.model_facts()
        assert model["checkpoint_bytes"] == len(file_bytes)
        assert model["config_sha256"] == hashlib.sha256(file_bytes).hexdigest()
        assert isinstance(model["bits"], float)
        assert 4.5 < model["bits"] < 7

        timeline = server.timeline
        assert timeline.port_s is not None
        assert timeline.weights_s is not None
        assert timeline.healthy_s is not None
        assert 0 < timeline.port_s <= timeline.healthy_s < 10
        assert 0 <= timeline.weights_s < timeline.healthy_s
        assert server.alive()
    finally:
        await server.stop()
    assert not server.alive()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pids[0], 0)
    await server.stop()  # twice is fine


@pytest.mark.usefixtures("embedded")
async def test_stop_while_it_streams(work: Path) -> None:
    study = _study()
    server = await LlamaCpp().start(_request(study, study.variant("f16"), work))
    streaming = asyncio.create_task(_chat(server, 400))
    await asyncio.sleep(0.2)
    await asyncio.wait_for(server.stop(), 60)  # ten would be plenty, were nothing else running here
    await asyncio.gather(streaming, return_exceptions=True)  # cut or ended: that is the client's affair
    assert not server.alive()


@pytest.mark.usefixtures("embedded")
async def test_cancelled_start_leaves_no_process(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[EngineProcess] = []

    class Slow(EngineProcess):
        async def wait_healthy(self, url: str, port: int, timeout_s: float) -> None:
            started.append(self)
            await asyncio.sleep(60)

    monkeypatch.setattr(llamacpp, "EngineProcess", Slow)
    study = _study()
    task = asyncio.create_task(LlamaCpp().start(_request(study, study.variant("f16"), work)))
    while not started:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not started[0].alive()


@pytest.mark.usefixtures("embedded")
async def test_busy_port_is_refused_before_anything_starts(work: Path) -> None:
    study = _study()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        request = _request(study, study.variant("f16"), work, port)
        request.log_path.unlink(missing_ok=True)
        with pytest.raises(QuantcaseError, match=f"port {port} is taken by another process; end it"):
            await LlamaCpp().start(request)
        assert not request.log_path.exists()


@pytest.mark.usefixtures("embedded")
async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    study = _study(variants=[Variant(name="bad", model=str(tmp_path / "bad.gguf"))])
    LlamaCpp().check(study)
    with pytest.raises(StartFailed, match="exit code 1") as caught:
        await LlamaCpp().start(_request(study, study.variants[0], tmp_path))
    assert caught.value.exit_state == "crash"
    assert caught.value.log_tail[-1].startswith("error: llama.cpp's server did not start with bad.gguf on port ")


def _embedded(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "collector.engines.llamacpp_embedded", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-m", "x.gguf", "--mlock"], "unrecognized arguments: --mlock"),
        (["-c", "512"], "the following arguments are required: -m/--model"),
        (["-m", "x.gguf", "-ctk", "fp8"], "argument -ctk/--cache-type-k: invalid choice: 'fp8'"),
        (["-m", "x.gguf", "--por", "1"], "unrecognized arguments: --por 1"),
    ],
)
def test_flag_that_cannot_be_honoured(args: list[str], says: str) -> None:
    done = _embedded(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: the embedded llama.cpp server: {says}")
    assert "use llama-server" in done.stderr


def test_embedded_flags_are_all_known() -> None:
    args = parser().parse_args(["-m", "x", "-ngl", "0", "-ctk", "q8_0", "-ctv", "q8_0", "-np", "2", "-fa", "on"])
    assert (args.gpu_layers, args.cache_type_k, args.parallel, args.flash_attn) == (0, "q8_0", 2, "on")


def _argv(study: Study, variant: Variant) -> list[str]:
    return llamacpp._arguments(_request(study, variant, Path("/nowhere"), 8123), Path("/nowhere/m.gguf"))


def _value(argv: list[str], flag: str) -> str:
    """The one that counts: the last."""
    return [b for a, b in pairwise(argv) if a == flag][-1]


def test_context_is_multiplied_by_the_slots() -> None:
    study = _study()
    assert _value(_argv(study, study.variant("f16")), "-c") == str(512 * 8)
    assert _value(_argv(study, study.variant("f16")), "-np") == "8"
    study.engine.args = ["--parallel", "3"]
    assert _value(_argv(study, study.variant("f16")), "-c") == str(512 * 3)
    two = Variant(name="two", model="generated:small", args=["-np", "2"], kv_dtype="q8_0")
    argv = _argv(study, two)
    assert (_value(argv, "-c"), _value(argv, "-np")) == (str(512 * 2), "2")
    assert (_value(argv, "-ctk"), _value(argv, "-ctv")) == ("q8_0", "q8_0")
    assert "-ctk" not in _argv(study, study.variant("f16"))
    two.args = ["-np", "auto"]
    with pytest.raises(QuantcaseError, match="auto is no number of slots; give -np a number"):
        _argv(study, two)


def test_default_threads_leave_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, n=cores: set(range(n)))
        assert default_threads() == threads


@pytest.mark.parametrize(
    ("log", "seconds"),
    [(LOG, 61.501288), (LOG.replace("constructing", "building"), None), (LOG.replace("1.02.5", "0.00.5"), None)],
)
def test_weights_seconds(log: str, seconds: float | None) -> None:
    assert llamacpp._weights_seconds(log) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.usefixtures("embedded")
def test_check_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = LlamaCpp()
    wrong = _study(variants=[Variant(name="v", model="generated:small", method="gguf:Q3_K_S")])
    with pytest.raises(QuantcaseError, match="variant v: gguf:Q3_K_S cannot be generated; methods: gguf:F16"):
        engine.check(wrong)
    with pytest.raises(
        QuantcaseError, match=r"variant v: gone\.gguf is no GGUF file on this box; set model to the path"
    ):
        engine.check(_study(variants=[Variant(name="v", model=str(tmp_path / "gone.gguf"))]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(QuantcaseError) as caught:
        engine.check(_study())
    assert str(caught.value) == (
        "neither llama-server nor xllamacpp is installed; install the extra: pip install 'quantcase[cpu]'"
    )


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert llamacpp._command(study) == ["/usr/bin/llama-server"]
    study.engine.command = ["numactl", "-N", "0", "llama-server"]
    assert llamacpp._command(study) == ["numactl", "-N", "0", "llama-server"]


def test_all_parts_of_a_split_model_count(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-{i:05d}-of-00002.gguf" for i in (1, 2)]
    parts[0].write_bytes(b"one")
    variant = Variant(name="big", model=str(parts[0]))
    with pytest.raises(QuantcaseError, match=r"big-00002-of-00002\.gguf is no GGUF file"):
        llamacpp._shards(variant)
    parts[1].write_bytes(b"two")
    assert llamacpp._shards(variant) == parts
    assert llamacpp._sha256(parts) == hashlib.sha256(b"onetwo").hexdigest()
