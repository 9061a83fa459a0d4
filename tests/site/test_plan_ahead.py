"""The comparison plan before a run: every part of the page, from the study and the estimates alone."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from collector import gpus
from collector.bundle.planned import Plan
from collector.bundle.schema import TABLES, columns
from collector.plan import for_profile
from collector.plan import plan as estimate
from collector.study import Study, load, ready_studies
from quantcase.analysis.plan_ahead import enough, fixed_as_planned, limits, needs, unpacked
from quantcase.catalog import load as load_catalog
from quantcase.pages import plan as after
from quantcase.pages.plan_ahead import page
from quantcase.pages.plan_file import write
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle
from tests.site.test_plan_page import cells


def planned(name: str, card: str = "", **changes: object) -> tuple[Study, gpus.GpuProfile, Plan]:
    asked = msgspec.structs.replace(load(name), **changes)
    profile = gpus.get(card or asked.gpu)
    asked = for_profile(asked, profile)
    return asked, profile, estimate(asked, profile)


@pytest.fixture(scope="module")
def h200() -> str:
    return page(*planned("h200"))


def headings(markdown: str) -> list[str]:
    return re.findall(r"^(#{2,3} .+)$", markdown, re.M)


def test_it_is_the_bundles_page_with_an_estimate_in_between(h200: str, tmp_path: Path) -> None:
    make_bundle(tmp_path)
    (case,) = load_catalog(tmp_path).cases
    done = after.page(CaseView(case, Options()))
    assert [h for h in headings(h200) if h != "## Estimate"] == headings(done)
    for table in ("plan-metrics", "plan-risks"):
        assert [r[0] for r in cells(h200, table)] == [r[0] for r in cells(done, table)]
    assert [r[:3] for r in cells(h200, "plan-metrics")][1] == cells(done, "plan-metrics")[1][:3]
    fixed = [r[0] for r in cells(h200, "plan-fixed")]
    assert fixed == [r[0] for r in cells(done, "plan-fixed")]
    assert len(fixed) == 8


def test_the_configurations_are_the_studys_with_the_cards_verdict(h200: str) -> None:
    rows = cells(h200, "plan-configurations")
    assert [r[0].split()[0] for r in rows] == [v.name for v in load("h200").variants]
    assert rows[0][0] == "bf16 baseline"
    assert rows[-1][1] == "FP8 and KV-cache quantization"
    assert rows[0][5] == "fits: 22.2 of 125.8 GiB at the heaviest load"
    refused = {r[0].split()[0]: r[5] for r in cells(page(*planned("h200", "b200")), "plan-configurations")}
    assert refused["w8a8-int8"].startswith("unsupported: ")


def states(name: str, card: str = "", **changes: object) -> dict[str, str]:
    asked, profile, _ = planned(name, card, **changes)
    return {f.name: f.state for f in fixed_as_planned(asked, profile)}


def test_the_eight_variables_are_planned_not_checked(h200: str) -> None:
    assert states("h200") == {
        "Model": "look", "Tokenizer": "look", "Evaluation set": "ok", "Prompt length distribution": "ok",
        "Output length distribution": "ok", "Sampling parameters": "ok", "Engine": "ok", "Hardware": "ok",
    }  # fmt: skip
    assert {r[1] for r in cells(h200, "plan-fixed")} == {"✓ planned the same", "! planned, look"}
    assert "Checked against the rows" not in h200
    assert "no revision is pinned for bf16" in html.unescape(h200)


def test_what_a_study_plans_to_differ_is_told() -> None:
    base = load("h200")
    slots, warm = (
        msgspec.structs.replace(base.variant("awq"), args=args, env={"A": "1"})
        for args in (["--max-num-seqs", "8"], ["--override-generation-config", "{}"])
    )
    assert states("h200", variants=[base.variants[0], slots])["Engine"] == "look"
    asked, profile, _ = planned("h200", variants=[base.variants[0], slots])
    (seen,) = (f.seen for f in fixed_as_planned(asked, profile) if f.name == "Engine")
    assert seen.endswith("set for single variants: awq --max-num-seqs, awq A")
    assert states("h200", variants=[base.variants[0], warm])["Sampling parameters"] == "bad"
    free = [msgspec.structs.replace(w, natural_length=True) for w in base.workloads]
    assert states("h200", workloads=free)["Output length distribution"] == "look"
    assert states("h200", quality=[])["Evaluation set"] == "none"
    assert states("h200-shape")["Evaluation set"] == "none"
    assert states("h200", variants=[base.variants[0]])["Model"] == "ok"


def test_the_metrics_say_which_percentiles_will_have_requests_enough(h200: str) -> None:
    """96 requests at concurrency 1, 192 at 8, 384 at 16 (24, 48 and 96 in each of 4 repeats), 384 and 768 in batch."""
    asked = load("h200")
    assert (enough(asked, 95), enough(asked, 99)) == ((4, 5), (1, 5))
    row = next(r for r in cells(h200, "plan-metrics") if r[0] == "P95/P99")
    assert row[3] == "p95: 4 of 5 load points issue requests enough; p99: 1 of 5 load points issue requests enough, " \
        "over all repeats"  # fmt: skip
    assert row[4] == "! in part"
    dummy = {r[0]: r[4] for r in cells(page(*planned("h200-shape")), "plan-metrics")}
    assert dummy["Quality score"] == "– not planned"


def test_the_estimate_is_that_of_collect_plan_and_called_so(h200: str) -> None:
    _, _, made = planned("h200")
    rows = cells(h200, "plan-estimate")
    bf16 = made.variants[0]
    assert rows[0][1:5] == [f"{x:.1f}" for x in (bf16.weights_gib, bf16.kv_gib, bf16.rest_gib, bf16.minimum_gib)]
    assert rows[0][5] == f"{bf16.kv_pool_tokens:,}"
    assert [r[0] for r in cells(h200, "plan-time")] == [t.what for t in made.times]
    assert {r[0]: r[2] for r in cells(h200, "plan-time")}["stress"] == "no"
    assert made.minutes is not None
    assert made.cost_usd is not None
    assert f"About {made.minutes.mid:.0f} ({made.minutes.low:.0f} to {made.minutes.high:.0f}) minutes" in h200
    assert f"About {made.cost_usd.mid:.2f} USD ({made.cost_usd.low:.2f} to {made.cost_usd.high:.2f})" in h200
    before = h200[: h200.index('id="table-plan-estimate"')]
    assert 'data-grade="estimate">estimate</span> Worked out by `collect plan`, not measured.' in before


def test_a_machine_without_estimates_says_so() -> None:
    markdown = page(*planned("cpu"))
    assert "The time is not known" in markdown
    assert "No shape is known for this model" in markdown
    assert "None" not in markdown
    assert "nan" not in html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split()


def test_the_reading_prompts_say_what_will_answer_them(h200: str) -> None:
    asked, profile, made = planned("h200")
    found = {n.planned.variant: n for n in needs(asked, made)}
    base, kv = made.variants[0], next(v for v in made.variants if v.variant == "fp8-fp8kv")
    assert base.kv_pool_tokens is not None
    assert kv.kv_pool_tokens is not None
    assert found["fp8-fp8kv"].pool_ratio == pytest.approx(kv.kv_pool_tokens / base.kv_pool_tokens)
    assert cells(h200, "plan-tensors")[-1][4] == f"+{100 * (kv.kv_pool_tokens / base.kv_pool_tokens - 1):.1f} %"
    assert unpacked(asked, profile) == ["w4a16", "awq", "gptq"]
    assert unpacked(asked, gpus.get("a100")) == ["fp8", "w4a16", "awq", "gptq", "fp8-fp8kv"]  # no FP8 tensor cores
    answers = [cells(h200, f"plan-{p}-answer") for p in ("tensors", "bounds", "kernels", "dequantization")]
    assert all(answers)
    assert answers[3][0][2] == ("chat concurrency 1, chat concurrency 16, batch concurrency 16, batch concurrency 32")
    named = re.findall(r"variants\.csv: ([a-z_, ]+)", html.unescape(h200))
    known = {c.name for c in columns(TABLES["variants"].row)}
    assert len(named) > 2
    assert {c for found in named for c in found.split(", ")} <= known


def test_the_risks_are_open_boxes_and_the_rollback_has_numbers(h200: str) -> None:
    rows = cells(h200, "plan-risks")
    assert len(rows) == 6
    assert {r[1] for r in rows} == {"☐ open"}
    assert all(r[2] for r in rows)
    asked = load("h200")
    assert [(x.workload, x.load, x.e2e_ms) for x in limits(asked)] == [("chat", "c16", 3000), ("batch", "c32", 6000)]
    shown = cells(h200, "plan-rollback")
    assert shown[0] == ["chat concurrency 16", *["1.2 × the measured p95"] * 2, "3,000, or 1.2 × the measured p95"]
    assert "shorter than 0.9 or longer than 1.1 times the baseline" in html.unescape(h200)
    assert "More than 0.5 % of requests fail" in h200


@pytest.mark.parametrize("name", sorted(ready_studies()))
def test_every_ready_study_has_a_plan(name: str) -> None:
    markdown = page(*planned(name))
    assert "<tbody></tbody>" not in markdown
    ids = re.findall(r'id="(table-[a-z-]+)"', markdown)
    assert len(ids) == len(set(ids)) >= 9
    assert len(cells(markdown, "plan-fixed")) == 8


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_html_needs_nothing_and_runs_nothing() -> None:
    asked, profile, made = planned("h200")
    asked.title = "<script>alert(1)</script> {{ 7*7 }} **bold**"
    made.variants[1].reason = "<img src=x onerror=alert(1)>"
    document = write(asked, profile, made, ".html")
    tags = Tags()
    tags.feed(document)
    names = {t for t, _ in tags.seen}
    assert names.isdisjoint({"script", "img", "iframe", "link", "b"})
    assert not any(a.startswith("on") or a in ("src", "href") for _, attrs in tags.seen for a in attrs)
    assert "@import" not in document
    assert "url(" not in document
    assert "{{" not in document
    tables = [a for t, a in tags.seen if t == "div" and a.get("class") == "qc-table"]
    assert len(tables) > 9
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in tables)
    assert "prefers-color-scheme: dark" in document
    assert write(asked, profile, made, ".md") == page(asked, profile, made)
