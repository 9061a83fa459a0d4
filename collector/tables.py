"""Tables of the terminal, 80 columns wide. They show what others worked out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from collector import gpus as profiles
from collector.bundle.answers import QualityRow
from collector.bundle.metrics import percentile
from collector.bundle.read import Bundle
from collector.bundle.schema import CellRow, RequestRow, VariantRow
from collector.study import Workload, load, ready_studies

__all__ = ["bundle_view", "facts_table", "gpu_table", "study_table"]


def _table(title: str, headers: Iterable[tuple[str, bool]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
    for name, right in headers:
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def gpu_table() -> Table:
    """Every profile: what fits, how fast, what it costs."""
    table = _table(
        "GPU profiles",
        [
            ("profile", False),
            ("card", False),
            ("VRAM GB", True),
            ("GB/s", True),
            ("BF16", True),
            ("FP8", True),
            ("$/h", True),
        ],
    )
    for name, p in profiles.load().items():
        numbers = [f.value if f else None for f in (p.vram_gb, p.bandwidth_gb_s, p.bf16_tflops, p.fp8_tflops)]
        price = p.price_usd_per_hour
        table.add_row(
            name, escape(p.title), *(_number(n, 0) for n in numbers), _number(price.value, 2) if price else "-"
        )
    table.caption = "dense TFLOP/s; sources and dates of every figure: collector/gpus.toml"
    return table


def study_table() -> Table:
    """Every ready study: what is compared, at which load."""
    table = _table("ready studies", [("study", False), ("model", False), ("variants", False), ("workloads", False)])
    for name in ready_studies():
        study = load(name)
        loads = "; ".join(f"{w.name} {_loads(w)} x {w.output_tokens}" for w in study.workloads)
        table.add_row(name, escape(study.base_model), ", ".join(v.name for v in study.variants), loads)
    return table


def _loads(workload: Workload) -> str:
    """`c1/8/16` for a closed loop, the names of the load points for others."""
    if workload.schedule == "closed":
        return f"c{'/'.join(map(str, workload.concurrency))}"
    return " ".join(load.name for load in workload.loads())


def facts_table(lines: Sequence[tuple[str, str, str]]) -> Table:
    """Facts of a log: name, value, and the line behind it."""
    table = _table("", [("fact", False), ("value", False), ("line", False)])
    for name, value, line in lines:
        table.add_row(name, escape(value), f"[dim]{escape(line[:160])}[/dim]")
    return table


def bundle_view(bundle: Bundle) -> RenderableType:
    """What a bundle holds: head, variants, cells."""
    info = bundle.info
    head = (
        f"[bold]{escape(bundle.manifest.title)}[/bold]\n"
        f"{escape(bundle.id)}: {info.status}, grade {info.grade}, weights {info.weights}, "
        f"{len(bundle.cells())} of {info.cells_planned} cell repeats"
    )
    parts: list[RenderableType] = [head, "", _variants(bundle.variants()), ""]
    parts.append(_cells(bundle.cells(), bundle.requests()))
    if answers := bundle.quality():
        parts += ["", _answers(answers)]
    return Group(*parts)


def _answers(rows: Sequence[QualityRow]) -> Table:
    """One line a suite and pass: how many answers were right. What changed prompt by prompt is the site's to say."""
    table = _table(
        "answers",
        [("variant", False), ("suite", False), ("pass", True), ("n", True), ("right", True), ("no answer", True)],
    )
    grouped: dict[tuple[str, str, int], list[QualityRow]] = {}
    for row in rows:
        grouped.setdefault((row.variant, row.suite, row.repeat), []).append(row)
    for (variant, suite, number), mine in grouped.items():
        right = sum(r.score is not None and r.score >= 0.5 for r in mine)
        bad = sum(r.status != "ok" for r in mine)
        table.add_row(variant, escape(suite), str(number), str(len(mine)), str(right), str(bad))
    table.caption = "pass 2 of the baseline is the control, over another server start"
    return table


def _variants(rows: Sequence[VariantRow]) -> Table:
    table = _table(
        "variants",
        [
            ("variant", False),
            ("state", False),
            ("weights GiB", True),
            ("KV tokens", True),
            ("ready s", True),
            ("kernel", False),
        ],
    )
    for v in rows:
        kernel = v.kernel_path or (v.error or "-" if v.exit_state != "ok" else "-")
        if v.kernel_class not in ("unknown", "optimized"):
            kernel = f"{kernel} ({v.kernel_class})"
        table.add_row(
            f"{v.variant} #{v.start}" if v.start > 1 else v.variant,
            v.exit_state,
            _number(v.weights_gib, 2 if (v.weights_gib or 1) >= 0.1 else 4),
            _number(v.kv_cache_tokens, 0),
            _number(v.healthy_s),
            escape(kernel),
        )
    return table


def _cells(cells: Sequence[CellRow], requests: Sequence[RequestRow]) -> Table:
    """One line a cell: throughput is the mean over its repeats, percentiles pool their ok requests."""
    table = _table(
        "cells",
        [("variant", False), ("workload", False), ("load", False), ("runs", True), ("n", True), ("bad", True),
         ("tok/s", True), ("TTFT p50", True), ("TPOT p50", True), ("E2E p95", True)],
    )  # fmt: skip
    pooled: dict[tuple[str, str, str], list[RequestRow]] = {}
    for r in requests:
        pooled.setdefault((r.variant, r.workload, r.load), []).append(r)
    grouped: dict[tuple[str, str, str], list[CellRow]] = {}
    for c in cells:
        grouped.setdefault((c.variant, c.workload, c.load), []).append(c)
    for key, runs in grouped.items():
        ok = [r for r in pooled.get(key, []) if r.status == "ok"]
        speeds = [c.throughput_tok_s for c in runs if c.throughput_tok_s is not None]
        table.add_row(
            *key,
            str(len(runs)),
            str(sum(c.n for c in runs)),
            str(sum(c.n - c.ok for c in runs)),
            _number(sum(speeds) / len(speeds) if speeds else None),
            _number(percentile([r.ttft_ms for r in ok if r.ttft_ms is not None], 50)),
            _number(percentile([r.tpot_ms for r in ok if r.tpot_ms is not None], 50), 2),
            _number(percentile([r.e2e_ms for r in ok if r.e2e_ms is not None], 95), 0),
        )
    table.caption = "tok/s: mean of the steady windows; times in ms, pooled over repeats"
    return table
