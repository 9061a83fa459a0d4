"""Format 1 on disk: round trips, flipped bytes, killed runs, resumed runs."""

from __future__ import annotations

import csv
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.bundle import metrics
from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from collector.bundle.schema import TABLES, Environment, RequestRow, columns, rounded
from collector.bundle.seal import seal
from collector.bundle.tables import header_line, row_line, rows_from_text
from collector.bundle.write import BundleWriter
from collector.errors import QuantcaseError
from collector.study import Load
from tests.makers import make_bundle, repeat_rows, study, variant_row

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
FIELDS = {
    "string": TEXT,
    "integer": st.integers(0, 10**9),
    "number": st.floats(0, 1e6, allow_nan=False),
}


def a_row(kind: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Any row that a table may hold."""
    hints: dict[str, Any] = {}
    for column in columns(kind):
        hint = kind.__annotations__[column.name]
        strategy = FIELDS[column.kind]
        for literal, name in (
            ("KernelClass", "kernel_class"),
            ("ExitState", "exit_state"),
            ("RequestStatus", "status"),
            ("Steady", "steady"),
        ):
            if literal in str(hint) and column.name == name:
                strategy = st.just({"kernel_class": "slow", "exit_state": "oom", "status": "ok", "steady": "no"}[name])
        hints[column.name] = strategy if column.required else st.none() | strategy.filter(lambda v: v != "")
    return st.builds(kind, **hints)


@pytest.mark.parametrize("table", TABLES)
@given(data=st.data())
def test_rows_round_trip_through_csv(table: str, data: st.DataObject) -> None:
    kind = TABLES[table].row
    row = rounded(data.draw(a_row(kind)))
    assert rows_from_text(header_line(kind) + row_line(row), kind, "t") == [row]


def test_the_first_columns_of_requests_are_the_contract() -> None:
    asked = (
        "variant, start, workload, load, repeat, index, started_s, ttft_ms, first_chunk_ms, tpot_ms, e2e_ms, "
        "input_tokens, output_tokens, chunks, finish_reason, status, error"
    ).split(", ")
    assert [c.name for c in columns(RequestRow)][: len(asked)] == asked


def test_every_column_says_what_it_means() -> None:
    for table in TABLES.values():
        for column in columns(table.row):
            assert column.meaning, f"{table.path}: {column.name}"
            if column.name.endswith(("_ms", "_s", "_gib", "_mib")) and column.kind == "number":
                assert column.unit, f"{table.path}: {column.name}"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path, only=("bf16", "awq"))


def test_a_whole_bundle_is_sound_and_other_tools_can_read_it(bundle: Path) -> None:
    assert errors(check(bundle)) == []
    package = json.loads((bundle / "datapackage.json").read_text())
    listed = {r["path"]: r for r in package["resources"]}
    assert {t.path for t in TABLES.values()} <= set(listed)
    names = [f["name"] for f in listed["requests.csv.gz"]["schema"]["fields"]]
    with gzip.open(bundle / "requests.csv.gz", "rt", newline="") as f:
        assert next(csv.reader(f)) == names


def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(bundle: Path) -> None:
    files = [p for p in sorted(bundle.rglob("*")) if p.is_file()]
    assert len(files) > 10
    for path in files:
        whole = path.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            broken = bytearray(whole)
            broken[place] ^= 0x01
            path.write_bytes(bytes(broken))
            faults = check(bundle)
            name = path.relative_to(bundle).as_posix()
            assert any(f.level == "error" and name in f.where for f in faults), (name, place, faults)
        path.write_bytes(whole)
    assert errors(check(bundle)) == []


def test_missing_and_added_files_are_found(bundle: Path) -> None:
    (bundle / "extra.txt").write_text("x")
    assert "extra.txt" in str(check(bundle)[0])
    (bundle / "extra.txt").unlink()
    (bundle / "client.json").unlink()
    assert "client.json: is missing" in str(check(bundle)[0])


def test_a_link_in_a_bundle_is_refused(bundle: Path) -> None:
    (bundle / "link").symlink_to("/etc/passwd")
    assert "not a plain file" in str(check(bundle)[0])


def test_own_words_are_sealed_and_nothing_else_is(bundle: Path) -> None:
    (bundle / "notes.md").write_text("I expected less.\n")
    assert "collect seal" in str(check(bundle)[0])
    assert seal(bundle) == ["notes.md"]
    assert errors(check(bundle)) == []
    (bundle / "cells.csv").write_bytes((bundle / "cells.csv").read_bytes() + b"x")
    with pytest.raises(QuantcaseError, match=r"cells\.csv"):
        seal(bundle)


def test_cells_that_do_not_follow_from_requests_are_found(tmp_path: Path) -> None:
    s = study()
    w = BundleWriter.create(
        tmp_path / "b", s, grade="measured", gpu="h200", cells_planned=1, environment=Environment(gpu_asked="h200")
    )
    w.set_variant(variant_row(s.variants[0]))
    rows = repeat_rows("bf16", s.workload("chat"), Load.closed(8), 1, random.Random(1), 10.0)
    made = metrics.cell(rows, Load.closed(8), s.workload("chat"))
    wrong = msgspec.structs.replace(made, throughput_tok_s=(made.throughput_tok_s or 0) * 1.01)
    w.add_repeat(rows, [], wrong)
    w.close("complete")
    assert "throughput_tok_s" in str(check(tmp_path / "b")[0])


def open_half(folder: Path) -> BundleWriter:
    """A run under way: two repeats done, a third half on disk, nothing closed."""
    s = study()
    rng = random.Random(7)
    w = BundleWriter.create(
        folder, s, grade="measured", gpu="h200", cells_planned=60, environment=Environment(gpu_asked="h200")
    )
    w.set_variant(variant_row(s.variants[0]))
    for repeat in (1, 2):
        rows = repeat_rows("bf16", s.workload("chat"), Load.closed(1), repeat, rng, 10.0 * repeat)
        w.add_repeat(rows, [], metrics.cell(rows, Load.closed(1), s.workload("chat")))
    third = repeat_rows("bf16", s.workload("chat"), Load.closed(1), 3, rng, 30.0)
    with (folder / "requests.csv").open("a") as f:
        f.write("".join(row_line(r) for r in third[:5]) + row_line(third[5])[:40])  # torn in a row
    return w


def test_a_killed_run_is_readable_and_called_interrupted(tmp_path: Path) -> None:
    open_half(tmp_path / "b")
    faults = errors(check(tmp_path / "b"))
    assert [f.level for f in faults] == ["interrupted"]
    assert "2 of 60" in str(faults[0])
    assert "--resume" in str(faults[0])
    assert len(open_bundle(tmp_path / "b").cells()) == 2


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_run_killed_anywhere_can_be_resumed_without_losing_what_was_done(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut the files that were being appended to at any byte: what is whole stays, what is torn goes."""
    folder = tmp_path_factory.mktemp("killed") / "b"
    open_half(folder)
    before = {r.index: r for r in open_bundle(folder).requests() if r.repeat == 1}
    requests = folder / "requests.csv"
    size = requests.stat().st_size
    done_end = len("".join(requests.read_text().splitlines(keepends=True)[:49]))
    requests.write_bytes(requests.read_bytes()[: data.draw(st.integers(done_end, size))])
    w = BundleWriter.resume(folder)
    assert {k[4] for k in w.done()} == {1, 2}
    s = study()
    rows = repeat_rows("bf16", s.workload("chat"), Load.closed(1), 3, random.Random(9), 60.0)
    w.add_repeat(rows, [], metrics.cell(rows, Load.closed(1), s.workload("chat")))
    w.close("complete")
    assert errors(check(folder)) == []
    after = open_bundle(folder)
    assert {r.index: r for r in after.requests() if r.repeat == 1} == before
    assert len(after.requests()) == 72
    shutil.rmtree(folder)


def test_a_bundle_closed_as_interrupted_resumes_too(tmp_path: Path) -> None:
    open_half(tmp_path / "b").close("interrupted")
    assert (tmp_path / "b" / "requests.csv.gz").is_file()
    w = BundleWriter.resume(tmp_path / "b")
    assert len(w.done()) == 2
    w.close("complete")
    assert errors(check(tmp_path / "b")) == []
    with pytest.raises(QuantcaseError, match="complete already"):
        BundleWriter.resume(tmp_path / "b")


def test_killed_while_packing_loses_nothing(tmp_path: Path) -> None:
    w = open_half(tmp_path / "b")
    whole = (tmp_path / "b" / "requests.csv").read_bytes()
    w.close("interrupted")
    (tmp_path / "b" / "requests.csv").write_bytes(whole)  # as if the plain file had not been removed yet
    (tmp_path / "b" / "requests.csv.gz").write_bytes(gzip.compress(whole)[:100])
    assert len(BundleWriter.resume(tmp_path / "b").done()) == 2


def test_a_newer_format_is_refused_with_a_way_out(bundle: Path) -> None:
    text = (bundle / "datapackage.json").read_text().replace('"format": 1', '"format": 99')
    (bundle / "datapackage.json").write_text(text)
    assert "newer quantcase" in str(check(bundle)[0])


def test_a_newer_manifest_that_cannot_be_decoded_is_still_refused_by_its_number(bundle: Path) -> None:
    folder = bundle
    manifest = json.loads((folder / "datapackage.json").read_text())
    manifest["quantcase"] |= {"format": 7, "cells_done": {"a newer": "shape"}}
    (folder / "datapackage.json").write_text(json.dumps(manifest))
    with pytest.raises(QuantcaseError, match="is of format 7, this version reads up to 1"):
        open_bundle(folder)
