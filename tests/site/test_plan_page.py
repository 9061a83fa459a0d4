"""The comparison plan: what was fixed is checked against the rows, and what differs is told in red."""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scipy import stats

from collector.bundle.answers import QualityItem, QualityRow
from collector.bundle.manifest import resources, write
from collector.bundle.read import open_bundle
from collector.bundle.schema import VariantRow
from quantcase.analysis.plan_answers import LIMIT, capacity, dequantization, rollbacks, roofs
from quantcase.analysis.plan_checks import _moved, fixed_variables, formats
from quantcase.analysis.points import pick
from quantcase.catalog import Case, load
from quantcase.pages.plan import page
from quantcase.pages.view import CaseView, Options
from tests.makers import STUDY, make_bundle

Row = dict[str, str]
SHA = {"bf16": "a" * 64, "fp8": "b" * 64, "awq": "c" * 64, "bf16-fp8kv": "a" * 64}
ARGV = ["vllm", "serve", "m", "--port", "1", "--served-model-name", "NAME", "--max-model-len", "4096"]


def edit(path: Path, change: Callable[[Row], None]) -> None:
    """Rewrite the rows of a CSV."""
    packed = path.suffix == ".gz"
    words = gzip.decompress(path.read_bytes()).decode() if packed else path.read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(words)))
    for row in rows:
        change(row)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(out.getvalue().encode())) if packed else path.write_text(out.getvalue(), "utf-8")


def still(row: Row) -> None:
    """Prompt lengths that follow from the prompt alone, as on a real server: the maker draws them anew."""
    key = f"{row['workload']}/{row['load']}/{row['repeat']}/{row['index']}"
    row["input_tokens"] = str(random.Random(key).randint(250, 262))


def whole(row: Row) -> None:
    """Hashes and command lines as a collector writes them."""
    own = {"fp8": ["--quantization", "fp8"], "bf16-fp8kv": ["--kv-cache-dtype", "fp8"]}.get(row["variant"], [])
    row["config_sha256"] = SHA[row["variant"]]
    row["argv"] = json.dumps([row["variant"] if a == "NAME" else a for a in ARGV] + own)


def environment(folder: Path, *uuids: str, driver: str = "580.1") -> None:
    path = folder / "environment.json"
    document = json.loads(path.read_text())
    first = document["sessions"][0]
    gpu = {**first["gpus"][0], "driver": driver}
    document["sessions"] = [{**first, "session": n, "gpus": [{**gpu, "uuid_sha256": u}]} for n, u in enumerate(uuids)]
    path.write_text(json.dumps(document))


def settled(out: Path, *, request: Callable[[Row], None] | None = None, variant: Callable[[Row], None] | None = None,
            uuids: tuple[str, ...] = ("u1", "u1"), **more: Any) -> Case:  # fmt: skip
    """A bundle in which everything is the same in all variants, but for what `request` and `variant` change."""
    folder = make_bundle(out, **{"weights": "real", **more})
    edit(folder / "requests.csv.gz", still)
    edit(folder / "variants.csv", whole)
    if request:
        edit(folder / "requests.csv.gz", request)
    if variant:
        edit(folder / "variants.csv", variant)
    environment(folder, *uuids)
    bundle = open_bundle(folder)
    bundle.manifest.resources = resources(folder)
    write(folder, bundle.manifest)
    return Case(open_bundle(folder), bundle.study(), [])


def states(case: Case) -> dict[str, str]:
    return {f.name: f.state for f in fixed_variables(case)}


def seen(case: Case, name: str) -> str:
    return next(f.seen for f in fixed_variables(case) if f.name == name)


def cells(markdown: str, name: str) -> list[list[str]]:
    """The body of one table of the page, as plain words."""
    (block,) = re.findall(rf'id="table-{name}">.*?<tbody>(.*?)</tbody>', markdown)
    rows = re.findall(r"<tr>(.*?)</tr>", block)
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", c)) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return settled(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def sound_page(sound: Case) -> str:
    return page(CaseView(sound, Options()))


def test_where_nothing_moved_the_eight_variables_are_the_same_or_say_what_is_missing(sound: Case) -> None:
    assert states(sound) == {
        "Model": "look", "Tokenizer": "ok", "Evaluation set": "none", "Prompt length distribution": "ok",
        "Output length distribution": "ok", "Sampling parameters": "ok", "Engine": "ok", "Hardware": "ok",
    }  # fmt: skip
    shared = len(sound.requests) - int((sound.requests["variant"] == "bf16").sum())
    assert f"{shared:,} load prompts" in seen(sound, "Tokenizer")
    assert "3 checkpoints" in seen(sound, "Model")
    assert "fp8 --quantization" in seen(sound, "Engine")


def test_a_tokenizer_that_counts_otherwise_is_red_with_its_number(tmp_path: Path) -> None:
    def more(row: Row) -> None:
        if (row["variant"], row["load"], row["repeat"]) == ("awq", "c8", "2"):
            row["input_tokens"] = str(int(row["input_tokens"]) + 7)

    case = settled(tmp_path, request=more)
    count = sum(r.variant == "awq" and r.load == "c8" and r.repeat == 2 for r in case.bundle.requests())
    assert states(case)["Tokenizer"] == "bad"
    assert f"awq {count} differ, by up to 7 tokens" in seen(case, "Tokenizer")
    assert states(case)["Prompt length distribution"] == "look"  # 7 of 256 tokens, in a third of the requests: 0.9 %
    assert "1 of 15 cells" in seen(case, "Prompt length distribution")
    markdown = page(CaseView(case, Options()))
    assert '<span class="qc-check" data-state="bad">✗ differs</span>' in markdown


def test_shorter_answers_are_red_unless_their_length_is_the_models_own(tmp_path: Path) -> None:
    def less(row: Row) -> None:
        if (row["variant"], row["workload"]) == ("fp8", "batch"):
            row["output_tokens"] = "200"

    case = settled(tmp_path, request=less)
    assert (states(case)["Output length distribution"], states(case)["Sampling parameters"]) == ("bad", "bad")
    assert "56 tokens on average (21.88 %)" in seen(case, "Output length distribution")
    for w in case.study.workloads:
        w.natural_length = w.name == "batch"
    assert states(case)["Output length distribution"] == "look"
    assert states(case)["Sampling parameters"] == "ok"
    assert "model ends them in batch" in seen(case, "Sampling parameters")


def test_another_engine_argument_card_driver_or_checkpoint_is_red(tmp_path: Path) -> None:
    def slots(row: Row) -> None:
        if row["variant"] == "awq":
            row["argv"] = json.dumps([*json.loads(row["argv"]), "--max-num-seqs", "8"])

    def version(row: Row) -> None:
        if row["variant"] == "awq":
            row["engine_version"] = "0.27.0"

    case = settled(tmp_path / "a", variant=slots)
    assert states(case)["Engine"] == "bad"
    assert "awq --max-num-seqs" in seen(case, "Engine")
    case.study.variant("awq").args.extend(["--max-num-seqs", "8"])
    assert states(case)["Engine"] == "look"  # asked for in the study: no slip, and still no change of format alone
    case = settled(tmp_path / "b", variant=version, uuids=("u1", "u2"))
    assert (states(case)["Engine"], states(case)["Hardware"]) == ("bad", "bad")
    assert "vllm 0.26.0, vllm 0.27.0" in seen(case, "Engine")
    environment(case.bundle.folder, "u1", driver="580.1")
    assert states(case)["Hardware"] == "ok"
    case.__dict__["variants"] = [*case.variants, replace_start(case.variants[1])]
    assert states(case)["Hardware"] == "ok"
    assert states(case)["Model"] == "bad"
    assert "server starts of fp8" in seen(case, "Model")


def replace_start(row: VariantRow) -> VariantRow:
    """The same variant started once more, from another checkpoint."""
    return msgspec.structs.replace(row, start=2, config_sha256="d" * 64)


def test_the_evaluation_set_is_told_by_the_hashes_that_each_variant_answered(tmp_path: Path) -> None:
    case = settled(tmp_path)

    def ask(variant: str, *numbers: int, sha: str = "0" * 64, status: Any = "ok") -> None:
        rows = {
            f"q{n}": QualityRow(
                variant=variant, start=1, suite="exact", task="dates", prompt_id=f"q{n}", prompt_sha256=sha,
                status=status, input_tokens=40 + n,
            )
            for n in numbers
        }  # fmt: skip
        case.answers[variant, 1] = rows

    for name in ("bf16", "fp8", "awq", "bf16-fp8kv"):
        ask(name, 1, 2, 3)
    case.quality_items["q1"] = QualityItem(suite="exact", task="dates", prompt_id="q1", prompt_sha256="0" * 64)
    assert states(case)["Evaluation set"] == "ok"
    assert "9 questions" in seen(case, "Tokenizer")
    ask("awq", 1, 2, 3, status="timeout")
    assert states(case)["Evaluation set"] == "look"
    assert "awq 3" in seen(case, "Evaluation set")
    ask("awq", 1, 2)
    assert "awq (1 missing)" in seen(case, "Evaluation set")
    ask("awq", 1, 2, 3, sha="1" * 64)
    assert states(case)["Evaluation set"] == "bad"
    assert "awq (3 other)" in seen(case, "Evaluation set")


def test_every_method_has_its_class_and_its_tensors(sound: Case) -> None:
    assert [(f.variant, f.classes, f.tensors) for f in formats(sound)] == [
        ("bf16", ("fp16",), ()),
        ("fp8", ("fp8",), ("weights", "activations")),
        ("awq", ("int4",), ("weights",)),
        ("bf16-fp8kv", ("kv",), ("KV cache",)),
    ]
    expected = {
        ("w8a8-int8", 8.0): ("int8", 2), ("w4a16", None): ("int4", 1), ("gguf:Q4_K_M", None): ("gguf", 1),
        ("gguf:F16", None): ("fp16", 0), ("gptq", 8.0): ("int8", 1), ("gptq", 3.0): ("other", 1),
        ("bitsandbytes", None): ("int4", 1), ("w8a8-fp8", 8.0): ("fp8", 2), ("nvfp4", 4.0): ("other", 1),
    }  # fmt: skip
    fp8 = sound.study.variant("fp8")
    kept = (fp8.method, fp8.bits)
    for (fp8.method, fp8.bits), (kind, count) in expected.items():
        form = formats(sound)[1]
        assert (form.classes, len(form.tensors)) == ((kind,), count), fp8.method
    fp8.method, fp8.bits = kept


def test_fp8_without_fp8_tensor_cores_quantizes_weights_alone(tmp_path: Path) -> None:
    def marlin(row: Row) -> None:
        if row["variant"] == "fp8":
            row["kernel_path"], row["kernel_class"] = "MarlinFP8ScaledMMLinearKernel", "fallback"

    case = settled(tmp_path, variant=marlin)
    assert formats(case)[1].tensors == ("weights",)
    rows = cells(page(CaseView(case, Options())), "plan-kernels")
    assert rows[0][1].startswith("no:")


def test_the_roofline_is_the_weights_and_caches_over_the_measured_step(sound: Case, sound_page: str) -> None:
    view = CaseView(sound, Options())
    found, why = roofs(sound, view.points)
    assert why == ""
    assert [(r.variant, r.load) for r in found[:2]] == [("bf16", "c1"), ("bf16", "c32")]
    heavy = found[1]
    rows = sound.requests.query("variant == 'bf16' and workload == 'batch' and load == 'c32'")
    context = rows["input_tokens"].mean() + rows["output_tokens"].mean() / 2
    served = sound.served("bf16")
    assert served is not None
    per_token = (served.kv_cache_gib or 0) * 2**30 / (served.kv_cache_tokens or 1)
    moved = (served.weights_gib or 0) * 2**30 + 32 * context * per_token
    tpot = float(rows["tpot_ms"].median())
    assert heavy.bandwidth_share == pytest.approx(moved / (tpot / 1000) / 4.8e12, rel=1e-6)
    operations = (served.weights_gib or 0) * 2**30 * 32  # two a weight of two bytes
    assert heavy.compute_share == pytest.approx(operations / (tpot / 1000) / 989e12, rel=1e-6)
    shown = cells(sound_page, "plan-roofs")[1]
    assert shown[2] == "batch concurrency 32"
    assert shown[5] == f"{100 * heavy.bandwidth_share:.0f}"
    assert {r.computes for r in found if r.variant == "fp8"} == {"FP8"}
    assert "An estimate, not a measurement" in sound_page


def test_the_roofline_is_refused_where_an_input_is_missing(tmp_path: Path) -> None:
    def bare(row: Row) -> None:
        if row["variant"] == "awq":
            row["weights_gib"] = ""

    case = settled(tmp_path / "a", variant=bare)
    found, why = roofs(case, CaseView(case, Options()).points)
    assert "awq" in why
    assert {r.variant for r in found} == {"bf16", "fp8", "bf16-fp8kv"}
    replayed = settled(tmp_path / "b", grade="simulated")
    assert roofs(replayed, CaseView(replayed, Options()).points)[0] == []
    case.__dict__["profile"] = None
    assert "no memory bandwidth" in roofs(case, CaseView(case, Options()).points)[1]


def test_capacity_is_what_the_largest_load_holds(sound: Case, sound_page: str) -> None:
    rows = sound.requests.query("variant == 'bf16' and load == 'c32'")
    asked = 32 * int((rows["input_tokens"] + rows["output_tokens"]).max())
    assert capacity(sound).asked_tokens == asked
    assert capacity(sound).bound is None
    assert replace(capacity(sound), usage=0.95).bound is True
    assert replace(capacity(sound), usage=0.5, preemptions=0).bound is False
    assert f"at most {asked:,} tokens in flight" in sound_page


def test_dequantization_reads_ttft_beside_tpot(sound: Case) -> None:
    view = CaseView(sound, Options())
    found = dequantization(sound, view.claims)
    assert {(d.variant, d.workload, d.load) for d in found} == {
        (v, w, c)
        for v in ("fp8", "awq", "bf16-fp8kv")
        for w, c in (("chat", "c1"), ("chat", "c16"), ("batch", "c16"), ("batch", "c32"))
    }
    one = found[0]
    paid = replace(one, ttft=replace(one.ttft, kind="slower"), tpot=replace(one.tpot, kind="faster"))
    assert paid.where == "prefill slower, decode faster"
    assert replace(one, tpot=replace(one.tpot, kind="negligible")).where.endswith("decode unchanged")


def test_rollback_limits_are_a_fifth_above_the_measured_interval(sound: Case, sound_page: str) -> None:
    view = CaseView(sound, Options())
    found = rollbacks(sound, view.points, view.verdicts)
    assert {r.variant for r in found} == {"fp8", "awq"}  # bf16-fp8kv is not faster
    one = next(r for r in found if (r.variant, r.workload) == ("awq", "batch"))
    point = pick(view.points, "awq", "batch", "c32", "tpot_ms_p95")
    assert point is not None
    assert one.tpot_limit_ms == pytest.approx(LIMIT * point.high)
    sound.study.workload("batch").tpot_limit_ms = 1.0
    bound = [r for r in rollbacks(sound, view.points, view.verdicts) if r.workload == "batch"]
    assert [r.tpot_limit_ms for r in bound] == [1.0, 1.0]  # the study's own limit is lower
    sound.study.workload("batch").tpot_limit_ms = None
    row = next(r for r in cells(sound_page, "plan-rollback") if r[:2] == ["awq", "batch concurrency 32"])
    assert row[2] == "MarlinLinearKernel for AutoAWQMarlinLinearMethod"
    assert row[4].startswith(f"{one.tpot_limit_ms:.2f}"[:4])
    assert "c" * 64 in sound_page
    assert row[5].startswith(f"{one.e2e_limit_ms:,.0f}"[:3])
    sound.study.workload("batch").e2e_limit_ms = 2.0
    assert {r.e2e_limit_ms for r in rollbacks(sound, view.points, view.verdicts) if r.workload == "batch"} == {2.0}
    sound.study.workload("batch").e2e_limit_ms = None
    few = rollbacks(sound, [replace(p, shown=False, n=9) for p in view.points], view.verdicts)
    assert {r.ttft_limit_ms for r in few} == {None}


def test_metrics_name_file_and_column_and_what_is_missing(sound: Case, sound_page: str) -> None:
    rows = {r[0]: r for r in cells(sound_page, "plan-metrics")}
    assert list(rows) == ["Quality score", "Peak memory", "TTFT / TPOT", "tokens/s", "P95/P99", "Kernel path"]
    assert rows["Quality score"][4] == "– not measured"
    assert rows["tokens/s"][3] == f"{len(sound.cells)} of {len(sound.cells)} cell repeats"
    assert rows["Kernel path"][3].endswith("2 of 4 variants")


def test_what_no_figure_answers_is_left_to_a_person(sound_page: str) -> None:
    rows = {r[0]: r for r in cells(sound_page, "plan-risks")}
    assert len(rows) == 6
    assert rows["Is the calibration set representative?"][1] == "☐ a person must answer"
    assert rows["Are activation outliers handled?"][1] == "☐ a person must answer"
    assert "Quality was not measured" in rows["Does quality regress on long outputs?"][2]
    assert rows["Does the lower memory allow a larger batch or longer context?"][1] == "✓ yes"


def test_an_interrupted_or_hostile_bundle_is_a_page_too(tmp_path: Path) -> None:
    make_bundle(tmp_path, status="interrupted", only=("bf16",))
    (case,) = load(tmp_path).cases
    case.study.base_model = "<script>{{ 7*7 }}</script>"
    markdown = page(CaseView(case, Options()))
    assert "<script" not in markdown
    assert "{{" not in markdown
    assert "not started yet" in markdown
    assert "so none has a limit" in markdown
    assert states(case)["Tokenizer"] == "none"
    assert "<tbody></tbody>" not in markdown
    assert STUDY.count("[[variants]]") == len(cells(markdown, "plan-configurations"))


def test_how_far_lengths_moved_is_scipys_distance_to_the_last_bit() -> None:
    assert _moved([100.0, 100.0], [101.0, 103.0]) == 2.0  # one token and three, on average two
    drawn = random.Random(1)
    for _ in range(200):
        a, b = (sorted(float(drawn.randint(1, 300)) for _ in range(drawn.randint(1, 60))) for _ in range(2))
        assert _moved(a, b) == float(stats.wasserstein_distance(a, b))
