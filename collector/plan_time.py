"""How long a study takes on a card, part by part, each with what it rests on. Estimates from a roofline, not measured.

A decode step reads the weights and all K/V and computes two operations a weight and request; a prefill computes two a
weight and token, and its attention (roofline; Williams et al., CACM 2009). Both reach a share of the card's peak, and a
step has a fixed time besides: three guesses each, fast, middle and slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from collector.bundle.planned import Estimate, TimeLine
from collector.gpus import GpuProfile
from collector.plan_quality import Asked
from collector.quality.judge import passes_wanted
from collector.shapes import ModelShape
from collector.stress import Step, ladders
from collector.study import Load, Study, Variant, Workload

__all__ = ["Speed", "speeds", "times", "total"]

_OPEN_LOOP_SLACK = 1.2
_ENGINE_START_S = Estimate(40.0, 120.0, 300.0)  # low: seen on an H200 without weights to read (vLLM 0.26)
# Share of the peak reached in memory traffic and in arithmetic, and the fixed time of a step (s): slow to fast.
_ETA_MEMORY = Estimate(0.6, 0.8, 0.92)
_ETA_COMPUTE = Estimate(0.3, 0.5, 0.7)
_STEP_S = Estimate(0.003, 0.002, 0.001)
_STEP_EAGER_S = Estimate(0.015, 0.010, 0.005)
_ANSWERED = Estimate(0.25, 0.5, 1.0)  # of the most that an answer to a question may hold
# Log-probabilities over a whole vocabulary, sorted and sent as text: s per 1,000 tokens beside their prefill (a guess).
_LOGPROBS_S = Estimate(0.5, 2.0, 4.0)
_LOCUST_S = Estimate(5.0, 15.0, 60.0)  # its start and the last answers
_STRESS_STEP_S = 600.0  # collector/stress.py: no step takes longer
_STRESS_STARTS = Estimate(0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Speed:
    """How fast one variant decodes and prefills, by one guess of what the card reaches."""

    shape: ModelShape
    streamed: float  # bytes of weights that a step reads
    kv: float  # bytes a token
    bandwidth: float  # bytes/s reached
    flops: float  # operations/s reached
    step_s: float

    def decode_s(self, running: float, context: float) -> float:
        """One step of `running` requests that hold `context` tokens each."""
        parameters = self.shape.parameters - self.shape.embedding_parameters
        moved = (self.streamed + running * context * self.kv) / self.bandwidth
        return max(moved, 2 * parameters * running / self.flops) + self.step_s

    def prefill_s(self, tokens: float) -> float:
        """One prompt of that many tokens, by itself."""
        shape = self.shape
        parameters = shape.parameters - shape.embedding_parameters
        attention = 2 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * tokens**2
        computed = (2 * parameters * tokens + attention) / self.flops
        return max(computed, self.streamed / self.bandwidth) + self.step_s

    def wave_s(self, running: int, input_tokens: int, output_tokens: int) -> float:
        """`running` requests from first prompt to last token: a prefill of each, then one decode of all together."""
        step = self.decode_s(running, input_tokens + output_tokens / 2)
        return output_tokens * step + running * self.prefill_s(input_tokens)


Speeds = tuple[Speed, Speed, Speed]  # fast, middle, slow


def speeds(variant: Variant, shape: ModelShape, profile: GpuProfile, *, kv: float, eager: bool) -> Speeds | None:
    """Fast, middle and slow; None where the card's bandwidth or arithmetic, or the bits of a weight, are not known.

    Args:
        kv: bytes of K/V a token, over all GPUs of the server.
        eager: without captured graphs, where launches weigh more.
    """
    tflops = _compute_tflops(variant, profile)
    streamed = shape.streamed_bytes(variant.method, variant.bits)
    if tflops is None or streamed is None or profile.bandwidth_gb_s is None:
        return None
    peak, step = profile.bandwidth_gb_s.value * 1e9, _STEP_EAGER_S if eager else _STEP_S
    # What the traffic between GPUs costs is not known before it is measured: from nothing at all to all that they gain.
    share = variant.tensor_parallel
    fast, middle, slow = (
        Speed(shape, streamed, kv, gain * memory * peak, gain * compute * tflops * 1e12, fixed)
        for gain, memory, compute, fixed in (
            (share, _ETA_MEMORY.high, _ETA_COMPUTE.high, step.high),
            ((1 + share) / 2, _ETA_MEMORY.mid, _ETA_COMPUTE.mid, step.mid),
            (1, _ETA_MEMORY.low, _ETA_COMPUTE.low, step.low),
        )
    )
    return fast, middle, slow


def _compute_tflops(variant: Variant, profile: GpuProfile) -> float | None:
    """Peak of the data type that the kernels compute in, not of the one that the weights are stored in."""
    sixteen = profile.bf16_tflops or profile.fp16_tflops
    figure = sixteen
    if variant.method in ("fp8", "w8a8-fp8") and profile.fp8_native:
        figure = profile.fp8_tflops or sixteen
    elif variant.method == "w8a8-int8":
        figure = profile.int8_tops or sixteen
    return figure.value if figure else None


def times(
    study: Study, variant: str, known: Speeds | None, *, suites: list[Asked], most_running: int, stress: bool
) -> list[TimeLine]:
    """All parts of one variant's time, minutes. The stress has its line always, and counts when it is asked for.

    Args:
        known: how fast the variant is; without it only what goes by the clock has a number.
        suites: what the study's quality suites ask.
        most_running: requests that the engine runs at once; further ones wait.
    """
    grade = "simulated" if study.engine.name == "replay" else "measured"
    passes = passes_wanted(study, variant, grade=grade)
    lines = [_starts(study, passes), _load_points(study, known)]
    lines += [_suite(part, passes, known) for part in suites] if passes else []
    if study.loadtest is not None and grade != "simulated" and variant != study.control:
        test = study.loadtest
        own = f"{_LOCUST_S.low:g} to {_LOCUST_S.high:g} s for Locust itself"
        words = f"{len(test.steps())} steps of {test.step_s:g} s as asked, {own}; once a variant"
        lines.append(_line("load test", _LOCUST_S + Estimate(*[test.seconds()] * 3), words))
    if grade != "simulated":
        lines.append(_stress(study, known, most_running, counted=stress))
    return lines


def total(lines: list[TimeLine]) -> Estimate | None:
    """What is counted, together. None when the load points are unknown: the rest alone would mislead."""
    if any(line.what == "load points" and line.minutes is None for line in lines):
        return None
    parts = [line.minutes for line in lines if line.counted and line.minutes is not None]
    return sum(parts, Estimate(0, 0, 0)) if parts else None


def _line(what: str, seconds: Estimate | None, assumption: str, *, counted: bool = True) -> TimeLine:
    minutes = seconds.times(1 / 60) if seconds else None
    return TimeLine(what=what, minutes=minutes, assumption=assumption, counted=counted)


def _starts(study: Study, passes: int) -> TimeLine:
    if study.engine.name == "endpoint":
        return _line("server starts", Estimate(0, 0, 0), "none: the endpoint runs already")
    if study.engine.name != "vllm":
        return _line("server starts", None, f"the starts of {study.engine.name} were not timed")
    count = max(study.starts, passes)
    low, high = _ENGINE_START_S.low, _ENGINE_START_S.high
    words = f"{low:g} to {high:g} s a start, weights on the disk already"
    if passes > study.starts:
        words += "; the baseline's second quality pass has a start of its own"
    return _line("server starts", _ENGINE_START_S.times(count), words)


def _load_points(study: Study, known: Speeds | None) -> TimeLine:
    reached = [", ".join(f"{100 * x:.0f}" for x in reversed(_bounds(eta))) for eta in (_ETA_MEMORY, _ETA_COMPUTE)]
    words = f"roofline: {reached[0]} % of the bandwidth, {reached[1]} % of the arithmetic; with warm-up"
    if any(w.search != "none" for w in study.workloads):
        words += "; of a search the named rates only: what it finds further comes on top"
    if any(w.schedule == "trace" for w in study.workloads):
        words += "; a trace takes its own time, `duration_s` is taken for it"
    if known is None:
        return _line("load points", None, "the speed of this model on this card is not known")
    seconds = (study.starts * sum(_cell_s(study, w, load, s) for w, load in study.cells()) for s in known)
    return _line("load points", Estimate(*seconds), words)


def _cell_s(study: Study, w: Workload, load: Load, speed: Speed) -> float:
    """All repeats of one load point with their warm-up: waves of `concurrency` requests."""
    if load.concurrency is None:  # requests arrive by a clock; the warm-up and the last answers come on top
        return study.repeats * w.duration_s * _OPEN_LOOP_SLACK
    waves = study.repeats * math.ceil(w.requests(load) / load.concurrency) + w.warmup_requests
    return waves * speed.wave_s(load.concurrency, w.input_tokens, w.output_tokens)


def _suite(part: Asked, passes: int, known: Speeds | None) -> TimeLine:
    what = f"quality {part.suite}"
    if part.problem or known is None:
        return _line(what, None, part.problem or "the speed of this model on this card is not known")
    if part.kind == "likelihood":
        seconds = [
            sum(speed.prefill_s(length) + length / 1000 * each for length in part.input_tokens)
            for speed, each in zip(known, (_LOGPROBS_S.low, _LOGPROBS_S.mid, _LOGPROBS_S.high), strict=True)
        ]
        span = f"{_LOGPROBS_S.low:g} to {_LOGPROBS_S.high:g} s per 1,000 tokens"
        words = f"{part.words}; {span} for log-probabilities, beside the prefill (a guess)"
        return _line(what, Estimate(*seconds).times(passes), words)
    shares = (_ANSWERED.low, _ANSWERED.mid, _ANSWERED.high)
    seconds = [_answers_s(part, speed, share) for speed, share in zip(known, shares, strict=True)]
    words = f"{part.words}; answers take a quarter, half or all of what they may hold"
    return _line(what, Estimate(*seconds).times(passes), words)


def _answers_s(part: Asked, speed: Speed, share: float) -> float:
    """All questions of a suite, `concurrency` at a time."""
    count = len(part.input_tokens)
    running = min(part.concurrency, count)
    answered = share * sum(part.output_tokens)
    context = (sum(part.input_tokens) + answered / 2) / count
    return answered / running * speed.decode_s(running, context) + sum(map(speed.prefill_s, part.input_tokens))


def _stress(study: Study, known: Speeds | None, most_running: int, *, counted: bool) -> TimeLine:
    """Low: each ladder ends at its first step. Otherwise all steps, those beyond the context being refused at once."""
    asked_for = "" if counted else "; runs with --stress only, not in the total"
    if known is None:
        return _line("stress", None, f"the speed of this model on this card is not known{asked_for}", counted=counted)
    steps = [[s for s in ladder if s.input_tokens <= study.context_tokens] for ladder in ladders(study).values()]
    low, mid, high = (
        sum(_step_s(step, speed, most_running) for ladder in steps for step in ladder[:most])
        for speed, most in zip(known, (1, None, None), strict=True)
    )
    again = (n * s for n, s in zip(_bounds(_STRESS_STARTS), _bounds(_ENGINE_START_S), strict=True))
    words = (
        f"{sum(map(len, steps))} steps on two ladders, at most 10 min each, and up to two further starts; low: the "
        f"first step of each ladder is the last{asked_for}"
    )
    return _line("stress", Estimate(low, mid, high) + Estimate(*again), words, counted=counted)


def _step_s(step: Step, speed: Speed, most_running: int) -> float:
    """Two requests a stream, eight at the least (collector/stress.py); what does not run at once waits."""
    running = min(step.concurrency, most_running)
    waves = math.ceil(max(2 * step.concurrency, 8) / running)
    return min(_STRESS_STEP_S, waves * speed.wave_s(running, step.input_tokens, step.output_tokens))


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.mid, estimate.high
