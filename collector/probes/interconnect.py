"""How the GPUs of a box are joined: what a tensor-parallel server's speed hangs on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from msgspec import Struct

from collector.probes.nvml import Gpus

__all__ = ["Link", "links", "settings"]

# nvmlGpuTopologyLevel_t (nvml.h), in the words of `nvidia-smi topo -m`.
_LEVELS = {0: "internal", 10: "pix", 20: "pxb", 30: "phb", 40: "node", 50: "sys"}
# What decides how GPUs talk to each other (NCCL's own documentation of its environment), and names nobody's network.
_SETTINGS = (
    "NCCL_ALGO",
    "NCCL_CUMEM_ENABLE",
    "NCCL_IB_DISABLE",
    "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_PROTO",
    "NCCL_SHM_DISABLE",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST",
)
_SETTING = re.compile(r"[\w^:;,.-]{1,40}")
_P2P_READ, _P2P_OK = 0, 0  # nvmlGpuP2PCapsIndex_t, nvmlGpuP2PStatus_t


class Link(Struct, frozen=True):
    """Two GPUs: `path` is the way between them, `nvlinks` how many NVLinks each has up, `p2p` whether one reads the
    other's memory. None where the driver does not say.
    """

    a: int
    b: int
    path: str | None
    nvlinks: int | None
    p2p: bool | None


def links(gpus: Gpus) -> list[Link]:
    """One entry a pair of GPUs; empty on a box with one."""
    ask, handle = gpus.ask, gpus.handle
    up = {c.index: _nvlinks(ask, gpus.nvml, handle(c.index)) for c in gpus.cards} if len(gpus) > 1 else {}
    found = []
    for a in range(len(gpus)):
        for b in range(a + 1, len(gpus)):
            level = ask("nvmlDeviceGetTopologyCommonAncestor", handle(a), handle(b))
            status = ask("nvmlDeviceGetP2PStatus", handle(a), handle(b), _P2P_READ)
            both = [n for n in (up[a], up[b]) if n is not None]
            nvlinks = min(both) if len(both) == 2 else None
            # Through an NVSwitch the far end of a link is the switch, so a pair is joined where both have links up.
            path = "nvlink" if nvlinks else _LEVELS.get(level) if level is not None else None
            found.append(Link(a, b, path, nvlinks, None if status is None else status == _P2P_OK))
    return found


def settings(env: Mapping[str, str]) -> dict[str, str]:
    """The settings of this box, and of the study's `env`, by which its GPUs talk to each other in another way than NCCL
    would choose. A value that is none of NCCL's is left out: it might be anything.
    """
    told = {**os.environ, **env}
    return {name: told[name] for name in _SETTINGS if name in told and _SETTING.fullmatch(told[name])}


def _nvlinks(ask: Callable[..., Any], nvml: ModuleType | Any, handle: Any) -> int | None:
    """NVLinks of a card that are up; 0 where it has none, None where the driver does not know the question."""
    if getattr(nvml, "nvmlDeviceGetNvLinkState", None) is None:
        return None
    states = [ask("nvmlDeviceGetNvLinkState", handle, link) for link in range(nvml.NVML_NVLINK_MAX_LINKS)]
    return sum(bool(state == nvml.NVML_FEATURE_ENABLED) for state in states if state is not None)
