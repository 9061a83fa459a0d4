"""GPU profiles: what each card can do and costs, every figure with its source and date.

One of the two parts of the collector that the site may import, hence msgspec and the standard library only.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec
from msgspec import Struct

from collector.errors import UsageFault

__all__ = ["Figure", "GpuProfile", "get", "load", "recognise"]

_MEMORY = "from memory, unverified"
_FIGURES = (
    "compute_capability",
    "vram_gb",
    "usable_gib",
    "bandwidth_gb_s",
    "bf16_tflops",
    "fp16_tflops",
    "fp8_tflops",
    "int8_tops",
    "price_usd_per_hour",
)
# Some GiB of a card are never an engine's: firmware and page tables. Seen: 139.8 of 141 on an H200 (0.99).
_USABLE_SHARE = 0.98


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number with where it was read and when. `low` and `high` are its range where the source has one."""

    value: float
    source: str
    date: str
    low: float | None = None
    high: float | None = None

    @property
    def verified(self) -> bool:
        """False for a figure nobody looked up: a page must label it."""
        return not self.source.startswith(_MEMORY)


class GpuProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One card. A figure is None where there is none: a T4 has no BF16, a CPU has no VRAM."""

    name: str
    title: str
    study: str  # the ready study of `collect run --gpu NAME`
    kind: Literal["gpu", "cpu", "replay"] = "gpu"
    architecture: str = ""
    nvml_names: list[str] = msgspec.field(default_factory=list)
    device: str = ""  # replay only: the profile whose recording is replayed, and whose figures stand here
    simulated: bool = False
    compute_capability: Figure | None = None
    vram_gb: Figure | None = None
    usable_gib: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    bf16_tflops: Figure | None = None
    fp16_tflops: Figure | None = None
    fp8_tflops: Figure | None = None
    int8_tops: Figure | None = None
    price_usd_per_hour: Figure | None = None

    @property
    def capability(self) -> float | None:
        """Compute capability as a number: 8.9."""
        return self.compute_capability.value if self.compute_capability else None

    @property
    def bf16_native(self) -> bool:
        return self.capability is not None and self.capability >= 8.0

    @property
    def fp8_native(self) -> bool:
        """FP8 tensor cores: below 8.9, FP8 weights are unpacked and computed in 16 bits."""
        return self.capability is not None and self.capability >= 8.9

    @property
    def int8_native(self) -> bool:
        return self.int8_tops is not None

    @property
    def fp4_native(self) -> bool:
        return self.capability is not None and self.capability >= 10.0

    @property
    def memory_gib(self) -> float | None:
        """Device memory that an engine can see, GiB; an estimate where no `usable_gib` was recorded."""
        if self.usable_gib:
            return self.usable_gib.value
        return self.vram_gb.value * _USABLE_SHARE if self.vram_gb else None

    def figures(self) -> dict[str, Figure]:
        """Every figure that this profile has, by field name."""
        return {key: figure for key in _FIGURES if (figure := getattr(self, key)) is not None}


@cache
def load() -> dict[str, GpuProfile]:
    """All profiles by name, in the order of the file.

    Raises:
        msgspec.ValidationError: gpus.toml holds an unknown key or a figure without source or date.
    """
    text = resources.files("collector").joinpath("gpus.toml").read_text("utf-8")
    data: dict[str, dict[str, Any]] = tomllib.loads(text)
    for entry in data.values():
        if device := entry.get("device"):
            entry.update({key: data[device][key] for key in _FIGURES if key in data[device] and key not in entry})
    return {name: msgspec.convert({"name": name, **entry}, GpuProfile) for name, entry in data.items()}


def get(name: str) -> GpuProfile:
    """The profile of that name, in any case and with or without `-` or spaces.

    Raises:
        UsageFault: there is none; names the nearest.
    """
    profiles = load()
    plain = {_plain(known): known for known in profiles}
    if _plain(name) in plain:
        return profiles[plain[_plain(name)]]
    near = difflib.get_close_matches(name.lower(), profiles, 1, 0.5)
    raise UsageFault(
        f"no GPU profile named {name}",
        fix=f"did you mean {near[0]}?" if near else f"profiles: {', '.join(profiles)}",
    )


def recognise(nvml_name: str, vram_mib: float | None = None) -> GpuProfile | None:
    """The profile of a card by the name and memory that the driver reports; None for a card that has none.

    The memory tells slices (MIG, vGPU) from whole cards: less than 85 % of a profile's VRAM is not that card.
    """
    for profile in load().values():
        if not any(re.search(pattern, nvml_name) for pattern in profile.nvml_names):
            continue
        size = profile.vram_gb
        if vram_mib is None or size is None:
            return profile
        sizes = (size.value, size.high or size.value)
        if any(0.85 * gb <= vram_mib / 1024 <= 1.05 * gb for gb in sizes):
            return profile
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
