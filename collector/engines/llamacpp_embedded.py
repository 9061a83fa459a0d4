"""llama.cpp's own HTTP server out of the `xllamacpp` wheel, as a process: `python -m` this module.

It takes the flags of `llama-server` that a study needs, under the same names and with the same defaults, so that one
command line serves for both. A flag that it cannot honour is an error, never ignored. Exit codes: 0 ended by a signal,
1 the server did not start, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["main", "parser"]

_KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")  # what llama-server takes
_FLASH = {"auto": -1, "off": 0, "on": 1}


class _Parser(argparse.ArgumentParser):
    """Errors in one line: what is wrong and what to do."""

    def error(self, message: str) -> NoReturn:
        _fail(f"the embedded llama.cpp server: {message}; use llama-server (engine.command) for other flags", 2)


def _fail(line: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"error: {line}\n")
    sys.stderr.flush()
    raise SystemExit(code)


def parser() -> argparse.ArgumentParser:
    """The flags; names, meanings and defaults are llama-server's, but for the verbosity and `--metrics`, always on."""
    p = _Parser(prog="llamacpp_embedded", allow_abbrev=False, add_help=False)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-a", "--alias", default="")
    p.add_argument("-c", "--ctx-size", type=int, default=0)
    p.add_argument("-np", "--parallel", type=int, default=1)
    p.add_argument("-t", "--threads", type=int, default=-1)
    p.add_argument("-tb", "--threads-batch", type=int, default=None)
    p.add_argument("--threads-http", type=int, default=-1)
    p.add_argument("--poll", type=int, default=50)
    p.add_argument("-b", "--batch-size", type=int, default=2048)
    p.add_argument("-ub", "--ubatch-size", type=int, default=512)
    p.add_argument("-ctk", "--cache-type-k", choices=_KV_TYPES, default="f16")
    p.add_argument("-ctv", "--cache-type-v", choices=_KV_TYPES, default="f16")
    p.add_argument("-fa", "--flash-attn", choices=tuple(_FLASH), default="auto")
    p.add_argument("-ngl", "--gpu-layers", "--n-gpu-layers", type=int, default=-1)
    p.add_argument("-cram", "--cache-ram", type=int, default=8192)
    p.add_argument("--no-cache-prompt", dest="cache_prompt", action="store_false")
    p.add_argument("--no-warmup", dest="warmup", action="store_false")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8080)
    p.add_argument("-lv", "--verbosity", type=int, default=4)  # 4 shows the sizes of the buffers
    p.add_argument("--metrics", action="store_true")
    return p


def _parameters(args: argparse.Namespace) -> Any:
    """The wheel's parameters for those flags."""
    import xllamacpp

    kv_types = {member.name.removeprefix("GGML_TYPE_").lower(): member for member in xllamacpp.ggml_type}
    p = xllamacpp.CommonParams()
    p.model.path = args.model
    p.model_alias = {args.alias} if args.alias else set()
    p.n_ctx, p.n_parallel = args.ctx_size, args.parallel
    p.cpuparams.n_threads = args.threads
    p.cpuparams_batch.n_threads = args.threads if args.threads_batch is None else args.threads_batch
    p.cpuparams.poll = p.cpuparams_batch.poll = args.poll
    p.n_threads_http = args.threads_http
    p.n_batch, p.n_ubatch = args.batch_size, args.ubatch_size
    p.cache_type_k, p.cache_type_v = kv_types[args.cache_type_k], kv_types[args.cache_type_v]
    p.flash_attn_type = xllamacpp.llama_flash_attn_type(_FLASH[args.flash_attn])
    p.n_gpu_layers = args.gpu_layers
    p.cache_ram_mib, p.cache_prompt, p.warmup = args.cache_ram, args.cache_prompt, args.warmup
    p.hostnames, p.port = [args.host], args.port
    p.verbosity = args.verbosity
    p.endpoint_metrics = p.endpoint_props = p.endpoint_slots = True
    p.offline, p.ui = True, False
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    args = parser().parse_args(argv)
    try:
        import xllamacpp
    except ImportError as e:
        _fail(f"xllamacpp cannot be loaded ({e}); install the extra: pip install 'quantcase[cpu]'", 1)
    # Until the model is loaded a signal ends the process at once: nothing is lost, and Python could not act on it
    # while the wheel's constructor runs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(_parameters(args))
    except RuntimeError as e:  # all that the wheel raises; llama.cpp's log says why
        name = os.path.basename(args.model)  # noqa: PTH119 - a name for a message
        _fail(f"llama.cpp's server did not start with {name} on port {args.port} ({e}); see the log lines above", 1)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    ended.wait()
    del server  # ends its loop, frees the model, and flushes the log
    return 0


if __name__ == "__main__":
    sys.exit(main())
