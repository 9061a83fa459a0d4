"""llama.cpp as an engine: `llama-server` where it is installed, else the same server out of the `xllamacpp` wheel.

Models are GGUF files, `trained:small` for the one that comes with the package, or `generated:small` for one that is
drawn from the study's seed (see tiny_gguf).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from collector.bundle.schema import Grade
from collector.engines import tiny_gguf
from collector.engines.base import EngineFacts, ServeRequest, Timeline
from collector.engines.facts import read_log
from collector.engines.llamacpp_buffers import device_buffers, vram_mib
from collector.engines.process import EngineProcess, port_is_free
from collector.errors import QuantcaseError
from collector.study import Study, Variant

__all__ = ["LlamaCpp", "LlamaCppServer", "default_threads"]

_GENERATED = {"generated:small": tiny_gguf.SMALL}
_TRAINED = "trained:small"
_HOST = "127.0.0.1"
_OPEN_LOOP_SLOTS = 16  # of a study without closed loops and without -np of its own
_STAMP = r"^(\d+)\.(\d{2})\.(\d{3})\.(\d{3}) "  # minutes.seconds.milliseconds.microseconds since the server started
_LOAD = re.compile(_STAMP + r".*load_tensors: loading model tensors", re.M)
_LOADED = re.compile(_STAMP + r".*llama_context: constructing llama_context", re.M)
_BITS = re.compile(r"print_info: file size\s*=.*\(([\d.]+) BPW\)")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_digests: dict[tuple[Path, int, int], str] = {}  # by file, size and time of change: a study asks again and again


class LlamaCpp:
    """Starts llama.cpp servers. What they measure is measured."""

    name = "llamacpp"
    grade: Grade = "measured"

    def check(self, study: Study) -> None:
        """Whether this box can serve every variant of the study.

        Raises:
            QuantcaseError: no server, a model that is no GGUF file, or one that cannot be generated here.
        """
        _command(study)
        for variant in study.variants:
            if variant.model in _GENERATED or variant.model == _TRAINED:
                _generated_format(variant)
            else:
                _shards(variant)

    async def start(self, request: ServeRequest) -> LlamaCppServer:
        """Start and wait until /health says ok.

        Raises:
            QuantcaseError: the port is taken, or the model is missing.
            StartFailed: the server ended or was not ready in time.
        """
        variant, spec = request.variant, request.spec
        if variant.model in _GENERATED:
            asked = _generated_format(variant)
            request.say(f"{variant.name}: making the {asked} model from seed {request.study.seed}")
            shape, seed = _GENERATED[variant.model], request.study.seed
            made = await asyncio.to_thread(tiny_gguf.make, request.work, seed, [asked], shape)
            files = [made[asked]]
        elif variant.model == _TRAINED:
            asked = _generated_format(variant)
            files = [(await asyncio.to_thread(tiny_gguf.trained, request.work, [asked]))[asked]]
        else:
            files = _shards(variant)
        if not port_is_free(request.port, _HOST):  # else the other server's /health would be taken for ours
            raise QuantcaseError(
                f"port {request.port} is taken by another process", fix="end it, or let the run choose a free port"
            )
        argv = [*_command(request.study), *_arguments(request, files[0])]
        process = EngineProcess(argv, env={**spec.env, **variant.env}, log_path=request.log_path)
        server = LlamaCppServer(process, f"http://{_HOST}:{request.port}", variant.name, files, spec.stop_timeout_s)
        try:
            await process.wait_healthy(f"{server.base_url}/health", request.port, spec.start_timeout_s)
        except BaseException:  # Ctrl-C among them: whatever ends the wait, no process stays behind
            await server.stop()
            raise
        process.timeline.weights_s = _weights_seconds(server.log())
        return server


class LlamaCppServer:
    """One llama.cpp server that answers."""

    metrics_path: str | None = "/metrics"

    def __init__(
        self, process: EngineProcess, base_url: str, model: str, files: Sequence[Path], stop_timeout_s: float
    ) -> None:
        self.base_url = base_url
        self.model = model
        self.argv = process.argv
        self.pids = [process.pid]
        self._process = process
        self._files = list(files)
        self._stop_timeout_s = stop_timeout_s

    @property
    def timeline(self) -> Timeline:
        """Start-up, seconds from the spawn."""
        return self._process.timeline

    def log(self) -> str:
        """The log so far."""
        return self._process.log_path.read_text("utf-8", "replace")

    def facts(self) -> EngineFacts:
        """What the log says; llama.cpp's /metrics hold no further facts."""
        return read_log(self.log())

    def model_facts(self) -> dict[str, object]:
        """Bytes and sha256 of the GGUF file (all its parts in order), and the bits per weight that the log states.

        Reads the whole file at the first call: ask while nothing is being measured.
        """
        facts: dict[str, object] = {
            "checkpoint_bytes": sum(f.stat().st_size for f in self._files),
            "config_sha256": _sha256(self._files),
        }
        log = self.log()
        if found := _BITS.search(log):
            facts["bits"] = float(found[1])
        facts["vram_buffers_mib"] = vram_mib(device_buffers(log))  # None where nothing lies on CUDA0
        return facts

    def alive(self) -> bool:
        """False once the process has ended."""
        return self._process.alive()

    async def stop(self) -> None:
        """End the server and everything that it started."""
        await self._process.stop(self._stop_timeout_s)


def _command(study: Study) -> list[str]:
    """The server's command without its flags."""
    if study.engine.command:
        return list(study.engine.command)
    if found := shutil.which("llama-server"):
        return [found]
    if importlib.util.find_spec("xllamacpp") is None:
        raise QuantcaseError(
            "neither llama-server nor xllamacpp is installed", fix="install the extra: pip install 'quantcase[cpu]'"
        )
    return [sys.executable, "-m", "collector.engines.llamacpp_embedded"]


def _generated_format(variant: Variant) -> str:
    """The GGUF format that `method` asks of a generated model: `gguf:Q4_K_M` is Q4_K_M, `none` is F16."""
    asked = "F16" if variant.method == "none" else variant.method.removeprefix("gguf:")
    if asked not in tiny_gguf.FORMATS:
        known = ", ".join(f"gguf:{f}" for f in tiny_gguf.FORMATS)
        raise QuantcaseError(f"variant {variant.name}: {variant.method} cannot be generated", fix=f"methods: {known}")
    if missing := tiny_gguf.missing_modules():
        raise QuantcaseError(
            f"variant {variant.name}: generating a model needs {', '.join(missing)}",
            fix="install the extra: pip install 'quantcase[cpu]'",
        )
    return asked


def _shards(variant: Variant) -> list[Path]:
    """The variant's GGUF file, with all its parts where it is split (name-00001-of-00003.gguf).

    Raises:
        QuantcaseError: a part is missing, or the model is something else.
    """
    first = Path(variant.model).expanduser()
    files = [first]
    if split := _SHARD.search(first.name):
        stem = first.name[: split.start()]
        files = [first.with_name(f"{stem}-{i:05d}-of-{split[2]}.gguf") for i in range(1, int(split[2]) + 1)]
    for file in files:
        if file.suffix != ".gguf" or not file.is_file():
            generated = ", ".join([_TRAINED, *_GENERATED])
            raise QuantcaseError(
                f"variant {variant.name}: {file.name} is no GGUF file on this box",
                fix=f"set model to the path of a .gguf file, or to {generated}",
            )
    return files


def _arguments(request: ServeRequest, model: Path) -> list[str]:
    """The server's flags. What the study and the variant add comes last, because the last of a flag counts."""
    study, variant = request.study, request.variant
    added = [*request.spec.args, *variant.args]
    slots = _slots(added) or max([c for w in study.workloads for c in w.concurrency], default=_OPEN_LOOP_SLOTS)
    kv = [] if variant.kv_dtype == "auto" else ["-ctk", variant.kv_dtype, "-ctv", variant.kv_dtype]
    return [
        *("-m", str(model), "--alias", variant.name, "--host", _HOST, "--port", str(request.port)),
        *("-c", str(study.context_tokens * slots)),  # llama.cpp divides the context among the slots
        *("-np", str(slots), "-t", str(default_threads()), "--metrics", "-lv", "4"),  # 4 shows the buffers' sizes
        *kv,
        *added,
    ]


def _slots(args: Sequence[str]) -> int | None:
    """The number of slots that `args` ask for; None where they leave it open."""
    asked = [value for flag, value in pairwise(args) if flag in ("-np", "--parallel")]
    if not asked:
        return None
    if not asked[-1].isdecimal() or int(asked[-1]) < 1:
        raise QuantcaseError(f"{asked[-1]} is no number of slots", fix="give -np a number from 1 on, or leave it out")
    return int(asked[-1])


def default_threads() -> int:
    """Threads for the engine: every core that this process may use but one, and at least one.

    The one is for the client that measures, its probes and the rest of the box. All threads of llama.cpp wait for each
    other after every operation, so whatever takes one core away for a moment stops them all. Measured on 2 cores with
    the generated model, three runs a cell: with 2 threads equal runs fell from 780 to 212 tok/s (Q8_0, concurrency 8)
    and from 486 to 142 (Q2_K, 1); with 1 thread the worst of 72 runs was 30 % from the median of its
    three. Other jobs ran on the box both times, as they do on a laptop.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def _weights_seconds(log: str) -> float | None:
    """From the start of load_tensors to the making of the context, which begins when the last tensor is in place.

    With mmap that is the time to map the file and to repack what the CPU's kernels want in another order; pages may
    still be read later. None where the log has no time stamps or its lines changed.
    """
    loads, ends = list(_LOAD.finditer(log)), list(_LOADED.finditer(log))
    if not loads or not ends:
        return None
    seconds = _seconds(ends[-1]) - _seconds(loads[-1])
    return seconds if seconds >= 0 else None


def _seconds(match: re.Match[str]) -> float:
    minutes, seconds, milli, micro = (int(g) for g in match.groups())
    return minutes * 60 + seconds + milli / 1e3 + micro / 1e6


def _sha256(files: Sequence[Path]) -> str:
    """One sha256 over the files in order."""
    digest = hashlib.sha256()
    key = [(f.resolve(), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    if len(files) == 1 and key[0] in _digests:
        return _digests[key[0]]
    for file in files:
        with file.open("rb") as data:
            while block := data.read(1 << 20):
                digest.update(block)
    if len(files) == 1:
        _digests[key[0]] = digest.hexdigest()
    return digest.hexdigest()
