import hashlib
import os

import msgspec
import pytest

from collector.probes.nvml import Gpus, reason_names
from tests.probes.fake_nvml import FakeNvml

QUESTIONS = frozenset(
    {
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetMemoryInfo",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetPersistenceMode",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses",
    }
)


def test_a_card_is_described_in_our_units() -> None:
    (card,) = Gpus.open(FakeNvml()).cards
    assert (card.name, card.vram_mib, card.driver, card.cuda) == (
        "NVIDIA RTX 2000 Ada Generation",
        16380,
        "570.86.15",
        "12.8",
    )
    assert card.compute_capability == pytest.approx(8.9)
    assert (card.power_limit_w, card.sm_clock_max_mhz, card.memory_clock_max_mhz) == (70, 3105, 7001)
    assert (card.ecc, card.mig, card.persistence) == (True, False, False)


def test_the_uuid_is_written_hashed_only() -> None:
    (card,) = Gpus.open(FakeNvml()).cards
    assert card.uuid_sha256 == hashlib.sha256(b"GPU-0000-0").hexdigest()[:16]
    assert b"GPU-0000" not in msgspec.json.encode(card)


def test_a_sample_is_a_telemetry_row_in_its_units() -> None:
    row = Gpus.open(FakeNvml(used_mib=14000, reasons=0x4)).sample(0, 1.5)
    assert msgspec.structs.astuple(row) == (1.5, 0, 14000, 97, 68.5, 1234.5, 2130, 6800, 61, "sw_power_cap")


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_what_a_card_does_not_support_is_none_and_the_rest_stands(question: str) -> None:
    gpus = Gpus.open(FakeNvml(unsupported=frozenset({question})))
    row = gpus.sample(0, 0.0)
    assert gpus.cards[0].name
    assert row.gpu == 0
    gpus.processes(0)


def test_a_card_that_supports_nothing_gives_none_throughout() -> None:
    gpus = Gpus.open(FakeNvml(unsupported=QUESTIONS))
    assert all(v is None for v in msgspec.structs.astuple(gpus.cards[0])[2:])
    assert all(v is None for v in msgspec.structs.astuple(gpus.sample(0, 0.0))[2:])
    assert gpus.used_mib(0) is None
    assert gpus.processes(0) is None


def test_an_old_driver_is_asked_for_throttle_reasons_by_their_old_name() -> None:
    old = FakeNvml(reasons=0x40, unsupported=frozenset({"nvmlDeviceGetCurrentClocksEventReasons"}))
    assert Gpus.open(old).throttle_reasons(0) == "hw_thermal_slowdown"


def test_without_a_driver_there_are_zero_cards_and_a_reason() -> None:
    gpus = Gpus.open(FakeNvml(driver=False))
    assert len(gpus) == 0
    assert gpus.cards == []
    assert "Library Not Found" in gpus.problem
    gpus.close()


def test_the_real_binding_without_a_driver_is_no_exception() -> None:
    with Gpus.open() as gpus:
        assert len(gpus) == len(gpus.cards)


def test_a_driver_without_cards_says_so() -> None:
    assert "no GPU" in Gpus.open(FakeNvml(cards=0)).problem


def test_closing_twice_shuts_down_once() -> None:
    nvml = FakeNvml()
    with Gpus.open(nvml) as gpus:
        assert nvml.open == 1
    gpus.close()
    assert nvml.open == 0


def test_other_processes_are_pids_and_memory_without_our_own() -> None:
    gpus = Gpus.open(FakeNvml(pids=(os.getpid(), 7, 8)))
    found = gpus.processes(0)
    assert found is not None
    assert [(p.pid, p.used_mib) for p in found] == [(7, 512), (8, None)]


def test_bytes_of_older_bindings_are_text() -> None:
    assert Gpus.open(FakeNvml(name=b"Tesla T4")).cards[0].name == "Tesla T4"


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, ""),
        (0x1, "gpu_idle"),
        (0x4 | 0x20, "sw_power_cap|sw_thermal_slowdown"),
        (0x8 | 0x40 | 0x80, "hw_slowdown|hw_thermal_slowdown|hw_power_brake_slowdown"),
        (0x8000, "0x8000"),
    ],
)
def test_throttle_reasons_have_names(bits: int, names: str) -> None:
    assert reason_names(bits) == names
