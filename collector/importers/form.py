"""The study of an imported bundle: the form that format 1 asks for, filled from the files and from what was said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from collector.bundle.schema import Weights
from collector.errors import UsageFault
from collector.importers.base import Imported, Point
from collector.study import EngineName, EngineSpec, Load, QualitySuite, Study, Variant, Workload, dumps, loads

__all__ = ["Said", "study_of"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_ENGINES: dict[str, EngineName] = {"vllm": "vllm", "llamacpp": "llamacpp", "llama.cpp": "llamacpp"}


class Said(Struct, kw_only=True):
    """What a person says because no file does. By variant: model, method, bits, KV data type."""

    gpu: str
    baseline: str
    base_model: str
    study: str = "imported"
    title: str = ""
    workload: str = "imported"
    engine: str = ""
    engine_version: str = ""
    weights: Weights = "real"
    models: dict[str, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    bits: dict[str, float] = field(default_factory=dict)
    kv_dtypes: dict[str, str] = field(default_factory=dict)


def study_of(sources: Mapping[str, Imported], points: Sequence[tuple[str, Point]], said: Said) -> Study:
    """The study, checked like one that a person wrote. `sources` is by variant; `points` with their workloads.

    Raises:
        UsageFault: a name that is none, a baseline or an option that names no variant, or no model.
    """
    for kind, name in [
        ("study", said.study),
        *(("variant", v) for v in sources),
        *(("workload", w) for w, _ in points),
    ]:
        if not _NAME.fullmatch(name):
            raise UsageFault(
                f"{name[:60]!r} is no name of a {kind}", fix="lower case letters, digits, . _ -, at most 40"
            )
    given = {*said.models, *said.methods, *said.bits, *said.kv_dtypes, said.baseline} - {""}
    for name in sorted(given - sources.keys()):
        raise UsageFault(f"no variant is named {name}", fix=f"variants: {', '.join(sources)}")
    tools = ", ".join(dict.fromkeys(s.tool for s in sources.values()))
    asked = Study(
        id=said.study,
        title=said.title or f"{said.base_model}: imported from {tools}",
        gpu=said.gpu,
        base_model=said.base_model,
        baseline=said.baseline,
        # Nothing was served here; an endpoint's URL must be named for several variants, and there is none to name.
        engine=EngineSpec(name=_ENGINES[said.engine])
        if said.engine in _ENGINES
        else EngineSpec(name="endpoint", url="imported"),
        variants=[_variant(name, source, said) for name, source in sources.items()],
        workloads=_workloads(points),
        weights=said.weights,
        context_tokens=max([4096, *(w.input_tokens + w.output_tokens for w in _workloads(points))]),
        repeats=1,
        quality=_suites(sources.values()),
    )
    return loads(dumps(asked), "what was imported")  # with all the checks of a study that is read


def _variant(name: str, source: Imported, said: Said) -> Variant:
    method = said.methods.get(name) or source.method
    return Variant(
        name=name,
        model=said.models.get(name) or source.model or said.base_model,
        method=method or ("none" if name == said.baseline else "not stated"),
        bits=said.bits.get(name, source.bits),
        kv_dtype=said.kv_dtypes.get(name, "auto"),
        note=f"imported from {source.tool}; its flags are not known",
    )


def _workloads(points: Sequence[tuple[str, Point]]) -> list[Workload]:
    """One workload a name. Loads that are none of ours, and lengths that nobody stated, stand as the least there is."""
    out = []
    for name in dict.fromkeys(w for w, _ in points) or ["imported"]:
        mine = [p for w, p in points if w == name]
        loads_found = {load.name: load for p in mine if (load := Load.of(p.load)) is not None}
        closed = sorted(c for x in loads_found.values() if (c := x.concurrency) is not None and c > 0)
        rates = sorted({r for x in loads_found.values() if (r := x.rate) is not None and r > 0})
        lengths = [max((getattr(p, k) or 0.0 for p in mine), default=0.0) for k in ("input_tokens", "output_tokens")]
        open_loop = bool(rates) and not closed
        out.append(
            Workload(
                name=name,
                title=f"{name}, as the tool ran it",
                input_tokens=max(1, round(lengths[0])),
                output_tokens=max(2, round(lengths[1])),
                natural_length=True,
                schedule="constant" if open_loop else "closed",
                concurrency=[] if open_loop else closed or [1],
                rates=rates if open_loop else [],
                requests_per_stream=2,
                min_requests=2,
            )
        )
    return out


def _suites(sources: Iterable[Imported]) -> list[QualitySuite]:
    """The suites of the items that were read. Only lm-eval's have tasks: its own names, without the metric behind."""
    found: dict[str, QualitySuite] = {}
    for source in sources:
        for item in source.items:
            suite = found.setdefault(item.suite, QualitySuite(kind=source.suite_kind, name=item.suite))
            task = item.task.partition("[")[0]
            if suite.kind == "lm-eval" and task not in suite.tasks:
                suite.tasks.append(task)
    return list(found.values())
