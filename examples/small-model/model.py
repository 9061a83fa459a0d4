"""A Llama in plain torch, with Hugging Face's names of the weights, so that what is trained can be served as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """Widths are multiples of 256: K-quants pack 256 weights of a row."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    context: int  # tokens that it is trained on at a time


SIZES = {
    "small": Size("small", hidden=256, layers=5, heads=4, kv_heads=2, ffn=768, context=512),
    "medium": Size("medium", hidden=512, layers=8, heads=8, kv_heads=4, ffn=1536, context=1024),
}


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


class Attention(nn.Module):
    def __init__(self, s: Size) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = s.heads, s.kv_heads, s.hidden // s.heads
        self.q_proj = nn.Linear(s.hidden, s.hidden, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(s.hidden, s.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape

        def split(y: Tensor, heads: int) -> Tensor:
            return y.view(batch, length, heads, self.width).transpose(1, 2)

        q, k = (
            _rotate(split(self.q_proj(x), self.heads), cos, sin),
            _rotate(split(self.k_proj(x), self.kv_heads), cos, sin),
        )
        v = split(self.v_proj(x), self.kv_heads)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, halves as Hugging Face's Llama pairs them."""
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


class Mlp(nn.Module):
    def __init__(self, s: Size) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down_proj = nn.Linear(s.ffn, s.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s: Size) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(s.hidden), Norm(s.hidden)
        self.self_attn, self.mlp = Attention(s), Mlp(s)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Tokens (batch, length) to logits (batch, length, vocabulary)."""

    def __init__(self, s: Size, vocabulary: int) -> None:
        super().__init__()
        self.size = s
        self.embed_tokens = nn.Embedding(vocabulary, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = Norm(s.hidden)
        self.lm_head = nn.Linear(s.hidden, vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / ((2 * s.layers) ** 0.5 if deep else 1))

    def forward(self, ids: Tensor) -> Tensor:
        width = self.size.hidden // self.size.heads
        turns = 1.0 / 10_000 ** (torch.arange(0, width, 2, device=ids.device) / width)
        angles = torch.outer(torch.arange(ids.shape[1], device=ids.device), turns).repeat(1, 2)
        cos, sin = angles.cos(), angles.sin()
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


def config(s: Size, vocabulary: int) -> dict[str, object]:
    """config.json of a LlamaForCausalLM."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": s.hidden,
        "intermediate_size": s.ffn, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
        "head_dim": s.hidden // s.heads, "num_key_value_heads": s.kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": s.context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False, "attention_bias": False,
        "mlp_bias": False, "torch_dtype": "bfloat16",
    }  # fmt: skip


def save(model: Llama, folder: Path, dtype: torch.dtype) -> None:
    """The folder that vLLM and transformers read: weights, configuration, tokenizer, chat template."""
    from corpus import END, START, tokenizer
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name if name.startswith("lm_head") else f"model.{name}": p.detach().to("cpu", dtype).contiguous()
        for name, p in model.named_parameters()
    }
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    made = tokenizer()
    made.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}" + START + "{{ message['role'] }}\n{{ message['content'] }}" + END + "\n"
        "{% endfor %}{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
    )
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": END,
        "pad_token": "<|endoftext|>", "model_max_length": model.size.context, "chat_template": template,
        "clean_up_tokenization_spaces": False, "add_bos_token": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1))
    (folder / "config.json").write_text(json.dumps(config(model.size, made.get_vocab_size()), indent=1))
