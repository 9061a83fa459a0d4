"""The page `cases/<id>/log/`: every cell from the bundle's rows, and a sentence where there are none."""

from __future__ import annotations

import html
import json
import math
import re
import statistics
from pathlib import Path

import msgspec
import pytest

from collector.bundle.manifest import resources, write
from collector.bundle.metrics import percentile
from collector.bundle.read import open_bundle
from collector.study import loads
from quantcase.analysis.experiments import WEIGHTS
from quantcase.analysis.scaling import capacity
from quantcase.catalog import load
from quantcase.pages.log import page
from quantcase.pages.view import CaseView, Options
from quantcase.text import number
from tests.makers import STUDY, make_bundle

HEADINGS = [
    "Overview", "Experiment matrix", "Experiment 1: bf16 (baseline)", "Experiment 2: fp8", "Experiment 3: awq",
    "Experiment 4: bf16-fp8kv", "Load testing", "Key findings", "Recommendations", "Lessons learned",
    "Next experiments", "Appendix",
]  # fmt: skip


def view_of(folder: Path, options: Options | None = None) -> CaseView:
    """The bundle as the site sees it, its manifest renewed after what a test changed."""
    bundle = open_bundle(folder)
    bundle.manifest.resources = resources(folder)
    write(folder, bundle.manifest)
    (case,) = load(folder.parent).cases
    return CaseView(case, options or Options())


def words(markdown: str) -> str:
    """What a reader sees, entities and tags resolved."""
    return html.unescape(re.sub(r"<[^>]+>", " ", markdown))


def table(markdown: str, name: str) -> list[list[str]]:
    """The body rows of a table, as text."""
    (found,) = re.findall(rf'<div class="qc-table" id="table-{re.escape(name)}">(.*?)</div>', markdown)
    rows = re.findall(r"<tr>(.*?)</tr>", found.split("<tbody>")[1])
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r) for r in rows]
    return [[" ".join(words(c).split()) for c in r] for r in cells]


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> CaseView:
    return view_of(make_bundle(tmp_path_factory.mktemp("results"), weights="real"))


@pytest.fixture(scope="module")
def made(view: CaseView) -> str:
    return page(view)


def test_the_headings_are_the_seeds(made: str) -> None:
    assert [html.unescape(h) for h in re.findall(r"^## (.+)$", made, flags=re.M)] == HEADINGS
    assert "<tbody></tbody>" not in made


def test_the_overview_names_the_machine(made: str) -> None:
    shown = {r[0]: r[1] for r in table(made, "overview")}
    assert (shown["GPU"], shown["Driver"], shown["CUDA"]) == ("NVIDIA H200", "580.159.04", "not recorded")
    assert shown["vLLM version"] == "0.26.0"
    assert shown["Question"] == "Should we quantize this model?"


def test_the_matrix_says_the_state_and_where_the_rows_are(made: str) -> None:
    rows = table(made, "matrix")
    assert rows[0][:5] == ["bf16 baseline", "none", "chat: 1, 8, 16; batch: 16, 32", "✓ complete", "15 of 15"]
    assert rows[2][5].split(" , ") == ["cells.csv", "requests.csv.gz", "logs/awq-1.log.gz"]
    assert 'href="../data/files/cells.csv"' in made


def test_a_cell_is_what_the_requests_give_and_few_requests_hide_a_tail(view: CaseView, made: str) -> None:
    ok = [r for r in view.case.bundle.requests() if (r.variant, r.workload, r.load) == ("fp8", "chat", "c16")]
    rates = [
        c.whole_run_req_s
        for c in view.case.bundle.cells()
        if (c.variant, c.workload, c.load) == ("fp8", "chat", "c16") and c.whole_run_req_s
    ]
    e2e = [r.e2e_ms for r in ok if r.e2e_ms is not None]
    rows = {(r[0], r[1]): r for r in table(made, "experiment-fp8")}
    shown = rows["chat", "16"]
    assert shown[2].startswith(f"{statistics.fmean(e2e):,.0f} (")
    assert shown[3] == f"{percentile(e2e, 95):,.0f}"
    assert shown[4] == "n = 288, too few"
    assert shown[5].startswith(f"{statistics.fmean(rates):.1f} (")
    assert shown[7:] == ["288", "0"]
    assert rows["chat", "1"][3] == "n = 72, too few"
    assert rows["batch", "32"][4] == f"{percentile(_e2e(view, 'fp8', 'batch', 'c32'), 99):,.0f}"


def _e2e(view: CaseView, *key: str) -> list[float]:
    rows = view.case.bundle.requests()
    return [r.e2e_ms for r in rows if (r.variant, r.workload, r.load) == key and r.e2e_ms is not None]


def test_an_experiment_tells_memory_start_quality_and_who_quantized(made: str) -> None:
    body = words(made.split("## Experiment 3")[1].split("## Experiment 4")[0])
    assert "weights 5.37 GiB, by the engine's word; the driver's peak 129,010 MiB" in body
    assert "−64.2 %, memory saved 9.62 GiB" in body
    assert "Cold start: 80.0 s" in body
    assert "Accuracy: not measured in this run." in body
    assert "Size on disk: not recorded" in body
    assert "stands only in the checkpoint's own page" in body
    assert "Pre-quantization" not in made.split("## Experiment 2")[0]


def test_a_note_that_says_who_quantized_it_is_enough(tmp_path: Path) -> None:
    asked = loads(
        STUDY.format(weights="real").replace("bits = 8", 'bits = 8\nnote = "quantized by the engine at load"')
    )
    body = (
        words(page(view_of(make_bundle(tmp_path, asked=asked, only=("bf16", "fp8")))))
        .split("## Experiment 2")[1]
        .split("## Exp")[0]
    )
    assert "quantized by the engine at load" in body
    assert "own page" not in body


def test_the_comparison_is_that_of_the_case(view: CaseView, made: str) -> None:
    at = view.comparison("awq", "batch", "c32", "throughput_tok_s")
    assert at is not None
    shown = next(r for r in table(made, "against-awq") if r[:2] == ["batch", "concurrency 32"])
    assert shown[2].startswith(f"+{100 * (at.ratio - 1):.1f} % ▲ faster (")


def test_findings_name_the_best_with_their_rule(view: CaseView, made: str) -> None:
    said = words(made.split("## Key findings")[1].split("## Recommendations")[0])
    chat = percentile(_e2e(view, "awq", "chat", "c8"), 95)
    assert f"chat**: awq at concurrency 8, P95 E2E {chat:,.0f}" in said
    assert "the lowest P95 E2E of 8 configurations (beside it 4 with fewer than 100 requests and no p95)" in said
    assert "batch**: awq at concurrency 32" in said
    assert "Quality was not measured" in said
    assert "Weights (chat): throughput 0.20, 1 / TPOT 0.40, KV capacity 0.20, 1 / cost of a request 0.20" in " ".join(
        said.replace(" .", ".").split()
    )
    scores = table(made, "balance-chat")
    assert scores[0][0] == "awq at concurrency 16"
    assert scores[0][-2] == "0.9"


def test_cost_follows_from_price_and_rate_and_is_not_made_up(view: CaseView, made: str, tmp_path: Path) -> None:
    mine = [c for c in view.case.bundle.cells() if (c.variant, c.workload, c.load) == ("awq", "batch", "c32")]
    rate = statistics.fmean(c.whole_run_req_s for c in mine if c.whole_run_req_s)
    shown = next(r for r in table(made, "cost-requests") if r[:2] == ["batch", "awq at concurrency 32"])
    assert shown[3].startswith(f"{1000 * 3.59 / (3600 * rate):.4f} (")
    asked = msgspec.structs.replace(loads(STUDY.format(weights="real")), price=None)
    free = page(view_of(make_bundle(tmp_path, asked=asked, only=("bf16", "awq"))))
    assert "No price is known for this GPU" in free
    assert "table-cost-requests" not in free


def test_settings_are_the_recorded_commands(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, weights="real", only=("bf16", "awq"))
    rows = folder / "variants.csv"
    argv = (
        '"[""vllm"", ""serve"", ""org/m"", ""--port"", ""1234"", ""--max-num-seqs"", ""32"", ""--x"", ""<b>{{7*7}}""]"'
    )
    rows.write_text(rows.read_text().replace('"[""vllm"", ""serve"", ""model""]"', argv))
    made = page(view_of(folder))
    said = words(made.split("### Deployment settings")[1].split("### Cost")[0])
    assert "QUANTIZATION=awq\nMAX_NUM_SEQS=32 " in said
    assert "vllm serve org/m \\\n  --max-num-seqs 32 \\\n  --x '<b>{{7*7}}'" in said
    assert "1234" not in said
    assert "GPU_MEMORY_UTILIZATION: not in the command" in said
    assert "<b>" not in made
    assert "{{" not in made


def test_workers_follow_from_the_measured_capacity(view: CaseView, made: str) -> None:
    mu = capacity(view.case, "awq", "chat")
    assert mu is not None
    rows = [r for r in table(made, "scaling") if r[1:3] == ["chat", "awq"]]
    assert [r[0] for r in rows] == ["60", "100", "1,000", "10,000"]
    assert [int(r[3]) for r in rows] == [-(-n // (60 * mu.req_s * 0.7)) + 1 for n in (60, 100, 1000, 10000)]
    assert "since the workload sets no limits" in made


def test_an_unfinished_bundle_shows_as_such(tmp_path: Path) -> None:
    made = page(view_of(make_bundle(tmp_path, status="interrupted", only=("bf16",))))
    assert "15 of 60 cell repeats" in made
    rows = table(made, "matrix")
    assert rows[1][3:] == ["○ pending not started yet", "0 of 15", "none yet"]
    body = words(made.split("## Experiment 2")[1].split("## Experiment 3")[0])
    assert "No rows: pending" in body
    assert "it did not serve" in body


def test_a_failed_start_is_a_challenge_in_the_engines_words_and_text_stays_text(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16", "fp8"))
    rows = folder / "variants.csv"
    rows.write_text(rows.read_text().replace("fp8,1,ok,,", "fp8,1,oom,CUDA <script>out</script> of memory,", 1))
    made = page(view_of(folder))
    assert "✗ failed" in table(made, "matrix")[1][3]
    assert "<script>" not in made
    said = words(made.split("### Challenges")[1])
    assert "fp8, server start 1" in said
    assert "The engine's words: CUDA <script>out</script> of memory" in said
    assert "fp8: did not serve" in words(made.split("## Key findings")[1])


def test_a_replay_chooses_nothing(tmp_path: Path) -> None:
    made = page(view_of(make_bundle(tmp_path, grade="simulated", only=("bf16", "fp8"))))
    assert made.count("Nothing is chosen: these are replayed timings") == 4
    assert "table-scaling" not in made


def test_no_load_test_is_a_sentence(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, only=("bf16",))
    assert "No Locust load test was run for this bundle." in page(view_of(folder))


def test_the_data_of_the_sliders_are_the_tables_and_harmless(view: CaseView, made: str) -> None:
    blocks = {
        d["workload"]: d for d in map(json.loads, map(html.unescape, re.findall(r'data-balance="([^"]*)"', made)))
    }
    assert list(blocks) == ["chat", "batch"]
    data, rows = blocks["batch"], table(made, "balance-batch")
    assert {p["key"]: p["weight"] for p in data["parts"]} == {"throughput": 40, "tpot": 0, "kv": 10, "cost": 50}
    assert [r["name"] for r in data["rows"]] == [r[0] for r in rows]
    for row, shown in zip(data["rows"], rows, strict=True):
        assert [f"{x:.3f}" for x in row["ratios"]] == shown[2:6]
        logs = [p["weight"] / 100 * math.log(x) for p, x in zip(data["parts"], row["ratios"], strict=True)]
        assert shown[1].split(" ")[0] == number(row["quality"] * math.exp(math.fsum(logs)))
    assert not re.search(r'data-balance="[^"]*[<>{}\[\]`]', made)


def test_every_default_weight_is_a_place_of_its_slider() -> None:
    for weights in WEIGHTS.values():
        assert all(math.isclose(20 * w, round(20 * w)) for w in weights.values())
