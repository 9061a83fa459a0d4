"""vLLM: `vllm serve`, its log followed from the first line, ended without an orphan."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from collector.bundle.manifest import file_sha256
from collector.bundle.schema import Grade
from collector.engines.base import EngineFacts, ServeRequest, Timeline
from collector.engines.facts import read_log, startup_seconds, with_metrics
from collector.engines.process import EngineProcess, port_is_free
from collector.errors import QuantcaseError
from collector.study import Study

__all__ = ["Vllm", "VllmServer", "arguments"]

_HOST = "127.0.0.1"
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # a measuring box calls nobody
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


def arguments(request: ServeRequest) -> list[str]:
    """The whole command line for a variant. What the study's own arguments say is never overridden."""
    study, variant = request.study, request.variant
    own = [*request.spec.args, *variant.args]
    command = list(request.spec.command) or ["vllm", "serve"]
    argv = [*command, variant.model, "--host", _HOST, "--port", str(request.port)]

    def unless_given(option: str, value: str) -> None:
        if not any(a == option or a.startswith(f"{option}=") for a in own):
            argv.extend([option, value])

    unless_given("--served-model-name", variant.name)
    unless_given("--max-model-len", str(study.context_tokens))
    for option in ("tensor", "pipeline", "data"):
        if (size := getattr(variant, f"{option}_parallel")) > 1:
            argv.extend([f"--{option}-parallel-size", str(size)])
    if variant.kv_dtype != "auto":
        unless_given("--kv-cache-dtype", variant.kv_dtype)
    if variant.revision:
        unless_given("--revision", variant.revision)
    return [*argv, *own]


class Vllm:
    """Engine protocol: see base.Engine."""

    name = "vllm"
    grade: Grade = "measured"

    def check(self, study: Study) -> None:
        """Raises QuantcaseError when the command is not there."""
        command = study.engine.command[0] if study.engine.command else "vllm"
        if shutil.which(command) is None:
            raise QuantcaseError(
                f"{command} is not installed or not on PATH",
                fix="pip install 'quantcase[vllm]', set engine.command in the study, or try --gpu cpu",
            )

    async def start(self, request: ServeRequest) -> VllmServer:
        """Start and wait for /health.

        Raises:
            QuantcaseError: the port is taken.
            StartFailed: the server ended or was not ready in time.
        """
        if not port_is_free(request.port, _HOST):  # else another server's /health would be taken for ours
            raise QuantcaseError(f"port {request.port} is in use", fix="end that process, or leave --port out")
        argv = arguments(request)
        env = {**_QUIET, **request.spec.env, **request.variant.env}
        process = EngineProcess(argv, env=env, log_path=request.log_path)
        server = VllmServer(process, request)
        try:
            await process.wait_healthy(f"{server.base_url}/health", request.port, request.spec.start_timeout_s)
        except BaseException:  # Ctrl-C among them: whatever ends the wait, no process stays behind
            await server.stop()
            raise
        server.read_startup()
        return server


class VllmServer:
    """Server protocol: see base.Server."""

    metrics_path: str | None = "/metrics"

    def __init__(self, process: EngineProcess, request: ServeRequest) -> None:
        self._process = process
        self._stop_timeout_s = request.spec.stop_timeout_s
        self._model = request.variant.model
        self._metrics = ""
        self.base_url = f"http://{_HOST}:{request.port}"
        self.model = _option(process.argv, "--served-model-name") or request.variant.name
        self.argv = process.argv
        self.pids = [process.pid]
        self.timeline: Timeline = process.timeline

    def read_startup(self) -> None:
        """Take the start-up times that the log states, and the first /metrics, for facts that only stand there."""
        for name, seconds in startup_seconds(self._log()).items():
            setattr(self.timeline, name, seconds)
        try:
            with urllib.request.urlopen(self.base_url + "/metrics", timeout=10) as reply:  # noqa: S310 - loopback http
                self._metrics = reply.read(4 << 20).decode("utf-8", "replace")
        except (urllib.error.URLError, TimeoutError):
            self._metrics = ""  # then the log alone speaks

    def _log(self) -> str:
        return self._process.log_path.read_text("utf-8", "replace")

    def facts(self) -> EngineFacts:
        return with_metrics(read_log(self._log()), self._metrics)

    def model_facts(self) -> dict[str, object]:
        """Of a local folder: sha256 of config.json, bytes of the weight files. Of a hub id nothing."""
        folder = Path(self._model)
        if not folder.is_dir():
            return {}
        sizes = [f.stat().st_size for pattern in _WEIGHT_FILES for f in folder.glob(pattern)]
        config = folder / "config.json"
        return {
            "config_sha256": file_sha256(config) if config.is_file() else None,
            "checkpoint_bytes": sum(sizes) if sizes else None,
        }

    def alive(self) -> bool:
        return self._process.alive()

    async def stop(self) -> None:
        await self._process.stop(self._stop_timeout_s)


def _option(argv: list[str], name: str) -> str | None:
    for i, argument in enumerate(argv):
        if argument == name and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return None
