import re
import tomllib
from importlib import resources

import pytest

from collector import gpus, study
from collector.errors import UsageFault

NAMES = "rtx2000 rtx4090 rtx3090 l4 l40s a10 a100 a100-40 h100 h200 gh200 b200 t4 cpu demo".split()


def test_the_profiles_are_these() -> None:
    assert list(gpus.load()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_source_and_date(name: str) -> None:
    for key, figure in gpus.get(name).figures().items():
        assert figure.value > 0, key
        assert len(figure.source) > 5, key
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", figure.date), key
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.value <= figure.high, key


def test_every_number_of_the_file_is_a_figure() -> None:
    data = tomllib.loads(resources.files("collector").joinpath("gpus.toml").read_text("utf-8"))
    for name, entry in data.items():
        loose = [k for k, v in entry.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        assert loose == [], name


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_has_a_study_that_loads(name: str) -> None:
    assert study.load(gpus.get(name).study).cells()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("cpu", "demo")])
def test_every_card_has_memory_bandwidth_arithmetic_and_a_price(name: str) -> None:
    p = gpus.get(name)
    assert p.memory_gib
    assert p.bandwidth_gb_s
    assert p.price_usd_per_hour
    assert p.nvml_names
    assert p.bf16_native is (p.bf16_tflops is not None)
    assert p.fp8_native is (p.fp8_tflops is not None)


def test_tflops_are_dense() -> None:
    assert gpus.get("h100").bf16_tflops.value == 989  # type: ignore[union-attr]
    assert gpus.get("rtx2000").fp8_tflops.value == 96  # type: ignore[union-attr]


def test_figures_from_memory_are_told_apart() -> None:
    gh200 = gpus.get("gh200")
    assert gh200.price_usd_per_hour is not None
    assert not gh200.price_usd_per_hour.verified
    assert all(f.verified for f in gpus.get("h200").figures().values())


def test_the_small_cards_price_is_the_briefs() -> None:
    price = gpus.get("rtx2000").price_usd_per_hour
    assert price is not None
    assert (price.value, price.source) == (0.25, "project brief")


def test_the_replay_profile_has_the_figures_of_what_it_replays() -> None:
    demo = gpus.get("demo")
    assert (demo.kind, demo.device, demo.simulated) == ("replay", "h200", True)
    assert demo.figures() == gpus.get("h200").figures()
    assert gpus.get("cpu").figures() == {}


@pytest.mark.parametrize("asked", ["H200", "h200", " h-200 "])
def test_names_are_forgiving(asked: str) -> None:
    assert gpus.get(asked).name == "h200"


@pytest.mark.parametrize(("asked", "near"), [("h20", "h200"), ("rtx200", "rtx2000"), ("a1000", "a100")])
def test_an_unknown_name_tells_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(UsageFault, match=f"did you mean {near}"):
        gpus.get(asked)


def test_a_name_like_none_lists_the_profiles() -> None:
    with pytest.raises(UsageFault, match="profiles: rtx2000"):
        gpus.get("voodoo")


@pytest.mark.parametrize(
    ("nvml_name", "mib", "name"),
    [
        ("NVIDIA RTX 2000 Ada Generation", 16380, "rtx2000"),
        ("NVIDIA GeForce RTX 4090", 24564, "rtx4090"),
        ("NVIDIA GeForce RTX 3090", 24576, "rtx3090"),
        ("NVIDIA L4", 23034, "l4"),
        ("NVIDIA L40S", 46068, "l40s"),
        ("NVIDIA A10", 23028, "a10"),
        ("NVIDIA A100-SXM4-80GB", 81920, "a100"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100"),
        ("NVIDIA A100-SXM4-40GB", 40960, "a100-40"),
        ("NVIDIA A100-PCIE-40GB", 40960, "a100-40"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100"),
        ("NVIDIA H200", 143771, "h200"),
        ("NVIDIA GH200 480GB", 97871, "gh200"),
        ("NVIDIA GH200 144G HBM3e", 147456, "gh200"),
        ("NVIDIA B200", 183359, "b200"),
        ("Tesla T4", 15360, "t4"),
        ("NVIDIA RTX 2000 Ada Generation Laptop GPU", 8188, None),
        ("NVIDIA GeForce RTX 4090 D", 24564, None),
        ("NVIDIA A10G", 23028, None),
        ("NVIDIA H100 PCIe", 81559, None),
        ("NVIDIA H200 NVL", 143771, None),
        ("NVIDIA GB200", 189471, None),
        ("NVIDIA H200", 18000, None),  # a MIG slice
    ],
)
def test_a_card_is_recognised_by_the_drivers_name_and_memory(nvml_name: str, mib: float, name: str | None) -> None:
    found = gpus.recognise(nvml_name, mib)
    assert (found.name if found else None) == name
