"""Writes tiny Llama folders for real engines: `PYTHON tiny_model.py OUT`, with the Python of the engine's environment.

OUT/bf16 has real random weights and OUT/{awq,gptq,w8a8-int8} only a configuration, for `--load-format dummy`. The
vocabulary is words, so that whatever is generated is text.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

WORDS, HIDDEN, LAYERS, HEADS, KV_HEADS, FFN = 1024, 256, 2, 4, 2, 512
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "head_dim": HIDDEN // HEADS,
    "num_key_value_heads": KV_HEADS, "vocab_size": WORDS, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
FORMATS = {
    "bf16": None,
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True,
            "modules_to_not_convert": []},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "lm_head": False,
             "checkpoint_format": "gptq"},
    "w8a8-int8": {
        "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {
            "targets": ["Linear"], "weights": {**INT8, "strategy": "channel", "dynamic": False},
            "input_activations": {**INT8, "strategy": "token", "dynamic": True}, "output_activations": None,
        }},
    },
}  # fmt: skip


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return np.asarray(rng.standard_normal((rows, columns)) / columns**0.5, dtype=np.float16)

    one = np.ones(HIDDEN, np.float16)
    kv = KV_HEADS * HIDDEN // HEADS
    tensors = {"model.embed_tokens.weight": matrix(WORDS, HIDDEN), "lm_head.weight": matrix(WORDS, HIDDEN)}
    tensors["model.norm.weight"] = one
    for i in range(LAYERS):
        for name, shape in (
            ("self_attn.q_proj", (HIDDEN, HIDDEN)), ("self_attn.k_proj", (kv, HIDDEN)),
            ("self_attn.v_proj", (kv, HIDDEN)),
            ("self_attn.o_proj", (HIDDEN, HIDDEN)), ("mlp.gate_proj", (FFN, HIDDEN)), ("mlp.up_proj", (FFN, HIDDEN)),
            ("mlp.down_proj", (HIDDEN, FFN)),
        ):  # fmt: skip
            tensors[f"model.layers.{i}.{name}.weight"] = matrix(*shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{i}.{norm}.weight"] = one.copy()
    return tensors


def main(out: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(vocab={f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1", "unk_token": "w0", "model_max_length": 2048,
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    for name, quantization in FORMATS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(about))
        config = {**CONFIG, **({"quantization_config": quantization} if quantization else {})}
        (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(weights(), str(out / "bf16" / "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
