import os
import resource
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from collector import gpus, study
from collector.doctor import Finding, diagnose, doctor_table
from collector.probes.nvml import Gpus
from tests.probes.fake_nvml import FakeNvml


def look(nvml: FakeNvml, card: str = "rtx2000", ports: tuple[int, ...] = ()) -> dict[str, Finding]:
    found = diagnose(gpus.get(card), study.load("rtx2000"), ["true"], gpus=Gpus.open(nvml), ports=ports)
    return {f.what: f for f in found}


def test_a_good_box_has_no_error() -> None:
    found = look(FakeNvml())
    assert [f.what for f in found.values() if f.level == "error"] == []
    assert found["GPU"].detail == "NVIDIA RTX 2000 Ada Generation, 16.0 GiB is rtx2000"
    assert found["driver"].detail == "570.86.15, CUDA 12.8"
    assert found["persistence mode"].level == "warning"
    assert "nvidia-smi -pm 1" in found["persistence mode"].fix


def test_without_a_driver_it_says_what_to_do() -> None:
    finding = look(FakeNvml(driver=False))["driver"]
    assert finding.level == "error"
    assert "--gpu cpu" in finding.fix


def test_it_works_on_this_box_whatever_it_has() -> None:
    assert diagnose(ports=())


def test_a_profile_without_a_gpu_asks_for_none() -> None:
    found = diagnose(gpus.get("cpu"), gpus=Gpus.open(FakeNvml(driver=False)), ports=())
    assert found[0] == Finding("ok", "GPU", "profile cpu needs none")


def test_another_card_than_the_named_is_an_error_that_names_both() -> None:
    finding = look(FakeNvml(name="NVIDIA L4", total_mib=23034))["GPU"]
    assert finding.level == "error"
    assert "NVIDIA L4" in finding.detail
    assert "rtx2000" in finding.detail
    assert finding.fix == "use --gpu l4"


def test_other_processes_and_used_memory_are_errors() -> None:
    found = look(FakeNvml(pids=(os.getpid(), 71), used_mib=9000))
    assert found["GPU is free"].detail == "1 other processes on it: pid 71"
    assert found["GPU memory"].level == "warning"
    assert look(FakeNvml(used_mib=9000))["GPU memory"].level == "error"  # held from outside the container


@pytest.mark.parametrize(("reasons", "level"), [(0x1, "ok"), (0x4, "ok"), (0x40, "error"), (0x80, "error")])
def test_a_slowed_card_is_an_error_an_idle_or_capped_one_is_not(reasons: int, level: str) -> None:
    assert look(FakeNvml(reasons=reasons))["clocks"].level == level


def test_a_lowered_power_limit_and_mig_are_told() -> None:
    found = look(FakeNvml(power_limit_w=50, mig=1))
    assert found["power limit"].detail == "50 W, the card's default is 70 W"
    assert found["MIG"].level == "warning"


def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        assert look(FakeNvml(), ports=(port,))[f"port {port}"].level == "error"


def test_a_missing_engine_names_the_mend() -> None:
    found = diagnose(
        gpus.get("rtx2000"), study.load("rtx2000"), ["no-such-engine"], gpus=Gpus.open(FakeNvml()), ports=()
    )
    (finding,) = [f for f in found if f.what == "engine"]
    assert (finding.level, finding.detail) == ("error", "no-such-engine is not installed or not on PATH")


def test_a_full_disk_is_told_for_results_and_for_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 1024**2))
    found = look(FakeNvml())
    assert found["disk for results"].level == "error"
    assert found["disk for models"].level == "warning"
    assert "9.6 GiB" in found["disk for models"].detail  # 5.75 + 1.92 + 1.91


def test_a_low_limit_of_open_files_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert look(FakeNvml())["open files"].fix == "ulimit -n 4096"


def test_no_secret_is_printed(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text("#!/bin/sh\necho engine 1.0 hf_Abcdefghij1234567890 on 10.1.2.3\n")
    engine.chmod(0o755)
    found = diagnose(gpus.get("rtx2000"), None, [str(engine)], gpus=Gpus.open(FakeNvml()), ports=())
    (finding,) = [f for f in found if f.what == "engine"]
    assert finding.detail == "engine engine 1.0 [removed] on [removed]"
    assert not any(str(tmp_path) in f.detail + f.fix for f in found)


def test_the_table_fits_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as out:
        console.print(doctor_table(diagnose(gpus.get("rtx2000"), study.load("rtx2000"), ports=())))
    assert max(map(len, out.get().splitlines())) <= 80
