"""Small Llama models as GGUF, quantized on the spot: what `--gpu cpu` serves when nobody brings a model.

No download, no compiler, no torch. `trained:small` comes with the package (examples/small-model made it) and answers;
`generated:small` is drawn from a seed: its speed and memory are real, its text means nothing. A byte-level BPE of our
own is the vocabulary of both, `gguf` writes the files, and ggml's own quantizer in the `xllamacpp` wheel makes Q8_0,
Q4_K_M and Q2_K of the F16 file with the tensor types that llama-quantize chooses.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from collector.errors import QuantcaseError

__all__ = [
    "FORMATS",
    "SMALL",
    "SPECIALS",
    "TRAINED",
    "TRAINED_FILE",
    "Shape",
    "make",
    "missing_modules",
    "tensor_type",
    "trained",
    "vocabulary",
    "write_f16",
]

FORMATS = ("F16", "Q8_0", "Q4_K_M", "Q2_K")
_RECIPE = 1  # part of the cache key: raise it when the same seed and shape would give another file


class Shape(Struct, frozen=True, kw_only=True):
    """Size of a Llama model. Widths are multiples of 256, because K-quants pack 256 weights of a row together."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    context: int = 4096

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


# 28 million weights, F16 53 MiB. Measured on 2 cores (Xeon, AVX2 kernels), engine on one thread, 110 tokens in, 48 out:
# concurrency 1 gives F16 150, Q8_0 260, Q4_K_M 375, Q2_K 295 tok/s; concurrency 4 gives 190, 316, 406, 322. So the
# weights' bytes decide the speed, and the whole study takes two minutes. Hidden 768 with ffn 2048 (104 MiB) keeps the
# same ratios (F16 80, Q4_K_M 204 tok/s) and takes twice as long. All four files are made in 3 s, a start takes 0.2 s.
SMALL = Shape(hidden=512, layers=8, heads=8, kv_heads=4, ffn=1536)

# The model that ships: 5.3 million weights, trained by examples/small-model on its own seeded text. F16 10.7 MB.
TRAINED = Shape(hidden=256, layers=5, heads=4, kv_heads=2, ffn=768, context=512)
TRAINED_FILE = Path(__file__).parent / "models" / "trained-small-F16.gguf"

_WORDS = """
the of and to a in is it you that he was for on are with as I his they be at one have this from or had by not but what
some we can out other were all there when up use your how said an each she which do their time if will way about many
then them write would like so these her long make thing see him two has look more day could go come did number sound no
most people my over know water than call first who may down side been now find any new work part take get place made
live where after back little only round man year came show every good me give our under name very through just form
sentence great think say help low line differ turn cause much mean before move right boy old too same tell does set
three want air well also play small end put home read hand port large spell add even land here must big high such follow
act why ask men change went light kind off need house picture try us again animal point mother world near build self
earth father head stand own page should country found answer school grow study still learn plant cover food sun four
between state keep eye never last let thought city tree cross farm hard start might story saw far sea draw left late run
while press close night real life few north open seem together next white children begin got walk example ease paper
group always music those both mark often letter until mile river car feet care second book carry took science eat room
friend began idea fish mountain stop once base hear horse cut sure watch color face wood main enough plain girl usual
young ready above ever red list though feel talk bird soon body dog family direct pose leave song measure door product
black short numeral class wind question happen complete ship area half rock order fire south problem piece told knew
pass since top whole king space heard best hour better true during hundred five remember step early hold west ground
interest reach fast verb sing listen six table travel less morning ten simple several vowel toward war lay against
pattern slow center love person money serve appear road map rain rule govern pull cold notice voice unit power town fine
certain fly fall lead cry dark machine note wait plan figure star box noun field rest correct able pound done beauty
drive stood contain front teach week final gave green quick develop ocean warm free minute strong special mind behind
clear tail produce fact street inch multiply nothing course stay wheel full force blue object decide surface deep moon
island foot system busy test record boat common gold possible plane age dry wonder laugh thousand ago ran check game
shape yes hot miss brought heat snow tire bring distant fill east paint language among model server token memory cache
request answer batch engine report result value cost price market customer service company business office manager
project team meeting contract review budget quarter month increase decrease reduce improve compare explain describe
summary detail reason evidence argument decision policy public private history future present report article chapter
author reader editor library student teacher doctor patient hospital medicine health disease energy material metal
temperature pressure weather climate ocean forest garden kitchen dinner breakfast coffee bread cheese apple window
computer software program function variable network message error file folder screen keyboard update version release
because however therefore although without within around another different important general particular national
international information government community development education experience environment
"""
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # names that llama.cpp knows as ends of generation
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MERGES = 3072 - 256 - len(SPECIALS)


def missing_modules() -> list[str]:
    """The modules that `make` needs and this Python does not have."""
    return [name for name in ("gguf", "numpy", "xllamacpp") if importlib.util.find_spec(name) is None]


@cache
def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens by id, and merges by rank ("left right"), in GPT-2's spelling of bytes.

    Every byte is a token, so any text can be spelled; the commonest English words are one token each.
    """
    spelling = _byte_spelling()
    counts: Counter[str] = Counter()
    for rank, word in enumerate(dict.fromkeys(_WORDS.split())):
        weight = 60_000 // (rank + 10)  # Zipf's law stands in for a corpus
        for text, share in ((f" {word}", 16), (word, 2), (word.capitalize(), 1)):
            counts["".join(spelling[b] for b in text.encode())] += weight * share
    merges = list(_learn_merges(counts, _MERGES))
    tokens = dict.fromkeys((*SPECIALS, *spelling, *("".join(pair) for pair in merges)))  # two merges may make one text
    return list(tokens), [" ".join(pair) for pair in merges]


def _byte_spelling() -> list[str]:
    """One visible character a byte: itself where Latin-1 prints it, else the next free one from U+0100 on."""
    spare = iter(range(256, 512))
    visible = {*range(0x21, 0x7F), *range(0xA1, 0x100)} - {0xAD}
    return [chr(b if b in visible else next(spare)) for b in range(256)]


def _learn_merges(counts: Counter[str], limit: int) -> Iterator[tuple[str, str]]:
    """Byte-pair encoding: again and again join the commonest neighbours, ties by spelling so that it is repeatable."""
    words = [(list(text), n) for text, n in counts.items()]
    pairs: Counter[tuple[str, str]] = Counter()
    homes: dict[tuple[str, str], set[int]] = {}

    def count(index: int, sign: int) -> None:
        parts, n = words[index]
        for pair in pairwise(parts):
            pairs[pair] += sign * n
            if not pairs[pair]:
                del pairs[pair]
            if sign > 0:
                homes.setdefault(pair, set()).add(index)

    for index in range(len(words)):
        count(index, 1)
    for _ in range(limit):
        if not pairs:
            return
        most = max(pairs.values())
        best = min(pair for pair, n in pairs.items() if n == most)
        yield best
        for index in homes.pop(best):
            count(index, -1)
            words[index] = (_join(words[index][0], best), words[index][1])
            count(index, 1)


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with every neighbouring `pair` made one, from the left."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def make(folder: Path, seed: int, formats: Sequence[str], shape: Shape = SMALL) -> dict[str, Path]:
    """The model of that seed and shape in each of `formats` (see FORMATS), as files of `folder`.

    A file that is there already is taken as it is: its name carries the seed and a hash of shape and recipe. The F16
    file is made in any case, because the others are quantized from it. Files appear whole or not at all.

    Raises:
        QuantcaseError: a format that we cannot make, or modules of the extra `cpu` that are missing.
    """
    _can_make(formats)
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(msgspec.json.encode([_RECIPE, shape])).hexdigest()[:10]
    paths = {f: folder / f"generated-{key}-seed{seed}-{f}.gguf" for f in ("F16", *formats)}
    for name, path in paths.items():  # F16 comes first
        if not path.exists():
            tensors = _quantized(paths["F16"], name, shape) if name != "F16" else _random(seed, shape)
            with _whole(path) as unfinished:
                _write(unfinished, name, shape, tensors)
    return {f: paths[f] for f in formats}


def trained(folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """The model that comes with the package in each of `formats`; all but F16 are quantized into `folder`.

    Raises:
        QuantcaseError: as `make` does.
    """
    _can_make(formats)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {f: TRAINED_FILE if f == "F16" else folder / f"trained-small-{f}.gguf" for f in formats}
    for name, path in paths.items():
        if not path.exists():
            with _whole(path) as unfinished:
                _write(unfinished, name, TRAINED, _quantized(TRAINED_FILE, name, TRAINED), "quantcase trained small")
    return paths


def _can_make(formats: Sequence[str]) -> None:
    if wrong := [f for f in formats if f not in FORMATS]:
        raise QuantcaseError(f"a generated model cannot be made as {wrong[0]}", fix=f"formats: {', '.join(FORMATS)}")
    if missing := missing_modules():
        raise QuantcaseError(
            f"making a model needs {', '.join(missing)}", fix="install the extra: pip install 'quantcase[cpu]'"
        )


def write_f16(path: Path, title: str, shape: Shape, tensors: Iterator[tuple[str, Any, Any]]) -> None:
    """An F16 file of tensors that somebody trained: GGUF's names, matrices as float16, vectors as float32."""
    with _whole(path) as unfinished:
        _write(unfinished, "F16", shape, tensors, title)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to beside `path`, renamed at the end: whoever looks meanwhile sees the whole file or none."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".making-", suffix=".gguf")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _random(seed: int, shape: Shape) -> Iterator[tuple[str, Any, Any]]:
    """Name, weights and type of every tensor, drawn in a fixed order.

    Projections keep the size of what passes through them (1/sqrt of the width). Tokens that are no whole printable
    text (ends, bytes beyond ASCII, control characters) get no weight in the output layer: their logit is 0, so greedy
    decoding never takes one, and a streamed chunk is never held back for the rest of a UTF-8 sequence.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    tokens = vocabulary()[0]

    def draw(rows: int, width: int, scale: float) -> Any:
        return (rng.standard_normal((rows, width), dtype=np.float32) * np.float32(scale)).astype(np.float16)

    def ones() -> Any:
        return np.ones(shape.hidden, np.float32)

    hidden, kv = shape.hidden, shape.kv_heads * shape.head_dim
    output = draw(len(tokens), hidden, 3.0 * hidden**-0.5)  # logits with a deviation of 3: a peaked distribution
    output[: len(SPECIALS)] = 0
    output[[i for i, t in enumerate(tokens) if len(t) == 1 and not t.isascii()]] = 0
    yield "token_embd.weight", draw(len(tokens), hidden, 1.0), None
    yield "output_norm.weight", ones(), None
    yield "output.weight", output, None
    for layer in range(shape.layers):
        for name, rows, width in (
            ("attn_q", hidden, hidden),
            ("attn_k", kv, hidden),
            ("attn_v", kv, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", shape.ffn, hidden),
            ("ffn_up", shape.ffn, hidden),
            ("ffn_down", hidden, shape.ffn),
        ):
            yield f"blk.{layer}.{name}.weight", draw(rows, width, width**-0.5), None
        yield f"blk.{layer}.attn_norm.weight", ones(), None
        yield f"blk.{layer}.ffn_norm.weight", ones(), None


def _quantized(source: Path, name: str, shape: Shape) -> Iterator[tuple[str, Any, Any]]:
    """The tensors of an F16 file as llama-quantize would store them for that format; vectors stay as they are."""
    import gguf

    reader = gguf.GGUFReader(source)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # the quantizer runs without the GIL
        work = []
        for tensor in reader.tensors:
            matrix = len(tensor.shape) > 1
            kind = tensor_type(tensor.name, name, shape) if matrix else None
            work.append((tensor.name, kind, pool.submit(_quantize, tensor.data, kind) if matrix else None, tensor.data))
        for tensor_name, kind, future, data in work:
            yield tensor_name, future.result() if future else data, kind


def tensor_type(tensor: str, name: str, shape: Shape) -> Any:
    """The ggml type that llama-quantize gives a matrix of a dense Llama model in the format `name`."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if name == "Q8_0":
        return kinds.Q8_0
    if tensor == "output.weight":
        return kinds.Q6_K
    if tensor == "token_embd.weight":
        return kinds.Q2_K if name == "Q2_K" else kinds.Q4_K
    _, number, part, _ = tensor.split(".")
    if name == "Q2_K":
        if part == "attn_v":
            return kinds.Q4_K if shape.heads // shape.kv_heads >= 4 else kinds.Q3_K
        return kinds.Q3_K if part in ("attn_output", "ffn_down") else kinds.Q2_K
    layer, eighth = int(number), shape.layers // 8
    sensitive = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
    return kinds.Q6_K if part in ("attn_v", "ffn_down") and sensitive else kinds.Q4_K


@cache
def _ggml() -> ctypes.CDLL:
    """The wheel's library, for its C symbols."""
    import xllamacpp

    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,  # type
        ctypes.c_void_p,  # weights, float32
        ctypes.c_void_p,  # blocks, written
        ctypes.c_int64,  # first weight
        ctypes.c_int64,  # rows
        ctypes.c_int64,  # weights in a row
        ctypes.c_void_p,  # importance matrix: none
    ]
    return library


def _quantize(weights: Any, kind: Any) -> Any:
    """A float16 matrix as rows of ggml blocks.

    Raises:
        QuantcaseError: ggml wrote another number of bytes than its format says, so the two do not fit each other.
    """
    import gguf
    import numpy as np

    rows, width = weights.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(weights, np.float32)
    target = np.zeros((rows, width // block * size), np.uint8)
    written = _ggml().ggml_quantize_chunk(int(kind), source.ctypes.data, target.ctypes.data, 0, rows, width, None)
    if written != target.nbytes:
        raise QuantcaseError(
            f"ggml wrote {written} bytes of {kind.name}, {target.nbytes} were due",
            fix="the wheels gguf and xllamacpp do not fit each other: upgrade both",
        )
    return target


def _write(
    path: Path,
    name: str,
    shape: Shape,
    tensors: Iterator[tuple[str, Any, Any]],
    title: str = "quantcase generated (random weights)",
) -> None:
    """One GGUF file. `tensors` gives name, data, and the ggml type where the data are blocks."""
    import gguf

    tokens, merges = vocabulary()
    kinds = [gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(title)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{name}"])
    if name != "F16":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)
    for tensor, data, kind in tensors:
        writer.add_tensor(tensor, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
