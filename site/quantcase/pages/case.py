"""The case study: Setup, VRAM, Chat, Batch, Quality, Cost, Recommendations, Methodology, Next steps, What I learned."""

from __future__ import annotations

import json

from collector.bundle.imported import read_document
from quantcase.analysis.co_location import passed_over
from quantcase.analysis.cost import saving
from quantcase.analysis.memory import COARSE_GIB, PARTS, vram
from quantcase.analysis.points import pick
from quantcase.analysis.servers import mixed, several
from quantcase.catalog import Case
from quantcase.charts import vram_by_part
from quantcase.html import Column, badge, delta, figure, none, table
from quantcase.pages import (
    cards,
    company,
    cost,
    figures,
    learned,
    load,
    origin,
    quality,
    save_gpu,
    servers,
    stress,
    summary,
    trust,
)
from quantcase.pages.findings import (
    gainers,
    headline,
    leaders,
    verdict_sentence,
    vram_finding,
)
from quantcase.pages.view import CaseView, render
from quantcase.text import counted, fixed, load_words, number, percent, plain, said, signed_percent, text

__all__ = ["case_json", "page", "reworded"]

_UNKNOWN = ("–", text("–"), text("unknown"))
_MEMORY = (*PARTS.values(), "kv_cache_tokens", "vram_idle_mib", "vram_loaded_mib", "vram_peak_mib")
_PARTS, _PARTS_ONE = (f"Memory by part, as the engine states it{of}" for of in ("", ", of one GPU of the server"))
_PER_GPU = (
    "What the engine states is of one GPU of the server, its first worker, and is not added up; the driver&#39;s "
    "figures are sums over its GPUs. Weights and contexts are compared between servers of as many GPUs only."
)
_LEARNED = "\n## What I learned\n\n"  # the last heading of the template
_KIND_WORDS = {"recommend": "✓ recommend", "caution": "! caution", "avoid": "✗ avoid", "none": "– no verdict"}


def page(view: CaseView) -> str:
    """The Markdown of `cases/<id>/index.md`."""
    case = view.case
    return render(
        "case.md.j2",
        title=text(case.title),
        banners=view.banners(),
        answer=_answer(view) + ("" if _published(view) else "\n\n" + trust.panel(view)),
        setup=_setup(view) + "\n\n" + cards.links(view),
        vram=_vram(view),
        chat=load.section(view, batch=False),
        batch=load.section(view, batch=True),
        quality=quality.section(view),
        cost=cost.section(view),
        save_gpu=save_gpu.section(view),
        recommendations=_recommendations(view) + "\n\n### Under stress\n\n" + stress.section(view),
        methodology=_methodology(view) + ("" if _published(view) else "\n\n" + trust.section(view)),
        next_steps=_next_steps(case),
        learned=learned.section(view),
    )


def reworded(view: CaseView, before: str) -> str:
    """The page as it was made `before` of the same figures, dressed, with what its author writes now.

    An author's words stand in the last section alone, as HTML in one line: no table or chart of ours is among them.
    """
    kept, heading, _ = before.rpartition(_LEARNED)
    return f"{kept}{heading}{learned.section(view)}\n"


def _answer(view: CaseView) -> str:
    """The first screen: answer, gain, risk, sureness."""
    case, info = view.case, view.case.bundle.info
    gains = []
    for workload, c in view.answer.best.items():
        gains.append(f"{text(workload)}: {delta(c)} tok/s with {leaders(view, workload)}")
        if view.usd_per_hour is not None and c.low == c.low:
            share, low, high = saving((c.ratio, c.low, c.high))
            bounds = f"({percent(low)} to {percent(high)})"
            gains.append(f"{text(workload)}: {percent(share)} less per token {bounds}")
    if least := view.lightest:
        gains.append(f"weights {signed_percent(least.ratio)} with {gainers(least)}")
    if most := view.roomiest:
        gains.append(f"contexts {signed_percent(most.ratio)} with {gainers(most)}")
    if _published(view):
        gains = ["what the source states: see VRAM"]
        sure = [f"grade {badge(info.grade)}: the source's own figures", "no rows of ours, no intervals"]
        return _screen(view, gains, sure)
    starts = counted(sum(v.exit_state == "ok" for v in case.variants), "server start")
    sure = [
        f"grade {badge(info.grade)}, weights {text(info.weights)}",
        f"{trust.repeats(view)} a cell, {counted(len(case.requests), 'request')}",
        starts if origin.of(case).ours else "how often servers were started is not known",
        *filter(None, [company.short(view.trust.together)]),
        *company.lighter(passed_over(case, view.trust.together)),
    ]
    return _screen(view, gains, sure)


def _screen(view: CaseView, gains: list[str], sure: list[str]) -> str:
    return render(
        "answer.md.j2",
        verdict=view.answer.kind,
        headline=headline(view),
        saves=save_gpu.brief(view),
        gains=gains or ["nothing was compared" if view.answer.rule == "not-compared" else "nothing beyond the noise"],
        risks=[quality.sentence(view)],
        sure=sure,
    )


def _setup(view: CaseView) -> str:
    case = view.case
    sections, ours = [_hardware(case)], origin.of(case).ours
    rows = []
    for variant in case.study.variants:
        starts = case.starts(variant.name)
        served = case.served(variant.name)
        last = served or (starts[-1] if starts else None)
        came = "served" if ours else f"as {case.bundle.info.grade}"
        state = "not started yet" if last is None else came if served else f"{last.exit_state}: {last.error or ''}"
        kernel = last.kernel_path if last and last.kernel_path else "–"
        rows.append(
            [
                text(variant.name) + (" <small>baseline</small>" if variant.name == case.baseline else ""),
                text(variant.model if last is None else last.model),
                text(variant.method),
                plain(variant.bits) if variant.bits is not None else "–",
                text(variant.kv_dtype),
                text(kernel),
                text(last.kernel_class if last and variant.method != "none" else "–"),
                number(last.healthy_s if last else None),
                text(state),
            ]
        )
    names = ["Variant", "Checkpoint", "Method", "Bits", "KV cache", "Kernel path", "Kernel class", "Ready (s)", "State"]
    shown = [i for i in range(len(names)) if ours or any(row[i] not in _UNKNOWN for row in rows)]
    columns = [Column(names[i], names[i] in ("Bits", "Ready (s)")) for i in shown]
    sections.append("### Variants\n\n" + table("variants", columns, [[row[i] for i in shown] for row in rows]))
    proofs = [
        f"<p>{text(v.variant)}</p><p class='qc-evidence'>{text(v.evidence)}</p>"
        for v in case.variants
        if v.evidence and v.start == 1
    ]
    if proofs:
        sections.append(f"<details><summary>Log lines behind the kernel paths</summary>{''.join(proofs)}</details>")
    if ours:
        sections.append(figures.startup(view))
        sections.append("### Engine configuration\n\n" + _configuration(case))
    elif not _published(view):
        sections.append("### Engine configuration\n\n" + _stated_configuration(case))
    return "\n\n".join(sections)


def _hardware(case: Case) -> str:
    environment = case.bundle.environment()
    rows = [["Profile", text(case.profile.title if case.profile else case.bundle.info.gpu)]]
    if environment.sessions:
        first = environment.sessions[0]
        rows += save_gpu.hardware(first)
        for gpu in first.gpus[:1]:
            rows.append(["GPU found", text(gpu.get("name", "–"))])
            rows.append(["VRAM", f"{fixed(_float(gpu.get('vram_mib')) or 0)} MiB"])
            rows.append(["Driver, CUDA", text(f"{gpu.get('driver', '–')}, {gpu.get('cuda', '–')}")])
        rows.append(["Host", text(f"{first.host.get('cpu', '–')}, {first.host.get('cores', '–')} cores")])
        boxes = {str([g.get("uuid_sha256") for g in s.gpus]) for s in environment.sessions}
        word = "one machine" if len(boxes) == 1 else f"{len(boxes)} machines"
        count = len(environment.sessions)
        rows.append(["Measured in", f"{count} session{'s' if count > 1 else ''} on {word}"])
    return "### Hardware\n\n" + table("hardware", [Column("What"), Column("Value")], rows)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mib(value: float | None) -> str:
    return "–" if value is None else fixed(value)


def _configuration(case: Case) -> str:
    """The parameters that every variant shares, and the engine's version as it states it."""
    study = case.study
    versions = sorted({v.engine_version for v in case.variants if v.engine_version})
    rows = [
        ["engine", text(study.engine.name)],
        ["engine version", text(", ".join(versions) or "not stated")],
        ["context_tokens", number(study.context_tokens, 6)],
        ["shared arguments", text(" ".join(study.engine.args) or "none")],
        ["prompts", text(f"{study.prompts.kind}, seed {study.seed}, each used once")],
    ]
    return table("configuration", [Column("Parameter"), Column("Value")], rows)


def _stated_configuration(case: Case) -> str:
    """What another tool's files and a person said of the run; study.toml beside them is a form."""
    document = read_document(case.bundle.folder)
    named = {"engine": "engine", "engine_version": "engine version"}
    rows = [[text(words), text(document.said[k])] for k, words in named.items() if document and document.said.get(k)]
    for source in document.sources if document else []:
        whose = f" <small>{text(', '.join(source.variants))}</small>"
        rows += [[text(key) + whose, text(value)] for key, value in source.facts.items()]
    if not rows:
        return none("Neither the tool&#39;s files nor the person who imported them said how the engine was configured.")
    return table("configuration", [Column("As the tool&#39;s files state it"), Column("Value")], rows)


def _published(view: CaseView) -> bool:
    """Whether the case holds somebody else's figures and no rows of ours."""
    return view.case.bundle.info.grade == "published" and view.case.cells.empty


def _vram(view: CaseView) -> str:
    if _published(view):
        return summary.section(view)
    if not view.memory:
        return none("No variant served, so no memory was read.")
    if not any(getattr(m.row, c) is not None for m in view.memory for c in _MEMORY):
        return none("Neither an engine nor a driver states any memory in this bundle.")
    columns = [Column("Variant")]
    columns += [
        Column(n, True)
        for n in (
            "Weights (GiB)", "Δ weights", "KV pool (GiB)", "KV capacity (tokens)", "Δ KV tokens", "Activations (GiB)",
            "Graphs (GiB)", "Driver: idle (MiB)", "loaded (MiB)", "peak (MiB)",
        )
    ]  # fmt: skip
    spread = several(view.case)
    if spread:  # the engine states its figures, but for the tokens, of one GPU of the server
        columns = [Column(c.title.replace("(GiB)", "of one GPU (GiB)"), c.figures) for c in columns]
    rows = []
    for m in view.memory:
        r = m.row
        base = r.variant == view.case.baseline
        rows.append(
            [
                text(r.variant),
                number(r.weights_gib),
                "–" if base or m.weights_ratio != m.weights_ratio else signed_percent(m.weights_ratio),
                number(r.kv_cache_gib),
                number(r.kv_cache_tokens, 7),
                "–" if base or m.kv_tokens_ratio != m.kv_tokens_ratio else signed_percent(m.kv_tokens_ratio),
                number(r.activations_gib),
                number(r.graphs_gib),
                _mib(r.vram_idle_mib),
                _mib(r.vram_loaded_mib),
                _mib(r.vram_peak_mib),
            ]
        )
    parts = [table("vram", columns, rows)]
    if spread:
        parts.append(f"{servers.note(view)} {_PER_GPU}")
    if any(m.by_files for m in view.memory):
        parts.append(
            f"Weights under {plain(COARSE_GIB)} GiB are the size of the variant's files: vLLM states what it "
            f"allocated to {plain(0.01)} GiB, too coarse for so small a model."
        )
    data = vram(view.case)
    if not data.empty:
        profile = view.case.profile
        card = profile.memory_gib if profile else None
        parts.append(vram_by_part(data, view.case.baseline, card, title=_PARTS_ONE if spread else _PARTS).html())
    if finding := vram_finding(view):
        parts.append(f"**Observation.** {finding}")
    if all(m.row.vram_loaded_mib is None for m in view.memory):
        parts.append(none("The driver's view is missing: no NVIDIA GPU was read in this run."))
    return "\n\n".join(parts)


def _recommendations(view: CaseView) -> str:
    rows = [
        [
            text(v.variant),
            text(v.workload),
            f'<span class="qc-verdict" data-verdict="{v.kind}">{_KIND_WORDS[v.kind]}</span>',
            verdict_sentence(v),
            text(v.rule),
        ]
        for v in view.verdicts
    ]
    if not rows:
        return none("There is no variant beside the baseline, so there is nothing to recommend.")
    if view.answer.withheld:  # by one rule for all: once is enough
        return none(f"No verdict is given on any variant: {said(view.verdicts[0].because)}.")
    names = ["Variant", "Workload", "Verdict", "Because", "Rule"]
    parts = [table("recommendations", [Column(n) for n in names], rows)]
    parts += company.lighter(passed_over(view.case, view.trust.together))
    best = view.answer.best
    if best:
        config = []
        for workload, c in best.items():
            speed = pick(view.points, c.variant, workload, c.load, "throughput_tok_s")
            tail = pick(view.points, c.variant, workload, c.load, "e2e_ms_p95")
            limit = view.case.study.workload(workload).e2e_limit_ms
            config.append(
                [
                    text(workload),
                    text(c.variant),
                    load_words(c.load),
                    f"{number(speed.value, 4)} tok/s" if speed else "–",
                    f"{figure(tail)} ms" if tail and tail.shown else figure(tail),
                    f"{number(limit)} ms" if limit else "none set",
                ]
            )
        fastest = "Most throughput per GPU" if mixed(view.case) else "Fastest measured"
        names = ["Workload", fastest, "Load", "Throughput", "E2E p95", "p95 budget"]
        parts.append("### Operating points\n\n" + table("operating-points", [Column(n) for n in names], config))
    return "\n\n".join(parts)


def _methodology(view: CaseView) -> str:
    case, info = view.case, view.case.bundle.info
    if _published(view):
        return f"{origin.method(case)} Bundle format {info.format}; every file and hash: [data](data/index.md)."
    return (
        f"{origin.method(case)} Collector {text(info.collector_version)}, bundle format {info.format}. Definitions "
        "and formulas: [methodology](../../methodology.md). Every table, log and hash of this case, and how to have "
        "it again: [data](data/index.md). Each figure with its interval and source: "
        "[case.json](case.json). What was held fixed, checked, and when to roll back: [plan](plan/index.md). "
        "Load point by load point, with deployment settings: [experiment log](log/index.md). "
        "Running notes, predictions against reality: [notes](notes/index.md)."
    )


def _next_steps(case: Case) -> str:
    steps = "\n".join(f"- {text(step)}" for step in case.study.next_steps)
    shown = steps or none("The study names no next steps.")
    if case.bundle.info.grade != "measured":
        return shown
    return f"{shown}\n\nWhat this run lets one expect of another GPU: [estimate](projection/index.md)."


def case_json(document: dict[str, object]) -> str:
    """The JSON text of `case.json`."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
