"""The comparison plan, checked: was what should stand still the same in every variant, and what do the figures answer?

Nothing is taken as fixed because a study says so: each of the plan's eight variables is looked for in the bundle's
rows. Words made here are plain text and may hold a bundle's own strings: pages make them safe.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import pandas as pd
from scipy import stats

from collector.bundle.read import Variant, Workload
from collector.bundle.schema import VariantRow
from quantcase.analysis.compare import Comparison
from quantcase.analysis.points import Point, pick
from quantcase.analysis.verdict import Verdict
from quantcase.catalog import Case

__all__ = [
    "Capacity", "Dequantization", "Fixed", "Format", "Rollback", "Roof", "capacity", "dequantization", "fixed_variables",
    "formats", "rollbacks", "roofs",
]  # fmt: skip

State = Literal["ok", "look", "bad", "none"]
_PLAIN_KV = ("auto", "f16", "bf16", "float16", "bfloat16", "f32")
_NEAR = 0.01  # lengths that are so little apart, as a share of their mean, move no figure beyond its region
_LIMIT = 1.2  # rollback: the upper end of what was measured, and a fifth
_GIB = 2**30
# What a server start always has for itself, and what a quantization may need; a difference in these is no confounder.
_EACH_ITS_OWN = {"--host", "--port", "--served-model-name", "--alias", "-m", "--model", "--revision"}
_OF_QUANTIZATION = {
    "--quantization", "-q", "--kv-cache-dtype", "--calculate-kv-scales", "--dtype", "--load-format", "-ctk", "-ctv",
    "--cache-type-k", "--cache-type-v", "--tokenizer", "--hf-config-path",
}  # fmt: skip
_SAMPLING = ("--generation-config", "--override-generation-config", "--temp", "--top-k", "--top-p", "--repeat-penalty")
_ASKED = ["workload", "load", "set", "index"]


@dataclass(frozen=True)
class Format:
    """What a variant quantizes: its classes in the plan's sense and its tensors; both empty words never, () for none."""

    variant: str
    classes: tuple[str, ...]  # fp16, int8, int4, kv, fp8, gguf, other
    tensors: tuple[str, ...]  # weights, activations, KV cache


def formats(case: Case) -> list[Format]:
    """The class of every variant of the study, the baseline included, in the study's order."""
    return [_format(case, v) for v in case.study.variants]


def _format(case: Case, v: Variant) -> Format:
    weights, tensors = _weights(v)
    row = case.served(v.name)
    if weights == "fp8" and (
        (row is not None and (row.kernel_class == "fallback" or "marlin" in (row.kernel_path or "").lower()))
        or (case.profile is not None and case.profile.kind == "gpu" and not case.profile.fp8_native)
    ):
        tensors = ("weights",)  # without FP8 tensor cores the weights are unpacked and computed in 16 bits
    if v.kv_dtype in _PLAIN_KV:
        return Format(v.name, (weights,), tensors)
    return Format(v.name, ("kv",) if weights == "fp16" else (weights, "kv"), (*tensors, "KV cache"))


def _weights(v: Variant) -> tuple[str, tuple[str, ...]]:
    method = v.method.lower()
    if method == "none" or re.fullmatch(r"gguf:(b?f16|f32)", method):
        return "fp16", ()
    if method.startswith("gguf"):
        return "gguf", ("weights",)
    named = re.search(r"w(\d+)a(\d+)", method)
    tensors = ("weights", "activations") if named and int(named[2]) < 16 else ("weights",)
    if "fp8" in method:
        return "fp8", tensors if named else ("weights", "activations")
    bits = float(named[1]) if named else v.bits or (4.0 if method in ("awq", "gptq", "bitsandbytes") else 0.0)
    if "fp4" in method or bits not in (4, 8) or (bits == 4 and len(tensors) > 1):
        return "other", tensors
    return ("int8" if bits == 8 else "int4"), tensors


@dataclass(frozen=True)
class Fixed:
    """One fixed variable: ok (the same in all variants), look, bad (differs), none (not recorded), and what was seen."""

    name: str
    state: State
    seen: str


def fixed_variables(case: Case) -> list[Fixed]:
    """The plan's eight fixed variables, each against the rows. The reference is the baseline."""
    asked = _numbered(case)
    natural = {w.name for w in case.study.workloads if w.natural_length}
    checks = {
        "Model": _model(case),
        "Tokenizer": _tokenizer(case, asked),
        "Evaluation set": _evaluation(case),
        "Prompt length distribution": _lengths(case, asked, "input_tokens", set()),
        "Output length distribution": _lengths(case, asked, "output_tokens", natural),
        "Sampling parameters": _sampling(case, asked),
        "Engine": _engine(case),
        "Hardware": _hardware(case),
    }
    return [Fixed(name, *seen) for name, seen in checks.items()]


Seen = tuple[State, str]


def _numbered(case: Case) -> pd.DataFrame:
    """Ok requests with the number of their set of prompts: the n-th repeat of every variant asks the same, over all
    server starts; an endpoint lives on between starts, so each start has sets of its own.
    """
    rows = case.requests
    order = rows["start"] * 1_000_000 + rows["repeat"]
    if case.study.engine.name != "endpoint":
        order = order.groupby([rows["variant"], rows["workload"], rows["load"]]).rank("dense")
    return rows.assign(set=order)[rows["status"] == "ok"]


def _against(case: Case) -> tuple[str, list[str]]:
    """The reference and the variants that are held against it."""
    names = case.measured_variants()
    return (names[0], names[1:]) if names else (case.baseline, [])


def _names(values: Iterable[str], most: int = 6) -> str:
    found = list(dict.fromkeys(values))
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _model(case: Case) -> Seen:
    rows = [r for r in case.variants if r.exit_state == "ok"]
    base = f"base model as asked: {case.study.base_model}"
    if not any(r.config_sha256 for r in rows):
        return "none", f"{base}; no checkpoint's hash was recorded"
    files: dict[str, dict[tuple[str, str | None, str | None], None]] = {}
    for r in rows:
        files.setdefault(r.variant, {})[r.model, r.revision, r.config_sha256] = None
    changed = [v for v, found in files.items() if len(found) > 1]
    if changed:
        return "bad", f"{base}; the checkpoint changed between server starts of {_names(changed)}"
    hashes: dict[str, list[str]] = {}
    for r in rows:
        hashes.setdefault((r.config_sha256 or "not recorded")[:8], []).append(r.variant)
    listed = "; ".join(f"{sha} {_names(names)}" for sha, names in hashes.items())
    if len(hashes) == 1:
        return "ok", f"{base}; one checkpoint for all ({listed})"
    return "look", (
        f"{base}; {len(hashes)} checkpoints by sha256 ({listed}), each the same in all its server starts. A quantized "
        "checkpoint is a file of its own by nature; that it was made of this base is its maker's word"
    )


def _tokenizer(case: Case, asked: pd.DataFrame) -> Seen:
    reference, others = _against(case)
    known = asked.dropna(subset=["input_tokens"])
    base = known[known["variant"] == reference][[*_ASKED, "input_tokens"]]
    shared, apart, widest = 0, Counter[str](), 0.0
    for name in others:
        both = base.merge(known[known["variant"] == name][[*_ASKED, "input_tokens"]], on=_ASKED)
        off = (both["input_tokens_x"] - both["input_tokens_y"]).abs()
        shared, apart[name], widest = (
            shared + len(both),
            int((off > 0).sum()),
            max(widest, off.max() if len(off) else 0),
        )
    first = case.answers.get((case.baseline, 1), {})
    questions = 0
    for name in [v.name for v in case.study.variants if v.name != case.baseline]:
        for key, row in case.answers.get((name, 1), {}).items():
            counts = (first[key].input_tokens if key in first else None, row.input_tokens)
            if counts[0] is not None and counts[1] is not None:
                questions += 1
                apart[name] += counts[0] != counts[1]
                widest = max(widest, abs(counts[0] - counts[1]))
    texts = len({key for rows in case.likelihoods.values() for key in rows})
    ids = f"; {texts} texts went as token ids, spelled once for all" if texts else ""
    if not shared + questions:
        return "none", f"no prompt was counted by two variants{ids}"
    seen = f"{shared:,} load prompts and {questions:,} questions counted against {reference}'s, index by index"
    if +apart:
        which = ", ".join(f"{name} {n:,}" for name, n in apart.items() if n)
        return "bad", f"{seen}: {which} differ, by up to {widest:.0f} tokens{ids}"
    return (
        "ok",
        f"{seen}: the same number of tokens each{ids}. Equal counts speak for one tokenizer, without proving it",
    )


def _evaluation(case: Case) -> Seen:
    def asked_of(name: str) -> dict[str, tuple[str, str]]:
        kept = case.answers.get((name, 1), {}), case.likelihoods.get((name, 1), {})
        return {f"{i}/{key}": (r.prompt_sha256, r.status) for i, rows in enumerate(kept) for key, r in rows.items()}

    names = [v.name for v in case.study.variants if case.served(v.name) or (v.name, 1) in case.answers]
    found = {n: asked_of(n) for n in names if n != case.study.control or asked_of(n)}
    base = found.pop(case.baseline, {})
    if not base:
        return "none", "no prompts that judge answers were asked of the baseline"
    if not found:
        return "none", f"{len(base):,} prompts were asked of the baseline alone"
    off = []
    for name, mine in found.items():
        changed = sum(base[k][0] != mine[k][0] for k in base.keys() & mine.keys())
        parts = (
            (len(base.keys() - mine.keys()), "missing"),
            (len(mine.keys() - base.keys()), "more"),
            (changed, "other"),
        )
        if words := ", ".join(f"{n:,} {what}" for n, what in parts if n):
            off.append(f"{name} ({words})")
    if off:
        return "bad", f"{len(base):,} prompt hashes of the baseline; not the same: {_names(off)}"
    silent = {n: k for n, m in (*found.items(), (case.baseline, base)) if (k := sum(s != "ok" for _, s in m.values()))}
    seen = f"the same {len(base):,} prompt hashes asked of {len(found) + 1} variants"
    if silent:
        return (
            "look",
            f"{seen}; without an answer, counted as wrong: {', '.join(f'{n} {k:,}' for n, k in silent.items())}",
        )
    return "ok", f"{seen}, all answered"


def _lengths(case: Case, asked: pd.DataFrame, column: str, natural: set[str]) -> Seen:
    """Lengths of ok requests per cell, as multisets over the sets of prompts that both sides had."""
    reference, others = _against(case)
    cells = dict(iter(asked.dropna(subset=[column]).groupby(["variant", "workload", "load"], sort=False)))
    compared, bad, far = 0, False, []
    shown: set[float] = set()
    for workload, load in case.points_of_load():
        base = cells.get((reference, workload.name, load.name))
        for name in others:
            mine = cells.get((name, workload.name, load.name))
            if base is None or mine is None or not (sets := set(base["set"]) & set(mine["set"])):
                continue
            a, b = (sorted(side[side["set"].isin(sets)][column].astype(float)) for side in (base, mine))
            compared, shown = compared + 1, shown | {a[0], a[-1]}
            if a != b:  # the earth mover's distance: how many tokens a request must be moved by, on average
                distance = float(stats.wasserstein_distance(a, b))
                share = distance / (math.fsum(a) / len(a))
                far.append(
                    (share, f"{name} {workload.name} {load.name}, {distance:.2g} tokens on average ({share:.2%})")
                )
                bad |= share > _NEAR and workload.name not in natural
    if not compared:
        return "none", "no cell was measured with two variants"
    if not far:
        span = f"{min(shown):,.0f} to {max(shown):,.0f} tokens"
        return "ok", f"{compared} cells against {reference}'s: the same lengths, request for request ({span})"
    free = f"; lengths are the model's own in {_names(natural)}" if natural else ""
    seen = f"{len(far)} of {compared} cells have other lengths than {reference}'s; farthest: {max(far)[1]}{free}"
    return ("bad" if bad else "look"), seen


def _sampling(case: Case, asked: pd.DataFrame) -> Seen:
    if case.bundle.info.grade in ("imported", "published"):
        return "none", "another tool's results: what it asked for is not in these rows"
    own = [v.name for v in case.study.variants if set(_options(v.args)) & set(_SAMPLING)]
    if own:
        return "bad", f"arguments on sampling in single variants: {_names(own)}"
    exact: dict[str, Workload] = {w.name: w for w in case.study.workloads if not w.natural_length}
    free = [w.name for w in case.study.workloads if w.natural_length]
    rows = asked[asked["workload"].isin(list(exact))]
    off = rows[rows["output_tokens"] != rows["workload"].map(lambda name: exact[name].output_tokens)]
    words = f"; answers end where the model ends them in {_names(free)}" if free else ""
    seen = "greedy for every variant, set once by the collector (no row repeats it)"
    if len(off):
        return "bad", f"{seen}; {len(off):,} of {len(rows):,} ok requests were not as long as asked{words}"
    if not len(rows):
        return ("look" if len(asked) else "none"), f"{seen}{words or '; no request ended well'}"
    return "ok", f"{seen}; all {len(rows):,} ok requests of fixed length ended at the length asked for{words}"


def _options(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """A command line's options with their values; what stands before the first option is left out."""
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", argument):
            name, _, value = argument.partition("=")
            found[name] = (value,) if value else ()
        elif name:
            found[name] += (argument,)
    return found


def _command(row: VariantRow) -> dict[str, tuple[str, ...]]:
    try:
        return _options(msgspec.json.decode(row.argv, type=list[str]))
    except msgspec.DecodeError:
        return {}


def _engine(case: Case) -> Seen:
    rows = case.variants
    stated = {f"{r.engine} {r.engine_version}" for r in rows if r.engine_version}
    software = [s.software for s in case.bundle.environment().sessions]
    moved = {k for s in software for k in s if k in software[0] and s[k] != software[0][k]}
    parts = [f"{_names(sorted(stated)) or 'no engine stated its version'} in {len(rows)} server starts"]
    base = next((r for r in rows if r.variant == case.baseline and r.exit_state == "ok"), None)
    reference = _command(base) if base else {}
    state: State = "ok" if stated else "none"
    worse: dict[str, list[str]] = {"bad": [], "look": []}
    if len(stated) > 1 or len({r.engine for r in rows}) > 1:
        state = "bad"
    own = {v.name: set(_options(v.args)) for v in case.study.variants}
    for row in rows if base else []:
        mine = _command(row)
        for option in sorted((mine.keys() | reference.keys()) - _EACH_ITS_OWN - _OF_QUANTIZATION):
            if mine.get(option) != reference.get(option):
                kind = "look" if option in own.get(row.variant, set()) | own.get(case.baseline, set()) else "bad"
                worse[kind].append(f"{row.variant} {option}")
    plain = case.study.variant(case.baseline).env
    worse["look"] += [f"{v.name} {k}" for v in case.study.variants for k in v.env if v.env[k] != plain.get(k)]
    parts.append(
        f"arguments differ: {_names(worse['bad'])}" if worse["bad"] else "the same arguments but for the format's"
    )
    if worse["look"]:
        parts.append(f"set in the study for single variants: {_names(worse['look'])}")
    if moved:
        parts.append(f"software changed between sessions: {_names(sorted(moved))}")
    if worse["bad"] or moved - {"collector", "collector_revision", "collector_changed"}:
        state = "bad"
    elif state == "ok" and (worse["look"] or moved):
        state = "look"
    return state, "; ".join(parts)


def _hardware(case: Case) -> Seen:
    sessions = case.bundle.environment().sessions
    count = f"{len(sessions)} session{'s' if len(sessions) != 1 else ''}"
    if not any(s.gpus for s in sessions):
        hosts = {(s.host.get("cpu"), s.host.get("cores"), s.host.get("kernel")) for s in sessions if s.host.get("cpu")}
        if case.profile is None or case.profile.kind != "cpu" or not hosts:
            return "none", f"no GPU was read in {count}"
        words = "; ".join(f"{cpu}, {cores} cores" for cpu, cores, _ in sorted(hosts, key=str))
        return ("ok" if len(hosts) == 1 else "bad"), f"no GPU: {words} in {count}"
    cards = {tuple(str(g.get("uuid_sha256")) for g in s.gpus) for s in sessions}
    drivers = {str(g.get("driver")) for s in sessions for g in s.gpus if g.get("driver")}
    limits = {g.get("power_limit_w") for s in sessions for g in s.gpus}
    names = _names(str(g.get("name", "not named")) for s in sessions for g in s.gpus)
    if any("None" in c for c in cards) or any(not s.gpus for s in sessions):
        same: State = "none" if len(drivers) < 2 else "bad"
        return same, f"{names}, driver {_names(sorted(drivers))} in {count}; no hash tells the cards apart"
    seen = (
        f"{names}: {len(cards)} set of cards by UUID hash, driver {_names(sorted(drivers)) or 'not stated'} in {count}"
    )
    return ("ok" if len(cards) == len(drivers) == len(limits) == 1 else "bad"), seen


@dataclass(frozen=True)
class Capacity:
    """Whether memory for contexts was short for the baseline: what was asked of it against what it had."""

    asked_tokens: float | None  # largest closed load: requests in flight x longest prompt and answer
    held_tokens: int | None  # KV capacity by the engine's word
    usage: float | None  # most of the KV cache in use, share, by the engine's /metrics
    preemptions: float | None

    @property
    def bound(self) -> bool | None:
        """Preempted, or more than 90 % in use; None where neither was recorded."""
        if self.usage is None and self.preemptions is None:
            return None
        return (self.preemptions or 0) > 0 or (self.usage or 0) > 0.9


def capacity(case: Case) -> Capacity:
    """The baseline's KV cache at the highest closed load."""
    rows = case.requests[(case.requests["variant"] == case.baseline) & (case.requests["status"] == "ok")]
    asked = [
        load.concurrency * float((cell["input_tokens"] + cell["output_tokens"]).max())
        for workload, load in case.points_of_load()
        if load.concurrency
        and len(cell := rows[(rows["workload"] == workload.name) & (rows["load"] == load.name)])
        and cell["input_tokens"].notna().any()
    ]
    seen: dict[str, list[float]] = {"kv_cache_usage_perc": [], "num_preemptions_total": []}
    for row in case.bundle.engine_metrics():
        name = row.series.split("{")[0].removeprefix("vllm:")
        if row.variant == case.baseline and name in seen:
            seen[name].append(row.value)
    base = case.served(case.baseline)
    usage, preempted = (max(values, default=None) for values in seen.values())
    return Capacity(max(asked, default=None), base.kv_cache_tokens if base else None, usage, preempted)


@dataclass(frozen=True)
class Roof:
    """Where one variant's decode stands under the card's two roofs at one load point; an estimate from these inputs.

    A decode step reads the weights and every running request's K/V, and computes two operations a weight and request
    (roofline; Williams et al. 2009): t >= max((W + B S k) / BW, 2 N B / F).
    """

    variant: str
    workload: str
    load: str
    tpot: Point
    bytes_gb: float  # W + B S k: weights as the engine states them, B requests of S tokens (prompt and half the answer)
    bandwidth_share: float  # of the profile's bandwidth
    compute_share: (
        float | None
    )  # of the profile's dense rate in `computes`; None without the baseline's weights in 16 bit
    computes: str  # BF16, FP16, FP8 or INT8

    @property
    def bound(self) -> str:
        """The nearer roof: bandwidth or compute."""
        return "compute" if (self.compute_share or 0) > self.bandwidth_share else "bandwidth"


def roofs(case: Case, found: Sequence[Point]) -> tuple[list[Roof], str]:
    """Every measured variant at the lightest and the heaviest closed load, and why some or all are left out."""
    profile = case.profile
    if case.bundle.info.grade != "measured":
        return [], f"no estimate: the timings are {case.bundle.info.grade}, not measured on this card"
    if profile is None or profile.kind != "gpu" or profile.bandwidth_gb_s is None:
        return [], "no estimate: the profile of this machine states no memory bandwidth"
    if any(set(_command(r)) & {"--tensor-parallel-size", "-tp", "--pipeline-parallel-size"} for r in case.variants):
        return [], "no estimate: the model is spread over several cards, and the profile is that of one"
    closed = sorted((load.concurrency, w.name, load.name) for w, load in case.points_of_load() if load.concurrency)
    if not closed:
        return [], "no estimate: no closed load was measured, so the number of running requests is not known"
    base = case.served(case.baseline)
    plain = base is not None and base.method == "none" and base.weights_gib is not None
    weights = base.weights_gib * _GIB / 2 if plain and base and base.weights_gib else None  # 16 bits each
    kinds = {f.variant: f for f in formats(case)}
    rates = {
        "BF16": profile.bf16_tflops, "FP16": profile.fp16_tflops, "FP8": profile.fp8_tflops, "INT8": profile.int8_tops,
    }  # fmt: skip
    made, without = [], []
    for variant in case.measured_variants():
        row, form = case.served(variant), kinds[variant]
        if row is None or row.weights_gib is None or not row.kv_cache_gib or not row.kv_cache_tokens:
            without.append(variant)
            continue
        computes = "BF16" if rates["BF16"] else "FP16"
        if "activations" in form.tensors:
            computes = "FP8" if "fp8" in form.classes else "INT8"
        rate = rates[computes]
        for requests, workload, load in dict.fromkeys((closed[0], closed[-1])):
            tpot = pick(found, variant, workload, load, "tpot_ms_p50")
            cell = case.requests[
                (case.requests["variant"] == variant) & (case.requests["workload"] == workload)
                & (case.requests["load"] == load) & (case.requests["status"] == "ok")
            ]  # fmt: skip
            context = float(cell["input_tokens"].mean() + cell["output_tokens"].mean() / 2)
            if tpot is None or not tpot.shown or not tpot.value > 0 or math.isnan(context):
                without.append(f"{variant} {workload} {load}")
                continue
            per_token = row.kv_cache_gib * _GIB / row.kv_cache_tokens
            moved = row.weights_gib * _GIB + requests * context * per_token
            step_s = tpot.value / 1000
            compute = 2 * weights * requests / step_s / (rate.value * 1e12) if weights and rate else None
            share = moved / step_s / (profile.bandwidth_gb_s.value * 1e9)
            made.append(Roof(variant, workload, load, tpot, moved / 1e9, share, compute, computes))
    why = f"weights, KV cache or decode speed were not recorded: {_names(without)}" if without else ""
    return made, why


@dataclass(frozen=True)
class Dequantization:
    """What a variant's prefill (TTFT) and decode (TPOT) cost against the baseline's, and where a price shows."""

    variant: str
    workload: str
    load: str
    ttft: Comparison
    tpot: Comparison

    @property
    def where(self) -> str:
        """What both comparisons say together; nothing is said of a cause."""
        slow = [name for name, c in (("prefill", self.ttft), ("decode", self.tpot)) if c.kind == "slower"]
        open_ = [name for name, c in (("prefill", self.ttft), ("decode", self.tpot)) if c.kind == "inconclusive"]
        words = f"a cost shows in {' and '.join(slow)}" if slow else "no cost shows"
        if len(open_) == 2:
            return "inconclusive"
        return f"{words}; {open_[0]} inconclusive" if open_ else words


def dequantization(case: Case, claims: Sequence[Comparison]) -> list[Dequantization]:
    """TTFT beside TPOT of every variant, at the lightest and the heaviest load of each workload."""
    known = {(c.variant, c.workload, c.load, c.metric): c for c in claims}
    made = []
    for variant in dict.fromkeys(c.variant for c in claims):
        for workload in case.study.workloads:
            loads = [load.name for load in case.loads(workload.name)]
            for load in dict.fromkeys((*loads[:1], *loads[-1:])):
                ttft, tpot = (known.get((variant, workload.name, load, f"{m}_ms_p50")) for m in ("ttft", "tpot"))
                if ttft is not None and tpot is not None:
                    made.append(Dequantization(variant, workload.name, load, ttft, tpot))
    return made


@dataclass(frozen=True)
class Rollback:
    """Beyond these a deployment of the variant is no longer what was measured. A limit is None where none can be had."""

    variant: str
    workload: str
    load: str
    ttft: Point | None
    tpot: Point | None
    ttft_limit_ms: float | None
    tpot_limit_ms: float | None


def rollbacks(case: Case, found: Sequence[Point], verdicts: Sequence[Verdict]) -> list[Rollback]:
    """Limits at the heaviest load for what is faster or recommended: 1.2 x the upper interval end of each p95, or the
    study's own limit where that is lower.
    """
    made = []
    for v in verdicts:
        c = v.evidence
        if (
            c is None
            or v.kind == "avoid"
            or v.rule == "client-limited"
            or (c.kind != "faster" and v.kind != "recommend")
        ):
            continue
        workload = case.study.workload(v.workload)
        p95 = [pick(found, v.variant, v.workload, c.load, f"{m}_ms_p95") for m in ("ttft", "tpot")]
        limits = [_limit(p, own) for p, own in zip(p95, (workload.ttft_limit_ms, workload.tpot_limit_ms), strict=True)]
        made.append(Rollback(v.variant, v.workload, c.load, *p95, *limits))
    return made


def _limit(point: Point | None, own: float | None) -> float | None:
    measured = _LIMIT * point.high if point and point.shown and not math.isnan(point.high) else None
    return min((x for x in (measured, own) if x is not None), default=None)
