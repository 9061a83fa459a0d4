"""One study on several GPUs and boxes: what belongs together, what is pooled, who wins, at which price that flips."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from scipy import stats

from quantcase.analysis.between import Side, between, side_of
from quantcase.analysis.between_document import CaseDocument, Published
from quantcase.analysis.cost import usd_per_million
from quantcase.analysis.gpus_boxes import apart
from quantcase.analysis.gpus_document import Study, document, study_of
from quantcase.analysis.gpus_energy import PER_JOULE, POWER, joules
from quantcase.analysis.gpus_lottery import Lot, alike, lottery, together
from quantcase.analysis.gpus_pool import Spot, pool
from quantcase.analysis.gpus_study import UNKNOWN, groups
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.points import THROUGHPUT
from quantcase.catalog import read
from quantcase.menu import Menu
from quantcase.output import Output
from quantcase.pages import compare, gpus, history
from quantcase.pages.view import CaseView, Options
from tests.real import RESULTS
from tests.site.gpu_boxes import CARDS, POWER_W, a_box, small

REAL = ("2026-11-21-h200-h200-shape", "2026-11-21-h200-h200-shape-2")
A100: dict[str, Any] = {"gpu": "a100", "device": "NVIDIA A100-SXM4-80GB", "card": "d"}


def documents(folders: Any) -> list[CaseDocument]:
    return compare.documents([CaseView(read(f), Options()) for f in folders])


@pytest.fixture(scope="module")
def real() -> list[CaseDocument]:
    """The two real bundles, measured on two physical H200."""
    return documents(RESULTS / name for name in REAL)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaseDocument]:
    """Two boxes of one type that are alike, one box of another type at half the speed, and one of it on two GPUs."""
    out = tmp_path_factory.mktemp("gpus")
    a_box(out, "h200-a", card="a", seed=1, day=1)
    a_box(out, "h200-b", card="b", seed=2, day=2)
    a_box(out, "a100", **A100, usd=1.49, times=2.2, seed=3, day=3, telemetry="power",
          kernel={"fp8": "MarlinFP8ScaledMMLinearKernel"})  # fmt: skip
    a_box(out, "h200-two", card="c", seed=4, day=4, gpus=2)
    a_box(out, "h200-slow", card="c", seed=5, day=5, times=1.2)
    a_box(out, "h200-other-seed", card="b", seed=6, day=6, asked=msgspec.structs.replace(small(), seed=7))
    a_box(out, "h200-no-card", card="", seed=7, day=7, telemetry="none")
    return {d.case: d for d in documents(sorted(p for p in out.iterdir()))}


def one(*found: CaseDocument) -> Study:
    (group,) = groups(found)
    return study_of(group)


def spot(study: Study, gpu: str, variant: str, workload: str, at: str, box: str = "") -> Spot:
    (found,) = [
        s for s in study.spots
        if (s.gpu, s.variant, s.workload, s.load) == (gpu, variant, workload, at) and (not box or box in s.boxes)
    ]  # fmt: skip
    return found


# -- what belongs together ------------------------------------------------------------------------------------------


def test_a_study_is_told_by_what_was_asked_and_its_boxes_by_their_cards(seeded: dict[str, CaseDocument]) -> None:
    study = one(seeded["h200-a"], seeded["h200-b"], seeded["a100"])
    found = {g.name: [(b.name, [c.case for c in b.cases]) for b in g.boxes] for g in study.group.gpus}
    assert found == {
        "NVIDIA A100-SXM4-80GB": [("card 12345678", ["a100"])],
        "NVIDIA H200": [("card 0e45c4e4", ["h200-a"]), ("card e89ff6da", ["h200-b"])],
    }
    assert list(study.group.variants.values()) == ["bf16", "fp8"]
    assert study.group.several


def test_other_prompts_make_another_study_and_more_gpus_a_server_another_variant(
    seeded: dict[str, CaseDocument],
) -> None:
    assert len(groups([seeded["h200-a"], seeded["h200-other-seed"]])) == 2
    (group,) = groups([seeded["h200-a"], seeded["h200-two"]])
    assert set(group.variants.values()) == {"bf16", "fp8", "bf16 on 2 GPUs", "fp8 on 2 GPUs"}


def test_one_box_is_not_several_and_an_unknown_card_is_no_second_box(seeded: dict[str, CaseDocument]) -> None:
    (group,) = groups([seeded["h200-a"], seeded["h200-no-card"]])
    assert {b.name for b in group.gpus[0].boxes} == {"card 0e45c4e4", UNKNOWN}
    assert not group.several


def test_the_control_is_the_baseline_again_and_no_variant(real: list[CaseDocument]) -> None:
    (group,) = groups(real)
    assert "bf16-again" not in group.variants.values()
    assert set(group.variants.values()) == {"bf16", "fp8", "awq", "gptq", "w8a8-int8", "bf16-fp8kv"}
    assert [b.name for b in group.gpus[0].boxes] == ["card 0e45c4e4", "card e89ff6da"]


def test_boxes_are_apart_only_where_both_are_known_and_share_none() -> None:
    assert apart(["card a"], ["card b"])
    assert not apart(["card a"], [])
    assert not apart(["card a", "card b"], ["card b"])
    assert not apart(["card a"], ["cards a + b"])  # one server over one card of a box, another over both
    assert apart(["card c"], ["cards a + b"])


# -- two boxes of one type ------------------------------------------------------------------------------------------


def test_the_two_real_cards_stand_apart_over_all_cells_though_hardly_one_cell_shows_it(
    real: list[CaseDocument],
) -> None:
    lots = [x for x in lottery(groups(real)[0]) if x.line.metric == THROUGHPUT]
    joint = {t.metric: t for t in together(lots)}[THROUGHPUT]
    sides = {
        (v, w, c): cell for v, d in real[0].variants.items() for w, cs in d.cells.items() for c, cell in cs.items()
    }
    by_variant: dict[str, list[float]] = {}
    for lot in lots:
        other = real[1].variants[lot.variant].cells[lot.line.workload][lot.line.load].figures[THROUGHPUT]
        mine = sides[lot.variant, lot.line.workload, lot.line.load].figures[THROUGHPUT]
        assert (lot.line.ratio, lot.line.low) == pytest.approx(
            between(other.estimate, mine.estimate, same_case=False)[:2]
        )
        by_variant.setdefault(lot.variant, []).append(math.log(other.value / mine.value))
    assert joint.ratio == pytest.approx(math.exp(np.mean([np.mean(x) for x in by_variant.values()])))
    assert (joint.cells, joint.variants) == (len(lots), 3)
    assert joint.less == sum(x < 0 for logs in by_variant.values() for x in logs)
    assert sum(not alike(x.line.low, x.line.high, x.line.region) for x in lots) <= 2
    assert joint.high < 1
    assert not joint.alike
    assert all(s.kept_apart for s in one(*real).spots if s.variant in by_variant)


def test_together_takes_the_spread_of_variants_where_it_is_the_larger(seeded: dict[str, CaseDocument]) -> None:
    lots = lottery(groups([seeded["h200-a"], seeded["h200-slow"]])[0])
    fast = [x for x in lots if x.line.metric == THROUGHPUT]
    means = [np.mean([math.log(x.line.ratio) for x in fast if x.variant == v]) for v in ("bf16", "fp8")]
    # the second variant is made much slower on the other box: the variants then tell more of the noise than their cells
    far = [x if x.variant == "bf16" else _moved(x, 0.5) for x in fast]
    (joint,) = together(far)
    logs = [means[0], means[1] + math.log(0.5)]
    half = stats.t.ppf(0.975, 1) * np.std(logs, ddof=1) / math.sqrt(2)
    assert math.log(joint.high) == pytest.approx(np.mean(logs) + half)


def test_the_starts_behind_several_cells_count_once(seeded: dict[str, CaseDocument]) -> None:
    lots = lottery(groups([seeded["h200-a"], seeded["h200-b"]])[0])
    one_variant = [x for x in lots if x.line.metric == THROUGHPUT and x.variant == "bf16"]
    common = [replace(x, sides=(_starts(x, 0), _starts(x, 1))) for x in one_variant]
    assert len(common) > 1
    (joint,) = together(common)
    # two boxes, each with a variance of 1e-4 and 2 degrees of freedom: together 2e-4 and 4, however many cells
    assert math.log(joint.high / joint.ratio) == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(2e-4))


def _starts(lot: Lot, side: int) -> Side:
    """The lot's side with a throughput whose spread is that of server starts."""
    case, name = lot.sides[side].case, lot.sides[side].name
    whole = deepcopy(case.variants[name])
    figures = whole.cells[lot.line.workload][lot.line.load].figures
    figures[THROUGHPUT] = Published(figures[THROUGHPUT].value, 1e-4, 2.0, "starts")
    return side_of(msgspec.structs.replace(case, variants={**case.variants, name: whole}), name)


def _moved(lot: Lot, times: float) -> Lot:
    return replace(lot, line=replace(lot.line, ratio=times * lot.line.ratio))


def test_boxes_that_are_alike_are_pooled_and_others_are_not(seeded: dict[str, CaseDocument]) -> None:
    both = one(seeded["h200-a"], seeded["h200-b"])
    cell = spot(both, "NVIDIA H200", "bf16", "chat", "c8")
    parts = [seeded[c].variants["bf16"].cells["chat"]["c8"].figures[THROUGHPUT].estimate for c in ("h200-a", "h200-b")]
    assert cell.boxes == ("card 0e45c4e4", "card e89ff6da")
    assert cell.figures[THROUGHPUT].value == pytest.approx(math.sqrt(parts[0].value * parts[1].value))
    unlike = one(seeded["h200-a"], seeded["h200-slow"])
    assert all(len(s.boxes) == 1 and s.kept_apart for s in unlike.spots)


def test_a_pooled_figure_has_the_larger_of_the_two_variances() -> None:
    near = [Estimate(100.0, 4e-4, 4, "repeats"), Estimate(101.0, 4e-4, 4, "repeats")]
    made = pool(near)
    assert [made.variance, made.freedom] == pytest.approx([2e-4, 8.0])
    assert made.level == "within"
    far = pool([Estimate(100.0, 1e-8, 4, "repeats"), Estimate(104.0, 1e-8, 4, "repeats")])
    spread = np.var([math.log(100), math.log(104)], ddof=1) / 2
    assert [far.variance, far.freedom] == pytest.approx([spread, 1])
    assert far.level == "boxes"
    assert not pool([near[0], Estimate(100.0, math.nan, math.nan, "none")]).known


# -- costs, winners, prices -----------------------------------------------------------------------------------------


def test_every_gpu_of_a_server_is_paid_for(seeded: dict[str, CaseDocument]) -> None:
    made = document([one(seeded["h200-two"])])
    (cell,) = [c for c in made.studies[0].cells if (c.variant, c.workload, c.load) == ("bf16 on 2 GPUs", "chat", "c8")]
    speed = seeded["h200-two"].variants["bf16"].cells["chat"]["c8"].figures[THROUGHPUT].value
    figure = {f.metric: f.value for f in cell.figures}["usd_per_1m_output_tokens"]
    assert cell.gpus == 2
    assert figure == pytest.approx(usd_per_million(2 * 3.59, speed))
    assert seeded["h200-two"].variants["bf16"].boxes == [f"cards 1{CARDS['c'][1:8]} + {CARDS['c'][:8]}"]


def test_the_price_that_flips_the_answer_is_solved_from_the_throughputs(seeded: dict[str, CaseDocument]) -> None:
    study = one(seeded["a100"], seeded["h200-a"])
    flip = next(f for f in study.flips if not f.best and f.a.variant == "fp8" and f.a.workload == "batch")
    a, b = (seeded[c].variants["fp8"].cells["batch"]["c8"].figures[THROUGHPUT].estimate for c in ("a100", "h200-a"))
    assert (flip.ratio, flip.low, flip.high) == pytest.approx(ratio(a, b)[:3])
    even = 3.59 * flip.ratio  # at which the A100's tokens cost what the H200's cost at 3.59
    assert usd_per_million(even, a.value) == pytest.approx(usd_per_million(3.59, b.value))
    sides = [flip.side(price, 1.0) for price in (0.9 * flip.low, flip.ratio, 1.1 * flip.high, None)]
    assert sides == ["a", "noise", "b", ""]


def test_winners_are_named_beyond_the_noise_only(seeded: dict[str, CaseDocument]) -> None:
    clear = {(w.workload, w.question): w for w in one(seeded["a100"], seeded["h200-a"]).wins}
    won = {of: w.best.gpu for of, w in clear.items() if w.named and w.best}
    assert won["chat", "fastest"] == won["batch", "throughput"] == "NVIDIA H200"
    assert won["batch", "cheapest"] == "NVIDIA A100-SXM4-80GB"
    assert set(clear) == {("chat", "cheapest"), ("chat", "fastest"), ("batch", "cheapest"), ("batch", "throughput")}
    # the same seed under another name: a tie
    known = seeded["h200-b"].hardware
    assert known is not None
    twin = msgspec.structs.replace(seeded["h200-b"], hardware=msgspec.structs.replace(known, name="NVIDIA H300"))
    assert not any(w.named for w in one(seeded["h200-a"], twin).wins)


def test_no_winner_is_named_past_a_type_that_was_not_compared(seeded: dict[str, CaseDocument]) -> None:
    known = seeded["h200-b"].hardware
    assert known is not None
    third = msgspec.structs.replace(
        seeded["h200-b"], usd_per_hour=None, hardware=msgspec.structs.replace(known, name="NVIDIA H300")
    )
    won = {(w.workload, w.question): w for w in one(seeded["a100"], seeded["h200-a"], third).wins}
    assert (won["batch", "cheapest"].named, won["batch", "cheapest"].why) == (False, "no price for NVIDIA H300")
    assert [r.option.gpu for r in won["batch", "cheapest"].rivals] == ["NVIDIA H200"]
    assert {r.option.gpu for r in won["batch", "throughput"].rivals} > {"NVIDIA A100-SXM4-80GB"}


def test_nothing_is_named_of_replayed_timings_nor_within_limits_that_nothing_keeps(
    seeded: dict[str, CaseDocument],
) -> None:
    replayed = [msgspec.structs.replace(seeded[c], grade="simulated") for c in ("a100", "h200-a")]
    assert not any(w.named for w in one(*replayed).wins)
    strict = []
    for c in ("a100", "h200-a"):
        known = seeded[c].hardware
        assert known is not None
        limits = {**known.limits, "chat": {"e2e_ms_p95": 1.0}}
        strict.append(msgspec.structs.replace(seeded[c], hardware=msgspec.structs.replace(known, limits=limits)))
    study = one(*strict)
    assert all(w.best is None and w.why for w in study.wins if (w.workload, w.question) == ("chat", "cheapest"))
    assert not [f for f in study.flips if f.a.workload == "chat"]


# -- energy ---------------------------------------------------------------------------------------------------------


def test_energy_is_the_counters_difference_and_else_the_integral_of_power() -> None:
    at = np.arange(0.0, 10.0, 0.5)
    counter, power = 50.0 + 300.0 * at, np.full(20, 300.0)
    again = np.where(at < 4, counter, counter - 1200.0)  # the driver was loaded again
    for kind, source in ((counter, "counter"), (np.full(20, math.nan), "power"), (again, "power")):
        found = joules(at, kind, power, 2.25, 6.0)
        assert found is not None
        assert found[0] == pytest.approx(300 * 3.75)
        assert found[1] == source
    assert joules(at, counter, power, 2.0, 9.6) is None  # no sample after the end
    gap = (at < 3) | (at > 5)
    assert joules(at[gap], counter[gap], power[gap], 2.0, 6.0) is None


def test_power_is_summed_over_the_gpus_of_the_server(seeded: dict[str, CaseDocument]) -> None:
    cell = spot(one(seeded["h200-two"]), "NVIDIA H200", "fp8 on 2 GPUs", "batch", "c8")
    assert cell.source == "counter"
    assert cell.figures[POWER].value == pytest.approx(2 * POWER_W, rel=1e-6)
    assert cell.figures[PER_JOULE].value == pytest.approx(cell.figures[THROUGHPUT].value / (2 * POWER_W), rel=1e-3)
    assert spot(one(seeded["a100"]), "NVIDIA A100-SXM4-80GB", "fp8", "batch", "c8").source == "power"
    assert POWER not in spot(one(seeded["h200-no-card"]), "NVIDIA H200", "fp8", "batch", "c8").figures


def test_the_real_counter_and_the_real_power_agree() -> None:
    case = read(RESULTS / REAL[0])
    samples = case.telemetry.sort_values("t_s")
    at, counter, power = (samples[c].to_numpy(float) for c in ("t_s", "energy_j", "power_w"))
    cell = case.cells.iloc[-1]
    window = float(cell["window_start_s"]), float(cell["window_end_s"])
    by_counter, by_power = (joules(at, c, power, *window) for c in (counter, np.full(len(at), math.nan)))
    assert by_counter is not None
    assert by_power is not None
    assert by_counter[0] == pytest.approx(by_power[0], rel=0.05)


# -- pages ----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_is_needed_and_stands_in_no_menu(seeded: dict[str, CaseDocument]) -> None:
    made = gpus.page([seeded["h200-a"]])
    assert made.title == ""
    assert "No study has been measured on two GPU types" in made.markdown
    assert json.loads(made.data)["needed"]
    menu, nav = Menu(), [{"Home": "index.md"}, {"History": "history/index.md"}, {"Costs": "costs/index.md"}]
    assert not menu.takes(Output("gpus/index.md", made.markdown, title=made.title))
    menu.put_into(nav)
    assert nav == [{"Home": "index.md"}, {"History": "history/index.md"}, {"Costs": "costs/index.md"}]


def test_the_page_stands_in_the_menu_once_and_holds_the_figures(seeded: dict[str, CaseDocument]) -> None:
    made = gpus.page([seeded["a100"], seeded["h200-a"], seeded["h200-b"]])
    menu, nav = Menu(), [{"Home": "index.md"}, {"History": "history/index.md"}, {"Costs": "costs/index.md"}]
    assert menu.takes(Output("gpus/index.md", made.markdown, title=made.title))
    menu.put_into(nav)
    menu.put_into(nav)
    assert [list(entry) for entry in nav] == [["Home"], ["History"], ["GPUs"], ["Costs"]]
    whole = json.loads(made.data)
    jsonschema.Draft202012Validator(json.loads(gpus.schema())).validate(whole)
    (study,) = whole["studies"]
    assert {f["cheaper"] for f in study["prices_that_flip"]} <= {"a", "b", "noise"}
    for kernel in ("MarlinFP8ScaledMMLinearKernel", "CutlassFP8ScaledMMLinearKernel"):
        assert kernel in made.markdown
    headings = [line for line in made.markdown.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))


def test_history_and_compare_name_the_box(seeded: dict[str, CaseDocument], real: list[CaseDocument]) -> None:
    found = [seeded["h200-a"], seeded["h200-slow"]]
    page = history.page([], found)
    for box in ("card 0e45c4e4", "card 77aa1122"):
        assert box in page
    assert "measured on another box, card 77aa1122 and not card 0e45c4e4" in page
    assert side_of(real[1], "fp8").variant.boxes == ["card e89ff6da"]
    assert "! two boxes <small>(card" in compare.page(found)
    twice = [seeded["h200-a"], msgspec.structs.replace(seeded["h200-a"], case="again")]
    assert "! two boxes" not in compare.page(twice)


def test_the_page_of_the_two_real_cards_says_what_they_differ_by(real: list[CaseDocument]) -> None:
    made = gpus.page(real)
    joint = next(
        r for r in json.loads(made.data)["studies"][0]["boxes_compared"] if r["metric"] == THROUGHPUT and r["cells"] > 1
    )
    assert f"{100 * (joint['ratio'] - 1):.1f} %".replace("-", "−") in made.markdown
    assert "two measurements, not one" in made.markdown
    assert made.title == "GPUs"
