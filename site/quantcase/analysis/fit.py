"""Will it fit: weights + KV cache + overhead against what an engine may take of a card, in GiB (2^30 bytes).

    weights  = (N - N16) * bits / 8 + N16 * 2        N16: embedding and output head, where they keep 16 bits
    KV       = contexts * ceil(tokens / 16) * 16 * 2 * layers * kv_heads * head_dim * bytes
    need     = weights + KV + overhead               overhead: low to high
    may take = memory * share

(vLLM hands KV out in blocks of 16 tokens; see docs/methodology.md.) Weights and KV follow from the shape. The overhead
(activations, captured graphs, CUDA's context) does not: it has two bounds, measured where a bundle has that shape, else
estimated. assets/fit.js holds the same formulas; tests/browser/test_play.py runs both over a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from collector.bundle.schema import VariantRow
from quantcase.analysis.servers import gpus_of
from quantcase.catalog import Case

__all__ = [
    "CONSTANTS",
    "GIB",
    "Agreement",
    "Ask",
    "Constants",
    "Fit",
    "Format",
    "Overhead",
    "Shape",
    "Start",
    "Verdict",
    "agreement",
    "estimate",
    "fit",
    "kv_bytes_per_token",
    "kv_gib_per_context",
    "overhead",
    "starts",
    "weights_gib",
]  # fmt: skip

GIB = 1024**3
Verdict = Literal["fits", "does not fit", "depends on overhead"]


@dataclass(frozen=True)
class Constants:
    """What planning takes for granted; the page's script gets the same."""

    block: int = 16  # tokens that vLLM hands out KV in
    batched: int = 8192  # tokens that vLLM computes in a step at most on large cards; fewer on small ones
    context: tuple[float, float] = (0.5, 1.0)  # GiB: CUDA's context and what is not torch's
    graphs: tuple[float, float] = (0.3, 1.5)  # GiB: captured graphs
    activations: tuple[float, float] = (0.7, 1.3)  # times the activations of a full step and its logits


CONSTANTS = Constants()


@dataclass(frozen=True)
class Shape:
    """A dense decoder-only transformer with grouped-query attention and a gated MLP (Llama, Qwen, Mistral)."""

    title: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    source: str
    date: str
    tied: bool = False
    qkv_bias: bool = False
    models: list[str] = field(default_factory=list)

    @property
    def sixteen(self) -> int:
        """Weights of the embedding and of an output head of its own: most formats leave them in 16 bits."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All weights: attention, gated MLP and two norms a layer, the last norm, embedding and head."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * q + 2 * kv) + (q + 2 * kv if self.qkv_bias else 0)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return layer * self.layers + self.hidden + self.sixteen


@dataclass(frozen=True)
class Format:
    """How weights are stored: `bits` with scales; `whole` when embedding and head are quantized too."""

    title: str
    bits: float
    methods: list[str]
    source: str
    whole: bool = False


@dataclass(frozen=True)
class Ask:
    """What is to be served: bytes of a KV element, tokens of a context, contexts at once, share that may be taken."""

    kv_bytes: float = 2.0
    tokens: int = 8192
    contexts: int = 16
    share: float = 0.9


@dataclass(frozen=True)
class Overhead:
    """Bounds in GiB. `starts`: server starts behind them; 0 for an estimate."""

    low: float
    high: float
    starts: int = 0


@dataclass(frozen=True)
class Fit:
    """One card. `free` and `most` (contexts at once) from the worse overhead to the better; GiB."""

    verdict: Verdict
    may_take: float
    weights: float
    kv: float
    need: tuple[float, float]
    free: tuple[float, float]
    most: tuple[int, int]


@dataclass(frozen=True)
class Start:
    """A measured server start beside the formula, GiB. `rest`: what the driver saw beyond weights and KV at a peak."""

    case: str
    variant: str
    start: int
    shape: str
    weights: tuple[float, float]  # formula, engine
    kv: tuple[float, float]  # formula for the tokens that the engine states, the engine's pool
    stated: float  # activations + graphs, as the engine states them
    rest: float
    peak: float  # by the driver, above what was in use before
    total: tuple[float, float]  # formula: weights + KV + the estimated overhead's bounds

    @property
    def weights_off(self) -> float:
        """The formula's weights over the engine's, - 1."""
        return self.weights[0] / self.weights[1] - 1

    @property
    def kv_off(self) -> float:
        """The formula's KV over the engine's pool, - 1."""
        return self.kv[0] / self.kv[1] - 1

    @property
    def peak_off(self) -> float:
        """GiB by which the driver's peak lies beyond the formula's bounds: 0 inside, negative below them."""
        low, high = self.total
        return min(0.0, self.peak - low) + max(0.0, self.peak - high)


@dataclass(frozen=True)
class Agreement:
    """The formula beside all measured starts: the range of its differences, and how often the peak lay inside."""

    starts: int
    weights_off: tuple[float, float]
    kv_off: tuple[float, float]
    inside: int


def weights_gib(parameters: float, sixteen: float, bits: float, *, whole: bool) -> float:
    """Weights in GiB; see the module's head."""
    plain = 0.0 if whole else sixteen
    return ((parameters - plain) * bits / 8 + plain * 2) / GIB


def kv_bytes_per_token(shape: Shape, kv_bytes: float) -> float:
    """Bytes of KV a token: K and V, every layer, every KV head."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * kv_bytes


def kv_gib_per_context(shape: Shape, ask: Ask) -> float:
    """GiB of one context, rounded up to whole blocks."""
    return math.ceil(ask.tokens / CONSTANTS.block) * CONSTANTS.block * kv_bytes_per_token(shape, ask.kv_bytes) / GIB


def estimate(shape: Shape, contexts: int) -> Overhead:
    """Bounds from planning constants: activations of a full step and logits (+- 30 %), graphs, context."""
    step = CONSTANTS.batched * 2 * (shape.hidden + shape.intermediate) * 2
    activations = (step + contexts * shape.vocabulary * 4) / GIB
    low, high = (
        e * activations + g + c
        for e, g, c in zip(CONSTANTS.activations, CONSTANTS.graphs, CONSTANTS.context, strict=True)
    )
    return Overhead(low, high)


def fit(shape: Shape, stored: Format, ask: Ask, memory_gib: float, rest: Overhead) -> Fit:
    """Judge one card."""
    weights = weights_gib(shape.parameters, shape.sixteen, stored.bits, whole=stored.whole)
    each = kv_gib_per_context(shape, ask)
    kv, may_take = each * ask.contexts, memory_gib * ask.share
    need = (weights + kv + rest.low, weights + kv + rest.high)
    verdict: Verdict = "depends on overhead"
    if need[1] <= may_take:
        verdict = "fits"
    elif need[0] > may_take:
        verdict = "does not fit"
    most = [max(0, math.floor((may_take - weights - x) / each)) for x in (rest.high, rest.low)]
    free = (may_take - need[1], may_take - need[0])
    return Fit(verdict, may_take, weights, kv, need, free, (most[0], most[1]))


def starts(cases: Sequence[Case], shapes: Mapping[str, Shape], formats: Mapping[str, Format]) -> list[Start]:
    """Every server start of vLLM on one GPU whose model has a known shape, and whose memory engine and driver state.

    llama.cpp pools no memory and a CPU has none of its own, so such bundles carry no row here.
    """
    found = []
    for case in cases:
        if not case.sound or case.bundle.info.grade != "measured":
            continue
        for row in case.variants:
            key = _shape_of(case, row.model, shapes)
            stored = next((f for f in formats.values() if row.method in f.methods), None)
            one = gpus_of(case, row.variant) == 1  # the engine's figures of several are of one of them
            if one and row.exit_state == "ok" and row.engine == "vllm" and key is not None and stored is not None:
                start = _start(case.id, row, key, shapes[key], stored)
                if start is not None:
                    found.append(start)
    return found


def _shape_of(case: Case, model: str, shapes: Mapping[str, Shape]) -> str | None:
    names = {model, case.study.base_model}
    return next((key for key, shape in shapes.items() if names & set(shape.models)), None)


def _start(case: str, row: VariantRow, key: str, shape: Shape, stored: Format) -> Start | None:
    stated = (row.weights_gib, row.kv_cache_gib, row.kv_cache_tokens, row.activations_gib, row.vram_peak_mib)
    if any(x is None for x in stated):
        return None
    weights, pool, tokens, activations, peak_mib = (float(x) for x in stated if x is not None)
    formula = weights_gib(shape.parameters, shape.sixteen, stored.bits, whole=stored.whole)
    kv = tokens * kv_bytes_per_token(shape, 1.0 if row.kv_dtype.startswith(("fp8", "int8")) else 2.0) / GIB
    peak = (peak_mib - (row.vram_idle_mib or 0.0)) / 1024
    rest = estimate(shape, 0)
    return Start(
        case, row.variant, row.start, key, (formula, weights), (kv, pool), activations + (row.graphs_gib or 0.0),
        peak - weights - pool, peak, (formula + kv + rest.low, formula + kv + rest.high),
    )  # fmt: skip


def overhead(key: str, shape: Shape, contexts: int, measured: Sequence[Start]) -> Overhead:
    """Bounds for a shape. Measured: from the least that an engine stated for activations and graphs, to the most that
    the driver saw beyond weights and KV at a peak. Not measured: the estimate.
    """
    mine = [s for s in measured if s.shape == key]
    if mine:
        return Overhead(round(min(s.stated for s in mine), 4), round(max(s.rest for s in mine), 4), len(mine))
    return estimate(shape, contexts)


def agreement(measured: Sequence[Start]) -> Agreement:
    """All starts together; there must be one."""
    weights, kv = [s.weights_off for s in measured], [s.kv_off for s in measured]
    inside = sum(s.peak_off == 0 for s in measured)
    return Agreement(len(measured), (min(weights), max(weights)), (min(kv), max(kv)), inside)
