"""`published.csv`: figures as their source published them. An optional file of a bundle of grade `published`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["TABLE", "PublishedRow"]

TABLE = "published.csv"


def _col(meaning: str, unit: str = "") -> Meta:
    return Meta(description=meaning, extra={"unit": unit, "decimals": None})


class PublishedRow(Struct, kw_only=True):
    """published.csv: one format of one model. The file keeps each figure with the digits of its source."""

    model: Annotated[str, _col("model, as the source names it")]
    quantization: Annotated[str, _col("GGUF format; F16 is the file that was quantized")]
    file_size_gb: Annotated[float, _col("size of the GGUF file, with the digits of the source", "GB")]
    vram_baseline_gb: Annotated[
        float | None, _col("CUDA0 model + KV + compute buffers, everything on the GPU", "GB")
    ] = None
    vram_offload_gb: Annotated[float | None, _col("the same sum with CPU offload", "GB")] = None
    vram_saved_gb: Annotated[float | None, _col("baseline - offload, as the source states it", "GB")] = None
    reduction_pct: Annotated[float | None, _col("saved / baseline, as the source states it", "%")] = None
    runs: Annotated[int | None, _col("runs that the source averaged")] = None
    source: Annotated[str, _col("who says so")]
