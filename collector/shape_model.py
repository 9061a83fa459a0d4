"""Model folders with the exact shape of a public model and no weights, for `vllm serve --load-format dummy`.

    python -m collector.shape_model OUT [llama-3.1-8b]

writes OUT/{bf16,awq,gptq,w8a8-int8,w8a8-fp8}. Speed, memory and kernel choice depend on shapes and formats, not on the
values of weights, so a box that reaches no model hub still measures them truthfully. Quality does not come of it: such
a study says `weights = "dummy"`.

The tokenizer has one word per id (`w17`), splits at white space and joins with spaces: a prompt of n words has exactly
n tokens, and what is decoded encodes to the same ids. Llama shapes only: transformers 5 puts its own tokenizer class in
the place of a Qwen folder's, whatever tokenizer_config.json says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from collector.errors import QuantcaseError, UsageFault

__all__ = ["FORMATS", "SHAPES", "write"]

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "bos_token_id": 128000,
    "eos_token_id": 128009,
    "torch_dtype": "bfloat16",
    "attention_bias": False,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "vocab_size": 128256,
}

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "llama-3.3-70b": {
        **_LLAMA,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "llama-3.2-3b": {
        **_LLAMA,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
}


def _w8a8(kind: str) -> dict[str, Any]:
    """compressed-tensors' words for 8-bit weights per channel and 8-bit activations per token."""
    both = {"num_bits": 8, "type": kind, "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**both, "strategy": "channel", "dynamic": False},
                "input_activations": {**both, "strategy": "token", "dynamic": True},
            }
        },
    }


FORMATS: dict[str, dict[str, Any] | None] = {
    "bf16": None,
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    "gptq": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "desc_act": False,
        "sym": True,
        # vLLM looks for the quantized layers in the weight files; without any, and without this list, it serves the
        # model unquantized and says nothing.
        "modules_in_block_to_quantize": [
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            ["self_attn.o_proj"],
            ["mlp.gate_proj", "mlp.up_proj"],
            ["mlp.down_proj"],
        ],
    },
    "w8a8-int8": _w8a8("int"),
    "w8a8-fp8": _w8a8("float"),
}


def _tokenizer(words: int) -> dict[str, Any]:
    """tokenizer.json of a word-level tokenizer whose word for id i is `wi`."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {"type": "WordLevel", "vocab": {f"w{i}": i for i in range(words)}, "unk_token": "w0"},
    }


def write(out: Path, shape: str = "llama-3.1-8b") -> list[Path]:
    """Write one folder per format under `out` and return them; what is there is overwritten.

    Raises:
        UsageFault: no such shape.
    """
    if shape not in SHAPES:
        raise UsageFault(f"no shape named {shape}", fix=f"shapes: {', '.join(SHAPES)}")
    config = SHAPES[shape]
    tokenizer = json.dumps(_tokenizer(config["vocab_size"]), indent=2)
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": f"w{config['eos_token_id']}",
        "unk_token": "w0",
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    }
    folders = []
    for name, quantization in FORMATS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(tokenizer, "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1), "utf-8")
        whole = {**config, "quantization_config": quantization} if quantization else config
        (folder / "config.json").write_text(json.dumps(whole, indent=1), "utf-8")
        folders.append(folder)
    return folders


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        for folder in write(Path(arguments[0]), *arguments[1:]):
            sys.stdout.write(f"{folder}\n")
    except QuantcaseError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
