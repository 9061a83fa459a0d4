"""Q11xx, the machine: clocks, throttling, others on the card, the wall clock. Q12xx, the grade of evidence: what a
bundle may claim.
"""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections import Counter
from collections.abc import Iterator

from collector.bundle import imported
from collector.bundle.rules.base import Found, rule
from collector.bundle.rules.facts import Facts
from collector.bundle.schema import Session
from collector.bundle.tables import read_text
from collector.errors import QuantcaseError

__all__: list[str] = []

# Reasons that slow a card down although it has work. Idle clocks, clocks set on purpose and a power cap at full load
# are how a card is meant to run.
_SLOWING = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
_CLOCKS = 0.05
_CAPPED = 0.20
_FOREIGN_MIB = 500.0
_CLOCK_SET_S = 1.0
_PUBLISHED = "published.csv"


@rule(
    "Q1101",
    "warning",
    "The card did not slow itself down under load, for heat or for lack of power.",
    why="A hot card is slower with any weights: the variant that was measured last pays for it.",
    fix="cool the machine, and measure again",
    needs="telemetry cells complete believed",
)
def throttled(facts: Facts) -> Iterator[Found]:
    counts: Counter[str] = Counter()
    for _variant, sample in facts.busy:
        counts.update(set((sample.throttle_reasons or "").split("|")) & set(_SLOWING))
    for reason, n in counts.items():
        words = f"{reason} in {n:,} of {len(facts.busy):,} samples under load ({n / len(facts.busy):.1%})"
        yield Found("telemetry.csv.gz", words)


@rule(
    "Q1102",
    "warning",
    "The SM clock under load is the same for all variants, to 5 % (medians).",
    why="A difference between variants may be the clock's.",
    fix="lock the clocks (nvidia-smi -lgc) and measure again",
    needs="telemetry cells complete believed",
)
def clocks(facts: Facts) -> Iterator[Found]:
    found: dict[str, list[float]] = {}
    for variant, sample in facts.busy:
        if sample.sm_clock_mhz is not None:
            found.setdefault(variant, []).append(sample.sm_clock_mhz)
    medians = {v: statistics.median(x) for v, x in found.items()}
    if len(medians) >= 2 and min(medians.values()) < (1 - _CLOCKS) * max(medians.values()):
        low, high = min(medians, key=lambda v: medians[v]), max(medians, key=lambda v: medians[v])
        yield Found("telemetry.csv.gz", f"{medians[low]:,.0f} MHz with {low}, {medians[high]:,.0f} MHz with {high}")


@rule(
    "Q1103",
    "note",
    "The power limit held the clocks back alike for all variants, to 20 points of the samples under load.",
    why="A variant that draws more is held back more: part of a difference is the limit's.",
    fix="another power limit gives another difference: name it beside the figures",
    needs="telemetry cells complete believed",
)
def capped(facts: Facts) -> Iterator[Found]:
    found: dict[str, list[bool]] = {}
    for variant, sample in facts.busy:
        if sample.throttle_reasons is not None or sample.sm_clock_mhz is not None:
            found.setdefault(variant, []).append("sw_power_cap" in (sample.throttle_reasons or "").split("|"))
    shares = {v: statistics.fmean(x) for v, x in found.items()}
    if len(shares) >= 2 and max(shares.values()) - min(shares.values()) > _CAPPED:
        low, high = min(shares, key=lambda v: shares[v]), max(shares, key=lambda v: shares[v])
        words = f"held back in {shares[high]:.0%} of the samples with {high}, {shares[low]:.0%} with {low}"
        yield Found("telemetry.csv.gz", words)


@rule(
    "Q1104",
    "warning",
    "Nobody else was on the cards: less than 500 MiB of each were in use before the engine started.",
    why="Another process takes memory, time and power of the same card.",
    fix="end it (nvidia-smi shows it) and measure again",
    needs="variants believed",
)
def alone(facts: Facts) -> Iterator[Found]:
    for v in facts.variants:
        if v.vram_idle_mib is not None and v.vram_idle_mib > _FOREIGN_MIB * (v.gpus or 1):
            words = f"{v.vram_idle_mib:,.0f} MiB were in use before the engine started"
            yield Found(f"variants.csv: {v.variant} start {v.start}", words)


def _same_machine(a: Session, b: Session) -> bool:
    """Whether two sessions ran on one machine, as far as it can be told: the same cards, or the same host."""
    cards = [[g.get("uuid_sha256") for g in s.gpus] for s in (a, b)]
    return cards[0] == cards[1] and a.host == b.host


@rule(
    "Q1105",
    "warning",
    "The wall clock was not set between two sessions: wall and monotonic clock went on alike.",
    why="Times of a later session are put beside the earlier ones by the wall clock.",
    fix="let NTP settle before a run; durations are monotonic and stay right",
    needs="sessions measured",
)
def wall(facts: Facts) -> Iterator[Found]:
    """wall - monotonic is the moment of boot. It may only change by a boot that lies after the earlier session."""
    sessions = facts.environment.sessions
    for a, b in itertools.pairwise(sessions):
        if not _same_machine(a, b) or b.monotonic_s <= a.monotonic_s:
            continue
        booted = b.wall_unix_s - b.monotonic_s
        moved = booted - (a.wall_unix_s - a.monotonic_s)
        if abs(moved) > _CLOCK_SET_S and booted < a.wall_unix_s:
            words = f"the wall clock moved by {moved:+,.1f} s between sessions {a.session} and {b.session}"
            yield Found("environment.json", words)


@rule(
    "Q1106",
    "error",
    "Sessions follow one another: none begins before the one before it began.",
    why="Rows of two sessions would lie over one another in time.",
    fix="copy the bundle again; a clock that was set back during a run spoils it",
    needs="sessions",
)
def in_order(facts: Facts) -> Iterator[Found]:
    sessions = facts.environment.sessions
    for a, b in itertools.pairwise(sessions):
        if b.wall_unix_s < a.wall_unix_s:
            words = f"session {b.session} begins {a.wall_unix_s - b.wall_unix_s:,.1f} s before session {a.session}"
            yield Found("environment.json", words)


@rule(
    "Q1201",
    "error",
    "What was replayed is graded simulated, never measured.",
    why="Replayed timings are somebody's recording: nothing was measured.",
    fix="there is no mend: measure it",
    needs="believed",
)
def simulated(facts: Facts) -> Iterator[Found]:
    replayed = facts.study is not None and facts.study.engine.name == "replay"
    replayed = replayed or any(v.engine == "replay" for v in facts.variants)
    if replayed or (facts.profile is not None and facts.profile.simulated):
        yield Found("datapackage.json", f"it is graded {facts.info.grade}, and was made by the replay engine")


@rule(
    "Q1202",
    "warning",
    "What was published by others names its source, row by row.",
    why="A figure without a source cannot be looked up.",
    fix="write the source into published.csv, then copy or seal the bundle again",
    needs="published",
)
def published(facts: Facts) -> Iterator[Found]:
    path = facts.bundle.folder / _PUBLISHED
    if not path.is_file() or path.is_symlink():
        yield Found(_PUBLISHED, "is missing: the figures have no source")
        return
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path)[0])))
    except (QuantcaseError, csv.Error, OSError) as e:
        yield Found(_PUBLISHED, f"cannot be read: {e}")
        return
    for line, row in enumerate(rows, 2):
        if not (row.get("source") or "").strip():
            yield Found(f"{_PUBLISHED} line {line}", "no source")
    if not rows:
        yield Found(_PUBLISHED, "it has no rows: the figures have no source")


@rule(
    "Q1203",
    "warning",
    "What was measured names the machine: at least one session, on a GPU with its card.",
    why="A figure without a machine cannot be measured again.",
    fix="measure it with this collector",
    needs="measured requests",
)
def named(facts: Facts) -> Iterator[Found]:
    if not facts.environment.sessions:
        yield Found("environment.json", "it holds no session")
    elif facts.profile is not None and facts.profile.kind == "gpu" and not facts.cards_mib:
        ours = facts.study is None or facts.study.engine.name != "endpoint"  # another's machine is not ours to see
        if ours:
            yield Found("environment.json", f"it names no card, although {facts.info.gpu} was measured")


@rule(
    "Q1204",
    "warning",
    "Dummy weights answer no quality suite.",
    why="Random weights give random answers: they say nothing of quantization.",
    fix="measure quality with real weights",
    needs="answers",
)
def dummy(facts: Facts) -> Iterator[Found]:
    if facts.info.weights == "dummy":
        n = len(facts.answers) + len(facts.likelihood)
        yield Found("quality.jsonl", f"{n:,} answers of dummy weights")


@rule(
    "Q1205",
    "error",
    "Figures of another tool name their file, their definition and variants of the study.",
    why="The same name means different things in different tools.",
    fix="import the tool's own file again",
    needs="study imported",
)
def other_tool(facts: Facts) -> Iterator[Found]:
    for where, words in imported.problems(facts.imported_document, facts.imported_rows, set(facts.variant_names)):
        yield Found(where, words)


@rule(
    "Q1206",
    "warning",
    "Few requests of another tool's run failed: 5 % of a load point at most.",
    why="Where its figures leave the failed ones out, they are those of the requests that were easy to serve.",
    fix="run the tool again at a lower load",
    needs="study imported",
)
def other_failures(facts: Facts) -> Iterator[Found]:
    document = facts.imported_document
    worse = imported.mostly_failed(document)
    for p in imported.bad_points(document):
        if p not in worse:  # told as an error: Q1207
            yield _failed(p, f"{p.failed} of {p.requests} requests failed")


@rule(
    "Q1207",
    "error",
    "More requests of another tool's run ended well than failed.",
    why="A throughput of seven requests out of eighty describes no server.",
    fix="run the tool again until its requests succeed, and import that",
    needs="study imported",
)
def other_mostly_failed(facts: Facts) -> Iterator[Found]:
    for p in imported.mostly_failed(facts.imported_document):
        yield _failed(p, f"more requests failed than did not ({p.failed} of {p.requests})")


def _failed(p: imported.PointCounts, words: str) -> Found:
    return Found(f"{imported.DOCUMENT}: {p.variant} {p.workload} {p.load} repeat {p.repeat}", words)
