"""The notes page: the seed's sections filled from the rows, predictions judged, the author's words in their place."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.predictions import PREDICTIONS, Answers, Predictions, write_predictions
from collector.bundle.read import QuantcaseError, open_bundle
from collector.bundle.seal import seal
from collector.bundle.write import BundleWriter
from collector.study import loads
from quantcase.analysis.compare import Comparison
from quantcase.analysis.predictions import Judgement, is_late, judge_predictions, lost_tasks, sanity
from quantcase.catalog import Case
from quantcase.pages import notes
from quantcase.pages.predictions import own_words
from quantcase.pages.view import CaseView, Options
from quantcase.text import number, text
from tests.makers import STUDY, make_bundle

SECTIONS = [
    "Model and VRAM baseline", "Chat capacity", "Quality sanity check", "Batch capacity",
    "Predictions against reality", "References",
]  # fmt: skip
ASKED = Answers(
    variant="fp8", vram_reduction_pct=40, ttft="worse", p95_latency="improves", quality_failures="dates, {{ 7*7 }}"
)
NOTES = """# Notes
<!-- ## What I learned
not this -->
before all

## Before: what I expect
*Half* the VRAM <script>x</script>

## Feynman: Quality Risk When Quantizing
I would spot-check {{ 7*7 }}.

### With a heading
- and a list
```
## What I got wrong and why
```
## What I learned
Measure first.
"""


def fill(writer: BundleWriter) -> None:
    """Answers: awq loses 30 of 40 dates and one sanity prompt, fp8 loses nothing."""
    for suite, task, count in (("exact", "dates", 40), ("exact", "code", 40), ("sanity", "factual", 3)):
        items = [
            QualityItem(
                suite=suite, task=task, prompt_id=f"{suite}/{task}/{n}", prompt_sha256="0" * 64,
                prompt=f"Question {n} <b>of</b> {task}?", reference="4", scorer="criterion",
            )
            for n in range(count)
        ]  # fmt: skip
        writer.answers.add_items(suite, items)
        for name in ("bf16", "fp8", "awq"):
            for n, item in enumerate(items):
                wrong = name == "awq" and (n < 30 if task == "dates" else n == 1 and suite == "sanity")
                writer.answers.add(
                    QualityRow(
                        variant=name, start=1, suite=suite, task=task, prompt_id=item.prompt_id,
                        prompt_sha256="0" * 64, output="x", output_tokens=1, score=float(not wrong),
                        parsed="missed: Paris_<i>" if wrong else "met",
                    )
                )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with answers, marks, words and predictions that were there first."""
    out = tmp_path_factory.mktemp("results")
    asked = loads(STUDY.format(weights="real") + '[[quality]]\nkind = "sanity"\n[[quality]]\nkind = "exact"\n')
    open_ = make_bundle(out, asked=asked, status="interrupted")
    writer = BundleWriter.resume(open_)
    (out / "aside").mkdir()
    write_predictions(out / "aside", ASKED)
    (out / "aside" / PREDICTIONS).rename(open_ / PREDICTIONS)
    fill(writer)
    (open_ / "notes.md").write_text(NOTES, "utf-8")
    (open_ / "marks.csv").write_text("variant,prompt_id,mark,remark\nawq,sanity/factual/1,bad,no *city*\n", "utf-8")
    writer.close("complete")
    return open_


@pytest.fixture(scope="module")
def view(folder: Path) -> CaseView:
    bundle = open_bundle(folder)
    return CaseView(Case(bundle, bundle.study(), []), Options())


@pytest.fixture(scope="module")
def page(view: CaseView) -> str:
    return notes.page(view)


def cells(page: str, table: str) -> list[list[str]]:
    """The rows of a table as a reader sees them."""
    block = re.search(rf'id="table-{table}">(.*?)</table>', page, flags=re.S)
    assert block, table
    rows = re.findall(r"<tr>(.*?)</tr>", block[1])
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[html.unescape(re.sub(r"<[^>]*>", "", c)) for c in row] for row in found]


def bare(case: Case) -> Case:
    """Another view of the same bundle."""
    return Case(case.bundle, case.study, [])


def test_the_sections_stand_in_the_seeds_order(page: str) -> None:
    assert re.findall(r"^## (.+)$", page, flags=re.M) == SECTIONS
    assert "<tbody></tbody>" not in page


def test_vram_is_idle_loaded_and_under_load_with_its_change(page: str, view: CaseView) -> None:
    head, *rows = cells(page, "notes-vram")
    assert head[3:] == ["Idle (MiB)", "Loaded (MiB)", "Δ loaded", "Under load (MiB)", "Δ under load"]
    found = {r[0]: r for r in rows}
    row = view.case.served("fp8")
    assert row is not None
    assert found["fp8"][1:] == ["8.49", "−43.4 %", "4", "128,840", "0.0 %", "129,010", "0.0 %"]
    assert (row.weights_gib, row.vram_loaded_mib, row.vram_peak_mib) == (8.49, 128_840.0, 129_010.0)
    assert (found["bf16"][2], found["bf16"][5]) == ("–", "–")


def test_chat_and_batch_rows_are_the_bundles_own(page: str, view: CaseView) -> None:
    for workload in ("chat", "batch"):
        _, *rows = cells(page, f"notes-{workload}")
        loads_ = view.case.loads(workload)
        assert [r[:2] for r in rows] == [[v, at.words] for v in ("fp8", "awq", "bf16-fp8kv") for at in loads_]
        all_cells, tokens = view.case.cells, view.case.study.workload(workload).output_tokens
        for row in rows:
            at = next(x for x in loads_ if x.words == row[1])
            mine = all_cells[(all_cells["workload"] == workload) & (all_cells["load"] == at.name)]
            means = mine.groupby("variant")["throughput_tok_s"].mean()
            assert row[2] == str(tokens)
            assert row[3].startswith(number(float(means["bf16"]), 4))
            assert row[4].startswith(number(float(means[row[0]]), 4))
            sign = "+" if means[row[0]] > means["bf16"] else "−"
            assert row[5].startswith(f"{sign}{abs(100 * (means[row[0]] / means['bf16'] - 1)):.1f} %")
    low, high = cells(page, "notes-chat")[1], cells(page, "notes-chat")[3]
    assert low[6] == "n = 72, too few"
    assert re.search(r"▲ faster \(−.* to −.* %\)", high[8])


def test_observations_follow_from_the_comparisons(page: str, view: CaseView) -> None:
    said = html.unescape(page)
    assert said.count("**Throughput.**") == said.count("**Latency.**") == 2
    assert "No variant's throughput crosses the baseline's" in said
    fast = view.comparison("fp8", "chat", "c16", "e2e_ms_p95")
    assert fast is not None
    assert fast.kind == "faster"
    assert re.search(r"p95 E2E at concurrency 16 against the baseline: fp8 −\d", re.sub(r"&#\d+;", "", page))


def test_a_crossover_is_named_only_where_the_whole_interval_crosses(view: CaseView) -> None:
    def claim(load: str, amount: float, ratio: float, half: float) -> Comparison:
        low, high = ratio - half, ratio + half
        return Comparison("awq", "chat", load, amount, "throughput_tok_s", ratio, low, high, (3, 3), "faster")

    for half, says in ((0.05, "stops being faster"), (0.3, "Inside the noise")):
        other = CaseView(bare(view.case), Options())
        other.__dict__["comparisons"] = [claim("c1", 1, 1.2, half), claim("c16", 16, 0.8, half)]
        assert says in html.unescape(notes.page(other))


def test_the_sanity_suite_stands_prompt_by_prompt(page: str, view: CaseView) -> None:
    head, *rows = cells(page, "prompts")
    assert head == ["#", "Prompt", "bf16", "fp8", "awq", "A person's mark", "Notes"]
    assert [r[0] for r in rows] == ["1", "2", "3"]
    assert rows[1] == ["2", "Question 1 <b>of</b> factual? factual", "✓", "✓", "✗", "awq: bad no *city*",
                       "awq: Paris_<i>"]  # fmt: skip
    assert rows[0][2:] == ["✓", "✓", "✓", "–", "nothing missed"]
    assert len(sanity(view.case)) == 3
    assert "awq, dates: lost 30, gained 0 of 40" in html.unescape(page)


def test_predictions_stand_beside_reality(page: str) -> None:
    _, *rows = cells(page, "predictions")
    vram, ttft, load, p95, quality = rows
    assert (vram[1], vram[3], vram[4]) == ("40", "43.4", "✓ match")
    assert "before the run" in vram[2]
    assert ttft[1] == "worse"
    assert re.search(r"concurrency 1: .*; concurrency 16: ", ttft[3])
    assert (load[1], load[2], load[4]) == ("–", "–", "not predicted")
    assert (p95[1], p95[4]) == ("improves", "✓ match")
    assert "▲ faster" in p95[3]
    assert quality[1] == "dates, {{ 7*7 }}"
    assert quality[4] != "✓ match"  # fp8 lost nothing
    assert "✗ late" not in page
    assert "{{" not in page


def judged(
    view: CaseView, kinds: tuple[str, str], ratios: tuple[float, float] = (1.3, 1.1), **said: object
) -> Judgement:
    """The one question that was answered, against comparisons made by hand at concurrency 1 and 16."""
    claims = [
        Comparison("awq", "chat", load, amount, metric, r, r - 0.05, r + 0.05, (3, 3), kind)  # type: ignore[arg-type]
        for metric in ("ttft_ms_p50", "e2e_ms_p95", "throughput_tok_s")
        for load, amount, r, kind in (("c1", 1, ratios[0], kinds[0]), ("c16", 16, ratios[1], kinds[1]))
    ]
    made = Predictions(
        written_at="2026-11-21T00:00:00+00:00",
        late=False,
        answers=Answers(variant="awq", **said),  # type: ignore[arg-type]
    )
    found = judge_predictions(bare(view.case), made, claims, view.quality, view.quality_verdicts)
    (one,) = [j for j in found if j.match != "skipped"]
    return one


@pytest.mark.parametrize(
    ("kinds", "said", "match"),
    [
        (("faster", "faster"), "improves", "match"),
        (("equivalent", "negligible"), "same", "match"),
        (("slower", "slower"), "same", "miss"),
        (("faster", "slower"), "improves", "miss"),  # it does not hold over the whole range
        (("faster", "inconclusive"), "improves", "unknown"),
        (("faster", "inconclusive"), "worse", "miss"),
        (("inconclusive", "inconclusive"), "same", "unknown"),
    ],
)
def test_a_word_must_hold_at_both_ends_of_the_load(
    view: CaseView, kinds: tuple[str, str], said: str, match: str
) -> None:
    assert judged(view, kinds, ttft=said).match == match
    tail = {"same": "similar", "worse": "degrades"}.get(said, said)
    assert judged(view, kinds, p95_latency=tail).match == match


def test_where_it_helps_more_is_told_by_intervals(view: CaseView) -> None:
    both = ("faster", "faster")
    assert judged(view, both, (1.5, 1.1), helps_more_at="low").match == "match"
    assert judged(view, both, (1.1, 1.5), helps_more_at="low").match == "miss"
    close = judged(view, both, (1.15, 1.1), helps_more_at="low")
    assert (close.match, close.why) == ("unknown", "the intervals at the two loads overlap")


@pytest.mark.parametrize(("guess", "match"), [(64.2 - 4.9, "match"), (64.2 + 4.9, "match"), (64.2 - 5.2, "miss")])
def test_weights_match_within_five_points(view: CaseView, guess: float, match: str) -> None:
    found = judged(view, ("faster", "faster"), vram_reduction_pct=guess)
    assert found.reduction_pct == pytest.approx(100 * (1 - 5.37 / 14.99))
    assert found.match == match


@pytest.mark.parametrize(
    ("said", "match", "named"),
    [
        ("dates and maybe JSON", "match", ("dates",)),
        ("coding, code", "miss", ("code",)),
        ("poetry", "unknown", ()),
        ("none", "miss", ()),
    ],
)
def test_lost_tasks_are_told_by_their_names(view: CaseView, said: str, match: str, named: tuple[str, ...]) -> None:
    awq = next(q for q in view.quality if q.variant == "awq")
    assert lost_tasks(awq) == ["dates"]
    found = judged(view, ("faster", "faster"), quality_failures=said)
    assert (found.match, found.named) == (match, named)


def test_what_is_not_there_cannot_be_told(view: CaseView) -> None:
    said = Answers(variant="int3", vram_reduction_pct=1, ttft="same")
    made = Predictions(written_at="2026-11-21T00:00:00+00:00", late=False, answers=said)
    found = judge_predictions(bare(view.case), made, view.claims, view.quality, {})
    assert {j.match for j in found if j.predicted is not None} == {"unknown"}
    assert "no variant int3" in found[0].why


def test_late_predictions_are_told_in_red(view: CaseView, tmp_path: Path) -> None:
    first = Predictions(written_at="2026-11-21T00:00:00+00:00", late=True, answers=ASKED)
    assert is_late(view.case, first)
    first.late = False
    assert not is_late(view.case, first)
    first.written_at = "2999-01-01T00:00:00+00:00"  # whatever it says of itself
    assert is_late(view.case, first)
    open_ = make_bundle(tmp_path)
    write_predictions(open_, ASKED)
    seen = notes.page(CaseView(of(open_), Options()))
    assert '<span class="qc-verdict" data-verdict="avoid">✗ late</span>' in seen
    assert "no prediction" in seen


def of(folder: Path) -> Case:
    bundle = open_bundle(folder)
    return Case(bundle, bundle.study(), [])


def test_the_authors_paragraphs_stand_in_their_place(page: str) -> None:
    words = own_words(NOTES)
    assert "<em>Half</em> the VRAM" in words["before"]
    assert "<script" not in page
    assert "spot-check &#123;&#123; 7*7 &#125;&#125;." in words["risk"]
    assert "With a heading" in words["risk"]
    assert "What I got wrong and why" in words["risk"]  # in a code block a heading is none
    assert "before all" in words["learned"]
    assert "Measure first" in words["learned"]
    assert "not this" not in "".join(words.values())
    assert all(w.startswith('<p class="qc-none">') for k, w in words.items() if k not in ("before", "risk", "learned"))
    assert page.index("Half") < page.index("Measure first") < page.index("## References")
    assert all("\n" not in w for w in words.values())


def test_references_are_the_bundles_files_with_their_hashes(page: str, view: CaseView) -> None:
    _, *rows = cells(page, "references")
    assert [(r[0], f"sha256:{r[2]}") for r in rows] == [(r.path, r.hash) for r in view.case.bundle.manifest.resources]
    assert PREDICTIONS in [r[0] for r in rows]
    assert 'href="../data/files/notes.md.txt"' in page


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    asked = loads(STUDY.format(weights="dummy").split('[[workloads]]\nname = "batch"')[0])
    folder = make_bundle(tmp_path, asked=asked, only=("bf16",))
    seen = notes.page(CaseView(of(folder), Options()))
    for words in (
        "Only the baseline was measured", "No batch workload was measured", "The sanity suite was not asked",
        "Nobody wrote down predictions", "collect run --predict", "Chat and batch were not both measured",
    ):  # fmt: skip
        assert words in seen
    assert "table-predictions" not in seen


def test_a_faulty_file_of_predictions_does_not_break_the_page(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16",))
    (folder / PREDICTIONS).write_text('{"late": "<script>"}')
    with pytest.raises(QuantcaseError, match="not in the manifest"):
        seal(folder)  # predictions are not what a person may add to a closed bundle
    seen = notes.page(CaseView(of(folder), Options()))
    assert text("predictions.json cannot be read") in seen
    assert "<script" not in seen
