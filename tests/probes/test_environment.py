import getpass
import os
import re
import socket
from pathlib import Path

import msgspec
import pytest

import collector
from collector.probes.environment import capture, host_facts, software_facts
from collector.probes.nvml import Gpus
from tests.probes.fake_nvml import FakeNvml


def test_a_session_holds_card_host_and_software() -> None:
    session = capture(Gpus.open(FakeNvml()), {"vllm": "0.26.0"}, session=2, wall_unix_s=1_700_000_000, monotonic_s=5.0)
    assert (session.session, session.started, session.monotonic_s) == (2, "2023-11-14T22:13:20+00:00", 5.0)
    assert session.gpus[0]["name"] == "NVIDIA RTX 2000 Ada Generation"
    assert session.software["vllm"] == "0.26.0"
    assert session.software["collector"] == collector.__version__
    assert session.software["aiohttp"]
    assert session.host["cores"] == os.cpu_count()


def test_without_a_gpu_there_is_still_a_session() -> None:
    assert capture(Gpus.open(FakeNvml(driver=False))).gpus == []


def test_the_clock_pair_is_taken_now() -> None:
    session = capture(Gpus.open(FakeNvml(driver=False)))
    assert session.wall_unix_s > 1.7e9
    assert session.monotonic_s > 0


def test_nothing_names_the_host_the_user_or_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_Verysecret1234")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    text = msgspec.json.encode(capture(Gpus.open(FakeNvml()))).decode()
    names = {socket.gethostname(), str(Path(collector.__file__).parent.parent)}
    if len(getpass.getuser()) > 4:
        names.add(getpass.getuser())
    for name in names:
        assert name not in text
    assert "hf_Verysecret1234" not in text
    assert not re.search(r"/home/|/root", text)


def test_host_facts_are_plausible_here() -> None:
    host = host_facts()
    assert host["ram_gib"] is None or host["ram_gib"] > 0.1
    assert 1 <= host["cores_usable"] <= host["cores"]
    assert isinstance(host["container"], bool)


def test_a_checkout_states_its_revision() -> None:
    facts = software_facts()
    if (Path(collector.__file__).resolve().parent.parent / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}", facts["collector_revision"])
