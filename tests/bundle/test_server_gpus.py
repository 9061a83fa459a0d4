"""Rules about servers over several GPUs: limits of physics count every GPU, and no more than the server's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from collector.bundle.check import check
from collector.bundle.co_location import CO_LOCATION, CoLocated, CoLocation, read_co_location, write_co_location
from collector.bundle.read import open_bundle
from collector.bundle.rules.facts import Facts, gpu_indices
from collector.bundle.schema import TelemetryRow, VariantRow
from collector.bundle.tables import header_line, row_line
from collector.errors import QuantcaseError
from tests.bundle.breaking import Box
from tests.makers import gpu_study, make_bundle, over_gpus, variant_row

KNOWN = {"Q816", "Q902"}  # what the question itself and few requests are told for


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = gpu_study("real")
    small = replace(study, workloads=[replace(study.workload("chat"), concurrency=[16])])
    return make_bundle(tmp_path_factory.mktemp("gpus"), asked=small, weights="real")


def broken(made: Path, out: Path, variant: str = "bf16-2", **more: Any) -> dict[str, list[str]]:
    """Rule -> problems, with the row of one variant changed; but for what is known."""
    box = Box(Path(shutil.copytree(made, out / made.name)))
    rows = [replace(v, **more) if v.variant == variant else v for v in box.variants]
    box.text("variants.csv", header_line(VariantRow) + "".join(row_line(r) for r in rows))
    box.seal()
    found: dict[str, list[str]] = {}
    for f in check(box.folder):
        if f.rule not in KNOWN:
            found.setdefault(f.rule, []).append(f.problem)
    return found


def test_a_server_may_use_the_memory_of_all_its_gpus_and_no_gpu_more_than_it_has(made: Path, tmp_path: Path) -> None:
    assert broken(made, tmp_path / "a", vram_peak_mib=2 * 143_771.0) == {}
    over = broken(made, tmp_path / "b", vram_peak_mib=2 * 143_771.0 + 1)
    assert over == {"Q711": ["287,543 MiB used, the cards have 287,542 MiB"]}
    fullest = broken(made, tmp_path / "c", vram_peak_fullest_mib=143_772.0)
    assert fullest == {"Q711": ["143,772 MiB used on one card, the largest has 143,771 MiB"]}
    one = broken(made, tmp_path / "d", "fp8", vram_peak_mib=143_772.0, vram_peak_fullest_mib=None)  # of a box with two
    assert one == {"Q711": ["143,772 MiB used, the cards have 143,771 MiB"]}


def test_nobody_else_is_on_the_gpus_each_of_them(made: Path, tmp_path: Path) -> None:
    assert broken(made, tmp_path / "a", vram_idle_mib=999.0) == {}
    assert set(broken(made, tmp_path / "b", vram_idle_mib=1_001.0)) == {"Q1104"}


def test_the_arithmetic_is_that_of_all_gpus_for_the_weights_of_all_of_them(made: Path, tmp_path: Path) -> None:
    """W GiB on each of two GPUs, 16 bits: 2 W GiB / 2 bytes weights, two operations each, half of it counted."""

    def figures(out: str, **more: Any) -> tuple[float, float, float]:
        words = broken(made, tmp_path / out, bits=16.0, weights_gib=900.0, **more)["Q710"][0].replace(",", "").split()
        tokens, needed, can = (float(words[i]) for i in (0, 3, -1))
        return tokens, needed, can

    tokens, needed, can = figures("a")
    assert needed == pytest.approx(tokens * 2 * 0.5 * (2 * 900 * 2**30 / 2) / 1e12, rel=0.01)
    alone = figures("b", gpus=1, tensor_parallel=1, gpu_indices="0")
    assert alone[1:] == pytest.approx((needed / 2, can / 2), abs=1)
    copies = figures("c", tensor_parallel=1, data_parallel=2)  # each token is made by one of two whole copies
    assert copies[1:] == pytest.approx((needed / 2, can), abs=1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"gpus": 4}, "4 GPUs, but 2 x 1 x 1 by its sizes"),
        ({"gpu_indices": "0"}, "gpu_indices 0 does not name 2 GPUs, each once"),
        ({"gpu_indices": "0|0"}, "gpu_indices 0|0 does not name 2 GPUs, each once"),
        ({"gpu_indices": "0|x"}, "gpu_indices 0|x does not name 2 GPUs, each once"),
        ({"gpu_indices": "0|7"}, "gpu_indices 0|7: environment.json does not name all of these"),
    ],
)
def test_the_gpus_of_a_server_are_counted_and_named(
    made: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    assert broken(made, tmp_path, **more)["Q522"][0] == words


def test_indices_are_read_as_numbers_or_not_at_all() -> None:
    row = over_gpus(variant_row(gpu_study().variants[0]), gpu_study().variants[0])
    assert gpu_indices(row) == [0, 1]

    def of(indices: str | None) -> list[int]:
        changed: VariantRow = replace(row, gpu_indices=indices)
        return gpu_indices(changed)

    assert of(None) == of("") == of("0|-1") == of("9" * 5000) == []


def test_samples_belong_to_the_variant_that_its_gpu_served(made: Path, tmp_path: Path) -> None:
    """Two servers side by side: what GPU 1 does in the window of the server on GPU 0 is not that server's."""
    box = Box(Path(shutil.copytree(made, tmp_path / made.name)))
    cell = next(c for c in box.cells if c.variant == "fp8")
    assert cell.window_start_s is not None
    t = cell.window_start_s + 0.1
    box.telemetry = [TelemetryRow(t_s=t, gpu=gpu, utilisation_pct=99.0) for gpu in (0, 1)]
    box.save()
    found = [(name, s.gpu) for name, s in Facts(open_bundle(box.folder)).busy]
    assert found == [("fp8", 0)]


def test_a_trial_that_cannot_be_read_is_told_in_one_line(made: Path, tmp_path: Path) -> None:
    assert read_co_location(made) is None
    whole = CoLocation(
        cell={"variant": "bf16-2", "load": "c16"}, alone=CoLocated(tok_s=10.0), together=CoLocated(tok_s=9.0),
        ratio=0.9, low=0.88, high=0.92, region=0.03, allowed=False,
    )  # fmt: skip
    write_co_location(tmp_path, whole)
    assert read_co_location(tmp_path) == whole
    (tmp_path / CO_LOCATION).write_text('{"cell": 3}')
    with pytest.raises(QuantcaseError, match=r"co_location\.json cannot be read"):
        read_co_location(tmp_path)
