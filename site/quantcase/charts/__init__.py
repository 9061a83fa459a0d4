"""Altair charts, drawn at build time as inline SVG that follows the page's palette. Charts decide no facts."""

from quantcase.charts.cost import cost_per_million
from quantcase.charts.crossover import Crossing, ratio_by_load
from quantcase.charts.figure import Figure
from quantcase.charts.frontier import latency_throughput
from quantcase.charts.load import latency_by_concurrency, throughput_by_concurrency
from quantcase.charts.memory import vram_by_part

__all__ = [
    "Crossing",
    "Figure",
    "cost_per_million",
    "latency_by_concurrency",
    "latency_throughput",
    "ratio_by_load",
    "throughput_by_concurrency",
    "vram_by_part",
]
