"""A stand-in for the pynvml module, with the truth it is checked against.

There is no NVIDIA driver where these tests run, so this checks what we make of the driver's answers (units, None for
what a card does not support, no names), not that a real driver answers so. The answers have nvidia-ml-py's shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024


class NVMLError(Exception):
    """As pynvml's: one base class for all."""


class FakeNvml:
    """One card by default: an RTX 2000 Ada. `unsupported` names the questions that it refuses."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x02000028
    NVML_FEATURE_ENABLED = 1
    NVML_NVLINK_MAX_LINKS = 36

    def __init__(
        self,
        *,
        name: str | bytes = "NVIDIA RTX 2000 Ada Generation",
        total_mib: int = 16380,
        used_mib: int = 3,
        cards: int = 1,
        driver: bool = True,
        reasons: int = 0x1,
        pids: tuple[int, ...] = (),
        unsupported: frozenset[str] = frozenset(),
        power_limit_w: int = 70,
        mig: int = 0,
        nvlinks: int = 0,
    ) -> None:
        self.driver = driver
        self.used_mib = used_mib
        self.open = 0
        self.asked: list[str] = []
        memory = lambda *_: SimpleNamespace(total=total_mib * MIB, used=self.used_mib * MIB)  # noqa: E731
        processes = [SimpleNamespace(pid=p, usedGpuMemory=512 * MIB if p % 2 else None) for p in pids]
        self._answers: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetCount": lambda: cards,
            "nvmlDeviceGetHandleByIndex": lambda i: i,
            "nvmlDeviceGetName": lambda h: name,
            "nvmlDeviceGetUUID": lambda h: f"GPU-0000-{h}",
            "nvmlDeviceGetMemoryInfo": memory,
            "nvmlSystemGetDriverVersion": lambda: "570.86.15",
            "nvmlSystemGetCudaDriverVersion": lambda: 12080,
            "nvmlDeviceGetCudaComputeCapability": lambda h: (8, 9),
            "nvmlDeviceGetEnforcedPowerLimit": lambda h: power_limit_w * 1000,
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda h: 70_000,
            "nvmlDeviceGetMaxClockInfo": lambda h, kind: {1: 3105, 2: 7001}[kind],
            "nvmlDeviceGetClockInfo": lambda h, kind: {1: 2130, 2: 6800}[kind],
            "nvmlDeviceGetEccMode": lambda h: [1, 1],
            "nvmlDeviceGetMigMode": lambda h: [mig, mig],
            "nvmlDeviceGetPersistenceMode": lambda h: 0,
            "nvmlDeviceGetUtilizationRates": lambda h: SimpleNamespace(gpu=97, memory=40),
            "nvmlDeviceGetPowerUsage": lambda h: 68_500,
            "nvmlDeviceGetTotalEnergyConsumption": lambda h: 1_234_500,
            "nvmlDeviceGetTemperature": lambda h, sensor: 61,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda h: reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda h: reasons,
            "nvmlDeviceGetComputeRunningProcesses": lambda h: processes,
            "nvmlDeviceGetGraphicsRunningProcesses": lambda h: [],
            "nvmlDeviceGetTopologyCommonAncestor": lambda a, b: 30 if a // 2 == b // 2 else 50,
            "nvmlDeviceGetP2PStatus": lambda a, b, kind: 0 if a // 2 == b // 2 else 4,
            "nvmlDeviceGetNvLinkState": self._nvlink,
        }
        self._nvlinks = nvlinks
        self._unsupported = unsupported

    def _nvlink(self, _handle: int, link: int) -> int:
        if link >= max(self._nvlinks, 4):  # a real card refuses a link that it does not have
            raise NVMLError("Invalid Argument")
        return int(link < self._nvlinks)

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self._answers:
            raise AttributeError(name)

        def ask(*arguments: Any) -> Any:
            self.asked.append(name)
            if name in self._unsupported:
                raise NVMLError("Not Supported")
            return self._answers[name](*arguments)

        return ask
