"""Offers: a person's own words about what they sell, and beside them what the cases carry, live.

An offer is a Markdown file with front matter. Its words are the author's, who publishes the site; its figures come from
the cases alone, each with its interval and a link. A price stands there only when the author wrote one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import yaml
from msgspec import Meta, Struct, field

from collector.bundle.read import QuantcaseError
from quantcase.analysis.offer_evidence import Seen, best_throughput, judged, lightest, saving_of, volume
from quantcase.catalog import Case
from quantcase.html import Column, change, none, table
from quantcase.pages.quality import grade_badge
from quantcase.pages.servers import gib
from quantcase.pages.view import CaseView, render
from quantcase.text import load_words, number, percent, signed_percent, text

__all__ = ["Offer", "index", "page", "read"]

Evidence = Literal["measured", "gpus", "throughput", "saving", "memory", "quality"]
Line = Annotated[str, Meta(min_length=1, max_length=400)]
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.S)
_ON_REQUEST = "on request"


class Deliverable(Struct, frozen=True, forbid_unknown_fields=True):
    """What the client gets, and what carries it."""

    get: Line
    carried_by: Line


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The front matter of an offer."""

    title: Line
    summary: Line
    duration: Line
    scope: Annotated[list[Line], Meta(min_length=1)]
    deliverables: Annotated[list[Deliverable], Meta(min_length=1)]
    evidence: Annotated[list[Evidence], Meta(min_length=1)]
    price: Line = _ON_REQUEST
    not_promised: list[Line] = field(default_factory=list)


def read(source: str, where: str) -> tuple[Offer, str]:
    """The front matter and the body of an offer's Markdown. `where` names the file in errors.

    Raises:
        QuantcaseError: no front matter, not YAML, a key that is missing, unknown or of the wrong kind.
    """
    match = _FRONT.match(source.removeprefix("\ufeff").replace("\r\n", "\n"))
    fix = "an offer begins with title, summary, duration, scope, deliverables and evidence between two lines of ---"
    if match is None:
        raise QuantcaseError(f"{where}: no front matter", fix=fix)
    try:
        data: Any = yaml.safe_load(match[1])
        if isinstance(data, Mapping) and isinstance(data.get("price"), int | float):
            raise QuantcaseError(f"{where}: price {data['price']} has no unit", fix="write it as text: 9,500 EUR, net")
        return msgspec.convert(data, Offer), source.replace("\r\n", "\n").removeprefix("\ufeff")[match.end() :].strip()
    except yaml.YAMLError as e:
        raise QuantcaseError(f"{where}: front matter is not YAML: {' '.join(str(e).split())}", fix=fix) from None
    except msgspec.ValidationError as e:
        raise QuantcaseError(f"{where}: {e}", fix=fix) from None


def page(source: str, where: str, views: Sequence[CaseView]) -> str:
    """The Markdown of `offers/<name>.md`: the offer with the evidence of all cases.

    Raises:
        QuantcaseError: see `read`.
    """
    offer, body = read(source, where)
    rows = [[text(d.get), text(d.carried_by)] for d in offer.deliverables]
    return render(
        "offer.md.j2",
        title=text(offer.title),
        summary=text(offer.summary),
        duration=text(offer.duration),
        price=text(offer.price),
        scope=[text(line) for line in offer.scope],
        deliverables=table("deliverables", [Column("You get"), Column("What carries it")], rows),
        evidence=_evidence(offer.evidence, views),
        not_promised=[text(line) for line in offer.not_promised],
        body=body,
    )


def index(offers: Mapping[str, str]) -> str:
    """The Markdown of `offers/index.md` from file name -> Markdown of each offer; a sentence where there is none.

    Raises:
        QuantcaseError: see `read`.
    """
    found = {name: read(source, name)[0] for name, source in sorted(offers.items())}
    rows = [
        [
            f'<a href="{quote(name.removesuffix(".md"))}/">{text(o.title)}</a>',
            *map(text, (o.summary, o.duration, o.price)),
        ]
        for name, o in found.items()
    ]
    columns = [Column(n) for n in ("Offer", "What for", "Duration", "Price")]
    return "# Offers\n\n" + (table("offers", columns, rows) if rows else none("There is no offer yet.")) + "\n"


def _evidence(kinds: Sequence[Evidence], views: Sequence[CaseView]) -> str:
    seen = [Seen(v.case, v.verdicts, v.quality_verdicts, v.memory) for v in views]
    if not any(s.counts for s in seen):
        return none("There is no measured case yet, so nothing carries this offer. Measure one first.")
    made = {
        "measured": _measured, "gpus": _gpus, "throughput": _throughput, "saving": _saving, "memory": _memory,
        "quality": _quality,
    }  # fmt: skip
    rows = [row for kind in dict.fromkeys(kinds) for row in made[kind](seen)]
    return table("evidence", [Column("What"), Column("Figure"), Column("Rule and cases")], rows)


def _link(case: Case, below: str = "") -> str:
    return f'<a href="../../cases/{quote(case.id)}/{below}">{text(case.id)}</a>'


def _measured(seen: Sequence[Seen]) -> list[list[str]]:
    v = volume(seen)
    what = f"{number(v.variants)} variants, {number(v.requests)} requests that ended well"
    return [["Measured cases", number(len(v.cases)), f"{what}: {', '.join(map(_link, v.cases))}"]]


def _gpus(seen: Sequence[Seen]) -> list[list[str]]:
    v = volume(seen)
    names = [next((c.profile.title for c in v.cases if c.bundle.info.gpu == g and c.profile), g) for g in v.gpus]
    return [["Measured on", ", ".join(map(text, names)), "GPU profiles of the measured cases"]]


def _throughput(seen: Sequence[Seen]) -> list[list[str]]:
    best = best_throughput(seen)
    if best is None:
        return [
            ["Throughput", "–", "No variant of a measured case on a GPU is faster than its baseline beyond the noise."]
        ]
    c = best.comparison
    return [["Best gain of throughput", f"{text(c.variant)} {change(c)}", _chosen(seen)]]


def _saving(seen: Sequence[Seen]) -> list[list[str]]:
    best = best_throughput(seen)
    if best is None:
        return [["Saving", "–", "No measured case on a GPU shows a saving beyond the noise."]]
    share, low, high = saving_of(best)
    shown = f"{text(best.comparison.variant)} {percent(share)} <small>({percent(low)} to {percent(high)})</small>"
    return [["Best saving per output token", shown, f"At the same price an hour. {_chosen(seen)}"]]


def _chosen(seen: Sequence[Seen]) -> str:
    """The rule behind a best figure, among how many it was chosen, and what is known of its quality."""
    best = best_throughput(seen)
    assert best is not None  # noqa: S101 - asked only where there is one
    c, info = best.comparison, best.case.bundle.info
    if info.weights == "dummy":
        quality = "dummy weights: its quality is not measured"
    elif best.quality:
        quality = f"quality {grade_badge(best.quality)}"
    else:
        quality = "its quality is not measured"
    return (
        f"Highest lower end of a 95 % interval among {number(best.compared)} variants and workloads on GPUs at their "
        f"highest load, {number(best.beyond)} of them faster beyond the noise; {text(c.workload)}, "
        f"{load_words(c.load)}; {quality}: {_link(best.case)}"
    )


def _memory(seen: Sequence[Seen]) -> list[list[str]]:
    found = lightest(seen)
    if found is None:
        return [["Weights", "–", "No measured case on a GPU states weights smaller than its baseline&#39;s."]]
    case, leader = found
    row = leader.memory.row
    shown = f"{text(row.variant)} {signed_percent(leader.ratio)}, {gib(row)}"
    return [["Lightest weights", shown, f"Of the first server start, against the baseline&#39;s: {_link(case)}"]]


def _quality(seen: Sequence[Seen]) -> list[list[str]]:
    rows = []
    for j in judged(seen):
        grades = ", ".join(f"{number(n)} {grade_badge(g)}" for g, n in j.grades.items())
        rows.append(
            ["Quality judged", grades, f"variants, on {number(j.prompts)} prompts: {_link(j.case, 'quality/')}"]
        )
    return rows or [["Quality judged", "–", "No measured case has judged answers yet."]]
