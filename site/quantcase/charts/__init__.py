"""Altair charts, drawn at build time as inline SVG that follows the page's palette. Charts decide no facts."""

from quantcase.charts.cost import cost_per_million
from quantcase.charts.crossover import Crossing, ratio_by_load
from quantcase.charts.distribution import latency_distribution
from quantcase.charts.figure import Figure
from quantcase.charts.frontier import latency_throughput
from quantcase.charts.load import latency_by_concurrency, throughput_by_concurrency
from quantcase.charts.memory import vram_by_part
from quantcase.charts.roofline import roofline_position
from quantcase.charts.startup import startup_timeline
from quantcase.charts.telemetry import telemetry_over_time
from quantcase.charts.tradeoff import quality_against_size

__all__ = [
    "Crossing",
    "Figure",
    "cost_per_million",
    "latency_by_concurrency",
    "latency_distribution",
    "latency_throughput",
    "quality_against_size",
    "ratio_by_load",
    "roofline_position",
    "startup_timeline",
    "telemetry_over_time",
    "throughput_by_concurrency",
    "vram_by_part",
]
