"""A plain CSV: nothing is known of a column but what its map says."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.bundle.imported import read_document, read_rows
from collector.errors import QuantcaseError, UsageFault
from collector.importers import column_map
from collector.importers.base import Hints, Imported, get
from collector.importers.store import Read, Said, write_bundle

SAMPLES = Path(__file__).parent.parent / "samples"
SWEEP, MAP = SAMPLES / "peers" / "csv" / "sweep.csv", SAMPLES / "peers" / "csv" / "sweep.toml"
DAY = SAMPLES / "format-0" / "day004"


def read(*paths: Path, columns: str = "day004", load: str = "") -> Imported:
    return get("csv").read(paths, Hints(columns=columns, load=load))


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_map_says_what_each_column_is() -> None:
    found = read(SWEEP, columns=str(MAP))
    assert [(p.label, p.workload, p.load, p.requests, p.failed) for p in found.points] == [
        ("none", "intents", "c1", 100, 0),
        ("none", "intents", "c8", 800, 0),
        ("awq", "intents", "c1", 100, 0),
        ("awq", "intents", "c8", 800, 40),
    ]
    last = {(f.metric.name, f.statistic): f for f in found.points[-1].figures}
    assert last["csv.latency_ms", "p95"].value == 120.5
    assert last["csv.latency_ms", "p95"].metric.definition == (
        "time of one batch in the script, tokenization included; failed batches are not in it (column p95_ms)"
    )
    assert last["csv.samples_per_s", "mean"].metric.unit == "samples/s"
    assert found.points[-1].messages == {"CUDA out of memory": 40}
    assert found.points[0].figures[0].n == 100
    assert last["csv.latency_ms", "p95"].n is None  # whether the 40 failed ones are in it no CSV says
    assert (found.engine, found.engine_version) == ("vllm", "0.7.0")


def test_the_ready_map_takes_workload_and_variant_off_the_names() -> None:
    found = read(*sorted(DAY.glob("*_bf16.csv")))
    assert [(p.label, p.workload, p.load) for p in found.points] == [
        ("bf16", "batch", "c16"), ("bf16", "batch", "c32"),
        ("bf16", "chat", "c1"), ("bf16", "chat", "c8"), ("bf16", "chat", "c16"),
    ]  # fmt: skip
    speed, time = found.points[-1].figures
    assert (speed.metric.name, speed.value, speed.metric.unit) == ("csv.throughput_tok_s", 310.5, "tok/s")
    assert (time.metric.name, time.statistic, time.value) == ("csv.e2e_ms", "p95", 6890)
    assert "not stated" in time.metric.definition
    assert found.facts == {"file_name.day": "004", "file_name.gpu": "rtx16gb"}
    assert any("How many requests failed" in m for m in found.missing)


def test_other_names_empty_fields_and_columns_nobody_mapped() -> None:
    found = read(SAMPLES / "format-0" / "day005" / "day005_chat_capacity_rtx16gb_fp16.csv")
    first, second = found.points
    assert {(f.metric.name, f.statistic) for f in first.figures} == {
        ("csv.throughput_tok_s", "mean"), ("csv.e2e_ms", "p50"), ("csv.e2e_ms", "p95"),
    }  # fmt: skip
    assert ("csv.e2e_ms", "p95") not in {(f.metric.name, f.statistic) for f in second.figures}
    assert (second.requests, second.ok, second.failed) == (96, 84, 12)
    assert "Columns that the map does not name were left out: comment." in found.notes


def test_it_becomes_a_bundle_whose_figures_bear_their_definition(tmp_path: Path) -> None:
    reads = [Read(variant=v, imported=read(*sorted(DAY.glob(f"*_{v}.csv")))) for v in ("bf16", "quant")]
    said = Said(gpu="rtx2000", baseline="bf16", base_model="m", study="day004")
    folder = write_bundle(reads, tmp_path, said)
    rows = {(r.variant, r.workload, r.load, r.metric, r.statistic): r for r in read_rows(folder)}
    assert rows["quant", "chat", "c16", "csv.throughput_tok_s", "mean"].value == 521
    assert all(r.metric.startswith("csv.") and r.definition for r in rows.values())
    document = read_document(folder)
    assert document is not None
    assert [len(s.files) for s in document.sources] == [2, 2]


def test_every_ready_map_can_be_read() -> None:
    assert "day004" in column_map.ready()
    for name in column_map.ready():
        assert all(m.definition for m in column_map.load(name).metrics)


METRIC = '[[metrics]]\nname = "t"\ncolumn = "p95_ms"\nunit = "ms"\ndefinition = "d"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (METRIC.replace('definition = "d"\n', ""), r"map\.toml: key `metrics\[0\]`: object missing .*`definition`"),
        (METRIC.replace('"d"', '""'), r"key `metrics\[0\]\.definition`"),
        (
            METRIC.replace('unit = "ms"', 'unit = "furlongs"'),
            r"`metrics\[0\]`\.unit: 'furlongs' is not known; units: ns",
        ),
        (METRIC.replace('unit = "ms"', 'unit = "s"'), r"column 'p95_ms' is in ms by its name, the map says s"),
        (METRIC.replace('"t"', '"../t"'), r"key `metrics\[0\]\.name`"),
        (METRIC + METRIC, r"key `metrics\[1\]`: t value stands twice"),
        (METRIC + "[columns]\nvarient = 'x'\n", r"key `columns`: object contains unknown field `varient`"),
        ("[[metrics]\n", "is not valid TOML"),
        ("", r"missing required field `metrics`"),
        (METRIC + "[constants]\nconcurrency = 1\nrate = 1.0\n", "has concurrency and rate"),
        ('file_name = "{a}{b}.csv"\n' + METRIC, "two fields touch"),
    ],
)
def test_a_map_that_is_none_is_refused_by_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageFault, match=says) as e:
        column_map.load(str(written(tmp_path, "map.toml", text)))
    assert "\n" not in str(e.value)


def test_no_map_and_no_such_map() -> None:
    with pytest.raises(UsageFault, match="needs a map of its columns"):
        read(SWEEP, columns="")
    with pytest.raises(UsageFault, match=r"No such file.*; a file, or one of day004"):
        read(SWEEP, columns="day4")


HEADER = "model;workload;batch size;p95_ms;samples_per_s;n;failed;why\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + "a;w;1;x;2;1;0;\n", r"x\.csv line 2, column 'p95_ms': 'x' is no number"),
        (HEADER + "a;w;1;NaN;2;1;0;\n", r"column 'p95_ms': 'NaN' is no number"),
        (HEADER + "a;w;1;1_0;2;1;0;\n", r"column 'p95_ms': '1_0' is no number"),
        (HEADER + "a;w;1;-4;2;1;0;\n", r"column 'p95_ms': -4 is not between 0 and 8\.64e\+07; is the unit right"),
        (HEADER + "a;w;1;9e9;2;1;0;\n", r"column 'p95_ms': 9e\+09 is not between"),
        (HEADER + "a;w;0;4;2;1;0;\n", r"column 'batch size': is 0, no load"),
        (HEADER + "a;w;1;;2;1;0;\n", r"column 'p95_ms': has no value, and the map requires one"),
        (HEADER + "a;w;1;4;2;1;2;\n", r"line 2: -1 ok and 2 failed of 1 requests do not add up"),
        (HEADER + "a;w;;4;2;1;0;\n", r"line 2: says no load; map `concurrency`"),
        (HEADER + "a;w;1;4;2;1;0\n", r"line 2: 7 fields, the header has 8"),
        (HEADER + 'a;w;1;4;2;1;0;"open\n', r"line 2: unexpected end of data"),
        (HEADER.replace("n;", "why;"), r"line 1: column 'why' stands twice"),
        (HEADER.replace("batch size", "b"), r"line 1: no column 'batch size'; it has model, workload, b"),
        (HEADER, "holds no row"),
        ("", "is empty"),
    ],
)
def test_a_faulty_csv_is_refused_by_line_and_column(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(QuantcaseError, match=says) as e:
        read(written(tmp_path, "x.csv", text), columns=str(MAP))
    assert "\n" not in str(e.value)


def test_units_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """16 requests of 128 tokens in 6.89 s are about 300 tok/s. The same 6.89 called milliseconds would be 300,000."""
    text = "concurrency,max_tokens,tok_s,p95_e2e_ms\n16,128,310.5,6.89\n"
    path = written(tmp_path, "day004_chat_capacity_rtx16gb_bf16.csv", text)
    with pytest.raises(QuantcaseError, match=r"line 2: 310\.5 tok/s, but 16 requests of 128 tokens in 6\.89 ms give "):
        read(path)


def test_a_name_that_does_not_follow_the_map(tmp_path: Path) -> None:
    path = written(tmp_path, "chat.csv", "concurrency,tok_s\n1,2\n")
    with pytest.raises(UsageFault, match=r"chat\.csv is not called as the map says \(day\{day\}_"):
        read(path)


def test_a_load_that_no_column_states_can_be_said(tmp_path: Path) -> None:
    toml = written(tmp_path, "map.toml", METRIC)
    path = written(tmp_path, "x.csv", "p95_ms\n4\n")
    assert read(path, columns=str(toml), load="r2.5").points[0].load == "r2.5"


def test_a_spreadsheets_mark_is_passed_over_and_other_encodings_are_refused(tmp_path: Path) -> None:
    text = SWEEP.read_text()
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read(path, columns=str(MAP)).points) == 4
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(QuantcaseError, match=r"x\.csv is not UTF-8 text \(byte 0\); save it as CSV in UTF-8"):
        read(path, columns=str(MAP))


def test_too_much_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    wide = written(tmp_path, "wide.csv", ";".join(f"c{i}" for i in range(501)) + "\n")
    with pytest.raises(QuantcaseError, match="501 columns, more than 500"):
        read(wide, columns=str(MAP))
    long = written(tmp_path, "long.csv", HEADER + "a;w;1;" + "4" * 140_000 + ";2;1;0;\n")
    with pytest.raises(QuantcaseError, match=r"long\.csv line 2: field larger than field limit"):
        read(long, columns=str(MAP))
    many = written(tmp_path, "many.csv", HEADER + "a;w;1;4;2;1;0;\n" * 50_001)
    with pytest.raises(QuantcaseError, match="more than 50,000 rows"):
        read(many, columns=str(MAP))
