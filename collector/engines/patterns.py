"""What engines print, by version: the table that `facts.py` reads logs with.

Each entry names the fact, the pattern, the versions in which the line was seen, and what it means. A line that no entry
knows says nothing: the fact stays None, or `unknown`. Patterns are anchored on literal words and bounded, so that a
hostile log costs no more than its length.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

__all__ = ["KERNEL_CLASSES", "LLAMACPP", "VLLM", "Pattern"]

KernelWord = Literal["kernel", "fallback", "slow"]


class Pattern(Struct, frozen=True):
    """One kind of line. `fact` names what group 1 (and 2) hold; `seen` the engine versions that print it."""

    fact: str
    regex: re.Pattern[str]
    seen: str
    meaning: str


def _p(fact: str, regex: str, seen: str, meaning: str) -> Pattern:
    return Pattern(fact, re.compile(regex), seen, meaning)


_NUMBER = r"([0-9][0-9,]{0,20}(?:\.[0-9]{1,9})?)"
_KERNEL_NAME = r"([A-Za-z0-9_]{1,80})"
# The first echo near the line's beginning and no other (atomic): else each repetition would search the whole line.
_ECHO = r"^(?>.{0,400}?Initializing an? (?:V[01] )?LLM engine)"

VLLM: tuple[Pattern, ...] = (
    _p("version", r"(?:[█▀▄] {1,4}|API server )version ([0-9]{1,4}\.[0-9][0-9A-Za-z.+]{0,40})\s{0,8}$", "0.6.3+",
       "banner of the API server; other libraries print `version` lines too"),
    _p("version", r"Initializing an? (?:V[01] )?LLM engine \(v([0-9][^)\s]{0,40})\)", "0.6.3+", "config echo"),
    _p("requested", rf"{_ECHO}.{{0,20000}}?\bquantization=([A-Za-z0-9_-]{{1,40}})", "0.6.3+",
       "quantization as configured"),
    _p("kv_cache_dtype", rf"{_ECHO}.{{0,20000}}?\bkv_cache_dtype=([A-Za-z0-9_]{{1,40}})", "0.6.3+",
       "KV cache type as configured"),
    _p("kv_cache_dtype", r"Using ([A-Za-z0-9_]{1,20}) data type to store kv cache", "0.6.3+",
       "quantized KV cache is on"),
    _p("kernel", rf"Selected {_KERNEL_NAME} for ([A-Za-z0-9_]{{1,80}})", "0.18.1+", "FP8, INT8 or FP4 linear kernel"),
    _p("kernel", rf"Using {_KERNEL_NAME} for ((?:GPTQMarlin|AWQMarlin|AutoGPTQ|AutoAWQMarlin)LinearMethod)", "0.6.3+",
       "4 or 8-bit weight-only linear kernel"),
    _p("kernel", rf"Using {_KERNEL_NAME} for (CompressedTensors[A-Za-z0-9]{{1,40}})", "0.8.5+",
       "compressed-tensors linear kernel"),
    _p("kernel", rf"Using {_KERNEL_NAME} for (mixed-precision linear)", "0.32+", "weight-only linear kernel"),
    _p("kernel", r"The model is convertible to ([a-z_]{1,40}) during runtime\. Using ([a-z_]{1,40}) kernel",
       "0.6.3-0.22.1", "converted to a Marlin kernel"),
    _p("slow", r"Detected that the model can run with [a-z_]{1,40}, however you specified "
       r"quantization=([a-z_]{1,40})", "0.6.3-0.22.1", "the slow kernel was forced"),
    _p("slow", r"([a-z0-9_-]{1,40}) quantization is not fully optimized yet", "0.6.3-0.10.2", "slow method"),
    _p("fallback", r"(Weight-only FP8 compression will be used leveraging the Marlin kernel)", "0.6.3+",
       "no native FP8: weights only, computed in 16 bits (W8A16)"),
    _p("fallback", r"(Weight-only FP4 compression will be used leveraging the Marlin kernel)", "0.10.2+",
       "no native FP4: weights only"),
    _p("fallback", r"(Your GPU does not have native support for FP4 computation)", "0.10.2+", "no native FP4"),
    _p("fallback", r"(Falling back to unoptimized [A-Za-z0-9]{1,20} kernels)", "0.8.5+",
       "layers without a fast kernel"),
    _p("fallback", r"(Falling back to Moe WNA16 kernels)", "0.8.5+", "expert layers without a fast kernel"),
    _p("fallback", r"(falling back to the slow and unoptimized emulation backend)", "0.26+", "emulated"),
    _p("bitsandbytes", r"(Loading weights with BitsAndBytes quantization)", "0.6.3+", "bitsandbytes loader"),
    _p("attention", r"Using ([A-Za-z0-9_]{1,40}) attention backend out of", "0.12.0+", "attention path"),
    _p("attention", r"Using ([A-Za-z0-9_ ]{1,40}) backend(?: on V[01] engine)?\.\s*$", "0.6.3-0.11", "attention path"),
    _p("weights", rf"Model loading took {_NUMBER} Gi?B(?: memory)? and {_NUMBER} seconds", "0.8.5+",
       "weights, load time"),
    _p("weights", rf"Loading model weights took {_NUMBER} GB", "0.6.3", "weights"),
    _p("kv_gib", rf"Available KV cache memory: {_NUMBER} GiB", "0.10.2+", "KV pool"),
    _p("kv_gib", rf"Explicitly set \({_NUMBER}/[0-9.]{{1,12}}\) GiB for KV cache", "0.32 CPU", "KV pool"),
    _p("kv_tokens", rf"KV cache size: {_NUMBER} tokens", "0.8.5+", "KV capacity"),
    _p("kv_blocks", r"# (?:GPU|CUDA) blocks: ([0-9]{1,12})", "0.6.3", "KV blocks of block_size tokens"),
    _p("concurrency", rf"Maximum concurrency for [0-9,]{{1,20}} tokens per request: {_NUMBER}x", "0.6.3+",
       "full-length requests at once"),
    _p("graphs", rf"Graph capturing finished in {_NUMBER} secs?, took {_NUMBER} GiB", "0.6.3+", "CUDA graphs"),
    _p("activations", rf"{_NUMBER} ?GiB for peak activation", "0.20+", "peak activations"),
    _p("compile", rf"torch\.compile (?:took|takes) {_NUMBER} s in total", "0.8.5+", "compile time"),
)  # fmt: skip

LLAMACPP: tuple[Pattern, ...] = (
    _p("version", r"build_info: (\S{1,60})", "b9000+", "build"),
    _p("applied", r"print_info: file type\s{1,8}= (.{1,60}?)\s*$", "b4500+", "format of the weights in the file"),
    _p("file_mib", rf"print_info: file size\s{{1,8}}= {_NUMBER} ([MG])iB \({_NUMBER} BPW\)", "b4500+",
       "size, bits per weight"),
    _p("model_buffer", rf"load_tensors:\s{{1,40}}([A-Za-z0-9_]{{1,40}}) model buffer size =\s{{1,20}}{_NUMBER} MiB",
       "b4500+", "weights on a device"),
    _p("kv_buffer", rf"llama_kv_cache(?:_unified)?:\s{{1,40}}([A-Za-z0-9_]{{1,40}}) KV buffer size =\s{{1,20}}"
       rf"{_NUMBER} MiB", "b5000+", "KV cache on a device"),
    _p("compute_buffer",
       rf"(?:sched_reserve|llama_context):\s{{1,40}}([A-Za-z0-9_]{{1,40}}) compute buffer size =\s{{1,20}}"
       rf"{_NUMBER} MiB", "b5000+", "working memory on a device"),
    _p("kv_tokens", r"llama_context: n_ctx\s{1,30}= ([0-9]{1,12})", "b5000+", "context of all slots together"),
    _p("slots", r"load_model: initializing, n_slots = ([0-9]{1,6})", "b8000+", "requests at once"),
)  # fmt: skip

# By the kernel's name. Marlin for FP8 is told apart before: it computes in 16 bits.
KERNEL_CLASSES: tuple[tuple[str, str], ...] = (
    ("emulation", "fallback"),
    ("marlinfp8", "fallback"),
    ("machete", "optimized"),
    ("marlin", "optimized"),
    ("cutlass", "optimized"),
    ("flashinfer", "optimized"),
    ("deepgemm", "optimized"),
    ("exllama", "slow"),
    ("conch", "slow"),
    ("triton", "slow"),
    ("torch", "slow"),
    ("cpuint8scaledmm", "optimized"),
    ("cpuwna16", "optimized"),
)
