"""Will it fit? Weights, KV cache and overhead against every card of the list, and the formula beside what was measured.

The table is the calculator's at its defaults. assets/fit.js makes the same figures from the JSON in the page.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from collector import gpus
from quantcase.analysis.fit import (
    CONSTANTS,
    Ask,
    Fit,
    Format,
    Overhead,
    Shape,
    Start,
    agreement,
    fit,
    kv_bytes_per_token,
    overhead,
    starts,
)
from quantcase.html import Column, none, table
from quantcase.pages.costs import embedded
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, number, percent, plain, said, text

__all__ = ["document", "formats", "lines", "page", "shapes"]

_SIGNS = {"fits": "✓", "does not fit": "✗", "depends on overhead": "?"}
_EXAMPLE = ("llama-3_1-8b", "bf16", "h200")  # shape, format and card that the page begins with
_BLOCK = CONSTANTS.block


@dataclass(frozen=True)
class _Sources:
    shapes: dict[str, Shape]
    formats: dict[str, Format]


@cache
def _sources() -> _Sources:
    raw = tomllib.loads(resources.files("quantcase").joinpath("shapes.toml").read_text("utf-8"))
    return msgspec.convert(raw, _Sources)


def shapes() -> dict[str, Shape]:
    """The model shapes of shapes.toml, by key."""
    return _sources().shapes


def formats() -> dict[str, Format]:
    """The weight formats of shapes.toml, by key."""
    return _sources().formats


def page(views: Sequence[CaseView]) -> str:
    """The Markdown of `fit/index.md`."""
    measured = starts([v.case for v in views], shapes(), formats())
    key, stored, name = _EXAMPLE
    shape, form, ask = shapes()[key], formats()[stored], Ask()
    rest = overhead(key, shape, ask.contexts, measured)
    cards = _cards()
    found = [(g, fit(shape, form, ask, memory, rest)) for g, memory in cards]
    chosen = next((g, m) for g, m in cards if g.name == name)
    return render(
        "fit.md.j2",
        data=embedded("fit-data", document(measured)),
        what=text(f"{shape.title}, {form.title}"),
        lines=[text(line) for line in lines(shape, form, ask, rest, chosen[0].title, chosen[1])],
        cards=table("fit", _columns(), [_row(g, f) for g, f in found]),
        block=number(_BLOCK),
        share=_share(ask),
        assumed=_assumed(),
        check=_check(measured),
        bounds=_bounds(measured),
        shapes=table("shapes", _shape_columns(), [_shape(s) for s in shapes().values()]),
        formats=table("formats", _format_columns(), [_format(f) for f in formats().values()]),
    )


def _cards() -> list[tuple[gpus.GpuProfile, float]]:
    return [(g, g.memory_gib) for g in gpus.load().values() if g.kind == "gpu" and g.memory_gib is not None]


def document(measured: Sequence[Start]) -> dict[str, Any]:
    """What the script works with."""
    ask = Ask()
    known = []
    for key, shape in shapes().items():
        rest = overhead(key, shape, ask.contexts, measured)
        plain = {k: v for k, v in asdict(shape).items() if k not in ("models", "source", "date", "tied", "qkv_bias")}
        derived = {"parameters": shape.parameters, "sixteen": shape.sixteen}
        known.append({"key": key, **plain, **derived, "measured": asdict(rest) if rest.starts else None})
    stored = [{"key": k, "title": f.title, "bits": f.bits, "whole": f.whole} for k, f in formats().items()]
    cards = [{"name": g.name, "title": g.title, "memory": memory} for g, memory in _cards()]
    return {
        "shapes": known, "formats": stored, "gpus": cards, "ask": asdict(ask), "shape": _EXAMPLE[0],
        "format": _EXAMPLE[1], "constants": asdict(CONSTANTS),
    }  # fmt: skip


def lines(shape: Shape, stored: Format, ask: Ask, rest: Overhead, card: str, memory_gib: float) -> list[str]:
    """The formula with its numbers filled in, as plain text."""
    found = fit(shape, stored, ask, memory_gib, rest)
    plain = 0 if stored.whole else shape.sixteen
    blocks = -(-ask.tokens // _BLOCK) * _BLOCK
    n = f"measured, n = {rest.starts} server starts" if rest.starts else "estimated, not measured"
    return [
        f"Weights: ({_billions(shape.parameters)} − {_billions(plain)}) × 10⁹ × {number(stored.bits, 4)} bits / 8"
        f" + {_billions(plain)} × 10⁹ × 2 bytes = {_gib(found.weights)} GiB",
        f"KV cache: 2 × {shape.layers} layers × {shape.kv_heads} KV heads × {shape.head_dim} × {number(ask.kv_bytes)}"
        f" bytes = {fixed(kv_bytes_per_token(shape, ask.kv_bytes))} bytes a token; × {fixed(blocks)} tokens"
        f" × {fixed(ask.contexts)} contexts = {_gib(found.kv)} GiB",
        f"Overhead: {_between(rest.low, rest.high)} GiB ({n})",
        f"Need: {_between(*found.need)} GiB",
        f"May be taken of {card}: {_gib(memory_gib)} GiB × {_share(ask)} = {_gib(found.may_take)} GiB",
        f"Result: {found.verdict}; free {_between(*found.free)} GiB; at most {_most(found)} contexts of"
        f" {fixed(ask.tokens)} tokens at once",
    ]


def _share(ask: Ask) -> str:
    return f"{number(100 * ask.share)} %"


def _billions(count: float) -> str:
    return number(count / 1e9, 4)


def _gib(value: float) -> str:
    """One decimal: an overhead is not known better."""
    return fixed(value, 1)


def _between(low: float, high: float) -> str:
    return _gib(low) if _gib(low) == _gib(high) else f"{_gib(low)} to {_gib(high)}"


def _most(found: Fit) -> str:
    low, high = (fixed(x) for x in found.most)
    return low if low == high else f"{low} to {high}"


def _columns() -> list[Column]:
    return [
        Column("GPU"), Column("Memory, GiB", True), Column("May be taken, GiB", True), Column("Need, GiB", True),
        Column("Result"), Column("Free, GiB", True), Column("Contexts at once", True), Column("Memory from"),
    ]  # fmt: skip


def _row(card: gpus.GpuProfile, found: Fit) -> list[str]:
    sign = f'<span class="qc-fit" data-fit="{found.verdict}">{_SIGNS[found.verdict]} {found.verdict}</span>'
    return [
        f'<span data-gpu="{text(card.name)}">{text(card.title)}</span>', _gib(card.memory_gib or 0.0),
        _gib(found.may_take), _between(*found.need), sign, _between(*found.free), _most(found), _memory_from(card),
    ]  # fmt: skip


def _memory_from(card: gpus.GpuProfile) -> str:
    if card.usable_gib:
        return text(f"{card.usable_gib.source}, {card.usable_gib.date}")
    vram = card.vram_gb
    return text(f"98 % of {plain(vram.value)} GB, {vram.source}, {vram.date}") if vram else "–"


def _check(measured: Sequence[Start]) -> str:
    """The formula beside what engine and driver stated."""
    if not measured:
        return none("No bundle here states the memory of a model in the list, so the formula is not checked.")
    columns = [
        Column("Case"), Column("Variant, start"), Column("Weights, GiB: formula", True), Column("engine, GiB", True),
        Column("difference", True), Column("KV pool, GiB: formula", True), Column("engine, GiB", True),
        Column("difference", True), Column("All, GiB: formula", True), Column("driver, peak, GiB", True),
        Column("difference", True),
    ]  # fmt: skip
    rows = [
        [
            f'<a href="../cases/{s.case}/">{text(s.case)}</a>', f"{text(s.variant)}, {s.start}",
            number(s.weights[0]), number(s.weights[1]), _percent(s.weights_off), number(s.kv[0], 4),
            number(s.kv[1], 4), _percent(s.kv_off), f"{number(s.total[0], 4)} to {number(s.total[1], 4)}",
            number(s.peak, 4), "inside" if s.peak_off == 0 else f"{number(s.peak_off)} GiB",
        ]
        for s in measured
    ]  # fmt: skip
    all_of = agreement(measured)
    said = (
        f"Over {all_of.starts} server starts the formula's weights differ from the engine's by "
        f"{_percents(*all_of.weights_off)}, and its KV cache for the tokens that the engine states by "
        f"{_percents(*all_of.kv_off)}. The driver's peak lay inside the formula with its estimated overhead in "
        f"{all_of.inside} of {all_of.starts}."
    )
    return f"{said}\n\n{table('check', columns, rows)}"


def _assumed() -> str:
    """The estimate's own numbers, in words."""
    low, high = CONSTANTS.activations
    return (
        f"activations of a step of {fixed(CONSTANTS.batched)} tokens and the logits, times {plain(low)} to "
        f"{plain(high)}; captured graphs {_between(*CONSTANTS.graphs)} GiB; "
        f"CUDA's context {_between(*CONSTANTS.context)} GiB"
    )


def _bounds(measured: Sequence[Start]) -> str:
    """Where the overhead's bounds come from, shape by shape."""
    rows = []
    for key, shape in shapes().items():
        rest = overhead(key, shape, Ask().contexts, measured)
        how = f"measured, n = {rest.starts} server starts" if rest.starts else "estimated, not measured"
        rows.append([text(shape.title), _between(rest.low, rest.high), how])
    return table("overhead", [Column("Model"), Column("Overhead, GiB", True), Column("How")], rows)


def _percent(share: float) -> str:
    shown = percent(abs(share))
    return shown if not shown.strip("0., %") else f"{'−' if share < 0 else '+'}{shown}"


def _percents(low: float, high: float) -> str:
    return _percent(low) if _percent(low) == _percent(high) else f"{_percent(low)} to {_percent(high)}"


def _shape_columns() -> list[Column]:
    return [
        Column("Model"), Column("Parameters, 10⁹", True), Column("Layers", True), Column("Hidden", True),
        Column("Heads", True), Column("KV heads", True), Column("Head dimension", True), Column("Vocabulary", True),
        Column("Source"),
    ]  # fmt: skip


def _shape(shape: Shape) -> list[str]:
    figures = (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim, shape.vocabulary)
    return [
        text(shape.title), _billions(shape.parameters), *(number(x) for x in figures),
        text(f"{shape.source}, {shape.date}"),
    ]  # fmt: skip


def _format_columns() -> list[Column]:
    return [Column("Format"), Column("Bits per weight", True), Column("Embedding and head"), Column("Source")]


def _format(stored: Format) -> list[str]:
    ends = "as the rest" if stored.whole else "16 bits"
    return [text(stored.title), number(stored.bits, 4), ends, said(stored.source)]
