"""Makes the GGUF file that comes with the package: `python export.py SMALL_MODEL [OUT.gguf]`.

Needs numpy, gguf and safetensors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from collector.engines.tiny_gguf import TRAINED, TRAINED_FILE, write_f16

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tensors(folder: Path) -> Iterator[tuple[str, np.ndarray, None]]:
    """Name, weights and type of every tensor. ggml turns neighbours where Hugging Face turns halves, so the rows of q
    and k are interleaved.
    """
    heads = {"attn_q": TRAINED.heads, "attn_k": TRAINED.kv_heads}
    for key, w in load_file(folder / "model.safetensors").items():
        stem = key.removesuffix(".weight")
        if stem in OUTER:
            name = OUTER[stem]
        else:
            _, _, number, part = stem.split(".", 3)
            name = f"blk.{number}.{NAMES[part]}"
            if NAMES[part] in heads:
                h = heads[NAMES[part]]
                w = w.reshape(h, 2, w.shape[0] // h // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        yield f"{name}.weight", np.ascontiguousarray(w, np.float16 if w.ndim > 1 else np.float32), None


if __name__ == "__main__":
    write_f16(
        Path(sys.argv[2]) if len(sys.argv) > 2 else TRAINED_FILE, "quantcase trained small", TRAINED,
        tensors(Path(sys.argv[1])),
    )  # fmt: skip
