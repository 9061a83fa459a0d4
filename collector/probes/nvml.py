"""What the driver says about the GPUs. A card that does not support a question answers None, never an exception."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pynvml
from msgspec import Struct

from collector.bundle.schema import TelemetryRow

__all__ = ["THROTTLE_REASONS", "GpuInfo", "GpuProcess", "Gpus", "reason_names"]

_MIB = 1024 * 1024

# NVML's clock event reasons, by bit (nvml.h, nvmlClocksEventReasons).
THROTTLE_REASONS: dict[int, str] = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}


def reason_names(bits: int) -> str:
    """NVML's clock event bits as names joined by `|`; an unknown bit stays a number, no bit is an empty string."""
    names = [name for bit, name in THROTTLE_REASONS.items() if bits & bit]
    rest = bits & ~sum(THROTTLE_REASONS)
    return "|".join([*names, *([hex(rest)] if rest else [])])


class GpuInfo(Struct, kw_only=True, omit_defaults=False):
    """What holds for a card as long as the driver runs. The UUID is hashed: it would name the box."""

    index: int
    name: str
    uuid_sha256: str | None = None
    vram_mib: float | None = None
    driver: str | None = None
    cuda: str | None = None
    compute_capability: float | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_max_mhz: float | None = None
    ecc: bool | None = None
    mig: bool | None = None
    persistence: bool | None = None


class GpuProcess(Struct, frozen=True):
    """A process that holds memory on a card. No name: it may tell what other people run."""

    pid: int
    used_mib: float | None


class Gpus:
    """The cards of this box. Zero cards where there is no driver; `problem` says why."""

    def __init__(self, nvml: ModuleType | Any, handles: list[Any], problem: str = "") -> None:
        self._nvml = nvml
        self._handles = handles
        self._open = True
        self.problem = problem
        self.cards = [self._info(i) for i in range(len(handles))]

    @classmethod
    def open(cls, nvml: ModuleType | Any = pynvml) -> Gpus:
        """Talk to the driver. Without one, the object has zero cards."""
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as e:
            found = cls(nvml, [], f"no NVIDIA driver: {e}")
            found._open = False
            return found
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as e:
            return cls(nvml, [], f"the driver lists no GPU: {e}")
        return cls(nvml, handles, "" if handles else "the driver lists no GPU")

    def close(self) -> None:
        """Let go of the driver. May be called twice."""
        if self._open:
            self._open = False
            self._ask(self._nvml.nvmlShutdown)

    def __enter__(self) -> Gpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._handles)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where card, driver or binding do not know the question."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None

    def _call(self, name: str, *arguments: Any) -> Any:
        question = getattr(self._nvml, name, None)  # older bindings lack the newer questions
        return None if question is None else self._ask(question, *arguments)

    @property
    def nvml(self) -> ModuleType | Any:
        """The binding, for its constants."""
        return self._nvml

    def handle(self, index: int) -> Any:
        """The driver's handle of a card, for questions that are asked elsewhere."""
        return self._handles[index]

    def ask(self, name: str, *arguments: Any) -> Any:
        """The driver's answer to a question by its name; None where card, driver or binding do not know it."""
        return self._call(name, *arguments)

    def _info(self, index: int) -> GpuInfo:
        h, n = self._handles[index], self._nvml
        memory = self._memory(h)
        uuid = _text(self._call("nvmlDeviceGetUUID", h))
        capability = self._call("nvmlDeviceGetCudaComputeCapability", h)
        ecc = self._call("nvmlDeviceGetEccMode", h)
        mig = self._call("nvmlDeviceGetMigMode", h)
        persistence = self._call("nvmlDeviceGetPersistenceMode", h)
        cuda = self._call("nvmlSystemGetCudaDriverVersion")
        return GpuInfo(
            index=index,
            name=_text(self._call("nvmlDeviceGetName", h)) or "unknown GPU",
            uuid_sha256=hashlib.sha256(uuid.encode()).hexdigest()[:16] if uuid else None,
            vram_mib=memory.total / _MIB if memory else None,
            driver=_text(self._call("nvmlSystemGetDriverVersion")),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            compute_capability=capability[0] + capability[1] / 10 if capability else None,
            power_limit_w=_scaled(self._call("nvmlDeviceGetEnforcedPowerLimit", h), 1000),
            power_limit_default_w=_scaled(self._call("nvmlDeviceGetPowerManagementDefaultLimit", h), 1000),
            sm_clock_max_mhz=_scaled(self._call("nvmlDeviceGetMaxClockInfo", h, n.NVML_CLOCK_SM)),
            memory_clock_max_mhz=_scaled(self._call("nvmlDeviceGetMaxClockInfo", h, n.NVML_CLOCK_MEM)),
            ecc=None if ecc is None else bool(ecc[0]),  # current, pending
            mig=None if mig is None else bool(mig[0]),
            persistence=None if persistence is None else bool(persistence),
        )

    def _memory(self, handle: Any) -> Any:
        # Version 2 keeps the driver's reserve apart; version 1 counts it as used, some 500 MiB on a data-centre card.
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        found = self._call("nvmlDeviceGetMemoryInfo", handle, version) if version else None
        return found if found is not None else self._call("nvmlDeviceGetMemoryInfo", handle)

    def used_mib(self, index: int) -> float | None:
        """Device memory in use, MiB: every process's, without the driver's own reserve where the driver tells it."""
        memory = self._memory(self._handles[index])
        return None if memory is None else memory.used / _MIB

    def uuid(self, index: int) -> str | None:
        """The card's UUID, for choosing it by; it stays out of bundles, where its hash stands."""
        return _text(self._call("nvmlDeviceGetUUID", self._handles[index]))

    def processes(self, index: int) -> list[GpuProcess] | None:
        """Processes on the card other than this one; None where the driver does not say. In a container, the driver
        may list none although there are some: `used_mib` then tells.
        """
        h = self._handles[index]
        lists = [self._call(f"nvmlDeviceGet{kind}RunningProcesses", h) for kind in ("Compute", "Graphics")]
        if all(found is None for found in lists):
            return None
        held: dict[int, float | None] = {}
        for p in (p for found in lists for p in found or []):
            held[p.pid] = _scaled(p.usedGpuMemory, _MIB)
        held.pop(os.getpid(), None)
        return [GpuProcess(pid, used) for pid, used in sorted(held.items())]

    def throttle_reasons(self, index: int) -> str | None:
        """Why the clocks are where they are, names joined by `|`."""
        h = self._handles[index]
        bits = self._call("nvmlDeviceGetCurrentClocksEventReasons", h)
        if bits is None:  # drivers before 535
            bits = self._call("nvmlDeviceGetCurrentClocksThrottleReasons", h)
        return None if bits is None else reason_names(bits)

    def sample(self, index: int, t_s: float) -> TelemetryRow:
        """One row of telemetry. `t_s` is the caller's time, seconds since the bundle was created."""
        h, n = self._handles[index], self._nvml
        utilisation = self._call("nvmlDeviceGetUtilizationRates", h)
        return TelemetryRow(
            t_s=t_s,
            gpu=index,
            vram_used_mib=self.used_mib(index),
            utilisation_pct=None if utilisation is None else float(utilisation.gpu),
            power_w=_scaled(self._call("nvmlDeviceGetPowerUsage", h), 1000),
            energy_j=_scaled(self._call("nvmlDeviceGetTotalEnergyConsumption", h), 1000),
            sm_clock_mhz=_scaled(self._call("nvmlDeviceGetClockInfo", h, n.NVML_CLOCK_SM)),
            memory_clock_mhz=_scaled(self._call("nvmlDeviceGetClockInfo", h, n.NVML_CLOCK_MEM)),
            temperature_c=_scaled(self._call("nvmlDeviceGetTemperature", h, n.NVML_TEMPERATURE_GPU)),
            throttle_reasons=self.throttle_reasons(index),
        )


def _scaled(value: float | None, divisor: float = 1) -> float | None:
    return None if value is None else value / divisor


def _text(value: str | bytes | None) -> str | None:
    """Older bindings answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
