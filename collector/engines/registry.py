"""Engines by name. Imported when asked for, so that a missing extra of one does not stop another."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from collector.engines.base import Engine

__all__ = ["engine"]

_ENGINES = {
    "vllm": ("collector.engines.vllm", "Vllm"),
    "llamacpp": ("collector.engines.llamacpp", "LlamaCpp"),
    "endpoint": ("collector.engines.endpoint", "Endpoint"),
    "replay": ("collector.engines.replay", "Replay"),
}


def engine(name: str) -> Engine:
    """The engine of that name (one of study.EngineName)."""
    module, kind = _ENGINES[name]
    return cast(Engine, getattr(import_module(module), kind)())
