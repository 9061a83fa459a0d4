"""From answers to pass, caution and fail: the rules, their order, and what stands on the page."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from collector.bundle.answers import QualityRow
from collector.bundle.read import open_bundle
from collector.bundle.schema import Environment
from collector.bundle.write import BundleWriter
from collector.study import loads
from quantcase.analysis.quality import Quality, control, qualities
from quantcase.analysis.quality_verdict import items_for_margin, judge
from quantcase.catalog import Case
from tests.makers import STUDY, quality_items

SUITES = '[[quality]]\nkind = "exact"\n[[quality]]\nkind = "long-context"\n'
VARIANTS = ("bf16", "fp8", "awq", "bf16-fp8kv")


def case(
    out: Path, *, n: int = 1000, lost: dict[str, float], gained: float = 0.03, seed: int = 1, again: float = 0.0,
    empty: dict[str, int] | None = None, long: int = 0, variants: tuple[str, ...] = VARIANTS,
) -> Case:  # fmt: skip
    """Seeded answers: the baseline is right on 70 %; each variant loses and gains that share of all answers."""
    r = random.Random(seed)
    study = loads(STUDY.format(weights="real") + SUITES, "test")
    writer = BundleWriter.create(
        out / f"2026-11-21-seed{seed}", study, grade="measured", gpu="h200", cells_planned=0,
        environment=Environment(gpu_asked="h200"),
    )  # fmt: skip
    for suite, count in (("exact", n), ("long-context", long)):
        items = quality_items(suite, count, "t", 4)
        writer.answers.add_items(suite, items)
        right = [r.random() < 0.7 for _ in items]
        for name, number in [(v, 1) for v in variants] + [("bf16", 2)]:
            down = again if number == 2 else lost.get(name, 0.0)
            up = 0.0 if name == "bf16" else gained
            for i, item in enumerate(items):
                ok = right[i]
                ok = r.random() >= down / 0.7 if ok else r.random() < up / 0.3
                blank = i < (empty or {}).get(name, 0)
                writer.answers.add(
                    QualityRow(
                        variant=name, start=number, repeat=number, suite=suite, task=item.task,
                        prompt_id=item.prompt_id, prompt_sha256="0" * 64, output="" if blank else "4" if ok else "5",
                        score=float(ok and not blank), problem="empty" if blank else "", output_tokens=1,
                    )
                )  # fmt: skip
    writer.close("complete")
    return Case(open_bundle(writer.folder), study, [])


def found(c: Case, variant: str) -> Quality:
    return next(q for q in qualities(c) if q.variant == variant)


def test_a_variant_that_loses_five_points_fails_and_one_that_loses_nothing_does_not(tmp_path: Path) -> None:
    c = case(tmp_path, lost={"fp8": 0.03, "awq": 0.09}, gained=0.02, n=2000)
    ctl = control(c)
    bad = judge(c, found(c, "awq"), ctl)
    good = judge(c, found(c, "fp8"), ctl)
    assert bad.grade == "fail"
    assert "accuracy" in {k.rule for k in bad.checks if k.grade == "fail"}
    assert good.grade != "fail"


def test_no_loss_is_called_a_loss_in_at_most_five_of_a_hundred_seeded_runs(tmp_path: Path) -> None:
    fails = sum(
        judge(c, found(c, "fp8"), control(c)).grade == "fail"
        for seed in range(100)
        if (c := case(tmp_path, n=300, lost={"fp8": 0.03}, gained=0.03, seed=seed, variants=("bf16", "fp8")))
    )
    assert fails <= 5


def test_a_planted_loss_of_five_points_is_found_in_nearly_all_seeded_runs(tmp_path: Path) -> None:
    seen = sum(
        judge(c, found(c, "fp8"), control(c)).grade == "fail"
        for seed in range(30)
        if (c := case(tmp_path, n=1000, lost={"fp8": 0.07}, gained=0.02, seed=seed, variants=("bf16", "fp8")))
    )
    assert seen >= 27


def test_a_pass_says_how_small_a_loss_would_have_been_found_and_never_lossless(tmp_path: Path) -> None:
    c = case(tmp_path, n=3000, lost={"fp8": 0.002}, gained=0.002)
    verdict = judge(c, found(c, "fp8"), control(c))
    assert verdict.grade == "pass"
    assert "no loss detected" in verdict.because
    assert "points or more would have been found" in verdict.because
    assert "lossless" not in json.dumps(dataclasses.asdict(verdict))


def test_where_the_baseline_does_not_agree_with_itself_no_variant_is_judged(tmp_path: Path) -> None:
    c = case(tmp_path, lost={"fp8": 0.2}, again=0.2)
    verdict = judge(c, found(c, "fp8"), control(c))
    assert verdict.grade == "unknown"
    assert "does not agree with itself" in verdict.because


def test_flips_that_the_control_shows_are_not_blamed_on_quantization(tmp_path: Path) -> None:
    c = case(tmp_path, n=3000, lost={"fp8": 0.03}, gained=0.03)
    alone = {k.rule: k for k in judge(c, found(c, "fp8"), None).checks}
    assert alone["flips"].grade == "caution"
    q, ctl = found(c, "fp8"), control(c)
    assert ctl is not None
    noisy = dataclasses.replace(ctl, accuracy=q.accuracy)
    assert {k.rule: k for k in judge(c, q, noisy).checks}["flips"].grade == "pass"


def test_a_quantized_kv_cache_must_be_asked_in_long_contexts(tmp_path: Path) -> None:
    c = case(tmp_path, n=3000, lost={}, gained=0.001)
    unasked = judge(c, found(c, "bf16-fp8kv"), control(c))
    assert (unasked.grade, unasked.change) == ("caution", 'the suite `kind = "long-context"`')
    assert judge(c, found(c, "fp8"), control(c)).grade == "pass"
    asked = case(tmp_path, n=3000, lost={}, gained=0.0, long=200, seed=2)
    assert judge(asked, found(asked, "bf16-fp8kv"), control(asked)).grade == "pass"


def test_empty_answers_fail_a_variant(tmp_path: Path) -> None:
    c = case(tmp_path, lost={}, empty={"awq": 30})
    checks = {k.rule: k for k in judge(c, found(c, "awq"), control(c)).checks}
    assert checks["form"].grade == "fail"
    assert "30 of 1,000" in checks["form"].seen


def test_likeness_alone_makes_a_caution_and_a_fail_only_beside_another_caution(tmp_path: Path) -> None:
    c = case(tmp_path, n=3000, lost={}, gained=0.0)
    same, ctl = found(c, "fp8"), control(c)
    assert judge(c, same, ctl).grade == "pass"
    assert same.accuracy is not None
    flipping = dataclasses.replace(same.accuracy, flips_share=0.2)  # a fifth flipped, as many gained as lost
    alone = judge(c, dataclasses.replace(same, accuracy=flipping), ctl)
    assert {k.rule for k in alone.checks if k.grade == "fail"} == {"flips"}
    assert alone.grade == "caution"
    doubtful = dataclasses.replace(flipping, low_pp=-3.0)
    assert judge(c, dataclasses.replace(same, accuracy=doubtful), ctl).grade == "fail"


def test_a_prompt_without_an_answer_counts_as_wrong(tmp_path: Path) -> None:
    c = case(tmp_path, n=100, lost={})
    rows = c.answers[("fp8", 1)]
    key = next(k for k, r in rows.items() if r.score == 1.0)
    before = found(c, "fp8").accuracy
    rows[key].status, rows[key].score = "timeout", None
    after = found(c, "fp8")
    assert before is not None
    assert after.accuracy is not None
    assert after.accuracy.n == before.n == 100
    assert after.accuracy.variant_right == before.variant_right - 1
    assert after.form is not None
    assert after.form.failed == (0, 1)


def test_the_same_bundle_gives_the_same_verdict_to_the_last_digit(tmp_path: Path) -> None:
    c = case(tmp_path, lost={"fp8": 0.04, "awq": 0.06})
    first = [dataclasses.asdict(judge(c, q, control(c))) for q in qualities(c)]
    again = Case(open_bundle(c.bundle.folder), c.study, [])
    assert first == [dataclasses.asdict(judge(again, q, control(again))) for q in qualities(again)]


def test_the_items_that_a_margin_needs_are_those_of_the_formula() -> None:
    assert items_for_margin(0.05, 2.0) == pytest.approx(773, abs=2)
    assert items_for_margin(0.10, 1.0) == pytest.approx(6183, abs=5)
