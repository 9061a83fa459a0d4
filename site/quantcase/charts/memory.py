"""Where the card's memory goes: weights, KV pool, activations and graphs of each variant."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, tips
from quantcase.charts.theme import CARD, SERIES, TEXT
from quantcase.charts.views import Chart, layer
from quantcase.charts.words import short

__all__ = ["vram_by_part"]

_COLOURS = {"weights": 1, "KV pool": 7, "activations": 6, "graphs": 2}  # places in the theme's series
_PARTS = {"weights": "weights", "kv_cache": "KV pool", "activations": "activations", "graphs": "graphs"}


def vram_by_part(vram: pd.DataFrame, baseline: str, card_gib: float | None, *, title: str) -> Figure:
    """Stacked bars, one a variant, against the memory that the card has."""
    data = vram.assign(part=vram["part"].map(_PARTS), order=vram["part"].map(list(_PARTS).index))
    names = sorted(dict.fromkeys(data["variant"]), key=lambda n: n != baseline)
    parts = [p for p in _PARTS.values() if p in set(data["part"])]
    colours = [SERIES[_COLOURS[p]] for p in parts]
    bars = (
        Chart(data)
        .mark_bar(height={"band": 0.62}, stroke=CARD, strokeWidth=0.6)
        .encode(
            x=alt.X("sum(gib):Q", title="GiB", stack="zero", axis=alt.Axis(format=",~r", grid=True)),
            y=alt.Y("variant:N", sort=names, title=None),
            color=alt.Color("part:N", sort=parts, scale=alt.Scale(domain=parts, range=colours)),
            order=alt.Order("order:Q"),
            tooltip=tips(("variant:N", "variant"), ("part:N", "part"), ("gib", "GiB"), form=",.4~r"),
        )
    )
    layers: list[Chart] = [bars]
    if card_gib is not None:
        card = Chart(pd.DataFrame([{"gib": card_gib}]))
        layers.append(card.mark_rule(color=TEXT, strokeDash=[5, 3], strokeWidth=1.5).encode(x=alt.X("gib:Q")))
    chart = layer(*layers).properties(width=560, height=38 * len(names), title=title)
    words = _finding(vram, baseline)
    tail = f" The dashed line is what the card offers an engine: {card_gib:,.1f} GiB." if card_gib is not None else ""
    caption = f"{words}{tail} Parts stand in the order of the legend."
    return render(chart_spec(chart), "vram", f"{title}. {words}{tail}", caption, Live("part"))


def _finding(vram: pd.DataFrame, baseline: str) -> str:
    weights = vram[vram["part"] == "weights"]
    found = sorted((float(g), str(n)) for g, n in weights[["gib", "variant"]].to_numpy().tolist())
    if not found:
        return "The engine stated no weights."
    least, most = (f"{short(gib)} GiB ({name})" for gib, name in (found[0], found[-1]))
    return f"Weights: {least} to {most}." if len(found) > 1 else f"Weights: {least}."
