"""`case.json`: each figure that a case page shows, at full precision, with its interval, its n and its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quantcase.analysis.memory import stated
from quantcase.analysis.points import Point
from quantcase.analysis.quality import Quality
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.save_gpu import Against, Change
from quantcase.analysis.servers import gpus_of, several
from quantcase.catalog import Case

__all__ = ["CELL_METRICS", "case_document", "figures"]

CELL_METRICS = ("throughput_tok_s", "ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95", "e2e_ms_p99")
_VRAM = {
    "weights_gib": ("weights_gib", "GiB"),
    "kv_gib": ("kv_cache_gib", "GiB"),
    "kv_tokens": ("kv_cache_tokens", "tokens"),
    "loaded_mib": ("vram_loaded_mib", "MiB"),
    "peak_mib": ("vram_peak_mib", "MiB"),
    "peak_fullest_mib": ("vram_peak_fullest_mib", "MiB of one GPU"),
}
_OF_ONE = ("weights_gib", "kv_cache_gib")  # of a server over several GPUs the engine states these of one of them

_FIDELITY = {
    "ppl_ratio": "ratio", "kld_topk_lower_bound": "nats/token", "top1_agreement": "share", "rms_delta_p": "share",
}  # fmt: skip


def _figure(key: str, value: float | None, unit: str, low: float, high: float, n: int, source: str) -> dict[str, Any]:
    def plain(x: float | None) -> float | None:
        return None if x is None or math.isnan(x) else float(x)

    return {
        "key": key, "value": plain(value), "unit": unit, "low": plain(low), "high": plain(high), "n": n,
        "source": source,
    }  # fmt: skip


def _key(p: Point) -> str:
    return f"{p.workload}.{p.load}.{p.variant}.{p.metric}"


def figures(case: Case, points: Sequence[Point]) -> list[dict[str, Any]]:
    """`{key, value, unit, low, high, n, source}` per figure. What was never measured has no entry.

    `n` counts runs for throughput and cost, requests for percentiles, server starts for memory and start-up.
    """
    found, many = [], several(case)
    for p in points:
        key = _key(p)
        if p.metric == "usd_per_1m_output_tokens":
            found.append(_figure(f"cost.{key}", p.value, p.unit, p.low, p.high, p.runs, p.source))
        elif p.metric in CELL_METRICS:
            n = p.runs if p.metric == "throughput_tok_s" else p.n
            found.append(_figure(key, p.value, p.unit, p.low, p.high, n, p.source))
            if p.metric == "throughput_tok_s" and many:
                each = [x / gpus_of(case, p.variant) for x in (p.value, p.low, p.high)]
                found.append(_figure(f"{key}_per_gpu", each[0], "tok/s for each GPU", each[1], each[2], n, p.source))
    nan = math.nan
    for variant in case.study.variants:
        if started := case.starts(variant.name):
            key, count = f"gpus.{variant.name}.count", gpus_of(case, variant.name)
            found.append(_figure(key, count, "GPUs", nan, nan, len(started), "variants.csv"))
        row = stated(case, variant.name)
        if row is None:
            continue
        starts = sum(v.exit_state == "ok" for v in case.starts(variant.name))
        for name, (column, unit) in _VRAM.items():
            if column in _OF_ONE and gpus_of(case, variant.name) > 1:
                unit = f"{unit} of one GPU"
            if (value := getattr(row, column)) is not None:
                found.append(_figure(f"vram.{variant.name}.{name}", value, unit, nan, nan, starts, "variants.csv"))
        if row.healthy_s is not None:
            key = f"startup.{variant.name}.seconds"
            found.append(_figure(key, row.healthy_s, "s", nan, nan, starts, "variants.csv"))
    return found


def quality_figures(found: Sequence[Quality]) -> list[dict[str, Any]]:
    """`quality.<variant>.<metric>`: what the answers give; n counts prompts, of likeness texts."""
    made = []
    for q in found:
        base, source = f"quality.{q.variant}", "quality.jsonl"
        if a := q.accuracy:
            made += [
                _figure(f"{base}.accuracy", a.variant_right / a.n, "share", math.nan, math.nan, a.n, source),
                _figure(f"{base}.accuracy_delta_pp", a.difference_pp, "points", a.low_pp, a.high_pp, a.n, source),
                _figure(
                    f"{base}.recovery", a.recovery, "share",
                    a.recovery_low if a.recovery_low is not None else math.nan,
                    a.recovery_high if a.recovery_high is not None else math.nan, a.n, source,
                ),
                _figure(f"{base}.flips", a.flips_share, "share", a.flips_low, a.flips_high, a.n, source),
                _figure(f"{base}.mcnemar_p", a.p_value, "p", math.nan, math.nan, a.n, source),
                _figure(f"{base}.smallest_loss_found_pp", a.mde_pp, "points", math.nan, math.nan, a.n, source),
            ]  # fmt: skip
        if p := q.long_context:
            key = f"{base}.long_context_delta_pp"
            made.append(_figure(key, p.difference_pp, "points", p.low_pp, p.high_pp, p.n, source))
        if q.length:
            r = q.length
            made.append(_figure(f"{base}.length_ratio", r.ratio, "ratio", r.low, r.high, r.n, source))
        if f := q.fidelity:
            for metric, unit in _FIDELITY.items():
                value, low, high = (getattr(f, f"{metric}{end}") for end in ("", "_low", "_high"))
                made.append(_figure(f"{base}.{metric}", value, unit, low, high, f.documents, "likelihood.jsonl.gz"))
            key = f"{base}.captured_mass"
            made.append(_figure(key, f.captured_mass, "share", math.nan, math.nan, f.documents, "likelihood.jsonl.gz"))
    return made


def case_document(
    case: Case,
    points: Sequence[Point],
    quality: Sequence[Quality] = (),
    verdicts: Mapping[str, QualityVerdict] | None = None,
    saves: Sequence[Against] = (),
) -> dict[str, Any]:
    """The whole of `case.json`. `saves`: what `save_gpu` found; empty where all servers have as many GPUs."""
    info = case.bundle.info
    return {
        "case": case.id,
        "title": case.title,
        "grade": info.grade,
        "weights": info.weights,
        "status": info.status,
        "baseline": case.baseline,
        "generated_from": {
            "bundle": case.bundle.id,
            "manifest_sha256": info.manifest_sha256,
            "collector_version": info.collector_version,
        },
        "figures": [*figures(case, points), *quality_figures(quality)],
        "quality": {
            name: {
                "verdict": v.grade,
                "because": v.because,
                "what_would_change_it": v.change,
                "rules": [{"rule": c.rule, "result": c.grade, "seen": c.seen, "decides": c.decides} for c in v.checks],
            }
            for name, v in (verdicts or {}).items()
        },
        "save_gpu": [
            {
                "variant": a.ours.variant,
                "gpus": a.ours.gpus,
                "against": a.plain.variant,
                "against_gpus": a.plain.gpus,
                "workload": s.workload,
                "load": s.top.load,
                "answer": s.kind,
                "throughput": _ratio(s.top.server),
                "throughput_per_gpu": _ratio(s.top.each),
                "latency": [
                    {"load": at.load, **_ratio(c)} for at in a.points if at.workload == s.workload for c in at.latency
                ],
            }
            for a in saves
            for s in a.answers
        ],
        "hidden": [_key(p) for p in points if not p.shown and p.metric in CELL_METRICS],  # too few requests to be shown
    }


def _ratio(c: Change) -> dict[str, Any]:
    bounds = {end: None if math.isnan(x) else x for end, x in (("ratio", c.ratio), ("low", c.low), ("high", c.high))}
    return {"metric": c.metric, **bounds, "class": c.kind}
