"""The comparison plan before anything has run: what the study itself says of the plan's questions.

Nothing here is measured. Words made here are plain text and may hold a study's own strings: pages make them safe.
"""

from __future__ import annotations

from dataclasses import dataclass

from collector.bundle.planned import Plan, VariantPlan
from collector.bundle.read import Load, Study, Workload
from collector.gpus import GpuProfile
from quantcase.analysis.plan_common import (
    EACH_ITS_OWN,
    OF_QUANTIZATION,
    SAMPLING,
    Fixed,
    State,
    format_of,
    name_list,
    options,
)
from quantcase.analysis.points import LEAST

__all__ = ["Limits", "Need", "ends", "enough", "fixed_as_planned", "judged", "limits", "needs", "unpacked"]

Seen = tuple[State, str]


def fixed_as_planned(study: Study, profile: GpuProfile) -> list[Fixed]:
    """The plan's eight fixed variables by the study: ok (the same by plan), look, bad (differs by plan), none (not)."""
    checks = {
        "Model": _model(study),
        "Tokenizer": _tokenizer(study),
        "Evaluation set": _evaluation(study),
        "Prompt length distribution": _prompts(study),
        "Output length distribution": _answers(study),
        "Sampling parameters": _sampling(study),
        "Engine": _engine(study),
        "Hardware": _hardware(study, profile),
    }
    return [Fixed(name, *seen) for name, seen in checks.items()]


def judged(study: Study) -> bool:
    """Whether the run will ask the quality suites: never of dummy weights or a replay."""
    return bool(study.quality) and study.weights == "real" and study.engine.name != "replay"


def _model(study: Study) -> Seen:
    served: dict[str, list[str]] = {}
    for v in study.variants:
        served.setdefault(f"{v.model} at {v.revision}" if v.revision else v.model, []).append(v.name)
    listed = "; ".join(f"{model} ({name_list(names)})" for model, names in served.items())
    loose = [v.name for v in study.variants if not v.revision]
    pinned = f"; no revision is pinned for {name_list(loose)}: the newest one is taken" if loose else ""
    base = f"base model {study.base_model}"
    if len(served) == 1:
        return "ok", f"{base}; one checkpoint for all: {listed}{pinned}"
    return "look", (
        f"{base}; {len(served)} checkpoints: {listed}. A quantized checkpoint is a file of its own by nature; that it "
        f"was made of this base is its maker's word{pinned}"
    )


def _tokenizer(study: Study) -> Seen:
    own = [v.name for v in study.variants if "--tokenizer" in options(v.args)]
    counted = "the run holds every prompt's number of tokens against the baseline's"
    if own:
        return (
            "look",
            f"an own --tokenizer for {name_list(own)}; {counted}",
        )
    if len({v.model for v in study.variants}) == 1:
        return "ok", "one checkpoint, one tokenizer"
    return "look", f"each checkpoint brings its own files; {counted}"


def _evaluation(study: Study) -> Seen:
    if not study.quality:
        return "none", "no quality suites: the run will say nothing of what quantization costs in answers"
    titles = name_list(s.title for s in study.quality)
    if not judged(study):
        why = "dummy weights" if study.weights == "dummy" else "a replay"
        return "none", f"{titles} will not be asked: {why} answer nothing"
    return "ok", f"{titles}: settled once, hashed, asked of every variant; the baseline twice, over two server starts"


def _prompts(study: Study) -> Seen:
    said = [f"{w.name} about {w.input_tokens:,} tokens ({w.prompts.replace('_', ' ')})" for w in study.workloads]
    return "ok", f"{'; '.join(said)}; the n-th repeat asks every variant the same, from seed {study.seed}"


def _answers(study: Study) -> Seen:
    said = [f"{w.name} {w.output_tokens:,} tokens{' at most' if w.natural_length else ''}" for w in study.workloads]
    free = [w.name for w in study.workloads if w.natural_length]
    if free:
        return "look", f"{'; '.join(said)}; answers end where the model ends them in {name_list(free)}"
    return "ok", f"{'; '.join(said)}; exact for every variant"


def _sampling(study: Study) -> Seen:
    own = [v.name for v in study.variants if set(options(v.args)) & set(SAMPLING)]
    if own:
        return "bad", f"arguments on sampling in single variants: {name_list(own)}"
    return "ok", "greedy for every variant, set by the collector"


def _engine(study: Study) -> Seen:
    base = study.variant(study.baseline)
    reference, differ = options(base.args), []
    for v in study.variants:
        mine = options(v.args)
        compared = sorted((mine.keys() | reference.keys()) - EACH_ITS_OWN - OF_QUANTIZATION)
        differ += [f"{v.name} {option}" for option in compared if mine.get(option) != reference.get(option)]
        differ += [f"{v.name} {k}" for k in sorted(v.env.keys() | base.env.keys()) if v.env.get(k) != base.env.get(k)]
    words = f"{study.engine.name}, the version that is installed; the same arguments for all: "
    words += " ".join(study.engine.args) or "none"
    if differ:
        return "look", f"{words}; set for single variants: {name_list(differ)}"
    return "ok", words


def _hardware(study: Study, profile: GpuProfile) -> Seen:
    counts = sorted({v.gpus for v in study.variants})
    if profile.kind == "gpu" and counts != [1]:
        told = "; ".join(f"{n} for {name_list(v.name for v in study.variants if v.gpus == n)}" for n in counts)
        state: State = "ok" if len(counts) == 1 else "look"
        return state, f"{profile.title}, GPUs of a server: {told}; the run refuses another card, and records clocks"
    if profile.kind == "gpu":
        return "ok", f"{profile.title}, one card for all; the run refuses another, and records driver and clocks"
    return "ok", f"{profile.title}; the run records the machine"


def enough(study: Study, percentile: float) -> tuple[int, int]:
    """(load points at which a variant will have requests enough for that percentile, load points that are named)."""
    cells = study.cells()
    issued = [w.requests(load) * study.repeats * study.starts for w, load in cells]
    return sum(n >= LEAST[percentile] for n in issued), len(cells)


def ends(study: Study) -> list[tuple[Workload, Load]]:
    """The lightest and the heaviest named load of every workload: where the questions are answered."""
    found = []
    for w in study.workloads:
        loads = sorted(w.loads(), key=lambda load: load.amount)
        found += [(w, load) for load in dict.fromkeys((loads[0], loads[-1]))]
    return found


def unpacked(study: Study, profile: GpuProfile) -> list[str]:
    """Variants whose weights are stored in fewer bits than they are computed in."""
    found = []
    for v in study.variants:
        form = format_of(v, profile)
        if "weights" in form.tensors and "activations" not in form.tensors:
            found.append(v.name)
    return found


@dataclass(frozen=True)
class Need:
    """What one variant asks of the card by estimate, and how that compares with the baseline; None: not known."""

    planned: VariantPlan
    weights_ratio: float | None
    pool_ratio: float | None  # KV tokens that find room

    @property
    def filled(self) -> float | None:
        """Share of the KV pool that the heaviest load takes."""
        p = self.planned
        return p.kv_tokens / p.kv_pool_tokens if p.kv_tokens is not None and p.kv_pool_tokens else None


def needs(study: Study, plan: Plan) -> list[Need]:
    """Every variant of the plan against the baseline."""
    base = next(v for v in plan.variants if v.variant == study.baseline)

    def ratio(mine: float | None, theirs: float | None) -> float | None:
        return mine / theirs if mine is not None and theirs else None

    return [
        Need(v, ratio(v.weights_gib, base.weights_gib), ratio(v.kv_pool_tokens, base.kv_pool_tokens))
        for v in plan.variants
    ]


@dataclass(frozen=True)
class Limits:
    """The study's own limits on the 95th percentiles of one workload, ms, at its heaviest load; None: none is set."""

    workload: str
    load: str
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


def limits(study: Study) -> list[Limits]:
    """One row a workload."""
    heaviest = {w.name: (w, load) for w, load in ends(study)}
    return [
        Limits(w.name, load.name, w.ttft_limit_ms, w.tpot_limit_ms, w.e2e_limit_ms) for w, load in heaviest.values()
    ]
