"""Q7xx, physics: what no correct measurement can hold, on this card or on any."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterator

from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts, gpu_indices, place
from collector.bundle.schema import RequestRow, VariantRow
from collector.study import Load

__all__: list[str] = []

_AGAIN = "measure it again"
_ROUNDING_MS = 0.0021  # times are written to 0.001 ms
_STREAMED = 0.5  # least share of the weights that a step of a dense model reads: an input embedding is looked up
_SPARSE = 200.0  # the sparsest models read 1/31 of their weights a token; guessing ahead gives a few tokens a step
_GIB = 2**30
_EDGE_S = 1.0  # times of one session against another's: both are rounded, and set-up lies around them


def _line(line: int) -> str:
    return f"requests.csv.gz line {line}"


@rule(
    "Q701",
    "error",
    "Every ok request has TTFT, E2E and output tokens.",
    why="A request without a time ended some other way than well.",
    fix=_AGAIN,
    needs="requests",
)
def whole(facts: Facts) -> Iterator[Found]:
    for line, r in enumerate(facts.requests, 2):
        if r.status == "ok" and (r.ttft_ms is None or r.e2e_ms is None or not r.output_tokens):
            yield Found(_line(line), "an ok request lacks TTFT, E2E or output tokens")


@rule(
    "Q702",
    "error",
    "No time is negative or infinite.",
    why="Nothing ends before it began: a clock was set, or a stamp is missing.",
    fix=_AGAIN,
    needs="requests",
)
def times(facts: Facts) -> Iterator[Found]:
    for line, r in enumerate(facts.requests, 2):
        for x in (r.started_s, r.ttft_ms, r.tpot_ms, r.e2e_ms, r.first_chunk_ms):
            if x is not None and not 0 <= x < math.inf:
                yield Found(_line(line), "a time is negative or not finite")
                break


@rule(
    "Q703",
    "error",
    "TTFT is no longer than E2E.",
    why="The first token cannot come after the last.",
    fix=_AGAIN,
    needs="requests",
)
def order(facts: Facts) -> Iterator[Found]:
    for line, r in enumerate(facts.requests, 2):
        if r.ttft_ms is not None and r.e2e_ms is not None and r.ttft_ms > r.e2e_ms + _ROUNDING_MS:
            yield Found(_line(line), f"TTFT {r.ttft_ms} ms is longer than E2E {r.e2e_ms} ms")


@rule(
    "Q704",
    "error",
    "The first chunk of a reply comes no later than its first text.",
    why="Text is in chunks: one of the two stamps is wrong.",
    fix=_AGAIN,
    needs="requests",
)
def chunk(facts: Facts) -> Iterator[Found]:
    for line, r in enumerate(facts.requests, 2):
        if r.first_chunk_ms is not None and r.ttft_ms is not None and r.first_chunk_ms > r.ttft_ms + _ROUNDING_MS:
            yield Found(_line(line), f"the first chunk came at {r.first_chunk_ms} ms, its text at {r.ttft_ms} ms")


@rule(
    "Q705",
    "error",
    "Prompt and answer together fit the context that was served.",
    why="What does not fit was cut off, or the tokens are counted wrongly.",
    fix="raise context_tokens of the study and measure again",
    needs="study requests measured",
)
def context(facts: Facts) -> Iterator[Found]:
    if facts.asked.engine.name == "endpoint":
        return  # somebody else's server: its context is not ours to say
    most = facts.asked.context_tokens
    for line, r in enumerate(facts.requests, 2):
        used = (r.input_tokens or 0) + (r.output_tokens or 0)
        if used > most:
            yield Found(_line(line), f"{used:,} tokens, the context holds {most:,}")


def _asked(facts: Facts) -> Iterator[tuple[str, int, bool, list[int]]]:
    """(variant and workload, tokens asked for, whether exactly so many, output tokens of its ok requests)."""
    workloads = {w.name: w for w in facts.asked.workloads}
    found: dict[tuple[str, str], list[int]] = {}
    for (variant, workload, _load), rows in facts.by_point.items():
        found.setdefault((variant, workload), []).extend(r.output_tokens for r in rows if r.output_tokens is not None)
    for (variant, name), counts in found.items():
        if name in workloads:
            asked = workloads[name]
            yield f"{variant} {name}", asked.output_tokens, not asked.natural_length, counts


@rule(
    "Q706",
    "warning",
    "No answer is longer than was asked for.",
    why="A server that makes more than it was asked for has more work than the others.",
    fix="the server does not obey max_tokens: see its documentation",
    needs="study requests measured",
)
def longer(facts: Facts) -> Iterator[Found]:
    for what, asked, _exact, counts in _asked(facts):
        over = [c for c in counts if c > asked]
        if over:
            words = f"{len(over):,} of {len(counts):,} answers are longer than {asked} tokens (up to {max(over):,})"
            yield Found(f"requests.csv.gz: {what}", words)


@rule(
    "Q707",
    "warning",
    "Where an exact length is asked for, no answer is shorter.",
    why="Short answers leave the server idle sooner: throughput and E2E are of another work.",
    fix="the server does not obey ignore_eos or min_tokens; with natural_length = true it need not",
    needs="study requests measured",
)
def shorter(facts: Facts) -> Iterator[Found]:
    for what, asked, exact, counts in _asked(facts):
        under = [c for c in counts if c < asked]
        if exact and under:
            words = f"{len(under):,} of {len(counts):,} answers are shorter than {asked} tokens (down to {min(under)})"
            yield Found(f"requests.csv.gz: {what}", words)


def _weights(facts: Facts) -> dict[str, VariantRow]:
    """The first start of each variant whose engine stated the size of its weights."""
    found: dict[str, VariantRow] = {}
    for v in facts.variants:
        if v.weights_gib:
            found.setdefault(v.variant, v)
    return found


def _fastest(facts: Facts) -> Iterator[tuple[str, float, float]]:
    """(variant and load, its median TPOT in ms, least TPOT in ms by bandwidth) of each load point.

    A step of decoding reads the weights once: t >= W / BW, with W the bytes of weights on one card and BW its memory
    bandwidth, whatever the batch (roofline; docs/methodology.md). At most one token a step and stream: TPOT >= t.
    Cards that share each layer read their parts at once, stages of a pipeline one after the other: t >= stages W / BW.
    """
    profile, weights = facts.profile, _weights(facts)
    if profile is None or profile.bandwidth_gb_s is None:
        return
    for (variant, workload, load), rows in facts.by_point.items():
        values = [r.tpot_ms for r in rows if r.tpot_ms is not None and r.chunks > (r.output_tokens or 0) / 2]
        if variant in weights and values:
            stages = weights[variant].pipeline_parallel or 1
            least = 1000 * stages * (weights[variant].weights_gib or 0) * _GIB / (profile.bandwidth_gb_s.value * 1e9)
            yield f"{variant} {workload} {load}", statistics.median(values), least


@rule(
    "Q708",
    "warning",
    "No token comes faster than a dense model's weights can be read from the card's memory.",
    why="It would be a sparse model, several tokens a step, another card, or a wrong time.",
    fix="say so in notes.md where the model is sparse or guesses ahead; else look at the card and the times",
    needs="requests variants bandwidth believed",
)
def bandwidth(facts: Facts) -> Iterator[Found]:
    """TPOT >= 0.5 * W / BW: half of W, because an input embedding is looked up and never read as a whole."""
    for where, tpot, least in _fastest(facts):
        if _STREAMED * least > tpot > least / _SPARSE:
            words = f"median TPOT {tpot:.3f} ms, reading half of the weights takes {_STREAMED * least:.3f} ms"
            yield Found(where, words)


@rule(
    "Q709",
    "error",
    "No token comes 200 times faster than the weights can be read: no sparse model does either.",
    why="The times, the card or the weights are not those of this run.",
    fix=_AGAIN,
    needs="requests variants bandwidth believed",
)
def impossible(facts: Facts) -> Iterator[Found]:
    """TPOT >= W / (200 BW): the sparsest models read 1/31 of W, and guessing ahead gives some 6 tokens a step."""
    for where, tpot, least in _fastest(facts):
        if tpot <= least / _SPARSE:
            yield Found(where, f"median TPOT {tpot:.5f} ms, reading the weights takes {least:.3f} ms")


@rule(
    "Q710",
    "warning",
    "Throughput needs no more arithmetic than the card can do, for a dense model.",
    why="It would be a sparse model, prompts from a cache, another card, or a wrong count of tokens.",
    fix="say so in notes.md where the model is sparse; else look at the card and the tokens",
    needs="requests cells variants believed",
)
def compute(facts: Facts) -> Iterator[Found]:
    """X_out * (1 + in / out) * 2 N <= F, with X_out output tokens/s, in and out the mean tokens of prompt (less those
    from the prefix cache) and answer, N = 8 W / bits weights, and F the highest dense TFLOP/s of any type, of all cards
    of the server. W is that of all cards that hold one copy of the weights: the engine states it of one of them.

    N takes what is kept in 16 bits for more weights than it is, hence half of it (as for the bandwidth).
    """
    profile, weights = facts.profile, _weights(facts)
    types = ("bf16_tflops", "fp16_tflops", "fp8_tflops", "int8_tops")
    figures = [f.value for t in types if (f := getattr(profile, t, None)) is not None]
    if not figures:
        return
    for c in facts.cells:
        v = weights.get(c.variant)
        rows = facts.by_point.get((c.variant, c.workload, c.load))
        if v is None or not v.bits or not rows or not c.throughput_tok_s or not c.output_tokens_mean:
            continue
        prompt = statistics.fmean((r.input_tokens or 0) - (r.cached_tokens or 0) for r in rows)
        tokens = c.throughput_tok_s * (1 + max(0.0, prompt) / c.output_tokens_mean)
        cards = v.gpus or 1
        parts = cards // (v.data_parallel or 1)
        needed = tokens * 2 * _STREAMED * (8 * parts * (v.weights_gib or 0) * _GIB / v.bits) / 1e12
        can = cards * max(figures)
        if needed > can:
            who = "the card does" if cards == 1 else f"its {cards} cards do"
            words = f"{tokens:,.0f} tokens/s need {needed:,.0f} TFLOP/s, {who} {can:,.0f}"
            yield Found(f"cells.csv: {c.variant} {c.workload} {c.load} repeat {c.repeat}", words)


@rule(
    "Q711",
    "error",
    "No more device memory is used than the card has.",
    why="Another card was measured, or bytes are counted in another unit.",
    fix="look at environment.json: which card was it?",
    needs="cards",
)
def memory(facts: Facts) -> Iterator[Found]:
    for gpu, size in facts.cards_mib.items():
        used = max((s.vram_used_mib or 0 for s in facts.telemetry if s.gpu == gpu), default=0)
        if used > size:
            yield Found("telemetry.csv.gz", f"GPU {gpu}: {used:,.0f} MiB used, it has {size:,.0f} MiB")
    for v in facts.variants:
        served = {i: size for i, size in facts.cards_mib.items() if i in gpu_indices(v)} or facts.cards_mib
        most = max(v.vram_idle_mib or 0, v.vram_loaded_mib or 0, v.vram_peak_mib or 0)
        where, total = f"variants.csv: {v.variant} start {v.start}", sum(served.values())
        if most > total:
            yield Found(where, f"{most:,.0f} MiB used, the cards have {total:,.0f} MiB")
        if (v.vram_peak_fullest_mib or 0) > max(served.values()):
            size = max(served.values())
            yield Found(where, f"{v.vram_peak_fullest_mib:,.0f} MiB used on one card, the largest has {size:,.0f} MiB")


@rule(
    "Q712",
    "error",
    "Every request lies inside a session of measuring.",
    why="A row from outside was not measured in this run.",
    fix=_AGAIN,
    needs="created requests sessions measured",
)
def inside(facts: Facts) -> Iterator[Found]:
    """Sessions run from their start by the wall clock, counted from the creation, for their minutes. Without minutes
    (an older collector) the end is open.
    """
    zero = facts.zero or 0.0
    sessions = [s for s in facts.environment.sessions if s.wall_unix_s >= zero - _EDGE_S]
    if len(sessions) < len(facts.environment.sessions):
        return  # the wall clock was set in between: Q1105
    spans = [
        (
            s.wall_unix_s - zero - _EDGE_S,
            s.wall_unix_s - zero + 60 * s.minutes + _EDGE_S if s.minutes is not None else math.inf,
        )
        for s in sessions
    ]
    for key, rows in facts.by_cell.items():
        begin = min(r.started_s for r in rows)
        end = max(r.started_s + (r.e2e_ms or 0) / 1000 for r in rows)
        if not any(a <= begin and end <= b for a, b in spans):
            yield Found(f"requests.csv.gz: {place(key)}", f"{begin:,.1f} to {end:,.1f} s lies in no session")


@rule(
    "Q713",
    "error",
    "A closed loop never has more requests in flight than its concurrency.",
    why="More at once than was said makes throughput higher and latency longer than at that load point.",
    fix=_AGAIN,
    needs="study requests measured",
)
def at_once(facts: Facts) -> Iterator[Found]:
    for key, rows in facts.known_cells.items():
        load = Load.of(key[3])
        if load is None or not load.concurrency:
            continue
        most = _most_at_once(rows)
        if most > load.concurrency:
            yield Found(f"requests.csv.gz: {place(key)}", f"{most} requests were in flight at once")


def _most_at_once(rows: list[RequestRow]) -> int:
    """The most requests that ran at the same moment, by their ends; a thousandth of a second is rounding."""
    ends: list[float] = []
    most = 0
    for r in sorted(rows, key=lambda r: r.started_s):
        while ends and ends[0] <= r.started_s + 0.001:
            heapq.heappop(ends)
        if r.e2e_ms is not None:
            heapq.heappush(ends, r.started_s + r.e2e_ms / 1000)
        most = max(most, len(ends))
    return most


@rule(
    "Q714",
    "error",
    "A log-probability is finite and not above zero, and a score lies between 0 and 1.",
    why="No probability is above one, and accuracy is a mean of scores.",
    fix=_AGAIN,
    needs="answers",
)
def scores(facts: Facts) -> Iterator[Found]:
    for row in facts.answers:
        if row.score is not None and not 0 <= row.score <= 1:
            where = f"quality: {row.variant} {row.prompt_id} pass {row.repeat}"
            yield Found(where, f"the score {row.score} is not between 0 and 1")
    for scored in facts.likelihood:
        if any(not -math.inf < x <= 1e-6 for x in scored.logprobs):
            where = f"likelihood: {scored.variant} {scored.prompt_id} pass {scored.repeat}"
            yield Found(where, "a log-probability is above zero or not finite")
