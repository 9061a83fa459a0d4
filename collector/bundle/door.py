"""The door through which text enters a bundle: what the writer writes has been here, whoever made it.

Callers redact what they know to be dangerous; this is where it is made sure of. Keys of rows (variant, workload, load,
prompt) never change, for rows are told apart by them. Prompts and answers are what is measured: they stay as they were
asked and given, and so do a person's own words. `warnings` says what in these looks like a secret; `collect redact`
makes a copy without them.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from collector.bundle.answers import LikelihoodRow, QualityItem, QualityRow
from collector.bundle.answers_write import AnswerStore
from collector.bundle.schema import EngineMetricRow, Environment, RequestRow, VariantRow
from collector.errors import QuantcaseError
from collector.probes.redact import REMOVED, find, is_secret_name, redact, redact_argv, redact_version
from collector.study import Study

__all__ = ["CleanAnswers", "clean_environment", "clean_row", "clean_study", "public_url", "restored", "warnings"]

RowT = TypeVar("RowT", bound=Struct)

# The columns that hold words of an engine. All others are numbers, keys, or words of ours.
_FREE: dict[type[Struct], tuple[str, ...]] = {
    VariantRow: (
        "error", "engine_version", "quantization_requested", "quantization_applied", "kernel_path",
        "attention_backend", "evidence",
    ),
    RequestRow: ("error", "finish_reason"),
    EngineMetricRow: ("series",),
    QualityItem: ("free_because", "source"),
    QualityRow: ("error",),
    LikelihoodRow: ("error",),
}  # fmt: skip
# Keys of a study that name things or choose from a list; and predictions, which are a person's own words.
_KEPT = {
    "id", "name", "gpu", "baseline", "control", "method", "kv_dtype", "revision", "weights", "kind", "api", "schedule",
    "search", "prompts", "predictions", "variant", "date",
}  # fmt: skip
_LOOPBACK = ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104 - names, not a server
_HOME = re.compile(r"(^|[=:,])~(?=/|$)")
_OWN_WORDS = ("notes.md", "marks.csv", "predictions.json")
_TEXTS = ("quality_items.jsonl", "quality.jsonl")
_MOST_TOLD = 5  # findings a file that are told one by one
_MOST_CHARS = 8 << 20  # of a file that is searched: a warning must not take minutes


@lru_cache(maxsize=8192)
def _clean(text: str) -> str:
    """`redact`, remembered: a scrape of the engine's metrics gives the same names every second."""
    return redact(text)


def clean_row(row: RowT) -> RowT:
    """The row without secrets in the columns that hold an engine's words; the row itself where there are none."""
    changed: dict[str, Any] = {}
    for name in _FREE.get(type(row), ()):
        value = getattr(row, name)
        if value and (new := _clean(value)) != value:
            changed[name] = new
    if isinstance(row, VariantRow) and (argv := _clean_argv(row.argv)) != row.argv:
        changed["argv"] = argv
    return msgspec.structs.replace(row, **changed) if changed else row


def _clean_argv(argv: str) -> str:
    """A command line as a JSON list; redacted as a text where it is none."""
    try:
        items = msgspec.json.decode(argv, type=list[str])
    except msgspec.DecodeError:
        return redact(argv)
    clean = redact_argv(items)
    return argv if clean == items else json.dumps(clean)


class CleanAnswers(AnswerStore):
    """The answer store whose rows pass the door on their way to the disk."""

    def _append(self, name: str, rows: list[RowT]) -> None:
        super()._append(name, [clean_row(row) for row in rows])


def clean_environment(environment: Environment) -> Environment:
    """The same without secrets in any text of it. Versions of four numbers stay."""
    sessions = [
        msgspec.structs.replace(
            s,
            gpus=[_walk(card) for card in s.gpus],
            host=_walk(s.host),
            software={k: redact_version(v) if isinstance(v, str) else _walk(v) for k, v in s.software.items()},
            ended_by=None if s.ended_by is None else redact(s.ended_by),
        )
        for s in environment.sessions
    ]
    return msgspec.structs.replace(environment, sessions=sessions)


def clean_study(study: Study) -> Study:
    """The study as it may be written down: no secrets in arguments and environment, no homes, no endpoint's address.

    `restored` puts back what can be known again.
    """
    data = msgspec.to_builtins(study)
    made = {k: v if k in _KEPT else _walk(v, _KEPT) for k, v in data.items()}
    for part, given in ((made["engine"], data["engine"]), *zip(made["variants"], data["variants"], strict=True)):
        part["args"] = redact_argv(given["args"])
        part["env"] = _clean_env(given["env"])
    made["engine"]["command"] = redact_argv(data["engine"]["command"])
    made["engine"]["url"] = public_url(data["engine"]["url"])
    made["quality"] = [
        {**suite, "args": redact_argv(given["args"])}
        for suite, given in zip(made["quality"], data["quality"], strict=True)
    ]
    return msgspec.convert(made, Study)


def _clean_env(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: REMOVED if is_secret_name(name) and value and not value.isdigit() else redact(value)
        for name, value in env.items()
    }


def public_url(url: str) -> str:
    """An endpoint's address without its host, unless that is this machine: where a client's server stands is theirs."""
    if not url or REMOVED in url:
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return REMOVED
    if host in _LOOPBACK:
        return redact(url)
    return f"{parts.scheme}://{REMOVED}{f':{port}' if port else ''}"


def restored(study: Study, where: str) -> Study:
    """A study out of a bundle, ready to be measured again: homes are this user's, secrets come from the environment.

    Raises:
        QuantcaseError: something was taken out that cannot be known again, with how to give it.
    """
    data = msgspec.to_builtins(study)
    for part, name in ((data["engine"], "engine"), *((v, f"variant {v['name']}") for v in data["variants"])):
        for key, value in list(part["env"].items()):
            if REMOVED in value:
                if key not in os.environ:
                    raise QuantcaseError(
                        f"{where}: {key} of {name} was taken out as a secret", fix=f"set {key} in the environment"
                    )
                del part["env"][key]  # the engine inherits it
            else:
                part["env"][key] = _at_home(value)
        lost = [a for a in [*part["args"], *part.get("command", [])] if REMOVED in a]
        if lost:
            raise QuantcaseError(
                f"{where}: an argument of {name} was taken out as a secret",
                fix="give such things through the environment (VLLM_API_KEY, HF_TOKEN), and start a new run",
            )
        part["args"] = [_at_home(a) for a in part["args"]]
        if "command" in part:
            part["command"] = [_at_home(a) for a in part["command"]]
        if "model" in part:
            part["model"] = _at_home(part["model"])
    data["engine"]["source"] = _at_home(data["engine"]["source"])
    for workload in data["workloads"]:
        for key in ("prompts_file", "trace_file"):
            workload[key] = _at_home(workload[key])
    for suite in data["quality"]:
        suite["file"] = _at_home(suite["file"])
    return msgspec.convert(data, Study)


def _at_home(text: str) -> str:
    return _HOME.sub(lambda m: f"{m[1]}{Path.home()}", text)


def _walk(value: Any, kept: frozenset[str] | set[str] = frozenset()) -> Any:
    """Every text in a JSON-like value, redacted; values of the keys in `kept` stay."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_walk(v, kept) for v in value]
    if isinstance(value, dict):
        return {k: v if k in kept else _walk(v, kept) for k, v in value.items()}
    return value


def warnings(folder: Path) -> list[str]:
    """What in a person's own words, prompts and answers looks like a secret or names somebody, a line each.

    The writer leaves these as they are. The things themselves are never told, only kind and place.
    """
    told = []
    for name in _OWN_WORDS:
        if (folder / name).is_file():
            found = find(_text(folder / name))
            told += [f"{name} line {f.line}: looks like: {f.kind}" for f in found[:_MOST_TOLD]]
            if len(found) > _MOST_TOLD:
                told.append(f"{name}: {len(found) - _MOST_TOLD} more lines like that")
    for name in _TEXTS:
        if (folder / name).is_file():
            kinds = Counter(f.kind for f in find(_text(folder / name)))
            told += [f"{name}: {count} lines hold what looks like: {kind}" for kind, count in sorted(kinds.items())]
    return told


def _text(path: Path) -> str:
    with path.open("r", encoding="utf-8", errors="replace") as f:
        return f.read(_MOST_CHARS)
