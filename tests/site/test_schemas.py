"""The published schemas, held against golden and real bundles by tools that know nothing of this project."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from frictionless import Package, Resource, Schema
from jsonschema import Draft202012Validator

from collector import gpus, study
from collector.bundle import loadtest
from collector.bundle.co_location import CoLocated, CoLocation
from collector.bundle.marks import MARKS
from collector.bundle.schema import TABLES
from collector.plan import plan
from quantcase.pages import schemas
from tests.real import RESULTS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "format-1"
OPEN = GOLDEN / "2026-11-21-h200-golden-interrupted"
JUDGED = GOLDEN / "2026-11-21-h200-golden-judged"
BUNDLES = [p for folder in (GOLDEN, RESULTS) for p in sorted(folder.iterdir()) if p.is_dir()]
CLOSED = [p for p in BUNDLES if p != OPEN]
MOST_LINES, MOST_BYTES = 200, 120_000  # of a JSONL file of a real bundle: the first lines tell
DOCUMENTS = {s.file: s.schema for s in schemas.documents()}
SCHEMAS = {s.file: s.schema for s in schemas.tables()}


def values(path: Path) -> Iterator[Any]:
    """What a file holds: one document, or the lines of a JSONL file."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        first, *rest = data.splitlines()[:MOST_LINES]
        yield json.loads(first)
        so_far = len(first)
        for line in rest:
            so_far += len(line)
            if so_far > MOST_BYTES:
                return
            yield json.loads(line)
    else:
        yield tomllib.loads(data.decode()) if path.suffix == ".toml" else json.loads(data)


def closed(schema: Any) -> Any:
    """The same schema, refusing every key that it does not describe."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {k: closed(v) for k, v in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(inner.get("properties"), dict) else inner


def problems(folder: Path) -> list[str]:
    """What frictionless says of a whole bundle. Files without a Table Schema are held to their size and hash."""
    described = json.loads((folder / "datapackage.json").read_text())
    for resource in described["resources"]:
        if "schema" not in resource:
            resource["type"] = "file"
    report = Package.from_descriptor(described, basepath=str(folder)).validate()
    return [" ".join(map(str, row)) for row in report.flatten(["type", "fieldName", "message"])]


def table_problems(path: Path, schema: dict[str, Any]) -> list[str]:
    """What frictionless says of one CSV held against a Table Schema."""
    resource = Resource(path.name, basepath=str(path.parent), schema=Schema.from_descriptor(schema))
    return [str(e.message) for task in resource.validate().tasks for e in task.errors]


def test_each_json_schema_is_one_and_reads_the_same_in_every_language() -> None:
    for file, schema in DOCUMENTS.items():
        Draft202012Validator.check_schema(schema)
        assert schema["title"] == f"Quantcase {file}, format 1"
        for pattern in re.findall(r'"pattern": "(.*?)"', json.dumps(schema)):
            assert not re.search(r"\\+[ZA]", pattern), (file, pattern)  # Python's own: ECMA 262 reads a letter


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda p: p.name)
def test_every_document_of_a_bundle_is_valid_and_holds_nothing_undescribed(folder: Path) -> None:
    seen = set()
    for file, schema in DOCUMENTS.items():
        path = folder / file
        if path.is_file():
            strict = Draft202012Validator(closed(schema))
            seen.add(file)
            assert [e.message for value in values(path) for e in strict.iter_errors(value)] == [], file
    assert {"datapackage.json", "study.toml", "environment.json", "client.json"} <= seen


def test_golden_bundles_hold_every_document_but_a_plan() -> None:
    """A plan is worked out before there is a bundle: the one here is of a ready study."""
    found = {file for file in DOCUMENTS for folder in BUNDLES[:6] if (folder / file).is_file()}
    assert set(DOCUMENTS) - found == {"planned.json", "co_location.json"}
    tried = CoLocation(
        cell={"variant": "bf16", "workload": "chat", "load": "c16"}, alone=CoLocated(tok_s=9.0, ttft_ms_p50=20.0),
        together=CoLocated(tok_s=8.9), ratio=0.99, low=0.98, high=1.0, region=0.03, allowed=True,
    )  # fmt: skip
    written = json.loads(msgspec.json.encode(tried))
    beside = Draft202012Validator(closed(DOCUMENTS["co_location.json"]))
    assert [e.message for e in beside.iter_errors(written)] == []
    assert not beside.is_valid({**written, "allowed": "perhaps"})
    made = json.loads(msgspec.json.encode(plan(study.load("h200-shape"), gpus.get("h200"))))
    strict = Draft202012Validator(closed(DOCUMENTS["planned.json"]))
    assert [e.message for e in strict.iter_errors(made)] == []
    assert not strict.is_valid({**made, "cells": "many"})


@pytest.mark.parametrize("file", [f for f in DOCUMENTS if f not in ("planned.json", "co_location.json")])
def test_a_schema_refuses_a_document_without_a_required_key_or_of_another_type(file: str) -> None:
    path = next(folder / file for folder in BUNDLES if (folder / file).is_file())
    value = next(iter(values(path)))
    validator = Draft202012Validator(DOCUMENTS[file])
    name = DOCUMENTS[file]["$ref"].rsplit("/", 1)[1]
    struct = DOCUMENTS[file]["$defs"][name]
    assert validator.is_valid(value)
    assert not validator.is_valid([value])
    for key in struct.get("required", []):
        assert not validator.is_valid({k: v for k, v in value.items() if k != key}), key
    for key in value:
        assert not validator.is_valid({**value, key: {"never": {"a": "value"}} if key != "answers" else 3}), key


@pytest.mark.parametrize("folder", CLOSED, ids=lambda p: p.name)
def test_frictionless_finds_nothing_in_the_whole_package(folder: Path) -> None:
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("cells.csv", b"fp8,1,chat,c1,1,24,", b"fp8,1,chat,c1,1,24x,", 'type is "integer'),
        ("requests.csv.gz", b"fp8,1,chat,c1,1,0,", b"fp8,1,chat,c1,one,0,", 'type is "integer'),
        ("variants.csv", b"fp8,1,ok,", b",1,ok,", 'constraint "required" is "True"'),
    ],
)
def test_frictionless_finds_a_cell_that_is_wrong(tmp_path: Path, file: str, old: bytes, new: bytes, said: str) -> None:
    folder = Path(shutil.copytree(JUDGED, tmp_path / JUDGED.name))
    path = folder / file
    packed = path.suffix == ".gz"
    data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    assert old in data
    data = data.replace(old, new, 1)
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert "hash-count" in " ".join(problems(folder))  # first of all it is not the file that was written
    described = json.loads((folder / "datapackage.json").read_text())
    for resource in described["resources"]:
        if resource["path"] == file:
            resource["bytes"] = path.stat().st_size
            resource["hash"] = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    (folder / "datapackage.json").write_text(json.dumps(described))
    found = problems(folder)
    assert len(found) == 1
    assert said in found[0]


def test_frictionless_finds_a_changed_line_of_a_file_without_columns(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(JUDGED, tmp_path / JUDGED.name))
    path = folder / "quality.jsonl"
    path.write_text(path.read_text().replace('"score":0.0', '"score":1.0', 1))
    assert [p.split()[0] for p in problems(folder)] == ["hash-count"]


def test_the_open_tables_of_a_killed_run_follow_the_published_schemas() -> None:
    """Its manifest lists nothing yet; the last request is half written."""
    for table in TABLES.values():
        path = OPEN / table.path.removesuffix(".gz")
        found = table_problems(path, SCHEMAS[table.path])
        if table.path == "requests.csv.gz":
            assert found
            assert all(
                'row at position "76"' in e.lower() for e in found
            )  # 72 requests, two whole ones, and the header
        else:
            assert found == []


def test_marks_and_locusts_files_follow_the_published_schemas(tmp_path: Path) -> None:
    assert table_problems(JUDGED / MARKS, SCHEMAS[MARKS]) == []
    for target, kind in zip(loadtest.names("fp8"), ("stats", "history", "failures"), strict=True):
        assert table_problems(JUDGED / target, SCHEMAS[f"loadtest_VARIANT_{kind}.csv"]) == [], kind
    (tmp_path / MARKS).write_text("prompt_id,mark,variant\nlabels/1,splendid,fp8\n")
    [found] = table_problems(tmp_path / MARKS, SCHEMAS[MARKS])
    assert "splendid" in found


def test_locusts_columns_are_those_that_the_reader_asks_for() -> None:
    read = {
        "stats": loadtest._Stats,
        "history": loadtest._History,
        "failures": loadtest._Failed,
    }
    for kind, row in read.items():
        fields = SCHEMAS[f"loadtest_VARIANT_{kind}.csv"]["fields"]
        assert {f["name"] for f in fields} == set(row.__struct_encode_fields__), kind


def test_the_table_schemas_are_those_of_the_manifest() -> None:
    described = json.loads((JUDGED / "datapackage.json").read_text())
    tables = {r["path"]: r["schema"]["fields"] for r in described["resources"] if "schema" in r}
    assert set(tables) == {t.path for t in TABLES.values()}
    for path, fields in tables.items():
        assert SCHEMAS[path]["fields"][: len(fields)] == fields
    seen = SCHEMAS["cells.csv"]["fields"]
    assert next(f for f in seen if f["name"] == "throughput_tok_s") == {
        "name": "throughput_tok_s", "type": "number", "unit": "tok/s",
        "description": "output tokens in the steady window / its length",
    }  # fmt: skip


ADDRESSES = (
    "datapackage.json study.toml.json environment.json client.json quality_items.jsonl.json "
    "quality.jsonl.json likelihood.jsonl.json stress.jsonl.json predictions.json co_location.json "
    "planned.json imported.json redacted.json variants.csv.json requests.csv.json chunk_gaps.csv.json "
    "cells.csv.json telemetry.csv.json engine_metrics.csv.json imported.csv.json published.csv.json "
    "marks.csv.json loadtest_VARIANT_stats.csv.json loadtest_VARIANT_history.csv.json "
    "loadtest_VARIANT_failures.csv.json"
)


def test_the_addresses_stay() -> None:
    """An address that was published is never taken away; a new one is added here."""
    files = dict(schemas.files())
    assert list(files) == [f"format-1/{name}" for name in ADDRESSES.split()]
    for address, text in files.items():
        assert json.loads(text)["title"].startswith("Quantcase "), address


def test_the_page_lists_each_with_a_sentence() -> None:
    page = schemas.page()
    listed = re.findall(r"^- \[`([^`]+)`\]\(([^)]+)\): [A-Z].*[.]$", page, flags=re.M)
    every = [*schemas.documents(), *schemas.tables()]
    assert listed == [(s.file, s.address) for s in every] + [("case.json", "case-1.json"), ("gpus.json", "gpus-1.json")]
    assert "\n\n- " not in page.split("## Documents")[1].split("## Tables")[0].split("- [", 2)[2]  # one list, not many
