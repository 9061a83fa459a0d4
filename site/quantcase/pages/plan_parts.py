"""What the comparison plan's two pages share: before a run (`plan_ahead.py`) and after it (`plan.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collector.bundle.read import Study
from quantcase.analysis.plan_answers import ERRORS, LENGTH_RATIO
from quantcase.analysis.plan_common import Fixed, Format, State
from quantcase.html import Column, table
from quantcase.text import plain, said, text

__all__ = ["METRICS", "RISKS", "check", "columns", "configurations", "fixed", "metrics", "name", "rules"]

# The plan's own table; FP8 and GGUF stand in it in the same sense.
_CLASSES = {
    "fp16": ("FP16/BF16", "stable baseline and common kernel path", "higher weight and KV memory"),
    "int8": ("INT8", "lower bandwidth and memory", "calibration quality, activation outliers, fallback kernels"),
    "int4": (
        "INT4 weight-only",
        "lower weight memory and potential bandwidth relief",
        "quality loss, dequantization overhead, kernel support",
    ),
    "kv": (
        "KV-cache quantization",
        "long-context and concurrency memory relief",
        "decode quality, attention kernel support, implementation maturity",
    ),
    "fp8": (
        "FP8",
        "lower bandwidth and memory, FP8 tensor cores where the card has them",
        "activation outliers, weight-only fallback on cards without FP8",
    ),
    "gguf": (
        "GGUF",
        "lower weight memory at a chosen number of bits, runs without a GPU",
        "quality loss at few bits, dequantization overhead",
    ),
    "other": ("other", "as its method promises", "not in the plan: read its own documentation"),
}
# metric -> why, and where it is in a bundle
METRICS = {
    "Quality score": ("captures accuracy and regression risk", "quality.jsonl: score"),
    "Peak memory": ("shows capacity benefit", "variants.csv: vram_peak_mib, weights_gib, kv_cache_gib"),
    "TTFT / TPOT": ("separates prefill and decode behaviour", "requests.csv.gz: ttft_ms, tpot_ms"),
    "tokens/s": ("throughput", "cells.csv: throughput_tok_s"),
    "P95/P99": (
        "tail risk", "requests.csv.gz, pooled; per repeat in cells.csv: ttft_ms_p95, e2e_ms_p99, and so on",
    ),
    "Kernel path": (
        "detects fallback or unsupported kernels", "variants.csv: kernel_path, kernel_class, evidence",
    ),
}  # fmt: skip
RISKS = (
    "Is the calibration set representative?",
    "Are activation outliers handled?",
    "Does the engine use optimized kernels for this quantization mode?",
    "Does quality regress on long outputs?",
    "Does the lower memory allow a larger batch or longer context?",
    "What is the rollback condition?",
)


def check(state: State, words: dict[str, str]) -> str:
    """A state as word, shape and colour."""
    return f'<span class="qc-check" data-state="{state}">{words[state]}</span>'


def columns(*names: str, figures: Sequence[str] = ()) -> list[Column]:
    """Headers, those in `figures` right-aligned."""
    return [Column(n, n in figures) for n in names]


def name(study: Study, variant: str) -> str:
    """A variant's name with its role, as safe text."""
    role = {study.baseline: "baseline", study.control: "control"}.get(variant, "")
    return text(variant) + (f" <small>{role}</small>" if role else "")


def configurations(study: Study, forms: Sequence[Format], last: tuple[str, Sequence[str]], caption: str) -> str:
    """The plan's table of formats. `last` is one further column: its title, and safe text for every variant."""
    rows = []
    for form, state in zip(forms, last[1], strict=True):
        known = [_CLASSES[c] for c in form.classes]
        rows.append(
            [
                name(study, form.variant),
                " and ".join(k[0] for k in known),
                ", ".join(form.tensors) or "nothing",
                "; ".join(k[1] for k in known),
                "; ".join(k[2] for k in known),
                state,
            ]
        )
    titles = ("Variant", "Class", "What is quantized", "Expected benefit", "Main risk", last[0])
    return table("plan-configurations", columns(*titles), rows, caption)


def fixed(found: Iterable[Fixed], states: dict[str, str], last: str, caption: str) -> str:
    """The eight fixed variables."""
    rows = [[f.name, check(f.state, states), said(f.seen)] for f in found]
    return table("plan-fixed", columns("Variable", "State", last), rows, caption)


def metrics(found: Sequence[tuple[State, str]], states: dict[str, str], last: str) -> str:
    """The plan's six metrics with state and words (safe text) for each, in the order of METRICS."""
    rows = [
        [metric, why, text(where), words, check(state, states)]
        for (metric, (why, where)), (state, words) in zip(METRICS.items(), found, strict=True)
    ]
    return table("plan-metrics", columns("Metric", "Why", "Where it is in the bundle", last, "State"), rows)


def rules() -> str:
    """The rollback conditions that are the same for every variant."""
    return (
        f"- Answers to the same prompts are shorter than {plain(LENGTH_RATIO[0])} or longer than "
        f"{plain(LENGTH_RATIO[1])} times the baseline&#39;s.\n"
        f"- More than {plain(100 * ERRORS)} % of requests fail.\n"
        "- The start log shows a fallback, or lacks the kernel that was measured."
    )
