"""How many GPUs a variant's server takes, and figures per GPU: what a GPU gives is like for like, what a server gives
is not, where two servers differ in their number of GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantcase.analysis.gpu_count import gpu_count
from quantcase.analysis.hierarchy import Estimate
from quantcase.catalog import Case

__all__ = ["each_gpu", "gpu_counts", "gpus_of", "mixed", "per_gpu", "several"]


def gpus_of(case: Case, variant: str) -> int:
    """GPUs of one server of a variant: by its server starts and by the study, the larger, so that no cost is too low.

    Raises:
        QuantcaseError: the study has no such variant.
    """
    return max(gpu_count(case.starts(variant)), case.study.variant(variant).gpus)


def gpu_counts(case: Case) -> dict[str, int]:
    """Variant -> GPUs of one server of it, in the study's order."""
    return {v.name: gpus_of(case, v.name) for v in case.study.variants}


def several(case: Case) -> bool:
    """Whether any variant is served by more than one GPU."""
    return any(n > 1 for n in gpu_counts(case).values())


def mixed(case: Case) -> bool:
    """Whether the variants are served by different numbers of GPUs."""
    return len(set(gpu_counts(case).values())) > 1


def per_gpu(arms: Mapping[str, Estimate], counts: Mapping[str, int]) -> dict[str, Estimate]:
    """Throughput of each server / its GPUs. The number of GPUs is exact: the variance of the logarithm stays."""
    return {name: replace(e, value=e.value / counts[name]) for name, e in arms.items()}


def each_gpu(bounds: tuple[float, float, float], gpus: int) -> tuple[float, float, float]:
    """(value, low, high) of a server's throughput as that of one of its GPUs."""
    return bounds[0] / gpus, bounds[1] / gpus, bounds[2] / gpus
