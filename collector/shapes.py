"""Model shapes and what follows from them exactly: parameters, weight bytes, KV bytes a token.

A shape comes from `shapes.toml` or from the config.json of a local folder. A model without either has no shape, and
what depends on it is unknown: never a guess.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["ModelShape", "bits_per_weight", "find", "known_shapes", "kv_bytes_per_element"]

# Stored bits of a quantized weight with its scales and zero points: b + (scale + zero) / group.
_BITS: dict[str, float] = {
    "none": 16.0,
    "awq": 4.16,  # group 128, asymmetric
    "gptq": 4.125,  # group 128, symmetric
    "w4a16": 4.125,
    "fp8": 8.0,  # scales per channel or tensor: below 0.01 bit
    "w8a8-fp8": 8.0,
    "w8a8-int8": 8.0,
    "w8a16": 8.0,
    "bitsandbytes": 4.5,  # NF4, block 64
}
# Of GGUF the whole file counts, embeddings included: from file sizes of Llama-3-8B.
_GGUF_BITS: dict[str, float] = {"f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q4_k_m": 4.9, "q2_k": 3.17}
_KV_BYTES: dict[str, float] = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "int8": 1.0, "f16": 2.0}


class ModelShape(Struct, frozen=True, kw_only=True):
    """A dense decoder-only transformer with grouped-query attention and a gated MLP (Llama, Qwen2, Mistral)."""

    title: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    source: str
    date: str
    attention_bias: bool = False
    models: list[str] = msgspec.field(default_factory=list)

    @property
    def embedding_parameters(self) -> int:
        """The input embedding: a lookup, not read whole when decoding."""
        return self.vocab_size * self.hidden_size

    @property
    def head_parameters(self) -> int:
        """An output head of its own; 0 when it is the embedding."""
        return 0 if self.tie_word_embeddings else self.embedding_parameters

    @property
    def parameters(self) -> int:
        q, kv = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * q + 2 * kv) + (q + 2 * kv if self.attention_bias else 0)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        return layer * self.num_hidden_layers + self.hidden_size + self.embedding_parameters + self.head_parameters

    def weight_bytes(self, method: str, bits: float | None = None) -> float | None:
        """Bytes of the weights in memory: quantized linear layers, embedding and head in 16 bits. None for a method
        whose bits per weight nobody stated.
        """
        per_weight = bits_per_weight(method, bits)
        if per_weight is None:
            return None
        if method.startswith("gguf:"):
            return self.parameters * per_weight / 8
        sixteen = self.embedding_parameters + self.head_parameters
        return (self.parameters - sixteen) * per_weight / 8 + sixteen * 2

    def streamed_bytes(self, method: str, bits: float | None = None) -> float | None:
        """Bytes of weights that one decode step reads: all but the lookup of the embedding."""
        whole = self.weight_bytes(method, bits)
        if whole is None or self.tie_word_embeddings:
            return whole
        lookup = self.embedding_parameters
        per_weight = bits_per_weight(method, bits) if method.startswith("gguf:") else 16.0
        return whole - lookup * (per_weight or 16.0) / 8

    def kv_bytes_per_token(self, kv_dtype: str = "auto") -> float | None:
        """Bytes of KV cache a token; None for a data type we do not know."""
        each = kv_bytes_per_element(kv_dtype)
        if each is None:
            return None
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * each


def bits_per_weight(method: str, bits: float | None = None) -> float | None:
    """Stored bits per quantized weight, scales included. A method that is not known counts with `bits`, if given."""
    if method.startswith("gguf:"):
        return _GGUF_BITS.get(method.removeprefix("gguf:").lower(), bits)
    return _BITS.get(method, bits)


def kv_bytes_per_element(kv_dtype: str) -> float | None:
    """Bytes of one KV element; any `fp8_...` is one byte."""
    return 1.0 if kv_dtype.startswith("fp8") else _KV_BYTES.get(kv_dtype)


@cache
def known_shapes() -> dict[str, ModelShape]:
    """The shapes of shapes.toml, by hub id."""
    data = tomllib.loads(resources.files("collector").joinpath("shapes.toml").read_text("utf-8"))
    shapes = [msgspec.convert(entry, ModelShape) for entry in data.values()]
    return {model: shape for shape in shapes for model in shape.models}


def find(model: str, base_model: str = "") -> ModelShape | None:
    """The shape of a model: of its local folder, else by its hub id, else of the study's base model."""
    config = Path(model) / "config.json"
    if config.is_file():
        return _from_config(json.loads(config.read_text("utf-8")))
    known = known_shapes()
    return known.get(model) or known.get(base_model)


def _from_config(config: dict[str, Any]) -> ModelShape | None:
    """None for a kind of model whose memory these formulas do not hold for: experts, or latent attention."""
    if any(key in config for key in ("num_local_experts", "num_experts", "n_routed_experts", "kv_lora_rank")):
        return None
    try:
        heads = config["num_attention_heads"]
        return ModelShape(
            title=config.get("model_type", "local model"),
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            attention_bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
            source="config.json of the model's folder",
            date="",
        )
    except KeyError:
        return None
