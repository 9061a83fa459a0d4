"""The generated model: repeatable, quantized as llama-quantize would, and able to spell any text."""

from __future__ import annotations

import http.client
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.engines import tiny_gguf
from collector.engines.process import free_port, port_is_free
from collector.engines.tiny_gguf import FORMATS, Shape, make, tensor_type, vocabulary
from collector.errors import QuantcaseError

TINY = Shape(hidden=256, layers=2, heads=4, kv_heads=2, ffn=512)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(tmp_path_factory.mktemp("models"), 7, FORMATS, TINY)


def test_same_seed_same_bytes_other_seed_other_bytes(models: dict[str, Path], tmp_path: Path) -> None:
    again = make(tmp_path / "again", 7, FORMATS, TINY)
    other = make(tmp_path / "other", 8, FORMATS, TINY)
    for name in FORMATS:
        assert again[name].name == models[name].name
        assert again[name].read_bytes() == models[name].read_bytes()
        assert other[name].name != models[name].name
        assert other[name].read_bytes() != models[name].read_bytes()


def test_is_made_once(tmp_path: Path) -> None:
    first = make(tmp_path, 1, ["Q8_0"], TINY)["Q8_0"]
    f16 = next(tmp_path.glob("*-F16.gguf"))  # the source of the quantized one stays for the next
    stamps = [p.stat().st_mtime_ns for p in (first, f16)]
    assert make(tmp_path, 1, ["F16", "Q8_0"], TINY) == {"F16": f16, "Q8_0": first}
    assert [p.stat().st_mtime_ns for p in (first, f16)] == stamps
    assert sorted(tmp_path.iterdir()) == sorted([first, f16])


def test_a_making_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(tiny_gguf, "_write", broken)
    with pytest.raises(OSError, match="disk full"):
        make(tmp_path, 1, ["F16"], TINY)
    assert list(tmp_path.iterdir()) == []


def test_bits_per_weight(models: dict[str, Path]) -> None:
    sizes = {name: path.stat().st_size for name, path in models.items()}
    assert sizes["F16"] > sizes["Q8_0"] > sizes["Q4_K_M"] > sizes["Q2_K"]
    bits = {}
    for name, path in models.items():
        matrices = [t for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1]
        bits[name] = 8 * sum(int(t.n_bytes) for t in matrices) / sum(int(t.n_elements) for t in matrices)
    assert bits["F16"] == 16
    assert bits["Q8_0"] == 8.5
    assert 4.5 < bits["Q4_K_M"] < 5.7  # a small model has a large share of Q6_K in its output layer
    assert 2.6 < bits["Q2_K"] < 4.4
    assert bits["Q2_K"] < bits["Q4_K_M"] - 1


@pytest.mark.parametrize(("name", "most"), [("Q8_0", 0.01), ("Q4_K_M", 0.1), ("Q2_K", 0.35)])
def test_quantized_weights_are_the_weights(models: dict[str, Path], name: str, most: float) -> None:
    """Read back by gguf's own, independent dequantizer."""
    true = {t.name: t for t in gguf.GGUFReader(models["F16"]).tensors}
    for tensor in gguf.GGUFReader(models[name]).tensors:
        weights = np.asarray(true[tensor.name].data, np.float32)
        back = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(weights.shape)
        assert np.linalg.norm(back - weights) <= most * np.linalg.norm(weights), tensor.name


def test_tensor_types_of_an_eight_layer_model() -> None:
    shape = Shape(hidden=512, layers=8, heads=8, kv_heads=4, ffn=1536)
    down = [tensor_type(f"blk.{i}.ffn_down.weight", "Q4_K_M", shape).name for i in range(8)]
    assert down == ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert tensor_type("blk.0.ffn_up.weight", "Q4_K_M", shape).name == "Q4_K"
    assert tensor_type("output.weight", "Q2_K", shape).name == "Q6_K"
    assert tensor_type("blk.3.attn_v.weight", "Q2_K", shape).name == "Q3_K"
    wide = Shape(hidden=512, layers=8, heads=8, kv_heads=2, ffn=1536)
    assert tensor_type("blk.3.attn_v.weight", "Q2_K", wide).name == "Q4_K"


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(QuantcaseError, match="cannot be made as Q3_K_S; formats: F16, Q8_0, Q4_K_M, Q2_K"):
        make(tmp_path, 1, ["Q3_K_S"], TINY)


def test_missing_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else name)
    with pytest.raises(QuantcaseError, match=r"needs gguf; install the extra: pip install 'quantcase\[cpu\]'"):
        make(tmp_path, 1, ["F16"], TINY)


def test_vocabulary() -> None:
    tokens, merges = vocabulary()
    assert len(set(tokens)) == len(tokens)
    assert sum(len(t) == 1 for t in tokens) == 256
    known = set(tokens)
    for merge in merges:
        left, right = merge.split(" ")
        assert {left, right, left + right} <= known
    assert {"Ġthe", "Ġbecause", "Ġcustomer"} <= known


@pytest.fixture(scope="module")
def server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that has the model."""
    port = free_port()
    argv = [sys.executable, "-m", "collector.engines.llamacpp_embedded"]
    argv += ["-m", str(models["Q2_K"]), "-c", "256", "-t", "1", "--port", str(port)]
    log_path = tmp_path_factory.mktemp("log") / "log"
    with log_path.open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 10
            while port_is_free(port):
                assert time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.05)
            while _ask(port, "GET", "/health")[0] != 200:
                assert time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            assert process.wait(10) == 0


def _ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@example(text="The server answers because it must: 42 tokens, naïve café, 日本語, 🙂\n\t\x00<|im_end|>")
@example(text="".join(map(chr, range(256))))
def test_any_text_survives_the_tokenizer(server: int, text: str) -> None:
    _, answer = _ask(server, "POST", "/tokenize", {"content": text})
    assert _ask(server, "POST", "/detokenize", answer) == (200, {"content": text})


def test_common_words_are_one_token(server: int) -> None:
    _, answer = _ask(server, "POST", "/tokenize", {"content": " the customer asked for an important report"})
    assert 7 <= len(answer["tokens"]) <= 9
