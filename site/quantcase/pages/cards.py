"""Model cards: one page a variant that served, and the same words as a README.md with the Hub's front matter.

Page and README are made of the same sections. They differ in dress: a page has HTML tables and coloured words, a README
has Markdown tables, because it is read raw, too, and the Hub throws attributes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from quantcase import html
from quantcase.analysis.card import Card, Measured, card, carded, clean, measured, metadata
from quantcase.analysis.compare import Comparison
from quantcase.analysis.cost import saving
from quantcase.analysis.memory import Memory
from quantcase.analysis.paired import Paired
from quantcase.analysis.points import THROUGHPUT, Point
from quantcase.html import Column, change, kind_words
from quantcase.pages import quality
from quantcase.pages.cost import saving_cell
from quantcase.pages.view import CaseView, render
from quantcase.text import number, signed_percent, text

__all__ = ["front_matter", "links", "page", "readme", "variants"]

_COST = "usd_per_1m_output_tokens"
# Entities of text() that a README may have back as characters: none of these makes markup inside a line. A full stop
# stays encoded after www, and an underscore at the edge of a word.
_HARMLESS = re.compile(r"&#(?:37|40|41|43|44|45|47|58|61);|(?<![wW]{3})&#46;|(?<=[A-Za-z0-9])&#95;(?=[A-Za-z0-9])")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 ._/-]*")


def variants(view: CaseView) -> list[str]:
    """The variants that have a card: all that served but the control, the baseline first."""
    return carded(view.case)


def page(view: CaseView, variant: str) -> str:
    """The Markdown of `cases/<id>/cards/<variant>/index.md`."""
    found = _card(view, variant)
    return render("card_page.md.j2", hub=_hub(view, found), **_sections(view, found, _PAGE))


def readme(view: CaseView, variant: str) -> str:
    """The README.md of a repository on the Hub: front matter, then the card's text."""
    found = _card(view, variant)
    made = render("card.md.j2", front=front_matter(found), **_sections(view, found, _README))
    return re.sub(r"\n{3,}", "\n\n", made)


def links(view: CaseView) -> str:
    """The cards of a case in one line, for its page."""
    names = variants(view)
    if not names:
        return html.none("No variant served, so there is no model card.")
    return "Model cards: " + ", ".join(f"[{text(n)}](cards/{n}/index.md)" for n in names) + "."


def front_matter(found: Card) -> str:
    """The front matter as YAML that old and new parsers read alike: what is no plain word is quoted."""
    dumped = yaml.dump(
        metadata(found), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1 << 20
    )
    return str(dumped).strip()


class _Dumper(yaml.SafeDumper):
    """PyYAML writes YAML 1.1 and the Hub reads 1.2: `1e3` is a text in one and a number in the other."""


def _quoted(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if _WORD.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _quoted)


@dataclass(frozen=True)
class _Dress:
    """How the same words stand on a page and in a README."""

    safe: Callable[[object], str]
    table: Callable[[str, Sequence[Column], Sequence[Sequence[str]]], str]
    change: Callable[[Comparison | None], str]
    saving: Callable[[Comparison | None], str]
    none: Callable[[str], str]
    aside: Callable[[str], str]
    grade: Callable[[str], str]


def _plain(value: object) -> str:
    """text(), with the characters back that make no markup, so that a README can be read raw."""
    return _HARMLESS.sub(lambda m: chr(int(m[0][2:-1])), text(clean(value))).replace("://", "&#58;//")


def _pipes(name: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Cells are safe already, so none holds a pipe or a line's end."""
    if not rows:
        raise ValueError(f"table {name} has no rows: say so in a sentence instead")
    head = [[c.title for c in columns], ["---:" if c.figures else "---" for c in columns]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*head, *rows])


def _change_words(c: Comparison | None) -> str:
    return "–" if c is None else f"{change(c)}, {kind_words(c)}"


def _saving_html(c: Comparison | None) -> str:
    return "–" if c is None else saving_cell(c)


def _saving_words(c: Comparison | None) -> str:
    if c is None:
        return "–"
    if c.low != c.low:
        return "one run: no interval"
    if c.kind not in ("faster", "slower"):
        return f"no saving shown ({kind_words(c)})"
    share, low, high = saving((c.ratio, c.low, c.high))
    return f"{share:.1%} ({low:.1%} to {high:.1%})".replace("-", "−")


_PAGE = _Dress(
    safe=lambda value: text(clean(value)), table=html.table, change=html.delta, saving=_saving_html, none=html.none,
    aside=lambda words: f"<small>{words}</small>", grade=quality.grade_badge,
)  # fmt: skip
_README = _Dress(
    safe=_plain, table=_pipes, change=_change_words, saving=_saving_words, none=lambda sentence: sentence,
    aside=lambda words: words, grade=lambda grade: f"**{_GRADES[grade]}**",
)  # fmt: skip
_GRADES = {"pass": "pass", "caution": "caution", "fail": "fail", "unknown": "not measurable"}


def _card(view: CaseView, variant: str) -> Card:
    return card(view.case, variant, view.quality, view.trust.limited)


def _sections(view: CaseView, found: Card, d: _Dress) -> dict[str, str]:
    return {
        "name": d.safe(found.name),
        "notices": view.banners() if d is _PAGE else _notices(view),
        "what": _what(view, found, d),
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
        return f"{session.host.get('cpu', 'a CPU without a name')} (no GPU)"
    return view.case.profile.title if view.case.profile else view.case.bundle.info.gpu


def _engine(found: Card) -> str:
    return f"{found.row.engine} {found.row.engine_version or '(version not stated)'}"


def _what(view: CaseView, found: Card, d: _Dress) -> str:
    base, v = d.safe(view.case.study.base_model), found.variant
    if found.quantized:
        bits = f", {found.row.bits:g} bits per weight" if found.row.bits is not None else ""
        first = f"{base}, quantized with {d.safe(v.method)}{bits}."
    elif found.is_baseline:
        first = f"{base} as the baseline: what the quantized variants of this study are compared with."
    else:
        first = f"{base}, its weights as they are: a way to serve it, not another checkpoint."
    if found.kv_quantized:
        first += f" Its KV cache is held as {d.safe(v.kv_dtype)}."
    against = "" if found.is_baseline else f", against the baseline {d.safe(view.case.baseline)} on the same machine"
    measured_on = f"Measured with {d.safe(_engine(found))} on {d.safe(_gpu(view))}{against}."
    named = "" if found.base_model else " The study names no base model by its id on the Hub, so none is linked."
    return f"{first} {measured_on}{named}"


def _how(view: CaseView, found: Card, d: _Dress) -> str:
    r, v = found.row, found.variant
    given = [
        ("Method, as asked for", v.method if v.method != "none" else "none: the weights are not quantized"),
        ("Bits per weight", f"{r.bits:g}" if r.bits is not None else None),
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
        parts.append(
            d.none("The engine's log names no kernel, so nothing is known of the path that these weights took.")
        )
    return "\n\n".join(parts)


def _columns(found: Card, names: Sequence[tuple[str, bool]]) -> list[Column]:
    """Columns of a table against the baseline; the baseline's own card has no such columns."""
    return [Column(n, f) for n, f in names[: -2 if found.is_baseline else None]]


def _cut(found: Card, row: list[str]) -> list[str]:
    return row[:-2] if found.is_baseline else row


def _memory(view: CaseView, found: Card, d: _Dress) -> str:
    by_name = {m.row.variant: m for m in view.memory}
    mine, base = by_name[found.variant.name], by_name.get(view.case.baseline)
    rows = [
        ("Weights (GiB)", lambda m: number(m.row.weights_gib), _share(mine.weights_ratio)),
        ("KV cache pool (GiB)", lambda m: number(m.row.kv_cache_gib), "–"),
        ("KV capacity (tokens)", lambda m: number(m.row.kv_cache_tokens), _share(mine.kv_tokens_ratio)),
        ("Device memory, highest (MiB)", lambda m: number(m.row.vram_peak_mib, 6), "–"),
    ]  # type: list[tuple[str, Callable[[Memory], str], str]]
    shown = [
        _cut(found, [what, read(mine), read(base) if base else "–", ratio])
        for what, read, ratio in rows
        if read(mine) != "–"
    ]
    if not shown:
        return d.none("Neither engine nor driver stated any memory of this variant.")
    columns = _columns(found, [("Part", False), ("This variant", True), ("Baseline", True), ("Change", True)])
    said = "As the engine states it at its first start; the device's memory is the driver's word."
    return d.table("memory", columns, shown) + "\n\n" + said


def _share(ratio: float) -> str:
    return "–" if ratio != ratio else signed_percent(ratio)


def _value(p: Point, digits: int = 3) -> str:
    """A value with its 95 % interval, or alone where there is none."""
    if p.low != p.low or p.high != p.high:
        return number(p.value, digits)
    return f"{number(p.value, digits)} ({number(p.low, digits)} to {number(p.high, digits)})"


def _measured(view: CaseView, found: Card, metric: str, compared: str = "") -> list[Measured]:
    return measured(view.case, view.points, view.comparisons, found.variant.name, metric, compared)


def _load_table(
    found: Card, d: _Dress, rows: list[Measured], unit: tuple[str, str, str], saved: bool = False, digits: int = 3
) -> str:
    """One metric at every load point; `unit` is the table's name, the figure's header, and what is counted."""
    name, header, counted = unit
    cells = [
        _cut(
            found,
            [
                d.safe(m.workload), d.safe(m.load.words), _value(m.mine, digits),
                number(m.mine.runs if counted == "Repeats" else m.mine.n),
                _value(m.baseline, digits) if m.baseline and m.baseline.shown else "–",
                d.saving(m.change) if saved else d.change(m.change),
            ],
        )
        for m in rows
    ]  # fmt: skip
    last = "Saving" if saved else "Change"
    names = [("Workload", False), ("Load", False), (header, True), (counted, True), (f"Baseline {header}", True)]
    return d.table(name, _columns(found, [*names, (last, False)]), cells)


def _speed(view: CaseView, found: Card, d: _Dress) -> str:
    speeds, waits = _measured(view, found, THROUGHPUT), _measured(view, found, "ttft_ms_p50")
    if not speeds:
        return d.none("No load was measured with this variant.")
    parts = ["Output tokens per second in the steady window, mean over repeats, with the 95 % interval."]
    parts.append(_load_table(found, d, speeds, ("throughput", "throughput (tok/s)", "Repeats"), digits=4))
    if waits:
        parts.append("Time to the first token: the median over all requests that ended well.")
        parts.append(_load_table(found, d, waits, ("ttft", "TTFT p50 (ms)", "Requests")))
    return "\n\n".join(parts)


def _cost(view: CaseView, found: Card, d: _Dress) -> str:
    if view.usd_per_hour is None:
        return d.none("No price was given for this machine, so no cost is stated.")
    rows = _measured(view, found, _COST, THROUGHPUT)
    if not rows:
        return d.none("No load was measured with this variant, so there is no cost to state.")
    said = f"{number(view.usd_per_hour)} $ an hour ({view.price_source}), the card fully used; at half the use, twice."
    unit = ("cost", "cost ($ / 1M output tokens)", "Repeats")
    return said + "\n\n" + _load_table(found, d, rows, unit, saved=True)


def _quality(view: CaseView, found: Card, d: _Dress) -> str:
    if not view.quality or not found.judged:
        return d.none(quality.sentence(view))
    parts = []
    mine = next((q for q in view.quality if q.variant == found.variant.name), None)
    if found.is_baseline:
        parts.append("This is the baseline: the other variants are judged against these answers.")
    elif mine is None:
        return d.none("This variant answered no prompts, so nothing is known of its quality.")
    if mine is not None and (verdict := view.quality_verdicts.get(mine.variant)):
        parts.append(f"{d.grade(verdict.grade)}: {d.safe(verdict.because)}.")
        if mine.accuracy:
            parts.append(_accuracy(view, mine.accuracy, d))
    if found.scores:
        rows = [
            _cut(found, [d.safe(s.suite), number(s.n), number(s.right), _percent(s.right / s.n),
                         number(s.baseline_right), _percent(s.baseline_right / s.n)])
            for s in found.scores
        ]  # fmt: skip
        names = ["Suite", "Prompts", "Right", "Accuracy", "Baseline right", "Baseline accuracy"]
        parts.append(d.table("suites", _columns(found, [(n, i > 0) for i, n in enumerate(names)]), rows))
    if mine is not None and verdict and verdict.checks:
        rows = [[d.safe(c.rule), d.grade(c.grade), d.safe(c.seen)] for c in verdict.checks]
        parts.append("The rules behind the verdict; the worst that decides makes it.")
        parts.append(d.table("rules", [Column(n) for n in ("Rule", "Result", "Seen")], rows))
    return "\n\n".join(parts)


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
