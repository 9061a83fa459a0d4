"""What a case publishes for comparisons with any other: estimates, and the facts that have to be the same.

Estimates are the figure, the variance of its logarithm and the degrees of freedom behind it: enough to work out any
ratio and its interval later (`between`, and the same formulas in assets/compare.js), so that no difference has to be
written down for each of millions of pairs. Costs are not in here: they follow from the throughput and the price.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from collector.bundle.read import Variant, Workload
from collector.bundle.schema import VariantRow
from quantcase.analysis.co_location import Together, together
from quantcase.analysis.compare import ROPE, regions
from quantcase.analysis.gpus_facts import GpuFacts
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.plan_checks import command_of
from quantcase.analysis.plan_common import EACH_ITS_OWN, OF_QUANTIZATION, SAMPLING, name_list
from quantcase.analysis.points import Key, Point
from quantcase.analysis.quality import Quality
from quantcase.analysis.servers import gpus_of
from quantcase.analysis.trust import limited_loads
from quantcase.catalog import Case

__all__ = ["SINGLES", "CaseDocument", "CellDocument", "Facts", "Lengths", "Published", "VariantDocument", "document"]

Facts = dict[str, dict[str, str]]  # variable -> fact -> value; a fact that was not recorded has no entry

# One number a server start: column of variants.csv -> (title with unit, whether the engine counts it its own way)
SINGLES: dict[str, tuple[str, bool]] = {
    "weights_gib": ("Weights (GiB)", True),
    "kv_cache_tokens": ("KV capacity, by the engine (tokens)", True),
    "vram_loaded_mib": ("VRAM loaded, by the driver (MiB)", False),
    "vram_peak_mib": ("VRAM peak, by the driver (MiB)", False),
    "healthy_s": ("Start-up until healthy (s)", False),
}
# What makes a workload another one. How many requests are sent, and for how long, only moves n.
_DEFINITION = (
    "api", "input_tokens", "output_tokens", "natural_length", "schedule", "trace_file", "prompts", "prompts_file",
    "prefix_tokens", "prefix_groups", "turns", "token_ids",
)  # fmt: skip
_PACKAGES = ("vllm", "xllamacpp", "torch", "triton", "transformers")
_DIGITS = 10  # significant digits that are published: far beyond what any interval can tell apart


class Published(Struct, omit_defaults=True):
    """A figure. `variance` is that of its logarithm; where it is not known, `low` and `high` may bound it (95 %)."""

    value: float
    variance: float | None = None
    freedom: float | None = None
    level: str = "none"
    low: float | None = None
    high: float | None = None

    @property
    def estimate(self) -> Estimate:
        """The same as the analysis has it: nan for what is not known."""
        known = self.variance is not None and self.freedom is not None
        variance, freedom = (self.variance or 0.0, self.freedom or 0.0) if known else (math.nan, math.nan)
        return Estimate(self.value, variance, freedom, self.level)


class Lengths(Struct):
    """Tokens per request of a cell (the mean to one decimal), and a hash of its first repeat's, request by request."""

    mean: float
    low: float
    high: float
    sha: str


class CellDocument(Struct, omit_defaults=True):
    """One variant at one load point. `limited`: the client, not the server, was the limit in some repeat."""

    n: int
    runs: int
    figures: dict[str, Published]
    input: Lengths | None = None
    output: Lengths | None = None
    limited: bool = False


class VariantDocument(Struct, omit_defaults=True):
    """One variant: what it is, what surrounded it, and its figures."""

    what: dict[str, str]
    fixed: Facts
    cells: dict[str, dict[str, CellDocument]] = msgspec.field(default_factory=dict)  # workload -> load
    singles: dict[str, float] = msgspec.field(default_factory=dict)
    starts: int = 0  # server starts that served
    right: int | None = None  # answers right, of `asked`
    asked: int | None = None
    gpus: int = 1  # of one server
    boxes: list[str] = msgspec.field(default_factory=list)  # cards or boxes that it was measured on, by name


class CaseDocument(Struct, omit_defaults=True):
    """All that a comparison needs of one case."""

    case: str
    title: str
    grade: str
    weights: str
    status: str
    sound: bool
    created: str
    gpu: str
    study: str
    baseline: str
    defined_by: str  # who defined the metrics: two cases with unlike words are not compared
    workloads: dict[str, dict[str, str]]
    regions: dict[str, float]  # only those that the control widened
    margin_pp: float
    variants: dict[str, VariantDocument]
    usd_per_hour: float | None = None
    price: str = ""
    hardware: GpuFacts | None = None  # for the pages across GPUs; `compare` publishes none of it


def document(
    case: Case,
    estimates: Mapping[Key, Mapping[str, Estimate]],
    points: Sequence[Point],
    quality: Sequence[Quality] = (),
    control: Quality | None = None,
    *,
    usd_per_hour: float | None = None,
    price: str = "",
) -> CaseDocument:
    """The document of one case. `price` says in plain text whose price `usd_per_hour`, of one GPU, is."""
    info, own = case.bundle.info, regions(case, estimates)
    measured = info.grade in ("measured", "simulated")
    surroundings = _surroundings(case)
    right, beside = _right(case, quality, control), together(case)
    cells = _cells(case, estimates, points)
    variants = {}
    for v in case.study.variants:
        rows = case.starts(v.name)
        row = case.served(v.name) or (rows[-1] if rows else None)
        if row is None:
            continue
        served = case.served(v.name)
        singles = {k: _plain(x) for k in SINGLES if served is not None and (x := getattr(served, k)) is not None}
        hardware = {**surroundings.get("Hardware", {}), **_server(case, v.name, beside)}
        fixed = {**surroundings, **_of_variant(case, v, row), "Hardware": hardware}
        counts = right.get(v.name, (None, None))
        variants[v.name] = VariantDocument(
            _what(v, row), fixed, cells.get(v.name, {}), singles, sum(r.exit_state == "ok" for r in rows),
            counts[0], counts[1], gpus_of(case, v.name),
        )  # fmt: skip
    return CaseDocument(
        case=case.id, title=case.title, grade=info.grade, weights=info.weights, status=info.status, sound=case.sound,
        created=case.bundle.manifest.created, gpu=info.gpu, study=case.study.id, baseline=case.baseline,
        defined_by=f"this collector, bundle format {info.format}" if measured else f"the source of {case.id}",
        workloads={w.name: _definition(w) for w in case.study.workloads},
        regions={m: width for m, width in own.items() if width > ROPE[m]},
        margin_pp=max((s.margin_pp for s in case.study.quality), default=2.0),
        variants=variants, usd_per_hour=usd_per_hour, price=price,
    )  # fmt: skip


def _plain(x: float) -> float:
    return float(f"{x:.{_DIGITS}g}")


def _known(x: float) -> float | None:
    return None if math.isnan(x) else _plain(x)


def _definition(w: Workload) -> dict[str, str]:
    fields = {name: getattr(w, name) for name in _DEFINITION}
    words = {True: "yes", False: "no"}
    return {"title": w.title or w.name} | {
        k: words[v] if isinstance(v, bool) else str(v) for k, v in fields.items() if v != ""
    }


def _cells(
    case: Case, estimates: Mapping[Key, Mapping[str, Estimate]], points: Sequence[Point]
) -> dict[str, dict[str, dict[str, CellDocument]]]:
    """variant -> workload -> load -> cell, from estimates; bounds of single repeats come from the points."""
    ok = case.requests[case.requests["status"] == "ok"]
    places = ok.groupby(["variant", "workload", "load"], sort=False).indices
    lengths = {c: ok[["start", "repeat", "index", c]].to_numpy() for c in ("input_tokens", "output_tokens")}
    limited = limited_loads(case)
    bounds = {(p.variant, p.workload, p.load, p.metric): p for p in points}
    found: dict[str, dict[str, dict[str, CellDocument]]] = {}
    for (workload, load, metric), arms in estimates.items():
        for variant, e in arms.items():
            key = (variant, workload, load)
            at = found.setdefault(variant, {}).setdefault(workload, {})
            point = bounds.get((*key, metric))
            if load not in at:
                rows = {c: values[places.get(key, [])] for c, values in lengths.items()}
                at[load] = CellDocument(
                    n=case.ok_counts.get(key, 0), runs=point.runs if point else 0, figures={},
                    input=_lengths(rows["input_tokens"]), output=_lengths(rows["output_tokens"]),
                    limited=key in limited,
                )  # fmt: skip
            at[load].figures[metric] = _published(e, point)
    return found


def _published(e: Estimate, point: Point | None) -> Published:
    if e.known:
        return Published(_plain(e.value), _plain(e.variance), _plain(e.freedom), e.level)
    low, high = (_known(point.low), _known(point.high)) if point else (None, None)
    return Published(_plain(e.value), level=e.level, low=low, high=high)


def _lengths(rows: NDArray[Any]) -> Lengths | None:
    """Of rows of (start, repeat, index, length): their span, and what tells those of the first repeat from others."""
    known = rows[rows[:, 3] == rows[:, 3]]
    if not len(known):
        return None
    start, repeat, values = known[:, 0], known[:, 1], known[:, 3]
    first = known[(start == start.min()) & (repeat == repeat.min())]
    ordered = first[first[:, 2].argsort()][:, 2:].tolist()
    return Lengths(round(float(values.mean()), 1), float(values.min()), float(values.max()), _digest(ordered))


def _digest(items: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(items)).encode()).hexdigest()[:12]


def _right(case: Case, quality: Sequence[Quality], control: Quality | None) -> dict[str, tuple[int, int]]:
    """variant -> (answers right, answers asked), over all suites with one right answer."""
    found = {q.variant: (q.accuracy.variant_right, q.accuracy.n) for q in quality if q.accuracy}
    for q in (*quality, *([control] if control else [])):
        if q.accuracy:
            found.setdefault(case.baseline, (q.accuracy.baseline_right, q.accuracy.n))
    return found


def _what(v: Variant, row: VariantRow) -> dict[str, str]:
    """What is compared: a difference in these is the question, not a fault."""
    facts = {
        "checkpoint": row.model, "revision": row.revision or v.revision,
        "config sha256": (row.config_sha256 or "")[:12],
        "method": row.method, "bits": "" if row.bits is None else f"{row.bits:g}", "KV cache": row.kv_dtype,
        "kernel path": row.kernel_path, "kernel class": row.kernel_class if v.method != "none" else "",
        "state": "" if row.exit_state == "ok" else f"did not serve: {row.exit_state}",
    }  # fmt: skip
    return {k: x for k, x in facts.items() if x}


def _server(case: Case, variant: str, beside: Together) -> dict[str, str]:
    """What of the hardware a variant has for itself: the GPUs of its server, and whether others ran beside it."""
    mine = sorted({n for n, _, _ in beside.beside | beside.both})
    found = {"GPUs of the server": str(gpus_of(case, variant))}
    if beside.cells and not beside.allowed:
        found["measured"] = "beside other servers" if variant in mine else "alone"
    return found


def _of_variant(case: Case, v: Variant, row: VariantRow) -> Facts:
    """The facts that each variant has for itself."""
    command = command_of(row)
    apart = EACH_ITS_OWN | OF_QUANTIZATION | set(SAMPLING)
    options = sorted(" ".join((k, *values)) for k, values in command.items() if k not in apart)
    sampling = sorted(" ".join((k, *values)) for k, values in command.items() if k in SAMPLING)
    env = {**case.study.engine.env, **v.env}
    versions = dict.fromkeys(r.engine_version for r in case.starts(v.name) if r.engine_version)
    software = [s.software for s in case.bundle.environment().sessions]
    packages = {p: name_list(str(s[p]) for s in software if p in s) for p in _PACKAGES}
    told = case.bundle.info.grade in ("measured", "simulated")
    answers = case.answers.get((v.name, 1), {})
    asked = sorted((r.prompt_id, r.prompt_sha256) for r in answers.values())
    asked += sorted((r.prompt_id, r.prompt_sha256) for r in case.likelihoods.get((v.name, 1), {}).values())
    counts = sorted((r.prompt_sha256, r.input_tokens) for r in answers.values() if r.input_tokens is not None)
    found: Facts = {
        "Tokenizer": {"counts": f"{len(counts)} prompts, {_digest(counts)}" if counts else ""},
        "Evaluation set": {"prompts": f"{len(asked)} prompts, sha256 {_digest(asked)}" if asked else ""},
        "Sampling parameters": {
            "sampling": "greedy, set by the collector" if told else "",
            "arguments": (", ".join(sampling) or "none") if command else "",
        },
        "Engine": {
            "engine": row.engine, "version": name_list(versions), "arguments": ", ".join(options),
            "environment": ", ".join(f"{k}={env[k]}" for k in sorted(env)) or ("none" if command else ""), **packages,
        },
    }  # fmt: skip
    return {variable: {k: x for k, x in facts.items() if x} for variable, facts in found.items()}


def _surroundings(case: Case) -> Facts:
    """The facts that all variants of a case share."""
    environment, study = case.bundle.environment(), case.study
    cards = [g for s in environment.sessions for g in s.gpus]

    def of(key: str, unit: str = "") -> str:
        known = [g[key] for g in cards if g.get(key)]
        return name_list(f"{x:g}{unit}" if isinstance(x, float) else f"{x}{unit}" for x in known)

    hosts = [s.host for s in environment.sessions]
    processor = name_list(f"{h['cpu']}, {h.get('cores', '?')} cores" for h in hosts if h.get("cpu"))
    counts = name_list(str(len(s.gpus)) for s in environment.sessions if s.gpus)
    cpu_run = case.profile is not None and case.profile.kind == "cpu"
    hardware = {
        "GPU": of("name") or ("none" if cpu_run else environment.gpu_found or ""),
        "number of GPUs": counts, "VRAM": of("vram_mib", " MiB"), "driver": of("driver"), "CUDA": of("cuda"),
        "power limit": of("power_limit_w", " W"), "processor": processor if cpu_run else "",
        "card (hash)": of("uuid_sha256"), "host": "" if cpu_run else processor,
        "kernel": name_list(str(h["kernel"]) for h in hosts if h.get("kernel")),
    }  # fmt: skip
    software = [s.software for s in environment.sessions]
    client = {
        "collector": case.bundle.info.collector_version,
        "revision": name_list(str(s["collector_revision"])[:12] for s in software if s.get("collector_revision")),
        "processes": f"{max((c.workers for c in case.bundle.client().cells), default=0) or ''}",
    }
    vocabulary = f", vocabulary {study.prompts.vocabulary}" if study.prompts.kind == "id_words" else ""
    found: Facts = {
        "Model": {"base model": study.base_model, "weights": case.bundle.info.weights},
        "Prompts": {"kind": study.prompts.kind + vocabulary, "seed": str(study.seed)},
        "Hardware": hardware,
        "Client": client,
    }
    return {variable: {k: x for k, x in facts.items() if x} for variable, facts in found.items()}
