"""Any two variants: what is the same around them, what may be compared, and how the difference is worked out."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quantcase.analysis.between import (
    ACCURACY,
    COST,
    FIXED,
    Difference,
    Line,
    between,
    compared,
    differences,
    metrics,
    newcombe,
    region,
    side_of,
    wilson,
)
from quantcase.analysis.between_document import CaseDocument, document
from quantcase.analysis.comparable import NEWEST, pairs
from quantcase.analysis.compare import ROPE, judge
from quantcase.analysis.hierarchy import Estimate, ratio
from quantcase.analysis.points import LEAST, THROUGHPUT
from quantcase.catalog import load
from quantcase.pages import compare
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle, study
from tests.real import cases
from tests.site.test_history import a_run, small

CPU, H200, GH200 = "2026-11-21-cpu-cpu", "2026-11-21-h200-h200-shape", "2025-10-09-gh200-shimmy-moe"


@pytest.fixture(scope="module")
def views() -> dict[str, CaseView]:
    """The project's own bundles: an H200 with dummy weights, a CPU with quality, a published table."""
    options = Options()
    return {c.id: CaseView(c, options) for c in cases(CPU, H200, GH200)}


@pytest.fixture(scope="module")
def docs(views: dict[str, CaseView]) -> dict[str, CaseDocument]:
    return {d.case: d for d in compare.documents(list(views.values()))}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseDocument, CaseDocument]:
    """Two seeded runs of one study, the second with another engine version."""
    out = tmp_path_factory.mktemp("two")
    a_run(out, 1)
    a_run(out, 2, engine="0.27.0")
    found = {c.id: CaseView(c, Options()) for c in load(out).cases}
    first, second = compare.documents([found["run-1"], found["run-2"]])
    return first, second


def line(lines: list[Line], metric: str, workload: str = "", load: str = "") -> Line:
    (found,) = (x for x in lines if (x.metric, x.workload, x.load) == (metric, workload, load))
    return found


def seen(found: list[Difference]) -> dict[str, str]:
    return {d.variable: d.state for d in found}


def changed(doc: CaseDocument, **more: Any) -> CaseDocument:
    return msgspec.structs.replace(doc, **more)


def with_fact(doc: CaseDocument, variable: str, fact: str, value: str) -> CaseDocument:
    variants = {
        n: msgspec.structs.replace(v, fixed={**v.fixed, variable: {**v.fixed.get(variable, {}), fact: value}})
        for n, v in doc.variants.items()
    }
    return changed(doc, variants=variants)


# -- figures --------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_bundles_rows(views: dict[str, CaseView], docs: dict[str, CaseDocument]) -> None:
    case = views[H200].case
    lines = compared(side_of(docs[H200], "bf16"), side_of(docs[H200], "fp8"))
    for variant, side in (("bf16", "a"), ("fp8", "b")):
        cells = case.cells[
            (case.cells.variant == variant) & (case.cells.workload == "chat") & (case.cells.load == "c16")
        ]
        ok = case.requests[
            (case.requests.variant == variant)
            & (case.requests.workload == "chat")
            & (case.requests.load == "c16")
            & (case.requests.status == "ok")
        ]
        speed = getattr(line(lines, THROUGHPUT, "chat", "c16"), side)
        assert speed[0] == pytest.approx(cells[THROUGHPUT].mean())
        assert speed[3] == len(cells) == 3
        for metric, column, p in (("ttft_ms_p95", "ttft_ms", 0.95), ("tpot_ms_p50", "tpot_ms", 0.5)):
            value = getattr(line(lines, metric, "chat", "c16"), side)
            assert value[0] == pytest.approx(ok[column].quantile(p))
            assert value[3] == len(ok)
        assert getattr(line(lines, COST, "chat", "c16"), side)[0] == pytest.approx(1e6 * 6.35 / 3600 / speed[0])
        row = case.served(variant)
        assert row is not None
        assert getattr(line(lines, "weights_gib"), side)[0] == row.weights_gib
        assert getattr(line(lines, "healthy_s"), side)[0] == row.healthy_s


def test_within_a_case_a_difference_is_the_cases_own(views: dict[str, CaseView], docs: dict[str, CaseDocument]) -> None:
    lines = compared(side_of(docs[H200], "bf16"), side_of(docs[H200], "awq"))
    theirs = [c for c in views[H200].comparisons if c.variant == "awq"]
    assert len(theirs) > 20
    for c in theirs:
        mine = line(lines, c.metric, c.workload, c.load)
        assert (mine.ratio, mine.low, mine.high, mine.p) == pytest.approx((c.ratio, c.low, c.high, c.p), rel=1e-6)
        assert mine.region == c.rope
        assert judge(c.metric, mine.ratio, mine.low, mine.high, mine.region) == judge(
            c.metric, c.ratio, c.low, c.high, c.rope
        )


def test_two_cases_share_no_pool_of_starts() -> None:
    """Welch and Satterthwaite by hand: (a + b)^2 / (a^2 / f + b^2 / g) = 2.5e-7 / (4e-8 / 2 + 9e-8 / 4) = 5.88."""
    ours, theirs = Estimate(110.0, 0.0002, 2, "starts"), Estimate(100.0, 0.0003, 4, "starts")
    same, other = (between(ours, theirs, same_case=x) for x in (True, False))
    assert same == ratio(ours, theirs)
    assert other[0] == pytest.approx(1.1)
    assert math.log(other[2] / other[0]) == pytest.approx(2.459 * math.sqrt(0.0005), rel=1e-3)  # t(0.975, 5.88)
    assert other[2] < same[2]  # t(0.975, 2) = 4.303


def test_two_cases_compare_by_their_own_estimates(two: tuple[CaseDocument, CaseDocument]) -> None:
    a, b = (side_of(d, "bf16") for d in two)
    mine = line(compared(a, b), THROUGHPUT, "chat", "c8")
    figures = [s.variant.cells["chat"]["c8"].figures[THROUGHPUT].estimate for s in (a, b)]
    assert (mine.ratio, mine.low, mine.high, mine.p) == between(figures[1], figures[0], same_case=False)


def test_a_cost_follows_from_throughput_and_price(two: tuple[CaseDocument, CaseDocument]) -> None:
    a, b = side_of(two[0], "bf16"), side_of(changed(two[1], usd_per_hour=2 * 3.59), "bf16")
    lines = compared(a, b)
    speed, cost = (line(lines, m, "chat", "c8") for m in (THROUGHPUT, COST))
    assert cost.ratio == pytest.approx(2 / speed.ratio)
    assert cost.kind == "slower"  # twice the price is dearer, whatever the noise
    none = compared(a, side_of(changed(two[1], usd_per_hour=None), "bf16"))
    assert line(none, COST, "chat", "c8").refused == "only A has it"


def test_wilson_and_newcombe_are_the_papers() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80, method 10: 0.0524 to 0.3339. Wilson 81/263: 0.2553 to 0.3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert newcombe((56, 70), (48, 80)) == pytest.approx((20.0, 5.24, 33.39), abs=5e-3)
    at, low, high = newcombe((10, 10), (10, 10))
    assert (at, low, high) == (0.0, -high, high)
    assert high > 20  # nothing was seen to differ, which is not the same as no difference


def test_accuracy_is_compared_on_the_same_questions_only(docs: dict[str, CaseDocument]) -> None:
    cpu = docs[CPU]
    mine = line(compared(side_of(cpu, "f16"), side_of(cpu, "q2_k")), ACCURACY)
    right = [cpu.variants[v].right for v in ("f16", "q2_k")]
    asked = cpu.variants["f16"].asked
    assert asked is not None
    assert None not in right
    assert mine.change == "points"
    assert mine.ratio == pytest.approx(100 * ((right[1] or 0) - (right[0] or 0)) / asked)
    other = with_fact(cpu, "Evaluation set", "prompts", "3 prompts, sha256 abc")
    refused = line(compared(side_of(cpu, "f16"), side_of(changed(other, case="other"), "q2_k")), ACCURACY)
    assert refused.refused.startswith("other questions: 545 prompts")
    assert math.isnan(refused.ratio)


# -- refused and withheld --------------------------------------------------------------------------------------------


def test_another_workload_definition_is_refused_with_its_reason(docs: dict[str, CaseDocument]) -> None:
    lines = compared(side_of(docs[H200], "bf16"), side_of(docs[CPU], "f16"))
    cells = [x for x in lines if x.workload]
    assert cells
    for x in cells:
        assert math.isnan(x.ratio)
        assert "input_tokens 256 against 64" in x.refused or x.refused.startswith("only")


def test_tokens_of_two_tokenizers_are_no_common_unit(two: tuple[CaseDocument, CaseDocument]) -> None:
    other = with_fact(two[1], "Model", "base model", "another/model")
    lines = compared(side_of(two[0], "bf16"), side_of(other, "bf16"))
    refused = {x.metric for x in lines if x.workload and x.refused.startswith("a token is not the same amount")}
    assert refused == {THROUGHPUT, COST, "tpot_ms_p50", "tpot_ms_p95"}
    assert not line(lines, "ttft_ms_p50", "chat", "c8").refused
    counted = [with_fact(d, "Evaluation set", "prompts", "9 prompts") for d in (two[0], other)]
    counted = [with_fact(d, "Tokenizer", "counts", "9 prompts, abc") for d in counted]
    lines = compared(*(side_of(d, "bf16") for d in counted))
    assert not any("amount of text" in x.refused for x in lines)


def test_what_another_tool_defined_is_refused(two: tuple[CaseDocument, CaseDocument]) -> None:
    other = changed(two[1], defined_by="the source of x")
    lines = compared(side_of(two[0], "bf16"), side_of(other, "bf16"))
    assert {x.refused for x in lines if x.a and x.b} == {
        "defined by this collector, bundle format 1 against the source of x"
    }


def test_memory_by_the_engines_own_word_needs_one_engine(two: tuple[CaseDocument, CaseDocument]) -> None:
    other = with_fact(two[1], "Engine", "engine", "llamacpp")
    lines = compared(side_of(two[0], "bf16"), side_of(other, "bf16"))
    assert line(lines, "weights_gib").refused == "each engine counts it its own way: vllm against llamacpp"
    assert line(lines, "vram_loaded_mib").refused == ""
    assert line(lines, "vram_loaded_mib").ratio == 1.0


def test_a_percentile_of_too_few_requests_is_not_compared(docs: dict[str, CaseDocument]) -> None:
    lines = compared(side_of(docs[H200], "bf16"), side_of(docs[H200], "fp8"))
    for x in (x for x in lines if x.workload and x.metric.endswith(("p95", "p99"))):
        enough = min(x.a[3], x.b[3]) >= LEAST[float(x.metric[-2:])]  # type: ignore[index]
        assert (x.refused == "") == enough


@pytest.mark.parametrize(
    ("more", "says"),
    [({"grade": "simulated"}, "simulated timings are no measurement"), ({"sound": False}, "a bundle has faults")],
)
def test_simulated_and_faulty_sides_get_no_word(
    two: tuple[CaseDocument, CaseDocument], more: dict[str, Any], says: str
) -> None:
    lines = compared(side_of(two[0], "bf16"), side_of(changed(two[1], **more), "fp8"))
    assert {x.withheld for x in lines if x.workload and not x.refused} == {says}


def test_a_limited_client_withholds_the_word_at_that_load(two: tuple[CaseDocument, CaseDocument]) -> None:
    other = msgspec.json.decode(msgspec.json.encode(two[1]), type=CaseDocument)
    other.variants["fp8"].cells["chat"]["c8"].limited = True
    lines = compared(side_of(two[0], "bf16"), side_of(other, "fp8"))
    limited = {(x.workload, x.load) for x in lines if x.withheld}
    assert limited == {("chat", "c8")}


def test_regions_are_those_of_the_cases_and_widen_with_either_control(two: tuple[CaseDocument, CaseDocument]) -> None:
    assert {m.key: m.region for m in metrics() if m.key in ROPE} == ROPE
    assert (region("ttft_due_ms_p95"), region("tpot_ms_p95"), region(COST)) == (0.10, 0.10, 0.03)
    wide = changed(two[1], regions={THROUGHPUT: 0.9})
    lines = compared(side_of(two[0], "bf16"), side_of(wide, "fp8"))
    for metric in (THROUGHPUT, COST):
        found = line(lines, metric, "chat", "c8")
        assert (found.region, found.kind) == (0.9, "equivalent" if found.low <= 1 <= found.high else "negligible")


# -- fixed variables -------------------------------------------------------------------------------------------------


def test_the_plans_eight_variables_are_among_those_that_are_checked() -> None:
    eight = {
        "Model", "Tokenizer", "Evaluation set", "Prompt length distribution", "Output length distribution",
        "Sampling parameters", "Engine", "Hardware",
    }  # fmt: skip
    assert set(FIXED) == eight | {"Workload definition", "Prompts", "Client"}


def test_within_a_measured_case_nothing_differs(docs: dict[str, CaseDocument]) -> None:
    states = seen(differences(side_of(docs[H200], "bf16"), side_of(docs[H200], "fp8")))
    assert states.pop("Tokenizer") == "look"  # dummy weights: no questions were asked
    assert states.pop("Evaluation set") == "none"
    assert set(states.values()) == {"ok"}
    assert seen(differences(side_of(docs[CPU], "f16"), side_of(docs[CPU], "q8_0")))["Tokenizer"] == "ok"


@pytest.mark.parametrize(
    ("variable", "fact", "state"),
    [("Hardware", "GPU", "bad"), ("Hardware", "driver", "bad"), ("Hardware", "card (hash)", "look"),
     ("Engine", "version", "bad"), ("Engine", "arguments", "bad"), ("Model", "base model", "bad"),
     ("Sampling parameters", "arguments", "bad"), ("Prompts", "kind", "bad"), ("Prompts", "seed", "look"),
     ("Client", "collector", "look")],
)  # fmt: skip
def test_a_fact_that_differs_is_named_in_words(
    two: tuple[CaseDocument, CaseDocument], variable: str, fact: str, state: str
) -> None:
    a, b = (with_fact(two[0], variable, fact, value) for value in ("one", "other"))
    found = {d.variable: d for d in differences(side_of(a, "bf16"), side_of(b, "bf16"))}[variable]
    assert found.state == state
    assert f"{fact} one against other" in found.words


def test_what_one_side_did_not_record_is_not_called_the_same(two: tuple[CaseDocument, CaseDocument]) -> None:
    b = with_fact(two[0], "Hardware", "driver", "")
    found = {d.variable: d for d in differences(side_of(two[0], "bf16"), side_of(b, "bf16"))}["Hardware"]
    assert (found.state, found.words) == ("none", "driver 580.159.04 against not recorded")


def test_the_h200_and_the_cpu_differ_in_what_their_bundles_say(docs: dict[str, CaseDocument]) -> None:
    found = {d.variable: d for d in differences(side_of(docs[H200], "bf16"), side_of(docs[CPU], "f16"))}
    assert "GPU NVIDIA H200 against none" in found["Hardware"].words
    assert "engine vllm against llamacpp; version 0.26.0" in found["Engine"].words
    assert "chat: input_tokens 256 against 64, output_tokens 128 against 48" in found["Workload definition"].words
    assert "chat c1 256.0 against 58.1" in found["Prompt length distribution"].words
    assert "weights dummy against real" in found["Model"].words


# -- the page and its files ------------------------------------------------------------------------------------------


def scripts(found: list[CaseDocument]) -> dict[str, Any]:
    """The files as a browser reads them: one JSON string each."""
    read = {}
    for name, text in compare.files(found):
        inner = re.fullmatch(r"\(globalThis\.quantcaseData \|\|= \[\]\)\.push\((\".*\")\);\n", text)
        assert inner is not None
        read[name] = json.loads(json.loads(inner[1]))
    return read


def test_there_is_an_index_and_one_file_a_case_and_no_figure_twice(docs: dict[str, CaseDocument]) -> None:
    found = scripts(list(docs.values()))
    assert set(found) == {"cases.js", *(f"cases/{c}.js" for c in docs)}
    assert [c["case"] for c in found["cases.js"]["cases"]] == list(docs)
    assert "figures" not in json.dumps(found["cases.js"])
    assert COST not in json.dumps([found[f"cases/{c}.js"] for c in docs])  # it follows from throughput and price
    assert msgspec.convert(found[f"cases/{H200}.js"], CaseDocument) == msgspec.structs.replace(
        docs[H200], hardware=None
    )


def test_two_variants_with_figures_of_the_newest_whole_case_are_shown_first(docs: dict[str, CaseDocument]) -> None:
    whole = docs[H200]
    idle = {name: msgspec.structs.replace(v, cells={}) for name, v in whole.variants.items()}
    unserved = changed(whole, case="newest", variants={**idle, "bf16": whole.variants["bf16"]})
    cut = changed(whole, case="newer", status="interrupted")
    shown = [(H200, "bf16"), (H200, "fp8")]
    assert scripts([unserved, cut, whole])["cases.js"]["usual"] == [list(pair) for pair in shown]
    assert scripts([unserved, cut])["cases.js"]["usual"] == [["newer", variant] for _, variant in shown]
    assert scripts([unserved])["cases.js"]["usual"] == [["newest", variant] for variant in list(whole.variants)[:2]]
    assert scripts([])["cases.js"]["usual"] == []


def test_a_quantized_variant_is_shown_first_beside_the_baseline(docs: dict[str, CaseDocument]) -> None:
    whole = docs[H200]
    more = {"bf16-two": whole.variants["bf16"], **whole.variants}
    assert scripts([changed(whole, baseline="bf16-two", variants=more)])["cases.js"]["usual"] == [
        [H200, "bf16-two"], [H200, "fp8"],
    ]  # fmt: skip
    kept = {name: more[name] for name in ("bf16-two", "bf16", "bf16-fp8kv")}
    assert scripts([changed(whole, baseline="bf16", variants=kept)])["cases.js"]["usual"] == [
        [H200, "bf16"], [H200, "bf16-fp8kv"],
    ]  # fmt: skip


def test_the_index_stays_small_for_a_thousand_cases(docs: dict[str, CaseDocument]) -> None:
    many = [changed(docs[H200], case=f"case-{i}") for i in range(1000)]
    text = dict(compare.files(many[:1000]))["cases.js"]
    assert len(text) < 400_000


def test_hostile_text_ends_no_script(docs: dict[str, CaseDocument]) -> None:
    bad = changed(docs[CPU], title='</script><script>alert(1)</script>\u2028"')
    for name, text in compare.files([bad]):
        assert "<" not in text, name
        assert "\u2028" not in text


def test_the_static_page_links_every_case_and_says_that_none_is_comparable(docs: dict[str, CaseDocument]) -> None:
    page = compare.page(list(docs.values()))
    for case in docs:
        assert f'href="../cases/{case}/"' in page
    assert "No two cases measured the same workload at the same load" in page
    assert compare.page([]).count("There is no result bundle yet") == 1


def test_comparable_pairs_are_listed_with_what_differs(two: tuple[CaseDocument, CaseDocument]) -> None:
    found, whole = pairs(two)
    assert whole
    (pair,) = found
    assert (pair.a.case, pair.b.case, pair.variants) == ("run-2", "run-1", ("bf16", "bf16"))
    assert pair.shared == (("chat", "c4"), ("chat", "c8"), ("batch", "c8"))
    assert "Engine" in {d.variable for d in pair.differs if d.state == "bad"}
    page = re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), compare.page(two))
    assert "version 0.27.0 against 0.26.0" in page
    assert 'data-a="run-2/bf16" data-b="run-1/bf16"' in page


def test_of_many_cases_the_newest_are_paired(two: tuple[CaseDocument, CaseDocument]) -> None:
    many = [changed(two[0], case=f"case-{i}", created=f"2026-01-01T00:{i:02d}:00+00:00") for i in range(NEWEST + 3)]
    found, whole = pairs(many)
    assert not whole
    assert len(found) == NEWEST * (NEWEST - 1) // 2
    assert {"case-0", "case-1", "case-2"}.isdisjoint({p.a.case for p in found} | {p.b.case for p in found})


def test_one_repeat_has_its_percentiles_bounds_and_no_difference_with_interval(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(small(), repeats=1)
    make_bundle(tmp_path, asked=asked)
    (case,) = load(tmp_path).cases
    view = CaseView(case, Options())
    doc = document(case, view.estimates, view.points)
    found = line(compared(side_of(doc, "bf16"), side_of(doc, "fp8")), "e2e_ms_p50", "chat", "c8")
    assert found.a is not None
    assert found.a[1] < found.a[0] < found.a[2]
    assert found.ratio == pytest.approx(found.b[0] / found.a[0])  # type: ignore[index]
    assert math.isnan(found.low)
    assert found.kind == "inconclusive"
    assert study().repeats == 3
