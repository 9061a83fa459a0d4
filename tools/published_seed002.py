"""Writes results/2025-10-09-gh200-shimmy-moe, a bundle of grade `published`: `python -m tools.published_seed002`.

The figures are somebody else's: the Quantization Performance Summary of shimmy v1.6.0 on llama.cpp b6686, of 9 October
2025. Nothing is measured or worked out here. Format 1 has no column for a size or a VRAM figure that is only known as
"14.78 GB", so these stand, written just as the source writes them, in `published.csv` beside the tables of the format.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.bundle import manifest as manifests
from collector.bundle.schema import Environment, VariantRow
from collector.bundle.write import BundleWriter
from collector.study import EngineSpec, Study, Variant, Workload, dumps, loads

__all__ = ["COLUMNS", "NAME", "SOURCE", "published_csv", "rows", "write"]

NAME = "2025-10-09-gh200-shimmy-moe"
CREATED = "2025-10-09T00:00:00.000+00:00"  # the day of the source's test: cases are ordered by it
ENVIRONMENT = "Lambda Cloud GH200 (96GB VRAM, 480GB RAM, CUDA 12.8)"
SOURCE = f"Quantization Performance Summary, October 9, 2025: shimmy v1.6.0 with llama.cpp b6686 on {ENVIRONMENT}"
RUNS = 3

# The tables of the source, as they stand there.
TABLES = {
    "Phi-3.5-MoE": """
| **Q2_K**    | 15 GB     | 14.78 GB      | 1.34 GB      | 13.44 GB   | **90.9%** |
| **Q4_K_M**  | 24 GB     | 24.14 GB      | 1.72 GB      | 22.42 GB   | **92.9%** |
| **Q8_0**    | 42 GB     | 41.91 GB      | 2.46 GB      | 39.45 GB   | **94.1%** |
**Original F16**: 79 GB file size
""",
    "DeepSeek-MoE-16B": """
| **Q2_K**    | 6.3 GB    | 7.28 GB       | 1.60 GB      | 5.68 GB    | **78.0%** |
| **Q4_K_M**  | 11 GB     | 11.10 GB      | 1.86 GB      | 9.24 GB    | **83.2%** |
| **Q8_0**    | 17 GB     | 17.11 GB      | 2.33 GB      | 14.78 GB   | **86.4%** |
**Original F16**: 31 GB file size
""",
}

# name -> (type, unit, meaning): the Table Schema of published.csv
COLUMNS: dict[str, tuple[str, str, str]] = {
    "model": ("string", "", "model, as the source names it"),
    "quantization": ("string", "", "GGUF format; F16 is the file that was quantized"),
    "file_size_gb": ("number", "GB", "size of the GGUF file, with the digits of the source"),
    "vram_baseline_gb": ("number", "GB", "CUDA0 model + KV + compute buffers, everything on the GPU"),
    "vram_offload_gb": ("number", "GB", "the same sum with CPU offload"),
    "vram_saved_gb": ("number", "GB", "baseline - offload, as the source states it"),
    "reduction_pct": ("number", "%", "saved / baseline, as the source states it"),
    "runs": ("integer", "", "runs that the source averaged"),
    "source": ("string", "", "who says so"),
}

NOTES = f"""# Where these figures come from

Published figures, not measured by this collector. Source: {SOURCE}. Each figure is the source's mean of N={RUNS} runs.

The text that they were taken from held unresolved merge markers; every side of them held the same figures and differed
in blanks alone.

## Method, as the source states it

- Each configuration tested 3 times (N=3), averaged.
- One prompt for all: "Explain quantum computing in simple terms".
- At most 100 tokens, temperature 0.7, seed 42.
- VRAM is the sum of three CUDA0 buffers of llama.cpp: model (weights), KV cache (context), compute (workspace).

## What the source says beside its tables

- All configurations ran on the GPU; with CPU offload each took less than 3 GB of VRAM.
- All quantizations gave coherent outputs, 66 to 82 tokens a test; no loss of quality was seen in these samples. No
  score was taken.
- GPT-OSS 20B was left out: its makers published it in MXFP4, and it cannot be quantized again.

## What the source does not say

- The command lines: which layers or experts stayed in the host's memory, and the length of the context.
- Whether a GB is 10^9 or 2^30 bytes, for files and for VRAM.
- Any speed: what offload costs in tokens per second is not known from it.
- The spread of the three runs.

`study.toml` needs values for fields that the source does not state (API, length of the prompt, context): what stands
there is the format's default, or the number of words of the prompt.
"""


def rows() -> Iterator[dict[str, str]]:
    """The rows of published.csv, every figure with the digits of the source."""
    for model, text in TABLES.items():
        for line in text.strip().splitlines():
            figures = re.findall(r"(\d+(?:\.\d+)?) ?(?:GB|%)", line)
            given = dict.fromkeys(COLUMNS, "") | {"model": model, "source": SOURCE}
            if line.startswith("|"):
                name = line.split("**")[1]
                names = [n for n in COLUMNS if n.endswith(("_gb", "_pct"))]
                yield given | {"quantization": name, "runs": f"{RUNS}"} | dict(zip(names, figures, strict=True))
            else:
                yield given | {"quantization": "F16", "file_size_gb": figures[0]}


def published_csv() -> str:
    """The text of published.csv."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows())
    return out.getvalue()


def _slug(model: str, quantization: str, place: str) -> str:
    return f"{model}-{quantization}-{place}".lower().replace("_", "-")


def study() -> Study:
    """Two models in three formats, each with all weights on the GPU and with CPU offload."""
    variants = [
        Variant(
            name=_slug(row["model"], row["quantization"], place),
            model=f"{row['model']}, {row['quantization']} GGUF",
            method=f"gguf:{row['quantization']}",
            note=f"{words}; the source does not state its flags",
        )
        for row in rows()
        if row["quantization"] != "F16"
        for place, words in (("baseline", "everything on the GPU"), ("offload", "with CPU offload"))
    ]
    asked = Study(
        id="shimmy-moe",
        title="Phi-3.5-MoE and DeepSeek-MoE-16B on a GH200: VRAM with and without CPU offload",
        gpu="gh200",
        base_model=" and ".join(TABLES),
        # F16 was not run. A study names one baseline: here the largest file of the first model, on the GPU.
        baseline=_slug(next(iter(TABLES)), "Q8_0", "baseline"),
        engine=EngineSpec(name="llamacpp"),
        variants=variants,
        workloads=[
            Workload(
                name="one-prompt",
                title="Explain quantum computing in simple terms",
                input_tokens=6,  # words of the prompt: its tokens are not stated
                output_tokens=100,
                natural_length=True,
                concurrency=[1],
                requests_per_stream=2,  # the least that the format knows
                min_requests=2,
            )
        ],
        repeats=RUNS,
        seed=42,
        question="How much VRAM does each GGUF quantization need, with and without CPU offload?",
        next_steps=[
            "Create individual model cards for each quantization",
            "Upload to HuggingFace with professional documentation",
            "Update technical validation report",
            "Measure speed and quality with this collector: the source states neither",
        ],
    )
    return loads(dumps(asked), f"{NAME}/study.toml")  # with all the checks of a study that is read


def write(out: Path) -> Path:
    """Write the bundle into `out`; a folder of that name must not be there yet."""
    asked = study()
    environment = Environment(gpu_asked=asked.gpu, gpu_found=ENVIRONMENT)
    writer = BundleWriter.create(
        out / NAME, asked, grade="published", gpu=asked.gpu, cells_planned=0, environment=environment
    )
    writer.manifest.created = CREATED
    for variant in asked.variants:  # no figure of the source fits a column: sizes in bytes and MiB would be guesses
        writer.set_variant(
            VariantRow(
                variant=variant.name,
                start=1,
                exit_state="ok",
                engine="llamacpp",
                engine_version="b6686, in shimmy v1.6.0",
                model=variant.model,
                method=variant.method,
                kv_dtype=variant.kv_dtype,
                argv="[]",
            )
        )
    (writer.folder / "notes.md").write_text(NOTES, "utf-8")
    (writer.folder / "published.csv").write_text(published_csv(), "utf-8")
    writer.close("complete")
    for resource in writer.manifest.resources:
        if resource.path == "published.csv":
            resource.description = "figures as their source published them"
            resource.schema = _schema()
    manifests.write(writer.folder, writer.manifest)
    return writer.folder


def _schema() -> dict[str, Any]:
    fields = [
        {"name": name, "type": kind, "description": meaning} | ({"unit": unit} if unit else {})
        for name, (kind, unit, meaning) in COLUMNS.items()
    ]
    return {"fields": fields, "missingValues": [""]}


if __name__ == "__main__":
    write(Path(__file__).parent.parent / "results")
