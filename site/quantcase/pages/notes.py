"""The running notes of a case: the seed's tables filled from the data, predictions against reality, own paragraphs."""

from __future__ import annotations

import math

from collector.bundle.read import Workload
from quantcase.analysis.compare import Comparison
from quantcase.analysis.crossover import crossovers
from quantcase.analysis.experiments import kind_of
from quantcase.analysis.points import THROUGHPUT, Point, pick
from quantcase.analysis.predictions import driver, gains_more, range_of, sanity
from quantcase.html import Column, change, delta, figure, kind_words, none, table
from quantcase.pages import data, predictions, quality
from quantcase.pages.findings import key_finding, vram_finding
from quantcase.pages.servers import of_one
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, load_words, number, plain, said, signed_percent, span, text

__all__ = ["page"]

_P95 = "e2e_ms_p95"
_SUMMARY_CHARS = 70
_NOTE_CHARS = 90
_RIGHT = {True: ("ok", "✓"), False: ("bad", "✗"), None: ("none", "–")}


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/notes/index.md`."""
    said, score = predictions.section(view)
    words = predictions.own_words(view.case.bundle.notes())
    return render(
        "notes.md.j2",
        title=text(view.case.title),
        trail=view.trail("notes"),
        banners=view.banners(),
        models=_models(view),
        vram=_vram(view),
        startup=_startup(view),
        chat=_results(view, batch=False),
        batch=_results(view, batch=True),
        both=_both(view),
        prompts=_prompts(view),
        assessment=_assessment(view),
        predictions=said,
        score=score,
        words=words,
        references=_references(view),
    )


# -- models and memory -------------------------------------------------------------------------------------------------


def _models(view: CaseView) -> str:
    rows = []
    for v in view.case.study.variants:
        row = view.case.served(v.name)
        role = {view.case.study.control: "control", view.case.baseline: "baseline"}.get(v.name, "variant")
        bits = row.bits if row and row.bits is not None else v.bits
        rows.append(
            [
                text(v.name),
                role,
                text(row.model if row else v.model),
                text(v.method),
                "–" if bits is None else plain(bits),
                text(v.kv_dtype),
                text(row.kernel_path if row and row.kernel_path else "not named in the log"),
            ]
        )
    names = ["Variant", "Role", "Model", "Method", "Bits per weight", "KV cache", "Kernel path"]
    return table("models", [Column(n, n.startswith("Bits")) for n in names], rows)


def _vram(view: CaseView) -> str:
    """The driver's view beside the weights as the engine states them; only the latter where no GPU was read."""
    found = driver(view.case)
    if not found:
        return none("No variant served, so no memory was read.")
    seen = any(d.memory.row.vram_loaded_mib is not None for d in found)
    if not seen and all(d.memory.row.weights_gib is None for d in found):
        return none("Neither the driver nor the engine states memory in this bundle.")
    rows = []
    for d in found:
        r = d.memory.row
        cells = [text(r.variant), number(r.weights_gib), _ratio(view, r.variant, d.memory.weights_ratio)]
        if seen:
            cells += [_mib(r.vram_idle_mib), _mib(r.vram_loaded_mib), _ratio(view, r.variant, d.loaded_ratio)]
            cells += [_mib(r.vram_peak_mib), _ratio(view, r.variant, d.peak_ratio)]
        rows.append(cells)
    names = ["Variant", f"Weights{of_one(view)} (GiB)", "Δ weights"]
    names += ["Idle (MiB)", "Loaded (MiB)", "Δ loaded", "Under load (MiB)", "Δ under load"] if seen else []
    caption = "Of the first server start that served, one reading each: no interval."
    if seen:
        caption += " Idle, loaded and under load are the driver's view; weights are the engine's own word."
    parts = [table("notes-vram", [Column(n, i > 0) for i, n in enumerate(names)], rows, caption)]
    if not seen:
        parts.append(none("The driver's view (idle, loaded, under load) is missing: no NVIDIA GPU was read."))
    if finding := vram_finding(view):
        parts.append(finding)
    return "\n\n".join(parts)


def _mib(value: float | None) -> str:
    return "–" if value is None else fixed(value)


def _ratio(view: CaseView, variant: str, ratio: float) -> str:
    return "–" if variant == view.case.baseline or math.isnan(ratio) else signed_percent(ratio)


def _startup(view: CaseView) -> str:
    rows = []
    for v in view.case.study.variants:
        for r in view.case.starts(v.name):
            times = (r.healthy_s, r.weights_s, r.compile_s, r.graphs_s, r.first_token_s)
            state = "served" if r.exit_state == "ok" else f"{r.exit_state}: {r.error or 'no reason given'}"
            rows.append([text(r.variant), f"{r.start}", *(number(t) for t in times), text(state)])
    if not rows:
        return none("No server was started.")
    if all(r.healthy_s is None and r.error is None for r in view.case.variants):
        return none("No start-up times were recorded.")
    names = ["Variant", "Server start", "Ready (s)", "Weights (s)", "Compile (s)", "Graphs (s)", "First token (s)"]
    caption = (
        "Ready and first token from the start of the process; the parts as the engine states them. Each is one "
        "measurement without an interval: set first starts against first starts, since later ones may find caches."
    )
    return table("startup", [*(Column(n, i > 0) for i, n in enumerate(names)), Column("State")], rows, caption)


# -- load --------------------------------------------------------------------------------------------------------------


def _workloads(view: CaseView, *, batch: bool) -> list[Workload]:
    case = view.case
    return [w for w in case.study.workloads if (kind_of(w) == "batch") == batch and case.loads(w.name)]


def _others(view: CaseView) -> list[str]:
    return list(dict.fromkeys(c.variant for c in view.claims))


def _results(view: CaseView, *, batch: bool) -> str:
    """Results summary and key observations of every workload of that kind."""
    found = _workloads(view, batch=batch)
    if not found:
        return none(f"No {'batch' if batch else 'chat'} workload was measured in this run.")
    parts = []
    for w in found:
        parts.append(f"### {text(w.title or w.name)}: results")
        rows = [row for v in _others(view) for at in view.case.loads(w.name) if (row := _row(view, w, v, at.name))]
        if not rows:
            parts.append(none("Only the baseline was measured, so there is nothing to compare."))
            continue
        base = text(view.case.baseline)
        names = [
            "Variant", "Load", "Output tokens", f"{base} (tok/s)", "Variant (tok/s)", "Δ",
            f"{base} p95 E2E (ms)", "Variant p95 E2E (ms)", "Δ p95", "n, both",
        ]  # fmt: skip
        caption = "With 95 % intervals. n: requests that ended well, baseline and variant, all repeats together."
        columns = [Column(n, i > 1) for i, n in enumerate(names)]
        parts.append(table(f"notes-{text(w.name)}", columns, rows, caption))
        lines = "\n".join(f"1. {line}" for line in _observations(view, w))
        parts.append(f"### {text(w.title or w.name)}: key observations\n\n{lines}")
    return "\n\n".join(parts)


def _row(view: CaseView, w: Workload, variant: str, load: str) -> list[str]:
    both = (view.case.baseline, variant)
    speeds = [pick(view.points, v, w.name, load, THROUGHPUT) for v in both]
    tails = [pick(view.points, v, w.name, load, _P95) for v in both]
    if speeds[1] is None and tails[1] is None:
        return []
    n = [fixed(view.case.ok_counts.get((v, w.name, load), 0)) for v in both]
    return [
        text(variant),
        load_words(load),
        f"{'at most ' if w.natural_length else ''}{fixed(w.output_tokens)}",
        *(_span(p) for p in speeds),
        delta(view.comparison(variant, w.name, load, THROUGHPUT)),
        *(_span(p) for p in tails),
        delta(view.comparison(variant, w.name, load, _P95)),
        ", ".join(n),
    ]


def _span(point: Point | None) -> str:
    return span(point.value, point.low, point.high, 4) if point and point.shown else figure(point)


def _observations(view: CaseView, w: Workload) -> list[str]:
    """What the rows carry, by rule: throughput, where it gains more, latency, crossovers."""
    found = [f"**Throughput.** {key_finding(view, w.name)}"]
    ends = {v: range_of(view.claims, v, w.name, THROUGHPUT) for v in _others(view)}
    wide = {v: pair for v, pair in ends.items() if len(pair) > 1}
    if wide:
        found.append(f"**Scaling.** {_scaling(wide)}")
    tails = [mine[-1] for v in _others(view) if (mine := range_of(view.claims, v, w.name, _P95))]
    if tails:
        said = "; ".join(f"{text(c.variant)} {change(c)}, {kind_words(c)}" for c in tails)
        found.append(f"**Latency.** p95 E2E at {load_words(tails[0].load)} against the baseline: {said}.")
    else:
        found.append("**Latency.** No load point has enough requests on both sides to compare a p95.")
    if wide and w.schedule == "closed":
        found.append(f"**Crossovers.** {_crossovers(view, w.name)}")
    return found


def _scaling(ends: dict[str, tuple[Comparison, ...]]) -> str:
    said, open_ = [], []
    for variant, (low, high) in ends.items():
        more = gains_more(low, high)
        if more is None:
            open_.append(text(variant))
            continue
        a, b = (low, high) if more == "first" else (high, low)
        said.append(
            f"{text(variant)} does better against the baseline at {load_words(a.load)}, {change(a)}, than at "
            f"{load_words(b.load)}, {change(b)}."
        )
    if open_:
        said.append(
            f"The intervals at the lowest and the highest load overlap for {', '.join(open_)}: no trend is read."
        )
    return " ".join(said)


def _crossovers(view: CaseView, workload: str) -> str:
    """A crossover counts where the whole interval crosses; where only the middle does, it is noise."""
    said, unsure = [], []
    for c in crossovers(view.claims, workload):
        if math.isnan(c.low) or math.isnan(c.high):
            unsure.append(text(c.variant))
            continue
        how = "stops" if c.stops else "starts"
        at = f"{number(c.at)} ({number(c.low)} to {number(c.high)})"
        said.append(f"{text(c.variant)} {how} being faster than the baseline at about concurrency {at}.")
    if unsure:
        said.append(f"Inside the noise, so none is claimed: {', '.join(unsure)}.")
    return " ".join(said) or "No variant's throughput crosses the baseline's between the loads that were measured."


def _both(view: CaseView) -> str:
    """Batch against chat, each at its highest load."""
    chat, batch = _workloads(view, batch=False), _workloads(view, batch=True)
    if not chat or not batch:
        return none("Chat and batch were not both measured, so there is nothing to set against each other.")
    rows = []
    for v in _others(view):
        ends = [range_of(view.claims, v, w.name, THROUGHPUT) for w in (chat[0], batch[0])]
        if not all(ends):
            continue
        a, b = ends[0][-1], ends[1][-1]
        more = {"first": "chat", "second": "batch", None: "cannot be told: the intervals overlap"}[gains_more(a, b)]
        rows.append([text(v), *(f"{load_words(c.load)}: {delta(c)}" for c in (a, b)), more])
    if not rows:
        return none("No variant was measured in both, so there is nothing to set against each other.")
    names = ["Variant", "Chat, throughput", "Batch, throughput", "More gain in"]
    caption = "Each at its highest load. Why they differ is not measured: it is for the author to say."
    return table("batch-chat", [Column(n) for n in names], rows, caption)


# -- quality -----------------------------------------------------------------------------------------------------------


def _prompts(view: CaseView) -> str:
    found = sanity(view.case)
    if not found:
        return none(f"The sanity suite was not asked, so there is no prompt to show. {quality.sentence(view)}")
    asked = {v for s in found for v in s.right}
    names = [v for v in view.case.measured_variants() if v in asked]
    marks = view.case.marks
    marked = any((v, s.item.prompt_id) in marks for s in found for v in names)
    rows = []
    for number_, s in enumerate(found, 1):
        said = [f"{v}: {_short(s.missed[v], _NOTE_CHARS)}" for v in names if v in s.missed]
        own = [(v, m) for v in names if (m := marks.get((v, s.item.prompt_id)))]
        rows.append(
            [
                f"{number_}",
                f"{text(_short(s.item.prompt or 'a conversation', _SUMMARY_CHARS))} <small>{text(s.item.task)}</small>",
                *(_check(*_RIGHT[s.right[v]]) if v in s.right else "–" for v in names),
                *(["; ".join(text(f"{v}: {m.mark} {m.remark}") for v, m in own) or "–"] if marked else []),
                "; ".join(f"<bdi>{text(words)}</bdi>" for words in said) or "nothing missed",
            ]
        )
    columns = [Column("#"), Column("Prompt"), *(Column(text(v)) for v in names)]
    columns += [Column("A person&#39;s mark")] if marked else []
    caption = "✓ right, ✗ wrong by the prompt's own criterion. Notes: what was missed."
    if not marked:
        caption += " Nobody has marked these answers."
    return table("prompts", [*columns, Column("Notes")], rows, caption)


def _check(state: str, words: str) -> str:
    return f'<span class="qc-check" data-state="{state}">{words}</span>'


def _short(words: str, most: int) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= most else f"{flat[: most - 1].rsplit(' ', 1)[0]} …"


def _assessment(view: CaseView) -> str:
    parts = [f"**Overall.** {quality.sentence(view)}"]
    verdicts = view.quality_verdicts
    if not verdicts:
        return parts[0]
    parts.append(
        "\n".join(
            f"- **{text(v.variant)}** {quality.grade_badge(v.grade)} {said(v.because)}" for v in verdicts.values()
        )
    )
    issues = [
        f"- {text(q.variant)}, {text(t.task)}: lost {t.paired.lost}, gained {t.paired.gained} of {t.paired.n} "
        f"(p {fixed(t.adjusted_p, 3)} after Holm)"
        for q in view.quality
        for t in q.tasks
        if t.paired.lost > t.paired.gained
    ]
    if issues:
        parts.append("**Specific issues**, tasks that lost more right answers than they gained:")
        parts.append("\n".join(issues))
    else:
        parts.append("**Specific issues.** No task lost more right answers than it gained.")
    parts.append("Every rule and every answer: [quality](../quality/index.md).")
    return "\n\n".join(parts)


# -- references --------------------------------------------------------------------------------------------------------


def _references(view: CaseView) -> str:
    """Every file of the bundle with its hash: what all of this was made from."""
    names = dict(data.downloads(view))
    rows = [
        [
            f'<a href="../data/files/{names[r.path]}" download>{text(r.path)}</a>' if r.path in names else text(r.path),
            text(r.description or "–"),
            f"<code>{text(r.hash.removeprefix('sha256:'))}</code>",
        ]
        for r in view.case.bundle.manifest.resources
    ]
    if not rows:
        return none("The run is not closed yet, so there is no list of files with hashes.")
    return table("references", [Column("File"), Column("Holds"), Column("sha256")], rows)
