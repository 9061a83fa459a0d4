"""What an engine states of one GPU of a server is never read as the server's: a real box with two H200s."""

from __future__ import annotations

import html
import re

import msgspec
import pytest

from quantcase.analysis.between import compared, side_of
from quantcase.analysis.between_document import document
from quantcase.analysis.gpus_boxes import apart
from quantcase.analysis.gpus_study import groups
from quantcase.analysis.servers import gpu_counts
from quantcase.analysis.tradeoff import quality_by_size
from quantcase.catalog import Case, read
from quantcase.pages import cards, case, compare, home, log, notes, save_gpu
from quantcase.pages.view import CaseView, Options
from tests.real import CPU_BUNDLE, RESULTS

PAIR = RESULTS / "2026-11-21-h200-h200-pair"
LARGE = RESULTS / "2026-11-21-h200-h200-pair-70b"


@pytest.fixture(scope="module")
def view() -> CaseView:
    return CaseView(read(PAIR), Options())


def words(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


def weights(view: CaseView, variant: str) -> float:
    row = view.case.served(variant)
    assert row is not None
    assert row.weights_gib is not None
    return row.weights_gib


def test_the_rows_are_of_one_gpu_and_the_drivers_of_the_server(view: CaseView) -> None:
    assert gpu_counts(view.case) == {"bf16-two": 2, "bf16": 1, "fp8": 1, "fp8-two": 2}
    assert weights(view, "bf16-two") == pytest.approx(weights(view, "bf16") / 2, rel=0.01)
    one, two = view.case.served("bf16"), view.case.served("bf16-two")
    assert one is not None and two is not None  # noqa: PT018
    assert one.vram_peak_mib is not None and two.vram_peak_mib is not None  # noqa: PT018
    assert two.vram_peak_mib == pytest.approx(2 * one.vram_peak_mib, rel=0.01)


def test_every_page_says_of_what_it_states_weights(view: CaseView) -> None:
    each = f"{weights(view, 'bf16-two'):.3g} GiB on each of 2 GPUs"
    assert f"weights {each}, by the engine's word" in words(log.page(view))
    assert "Weights of one GPU (GiB)" in words(notes.page(view))
    assert "Weights of one GPU (GiB)" in words(case.page(view))
    assert f"{weights(view, 'fp8-two'):.3g} GiB on each of 2 GPUs" in words(case.page(view))
    shown = words(home.page([view], [], Options()))
    assert f"{weights(view, 'bf16-two'):.3g} each of 2 GPUs" in shown
    assert f"{weights(view, 'bf16'):.3g} each of" not in shown
    assert "Weights of one GPU (GiB)" in words(cards.page(view, "fp8-two"))


def test_two_servers_of_unlike_gpus_have_no_ratio_of_weights(view: CaseView) -> None:
    doc = document(view.case, view.estimates, view.points)
    unlike = {x.metric: x for x in compared(side_of(doc, "bf16-two"), side_of(doc, "bf16")) if not x.workload}
    assert unlike["weights_gib"].refused == "stated of one GPU of a server, and they have 2 and 1"
    assert not unlike["vram_peak_mib"].refused
    alike = {x.metric: x for x in compared(side_of(doc, "bf16-two"), side_of(doc, "fp8-two")) if not x.workload}
    assert alike["weights_gib"].ratio == pytest.approx(weights(view, "fp8-two") / weights(view, "bf16-two"))


def test_the_balance_of_quality_and_size_leaves_out_servers_of_more_gpus() -> None:
    view = CaseView(read(CPU_BUNDLE), Options())
    whole = quality_by_size(view.case, view.quality)
    last = str(whole["variant"].iloc[-1])
    more = Case(view.case.bundle, view.case.study, [])
    more.__dict__["variants"] = [
        msgspec.structs.replace(v, gpus=2) if v.variant == last else v for v in view.case.variants
    ]
    assert list(quality_by_size(more, view.quality)["variant"]) == list(whole["variant"].iloc[:-1])


def test_the_two_real_boxes_answer_whether_fp8_saves_a_gpu(view: CaseView) -> None:
    lines = [words(line) for line in save_gpu.brief(view)]
    assert lines[0].startswith("chat: yes, 1 GPU less if its quality holds: fp8 on 1 GPU against bf16-two on 2 GPUs")
    assert lines[1].startswith("batch: no: fp8 on 1 GPU against bf16-two on 2 GPUs, throughput −14.")
    large = CaseView(read(LARGE), Options())
    assert "bf16 does not fit on 1 GPU; fp8 does" in [words(line) for line in save_gpu.brief(large)]
    assert "No available memory for the cache blocks" in words(save_gpu.section(large))


def test_one_box_whose_cards_serve_alone_and_together_is_one_box() -> None:
    (large,) = compare.documents([CaseView(read(LARGE), Options())])
    names = {box for v in large.variants.values() for box in v.boxes}
    assert len(names) == 2  # the first card alone, and both
    assert all(not apart([a], [b]) for a in names for b in names)
    (group,) = groups([large])
    assert not group.several
