"""Altair charts, drawn at build time as inline SVG that follows the page's palette. Charts decide no facts."""

from quantcase.charts.cost import cost_per_million
from quantcase.charts.figure import Figure
from quantcase.charts.load import latency_by_concurrency, throughput_by_concurrency
from quantcase.charts.memory import vram_by_part

__all__ = ["Figure", "cost_per_million", "latency_by_concurrency", "throughput_by_concurrency", "vram_by_part"]
