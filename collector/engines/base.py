"""What every engine is to a run: something that starts a server for a variant, tells facts about it, and stops it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from collector.bundle.schema import Grade, KernelClass
from collector.errors import QuantcaseError
from collector.study import EngineSpec, Study, Variant

__all__ = ["Engine", "EngineFacts", "Evidence", "ServeRequest", "Server", "StartFailed", "Timeline"]


class Evidence(Struct, frozen=True):
    """A line of the log behind a fact, so that a reader can look for themself."""

    line: int
    text: str


class EngineFacts(Struct, kw_only=True):
    """What can be read off an engine's log and /metrics; None where they do not say. Never a guess."""

    engine: str | None = None
    version: str | None = None
    quantization_requested: str | None = None
    quantization_applied: str | None = None
    kernel_path: str | None = None
    kernel_class: KernelClass = "unknown"
    attention_backend: str | None = None
    weights_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: int | None = None
    max_concurrency: float | None = None
    graphs_gib: float | None = None
    activations_gib: float | None = None
    evidence: dict[str, Evidence] = msgspec.field(default_factory=dict)


class Timeline(Struct, kw_only=True):
    """Start-up of one server, seconds from the spawn unless named otherwise in bundle.schema.VariantRow."""

    spawn_s: float | None = None
    port_s: float | None = None
    weights_s: float | None = None
    compile_s: float | None = None
    graphs_s: float | None = None
    healthy_s: float | None = None


class ServeRequest(Struct, frozen=True, kw_only=True):
    """Everything an engine needs to serve one variant."""

    study: Study
    variant: Variant
    spec: EngineSpec
    port: int
    log_path: Path  # the engine's log goes here from its first line, raw; the bundle gets a copy without secrets
    work: Path  # scratch folder of this run (generated models and the like)
    say: Callable[[str], None] = lambda _line: None  # progress, one short line


class Server(Protocol):
    """A server that answers. `stop()` leaves no process and no held VRAM behind; it may be called twice."""

    base_url: str  # "http://127.0.0.1:8000", no trailing slash, no /v1
    model: str  # the name requests must carry
    argv: list[str]
    pids: list[int]  # of the processes we started; empty for an attached endpoint
    timeline: Timeline
    metrics_path: str | None  # "/metrics" where the engine has it

    def facts(self) -> EngineFacts:
        """What the log (and /metrics) say, read anew at each call."""

    def model_facts(self) -> dict[str, object]:
        """Checkpoint facts that VariantRow holds: config_sha256, checkpoint_bytes, bits; absent keys are unknown."""

    def alive(self) -> bool:
        """False once the process has ended."""

    async def stop(self) -> None: ...


class Engine(Protocol):
    """Starts servers. `grade` is what a bundle made with it may claim."""

    name: str
    grade: Grade

    def check(self, study: Study) -> None:
        """Raise QuantcaseError before anything is launched when the engine cannot work on this box."""

    async def start(self, request: ServeRequest) -> Server:
        """Start and wait until healthy. Raises StartFailed with the exit state and the last log lines."""


class StartFailed(QuantcaseError):
    """An engine that did not come up. `exit_state` is a finding and goes into variants.csv."""

    def __init__(self, problem: str, *, exit_state: str, log_tail: list[str], argv: list[str], fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.exit_state = exit_state
        self.log_tail = log_tail
        self.argv = argv
