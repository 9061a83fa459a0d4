"""The pages of a case: headings, figures, honest sentences, banners."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from collector.bundle.manifest import resources, write
from collector.bundle.read import open_bundle
from collector.study import loads
from quantcase.output import Output
from quantcase.pages.view import Options
from tests import sites
from tests.makers import STUDY, make_bundle

HEADINGS = [
    "Setup", "VRAM", "Chat", "Batch", "Quality", "Cost", "Recommendations", "Methodology", "Next steps",
    "What I learned",
]  # fmt: skip


def build(results: Path, options: Options | None = None) -> dict[str, Output]:
    return {o.uri: o for o in sites.made(results, options)[1]}


def text(outputs: dict[str, Output], uri: str) -> str:
    data = outputs[uri].data()
    assert isinstance(data, str)
    return data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Output]]:
    folder = make_bundle(tmp_path_factory.mktemp("results"), weights="real")
    return folder, build(folder.parent)


def test_a_case_has_just_these_headings_in_this_order(whole: tuple[Path, dict[str, Output]]) -> None:
    page = text(whole[1], f"cases/{whole[0].name}/index.md")
    assert re.findall(r"^## (.+)$", page, flags=re.M) == HEADINGS
    assert page.count("<figure") == 14


def test_case_json_has_every_key_and_the_page_shows_those_values(whole: tuple[Path, dict[str, Output]]) -> None:
    folder, outputs = whole
    document = json.loads(text(outputs, f"cases/{folder.name}/case.json"))
    assert (document["grade"], document["weights"], document["baseline"]) == ("measured", "real", "bf16")
    figures = {f["key"]: f for f in document["figures"]}
    assert all(set(f) == {"key", "value", "unit", "low", "high", "n", "source"} for f in figures.values())
    study = open_bundle(folder).study()
    for v in study.variants:
        for w, c in study.cells():
            for metric in ("throughput_tok_s", "ttft_ms_p50", "tpot_ms_p50", "e2e_ms_p95", "e2e_ms_p99"):
                assert f"{w.name}.{c.name}.{v.name}.{metric}" in figures
            assert f"cost.{w.name}.{c.name}.{v.name}.usd_per_1m_output_tokens" in figures
        for name in ("weights_gib", "kv_gib", "kv_tokens", "loaded_mib", "peak_mib"):
            assert f"vram.{v.name}.{name}" in figures
        assert f"startup.{v.name}.seconds" in figures
    speed = figures["chat.c16.fp8.throughput_tok_s"]
    assert speed["low"] < speed["value"] < speed["high"]
    assert (speed["n"], speed["unit"]) == (3, "tok/s")
    assert f"{speed['value']:,.0f}" in text(outputs, f"cases/{folder.name}/index.md")


def test_no_table_is_empty_and_every_download_is_there(whole: tuple[Path, dict[str, Output]]) -> None:
    folder, outputs = whole
    for uri, output in outputs.items():
        if uri.endswith(".md"):
            assert "<tbody></tbody>" not in str(output.data())
    page = text(outputs, f"cases/{folder.name}/data/index.md")
    for name in re.findall(r'href="files/([^"]+)"', page):
        assert f"cases/{folder.name}/data/files/{name}" in outputs
    assert len(re.findall(r"<code>[0-9a-f]{64}</code>", page.replace("&#", ""))) >= 10
    assert "found the bundle whole" in page


def test_real_weights_without_quality_are_a_caution_never_a_recommendation(
    whole: tuple[Path, dict[str, Output]],
) -> None:
    page = text(whole[1], f"cases/{whole[0].name}/index.md")
    assert 'data-verdict="caution"' in page
    assert 'data-verdict="recommend"' not in page
    assert "Quality was not measured in this run" in page


def test_dummy_and_simulated_evidence_carry_banners_and_no_verdict(tmp_path: Path) -> None:
    make_bundle(tmp_path, name="dummy")
    make_bundle(tmp_path, name="replayed", grade="simulated")
    outputs = build(tmp_path)
    dummy, replayed = (text(outputs, f"cases/{n}/index.md") for n in ("dummy", "replayed"))
    assert 'data-kind="dummy"' in dummy
    assert 'data-kind="simulated"' in replayed
    for page in (dummy, replayed):
        assert 'data-verdict="caution"' not in page
    assert "demonstration on replayed timings" in replayed
    assert "replayed" not in text(build(tmp_path, Options(show_simulated=False)), "index.md")


def test_an_interrupted_bundle_is_shown_as_such(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, status="interrupted", only=("bf16",))
    page = text(build(tmp_path), f"cases/{folder.name}/index.md")
    assert "15 of 60 cell repeats" in page
    assert "Only the baseline was measured" in page
    assert "not started yet" in page


def test_a_changed_bundle_gets_no_verdict(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path)
    cells = folder / "cells.csv"
    cells.write_text(cells.read_text().replace("bf16,1,chat,c1,1,24", "bf16,1,chat,c1,1,25", 1))
    outputs = build(tmp_path)
    page = text(outputs, f"cases/{folder.name}/index.md")
    assert 'data-kind="faulty"' in page
    assert 'data-verdict="caution"' not in page
    assert "cells" in text(outputs, f"cases/{folder.name}/data/index.md").split("## Files")[0]


def test_a_folder_that_cannot_be_read_is_named_and_does_no_harm(tmp_path: Path) -> None:
    make_bundle(tmp_path, name="good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "datapackage.json").write_text("{")
    page = text(build(tmp_path), "index.md")
    assert "could not be read" in page
    assert "good" in page


def test_no_price_no_batch_no_notes_are_honest_sentences(tmp_path: Path) -> None:
    asked = loads(STUDY.format(weights="dummy").split('[[workloads]]\nname = "batch"')[0])
    asked = msgspec.structs.replace(asked, price=None, next_steps=[])
    folder = make_bundle(tmp_path, asked=asked)
    page = text(build(tmp_path), f"cases/{folder.name}/index.md")
    assert "No price was given" in page
    assert "No batch workload was measured" in page
    assert "The study names no next steps" in page
    assert "author" not in page
    priced = build(tmp_path, Options(prices=(("h200", 2.0),)))
    assert "set in mkdocs.yml" in text(priced, f"cases/{folder.name}/index.md")


def test_nothing_at_all_is_a_page_too(tmp_path: Path) -> None:
    assert "no result bundle yet" in text(build(tmp_path), "index.md")


def test_where_the_client_was_the_limit_no_verdict_is_given(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, weights="real")
    path = folder / "client.json"
    client = json.loads(path.read_text())
    for cell in client["cells"]:
        if cell["workload"] == "chat" and cell["load"] == "c16":
            cell["loop_lag_ms_p99"] = 9.0
    path.write_text(json.dumps(client))
    bundle = open_bundle(folder)
    bundle.manifest.resources = resources(folder)
    write(folder, bundle.manifest)
    page = text(build(tmp_path), f"cases/{folder.name}/index.md")
    assert "the client was the limit at the highest load" in page.replace("&#45;", "-")
    assert "client&#45;limited" in page
    assert "bf16 chat c16" in page
