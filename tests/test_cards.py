"""Which GPUs a run may use, and what an engine is told of them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from collector import gpus as profiles
from collector import study as studies
from collector.bundle.schema import TelemetryRow
from collector.card import Card
from collector.cards import check_parallel, indices, needed, seen_by_engine, usable
from collector.engines.base import ServeRequest
from collector.engines.vllm import arguments
from collector.errors import QuantcaseError, UsageFault
from collector.probes.nvml import Gpus
from collector.probes.sampler import Sampler
from collector.study import Study, Variant
from tests.probes.fake_nvml import FakeNvml

ADA = profiles.get("rtx2000")


def box(cards: int = 4) -> Gpus:
    return Gpus.open(FakeNvml(cards=cards))


def study(tensor_parallel: int = 1, pipeline_parallel: int = 1, data_parallel: int = 1) -> Study:
    wide = Variant(
        name="wide", model="m", tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel,
        data_parallel=data_parallel,
    )  # fmt: skip
    given = studies.load("rtx2000")
    return msgspec.structs.replace(given, variants=[*given.variants, wide])


@pytest.mark.parametrize(("text", "found"), [(None, None), ("all", None), ("0", (0,)), ("2, 0", (2, 0))])
def test_gpus_are_named_by_number(text: str | None, found: tuple[int, ...] | None) -> None:
    assert indices(text) == found


@pytest.mark.parametrize("text", ["", "a", "0,0", "-1", "0,"])
def test_what_names_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="--gpus 0,1"):
        indices(text)


def test_all_of_the_named_kind_may_be_used_or_those_that_are_named() -> None:
    assert usable(ADA, box(), environment={}) == (0, 1, 2, 3)
    assert usable(ADA, box(), named=(2, 1), environment={}) == (2, 1)
    with pytest.raises(UsageFault, match="4 GPUs, counted from 0"):
        usable(ADA, box(), named=(4,), environment={})


def test_what_a_scheduler_hides_is_never_taken() -> None:
    assert usable(ADA, box(), environment={"CUDA_VISIBLE_DEVICES": "1,3"}) == (1, 3)
    assert usable(ADA, box(), environment={"CUDA_VISIBLE_DEVICES": "GPU-0000-2"}) == (2,)
    # A card that is named twice is one place, and CUDA hides whatever stands behind a number that is not there.
    assert usable(ADA, box(), environment={"CUDA_VISIBLE_DEVICES": "1,1,GPU-0000-1,2"}) == (1, 2)
    assert usable(ADA, box(), environment={"CUDA_VISIBLE_DEVICES": "1,-1,3"}) == (1,)
    with pytest.raises(QuantcaseError, match="CUDA_VISIBLE_DEVICES hides it"):
        usable(ADA, box(), named=(0,), environment={"CUDA_VISIBLE_DEVICES": "1,3"})
    with pytest.raises(QuantcaseError, match="leaves no GPU"):
        usable(ADA, box(), environment={"CUDA_VISIBLE_DEVICES": ""})


def test_another_card_needs_leave() -> None:
    h200 = profiles.get("h200")
    with pytest.raises(QuantcaseError, match="names an NVIDIA H200"):
        usable(h200, box(), environment={})
    assert usable(h200, box(), allow_other=True, environment={}) == (0,)
    assert usable(h200, box(), named=(1, 2), allow_other=True, environment={}) == (1, 2)


def test_a_server_that_finds_no_room_is_refused_before_anything_starts() -> None:
    given = study(tensor_parallel=2, pipeline_parallel=2).variants
    assert needed(given, (0, 1, 2, 3), ADA) == 4
    assert needed(given[:-1], (0,), ADA) == 1  # a resumed run that leaves the wide one out
    with pytest.raises(QuantcaseError, match="variant wide takes 4 GPUs, this run may use 2"):
        needed(given, (0, 1), ADA)


def test_an_engine_sees_its_cards_and_no_others() -> None:
    variant = Variant(name="v", model="m")
    assert seen_by_engine(box(), (2, 3), variant, {}) == {
        "CUDA_VISIBLE_DEVICES": "2,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert seen_by_engine(box(1), (0,), variant, {}) == {}  # one card: nothing to choose
    with pytest.raises(UsageFault, match="use --gpus"):
        seen_by_engine(box(), (0,), variant, {"CUDA_VISIBLE_DEVICES": "1"})


@pytest.mark.parametrize("argument", ["--tensor-parallel-size", "-tp", "--data-parallel-size=2"])
def test_several_gpus_among_the_arguments_would_be_counted_by_nobody(argument: str) -> None:
    given = study()
    given.variants[-1].args = [argument]
    with pytest.raises(UsageFault, match="stands among the engine's arguments"):
        check_parallel(given)


def test_llama_cpp_takes_one_gpu() -> None:
    with pytest.raises(UsageFault, match="with vLLM"):
        check_parallel(msgspec.structs.replace(study(tensor_parallel=2), engine=studies.EngineSpec(name="llamacpp")))


def test_vllm_is_told_how_to_share() -> None:
    given = study(tensor_parallel=2, data_parallel=3)
    request = ServeRequest(
        study=given, variant=given.variants[-1], spec=given.engine, port=1, log_path=Path("x"), work=Path("x")
    )
    line = " ".join(arguments(request))
    assert "--tensor-parallel-size 2 --data-parallel-size 3" in line
    assert "--pipeline-parallel-size" not in line


class _Box:
    """Two cards whose memory moves against each other: the highest sum is not the sum of the highest."""

    def __init__(self) -> None:
        self.used = [[10.0, 90.0, 50.0], [90.0, 10.0, 60.0]]

    def sample(self, index: int, t_s: float) -> TelemetryRow:
        values = self.used[index]
        return TelemetryRow(t_s=t_s, gpu=index, vram_used_mib=values.pop(0) if len(values) > 1 else values[0])


def test_memory_of_a_server_is_the_sum_of_its_cards_at_one_time() -> None:
    rows: list[TelemetryRow] = []
    with Sampler(_Box(), (0, 1), rows.append, hz=200) as sampler:
        while len(rows) < 8:
            time.sleep(0.005)
    assert sampler.peak_mib == 110  # 50 + 60, and never 90 + 90
    assert sampler.fullest_mib == 90
    assert [r.gpu for r in rows[:4]] == [0, 1, 0, 1]
    assert rows[0].t_s == rows[1].t_s


def test_memory_in_use_needs_every_card_to_say() -> None:
    assert Card(box(), 0, 2).used_mib() == pytest.approx(6)
    silent = Gpus.open(FakeNvml(cards=2, unsupported=frozenset({"nvmlDeviceGetMemoryInfo"})))
    assert Card(silent, 0, 1).used_mib() is None
    assert Card(box()).used_mib() is None
