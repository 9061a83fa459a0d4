"""Figures that stand on a page without a table of their own: each as HTML, or the sentence that says why not."""

from __future__ import annotations

from collector.bundle.read import Load
from quantcase.analysis.distribution import distribution, heaviest
from quantcase.analysis.plan_answers import roofs
from quantcase.analysis.points import frame
from quantcase.analysis.roofline import ceilings, positions
from quantcase.analysis.startup import startups
from quantcase.analysis.timeline import timeline
from quantcase.analysis.tradeoff import quality_by_size
from quantcase.charts import (
    latency_distribution,
    quality_against_size,
    roofline_position,
    startup_timeline,
    telemetry_over_time,
)
from quantcase.html import none
from quantcase.pages.view import CaseView

__all__ = ["latencies", "quality_size", "roofline", "startup", "telemetry"]


def startup(view: CaseView) -> str:
    """Setup: how long each server start took to be ready."""
    data = startups(view.case)
    if data.empty:
        return none("How long a server takes to be ready was not recorded in this run.")
    return startup_timeline(data, title="Time until a server is ready").html()


def latencies(view: CaseView, workload: str) -> str:
    """Every request of a workload at its heaviest load; empty where none ended well."""
    at = heaviest(view.case, workload)
    if at is None:
        return ""
    load = Load.of(at)
    title = f"Every request at {load.words if load else at}"
    data = distribution(view.case, workload, at)
    if data.empty:
        return none("No request at the heaviest load says how long it took.")
    return latency_distribution(data, frame(view.points), workload, at, view.case.baseline, title=title).html()


def quality_size(view: CaseView) -> str:
    """Quality: recovery against the weights; empty where there is nothing to set against the baseline."""
    data = quality_by_size(view.case, view.quality)
    if data.empty or not view.case.sound:
        return ""
    return quality_against_size(data, view.case.baseline, title="Quality against size").html()


def roofline(view: CaseView) -> str:
    """Plan: decode under the card's roofs; empty where the table beside it says why there is no estimate."""
    data = positions(view.case, roofs(view.case, view.points)[0])
    if data.empty:
        return ""
    tops = ceilings(view.case, data)
    return roofline_position(data, tops, view.case.baseline, title="Decode under the card's roofs").html()


def telemetry(view: CaseView) -> str:
    """Data: the GPU over the whole run."""
    found = timeline(view.case)
    if found is None:
        return none("No GPU telemetry was recorded in this run.")
    title = "The GPU over the run"
    base = view.case.baseline
    return telemetry_over_time(found.samples, found.visits, found.count, found.bin_s, base, title=title).html()
