"""The comparison plan, checked: was what should stand still the same in every variant, and what do the figures answer?

Nothing is taken as fixed because a study says so: each of the plan's eight variables is looked for in the bundle's
rows. Words made here are plain text and may hold a bundle's own strings: pages make them safe.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pandas as pd

from collector.bundle.read import LikelihoodRow, QualityRow, Workload
from collector.bundle.schema import VariantRow
from quantcase.analysis.plan_common import (
    EACH_ITS_OWN,
    OF_QUANTIZATION,
    SAMPLING,
    Fixed,
    Format,
    State,
    format_of,
    name_list,
    options,
)
from quantcase.catalog import Case

__all__ = ["command_of", "fixed_variables", "formats"]

_NEAR = 0.01  # lengths that are so little apart, as a share of their mean, move no figure beyond its region
_PACKAGES = ("vllm", "xllamacpp", "torch")
_ASKED = ["workload", "load", "set", "index"]


def formats(case: Case) -> list[Format]:
    """The class of every variant of the study, the baseline included, in the study's order."""
    return [format_of(v, case.profile, case.served(v.name)) for v in case.study.variants]


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
        return "bad", f"{base}; the checkpoint changed between server starts of {name_list(changed)}"
    hashes: dict[str, list[str]] = {}
    for r in rows:
        hashes.setdefault((r.config_sha256 or "not recorded")[:8], []).append(r.variant)
    listed = "; ".join(f"{sha} {name_list(names)}" for sha, names in hashes.items())
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
    counted = " and ".join(f"{n:,} {what}" for n, what in ((shared, "load prompts"), (questions, "questions")) if n)
    seen = f"{counted} counted against {reference}'s, one by one"
    if +apart:
        which = ", ".join(f"{name} {n:,}" for name, n in apart.items() if n)
        return "bad", f"{seen}: {which} differ, by up to {widest:.0f} tokens{ids}"
    return (
        "ok",
        f"{seen}: the same number of tokens each{ids}. Equal counts speak for one tokenizer, without proving it",
    )


def _evaluation(case: Case) -> Seen:
    def asked_of(name: str) -> dict[str, tuple[str, str]]:
        rows: list[QualityRow | LikelihoodRow] = list(case.answers.get((name, 1), {}).values())
        rows += case.likelihoods.get((name, 1), {}).values()
        return {f"{r.suite}/{r.prompt_id}": (r.prompt_sha256, r.status) for r in rows}

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
        missing, more = len(base.keys() - mine.keys()), len(mine.keys() - base.keys())
        parts = ((missing, "missing"), (more, "more"), (changed, "other"))
        if words := ", ".join(f"{n:,} {what}" for n, what in parts if n):
            off.append(f"{name} ({words})")
    if off:
        return "bad", f"{len(base):,} prompt hashes of the baseline; not the same: {name_list(off)}"
    everybody: dict[str, dict[str, tuple[str, str]]] = {case.baseline: base, **found}
    silent = {name: sum(status != "ok" for _, status in rows.values()) for name, rows in everybody.items()}
    seen = f"the same {len(base):,} prompt hashes asked of {len(found) + 1} variants"
    if any(silent.values()):
        listed = ", ".join(f"{name} {n:,}" for name, n in silent.items() if n)
        return "look", f"{seen}; without an answer, counted as wrong: {listed}"
    return "ok", f"{seen}, all answered"


def _lengths(case: Case, asked: pd.DataFrame, column: str, natural: set[str]) -> Seen:
    """Lengths of ok requests per cell, as multisets over the sets of prompts that both sides had."""
    reference, others = _against(case)
    known = asked.dropna(subset=[column])
    places = known.groupby(["variant", "workload", "load"], sort=False).indices
    numbers, values = known["set"].to_numpy(), known[column].to_numpy(float)
    compared, bad, far = 0, False, []
    shown: set[float] = set()
    for workload, load in case.points_of_load():
        base = places.get((reference, workload.name, load.name))
        for name in others:
            mine = places.get((name, workload.name, load.name))
            if base is None or mine is None or not (sets := {*numbers[base]} & {*numbers[mine]}):
                continue
            shared = np.isin(numbers, [*sets])
            a, b = (sorted(values[side[shared[side]]].tolist()) for side in (base, mine))
            compared, shown = compared + 1, shown | {a[0], a[-1]}
            if a != b:  # the earth mover's distance: how many tokens a request must be moved by, on average
                distance = _moved(a, b)
                share = distance / (math.fsum(a) / len(a))
                words = f"{distance:.2g} tokens on average ({100 * share:.2f} %)"
                far.append((share, f"{name} {workload.name} {load.name}, {words}"))
                bad |= share > _NEAR and workload.name not in natural
    if not compared:
        return "none", "no cell was measured with two variants"
    if not far:
        span = f"{min(shown):,.0f} to {max(shown):,.0f} tokens"
        held = "1 cell" if compared == 1 else f"{compared} cells"
        return "ok", f"{held} held against {reference}'s: the same lengths, each as often ({span})"
    free = f"; lengths are the model's own in {name_list(natural)}" if natural else ""
    have = "cell has" if compared == 1 else "cells have"
    seen = f"{len(far)} of {compared} {have} other lengths than {reference}'s; farthest: {max(far)[1]}{free}"
    return ("bad" if bad else "look"), seen


def _moved(a: Sequence[float], b: Sequence[float]) -> float:
    """The earth mover's distance of two sorted samples: the area between their distribution functions.

    As `scipy.stats.wasserstein_distance`, whose import takes longer than all that a page asks of it.
    """
    both = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(side, both[:-1], "right") / len(side) for side in (a, b)]
    return float(np.dot(np.abs(shares[0] - shares[1]), np.diff(both)))


def _sampling(case: Case, asked: pd.DataFrame) -> Seen:
    if case.bundle.info.grade in ("imported", "published"):
        return "none", "another tool's results: what it asked for is not in these rows"
    own = [v.name for v in case.study.variants if set(options(v.args)) & set(SAMPLING)]
    if own:
        return "bad", f"arguments on sampling in single variants: {name_list(own)}"
    exact: dict[str, Workload] = {w.name: w for w in case.study.workloads if not w.natural_length}
    free = [w.name for w in case.study.workloads if w.natural_length]
    rows = asked[asked["workload"].isin(list(exact))]
    off = rows[rows["output_tokens"] != rows["workload"].map(lambda name: exact[name].output_tokens)]
    words = f"; answers end where the model ends them in {name_list(free)}" if free else ""
    seen = "greedy for every variant, set once by the collector (no row repeats it)"
    if len(off):
        return "bad", f"{seen}; {len(off):,} of {len(rows):,} ok requests were not as long as asked{words}"
    if not len(rows):
        return ("look" if len(asked) else "none"), f"{seen}{words or '; no request ended well'}"
    return "ok", f"{seen}; all {len(rows):,} ok requests of fixed length ended at the length asked for{words}"


def command_of(row: VariantRow) -> dict[str, tuple[str, ...]]:
    """The options of a server start's command line; empty where the row holds none that can be read."""
    try:
        return options(msgspec.json.decode(row.argv, type=list[str]))
    except msgspec.DecodeError:
        return {}


def _engine(case: Case) -> Seen:
    rows = case.variants
    stated = {f"{r.engine} {r.engine_version}" for r in rows if r.engine_version}
    software = [s.software for s in case.bundle.environment().sessions]
    moved = {k for s in software for k in s if k in software[0] and s[k] != software[0][k]}
    packages = [f"{k} {software[0][k]}" for k in _PACKAGES if software and k in software[0]]
    starts = f"{len(rows)} server start{'' if len(rows) == 1 else 's'}"
    parts = [f"{name_list(sorted(stated)) or 'no engine stated its version'} in {starts}"]
    parts += [f"installed: {name_list(packages)}"] if packages else []
    base = next((r for r in rows if r.variant == case.baseline and r.exit_state == "ok"), None)
    reference = command_of(base) if base else {}
    state: State = "ok" if stated else "none"
    worse: dict[str, list[str]] = {"bad": [], "look": [], "format": []}
    if len(stated) > 1 or len({r.engine for r in rows}) > 1:
        state = "bad"
    own = {v.name: set(options(v.args)) for v in case.study.variants}
    for row in rows if base else []:
        mine = command_of(row)
        for option in sorted((mine.keys() | reference.keys()) - EACH_ITS_OWN):
            if mine.get(option) != reference.get(option):
                named = option in own.get(row.variant, set()) | own.get(case.baseline, set())
                kind = "format" if option in OF_QUANTIZATION else "look" if named else "bad"
                worse[kind].append(f"{row.variant} {option}")
    plain = case.study.variant(case.baseline).env
    worse["look"] += [f"{v.name} {k}" for v in case.study.variants for k in v.env if v.env[k] != plain.get(k)]
    if not reference:
        parts.append("no command line to compare")
    else:
        parts.append(f"arguments differ: {name_list(worse['bad'])}" if worse["bad"] else "the same arguments")
    if worse["format"]:
        parts.append(f"beside those of the format itself ({name_list(worse['format'])})")
    if worse["look"]:
        parts.append(f"set in the study for single variants: {name_list(worse['look'])}")
    if moved:
        parts.append(f"software changed between sessions: {name_list(sorted(moved))}")
    if worse["bad"] or moved - {"collector", "collector_revision", "collector_changed"}:
        state = "bad"
    elif state == "ok" and (worse["look"] or moved or not reference):
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
    names = name_list(str(g.get("name", "not named")) for s in sessions for g in s.gpus)
    if any("None" in c for c in cards) or any(not s.gpus for s in sessions):
        same: State = "none" if len(drivers) < 2 else "bad"
        return same, f"{names}, driver {name_list(sorted(drivers))} in {count}; no hash tells the cards apart"
    same_card = "the same by UUID hash" if len(cards) == 1 else f"{len(cards)} different by UUID hash"
    seen = f"{names}: {same_card}, driver {name_list(sorted(drivers)) or 'not stated'} in {count}"
    if max(len(cards), len(drivers), len(limits)) > 1:
        return "bad", f"{seen}; {len(limits)} power limit{'s' if len(limits) != 1 else ''}"
    return ("ok" if drivers else "none"), seen
