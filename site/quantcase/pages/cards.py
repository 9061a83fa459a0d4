"""Model cards: one page a variant that served, and the same words as a README.md with the Hub's front matter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from quantcase import html
from quantcase.analysis.card import Card, Measured, card, carded, clean, front_matter, measured
from quantcase.analysis.compare import PER_GPU
from quantcase.analysis.paired import Paired
from quantcase.analysis.points import THROUGHPUT
from quantcase.analysis.servers import mixed
from quantcase.html import Column
from quantcase.pages import origin, quality
from quantcase.pages.card_dress import PAGE, README, Dress
from quantcase.pages.servers import of_each, of_one
from quantcase.pages.view import CaseView, render
from quantcase.signs import localized, written_in
from quantcase.text import counted, fixed, load_words, number, percent, plain, signed_percent, text

__all__ = ["links", "page", "readme", "variants"]

_COST = "usd_per_1m_output_tokens"


def variants(view: CaseView) -> list[str]:
    """The variants that have a card: all that served but the control, the baseline first."""
    return carded(view.case)


def page(view: CaseView, variant: str) -> str:
    """The Markdown of `cases/<id>/cards/<variant>/index.md`."""
    found = _card(view, variant)
    return render("card_page.md.j2", hub=_hub(view, found), **_sections(view, found, PAGE))


def readme(view: CaseView, variant: str) -> str:
    """The README.md of a repository on the Hub: front matter, then the card's text."""
    found = _card(view, variant)
    with written_in("en"):  # for the Hub, wherever the site is shown
        made = render("card.md.j2", front=front_matter(found), **_sections(view, found, README))
    return re.sub(r"\n{3,}", "\n\n", made)


def links(view: CaseView) -> str:
    """The cards of a case in one line, for its page."""
    names = variants(view)
    if not names:
        return html.none("No variant served, so there is no model card.")
    return "Model cards: " + ", ".join(f"[{text(n)}](cards/{n}/index.md)" for n in names) + "."


def _card(view: CaseView, variant: str) -> Card:
    return card(view.case, variant, view.quality, view.trust.limited)


def _sections(view: CaseView, found: Card, d: Dress) -> dict[str, str]:
    return {
        "name": d.safe(found.name),
        "notices": view.banners() if d is PAGE else d.again(_notices(view)),
        "what": _what(view, found, d),
        "how_title": "How it was quantized" if found.quantized else "What was served",
        "how": _how(view, found, d),
        "memory": _memory(view, found, d),
        "speed": _speed(view, found, d),
        "cost": _cost(view, found, d),
        "quality": _quality(view, found, d),
        "method": _method(view, found, d),
        "limits": "\n".join(f"- {sentence}" for sentence in _limits(view, found, d)),
        "license": _license(found, d),
    }


def _notices(view: CaseView) -> str:
    """The banners' words as quotes."""
    lines = (re.sub(r"<[^>]*>", "", line) for line in view.banners().splitlines())
    return "\n>\n".join(f"> **{words}**" for words in lines if words)


def _gpu(view: CaseView) -> str:
    """The machine by the name that it gave itself, else by its profile's; untrusted text."""
    for session in view.case.bundle.environment().sessions:
        for gpu in session.gpus[:1]:
            return str(gpu.get("name", "a GPU without a name"))
        cpu = str(session.host.get("cpu", "a CPU without a name"))
        return f"{cpu} (CPU)" if view.case.bundle.info.gpu == "cpu" else f"{cpu} (no NVIDIA GPU was read)"
    return view.case.profile.title if view.case.profile else view.case.bundle.info.gpu


def _engine(found: Card) -> str:
    name = found.row.engine if found.row.engine != "not stated" else "an engine that is not named"
    return f"{name} {found.row.engine_version or '(version not stated)'}"


def _what(view: CaseView, found: Card, d: Dress) -> str:
    v = found.variant
    base = d.safe(found.row.model if found.published else view.case.study.base_model)
    if found.quantized:
        bits = f", {plain(found.row.bits)} bits per weight" if found.row.bits is not None else ""
        first = f"This is {base}, quantized with {d.safe(v.method)}{bits}."
    elif found.is_baseline and not found.published:
        first = f"This is {base} as the baseline: what the quantized variants of this study are compared with."
    else:
        first = f"This is {base}, its weights as they are: a way to serve it, not another checkpoint."
    if found.kv_quantized:
        first += f" Its KV cache is held as {d.safe(v.kv_dtype)}."
    against = "" if not found.compared else f", against the baseline {d.safe(view.case.baseline)} on the same machine"
    imported = "Measured by another tool, " if view.case.bundle.info.grade == "imported" else "Measured "
    verb = "Published figures, taken " if found.published else imported
    measured_on = f"{verb}with {d.safe(_engine(found))} on {d.safe(_gpu(view))}{against}."
    named = "" if found.base_model else " The study names no base model by its id on the Hub, so none is linked."
    return f"{first} {measured_on}{named}"


def _how(view: CaseView, found: Card, d: Dress) -> str:
    r, v = found.row, found.variant
    given = [
        ("Method, as asked for", v.method if v.method != "none" else "none: the weights are not quantized"),
        ("Bits per weight", plain(r.bits) if r.bits is not None else None),
        ("Checkpoint", r.model),
        ("Revision", r.revision),
        ("sha256 of its configuration or file", r.config_sha256),
        ("Size of its weight files (bytes)", number(r.checkpoint_bytes) if r.checkpoint_bytes else None),
        ("Quantization that the engine applied", r.quantization_applied),
        (f"Kernel path on {clean(_gpu(view))}", r.kernel_path),
        ("Class of that path", r.kernel_class if v.method != "none" else None),
        ("Log line behind it", r.evidence),
        ("Attention backend", r.attention_backend),
        ("KV cache", v.kv_dtype),
        ("In the study's words", v.note),
    ]
    rows = [[d.safe(what), d.safe(value)] for what, value in given if value]
    parts = [d.table("how", [Column("What"), Column("Value")], rows)]
    if found.quantized and not r.kernel_path:
        parts.append(d.none("No log names a kernel, so nothing is known of the path that these weights took."))
    return "\n\n".join(parts)


def _columns(found: Card, names: Sequence[tuple[str, bool]]) -> list[Column]:
    """Columns of a table against the baseline; a card that is not compared has no such columns."""
    return [Column(n, f) for n, f in names[: -2 if not found.compared else None]]


def _cut(found: Card, row: list[str]) -> list[str]:
    return row if found.compared else row[:-2]


def _memory(view: CaseView, found: Card, d: Dress) -> str:
    by_name = {m.row.variant: m for m in view.memory}
    mine, base = by_name[found.variant.name], by_name.get(view.case.baseline)
    rows = [
        (
            f"Weights{of_one(view)} (GiB)",
            *((number(m.row.weights_gib) if m else "–") for m in (mine, base)),
            _ratio(mine.weights_ratio),
        ),
        (
            f"KV cache pool{of_one(view)} (GiB)",
            *((number(m.row.kv_cache_gib) if m else "–") for m in (mine, base)),
            "–",
        ),
        (
            "KV capacity (tokens)",
            *((number(m.row.kv_cache_tokens) if m else "–") for m in (mine, base)),
            _ratio(mine.kv_tokens_ratio),
        ),
        ("Device memory, highest (MiB)", *((number(m.row.vram_peak_mib, 6) if m else "–") for m in (mine, base)), "–"),
    ]
    shown = [_cut(found, list(row)) for row in rows if row[1] != "–"]
    if not shown:
        return d.none("Neither engine nor driver stated any memory of this variant.")
    columns = _columns(found, [("Part", False), ("This variant", True), ("Baseline", True), ("Change", True)])
    said = "As the engine states it at its first start; the device's memory is the driver's word."
    return d.table("memory", columns, shown) + "\n\n" + said


def _ratio(ratio: float) -> str:
    return "–" if ratio != ratio else signed_percent(ratio)


def _measured(view: CaseView, found: Card, metric: str, compared: str = "") -> list[Measured]:
    return measured(view.case, view.points, view.comparisons, found.variant.name, metric, compared)


def _load_table(
    found: Card, d: Dress, rows: list[Measured], shown: tuple[str, str, str, str], saved: bool = False, digits: int = 3
) -> str:
    """One metric at every load point; `shown`: the table's name, the metric, its unit, what is counted."""
    name, what, unit, counted = shown
    header, base = f"{what} ({unit})", f"Baseline ({unit})"
    cells = [
        _cut(
            found,
            [
                f"{d.safe(m.workload)}, {d.safe(localized(m.load.words))}", d.value(m.mine, digits),
                number(m.mine.runs if counted == "Repeats" else m.mine.n),
                d.value(m.baseline, digits) if m.baseline and m.baseline.shown else "–",
                d.saving(m.change) if saved else d.change(m.change),
            ],
        )
        for m in rows
    ]  # fmt: skip
    last = "Saving" if saved else "Change"
    names = [("Workload, load", False), (header, True), (counted, True), (base, True)]
    return d.table(name, _columns(found, [*names, (last, False)]), cells)


def _speed(view: CaseView, found: Card, d: Dress) -> str:
    speeds, waits = _measured(view, found, THROUGHPUT), _measured(view, found, "ttft_ms_p50")
    if not speeds:
        return d.none("No load was measured with this variant.")
    parts = ["Output tokens per second in the steady window, mean over repeats, with the 95 % interval."]
    parts.append(_load_table(found, d, speeds, ("throughput", "Throughput", "tok/s", "Repeats"), digits=4))
    if waits:
        parts.append("Time to the first token: the median over all requests that ended well.")
        parts.append(_load_table(found, d, waits, ("ttft", "TTFT p50", "ms", "Requests")))
    return "\n\n".join(parts)


def _cost(view: CaseView, found: Card, d: Dress) -> str:
    if view.usd_per_hour is None:
        return d.none("No price was given for this machine, so no cost is stated.")
    rows = _measured(view, found, _COST, PER_GPU if mixed(view.case) else THROUGHPUT)
    if not rows:
        return d.none("No load was measured with this variant, so there is no cost to state.")
    hour = f"{number(view.usd_per_hour)} $ an hour{of_each(view)}"
    said = f"At {hour} ({d.again(view.price_source)}), fully used (100 %)."
    shown = ("cost", "Cost", "$ / 1M output tokens", "Repeats")
    return said + "\n\n" + _load_table(found, d, rows, shown, saved=True)


def _quality(view: CaseView, found: Card, d: Dress) -> str:
    if not view.quality or not view.case.sound:
        return d.none(d.again(quality.sentence(view)))
    if not found.judged:
        return d.none("Prompts were answered, but dummy weights and replays say nothing of a model's quality.")
    mine = next((q for q in view.quality if q.variant == found.variant.name), None)
    verdict = view.quality_verdicts.get(found.variant.name)
    parts = []
    if found.is_baseline:
        parts.append("This is the baseline: the other variants are judged against these answers.")
    elif mine is None:
        return d.none("This variant answered no prompts, so nothing is known of its quality.")
    if verdict is not None:
        parts.append(f"Verdict {d.grade(verdict.grade)}: {d.safe(localized(verdict.because))}.")
    if mine is not None and mine.accuracy:
        parts.append(_accuracy(mine.accuracy))
    if found.scores:
        rows = [
            [
                d.safe(s.suite), number(s.n), number(s.right), percent(s.accuracy),
                number(s.baseline_right), percent(s.baseline_accuracy),
            ]
            for s in found.scores
        ]  # fmt: skip
        names = ["Suite", "Prompts", "Right", "Accuracy", "Baseline right", "Baseline accuracy"]
        columns = _columns(found, [(n, i > 0) for i, n in enumerate(names)])
        parts.append(d.table("suites", columns, [_cut(found, r) for r in rows]))
    if verdict is not None and verdict.checks:
        parts.append("The rules behind the verdict, each with what was seen:")
        rows = [[d.safe(c.rule), d.grade(c.grade), d.safe(localized(c.seen))] for c in verdict.checks]
        parts.append(d.table("rules", [Column(n) for n in ("Rule", "Result", "Seen")], rows))
    return "\n\n".join(parts)


def _accuracy(p: Paired) -> str:
    """What the suites with one right answer say together, and how small a loss they could have shown."""
    low, high = percent(p.recovery_low), percent(p.recovery_high)
    kept = f"Recovery {percent(p.recovery)} ({low} to {high})" if p.recovery is not None else "Recovery unknown"
    return (
        f"{kept}: {fixed(p.variant_right)} of {fixed(p.n)} answers right, the baseline {fixed(p.baseline_right)}; "
        f"{p.lost} lost, {p.gained} gained. The smallest loss that so many prompts would show in 4 of 5 runs: "
        f"{fixed(p.mde_pp, 1)} points. "
        "Smaller losses may be there."
    )


def _method(view: CaseView, found: Card, d: Dress) -> str:
    case, info, study = view.case, view.case.bundle.info, view.case.study
    gpus = [g for s in case.bundle.environment().sessions for g in s.gpus][:1]
    given = [
        ("Machine", _gpu(view)),
        ("Device memory (MiB)", _mib(gpus[0].get("vram_mib")) if gpus else None),
        ("Driver, CUDA", f"{gpus[0].get('driver', '–')}, {gpus[0].get('cuda', '–')}" if gpus else None),
        ("Engine", _engine(found)),
        ("Arguments", " ".join([*study.engine.args, *found.variant.args]) or "none beyond the engine's defaults"),
        ("Context (tokens)", number(study.context_tokens)),
        ("Repeats of each load point", _span(found.repeats) if found.timed_starts else "no load was measured"),
        ("Server starts behind the speed", number(found.timed_starts) if found.timed_starts else None),
        ("Requests, failed", f"{fixed(found.requests)}, {fixed(found.failed)}"),
        ("Baseline against itself (A/A)", "measured" if study.control or view.quality_control else "not measured"),
    ]
    given = [
        *(given[:4] if found.published else given),
        ("Grade of evidence, weights", f"{info.grade}, {info.weights}"),
        ("Collector, date", f"{info.collector_version}, {case.bundle.manifest.created}"),
        ("Result bundle", case.bundle.id),
        ("sha256 of its manifest", info.manifest_sha256 or "none: the run is not closed yet"),
    ]
    rows = [[what, d.safe(value)] for what, value in given if value]
    if found.published:
        said = "Not by this collector: the bundle's notes name the source, and its published.csv holds the figures."
        return said + "\n\n" + d.table("method", [Column("What"), Column("Value")], rows)
    said = f"{d.again(origin.method(view.case))} The bundle holds every row behind it."
    return said + "\n\n" + d.table("method", [Column("What"), Column("Value")], rows)


def _mib(value: object) -> str | None:
    return fixed(value) if isinstance(value, int | float) else None


def _span(values: tuple[int, int]) -> str:
    low, high = values
    return f"{low}" if low == high else f"{low} to {high}"


def _limits(view: CaseView, found: Card, d: Dress) -> list[str]:
    """What the figures do not carry, by rule."""
    kernel = found.row.kernel_class
    said = [f"The figures hold for {d.safe(_gpu(view))} and {d.safe(_engine(found))}: others may take another path."]
    if found.published:
        said.append("None of it was measured by this collector: what the source does not state is not known.")
    lengths = "; ".join(
        f"{d.safe(w.title or w.name)}, about {counted(w.input_tokens, 'token')} in and {fixed(w.output_tokens)} out"
        for w in view.case.study.workloads
    )
    if found.timed_starts:
        said.append(f"Speed was measured at these lengths only: {lengths}.")
    if found.quantized and kernel != "optimized" and not found.published:
        said.append(f"The class of its kernel path is {d.safe(kernel)}: another path may be faster.")
    if found.limited:
        at = ", ".join(f"{d.safe(w)} at {d.again(load_words(load))}" for w, load in found.limited)
        said.append(f"At these load points the client was the limit, for it or the baseline: {at}.")
    if 0 < found.repeats[0] < 3:
        again = "repeat" if found.repeats[1] == 1 else "repeats"
        said.append(f"Some load points have {_span(found.repeats)} {again}: their intervals are wide or missing.")
    if found.failed:
        said.append(f"{fixed(found.failed)} of {fixed(found.requests)} requests failed.")
    if found.judged and found.scores:
        said.append("Quality is that of the suites above. Other tasks, languages and your own prompts may differ.")
    else:
        said.append("Nothing here says how good its answers are.")
    said.append("Safety and bias were not evaluated.")
    return said


def _license(found: Card, d: Dress) -> str:
    if found.license:
        return f"{d.safe(found.license)}, as the study names it."
    first = "The study names no license."
    if found.license_named:
        first = f"The study names {d.safe(found.license_named)}, which is no identifier of the Hub."
    return f"{first} It is left out of the front matter: look it up at the base model before you publish."


def _hub(view: CaseView, found: Card) -> str:
    """How the card gets there, and what the Hub reads of it."""
    command = f"collect publish-cards results/{view.case.id} --variant {found.variant.name} --repo-prefix ORG/NAME"
    lines = front_matter(found).splitlines()
    shown = "\n".join(" " * (len(line) - len(line.lstrip())) + text(line) for line in lines)
    told = "It shows what would go where, and uploads with <code>&#45;&#45;upload</code>. The front matter:"
    return f"<pre>{text(command)}</pre>\n\n{told}\n\n<pre>{shown}</pre>"
