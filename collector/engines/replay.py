"""The replay engine: recorded timings, streamed by a real server on loopback. Its results are graded `simulated`."""

from __future__ import annotations

import sys

from collector.bundle.schema import Grade
from collector.engines.base import EngineFacts, Evidence, ServeRequest, Timeline
from collector.engines.process import EngineProcess
from collector.engines.recording import Recording, load
from collector.errors import QuantcaseError
from collector.study import Study, Variant

__all__ = ["Replay"]


class Replay:
    """Engine protocol: see base.Engine."""

    name = "replay"
    grade: Grade = "simulated"

    def check(self, study: Study) -> None:
        """Raises QuantcaseError when the recording is missing or lacks a variant of the study."""
        recording = load(study.engine.source)
        missing = [name for v in study.variants if (name := _recorded(study, v)) not in recording.variants]
        if missing:
            known = ", ".join(recording.variants)
            raise QuantcaseError(
                f"the recording of {recording.bundle} has no variant {missing[0]}", fix=f"it has {known}"
            )

    async def start(self, request: ServeRequest) -> _ReplayServer:
        recording = load(request.spec.source)
        argv = [sys.executable, "-m", "collector.engines.replay_server"]
        argv += [
            "--recording",
            request.spec.source or "",
            "--variant",
            _recorded(request.study, request.variant),
            "--port",
            str(request.port),
        ]
        env = {**request.spec.env, **request.variant.env}
        process = EngineProcess(argv, env=env, log_path=request.log_path)
        await process.wait_healthy(
            f"http://127.0.0.1:{request.port}/health", request.port, request.spec.start_timeout_s
        )
        return _ReplayServer(process, recording, request)


def _recorded(study: Study, variant: Variant) -> str:
    """The recorded variant that stands for one of the study's: the control is the baseline once more."""
    return study.baseline if variant.name == study.control else variant.name


class _ReplayServer:
    """Server protocol: see base.Server. Its facts are the recorded ones and say so in their evidence."""

    metrics_path: str | None = "/metrics"

    def __init__(self, process: EngineProcess, recording: Recording, request: ServeRequest) -> None:
        self._process = process
        self._recording = recording
        self._facts = recording.variants[_recorded(request.study, request.variant)].facts
        self._stop_timeout_s = request.spec.stop_timeout_s
        self.base_url = f"http://127.0.0.1:{request.port}"
        self.model = _recorded(request.study, request.variant)
        self.argv = ["collector.engines.replay_server", "--recording", recording.bundle, "--variant", self.model]
        self.pids = [process.pid]
        self.timeline: Timeline = process.timeline

    def facts(self) -> EngineFacts:
        row = self._facts
        line = Evidence(0, f"replayed from {self._recording.bundle}: {row.evidence or 'no line recorded'}")
        return EngineFacts(
            engine="replay",
            version=row.engine_version,
            quantization_requested=row.quantization_requested,
            quantization_applied=row.quantization_applied,
            kernel_path=row.kernel_path,
            kernel_class=row.kernel_class,
            attention_backend=row.attention_backend,
            weights_gib=row.weights_gib,
            kv_cache_gib=row.kv_cache_gib,
            kv_cache_tokens=row.kv_cache_tokens,
            max_concurrency=row.max_concurrency,
            graphs_gib=row.graphs_gib,
            activations_gib=row.activations_gib,
            evidence={"kernel_path": line},
        )

    def model_facts(self) -> dict[str, object]:
        return {"checkpoint_bytes": self._facts.checkpoint_bytes, "bits": self._facts.bits}

    def alive(self) -> bool:
        return self._process.alive()

    async def stop(self) -> None:
        await self._process.stop(self._stop_timeout_s)
