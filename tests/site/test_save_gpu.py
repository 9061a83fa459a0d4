"""Servers over several GPUs: every GPU is paid for, per GPU is like for like, and whether quantizing saves one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace as changed

from collector.bundle.co_location import CoLocated, CoLocation, write_co_location
from quantcase.analysis import experiments, fit, scaling
from quantcase.analysis.between import COST, compared, side_of
from quantcase.analysis.between_document import document
from quantcase.analysis.compare import PER_GPU, comparisons
from quantcase.analysis.cost_table import Arm, CostCase, Inputs, Lane, Pair, mix, rows
from quantcase.analysis.figures import case_document
from quantcase.analysis.hierarchy import Estimate
from quantcase.analysis.plan_answers import roofs
from quantcase.analysis.points import THROUGHPUT, pick
from quantcase.analysis.projection_rules import variant_reason
from quantcase.analysis.quality_verdict import QualityVerdict
from quantcase.analysis.repeats import repeats
from quantcase.analysis.save_gpu import At, Budget, Change, _kind, save_gpu, servers
from quantcase.analysis.servers import gpu_counts, gpus_of, mixed, per_gpu
from quantcase.analysis.verdict import verdicts
from quantcase.catalog import Case, read
from quantcase.dress import dress
from quantcase.pages import case as case_page
from quantcase.pages import cost, costs, log
from quantcase.pages import save_gpu as section
from quantcase.pages.fit import formats, shapes
from quantcase.pages.view import CaseView, Options
from tests.makers import gpu_study, make_bundle

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB <b>"


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    """BF16 on two GPUs (the baseline) as fast as FP8 on one; BF16 on one is slower. All made by a seed."""
    return CaseView(
        read(make_bundle(tmp_path_factory.mktemp("saves"), asked=gpu_study("real"), weights="real")), Options()
    )


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    """BF16 runs out of memory on one GPU; FP8 was measured beside another server, BF16 on two GPUs alone."""
    folder = make_bundle(
        tmp_path_factory.mktemp("unlike"), asked=gpu_study(), unfit={"bf16": OOM}, beside={"fp8": 1}
    )  # fmt: skip
    return CaseView(read(folder), Options())


def text_of(page: str) -> str:
    """What a reader sees of it, entities resolved."""
    plain = re.sub(r"<[^>]+>", "", page)
    return re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), plain)


def throughput(view: CaseView, variant: str, workload: str, load: str) -> float:
    """The mean of the cells' own figures."""
    cells = view.case.cells
    mine = cells[(cells["variant"] == variant) & (cells["workload"] == workload) & (cells["load"] == load)]
    return float(mine[THROUGHPUT].mean())


# -- counts and costs ----------------------------------------------------------------------------------------------


def test_gpus_are_those_of_the_rows_and_where_nothing_started_those_of_the_study(view: CaseView) -> None:
    assert gpu_counts(view.case) == {"bf16-2": 2, "bf16": 1, "fp8": 1}
    assert mixed(view.case)
    fresh = Case(view.case.bundle, view.case.study, [])
    fresh.__dict__["variants"] = []
    assert gpus_of(fresh, "bf16-2") == 2
    older = [changed(v, gpus=None, tensor_parallel=None) for v in view.case.variants]
    fresh.__dict__["variants"] = [changed(v, argv='["vllm", "serve", "m", "-tp", "4"]') for v in older]
    assert gpus_of(fresh, "fp8") == 4


def test_a_cost_counts_every_gpu_of_the_server(view: CaseView) -> None:
    for variant, gpus in (("bf16-2", 2), ("fp8", 1)):
        point = pick(view.points, variant, "chat", "c16", COST)
        assert point is not None
        expected = 1e6 * 3.59 * gpus / (3600 * throughput(view, variant, "chat", "c16"))
        assert point.value == pytest.approx(expected, rel=1e-4)
    each = repeats(view.case, COST, 3.59)

    def first(table: pd.DataFrame) -> pd.Series[Any]:
        mine = table[(table["variant"] == "bf16-2") & (table["load"] == "c16") & (table["repeat"] == 1)]
        return mine[mine["workload"] == "chat"].iloc[0]

    speed = float(first(view.case.cells)[THROUGHPUT])
    assert float(first(each)["value"]) == pytest.approx(1e6 * 2 * 3.59 / (3600 * speed))


def test_the_calculators_rows_bill_every_gpu_of_every_server() -> None:
    # 100 tok/s of a server with two GPUs at 3.6 $ each: 7.2 / 3600 / 100 = 0.00002 $ a token.
    arms: dict[str, list[Arm | None]] = {
        "base": [Arm((100, 90, 110), None, None)],
        "fast": [Arm((80, 72, 88), None, None)],
    }
    lane = Lane("chat", 100, ["concurrency 1"], 0, arms, {"fast": [[Pair((0.375, 0.3, 0.4), True, "")]]})
    case = CostCase("a", "measured", 3.6, "base", ["base", "fast"], 0.03, [lane], {"base": 2, "fast": 1})
    base, fast = rows(case, Inputs())
    assert base.per_1m_tokens is not None and fast.per_1m_tokens is not None  # noqa: PT018
    assert base.per_1m_tokens[0] == pytest.approx(20.0)
    assert fast.per_1m_tokens[0] == pytest.approx(12.5)
    assert 1 - fast.per_1m_tokens[0] / base.per_1m_tokens[0] == pytest.approx(0.375)  # the saving that is shown
    first, second = mix(case, Inputs(gpus=3))
    assert first.bill_per_month == pytest.approx(3 * 2 * 3.6 * 730)
    assert second.bill_per_month == pytest.approx(3 * 1 * 3.6 * 730)
    assert first.requests_per_day is not None
    assert first.requests_per_day[0] == pytest.approx(86_400 * 3 * 100 / 100)  # three servers of 1 request/s each


def test_a_saving_is_judged_by_throughput_per_gpu(view: CaseView) -> None:
    found = costs.cost_of(view)
    assert found.gpus == {"bf16-2": 2, "bf16": 1, "fp8": 1}
    lane = next(x for x in found.lanes if x.name == "chat")
    last = len(lane.loads) - 1
    pair = lane.pairs["fp8"][last][last]
    assert pair is not None
    assert pair.decided
    each = throughput(view, "bf16-2", "chat", "c16") / 2 / throughput(view, "fp8", "chat", "c16")
    assert pair.saving is not None
    assert pair.saving[0] == pytest.approx(1 - each, abs=1e-4)
    across = lane.pairs["fp8"][last][0]  # at another load point, per GPU, too
    assert across is not None
    assert across.saving is not None
    lone = throughput(view, "bf16-2", "chat", "c1") / 2 / throughput(view, "fp8", "chat", "c16")
    assert across.saving[0] == pytest.approx(1 - lone, abs=1e-4)
    assert "bf16-2, 2 GPUs" in text_of(costs.page([view]))
    assert "an hour for each GPU of a server" in cost.section(view)


def test_workers_and_requests_are_paid_by_the_gpu(view: CaseView) -> None:
    mu = scaling.capacity(view.case, "bf16-2", "chat")
    assert mu is not None
    assert mu.gpus == 2
    workers = scaling.workers(1_000, mu.req_s)
    assert scaling.need(mu, 1_000, 3.59).usd_per_hour == pytest.approx(workers * 2 * 3.59)
    found = experiments.experiment_rows(view.case, view.points)
    top = [r for r in found if r.workload == "batch" and r.load.name == "c32"]
    best = experiments.best([r for r in top if r.variant != "fp8"], "cost")
    assert best is not None
    assert best.row.variant == "bf16"  # two thirds of the requests, at half the price
    fastest = experiments.best([r for r in top if r.variant != "fp8"], "throughput")
    assert fastest is not None
    assert fastest.row.variant == "bf16-2"
    _, dimensions = experiments.pareto(top)
    assert dimensions == ["throughput", "E2E p95", "GPUs"]
    words = text_of(log.page(view))
    assert "requests per second and GPU, since every GPU is paid for" in words
    assert "per worker of 2 GPUs" in words


def test_two_sides_cost_what_their_gpus_cost_and_say_how_many(view: CaseView) -> None:
    made = document(view.case, view.estimates, view.points, usd_per_hour=3.59)
    assert {n: v.gpus for n, v in made.variants.items()} == {"bf16-2": 2, "bf16": 1, "fp8": 1}
    a, b = side_of(made, "bf16-2"), side_of(made, "fp8")
    assert a.variant.fixed["Hardware"]["GPUs of the server"] == "2"
    line = next(x for x in compared(a, b) if (x.workload, x.load, x.metric) == ("chat", "c16", COST))
    assert line.ratio == pytest.approx(0.5, rel=0.02)


# -- what is compared, and what is not -----------------------------------------------------------------------------


def test_per_gpu_is_compared_besides_with_the_same_interval_scaled(view: CaseView) -> None:
    server = view.comparison("fp8", "chat", "c16", THROUGHPUT)
    each = view.comparison("fp8", "chat", "c16", PER_GPU)
    assert server is not None and each is not None  # noqa: PT018
    assert (each.ratio, each.low, each.high) == pytest.approx((2 * server.ratio, 2 * server.low, 2 * server.high))
    assert server.gpus == each.gpus == (1, 2)
    assert (server.kind, each.kind) == ("equivalent", "faster")
    assert per_gpu({"a": Estimate(10.0, 0.01, 5, "repeats")}, {"a": 4})["a"] == Estimate(2.5, 0.01, 5, "repeats")


def test_nothing_is_called_faster_without_saying_on_how_many_gpus(view: CaseView) -> None:
    page = text_of(case_page.page(view))
    server = [line for line in page.splitlines() if "= equivalent" in line or "▲ faster" in line]
    assert server
    chat = page.split("## Chat")[1].split("## Batch")[0]
    assert chat.count("; 1 GPU against 2)") >= 6  # each of both variants' changes at three loads
    assert "The driver shows nearly the same memory" not in page


def test_memory_of_unlike_servers_has_no_ratio_and_the_formulas_leave_them_out(view: CaseView) -> None:
    ratios = {m.row.variant: m.weights_ratio for m in view.memory}
    assert ratios["fp8"] != ratios["fp8"]
    assert ratios["bf16-2"] == 1.0
    page = text_of(case_page.page(view))
    assert "Weights of one GPU (GiB)" in page
    assert "figures are sums over its GPUs" in page
    assert {s.variant for s in fit.starts([view.case], shapes(), formats())} == {"bf16", "fp8"}
    assert "several GPUs" in variant_reason(view.case, view.case.study.variant("bf16-2"))
    assert "several" in roofs(view.case, view.points)[1]


def test_the_verdict_of_fewer_gpus_that_hold_the_throughput(view: CaseView) -> None:
    passed = QualityVerdict("fp8", "pass", "no loss was detected", "", [])
    found = {v.variant: v for v in verdicts(view.case, view.comparisons, {"fp8": passed}) if v.workload == "chat"}
    fp8 = found["fp8"]
    assert (fp8.kind, fp8.rule) == ("recommend", "fewer-gpus-quality-pass")
    assert fp8.because.startswith("more throughput per GPU (1 GPU against 2), and as much in all")
    assert fp8.evidence is not None
    assert fp8.evidence.metric == PER_GPU
    assert (found["bf16"].kind, found["bf16"].rule) == ("none", "unquantized")  # the same model is no quantization


def test_cells_beside_other_servers_are_compared_only_where_the_trial_allows_it(
    unlike: CaseView, tmp_path: Path
) -> None:
    assert [c for c in unlike.comparisons if c.variant == "fp8"] == []
    chat = next(v for v in unlike.verdicts if (v.variant, v.workload) == ("fp8", "chat"))
    assert (chat.kind, chat.rule) == ("none", "co-located")
    page = text_of(case_page.page(unlike))
    assert "15 of 30 cell repeats co-located: measured beside other servers" in page
    assert "no trial says whether that makes a difference" in page
    lanes = costs.cost_of(unlike).lanes
    assert all(pair is None for lane in lanes for line in lane.pairs["fp8"] for pair in line)
    folder = make_bundle(tmp_path, asked=gpu_study(), only=("bf16-2", "fp8"), beside={"fp8": 1})
    tried = CoLocation(
        cell="bf16-2 chat c16", alone=CoLocated(tok_s=2000.0, ttft_ms_p50=20.0), allowed=True,
        together=CoLocated(tok_s=1990.0, ttft_ms_p50=21.0), ratio=0.995, low=0.985, high=1.005, region=0.03,
    )  # fmt: skip
    write_co_location(folder, tried)
    allowed = CaseView(Case(read(folder).bundle, gpu_study(), []), Options())
    assert {c.variant for c in allowed.comparisons} == {"fp8"}
    shown = text_of(case_page.page(allowed))
    assert "Servers side by side are **allowed to count**" in shown
    assert "trial: throughput together is 0.995 (0.985–1.005) of that alone" in shown
    assert "1.05" in shown.split("### Servers side by side")[1].split("###")[0]  # TTFT 21 / 20


# -- does quantization save a GPU? ---------------------------------------------------------------------------------


def test_every_quantized_variant_meets_the_unquantized_on_more_gpus_and_on_as_many(view: CaseView) -> None:
    found = save_gpu(view.case, view.estimates, {})
    assert [(a.ours.variant, a.plain.variant, a.saved, a.quantizes) for a in found] == [
        ("fp8", "bf16-2", 1, True),
        ("bf16", "bf16-2", 1, False),
        ("fp8", "bf16", 0, True),
    ]
    fewer, without, same = found
    assert same.answers == without.answers == ()
    assert [(s.workload, s.kind, s.top.load) for s in fewer.answers] == [
        ("chat", "saves", "c16"),
        ("batch", "saves", "c32"),
    ]
    top = fewer.answers[0].top
    expected = throughput(view, "fp8", "chat", "c16") / throughput(view, "bf16-2", "chat", "c16")
    assert top.server.ratio == pytest.approx(expected)
    assert top.each.ratio == pytest.approx(2 * expected)
    assert top.saving is not None
    assert top.saving[0] == pytest.approx(1 - 1 / (2 * expected))
    like = next(at for at in same.points if (at.workload, at.load) == ("chat", "c16"))
    assert like.server.ratio == pytest.approx(like.each.ratio)
    assert like.server.kind == "faster"


def change(kind: str, metric: str = THROUGHPUT) -> Change:
    holds = kind in ("faster", "equivalent", "negligible")
    return Change(metric, 1.0, 0.9, 1.1, kind, 0.01, holds)  # type: ignore[arg-type]


def at(server: str, limited: bool = False, holds: bool | None = None) -> At:
    top = change(server)
    top = top if holds is None else replace(top, holds=holds)
    return At("chat", "c16", 16, top, change("faster", PER_GPU), (), limited)


@pytest.mark.parametrize(
    ("top", "worse", "grade", "answer"),
    [
        (at("equivalent"), False, "pass", "saves"),
        (at("negligible"), False, None, "saves"),
        (at("faster"), True, "pass", "latency"),
        (at("slower"), False, "pass", "no"),
        (at("slower"), True, "pass", "no"),
        (at("inconclusive"), True, "pass", "undecided"),
        (at("inconclusive", holds=True), False, "pass", "saves"),  # +8 % (+2 to +14 %): no loss, if no sure gain
        (at("faster"), False, "fail", "quality"),
        (at("faster", limited=True), False, "pass", "client"),
    ],
)
def test_the_answer_follows_from_throughput_latency_and_quality(
    top: At, worse: bool, grade: Any, answer: str
) -> None:  # fmt: skip
    judged = None if grade is None else QualityVerdict("fp8", grade, "because", "", [])
    assert _kind(top, worse, judged) == answer


def test_latency_is_the_price_where_one_request_alone_takes_longer(
    view: CaseView, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(view.estimates)
    alone = ("chat", "c1", "tpot_ms_p50")
    arms = known[alone]
    known[alone] = {**arms, "fp8": replace(arms["fp8"], value=1.4 * arms["bf16-2"].value)}
    fewer = save_gpu(view.case, known, {})[0]
    chat = fewer.answers[0]
    assert chat.kind == "latency"
    assert [(load, c.metric, round(c.ratio, 6)) for load, c in chat.worse] == [("c1", "tpot_ms_p50", 1.4)]
    monkeypatch.setitem(view.__dict__, "estimates", known)
    words = text_of(section.section(view))
    assert "It saves 1 GPU if its quality holds, and latency is the price." in words
    assert re.search(r"slower: TPOT p50 \+40\.0 % \(.*?\) at concurrency 1;", words)


def test_the_page_answers_with_figures_and_a_faulty_or_replayed_case_gets_no_answer(view: CaseView) -> None:
    page = text_of(section.section(view))
    assert page.startswith("## Does quantization save you a GPU?")
    assert "**fp8 on 1 GPU against bf16-2 on 2 GPUs:** **It saves 1 GPU if its quality holds.**" in page
    assert "Contexts that fit at once: 207 instead of 418." in page  # 847,953 and 1,712,209 KV tokens / 4,096
    assert "Its quality was not measured." in page
    withheld = save_gpu(view.case, view.estimates, {}, withheld=True)
    assert {s.kind for a in withheld for s in a.answers} == {"withheld"}


def test_a_gain_that_is_not_sure_is_no_loss_and_saves_the_gpu(view: CaseView, monkeypatch: pytest.MonkeyPatch) -> None:
    at, known = ("chat", "c16", THROUGHPUT), dict(view.estimates)
    arms = known[at]
    # Logs: 0.08 +- 1.96 x 0.04, so from 0.0016 to 0.1584, where the region is log 1.03 = 0.0296 to either side.
    base = replace(arms["bf16-2"], variance=1e-12, freedom=1e6)
    ours = replace(base, value=base.value * math.exp(0.08), variance=0.04**2)
    known[at] = {**arms, "bf16-2": base, "fp8": ours}
    fewer = save_gpu(view.case, known, {})[0]
    chat = fewer.answers[0]
    assert (chat.top.server.kind, chat.top.server.holds, chat.kind) == ("inconclusive", True, "saves")
    assert chat.top.server.low == pytest.approx(math.exp(0.08 - 1.96 * 0.04), rel=1e-3)
    known[at] = {**arms, "bf16-2": base, "fp8": replace(ours, value=base.value * math.exp(0.03))}  # from -0.048
    assert save_gpu(view.case, known, {})[0].answers[0].kind == "undecided"
    monkeypatch.setitem(view.__dict__, "estimates", {**known, at: {**arms, "bf16-2": base, "fp8": ours}})
    found = comparisons(view.case, view.estimates)
    verdict = next(v for v in verdicts(view.case, found, {}) if (v.variant, v.workload) == ("fp8", "chat"))
    assert "and no less in all beyond the region of equivalence" in verdict.because


def test_what_fewer_gpus_give_without_quantizing_stands_beside(view: CaseView) -> None:
    page = text_of(section.section(view))
    change_of = throughput(view, "bf16", "chat", "c16") / throughput(view, "bf16-2", "chat", "c16") - 1
    assert change_of < -0.1
    words = f"**Without quantizing, bf16 on 1 GPU against bf16-2 on 2 GPUs:** throughput per server chat at concurrency 16 −{-100 * change_of:.1f} % ("  # noqa: E501
    assert words in page


def test_the_budget_of_the_study_is_said_to_be_kept_or_missed(view: CaseView, monkeypatch: pytest.MonkeyPatch) -> None:
    tails = {v: e.value for v, e in view.estimates["chat", "c16", "e2e_ms_p95"].items()}
    for limit, kept, words in ((2 * tails["fp8"], True, "kept by both"), (1.0, False, "missed by both")):
        asked = [changed(w, e2e_limit_ms=limit) for w in view.case.study.workloads]
        monkeypatch.setattr(view.case.study, "workloads", asked)
        top = save_gpu(view.case, view.estimates, {})[0].answers[0].top
        assert top.budget == Budget(limit, tails["fp8"], tails["bf16-2"], kept, kept)
        assert f"is {words} (" in text_of(section.section(view))


def test_the_first_screen_says_in_a_line_each_whether_a_gpu_is_saved(view: CaseView, unlike: CaseView) -> None:
    lines = [text_of(line) for line in section.brief(view)]
    assert [line.split(",")[0] for line in lines] == ["chat: yes", "batch: yes"]
    assert lines[0].startswith(
        "chat: yes, 1 GPU less if its quality holds: fp8 on 1 GPU against bf16-2 on 2 GPUs, throughput "
    )
    assert "<h3>Does it save a GPU?</h3>" in case_page.page(view)
    assert [text_of(line) for line in section.brief(unlike)] == ["bf16 does not fit on 1 GPU; fp8 does"]


def test_every_table_says_how_it_came_about(view: CaseView) -> None:
    uri = f"cases/{view.case.id}/index.md"
    shown = dress(
        section.section(view), uri, {view.case.id: {"cells.csv": "cells.csv", "variants.csv": "variants.csv"}}
    )
    names = re.findall(r'class="qc-table[^"]*" id="table-([^"]+)"', shown)
    assert names == ["servers", "server-speeds", "save-gpu", "same-gpus"]
    assert (
        shown.count('<details class="qc-how">') == shown.count("methodology/#servers-over-several-gpus") == len(names)
    )
    heading = "## Servers over several GPUs\n"
    assert heading in (Path(__file__).parents[2] / "docs" / "methodology.md").read_text("utf-8")


def test_throughput_stands_per_server_and_per_gpu(view: CaseView) -> None:
    table = section.section(view).split('id="table-server-speeds"')[1].split("</table>")[0]
    row = next(r for r in table.split("<tr>") if "batch" in r and "bf16&#45;2" in r)
    server, one = (text_of(cell) for cell in re.findall(r'<td class="num">(.*?)</td>', row)[:2])
    whole = throughput(view, "bf16-2", "batch", "c32")
    assert server.startswith(f"{whole:,.0f} (")
    assert one.startswith(f"{whole / 2:,.0f} (")


def test_what_does_not_fit_is_a_finding_in_the_engines_words(unlike: CaseView) -> None:
    states = {s.variant: s.state for s in servers(unlike.case)}
    assert states == {"bf16-2": "served", "bf16": "does not fit", "fp8": "served"}
    page = text_of(section.section(unlike))
    assert f"**bf16 does not fit on 1 GPU**: {OOM}" in page
    assert "no load point that both have, or one was measured beside other servers" in page
    assert "<b>" not in section.section(unlike)


def test_one_gpu_each_and_nothing_of_this_is_shown(tmp_path: Path) -> None:
    plain = CaseView(read(make_bundle(tmp_path, only=("bf16", "fp8"))), Options())
    assert section.section(plain) == ""
    assert {c.metric for c in plain.comparisons}.isdisjoint({PER_GPU})
    page = case_page.page(plain)
    for words in ("of one GPU", "for each GPU", "co-located", "GPU against"):
        assert words not in page, words


def test_case_json_counts_gpus_and_holds_the_answers(view: CaseView) -> None:
    made = case_document(view.case, view.points, saves=section.found(view))
    read_again = json.loads(case_page.case_json(made))
    by_key: dict[str, Any] = {f["key"]: f for f in read_again["figures"]}
    assert by_key["gpus.bf16-2.count"] | {"n": 0} == {
        "key": "gpus.bf16-2.count", "value": 2.0, "unit": "GPUs", "low": None, "high": None, "n": 0,
        "source": "variants.csv",
    }  # fmt: skip
    assert by_key["gpus.fp8.count"]["value"] == 1
    assert by_key["vram.bf16-2.weights_gib"]["unit"] == "GiB of one GPU"
    assert by_key["vram.bf16-2.peak_mib"]["value"] == 257_920
    assert by_key["vram.bf16-2.peak_fullest_mib"]["value"] == 129_010
    whole, each = (by_key[f"chat.c16.bf16-2.throughput_tok_s{end}"]["value"] for end in ("", "_per_gpu"))
    assert each == pytest.approx(whole / 2)
    cost_of = by_key["cost.chat.c16.bf16-2.usd_per_1m_output_tokens"]["value"]
    assert cost_of == pytest.approx(1e6 * 2 * 3.59 / (3600 * whole))
    answer = read_again["save_gpu"][0]
    assert (answer["variant"], answer["gpus"], answer["against"], answer["against_gpus"]) == ("fp8", 1, "bf16-2", 2)
    assert answer["answer"] == "saves"
    assert answer["throughput_per_gpu"]["ratio"] == pytest.approx(2 * answer["throughput"]["ratio"])


def test_links_between_gpus_stand_in_the_setup(view: CaseView) -> None:
    session = view.case.bundle.environment().sessions[0]
    assert section.hardware(session) == [
        ["GPUs of the box", "2"],
        ["Between GPUs", "NVLink, 18 links, one reads the other&#39;s memory: 0&#8211;1"],
    ]
    hostile: Callable[[], Any] = lambda: changed(session, interconnect=[{"path": "<script>", "a": "|", "nvlinks": "x"}])  # noqa: E731
    rows_of = section.hardware(hostile())
    assert "<script>" not in rows_of[1][1]
    assert section.hardware(changed(session, gpus=session.gpus[:1])) == []
