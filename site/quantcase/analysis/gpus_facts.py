"""What the GPU pages need to know of a case beside its figures: cards, energy, free memory, limits, definitions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from collector.bundle.read import Variant
from collector.bundle.schema import VariantRow
from quantcase.analysis.experiments import kind_of
from quantcase.analysis.gpu_count import gpu_count
from quantcase.analysis.gpus_boxes import boxes_of, session_boxes
from quantcase.analysis.gpus_energy import PER_JOULE, POWER, energy
from quantcase.analysis.hierarchy import Estimate
from quantcase.catalog import Case

__all__ = ["GpuFacts", "LoadEnergy", "VariantFacts", "gpu_facts"]

_PARALLEL = re.compile(r"--(tensor|pipeline|data)[-_]parallel[-_]size\b")
_LIMITS = {"ttft_limit_ms": "ttft_ms_p95", "tpot_limit_ms": "tpot_ms_p95", "e2e_limit_ms": "e2e_ms_p95"}


class LoadEnergy(Struct):
    """Power and tokens per joule at one load point; `source`: counter or power; the shortest window in s."""

    workload: str
    load: str
    figures: dict[str, Estimate]
    source: str
    shortest_s: float


class VariantFacts(Struct):
    """One variant: what defines it, where it ran, and the memory that it left free. `left_out`: why none chooses it.

    `defined` holds the GPUs of its server, `format` does not: the same format on two GPUs is another variant of the
    same study.
    """

    defined: str
    format: str
    gpus: int
    boxes: list[str]
    peak_mib: float | None = None  # on the fullest GPU of its server
    free_mib: float | None = None  # of that card, at that moment
    energy: list[LoadEnergy] = msgspec.field(default_factory=list)
    left_out: str = ""


class GpuFacts(Struct):
    """One case. `name` as the driver says it; `limits`: workload -> metric -> ms; `batch`: nobody reads along."""

    name: str
    kind: str
    boxes: list[str]
    limits: dict[str, dict[str, float]]
    batch: list[str]
    variants: dict[str, VariantFacts]


def gpu_facts(case: Case, left_out: Mapping[str, str]) -> GpuFacts:
    """The facts of one case. `left_out`: variant -> why no rule may choose it."""
    environment = case.bundle.environment()
    cards, found = [g for s in environment.sessions for g in s.gpus], environment.gpu_found
    sizes = [float(g["vram_mib"]) for g in cards if g.get("vram_mib")]
    used, spent = boxes_of(case), energy(case)
    variants = {}
    for v in case.study.variants:
        rows = [r for r in case.starts(v.name) if r.exit_state == "ok"]
        if not rows:
            continue
        peak = _peak(rows)
        variants[v.name] = VariantFacts(
            defined=_digest((*_format(v, rows[0]), *_servers(v, rows[0]))),
            format=_digest(_format(v, rows[0])),
            gpus=gpu_count(rows),
            boxes=used.get(v.name, []),
            peak_mib=peak,
            free_mib=min(sizes) - peak if sizes and peak is not None else None,
            energy=[
                LoadEnergy(w, load, {POWER: e.power, PER_JOULE: e.per_joule}, e.source, e.shortest_s)
                for (name, w, load), e in spent.items()
                if name == v.name
            ],
            left_out=left_out.get(v.name, ""),
        )
    return GpuFacts(
        name=", ".join(dict.fromkeys(str(g["name"]) for g in cards if g.get("name"))) or found or "",
        kind=case.profile.kind if case.profile else "gpu",
        boxes=session_boxes(environment),
        limits={
            w.name: {m: x for key, m in _LIMITS.items() if (x := getattr(w, key)) is not None}
            for w in case.study.workloads
        },
        batch=[w.name for w in case.study.workloads if kind_of(w) == "batch"],
        variants=variants,
    )


def _peak(rows: Sequence[VariantRow]) -> float | None:
    """The highest memory on one GPU; of a server over several only where the fullest was recorded."""
    known = [
        r.vram_peak_fullest_mib if gpu_count([r]) > 1 or r.vram_peak_fullest_mib is not None else r.vram_peak_mib
        for r in rows
    ]
    return max((x for x in known if x is not None), default=None)


def _format(v: Variant, row: VariantRow) -> tuple[object, ...]:
    """What makes two variants of two cases one format: checkpoint, method, KV type, arguments of its own.

    A checkpoint is told by its config's hash where there is one, because folders differ between machines.
    """
    checkpoint = row.config_sha256 or f"{row.model} {row.revision or v.revision}"
    args = [a for a in v.args if not _PARALLEL.match(a)]
    return checkpoint, v.method, f"{v.bits}", v.kv_dtype, sorted(v.env.items()), args


def _servers(v: Variant, row: VariantRow) -> tuple[object, ...]:
    return gpu_count([row]), v.tensor_parallel, v.pipeline_parallel, v.data_parallel, v.args


def _digest(parts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
