"""Model cards: what stands on them is what the bundle's rows say, and the Hub's own classes read them."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import markdown
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.check import check_bundle
from collector.bundle.read import open_bundle
from collector.bundle.schema import Grade
from collector.bundle.write import BundleWriter
from quantcase.analysis.card import card, clean, front_matter, hub_id, metadata
from quantcase.catalog import Case
from quantcase.pages import cards
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle, variant_row
from tests.site.card_bundles import small, study, the_hub, view_of, with_answers

HOSTILE = [
    "x: y\n---\n# Owned\n- a: b",
    "<script>alert(1)</script> | cell | `code` [x](javascript:alert(1)) ![i](http://e.vil/x.png)",
    "{{ 7*7 }} {% raw %} www.e.vil @all *bold* _it_ ~~no~~ &lt;b&gt; \\| a|b",
    "safe \u202eevil \x1b[31m\u2028\x85 txt",
    "'\"&*!%@`,[]{}#|>?:-",
    "1e3",
    "null",
    "1. one",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_bundle(tmp_path_factory.mktemp("cards"), asked=study(), status="interrupted")
    with_answers(made, {"fp8": 2, "awq": 40})
    return made


@pytest.fixture(scope="module")
def view(folder: Path) -> CaseView:
    return view_of(folder)


@pytest.fixture(scope="module")
def hub() -> Any:
    return the_hub()


def front(readme: str) -> dict[str, Any]:
    """The front matter by the Hub server's own expression (huggingface_hub, repocard.py)."""
    match = re.match(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))", readme)
    assert match
    read = yaml.safe_load(match[2])
    assert isinstance(read, dict)
    return read


def rows(markdown_text: str) -> list[list[str]]:
    """The cells of all Markdown tables, entities read."""
    return [
        [html.unescape(c.strip()) for c in line.strip("|").split(" | ")]
        for line in markdown_text.splitlines()
        if line.startswith("|")
    ]


def test_every_variant_that_served_has_a_card_and_the_control_has_none(view: CaseView, tmp_path: Path) -> None:
    assert cards.variants(view) == ["bf16", "fp8", "awq", "bf16-fp8kv"]
    asked = study(control="bf16-fp8kv")
    controlled = make_bundle(tmp_path, asked=asked, status="interrupted")
    writer = BundleWriter.resume(controlled)
    writer.set_variant(msgspec.structs.replace(variant_row(asked.variant("awq")), exit_state="oom", error="no memory"))
    writer.close("complete")
    assert cards.variants(view_of(controlled)) == ["bf16", "fp8"]
    with pytest.raises(KeyError, match="awq"):
        cards.page(view_of(controlled), "awq")
    assert "[fp8](cards/fp8/index.md)" in cards.links(view)


def test_the_front_matter_says_what_the_hub_reads_and_no_more(view: CaseView) -> None:
    found = front(cards.readme(view, "fp8"))
    assert {k: v for k, v in found.items() if k != "model-index"} == {
        "base_model": "meta-llama/Llama-3.1-8B-Instruct",
        "base_model_relation": "quantized",
        "library_name": "vllm",
        "pipeline_tag": "text-generation",
        "tags": ["quantized", "fp8", "8-bit", "vllm", "quantcase"],
    }
    kv = front(cards.readme(view, "bf16-fp8kv"))
    assert "base_model_relation" not in kv  # its weights are the base model's own
    assert kv["tags"] == ["fp8-kv-cache", "vllm", "quantcase"]
    assert "not another checkpoint" in cards.readme(view, "bf16-fp8kv")


@pytest.mark.parametrize("variant", ["bf16", "fp8", "awq"])
def test_the_hubs_own_classes_read_the_card_and_its_results_are_the_answers(
    view: CaseView, hub: Any, variant: str
) -> None:
    read = hub.ModelCard(cards.readme(view, variant))
    assert read.data.model_name == f"Llama-3.1-8B-Instruct-{variant}"
    results = {r.dataset_name: r for r in read.data.eval_results}
    assert all(isinstance(r, hub.EvalResult) for r in results.values())
    for suite in ("exact", "bank"):
        mine = [r for r in view.case.bundle.quality() if (r.variant, r.suite) == (variant, suite)]
        right = sum(r.score == 1 for r in mine)
        assert results[suite].metric_value == pytest.approx(right / len(mine), abs=5e-5)
        assert results[suite].metric_args == {"right": right, "items": len(mine)}
        assert results[suite].dataset_args == {"items": len(mine), "tasks": ["task0", "task1"]}
        assert (results[suite].task_type, results[suite].metric_type) == ("text-generation", "accuracy")
    assert (results["exact"].dataset_type, results["bank"].dataset_type) == ("quantcase-exact", "acme/banking")
    index = metadata(card(view.case, variant, view.quality))["model-index"]
    name, again = hub.repocard_data.model_index_to_eval_results(index)
    assert (name, again) == (read.data.model_name, read.data.eval_results)
    assert hub.ModelCard(str(read)).data.to_dict() == read.data.to_dict()
    hub.utils.validate_repo_id(f"acme/{name}")


@pytest.mark.parametrize(("weights", "grade"), [("dummy", "measured"), ("real", "simulated"), ("real", "measured")])
def test_no_results_are_claimed_where_quality_says_nothing(tmp_path: Path, weights: str, grade: Grade) -> None:
    real = (weights, grade) == ("real", "measured")
    asked = small(weights)
    made = make_bundle(tmp_path, asked=asked, grade=grade, status="complete" if real else "interrupted")
    if not real:  # answers of dummy weights or of a replay: there, and worth nothing
        with_answers(made, {"fp8": 2})
    found = view_of(made)
    words = cards.readme(found, "fp8")
    assert "model-index" not in front(words)
    assert "Nothing here says how good its answers are" in words
    assert "Recovery" not in words
    assert ("Quality was not measured in this run" in words) == real
    assert ("> **Simulated: replayed timings" in words) == (grade == "simulated")
    assert ("> **Dummy weights" in words) == (weights == "dummy")


def test_a_bundle_with_faults_gets_neither_results_nor_a_verdict(folder: Path) -> None:
    (folder / "stray.txt").write_text("x")
    try:
        bundle = open_bundle(folder)
        words = cards.readme(CaseView(Case(bundle, bundle.study(), check_bundle(bundle)), Options()), "fp8")
    finally:
        (folder / "stray.txt").unlink()
    assert "model-index" not in front(words)
    assert "Verdict" not in words
    assert "> **This bundle has faults" in words


def test_figures_are_those_of_the_rows_with_interval_word_and_count(view: CaseView) -> None:
    table = rows(cards.readme(view, "fp8"))
    by_cell = view.case.cells.groupby(["variant", "workload", "load"])["throughput_tok_s"].mean()
    for workload, load in (("chat", "c16"), ("batch", "c32")):
        speed, wait, cost = [r[1:] for r in table if r[0] == f"{workload}, concurrency {load[1:]}"]
        mine, base = by_cell["fp8", workload, load], by_cell["bf16", workload, load]
        assert speed[0].startswith(f"{mine:,.0f} (")
        assert (speed[1], speed[2][:5]) == ("3", f"{base:,.0f}"[:5])
        assert speed[3].startswith(f"+{100 * (mine / base - 1):.1f} % (+")
        assert speed[3].endswith("%), faster")
        ok = view.case.requests.query("variant == 'fp8' and workload == @workload and load == @load")
        assert float(wait[0].split()[0]) == pytest.approx(ok["ttft_ms"].median(), rel=5e-3)
        assert wait[1] == f"{len(ok)}"
        assert float(cost[0].split()[0]) == pytest.approx(1e6 * 3.59 / 3600 / mine, rel=5e-3)
        assert float(cost[3].split()[0]) == pytest.approx(100 * (1 - base / mine), abs=0.06)
    assert ["Weights (GiB)", "8.49", "15.0", "−43.4 %"] in table
    assert ["Kernel path on NVIDIA H200", "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod"] in table


def test_quality_states_recovery_with_interval_the_verdict_and_the_smallest_loss(view: CaseView) -> None:
    words, (q,) = cards.readme(view, "awq"), [q for q in view.quality if q.variant == "awq"]
    assert q.accuracy
    a = q.accuracy
    right = {v: sum(r.score == 1 for r in view.case.bundle.quality() if r.variant == v) for v in ("awq", "bf16")}
    assert f"{right['awq']:,} of 460 answers right, the baseline {right['bf16']:,}" in words
    assert f"Recovery {100 * right['awq'] / right['bf16']:.1f} % ({100 * (a.recovery_low or 0):.1f} % to " in words
    assert f"in 4 of 5 runs: {a.mde_pp:.1f} points" in words
    assert "Verdict **fail**" in words
    assert "Verdict **fail**" not in cards.readme(view, "fp8")
    accuracy = next(r for r in rows(words) if r[0] == "accuracy")
    assert accuracy[1] == "**fail**"
    assert "lossless" not in (words + cards.page(view, "fp8") + cards.readme(view, "fp8")).lower()
    assert "answered no prompts" in cards.readme(view, "bf16-fp8kv")


def test_the_card_names_its_bundle_and_the_hash_of_its_manifest(view: CaseView) -> None:
    info = view.case.bundle.info
    for words in (cards.readme(view, "fp8"), html.unescape(cards.page(view, "fp8"))):
        assert view.case.bundle.id in words
        assert info.manifest_sha256 in words
        assert "vllm 0.26.0" in words
        assert "NVIDIA H200" in words
    method = dict(r for r in rows(cards.readme(view, "fp8")) if len(r) == 2)
    assert method["Repeats of each load point"] == "3"
    assert method["Requests, failed"] == f"{int((view.case.requests['variant'] == 'fp8').sum()):,}, 0"


def test_the_baselines_card_compares_it_with_nothing(view: CaseView) -> None:
    words = cards.readme(view, "bf16")
    assert "base_model_relation" not in front(words)
    assert "Verdict" not in words
    assert not re.search(r"^\|.*(Change|Saving|Baseline \()", words, flags=re.M)
    right = sum(r.score == 1 for r in view.case.bundle.quality() if (r.variant, r.suite) == ("bf16", "exact"))
    assert ["exact", "400", f"{right}", f"{right / 4:.1f} %"] in rows(words)


@pytest.mark.parametrize(
    ("note", "question", "expected", "said"),
    [
        ("License: Apache-2.0, calibrated", "?", "apache-2.0", "apache-2.0, as the study names it"),
        ("", "May we? licence = llama3.1.", "llama3.1", "llama3.1, as the study names it"),
        ("license: see the base model", "?", None, "names see, which is no identifier of the Hub"),
        ("not the MIT license", "?", None, "The study names no license"),
    ],
)
def test_a_license_is_only_stated_where_the_study_names_one(
    tmp_path: Path, note: str, question: str, expected: str | None, said: str
) -> None:
    bf16, fp8 = small().variants
    made = small(question=question, variants=[bf16, msgspec.structs.replace(fp8, note=note)])
    words = cards.readme(view_of(make_bundle(tmp_path, asked=made)), "fp8")
    assert front(words).get("license") == expected
    assert said in words


@pytest.mark.parametrize(
    "base", ["A small model (5 M)", "/tmp/models/bf16", "a--b/c", "gpt2", "o/n.git", "o/" + "n" * 99]
)
def test_a_base_model_that_is_no_id_of_the_hub_is_said_and_not_linked(tmp_path: Path, base: str) -> None:
    asked = small(base_model=base)
    words = cards.readme(view_of(make_bundle(tmp_path, asked=asked)), "fp8")
    assert hub_id(base) is None
    assert not {"base_model", "base_model_relation"} & front(words).keys()
    assert "names no base model by its id on the Hub" in words


def hostile_view(out: Path, words: str) -> CaseView:
    base = study(
        title=words, base_model=words, workloads=[msgspec.structs.replace(study().workloads[0], title=words)],
    )  # fmt: skip
    variants = [msgspec.structs.replace(v, note=words, method=words if v.name == "fp8" else v.method, model=words)
                for v in base.variants[:2]]  # fmt: skip
    asked = msgspec.structs.replace(base, variants=variants)
    made = make_bundle(out, asked=asked, status="interrupted")
    writer = BundleWriter.resume(made)
    for v in variants:
        row = variant_row(v)
        writer.set_variant(
            msgspec.structs.replace(row, engine=words, engine_version=words, kernel_path=words, evidence=words)
        )
    for name in ("bf16", "fp8"):
        item = QualityItem(
            suite=words, task=words, prompt_id=words, prompt_sha256="0" * 64, prompt=words, reference=words,
            scorer="text",
        )  # fmt: skip
        if name == "bf16":
            writer.answers.add_items(words, [item])
        writer.answers.add(
            QualityRow(
                variant=name, start=1, suite=words, task=words, prompt_id=words, prompt_sha256="0" * 64, output=words,
                score=1.0,
            )
        )  # fmt: skip
    writer.environment.sessions[0].gpus[0]["name"] = words
    writer.close("complete")
    return view_of(made)


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_text_stays_text_in_front_matter_and_body(tmp_path: Path, words: str, hub: Any) -> None:
    found = hostile_view(tmp_path, words)
    made = cards.readme(found, "fp8")
    index = front(made)["model-index"][0]["results"][0]
    assert (index["dataset"]["name"], index["dataset"]["args"]["tasks"]) == (clean(words), [clean(words)])
    assert hub.ModelCard(made).data.eval_results[0].dataset_name == clean(words)
    body = made.split("\n---\n", 1)[1]
    plain = markdown.markdown(body, extensions=["tables"])
    allowed = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert set(re.findall(r"<(\w+)", plain)) <= allowed
    assert set(re.findall(r"<strong>(.*?)</strong>", plain)) <= {"pass", "caution", "fail", "not measurable"}
    assert len(re.findall(r"^## ", body, flags=re.M)) == 8
    assert not re.search(r"[\u202e\u2028\x1b\x85]", made)
    assert not re.search(r"www\.|{{|{%|://|javascript:|@", body)
    shown = " ".join(html.unescape(re.sub(r"<[^>]*>", "", plain)).split())
    assert clean(words) in shown
    counts = {line.count("|") for line in body.splitlines() if line.startswith("| Kernel path")}
    assert counts == {3}
    page = cards.page(found, "fp8")
    for bad in ("<script", "{{", "](javascript", "\u202e", "\n# Owned"):
        assert bad not in page


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_any_text_comes_back_from_the_front_matter_as_it_went_in(view: CaseView, words: str) -> None:
    found = card(view.case, "fp8", view.quality)
    found = replace(found, scores=(replace(found.scores[0], suite=words),))
    assert front(f"---\n{front_matter(found)}\n---\n")["model-index"][0]["results"][0]["dataset"]["name"] == clean(
        words
    )


def test_a_page_links_its_readme_and_has_no_empty_table(view: CaseView) -> None:
    page = cards.page(view, "fp8")
    assert '<a href="README.md.txt" download="README.md">' in page
    assert "../../index.md" in page
    assert "<tbody></tbody>" not in page
    assert html.unescape(page).count(f"collect publish-cards results/{view.case.id} --variant fp8") == 1
    front_shown = html.unescape(re.findall(r"<pre>(.*?)</pre>", page, flags=re.S)[1])
    assert yaml.safe_load(front_shown) == front(cards.readme(view, "fp8"))


def test_without_a_price_or_a_load_sentences_say_so(tmp_path: Path) -> None:
    asked = small(price=None)
    words = cards.readme(view_of(make_bundle(tmp_path, asked=asked)), "fp8")
    assert "No price was given" in words
    only = make_bundle(tmp_path, asked=asked, name="half", only=("bf16",), status="interrupted")
    writer = BundleWriter.resume(only)
    writer.set_variant(variant_row(asked.variant("fp8")))
    writer.close("interrupted")
    half = cards.readme(view_of(only), "fp8")
    assert "No load was measured with this variant." in half
    assert "> **This run is interrupted: " in half


def test_published_figures_are_neither_compared_nor_called_measured(tmp_path: Path) -> None:
    words = cards.readme(view_of(make_bundle(tmp_path, asked=small(), grade="published")), "fp8")
    assert "Published figures, taken with vllm" in words
    assert "Same harness" not in words
    assert not re.search(r"^\|.*(Change|Saving|Baseline \()", words, flags=re.M)
    assert "> **Evidence of grade published" in words
