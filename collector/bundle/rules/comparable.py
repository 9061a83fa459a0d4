"""Q8xx, comparability: what should stand still between variants did. Only figures that are to be believed are held
against it, and only once the run is complete.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator

from collector import gpus
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts

__all__: list[str] = []

_NEAR = 0.02  # lengths that are so little apart, as a share, move no figure beyond its region
_CACHED = 0.25  # share of the prompts' tokens from the prefix cache that nobody planned
_LIMITS = (
    "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization", "--enforce-eager",
    "--tensor-parallel-size", "-c", "-np", "-t", "-b", "-ub",
)  # fmt: skip
_SAMPLING = (
    "--generation-config", "--override-generation-config", "--seed", "--temp", "--top-k", "--top-p", "--min-p",
    "--repeat-penalty", "--samplers", "--logits-processors", "--speculative-config", "-s",
)  # fmt: skip
_SOFTWARE = ("vllm", "xllamacpp", "llama.cpp", "torch", "triton", "transformers", "compressed-tensors")
_AGAIN = "measure the variants alike, in one run"


def _list(names: list[str]) -> str:
    return ", ".join(names)


@rule(
    "Q801",
    "warning",
    "Every variant was asked prompts of the same length, to 2 %.",
    why="Longer prompts take longer: a difference would not be the quantization's.",
    fix="the same tokenizer for all, or say so beside the figures",
    needs="study requests complete believed",
)
def prompts(facts: Facts) -> Iterator[Found]:
    means: dict[tuple[str, str], dict[str, float]] = {}
    for (variant, workload, load), rows in facts.by_point.items():
        counts = [r.input_tokens for r in rows if r.input_tokens is not None]
        if counts:
            means.setdefault((workload, load), {})[variant] = statistics.fmean(counts)
    for (workload, load), found in means.items():
        low, high = min(found, key=lambda v: found[v]), max(found, key=lambda v: found[v])
        if found[high] > (1 + _NEAR) * found[low]:
            words = f"prompts of {low} have {found[low]:.1f} tokens, of {high} {found[high]:.1f} (means)"
            yield Found(f"requests.csv.gz: {workload} {load}", words)


@rule(
    "Q802",
    "warning",
    "Every variant that was served has every load point that the baseline has.",
    why="A load point that one variant lacks may be the one where it fails.",
    fix="`collect run` the whole study",
    needs="study requests complete believed",
)
def points(facts: Facts) -> Iterator[Found]:
    have: dict[str, set[tuple[str, str]]] = {}
    searched = {w.name for w in facts.asked.workloads if w.search != "none"}  # each finds rates of its own
    for variant, _start, workload, load, _repeat in facts.by_cell:
        if workload not in searched:
            have.setdefault(variant, set()).add((workload, load))
    wanted = have.get(facts.asked.baseline, set())
    for variant in sorted(have.keys() & set(facts.variant_names)):
        if lacking := sorted(wanted - have[variant]):
            yield Found(f"requests.csv.gz: {variant}", f"no {_list([' '.join(x) for x in lacking])}")


@rule(
    "Q803",
    "error",
    "The baseline was measured in every run that measured anything.",
    why="Without it no variant can be called faster or slower.",
    fix="measure the baseline in the same run",
    needs="study requests complete measured",
)
def baseline(facts: Facts) -> Iterator[Found]:
    alone = facts.asked.engine.name == "endpoint"  # one server, one variant a bundle
    if not alone and facts.asked.baseline not in {k[0] for k in facts.by_cell}:
        yield Found("requests.csv.gz", f"no request of the baseline {facts.asked.baseline}")


@rule(
    "Q804",
    "warning",
    "All variants were served by the same engine.",
    why="Engines differ by more than quantizations do.",
    fix=_AGAIN,
    needs="variants believed",
)
def engine(facts: Facts) -> Iterator[Found]:
    names = sorted({v.engine for v in facts.variants if v.exit_state == "ok"})
    if len(names) > 1:
        yield Found("variants.csv", f"served by {_list(names)}")


@rule(
    "Q805",
    "warning",
    "All variants were served by the same version of the engine.",
    why="A new version may be faster than any quantization.",
    fix=_AGAIN,
    needs="variants believed",
)
def engine_version(facts: Facts) -> Iterator[Found]:
    versions: dict[str, set[str]] = {}
    for v in facts.variants:
        if v.exit_state == "ok" and v.engine_version:
            versions.setdefault(v.engine, set()).add(v.engine_version)
    for name, found in versions.items():
        if len(found) > 1:
            yield Found("variants.csv", f"{name} {_list(sorted(found))}")


@rule(
    "Q806",
    "warning",
    "Every session ran on cards of the same name, memory and power limit.",
    why="Cards of one name with another power limit run at other clocks.",
    fix="measure on one machine, or set the same limit",
    needs="cards believed",
)
def hardware(facts: Facts) -> Iterator[Found]:
    for fact in ("name", "vram_mib", "power_limit_w", "compute_capability", "mig", "ecc"):
        found = {_list([str(g.get(fact)) for g in s.gpus]) for s in facts.environment.sessions if s.gpus}
        if len(found) > 1:
            yield Found("environment.json", f"{fact} of the cards is {' in one session, '.join(sorted(found))}")


@rule(
    "Q807",
    "warning",
    "Every session ran with the same driver and CUDA version.",
    why="A driver brings its own compiler and its own clocks.",
    fix="measure on one machine",
    needs="cards believed",
)
def driver(facts: Facts) -> Iterator[Found]:
    for fact in ("driver", "cuda"):
        found = {str(g.get(fact)) for s in facts.environment.sessions for g in s.gpus}
        if len(found) > 1:
            yield Found("environment.json", f"{fact} is {_list(sorted(found))}")


@rule(
    "Q808",
    "note",
    "Every session ran on the same card.",
    why="Cards of one kind differ by a few per cent.",
    fix="compare variants that were measured in one session",
    needs="cards believed",
)
def card(facts: Facts) -> Iterator[Found]:
    cards = {str(g.get("uuid_sha256")) for s in facts.environment.sessions for g in s.gpus[:1]}
    if len(cards) > 1:
        yield Found("environment.json", f"measured on {len(cards)} different cards of one kind")


@rule(
    "Q809",
    "warning",
    "Every session ran with the same versions of what serves: engine, torch, kernels.",
    why="A run that goes on after an upgrade compares two upgrades.",
    fix=_AGAIN,
    needs="sessions believed",
)
def software(facts: Facts) -> Iterator[Found]:
    for name in _SOFTWARE:
        found = {str(v) for s in facts.environment.sessions if (v := s.software.get(name)) is not None}
        if len(found) > 1:
            yield Found("environment.json", f"{name} is {_list(sorted(found))}")


@rule(
    "Q810",
    "warning",
    "The GPU that was found is the one that was asked for.",
    why="Prices, bandwidth and verdicts are those of the card that the bundle names.",
    fix="name the card with --gpu, or say so beside the figures",
    needs="cards believed",
)
def asked_gpu(facts: Facts) -> Iterator[Found]:
    profile, name = facts.profile, facts.environment.gpu_found
    if profile is None or profile.kind != "gpu" or not name:
        return
    found = gpus.recognise(name, next(iter(facts.cards_mib.values()), None))
    if found is None or found.name != profile.name:
        yield Found("environment.json", f"{profile.title} was asked for, {name} was found")


def _argument(argv: str, name: str) -> str | None:
    """The value of an option in a recorded command line; an option without a value is itself; None without it."""
    try:
        words = json.loads(argv)
    except ValueError:
        return None
    for i, word in enumerate(words if isinstance(words, list) else []):
        if word == name:
            following = str(words[i + 1]) if i + 1 < len(words) else ""
            return name if following.startswith("--") or not following else following
        if isinstance(word, str) and word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _options(facts: Facts, names: tuple[str, ...]) -> Iterator[Found]:
    for name in names:
        found: dict[str, list[str]] = {}
        for v in facts.variants:
            counted = name == "--tensor-parallel-size" and v.gpus is not None  # Q816 says it, and of all three sizes
            if v.exit_state == "ok" and v.argv != "[]" and not counted:
                found.setdefault(_argument(v.argv, name) or "not set", []).append(v.variant)
        if len(found) > 1:
            told = "; ".join(f"{value}: {_list(sorted(set(who)))}" for value, who in found.items())
            yield Found("variants.csv", f"{name} differs ({told})")


@rule(
    "Q811",
    "warning",
    "All variants were served with the same limits: context, sequences, batch, share of memory, threads.",
    why="A server that may take more at once is faster with any weights.",
    fix="put such arguments under [engine], not under a variant",
    needs="variants believed",
)
def limits(facts: Facts) -> Iterator[Found]:
    yield from _options(facts, _LIMITS)


@rule(
    "Q812",
    "warning",
    "No variant has sampling or guessing ahead of its own.",
    why="Answers and their lengths would differ by the sampling, not by the weights.",
    fix="put such arguments under [engine], not under a variant",
    needs="variants believed",
)
def sampling(facts: Facts) -> Iterator[Found]:
    yield from _options(facts, _SAMPLING)


@rule(
    "Q813",
    "warning",
    "Prompts that share nothing by plan were not taken from the prefix cache.",
    why="A prompt that is in the cache costs no prefill: TTFT is of another work.",
    fix="--no-enable-prefix-caching, or --cache-ram 0, under [engine]",
    needs="study requests believed",
)
def cached(facts: Facts) -> Iterator[Found]:
    fresh = {w.name for w in facts.asked.workloads if w.prompts == "words"}
    hits: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    by_engine: dict[tuple[str, str, str, int, int], float] = {
        (c.variant, c.workload, c.load, c.start, c.repeat): c.engine_prefix_hit_tokens
        for c in facts.client.cells
        if c.engine_prefix_hit_tokens is not None
    }
    for (variant, start, workload, load, repeat), rows in facts.by_cell.items():
        if workload in fresh:
            own = sum(r.cached_tokens or 0 for r in rows)
            hits[variant, workload] += int(by_engine.get((variant, workload, load, start, repeat), own))
            asked[variant, workload] += sum(r.input_tokens or 0 for r in rows)
    for key, tokens in asked.items():
        if tokens and hits[key] > _CACHED * tokens:
            words = f"{hits[key] / tokens:.0%} of the prompts' tokens came from the prefix cache"
            yield Found(f"requests.csv.gz: {' '.join(key)}", words)


@rule(
    "Q814",
    "warning",
    "Every pass of every variant answered every prompt of the suites that it answered at all.",
    why="The prompts that one variant left out may be those that it gets wrong.",
    fix="finish the run; failed questions are rows, too",
    needs="study items answers complete measured",
)
def answered(facts: Facts) -> Iterator[Found]:
    wanted: Counter[str] = Counter(suite for suite, _ in {(i.suite, i.prompt_id) for i in facts.items})
    given: Counter[tuple[str, int, str]] = Counter()
    for row in [*facts.answers, *facts.likelihood]:
        given[row.variant, row.repeat, row.suite] += 1
    for (variant, number, suite), count in given.items():
        if count < wanted[suite]:
            yield Found(f"quality: {variant} pass {number}", f"{count:,} of {wanted[suite]:,} prompts of {suite}")


@rule(
    "Q815",
    "warning",
    "The quantization that was asked for is the one that the engine applied.",
    why="A variant that was served unquantized would be called as good as the baseline, and rightly so.",
    fix="see the engine's log and the checkpoint's quantization config",
    needs="study variants believed",
)
def applied(facts: Facts) -> Iterator[Found]:
    for v in facts.variants:
        if v.exit_state == "ok" and v.kernel_class == "not_applied":
            yield Found(f"variants.csv: {v.variant} start {v.start}", f"{v.method} was asked for and not applied")


@rule(
    "Q816",
    "note",
    "Every variant was served by as many GPUs as the others.",
    why="A server over more GPUs does more: per GPU is like for like, and every GPU is paid for.",
    fix="if the number of GPUs is the question, read throughput per GPU and cost; else give all the same",
    needs="variants believed",
)
def gpu_count(facts: Facts) -> Iterator[Found]:
    found: dict[int, list[str]] = {}
    for v in facts.variants:
        if v.exit_state == "ok" and v.gpus is not None:
            found.setdefault(v.gpus, []).append(v.variant)
    if len(found) > 1:
        told = "; ".join(f"{n}: {_list(sorted(set(who)))}" for n, who in sorted(found.items()))
        yield Found("variants.csv", f"GPUs of a server differ ({told})")


@rule(
    "Q817",
    "warning",
    "The cells of a workload were all measured alone, or all beside other servers on the box, or a trial showed that "
    "it makes no difference.",
    why="Servers side by side share the host, its power and its links: a difference may be the neighbour's.",
    fix="measure them alike, or let the trial of side-by-side servers run to its end",
    needs="cells believed",
)
def company(facts: Facts) -> Iterator[Found]:
    if facts.co_location is not None and facts.co_location.allowed:
        return
    seen: dict[str, Counter[bool]] = {}
    for c in facts.cells:
        seen.setdefault(c.workload, Counter())[bool(c.co_located)] += 1
    for workload, counts in seen.items():
        if len(counts) > 1:
            words = f"{counts[True]} cell repeats beside other servers, {counts[False]} alone"
            yield Found(f"cells.csv: {workload}", words)
