"""The same study over time: which runs make a series, what changed, and what is named better or worse."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.bundle.manifest import read, resources, write
from collector.bundle.schema import Environment, Session, VariantRow
from collector.study import Study, Variant
from quantcase.analysis.between import COST, between, compared, lines, side_of
from quantcase.analysis.between_document import CaseDocument, document
from quantcase.analysis.compare import judge
from quantcase.analysis.points import THROUGHPUT, cell_estimates, points
from quantcase.analysis.series import RECOVERY, Change, Series, _corrected, series
from quantcase.catalog import load
from quantcase.pages import compare, history
from quantcase.pages.view import CaseView, Options
from tests import makers


def small() -> Study:
    """Two variants at few loads, so that a run is made in a moment."""
    asked = makers.study()
    chat = msgspec.structs.replace(asked.workload("chat"), concurrency=[4, 8], min_requests=12, output_tokens=32)
    batch = msgspec.structs.replace(asked.workload("batch"), concurrency=[8], output_tokens=32)
    return msgspec.structs.replace(asked, variants=asked.variants[:2], workloads=[chat, batch])


SLOWER_FP8 = {**makers.SPEED, "fp8": 1.2 * makers.SPEED["fp8"]}


def a_run(
    out: Path, number: int, *, engine: str = "0.26.0", driver: str = "580.159.04",
    speed: dict[str, float] | None = None,
    **more: Any,
) -> Path:  # fmt: skip
    """One run of the seeded study: its date, engine version and driver, and how fast each variant is."""
    patch = pytest.MonkeyPatch()
    row = makers.variant_row

    def served(v: Variant, start: int = 1) -> VariantRow:
        return msgspec.structs.replace(row(v, start), engine_version=engine)

    patch.setattr(makers, "variant_row", served)
    try:
        given: dict[str, Any] = {"asked": small(), "speed": speed or makers.SPEED, **more}
        folder = makers.make_bundle(out, name=f"run-{number}", seed=number, **given)
    finally:
        patch.undo()
    path = folder / "environment.json"
    environment = msgspec.json.decode(path.read_bytes(), type=Environment)
    session: Session = environment.sessions[0]
    session.gpus[0]["driver"] = driver
    session.software["vllm"] = engine
    path.write_bytes(msgspec.json.encode(environment))
    manifest = read(folder)
    manifest.created = f"2026-{number:02d}-01T00:00:00.000+00:00"
    manifest.resources = resources(folder)
    write(folder, manifest)
    return folder


def documents(out: Path) -> list[CaseDocument]:
    found = []
    for case in load(out).cases:
        known = cell_estimates(case)
        found.append(document(case, known, points(case, 3.59, known), usd_per_hour=3.59))
    return found


def the_page(out: Path) -> str:
    views = [CaseView(c, Options()) for c in load(out).cases]
    return history.page(views, compare.documents(views))


def one(out: Path) -> Series:
    (found,) = series(documents(out))
    return found


@dataclass(frozen=True)
class Runs:
    """Three runs, read once."""

    views: list[CaseView]
    docs: list[CaseDocument]

    @cached_property
    def page(self) -> str:
        return history.page(self.views, self.docs)

    @property
    def found(self) -> Series:
        (found,) = series(self.docs)
        return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The second with a new engine, driver and a slower FP8, the third as the second."""
    out = tmp_path_factory.mktemp("three")
    a_run(out, 1)
    a_run(out, 2, engine="0.27.0", driver="590.10", speed=SLOWER_FP8)
    a_run(out, 3, engine="0.27.0", driver="590.10", speed=SLOWER_FP8)
    views = [CaseView(c, Options()) for c in load(out).cases]
    return Runs(views, compare.documents(views))


def test_a_series_holds_the_runs_of_one_study_and_gpu_oldest_first(three: Runs) -> None:
    found = three.found
    assert [r.case for r in found.runs] == ["run-1", "run-2", "run-3"]
    assert (found.study, found.gpu) == ("h200-shape", "h200")


def test_lines_of_some_load_points_are_those_of_all_before_their_correction(three: Runs) -> None:
    a, b = (side_of(run, "fp8") for run in three.docs[:2])
    few = lines(a, b, lambda workload, load: (workload, load) == ("chat", "c8"))
    every = [x for x in compared(a, b) if not x.workload or (x.workload, x.load) == ("chat", "c8")]
    assert [replace(x, kind="inconclusive", adjusted_p=0.0) for x in few] == [
        replace(x, kind="inconclusive", adjusted_p=0.0) for x in every
    ]
    assert {THROUGHPUT, COST} < {x.metric for x in few}


def test_other_grades_and_weights_are_series_of_their_own(tmp_path: Path) -> None:
    for number, more in enumerate(
        ({}, {"grade": "simulated"}, {"asked": msgspec.structs.replace(small(), weights="real")}), 1
    ):
        a_run(tmp_path, number, **more)  # type: ignore[arg-type]
    found = series(documents(tmp_path))
    assert {(s.grade, s.weights) for s in found} == {
        ("measured", "dummy"),
        ("simulated", "dummy"),
        ("measured", "real"),
    }
    assert all(len(s.runs) == 1 and not s.changes for s in found)


def test_only_what_changed_is_named_and_in_the_run_in_which_it_changed(three: Runs) -> None:
    named = three.found.named
    assert {(c.run, c.variant, c.word) for c in named} == {(1, "fp8", "worse")}
    assert {(c.metric, c.workload, c.load) for c in named} == {
        (THROUGHPUT, "chat", "c8"), (COST, "chat", "c8"), (THROUGHPUT, "batch", "c8"), (COST, "batch", "c8"),
    }  # fmt: skip


def test_a_change_is_the_ratio_of_the_two_runs_own_estimates(three: Runs) -> None:
    cases = {v.case.id: v.estimates["chat", "c8", THROUGHPUT]["fp8"] for v in three.views}
    before, after = cases["run-1"], cases["run-2"]
    (change,) = (c for c in three.found.named if (c.metric, c.workload) == (THROUGHPUT, "chat"))
    expected = between(after, before, same_case=False)
    assert (change.ratio, change.low, change.high, change.p) == pytest.approx(expected, rel=1e-6)
    assert change.ratio == pytest.approx(after.value / before.value)
    assert judge(THROUGHPUT, *expected[:3]) == "slower"
    assert change.adjusted_p >= change.p


def test_headline_figures_are_those_of_the_highest_shared_load(tmp_path: Path) -> None:
    a_run(tmp_path, 1)
    asked = small()
    chat = msgspec.structs.replace(asked.workload("chat"), concurrency=[4])
    a_run(tmp_path, 2, asked=msgspec.structs.replace(asked, workloads=[chat, asked.workload("batch")]))
    marks = [m for m in one(tmp_path).marks if m.metric == THROUGHPUT and m.workload == "chat" and m.variant == "fp8"]
    assert [(m.run, m.load) for m in marks] == [(0, "c4"), (1, "c4")]
    case = next(c for c in load(tmp_path).cases if c.id == "run-1")
    rows = case.cells[(case.cells.variant == "fp8") & (case.cells.workload == "chat") & (case.cells.load == "c4")]
    assert marks[0].value == pytest.approx(rows[THROUGHPUT].mean())


def test_another_workload_of_the_same_name_is_not_compared(tmp_path: Path) -> None:
    a_run(tmp_path, 1)
    asked = small()
    chat = msgspec.structs.replace(asked.workload("chat"), input_tokens=512)
    a_run(tmp_path, 2, asked=msgspec.structs.replace(asked, workloads=[chat, asked.workload("batch")]))
    changes = [c for c in one(tmp_path).changes if c.workload == "chat"]
    assert changes
    assert {c.word for c in changes} == {"none"}
    assert all("input_tokens 256 against 512" in c.why for c in changes)


def test_holms_correction_runs_over_the_figures_of_the_series() -> None:
    def change(p: float, word: str) -> Change:
        return Change(1, "fp8", "chat", "c1", THROUGHPUT, 0.8, 0.7, 0.9, p, p, word)

    after = list(
        _corrected([change(0.001, "worse"), change(0.02, "worse"), change(0.03, "worse"), change(0.5, "none")])
    )
    assert [c.adjusted_p for c in after] == pytest.approx([0.003, 0.04, 0.04, 0.5])
    after = list(_corrected([change(0.02, "worse"), change(0.03, "worse"), change(0.04, "better")]))
    assert [c.word for c in after] == ["inconclusive"] * 3


def test_nothing_is_named_on_simulated_runs(tmp_path: Path) -> None:
    a_run(tmp_path, 1, grade="simulated")
    a_run(tmp_path, 2, grade="simulated", speed=SLOWER_FP8)
    found = one(tmp_path)
    assert found.named == []
    assert {c.why for c in found.changes if c.metric == THROUGHPUT} == {"simulated timings are no measurement"}
    assert "**Nothing is named.** Why: simulated timings are no measurement" in the_page(tmp_path)


@pytest.mark.parametrize(
    ("after", "word"),
    [((0.95, 0.945, 0.955), "worse"), ((1.0, 0.996, 1.004), "equivalent"), ((0.97, 0.90, 1.02), "inconclusive"),
     ((0.99, 0.985, 0.995), "negligible")],
)  # fmt: skip
def test_recovery_is_judged_from_both_intervals(three: Runs, after: tuple[float, float, float], word: str) -> None:
    docs = three.docs[:2]
    recoveries = {"run-2": {"fp8": (1.0, 0.998, 1.002)}, "run-3": {"fp8": after}}
    changes = [c for s in series(docs, recoveries) for c in s.changes if c.metric == RECOVERY]
    assert [(c.variant, c.word) for c in changes] == [("fp8", word)]
    assert changes[0].ratio == pytest.approx(after[0])
    assert changes[0].low < after[0] < changes[0].high


def test_recovery_on_other_questions_is_refused(three: Runs) -> None:
    docs = deepcopy(three.docs[:2])
    for i, doc in enumerate(docs):
        doc.variants["fp8"].fixed["Evaluation set"] = {"prompts": f"{i} prompts"}
    recoveries = {d.case: {"fp8": (1.0, 0.99, 1.01)} for d in docs}
    (change,) = (c for s in series(docs, recoveries) for c in s.changes if c.metric == RECOVERY)
    assert change.word == "none"
    assert change.why.startswith("other questions")


def test_the_page_names_the_change_its_run_and_what_changed_around_it(three: Runs) -> None:
    page = three.page
    words = re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), page)
    assert "**0 better, 4 worse beyond noise.**" in words
    change = next(c for c in three.found.named if (c.metric, c.workload) == (THROUGHPUT, "chat"))
    sentence = f"Throughput of fp8 in chat at concurrency 8 got **worse**, −{100 * (1 - change.ratio):.1f} %"
    assert f"- 2026-02-01: {sentence}" in words
    assert "version 0.26.0 against 0.27.0" in words
    assert "driver 580.159.04 against 590.10" in words
    assert words.count("<figure") == 7  # throughput, TTFT p95 and cost of two workloads, VRAM
    assert 'aria-label="Throughput: chat at c8. Beyond noise: fp8 worse on 2026-02-01.' in words


def test_every_figure_of_the_table_is_that_of_its_bundle(three: Runs) -> None:
    page = re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), three.page)
    for case in [v.case for v in three.views]:
        cells = case.cells
        for variant in ("bf16", "fp8"):
            mine = cells[(cells.variant == variant) & (cells.workload == "batch") & (cells.load == "c8")]
            assert f"{mine[THROUGHPUT].mean():,.0f} <small>" in page


def test_a_single_run_is_an_honest_sentence(tmp_path: Path) -> None:
    a_run(tmp_path, 1)
    page = the_page(tmp_path)
    assert "No study has been run twice on the same GPU yet" in page
    assert "run-1" in page.replace("&#45;", "-")
    assert "<figure" not in page


def test_no_bundle_is_a_page_too() -> None:
    page = history.page([], [])
    assert "No study has been run twice" in page


def test_a_hostile_gpu_or_engine_name_stays_text(three: Runs) -> None:
    seen: list[tuple[str, list[str]]] = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, [name for name, _ in attrs]))

    Elements().feed(history.page(three.views, [hostile(d) for d in three.docs]))
    assert len(seen) > 100
    assert not any(tag == "img" or "onerror" in names for tag, names in seen)


def hostile(doc: CaseDocument) -> CaseDocument:
    bad = '"><img src=x onerror=x>'
    fixed = {n: {**v.fixed, "Engine": {"engine": bad, "version": bad}} for n, v in doc.variants.items()}
    variants = {n: msgspec.structs.replace(v, fixed=fixed[n]) for n, v in doc.variants.items()}
    return msgspec.structs.replace(doc, gpu=bad, variants=variants)
