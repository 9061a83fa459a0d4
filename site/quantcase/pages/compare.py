"""The comparison of any two variants: an index, one file of figures a case, and what stands there without JavaScript.

A file of figures is a script that puts one string of JSON on a list, because a page opened from a folder may load
scripts and not fetch JSON. The string is JSON in ASCII with `<` escaped, so it can end no element and names no key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import msgspec
from msgspec import Struct

from quantcase.analysis.between import FIXED, Metric, metrics
from quantcase.analysis.between_document import SINGLES, CaseDocument, document
from quantcase.analysis.comparable import NEWEST, Pair, pairs
from quantcase.analysis.experiments import excluded
from quantcase.analysis.gpus_boxes import apart
from quantcase.analysis.gpus_facts import gpu_facts
from quantcase.analysis.plan_common import State, name_list
from quantcase.html import Column, badge, none, table
from quantcase.money import DOLLARS, Money
from quantcase.pages.view import CaseView, render
from quantcase.text import fixed, load_words, said, text

__all__ = ["documents", "files", "page"]

_MOST = 100  # pairs that are listed


class _Entry(Struct):
    """One case in the index."""

    case: str
    title: str
    grade: str
    weights: str
    gpu: str
    variants: list[str]


class _Index(Struct):
    """What the pickers need, and what the comparison needs to know of the figures."""

    metrics: list[Metric]
    fixed: dict[str, dict[str, State]]
    singles: dict[str, tuple[str, bool]]
    cases: list[_Entry]
    usual: list[tuple[str, str]]  # the two (case, variant) that are shown before anything is chosen


def documents(views: Sequence[CaseView]) -> list[CaseDocument]:
    """What each case publishes for comparisons."""
    return [_document(v) for v in views]


def _document(view: CaseView) -> CaseDocument:
    given, own = view.case.bundle.info.gpu in dict(view.options.prices), view.case.study.price
    made = document(
        view.case, view.estimates, view.points, view.quality, view.quality_control,
        usd_per_hour=view.usd_per_hour,
        price="set in mkdocs.yml" if given else f"{own.source}, {own.date}" if own else "",
    )  # fmt: skip
    facts = gpu_facts(view.case, excluded(view.case, view.quality_verdicts))
    for name, variant in made.variants.items():
        if name in facts.variants:
            variant.boxes = facts.variants[name].boxes
    return msgspec.structs.replace(made, hardware=facts)


def files(found: Sequence[CaseDocument]) -> Iterator[tuple[str, str]]:
    """(name below `compare/`, content) of the index and of each case's figures."""
    entries = [_Entry(c.case, c.title, c.grade, c.weights, c.gpu, list(c.variants)) for c in found]
    yield "cases.js", _script(_Index(metrics(), FIXED, SINGLES, entries, _usual(found)))
    for case in found:
        yield f"cases/{case.case}.js", _script(msgspec.structs.replace(case, hardware=None))


def _usual(found: Sequence[CaseDocument]) -> list[tuple[str, str]]:
    """The baseline of the newest case that is whole and its first quantized variant, else its first other: both with
    figures."""
    for whole in (True, False):
        for case in found:
            served = [name for name, v in case.variants.items() if v.cells]
            if len(served) > 1 and (not whole or (case.sound and case.status == "complete")):
                first = case.baseline if case.baseline in served else served[0]
                others = sorted((n for n in served if n != first), key=lambda n: _alike(case, n, first))
                return [(case.case, name) for name in (first, others[0])]
    return [(case.case, name) for case in found for name in list(case.variants) * 2][:2]


def _alike(case: CaseDocument, a: str, b: str) -> bool:
    one, other = (case.variants[name].what for name in (a, b))
    return all(one.get(what) == other.get(what) for what in ("method", "KV cache"))


def _script(document: Struct) -> str:
    inner = json.dumps(msgspec.json.encode(document).decode()).replace("<", "\\u003c")
    return f"(globalThis.quantcaseData ||= []).push({inner});\n"


def page(found: Sequence[CaseDocument], money: Money = DOLLARS) -> str:
    """The Markdown of `compare/index.md`. The files of figures stay in dollars: the script converts what it shows."""
    words = none("Choosing two variants needs JavaScript. The cases and the comparable pairs are listed below.")
    rows = [
        [
            f'<a href="../cases/{c.case}/">{text(c.case)}</a>',
            text(c.title),
            text(c.gpu),
            text(name_list(c.variants)),
            text(_boxes(c)),
            f"{badge(c.grade)} {text(c.weights)} weights",
        ]
        for c in found
    ]
    columns = [Column(n) for n in ("Case", "Title", "GPU", "Variants", "Card or box", "Evidence")]
    code = money.currency.code
    rate = f' data-currency="{code}" data-rate="{money.currency.rate!r}"' if money.currency.foreign else ""
    live = f'<div class="qc-compare" data-src=""{rate}>{words}</div>{money.note()}'
    return render(
        "compare.md.j2",
        live=live if found else none("There is no result bundle yet."),
        pairs=_pairs(found),
        cases=table("compare-cases", columns, rows) if rows else none("There is no case."),
    )


def _pairs(found: Sequence[CaseDocument]) -> str:
    comparable, whole = pairs(found)
    if not comparable:
        return none("No two cases measured the same workload at the same load.")
    rows = [[_name(p.a), _name(p.b), _shared(p), _differs(p), _link(p)] for p in comparable[:_MOST]]
    columns = [Column(n) for n in ("A", "B", "Shared", "What differs beside the variants", "")]
    parts = [table("pairs", columns, rows)]
    if not whole:
        parts.append(f"Of each workload the {NEWEST} newest cases are paired here; the pickers reach every case.")
    if len(comparable) > _MOST:
        parts.append(f"{_MOST} of {fixed(len(comparable))} pairs are listed, those with the fewest differences.")
    return "\n\n".join(parts)


def _name(case: CaseDocument) -> str:
    return f'<a href="../cases/{case.case}/">{text(case.case)}</a> {badge(case.grade)}'


def _shared(pair: Pair) -> str:
    by_workload: dict[str, list[str]] = {}
    for workload, load in pair.shared:
        by_workload.setdefault(workload, []).append(load_words(load))
    return "; ".join(f"{text(w)}: {', '.join(loads)}" for w, loads in by_workload.items())


def _boxes(case: CaseDocument) -> str:
    """The cards or boxes that a case was measured on, as far as it knows them."""
    found = dict.fromkeys(b for v in case.variants.values() for b in v.boxes)
    return ", ".join(found or (case.hardware.boxes if case.hardware else [])) or "not recorded"


def _differs(pair: Pair) -> str:
    a, b = (c.variants[v].boxes for c, v in zip((pair.a, pair.b), pair.variants, strict=True))
    parts = [f"! two boxes <small>({text(', '.join(a))} against {text(', '.join(b))})</small>"] if apart(a, b) else []
    parts += [f"{text(d.variable)} <small>({said(d.words)})</small>" for d in pair.differs]
    return "; ".join(parts) or "nothing that was recorded"


def _link(pair: Pair) -> str:
    a, b = (f"{quote(c.case)}/{quote(v)}" for c, v in zip((pair.a, pair.b), pair.variants, strict=True))
    return f'<span class="qc-pair" data-a="{a}" data-b="{b}"></span>'
