"""Offers: the author's words, and figures that come from the cases alone."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from collector.bundle.read import QuantcaseError
from quantcase.analysis.offer_evidence import Seen, best_throughput, judged, lightest, saving_of, volume
from quantcase.catalog import load
from quantcase.pages.offers import index, page, read
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle

ROOT = Path(__file__).parents[2]
OFFERS = sorted(p for p in (ROOT / "docs" / "offers").glob("*.md") if p.name != "index.md")
OFFER = """---
title: An offer
summary: What for
duration: 2 days
scope: [One model]
deliverables: [{get: A report, carried_by: the bundle}]
evidence: [measured, gpus, throughput, saving, memory, quality]
---
My own *words*.
"""


def views(results: Path) -> list[CaseView]:
    return [CaseView(c, Options()) for c in load(results).cases]


def seen(results: Path) -> list[Seen]:
    return [Seen(v.case, v.verdicts, v.quality_verdicts, v.memory) for v in views(results)]


def rows(markdown: str) -> dict[str, str]:
    """What the evidence table says, by its first column."""
    body = markdown.split('id="table-evidence"')[1].split("</table>")[0]
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body)
    return {what: unescape(re.sub(r"<[^>]+>", " ", cells)) for what, cells in found}


def test_the_figures_of_an_offer_are_those_of_the_case(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, weights="real")
    view = views(tmp_path)[0]
    faster = [c for c in view.comparisons if c.metric == "throughput_tok_s" and c.kind == "faster"]
    top = {w.name: view.case.loads(w.name)[-1].name for w in view.case.study.workloads}
    best = max((c for c in faster if c.load == top[c.workload]), key=lambda c: c.low)
    shown = rows(page(OFFER, "offer.md", [view]))
    assert f"{best.variant} +{100 * (best.ratio - 1):.1f} %" in shown["Best gain of throughput"]
    assert f"{100 * (1 - 1 / best.ratio):.1f} %" in shown["Best saving per output token"]
    assert f"({100 * (1 - 1 / best.low):.1f} % to {100 * (1 - 1 / best.high):.1f} %)" in " ".join(
        shown["Best saving per output token"].split()
    )
    assert folder.name in shown["Best gain of throughput"]
    ok = int((view.case.requests["status"] == "ok").sum())
    assert f"4 variants, {ok:,} requests" in shown["Measured cases"]
    assert shown["Lightest weights"].split()[:2] == ["awq", "−64.2"]  # 5.37 of 14.99 GiB
    assert "No measured case has judged answers yet" in shown["Quality judged"]


def test_the_best_is_the_one_that_is_surest_not_the_largest(tmp_path: Path) -> None:
    make_bundle(tmp_path, weights="real")
    found = seen(tmp_path)
    best = best_throughput(found)
    assert best is not None
    others = [v.evidence for v in found[0].verdicts if v.evidence is not None and v.evidence.kind == "faster"]
    assert best.comparison.low == max(c.low for c in others)
    assert (best.compared, best.beyond) == (6, len(others))  # 3 variants, 2 workloads
    share, low, high = saving_of(best)
    assert low < share < high
    assert share == pytest.approx(1 - 1 / best.comparison.ratio)


def test_simulated_and_faulty_bundles_carry_no_offer(tmp_path: Path) -> None:
    make_bundle(tmp_path, name="replayed", grade="simulated")
    broken = make_bundle(tmp_path, name="broken")
    (broken / "cells.csv").write_text((broken / "cells.csv").read_text() + " ")
    found = seen(tmp_path)
    assert volume(found).cases == ()
    assert (best_throughput(found), lightest(found), judged(found)) == (None, None, [])
    made = page(OFFER, "offer.md", views(tmp_path))
    assert "There is no measured case yet" in made
    assert "table-evidence" not in made


def test_no_price_is_named_that_the_author_did_not_write(tmp_path: Path) -> None:
    assert "**Price:** on request" in page(OFFER, "offer.md", [])
    priced = OFFER.replace("duration: 2 days", "duration: 2 days\nprice: 4,000 EUR, net")
    assert "4&#44;000 EUR" in page(priced, "offer.md", [])
    assert "4&#44;000 EUR" in index({"offer.md": priced})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("---\ntitle", "title"), "no front matter"),
        (("duration: 2 days\n", ""), "duration"),
        (("evidence: [measured", "evidence: [magic"), "magic"),
        (("duration: 2 days", "duration: 2 days\nprize: 3"), "prize"),
        (("duration: 2 days", "duration: 2 days\nprice: 3"), "has no unit"),
        (("scope: [One", "scope: [[One"), "not YAML"),
    ],
)
def test_a_faulty_front_matter_is_one_line_that_names_the_file(change: tuple[str, str], says: str) -> None:
    with pytest.raises(QuantcaseError) as e:
        read(OFFER.replace(*change, 1), "docs/offers/x.md")
    assert says in str(e.value)
    assert "docs/offers/x.md" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("path", OFFERS, ids=lambda p: p.stem)
def test_the_offers_that_come_with_it_have_what_an_offer_needs(path: Path) -> None:
    offer, body = read(path.read_text(), path.name)
    assert offer.price == "on request"
    assert offer.not_promised
    assert "## How it goes" in body
    assert not re.search(r"\d+(\.\d+)?\s?(%|tok/s|USD|EUR)", body + offer.summary)  # figures come from the cases


def test_there_are_the_three_offers() -> None:
    titles = {read(p.read_text(), p.name)[0].title for p in OFFERS}
    assert titles == {
        "Quantization health check", "Capacity and cost review", "Quality assurance for quantized deployments",
    }  # fmt: skip
