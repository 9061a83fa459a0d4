"""VRAM of each quantization with everything on the GPU and with offload, one panel a model."""

from __future__ import annotations

import altair as alt
import pandas as pd

from quantcase.charts.figure import Figure, render
from quantcase.charts.interactive import Live
from quantcase.charts.parts import chart_spec, tips
from quantcase.charts.theme import SERIES, TEXT
from quantcase.charts.views import Chart, layer, vconcat

__all__ = ["offload_against_vram"]

_PLACES = {"baseline": "all on the GPU", "offload": "with CPU offload"}
_COLOURS = {"baseline": 0, "offload": 1}  # places in the theme's series


def offload_against_vram(data: pd.DataFrame, *, title: str) -> Figure:
    """Bars in pairs. `data` has one row per model, quantization and place (`baseline`, `offload`): `gb`, and `shown`,
    the figure as it is written. Quantizations stand in the order of the rows."""
    placed = data.assign(place=data["place"].map(_PLACES))
    places = list(_PLACES.values())
    scale = alt.Scale(domain=places, range=[SERIES[i] for i in _COLOURS.values()])
    widest = float(data["gb"].max()) * 1.12  # room for the figure behind the longest bar
    panels = []
    for model in dict.fromkeys(placed["model"]):
        mine = placed[placed["model"] == model]
        order = list(dict.fromkeys(mine["quantization"]))
        base = Chart(mine).encode(
            x=alt.X("gb:Q", title="VRAM (GB)", scale=alt.Scale(domain=[0, widest]), axis=alt.Axis(format=",~r")),
            y=alt.Y("quantization:N", sort=order, title=None),
            yOffset=alt.YOffset("place:N", sort=places),
        )
        bars = base.mark_bar().encode(
            color=alt.Color("place:N", sort=places, scale=scale),
            tooltip=tips(("quantization:N", "quantization"), ("place:N", "where"), ("shown:N", "VRAM (GB)")),
        )
        words = base.mark_text(align="left", dx=4, color=TEXT, fontSize=12).encode(text="shown:N")
        panels.append(layer(bars, words).properties(width=560, height=46 * len(order), title=str(model)))
    finding = _finding(data)
    caption = f"{finding} In each pair the upper bar is all on the GPU."
    return render(chart_spec(vconcat(*panels)), "offload", f"{title}. {finding}", caption, Live("place"))


def _finding(data: pd.DataFrame) -> str:
    parts = []
    for place, words in _PLACES.items():
        found = sorted(
            (float(gb), f"{model} {name}", str(shown))
            for gb, model, name, shown in data[data["place"] == place][["gb", "model", "quantization", "shown"]]
            .to_numpy()
            .tolist()
        )
        if found:
            least, most = found[0], found[-1]
            parts.append(f"{words}: from {least[2]} GB ({least[1]}) to {most[2]} GB ({most[1]})")
    return f"VRAM {'; '.join(parts)}." if parts else "No figures."
