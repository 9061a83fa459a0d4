"""llama-bench: what its records say, under its own names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from collector.bundle.imported import read_document, read_rows
from collector.bundle.read import open_bundle
from collector.errors import QuantcaseError
from collector.importers.base import Figure, Hints, Imported, get
from collector.importers.command import import_results
from collector.importers.store import Read, Said, write_bundle

SAMPLES = Path(__file__).parent.parent / "samples" / "peers" / "llama-bench"
JSON, JSONL, CSV = SAMPLES / "three-models.json", SAMPLES / "q4_k_m.jsonl", SAMPLES / "q4_k_m.csv"


def read(*paths: Path) -> Imported:
    return get("llama-bench").read(paths, Hints())


def changed(folder: Path, **more: Any) -> Path:
    """The generation test of the JSONL sample with other values."""
    record = json.loads(JSONL.read_text().splitlines()[1]) | more
    path = folder / "bench.json"
    path.write_text(json.dumps([{k: v for k, v in record.items() if v is not ...}]))
    return path


def figures(found: Imported, load: str) -> dict[tuple[str, str], Figure]:
    point = next(p for p in found.points if p.load == load)
    return {(f.metric.name, f.statistic): f for f in point.figures}


def test_a_test_is_a_point_named_as_llama_bench_names_it() -> None:
    found = read(JSONL)
    assert [p.load for p in found.points] == ["pp512", "tg128", "tg128 @ d4096"]
    record = json.loads(JSONL.read_text().splitlines()[1])
    speed = figures(found, "tg128")
    assert speed["llama-bench.generation_tok_s", "mean"].value == record["avg_ts"]
    assert speed["llama-bench.generation_tok_s", "std"].value == record["stddev_ts"]
    assert speed["llama-bench.generation_tok_s", "mean"].n == 5
    assert figures(found, "pp512")["llama-bench.prompt_tok_s", "mean"].metric.unit == "tok/s"
    samples = [f.value for f in found.points[1].figures if f.statistic == "sample"]
    assert samples == record["samples_ns"]


def test_its_generation_speed_is_no_throughput_of_ours() -> None:
    """It keeps its name and says that no server is behind it; there is no row that cells could be made of."""
    found = read(JSONL)
    metric = figures(found, "tg128")["llama-bench.generation_tok_s", "mean"].metric
    assert "one sequence" in metric.definition
    assert "a server and other requests are not in it" in metric.definition
    assert all(not p.rows and p.requests is None for p in found.points)
    assert any("sends no requests" in m for m in found.missing)


def test_model_quantization_bits_and_build() -> None:
    found = read(JSONL)
    assert (found.model, found.method, found.engine) == ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "gguf:Q4_K_M", "llamacpp")
    assert found.bits == pytest.approx(8 * 391_266_304 / 494_032_768, abs=1e-3)
    assert found.tool_version == found.engine_version == "b10700 (0123abcd)"
    assert "/home" not in str(found)  # folders stay out


def test_json_jsonl_and_csv_say_the_same() -> None:
    by_form = [[(p.load, f.metric.name, f.statistic, f.value) for p in read(x).points for f in p.figures
                if f.statistic != "sample"] for x in (JSONL, CSV)]  # fmt: skip
    assert by_form[0] == by_form[1]
    assert [(p.load, p.figures[0].value) for p in read(JSON).points if p.label == "q4_k_m"] == [
        (p.load, p.figures[0].value) for p in read(JSONL).points
    ]


def test_csv_holds_no_repetitions_and_the_import_says_so() -> None:
    found = read(CSV)
    assert figures(found, "tg128")["llama-bench.generation_tok_s", "mean"].n is None
    assert any("CSV holds no single repetitions" in m for m in found.missing)


def test_several_models_are_variants_by_their_quantization() -> None:
    found = read(JSON)
    assert sorted({p.label for p in found.points}) == ["f16", "q4_k_m", "q8_0"]
    assert found.facts["q8_0"] == "qwen2 1B Q8_0, qwen2.5-0.5b-instruct-q8_0.gguf, 8.503 bits a weight"


def test_each_of_several_models_keeps_its_own_quantization_and_bits(tmp_path: Path) -> None:
    ran = CliRunner().invoke(
        import_results, ["llama-bench", str(JSON), "--baseline", "f16", "--gpu", "h200", "--out", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    [folder] = tmp_path.iterdir()
    study = open_bundle(folder).study()
    assert study.base_model == "qwen2.5-0.5b-instruct-f16.gguf"  # the baseline's
    of_file = {(r["model_filename"], 8 * r["model_size"] / r["model_n_params"]) for r in json.loads(JSON.read_text())}
    bits = {Path(name.replace("\\", "/")).name: stated for name, stated in of_file}
    assert {v.name: (v.model, v.method) for v in study.variants} == {
        "f16": ("qwen2.5-0.5b-instruct-f16.gguf", "none"),
        "q8_0": ("qwen2.5-0.5b-instruct-q8_0.gguf", "gguf:Q8_0"),
        "q4_k_m": ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "gguf:Q4_K_M"),
    }
    for variant in open_bundle(folder).variants():
        assert variant.bits == pytest.approx(bits[variant.model], abs=1e-3)


def test_a_quantization_that_only_a_file_name_tells_is_of_that_model_alone(tmp_path: Path) -> None:
    records = [
        r | {"model_type": "qwen2"} if "q8_0" in r["model_filename"] else r for r in json.loads(JSON.read_text())
    ]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(records))
    found = read(path)
    assert sorted(m.method for m in found.models.values()) == ["gguf:Q4_K_M", "gguf:Q8_0", "none"]
    (note,) = [n for n in found.notes if "file name" in n]
    assert note.endswith("does not name it (qwen2.5-0.5b-instruct-q8_0.gguf).")


def test_what_is_varied_tells_tests_apart(tmp_path: Path) -> None:
    record = json.loads(JSONL.read_text().splitlines()[1])
    path = tmp_path / "varied.jsonl"
    path.write_text("".join(json.dumps(record | {"n_batch": b, "type_k": k}) + "\n"
                            for b, k in ((512, "f16"), (2048, "f16"), (512, "q8_0"))))  # fmt: skip
    found = read(path)
    assert [(p.label, p.load) for p in found.points] == [
        ("k-f16", "tg128, n_batch 512"), ("k-f16", "tg128, n_batch 2048"), ("k-q8_0", "tg128, n_batch 512"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "method"),
    [
        ("qwen2 7B Q4_K - Medium", "gguf:Q4_K_M"),
        ("llama 7B mostly Q4_0", "gguf:Q4_0"),
        ("llama 8B Q6_K", "gguf:Q6_K"),
        ("llama 8B IQ4_XS - 4.25 bpw", "gguf:IQ4_XS"),
        ("llama 8B Q3_K - Large", "gguf:Q3_K_L"),
        ("gpt-oss 20B MXFP4 MoE", "gguf:MXFP4"),
        ("qwen2 1B all F32", "none"),
        ("llama 8B BF16", "none"),
        ("llama 8B (guessed) Q5_K - Small", "gguf:Q5_K_S"),
    ],
)
def test_the_quantization_is_read_off_model_type(tmp_path: Path, model_type: str, method: str) -> None:
    assert read(changed(tmp_path, model_type=model_type)).method == method


def test_older_and_newer_files_have_other_fields(tmp_path: Path) -> None:
    """Builds of 2025 have no n_depth and write flash_attn as true or false; newer ones add what we do not know."""
    found = read(changed(tmp_path, n_depth=..., flash_attn=True, something_new={"a": 1}, model_type="qwen2"))
    assert found.points[0].load == "tg128"
    assert found.method == "gguf:Q4_K_M"  # off the file's name, and said so
    assert any("file name" in n for n in found.notes)


def test_it_becomes_a_bundle(tmp_path: Path) -> None:
    folder = write_bundle(
        [Read(variant="q4", imported=read(JSONL))], tmp_path, Said(gpu="h200", baseline="q4", base_model="Qwen2.5-0.5B")
    )
    rows = read_rows(folder)
    assert len(rows) == 3 * 7
    assert {r.tool for r in rows} == {"llama-bench b10700 (0123abcd)"}
    document = read_document(folder)
    assert document is not None
    assert document.sources[0].files[0].name == "q4_k_m.jsonl"
    assert len(document.sources[0].files[0].sha256) == 64


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"avg_ts": 130_973.4}, r"bench\.json\[0\]: avg_ts is 130973 tok/s, its samples_ns give 130\.97"),
        ({"samples_ns": [977.3, 980.1]}, r"samples_ns give .*; is samples_ns in nanoseconds"),
        ({"n_gen": 0}, r"\[0\]: a test of no tokens"),
        ({"n_gen": "128"}, r"\[0\]\.n_gen: '128' is no number"),
        ({"avg_ts": float("nan")}, r"\[0\]\.avg_ts: is nan, no finite number"),
        ({"avg_ts": -1}, r"\[0\]\.avg_ts: -1 is not between 0"),
        ({"samples_ns": [0]}, r"\[0\]\.samples_ns\[0\]: 0 is not between 1"),
        ({"model_size": 391}, r"bits a weight; is model_size in bytes\?"),
        ({"avg_ts": ...}, r"\[0\]: is no test of llama-bench"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantcaseError, match=says) as e:
        read(changed(tmp_path, **more))
    assert "\n" not in str(e.value)


def test_a_csv_in_other_units_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text(CSV.read_text().replace('"977351020"', '"977.35"'))
    with pytest.raises(QuantcaseError, match=r"bench\.csv line 3: avg_ts is 130\.973 tok/s, 128 tokens in avg_ns give"):
        read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("| model | size |\n", "as a Markdown table; run `llama-bench` again with -o json"),
        ("CREATE TABLE IF NOT EXISTS test (\n", "as SQL"),
        ("a,b\n1,2\n", "line 1: no column 'build_commit'"),
        ("[]", "holds no test"),
        ("[" * 100_000, "nested too deep|not JSON"),
        ("", "is empty"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "out.txt"
    path.write_text(text)
    with pytest.raises(QuantcaseError, match=says):
        read(path)
