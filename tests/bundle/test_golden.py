"""Format 1 is frozen: bundles written once are read as on that day, and the schema changes only by addition."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.bundle import loadtest, manifest
from collector.bundle.check import check
from collector.bundle.imported import read_document, read_rows
from collector.bundle.predictions import read_predictions
from collector.bundle.read import open_bundle
from collector.bundle.redaction import read_redacted
from collector.bundle.schema import TABLES
from collector.bundle.seal import seal
from collector.bundle.stress import outcome, read_stress
from collector.bundle.tables import read_text
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError
from quantcase import catalog
from tests import sites
from tests.golden.frozen import breaches, contract
from tools import golden

MEASURED, JUDGED = "2026-11-21-h200-golden-measured", "2026-11-21-h200-golden-judged"
INTERRUPTED, IMPORTED = "2026-11-21-h200-golden-interrupted", "2026-11-21-cpu-golden-imported"
PUBLISHED, REDACTED = "2025-10-09-gh200-shimmy-moe", "2026-11-21-h200-golden-redacted"
# sha256 over the names and contents of each bundle's files: they are never made again.
FROZEN = {
    PUBLISHED: "420fd85d5906e551b3128d273ed6fda65ef567fa6e700b5d09ff747e7a9f1d2c",
    IMPORTED: "e079f80d146b38fc4e5d703c620375da2f225b451fb3d5f1de04b6eea890ec5a",
    INTERRUPTED: "77cdf343a0da0f3f0de8aa7c2e64bab955e5177e7937fb099cfe3b65daeebcb8",
    JUDGED: "f941bc955d038ac591629ba02e33c387ce8bf1bfb71cc6e21b05d4d98717b7c9",
    MEASURED: "4aee948ba1d8d3c75478b1d57cf9b5b70fee222ffec9546874e2b936afbb3b04",
    REDACTED: "e37c39742517e7157680a5ce547533f8c651ead19994a8d3e329f96af8e225c9",
}
# rows of variants, requests, chunk_gaps, cells, telemetry, engine_metrics; the interrupted one has two whole rows of a
# repeat that no cell sums up, and a third that is torn
ROWS = {
    MEASURED: (3, 3 * 2 * (24 + 48 + 30), 36, 18, 72, 144),
    JUDGED: (3, 2 * 2 * 24, 8, 4, 16, 32),
    INTERRUPTED: (2, 24 + 48 + 2, 4, 2, 8, 16),
    IMPORTED: (1, 12, 0, 1, 0, 0),
    PUBLISHED: (12, 0, 0, 0, 0, 0),
    REDACTED: (3, 2 * 2 * 24, 8, 4, 16, 32),
}


def content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9)


def copied(name: str, out: Path) -> Path:
    return Path(shutil.copytree(golden.FOLDER / name, out / name))


@pytest.fixture(scope="module")
def frozen() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((golden.FOLDER / golden.SCHEMA).read_text())
    return read


@pytest.mark.parametrize("name", FROZEN)
def test_a_golden_bundle_is_the_one_that_was_made_then(name: str) -> None:
    assert content(golden.FOLDER / name) == FROZEN[name], "golden bundles are never made again: take back that change"


def test_the_tool_leaves_what_is_there_and_golden_bundles_stay_small() -> None:
    assert golden.make(golden.FOLDER) == []
    assert {p.name for p in golden.FOLDER.iterdir() if p.is_dir()} == set(FROZEN)
    assert sum(p.stat().st_size for name in FROZEN for p in (golden.FOLDER / name).rglob("*")) < 400_000


@pytest.mark.parametrize("name", FROZEN)
def test_every_table_is_read(name: str) -> None:
    bundle = open_bundle(golden.FOLDER / name)
    assert bundle.info.format == 1
    assert tuple(len(getattr(bundle, table)()) for table in TABLES) == ROWS[name]
    assert {v.variant for v in bundle.variants()} == {v.name for v in bundle.study().variants}


def test_the_values_of_rows_are_those_that_were_written() -> None:
    bundle = open_bundle(golden.FOLDER / MEASURED)
    first, bad = bundle.requests()[0], [r for r in bundle.requests() if r.status == "error"]
    text = read_text(golden.FOLDER / MEASURED / "requests.csv.gz")[0].split("\n")
    written = dict(zip(text[0].split(","), text[1].split(","), strict=True))
    assert (first.variant, first.load, first.started_s) == ("bf16", "c1", float(written["started_s"]))
    assert (first.ttft_ms, first.e2e_ms) == (float(written["ttft_ms"]), float(written["e2e_ms"]))
    assert {(r.load, r.error, r.ttft_ms, r.output_tokens) for r in bad} == {
        ("r2.5", "HTTP 503: made by a seed", None, None)
    }
    assert len(bad) == 6  # one a repeat of the open loop
    arrived = [r for r in bundle.requests() if r.load == "r2.5" and r.status == "ok"]
    assert {r.cached_tokens for r in arrived} == {16}
    assert all(r.due_s is not None and r.due_s <= r.started_s for r in arrived)
    assert bundle.log("bf16", 1) == "log of bf16, made by a seed\n"


def test_every_document_is_read() -> None:
    folder = golden.FOLDER / JUDGED
    bundle = open_bundle(folder)
    assert bundle.environment().sessions[0].gpus[0]["name"] == "NVIDIA H200"
    assert [c.usage_tokens for c in bundle.client().cells] == [24 * 64] * 4
    assert "No figure here was measured" in bundle.notes()
    assert (len(bundle.quality_items()), len(bundle.quality()), len(bundle.likelihood())) == (18, 36, 18)
    assert [(m.variant, m.prompt_id, m.mark, m.remark) for m in bundle.marks()] == [
        ("fp8", "exact/arithmetic/3", "bad", "plainly wrong"),
        ("fp8", "labels/1", "good", ""),
        ("bf16", "exact/arithmetic/0", "minor", "off by a little"),
    ]
    late = [r for r in bundle.quality() if r.status == "timeout"]
    assert [(r.variant, r.output, r.score) for r in late] == [("fp8", None, None)]
    said = read_predictions(folder)
    assert said is not None
    assert (said.late, said.answers.vram_reduction_pct) == (False, 45.0)
    climb = outcome(read_stress(folder))["fp8", "concurrency"]
    assert climb.last_good is not None
    assert climb.first_bad is not None
    assert (climb.last_good.throughput_tok_s, climb.first_bad.verdict) == (900.5, "died")
    test = loadtest.read(folder, "fp8")
    assert test is not None
    assert [(s.users, s.requests, s.failures, s.p95_ms) for s in test.steps] == [(2, 57, 0, 190.0), (8, 60, 3, 260.0)]


def test_what_was_imported_published_and_redacted_is_read() -> None:
    rows, document = read_rows(golden.FOLDER / IMPORTED), read_document(golden.FOLDER / IMPORTED)
    assert document is not None
    assert (document.sources[0].tool, document.points[0].requests) == ("vllm-bench", 12)
    assert {r.tool.split()[0] for r in rows} == {"vllm-bench"}
    assert (golden.FOLDER / PUBLISHED / "published.csv").read_text().count("\n") == 9
    redacted = read_redacted(golden.FOLDER / REDACTED)
    assert redacted is not None
    assert redacted.columns == ["telemetry.power_w"]
    assert {t.power_w for t in open_bundle(golden.FOLDER / REDACTED).telemetry()} == {None}


@pytest.mark.parametrize("name", FROZEN)
def test_check_finds_no_error(name: str) -> None:
    grave = [
        f"{f.rule} {f.where}: {f.problem}" for f in check(golden.FOLDER / name) if f.level in ("error", "interrupted")
    ]
    left = ["Q103 2026-11-21-h200-golden-interrupted: 2 of 8 cell repeats are measured"]
    assert grave == (left if name == INTERRUPTED else [])


def test_the_figures_are_those_of_then() -> None:
    """A figure that is meant to change goes in by `python -m tools.golden --figures`, and into the changelog."""
    then = json.loads((golden.FOLDER / golden.FIGURES).read_text())
    now = json.loads(golden.figures(golden.FOLDER))
    assert set(then) == set(now) == set(FROZEN)
    assert sum(len(one["figures"]) for one in then.values()) > 150
    for name, one in then.items():
        assert now[name]["verdicts"] == one["verdicts"], name
        found = {f["key"]: f for f in now[name]["figures"]}
        for figure in one["figures"]:  # new figures may come; those of then stay
            again = found[figure["key"]]
            for what in ("value", "low", "high"):
                assert again[what] == near(figure[what]), (name, figure["key"], what)
            assert (again["unit"], again["n"], again["source"]) == (figure["unit"], figure["n"], figure["source"])


def test_a_golden_figure_follows_from_its_rows() -> None:
    """0.5 (1617.2034 + 1618.7189), the throughput of the two repeats."""
    figures = json.loads((golden.FOLDER / golden.FIGURES).read_text())[MEASURED]["figures"]
    [one] = [f for f in figures if f["key"] == "chat.c8.fp8.throughput_tok_s"]
    assert one["value"] == pytest.approx(1617.96115)
    cells = open_bundle(golden.FOLDER / MEASURED).cells()
    assert [c.throughput_tok_s for c in cells if (c.variant, c.load) == ("fp8", "c8")] == [1617.2034, 1618.7189]


def test_the_pages_build() -> None:
    shown, outputs = sites.made(golden.FOLDER)
    uris = {o.uri for o in outputs}
    assert shown.unreadable == []
    for name in FROZEN:
        assert {f"cases/{name}/{page}" for page in ("index.md", "data/index.md", "log/index.md", "case.json")} <= uris


# -- what may change ---------------------------------------------------------------------------------------------------


def test_nothing_changed_that_format_1_forbids(frozen: dict[str, Any]) -> None:
    assert breaches(frozen, contract()) == [], "see docs/guide/bundle.md, What may change"


def column(c: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [x for x in c["tables"]["cells.csv"] if x["name"] == name]
    assert isinstance(found, dict)
    return found


def struct(c: dict[str, Any], file: str, name: str) -> dict[str, Any]:
    found = c["documents"][file]["$defs"][name]
    assert isinstance(found, dict)
    return found


NEW = {"name": "later", "type": "number", "unit": "ms", "required": False, "decimals": 3, "words": []}
FORBIDDEN: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("cells.csv: column n is gone", lambda c: c["tables"]["cells.csv"].remove(column(c, "n"))),
    ("the columns of format 1 come first", lambda c: c["tables"]["cells.csv"].insert(3, dict(NEW))),
    ("the new column later is required", lambda c: c["tables"]["cells.csv"].append({**NEW, "required": True})),
    ("type of n was 'integer' and is 'number'", lambda c: column(c, "n").update(type="number")),
    ("unit of ttft_ms_p50 was 'ms' and is 's'", lambda c: column(c, "ttft_ms_p50").update(unit="s")),
    ("required of n was True and is False", lambda c: column(c, "n").update(required=False)),
    ("the words of steady were", lambda c: column(c, "steady")["words"].append("perhaps")),
    ("ttft_ms_p50 is written with fewer decimals", lambda c: column(c, "ttft_ms_p50").update(decimals=1)),
    ("requests.csv.gz is gone", lambda c: c["tables"].pop("requests.csv.gz")),
    ("stress.jsonl is gone", lambda c: c["documents"].pop("stress.jsonl")),
    ("client.json cells[]: what is required changed (load)",
     lambda c: struct(c, "client.json", "ClientCell")["required"].remove("load")),
    ("client.json cells[]: cpu_pct is gone",
     lambda c: struct(c, "client.json", "ClientCell")["properties"].pop("cpu_pct")),
    ("datapackage.json quantcase format: type was 'integer' and is 'string'",
     lambda c: struct(c, "datapackage.json", "QuantcaseInfo")["properties"]["format"].update(type="string")),
    ("quality.jsonl repeat: what it means when it is left out changed",
     lambda c: struct(c, "quality.jsonl", "QualityRow")["properties"]["repeat"].update(default=0)),
    ("stress.jsonl verdict: words changed (bored)",
     lambda c: struct(c, "stress.jsonl", "StressRow")["properties"]["verdict"]["enum"].append("bored")),
    ("study.toml engine name: words changed (vllm)",
     lambda c: struct(c, "study.toml", "EngineSpec")["properties"]["name"]["enum"].remove("vllm")),
    ("predictions.json answers: luck came to a closed document",
     lambda c: struct(c, "predictions.json", "Answers")["properties"].update(luck={"type": "string"})),
]  # fmt: skip
ALLOWED: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("a column at the end", lambda c: c["tables"]["cells.csv"].append(dict(NEW))),
    ("a table", lambda c: c["tables"].update({"later.csv": [dict(NEW)]})),
    ("a document", lambda c: c["documents"].update({"later.json": {"$defs": {}}})),
    ("more decimals", lambda c: column(c, "ttft_ms_p50").update(decimals=4)),
    ("an optional key", lambda c: struct(c, "client.json", "ClientCell")["properties"].update(later={"type": "null"})),
    ("a study's key", lambda c: struct(c, "study.toml", "Study")["properties"].update(later={"type": "null"})),
    ("an engine", lambda c: struct(c, "study.toml", "EngineSpec")["properties"]["name"]["enum"].append("sglang")),
]  # fmt: skip


@pytest.mark.parametrize(("said", "change"), FORBIDDEN, ids=[said for said, _ in FORBIDDEN])
def test_a_forbidden_change_is_named(
    frozen: dict[str, Any], said: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    now = copy.deepcopy(frozen)
    change(now)
    found = breaches(frozen, now)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(("what", "change"), ALLOWED, ids=[what for what, _ in ALLOWED])
def test_an_addition_is_allowed(frozen: dict[str, Any], what: str, change: Callable[[dict[str, Any]], Any]) -> None:
    now = copy.deepcopy(frozen)
    change(now)
    assert now != frozen, what
    assert breaches(frozen, now) == []


# -- other versions ----------------------------------------------------------------------------------------------------


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    folder = copied(MEASURED, tmp_path)
    path = folder / manifest.MANIFEST
    path.write_text(path.read_text().replace('"format": 1,', '"format": 2,'))
    said = f"{MEASURED} is of format 2, this version reads up to 1"
    with pytest.raises(QuantcaseError, match=re.escape(said)) as e:
        open_bundle(folder)
    assert e.value.fix == "install a newer quantcase"
    assert [(f.rule, f.problem) for f in check(folder)] == [("Q101", said)]
    cases = catalog.load(tmp_path)
    assert cases.cases == []
    assert said in cases.unreadable[0][1]
    path.write_text(path.read_text().replace('"grade": "measured"', '"grade": "weighed"'))  # what format 2 may say
    with pytest.raises(QuantcaseError, match=re.escape(said)):
        open_bundle(folder)


def rewrite(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """cells.csv as another version would have written it, whole and described."""
    path = folder / "cells.csv"
    path.write_text("".join(",".join(change(line.split(","))) + "\n" for line in path.read_text().splitlines()))
    described = manifest.read(folder)
    described.resources = manifest.resources(folder)
    manifest.write(folder, described)


@pytest.mark.parametrize("more", [True, False], ids=["a column more", "a column fewer"])
def test_a_bundle_of_another_version_of_format_1_is_sealed_as_it_is(tmp_path: Path, more: bool) -> None:
    folder = copied(MEASURED, tmp_path)
    rewrite(folder, lambda cells: [*cells, "later" if cells[0] == "variant" else "7"] if more else cells[:-1])
    (folder / "notes.md").write_text("my own words\n")
    assert seal(folder) == ["notes.md"]
    assert [f for f in check(folder) if f.level == "error"] == []
    [cells] = [r for r in manifest.read(folder).resources if r.path == "cells.csv"]
    names = [f["name"] for f in (cells.schema or {})["fields"]]
    assert names == (folder / "cells.csv").read_text().split("\n")[0].split(",")
    assert len(open_bundle(folder).cells()) == ROWS[MEASURED][3]
    if more:
        assert (cells.schema or {})["fields"][-1] == {"name": "later", "type": "any"}


@pytest.mark.parametrize(("name", "table"), [(IMPORTED, "imported.csv"), (PUBLISHED, "published.csv")])
def test_sealing_keeps_what_the_manifest_says_of_other_peoples_figures(tmp_path: Path, name: str, table: str) -> None:
    folder = copied(name, tmp_path)
    (folder / "notes.md").write_text("my own words\n")
    before = {r.path: r for r in manifest.read(folder).resources}[table]
    seal(folder)
    after = {r.path: r for r in manifest.read(folder).resources}[table]
    assert after.schema == manifest.table_schema(table)
    assert after.description == before.description != ""
    assert after.schema is not None
    assert before.schema is not None
    units = {f["name"]: (f["type"], f.get("unit")) for f in after.schema["fields"]}
    assert units == {f["name"]: (f["type"], f.get("unit")) for f in before.schema["fields"]}


def test_the_interrupted_one_is_gone_on_with(tmp_path: Path) -> None:
    folder = copied(INTERRUPTED, tmp_path)
    writer = BundleWriter.resume(folder)
    assert {(v, load) for v, _, _, load, _ in writer.done()} == {("bf16", "c1"), ("bf16", "c8")}
    writer.close("interrupted")
    bundle = open_bundle(folder)
    assert {r.variant for r in bundle.requests()} == {"bf16"}  # the unfinished repeat is gone
    assert [f.rule for f in check(folder) if f.level in ("error", "interrupted")] == ["Q103"]


def test_the_tool_makes_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        golden.make(tmp_path / name)
    made = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert made == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert len(made) > 60
