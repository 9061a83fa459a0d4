"""What can be read off an engine's log and /metrics, each fact with its line. `unknown` when nothing matches.

**Requested is not applied.** An engine may accept a quantization in its configuration and serve the model unquantized
(seen: GPTQ without its layer list). So `quantization_applied` needs proof: a quantized kernel named in the log, or
weights that weigh less than the baseline's. When neither is there, and the weights weigh what the baseline's weigh, the
class is `not_applied`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from collector.bundle.schema import KernelClass
from collector.engines.base import EngineFacts, Evidence
from collector.engines.patterns import KERNEL_CLASSES, LLAMACPP, VLLM, Pattern
from collector.probes.metrics import parse

__all__ = ["facts_json", "facts_lines", "judge", "read_log", "startup_seconds", "with_metrics"]

_SAME_WEIGHT = 0.02  # weights within 2 % of the baseline's were not quantized
_TOO_LIGHT_GIB = 0.25  # engines print 0.01 GiB: below this, rounding is no longer small against those 2 %
# Said while the configuration is read, before a layer is made: a promise, no proof.
_PROMISE = re.compile(r"is convertible to|however you specified quantization=|is not fully optimized yet")
_LINE_CHARS = 20_000  # of a longer line only the beginning is read: no engine prints facts further out
_EVIDENCE_CHARS = 400
_ANSI = re.compile(r"\x1b\[[0-9;]{0,16}[A-Za-z]")

Found = dict[str, list[tuple[tuple[str, ...], Evidence]]]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines; a progress bar's carriage returns split within a line, the number stays that of the file."""
    for number, line in enumerate(text.split("\n"), 1):
        for piece in line.split("\r"):
            if piece:
                yield number, _ANSI.sub("", piece[:_LINE_CHARS])


def _scan(text: str, table: tuple[Pattern, ...]) -> Found:
    found: Found = {}
    for number, line in _lines(text):
        for pattern in table:
            if match := pattern.regex.search(line):
                groups = tuple(g or "" for g in match.groups())
                found.setdefault(pattern.fact, []).append((groups, Evidence(number, line[:_EVIDENCE_CHARS])))
    return found


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def read_log(text: str) -> EngineFacts:
    """Facts of any engine's log. Which engine wrote it is read off the log too."""
    vllm, llama = _scan(text, VLLM), _scan(text, LLAMACPP)
    if "version" not in vllm and "requested" not in vllm and ("applied" in llama or "model_buffer" in llama):
        return _llamacpp(llama)
    return _vllm(vllm) if vllm.keys() - {"attention"} else EngineFacts()  # others speak of backends too


def startup_seconds(text: str) -> dict[str, float]:
    """What a vLLM log says of its start-up: weights_s, compile_s, graphs_s where stated."""
    found = _scan(text, VLLM)
    seconds = {}
    if "weights" in found and len(found["weights"][-1][0]) > 1:
        seconds["weights_s"] = _number(found["weights"][-1][0][1])
    if "compile" in found:
        seconds["compile_s"] = _number(found["compile"][-1][0][0])
    if "graphs" in found:
        seconds["graphs_s"] = sum(_number(groups[0]) for groups, _ in found["graphs"][-1:])
    return seconds


def _vllm(found: Found) -> EngineFacts:
    facts = EngineFacts(engine="vllm")

    def take(fact: str, field: str, place: int = 0) -> str | None:
        if fact not in found:
            return None
        groups, evidence = found[fact][-1]
        facts.evidence[field] = evidence
        return groups[place]

    def number(fact: str, field: str, place: int = 0) -> float | None:
        value = take(fact, field, place)
        return _number(value) if value else None

    facts.version = take("version", "version")
    requested = take("requested", "quantization_requested")
    facts.quantization_requested = None if requested in (None, "None") else requested
    facts.attention_backend = take("attention", "attention_backend")
    facts.weights_gib = number("weights", "weights_gib")
    facts.kv_cache_gib = number("kv_gib", "kv_cache_gib")
    tokens = number("kv_tokens", "kv_cache_tokens")
    facts.kv_cache_tokens = int(tokens) if tokens is not None else None
    facts.max_concurrency = number("concurrency", "max_concurrency")
    facts.graphs_gib = number("graphs", "graphs_gib", 1)
    facts.activations_gib = number("activations", "activations_gib")
    kv_dtype = take("kv_cache_dtype", "kv_cache_dtype")
    if kv_dtype in (None, "auto"):
        facts.evidence.pop("kv_cache_dtype", None)
    _kernel(facts, found)
    return facts


def _kernel(facts: EngineFacts, found: Found) -> None:
    """The kernel and its class. A line that says slow or fallback outweighs a kernel's good name."""
    kernels = found.get("kernel", [])
    if kernels:
        names = list(dict.fromkeys(f"{g[0]} for {g[1]}" for g, _ in kernels))
        facts.kernel_path = "; ".join(names)
        classes = [_class_of(groups[0]) for groups, _ in kernels]
        worst = max(range(len(classes)), key=lambda i: _RANK[classes[i]])
        facts.kernel_class = classes[worst]
        facts.evidence["kernel_path"] = next((e for _, e in kernels if not _PROMISE.search(e.text)), kernels[0][1])
        facts.evidence["kernel_class"] = kernels[worst][1]
    elif "bitsandbytes" in found:
        groups, evidence = found["bitsandbytes"][0]
        facts.kernel_path, facts.kernel_class = "bitsandbytes", "slow"
        facts.evidence["kernel_path"] = facts.evidence["kernel_class"] = evidence
    for word in ("slow", "fallback"):
        if word in found:
            groups, evidence = found[word][0]
            facts.kernel_class = "slow" if word == "slow" else "fallback"
            facts.kernel_path = facts.kernel_path or groups[0]
            facts.evidence.setdefault("kernel_path", evidence)
            facts.evidence["kernel_class"] = evidence
    if facts.kernel_path is not None:
        facts.quantization_applied = facts.quantization_requested or facts.kernel_path
        facts.evidence["quantization_applied"] = facts.evidence["kernel_path"]


_RANK: dict[KernelClass, int] = {"optimized": 0, "unknown": 1, "slow": 2, "fallback": 3, "not_applied": 4}


def _class_of(kernel: str) -> KernelClass:
    plain = kernel.lower().replace("_", "")
    for word, kind in KERNEL_CLASSES:
        if word in plain:
            return kind  # type: ignore[return-value]
    return "unknown"


def _llamacpp(found: Found) -> EngineFacts:
    """llama.cpp serves the file's format as it is: what the file holds is what is applied."""
    facts = EngineFacts(engine="llama.cpp")
    for fact, field in (("version", "version"), ("applied", "quantization_applied"), ("kv_tokens", "kv_cache_tokens")):
        if fact in found:
            facts.evidence[field] = found[fact][0][1]
    if "version" in found:
        facts.version = found["version"][0][0][0]
    if "applied" in found:
        facts.quantization_applied = facts.quantization_requested = found["applied"][0][0][0]
    if "kv_tokens" in found:
        facts.kv_cache_tokens = int(found["kv_tokens"][0][0][0])
    if "slots" in found:
        facts.max_concurrency = float(found["slots"][-1][0][0])
        facts.evidence["max_concurrency"] = found["slots"][-1][1]
    if "file_mib" in found:  # what the tensors weigh; buffers count a repacked tensor twice
        groups, evidence = found["file_mib"][0]
        facts.weights_gib = _number(groups[0]) / (1024 if groups[1] == "M" else 1)
        facts.evidence["weights_gib"] = evidence
    for fact, field in (("kv_buffer", "kv_cache_gib"), ("compute_buffer", "activations_gib")):
        if fact in found:
            latest = {groups[0]: _number(groups[1]) for groups, _ in found[fact]}  # a device's last word stands
            setattr(facts, field, sum(latest.values()) / 1024)
            facts.evidence[field] = found[fact][-1][1]
    if "model_buffer" in found:
        devices = list(dict.fromkeys(groups[0] for groups, _ in found["model_buffer"]))
        facts.kernel_path = f"ggml {' + '.join(devices)}"
        facts.kernel_class = "optimized"  # ggml's kernels read the quantized blocks directly
        facts.evidence["kernel_path"] = facts.evidence["kernel_class"] = found["model_buffer"][0][1]
    return facts


def with_metrics(facts: EngineFacts, metrics_text: str) -> EngineFacts:
    """The facts with what only /metrics says: KV capacity from vLLM's cache_config_info. Facts of the log stand."""
    for series in parse(metrics_text):
        if series.name != "vllm:cache_config_info" or facts.kv_cache_tokens is not None:
            continue
        stated = series.labels.get("kv_cache_size_tokens", "")
        blocks, size = series.labels.get("num_gpu_blocks", ""), series.labels.get("block_size", "")
        tokens = int(stated) if stated.isdigit() else None
        if tokens is None and blocks.isdigit() and size.isdigit():
            tokens = int(blocks) * int(size)
        if tokens is not None:
            line = Evidence(0, f"/metrics {series.key}"[:_EVIDENCE_CHARS])
            facts = msgspec.structs.replace(
                facts, kv_cache_tokens=tokens, evidence={**facts.evidence, "kv_cache_tokens": line}
            )
    return facts


def judge(facts: EngineFacts, baseline: EngineFacts | None, *, requested: str | None = None) -> EngineFacts:
    """The facts beside the baseline's: was what was asked for applied?

    `requested` is the method that the study asks for (`none` for an unquantized variant); without it the log's own word
    is taken.
    """
    asked = requested if requested is not None else facts.quantization_requested
    proof = facts.evidence.get("quantization_applied")
    proven = facts.quantization_applied is not None and not (proof and _PROMISE.search(proof.text))
    if asked in (None, "none") or proven:
        return facts
    if baseline is None or baseline.weights_gib is None or facts.weights_gib is None:
        return facts
    if baseline.weights_gib < _TOO_LIGHT_GIB:
        return facts
    evidence = dict(facts.evidence)
    line = facts.evidence.get("weights_gib", Evidence(0, ""))
    evidence["kernel_class"] = evidence["quantization_applied"] = line
    if abs(facts.weights_gib / baseline.weights_gib - 1) <= _SAME_WEIGHT:
        return msgspec.structs.replace(
            facts, quantization_applied="none", kernel_class="not_applied", evidence=evidence
        )
    if facts.weights_gib < baseline.weights_gib:  # lighter, so quantized; by which kernel the log does not say
        return msgspec.structs.replace(facts, quantization_applied=asked, evidence=evidence)
    return facts


def facts_json(facts: EngineFacts) -> str:
    """The facts as JSON; null where the log does not say."""
    return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()


_UNITS = {"_gib": " GiB", "_tokens": " tokens"}


def facts_lines(facts: EngineFacts) -> list[tuple[str, str, str]]:
    """(fact, value with unit, line behind it) for the terminal."""
    rows = []
    for name in facts.__struct_fields__:
        if name == "evidence":
            continue
        value = getattr(facts, name)
        unit = next((u for tail, u in _UNITS.items() if name.endswith(tail)), "")
        shown = "not stated" if value is None else f"{value:,}{unit}" if isinstance(value, int | float) else str(value)
        proof = facts.evidence.get(name)
        rows.append((name, shown, f"{proof.line}: {proof.text}" if proof else ""))
    return rows
