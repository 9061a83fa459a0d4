"""The summary page: every cell of the seed's tables, what is found in them, and measured GGUF cases beside them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.dom import minidom

import msgspec
import pytest

from collector.bundle.check import check
from collector.bundle.manifest import resources, write
from collector.bundle.read import open_bundle
from collector.bundle.schema import VariantRow
from collector.study import EngineSpec, Variant, loads
from quantcase.analysis import offload
from quantcase.catalog import load
from quantcase.pages import summary
from quantcase.pages.view import CaseView, Options
from quantcase.text import number
from tests.makers import STUDY, make_bundle, variant_row
from tests.real import RESULTS
from tools import published_seed002

# The seed's own words: its two tables with their F16 lines.
SEED = """
## Phi-3.5-MoE Quantizations
| Quantization | File Size | VRAM Baseline | VRAM Offload | VRAM Saved | Reduction % |
|-------------|-----------|---------------|--------------|------------|-------------|
| **Q2_K**    | 15 GB     | 14.78 GB      | 1.34 GB      | 13.44 GB   | **90.9%** |
| **Q4_K_M**  | 24 GB     | 24.14 GB      | 1.72 GB      | 22.42 GB   | **92.9%** |
| **Q8_0**    | 42 GB     | 41.91 GB      | 2.46 GB      | 39.45 GB   | **94.1%** |
**Original F16**: 79 GB file size
## DeepSeek-MoE-16B Quantizations
| Quantization | File Size | VRAM Baseline | VRAM Offload | VRAM Saved | Reduction % |
|-------------|-----------|---------------|--------------|------------|-------------|
| **Q2_K**    | 6.3 GB    | 7.28 GB       | 1.60 GB      | 5.68 GB    | **78.0%** |
| **Q4_K_M**  | 11 GB     | 11.10 GB      | 1.86 GB      | 9.24 GB    | **83.2%** |
| **Q8_0**    | 17 GB     | 17.11 GB      | 2.33 GB      | 14.78 GB   | **86.4%** |
**Original F16**: 31 GB file size
"""
HEADER = ",".join(published_seed002.COLUMNS) + "\n"


def page_of(results: Path) -> str:
    return summary.page([CaseView(c, Options()) for c in load(results).cases])


def tables(page: str) -> dict[str, list[list[str]]]:
    """Table id -> rows of cells, as a reader sees them."""
    found = {}
    for name, body in re.findall(r'id="table-([^"]+)"><table>(.*?)</table>', page, flags=re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", body, flags=re.S)
        found[html.unescape(name)] = [[plain(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r)] for r in rows]
    return found


def plain(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_seed002.write(tmp_path_factory.mktemp("published"))


def with_csv(out: Path, content: bytes) -> Path:
    """The published bundle with another published.csv, sealed again."""
    folder = published_seed002.write(out)
    (folder / "published.csv").write_bytes(content)
    manifest = open_bundle(folder).manifest
    manifest.resources = resources(folder)
    write(folder, manifest)
    return folder


def line(**more: str) -> str:
    given = {"model": "M", "quantization": "Q8_0", "file_size_gb": "10", "vram_baseline_gb": "10.00",
             "vram_offload_gb": "1.00", "vram_saved_gb": "9.00", "reduction_pct": "90.0", "runs": "3",
             "source": "a test", **more}  # fmt: skip
    return ",".join(given.values()) + "\n"


def test_the_published_bundle_is_sound_and_holds_the_source_s_digits(published: Path) -> None:
    assert check(published) == []
    info = open_bundle(published).info
    assert (info.grade, info.status, info.weights) == ("published", "complete", "real")
    names = {v.name for v in open_bundle(published).study().variants}
    assert {"phi-3.5-moe-q2-k-baseline", "phi-3.5-moe-q4-k-m-offload", "deepseek-moe-16b-q8-0-offload"} <= names
    assert len(names) == 12
    assert "DeepSeek-MoE-16B,Q4_K_M,11,11.10,1.86,9.24,83.2,3," in (published / "published.csv").read_text()
    assert open_bundle(published).cells() == []  # nothing was measured, and nothing is made up


def test_the_bundle_in_results_is_what_the_tool_writes(published: Path) -> None:
    for name in ("published.csv", "notes.md", "study.toml", "variants.csv"):
        assert (RESULTS / published_seed002.NAME / name).read_text() == (published / name).read_text(), name


def test_every_cell_of_the_seed_stands_in_the_page(published: Path) -> None:
    page = page_of(published.parent)
    shown = list(tables(page).values())
    for place, part in enumerate(SEED.split("## ")[1:]):
        model = part.split(" Quantizations")[0]
        assert f"### {model}" in html.unescape(page)
        seed_rows = [
            [c.strip(" *").removesuffix(" GB").removesuffix("%") for c in row.strip("|").split("|")]
            for row in part.splitlines() if row.startswith("| **")
        ]  # fmt: skip
        assert len(seed_rows) == 3
        rows = shown[place][1:]
        assert [row[:6] for row in rows] == seed_rows
        assert [row[6:] for row in rows] == [["✓ agrees", "3"]] * 3
        f16 = re.search(r"Original F16\*\*: (\d+) GB", part)
        assert f16 is not None
        assert f"Original F16: {f16[1]} GB file." in page
    head = shown[0][0]
    assert head[:6] == ["Quantization", "File size (GB)", "VRAM baseline (GB)", "VRAM offload (GB)", "VRAM saved (GB)",
                        "Reduction (%)"]  # fmt: skip


def test_source_grade_and_method_are_told(published: Path) -> None:
    page = page_of(published.parent)
    said = plain(page)
    assert 'data-grade="published"' in page
    for words in ("shimmy v1.6.0 with llama.cpp b6686", "GH200 (96GB VRAM, 480GB RAM, CUDA 12.8)", "October 9, 2025",
                  "Explain quantum computing in simple terms", "temperature 0.7, seed 42", "merge markers",
                  "sum of three CUDA0 buffers", "GPT-OSS 20B"):  # fmt: skip
        assert words in said, words


def test_findings_are_worked_out_of_the_rows(published: Path) -> None:
    said = plain(page_of(published.parent))
    assert "5 of 6 baselines lie within 5 %" in said
    assert f"from {14.78 / 15:.3f} to {7.28 / 6.3:.3f}" in said
    assert "From 1.34 GB (Phi-3.5-MoE Q2_K) to 2.46 GB (Phi-3.5-MoE Q8_0)" in said
    assert f"Phi-3.5-MoE Q2_K to Q8_0: offload × {2.46 / 1.34:.2f}, baseline × {41.91 / 14.78:.2f}" in said
    assert "the larger the share saved, in 2 of 2 models" in said
    assert "DeepSeek-MoE-16B Q8_0 is larger than Phi-3.5-MoE Q2_K (17 and 15 GB)" in said
    assert "agree with the published columns to their rounding in all 6 rows" in said
    assert "mean of 3 runs" in said


def test_ranges_of_the_recommendations(published: Path) -> None:
    page = page_of(published.parent).split("## Which quantization for what")[1].split("## Measured")[0]
    parts = [plain(p) for p in page.split("### ")[1:]]
    assert [p.split(" ")[0] for p in parts] == ["Q2_K", "Q4_K_M", "Q8_0"]
    for part, ranges, place in zip(
        parts,
        ("1.34 to 1.60 GB with offload, 7.28 to 14.78 GB", "1.72 to 1.86 GB with offload, 11.10 to 24.14 GB",
         "2.33 to 2.46 GB with offload, 17.11 to 41.91 GB"),
        ("is the smallest", "lies between", "is the largest"),
        strict=True,
    ):  # fmt: skip
        assert ranges in part
        assert place in part
        assert "Quality: not measured, neither by the source nor here" in part


def test_the_chart_is_whole_and_says_its_finding(published: Path) -> None:
    svg = re.search(r'<figure class="qc-figure" id="fig-offload".*?(<svg.*?</svg>)', page_of(published.parent))
    assert svg is not None
    minidom.parseString(svg[1])
    assert "from 1.34 GB (Phi-3.5-MoE Q2_K) to 2.46 GB (Phi-3.5-MoE Q8_0)" in svg[1]
    for figure in ("41.91", "11.10", "1.60"):
        assert f">{figure}<" in svg[1]


def test_a_published_figure_that_its_row_does_not_give_is_marked(tmp_path: Path) -> None:
    rows = line() + line(quantization="Q4_K_M", file_size_gb="5", vram_saved_gb="9.10", reduction_pct="90.4")
    with_csv(tmp_path, (HEADER + rows + line(quantization="Q2_K", file_size_gb="3", vram_saved_gb="",
                                             reduction_pct="")).encode())  # fmt: skip
    page = page_of(tmp_path)
    cells = {r[0]: r for r in tables(page)[f"offload-{published_seed002.NAME}-1"]}
    assert cells["Q4_K_M"][4:7] == ["9.00", "90.0", "✗ published: 9.10 GB, 90.4 %"]
    assert cells["Q8_0"][6] == "✓ agrees"
    assert cells["Q2_K"][4:7] == ["9.00", "90.0", "– not stated"]
    assert "In 1 of 3 rows a published figure is not what its row gives: M Q4_K_M" in plain(page)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "ends within a line"),
        (HEADER.encode() + line().encode().rstrip(), "ends within a line"),
        (b"model,quantization\nM,Q8_0\n", "is missing"),
        ((HEADER + line(file_size_gb="NaN")).encode(), "file_size_gb"),
        ((HEADER + line(vram_baseline_gb="-1")).encode(), "vram_baseline_gb"),
        ((HEADER + line(vram_offload_gb="1e9")).encode(), "vram_offload_gb"),
        ((HEADER + line(reduction_pct="٩٠")).encode(), "reduction_pct"),
        ((HEADER + line(file_size_gb='"1\n"')).encode(), "file_size_gb"),
        ((HEADER + line(file_size_gb="0")).encode(), "a size of zero"),
        ((HEADER + line(runs="0")).encode(), "states 0 runs"),
        ((HEADER + line(runs="many")).encode(), "runs"),
        ((HEADER + line(model="")).encode(), "model"),
        ((HEADER + line() + line()).encode(), "twice"),
        ((HEADER + "M,Q8_0\n").encode(), "fields"),
        (HEADER.encode() + b"\xff\xfe\x00,,,\n", "fields"),
        (HEADER.encode() + b"x" * 300_000 + b"\n", "larger than 256 KiB"),
        ((HEADER + "".join(line(model=f"M{i}") for i in range(501))).encode(), "more than 500 rows"),
    ],
)
def test_a_hostile_table_is_left_out_with_its_reason(tmp_path: Path, content: bytes, why: str) -> None:
    with_csv(tmp_path, content)
    page = page_of(tmp_path)
    assert "its figures are left out" in plain(page)
    assert why in plain(page)
    assert not any(name.startswith("offload-") for name in tables(page))
    assert "Without rows there is nothing to find" in page


def test_a_hostile_source_stays_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script> {{ 7*7 }} [x](javascript:1)"
    with_csv(tmp_path, (HEADER + line(source=bad)).encode())
    page = page_of(tmp_path)
    assert "<script" not in page
    assert "{{" not in page
    assert "](javascript" not in page
    assert bad in html.unescape(page)


@pytest.mark.parametrize("name", ["<script>", "{{ 7*7 }}", "[x](y)", "a`b", " ", "M" * 81, "\u202eM"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """Names are drawn into the chart as they stand, so only plain ones are taken."""
    for column in ("model", "quantization"):
        with_csv(tmp_path / column, (HEADER + line(**{column: name})).encode())
        page = page_of(tmp_path / column)
        assert f"column {column}" in plain(page)
        assert "fig-offload" not in page


def test_a_changed_or_missing_table_is_told(tmp_path: Path) -> None:
    folder = published_seed002.write(tmp_path)
    path = folder / "published.csv"
    path.write_text(path.read_text().replace("14.78,1.34", "14.78,0.34"))
    assert "its figures are left out. the bundle has faults." in plain(page_of(tmp_path))
    path.unlink()
    manifest = open_bundle(folder).manifest
    manifest.resources = resources(folder)
    write(folder, manifest)
    assert "the bundle holds no published.csv" in plain(page_of(tmp_path))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured llama.cpp case: F16, and Q4_K_M with everything on the GPU and with experts on the CPU."""
    asked = loads(STUDY.format(weights="real").split('[[workloads]]\nname = "batch"')[0])
    variants = [
        Variant(name="f16", model="m-F16.gguf", method="gguf:F16"),
        Variant(name="q4", model="m-Q4.gguf", method="gguf:Q4_K_M"),
        Variant(name="q4-offload", model="m-Q4.gguf", method="gguf:Q4_K_M", args=["--cpu-moe"]),
    ]
    asked = msgspec.structs.replace(asked, engine=EngineSpec(name="llamacpp"), variants=variants, baseline="f16")
    peak = {"f16": 20_736.0, "q4": 10_496.0, "q4-offload": 2_304.0}

    def row(v: Variant, start: int = 1) -> VariantRow:
        argv = msgspec.json.encode(["llama-server", *v.args]).decode()
        size = 16_000_000_000 if v.name == "f16" else 4_960_000_000
        return msgspec.structs.replace(
            variant_row(v, start), engine="llamacpp", method=v.method, argv=argv, checkpoint_bytes=size,
            bits=16.0 if v.name == "f16" else 4.96, weights_gib=size / 2**30, kv_cache_gib=0.25,
            activations_gib=0.125, vram_idle_mib=256.0, vram_loaded_mib=2_000.0, vram_peak_mib=peak[v.name],
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.makers.variant_row", row)
        return make_bundle(tmp_path_factory.mktemp("measured"), name="gguf", asked=asked)


def test_measured_gguf_cases_stand_in_their_own_table_with_their_offload(gguf: Path) -> None:
    page = page_of(gguf.parent)
    head, *rows = tables(page)["gguf-gguf"]
    assert head[:3] == ["Variant", "File size (MB)", "Bits per weight"]
    by_name = {r[0]: r for r in rows}
    assert by_name["q4"][1:6] == ["4,960", "4.96", "4,730", "256", "128"]
    assert by_name["f16 baseline"][1:3] == ["16,000", "16.0"]
    assert by_name["q4"][-2:] == ["3", "not measured"]
    cells = load(gguf.parent).cases[0].cells
    for at in (1, 8, 16):
        mine = cells[(cells["variant"] == "q4") & (cells["load"] == f"c{at}")]
        shown = by_name["q4"][head.index(f"chat, concurrency {at} (tok/s)")]
        assert shown.startswith(f"{number(mine['throughput_tok_s'].mean())} (")
    assert 'href="../cases/gguf/"' in page
    assert 'data-grade="measured"' in page
    assert head[6:8] == ["Buffers on the GPU (MiB)", "Driver (MiB)"]
    assert by_name["q4"][6:8] == ["–", "10,240"]  # the peak less what was in use before, not the reading once ready
    assert tables(page)["pairs-gguf"][1:] == [["q4", "q4-offload", "10.0", "2.00", "8.00", "80.0", "10.0", "2.00"]]


def changed(gguf: Path, **more: dict[str, float | None]) -> CaseView:
    """The case with other readings of memory: column -> value by variant."""
    case = load(gguf.parent).cases[0]
    rows = [
        msgspec.structs.replace(v, **{name: given[v.variant] for name, given in more.items() if v.variant in given})
        for v in case.variants
    ]
    case.__dict__["variants"] = rows
    return CaseView(case, Options())


def test_the_drivers_peak_stands_beside_the_buffers_and_a_wide_gap_is_marked(gguf: Path) -> None:
    """9,400 of 10,240 MiB is 8.9 % more in the driver's eyes, 1,600 of 2,048 MiB is 28 %."""
    view = changed(gguf, vram_buffers_mib={"q4": 9_400.0, "q4-offload": 1_600.0})
    page = summary.page([view])
    head, row = tables(page)["pairs-gguf"]
    assert head[6:] == ["Driver, baseline (GiB)", "Driver, offload (GiB)"]
    assert row[2:] == ["9.18", "1.56", "7.62", "83.0", "10.0", "2.00 ! +28 % against the buffers"]
    by_name = {r[0]: r for r in tables(page)["gguf-gguf"]}
    assert by_name["q4"][6:8] == ["9,400", "10,240"]
    assert by_name["q4-offload"][6:8] == ["1,600", "2,048 ! +28 % against the buffers"]
    assert "NVML's peak while measuring" in plain(page)
    smaller = changed(gguf, vram_buffers_mib={"q4": 12_000.0, "q4-offload": 2_048.0})
    assert "10.0 ! −15 % against the buffers" in plain(summary.page([smaller]))


def test_without_a_peak_the_reading_once_ready_stands_and_says_so(gguf: Path) -> None:
    view = changed(gguf, vram_peak_mib={"q4": None}, vram_loaded_mib={"q4": 5_376.0})
    assert tables(summary.page([view]))["pairs-gguf"][1][6] == "5.00 once ready"
    assert offload.device(next(r for r in view.case.variants if r.variant == "q4")) == offload.Device(
        None, 5_120.0, "loaded"
    )


def test_without_a_gpu_no_offload_is_claimed(gguf: Path) -> None:
    case = load(gguf.parent).cases[0]
    nothing = {"vram_loaded_mib": None, "vram_peak_mib": None}
    case.__dict__["variants"] = [msgspec.structs.replace(v, **nothing) for v in case.variants]
    assert offload.pairs(case) == []
    assert "Driver (MiB)" not in summary.page([CaseView(case, Options())])
    assert "both with everything on a GPU and with offload" in plain(summary.page([CaseView(case, Options())]))


@pytest.mark.parametrize("argv", ["{", "[[[[", '{"a": 1}', "[1, null]", "", "[" * 100_000])
def test_a_hostile_command_line_is_no_offload(argv: str) -> None:
    assert not offload._offloaded(msgspec.structs.replace(variant_row(Variant(name="f16", model="m")), argv=argv))


def test_vllm_and_simulated_cases_are_no_gguf_cases(tmp_path: Path) -> None:
    make_bundle(tmp_path, name="vllm", weights="real")
    page = page_of(tmp_path)
    assert "No GGUF quantization was measured yet" in page
    assert "There is no published table" in page


def test_nothing_at_all_is_a_page_too() -> None:
    page = summary.page([])
    assert re.findall(r"^## (.+)$", page, flags=re.M) == [
        "VRAM with and without CPU offload", "Key findings", "Which quantization for what",
        "Measured GGUF quantizations", "Testing notes",
    ]  # fmt: skip
    assert "<tbody></tbody>" not in page
    assert page.count('class="qc-none"') == 5
