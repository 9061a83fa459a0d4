"""The same study across GPUs and boxes: `gpus/index.md` and `gpus/gpus.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from collector import gpus as profiles
from quantcase.analysis.between_document import CaseDocument
from quantcase.analysis.gpus_document import Fleet, Study, document, study_of
from quantcase.analysis.gpus_study import Group, groups
from quantcase.html import Column, badge, banner, none, table
from quantcase.money import DOLLARS, Money
from quantcase.pages.gpus_boxes import box_words, boxes
from quantcase.pages.gpus_choice import flips, winners
from quantcase.pages.gpus_costs import costs, machine, slugs
from quantcase.pages.schemas import portable
from quantcase.pages.view import render
from quantcase.text import counted, number, said, text

__all__ = ["TITLE", "Page", "page", "schema"]

TITLE = "GPUs"  # of the entry in the menu
_NEEDED = (
    "No study has been measured on two GPU types or on two boxes of one type. A second bundle of the same study (same "
    "base model, seed and workloads) from another card makes this page: `collect run STUDY --gpu NAME` there."
)


class Page(msgspec.Struct):
    """The page, its data, and its title in the menu: empty while there is nothing to compare."""

    markdown: str
    data: str
    title: str


def page(found: Sequence[CaseDocument], money: Money = DOLLARS) -> Page:
    """`found` are the documents of all cases (`compare.documents`)."""
    every = groups(found)
    made = [study_of(g) for g in every if g.several]
    single = [g for g in every if not g.several]
    needed = "" if made else _NEEDED
    whole = document(made, needed.replace("`", ""))
    markdown = render(
        "gpus.md.j2",
        needed=none(_code(needed)) if needed else "",
        studies=[_section(s, slug, name, money) for s, slug, name in zip(made, slugs(made), _names(made), strict=True)],
        once=_once(single) if single else "",
    )
    data = json.dumps(msgspec.to_builtins(whole), indent=1, allow_nan=False) + "\n"
    return Page(markdown, data, TITLE if made else "")


def schema() -> str:
    """The text of `schema/gpus-1.json`."""
    made: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Quantcase gpus.json, version 1",
        **portable(msgspec.json.schema(Fleet)),
    }
    return json.dumps(made, indent=1) + "\n"


def _code(words: str) -> str:
    """Words of ours with commands between backticks, as HTML."""
    parts = words.split("`")
    return "".join(f"<code>{text(p)}</code>" if i % 2 else text(p) for i, p in enumerate(parts))


def _names(found: Sequence[Study]) -> list[str]:
    """A name for each study's headings, unlike among themselves."""
    short = [text(s.group.base_model or s.group.cases[0].study) for s in found]
    long = [f"{n}, {text(s.group.grade)}, {text(s.group.weights)} weights" for n, s in zip(short, found, strict=True)]
    made = [n if short.count(n) == 1 else whole for n, whole in zip(short, long, strict=True)]
    return [f"{n}, study {i + 1}" if made.count(n) > 1 else n for i, n in enumerate(made)]


def _section(s: Study, slug: str, name: str, money: Money) -> dict[str, str]:
    g = s.group
    on = " and ".join(text(t.name) for t in g.gpus)
    return {
        "name": name,
        "title": f"{name} on {on}" + ("" if g.grade == "measured" else f", {text(g.grade)}"),
        "banner": _banners(g),
        "finding": _finding(s),
        "cards": _cards(s, slug),
        "caveats": _caveats(s),
        "boxes": boxes(s, slug),
        "costs": costs(s, slug, money),
        "wins": winners(s, slug, money),
        "flips": flips(s, slug),
        "machine": machine(s, slug),
    }


def _banners(g: Group) -> str:
    lines = []
    if g.grade == "simulated":
        lines.append(banner("simulated", "Simulated: replayed timings. Nothing here was measured, nothing is named."))
    elif g.grade != "measured":
        lines.append(banner("grade", f"Evidence of grade {text(g.grade)}: not measured by this collector."))
    if g.weights == "dummy":
        words = "Dummy weights: speed and memory are those of the real shapes. Power depends on values, too."
        lines.append(banner("dummy", words))
    for case in g.cases:
        if not case.sound:
            lines.append(banner("faulty", f"{text(case.case)} has faults: nothing is chosen from it."))
        if case.status != "complete":
            lines.append(banner("interrupted", f"{text(case.case)} is {text(case.status)}."))
    return "\n".join(lines)


def _finding(s: Study) -> str:
    """What the page found, in a few sentences."""
    judged = [t for t in s.joint if t.metric == "throughput_tok_s" and s.group.grade != "simulated"]
    parts = [f"- {box_words(t)}" for t in judged]
    named = [(w, w.best) for w in s.wins if w.named and w.best]
    parts += [
        f"- {_QUESTIONS[w.question]}, {text(w.workload)}: **{text(best.gpu)}**, {text(best.variant)}."
        for w, best in named
    ]
    if s.wins and len(named) < len(s.wins):
        left = counted(len(s.wins) - len(named), "question")
        parts.append(f"- {left} without a winner: within the noise, or not comparable. See below.")
    return "\n".join(parts) or "Nothing is named."


_QUESTIONS = {"cheapest": "Cheapest", "fastest": "Fastest for each reader", "throughput": "Most throughput of a server"}


def _cards(s: Study, slug: str) -> str:
    rows = []
    for gpu in s.group.gpus:
        for b in gpu.boxes:
            newest = b.cases[0]
            hardware = newest.variants[next(iter(newest.variants))].fixed.get("Hardware", {})
            engine = newest.variants[next(iter(newest.variants))].fixed.get("Engine", {})
            rows.append([
                text(gpu.name), text(b.name),
                "<br>".join(f'<a href="../cases/{c.case}/">{text(c.case)}</a> {badge(c.grade)}' for c in b.cases),
                text(f"{engine.get('engine', '')} {engine.get('version', '')}".strip()) or "not stated",
                said(hardware.get("power limit", "")) or "not recorded",
                text(hardware.get("driver", "")) or "not recorded",
                _price(s.prices[gpu.name]), text(gpu.priced.price) or "no price given", _range(gpu.gpu),
            ])  # fmt: skip
    columns = [
        Column("GPU"), Column("Box"), Column("Cases, newest first"), Column("Engine"), Column("Power limit"),
        Column("Driver"), Column("Price of one GPU, USD / hour", True), Column("Source"),
        Column("Quoted range, USD / hour", True),
    ]  # fmt: skip
    return table(f"gpu-cards-{slug}", columns, rows)


def _price(price: float | None) -> str:
    return "no price" if price is None else number(price)


def _range(gpu: str) -> str:
    known = profiles.load().get(gpu)
    figure = known.price_usd_per_hour if known else None
    if figure is None or figure.low is None or figure.high is None:
        return "no range known"
    return f"{number(figure.low)} to {number(figure.high)} <small>{text(f'{figure.source}, {figure.date}')}</small>"


def _caveats(s: Study) -> str:
    if not s.caveats:
        return "Nothing else that moves figures was seen to differ between these cases."
    items = [f"- {text(a)} against {text(b)}: {said(words)}" for a, b, words in s.caveats]
    return "\n".join(["**What else differs**, and is in every difference below:", "", *items])


def _once(found: Sequence[Group]) -> str:
    rows = []
    for g in found:
        newest = g.cases[0]
        where = [b.name for t in g.gpus for b in t.boxes]
        rows.append([
            text(g.base_model) or text(newest.study), text(g.gpus[0].name), "<br>".join(map(text, where)),
            "<br>".join(f'<a href="../cases/{c.case}/">{text(c.case)}</a>' for c in g.cases),
            f"{badge(g.grade)} {text(g.weights)} weights",
        ])  # fmt: skip
    columns = [Column(n) for n in ("Model", "GPU", "Box", "Cases", "Evidence")]
    words = "These studies have one GPU type and no two boxes that are known to be two, so nothing is compared."
    return f"{words}\n\n" + table("gpu-once", columns, rows)
