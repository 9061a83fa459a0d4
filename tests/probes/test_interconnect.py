"""How GPUs are joined, out of the driver's answers."""

from __future__ import annotations

import pytest

from collector.probes.environment import capture
from collector.probes.interconnect import Link, links, settings
from collector.probes.nvml import Gpus
from tests.probes.fake_nvml import FakeNvml


def test_every_pair_has_its_way() -> None:
    found = links(Gpus.open(FakeNvml(cards=3)))
    assert found == [Link(0, 1, "phb", 0, True), Link(0, 2, "sys", 0, False), Link(1, 2, "sys", 0, False)]


def test_nvlinks_that_are_up_are_the_way() -> None:
    assert links(Gpus.open(FakeNvml(cards=2, nvlinks=18))) == [Link(0, 1, "nvlink", 18, True)]


def test_what_the_driver_does_not_say_is_unknown() -> None:
    silent = frozenset({"nvmlDeviceGetTopologyCommonAncestor", "nvmlDeviceGetP2PStatus"})
    assert links(Gpus.open(FakeNvml(cards=2, unsupported=silent))) == [Link(0, 1, None, 0, None)]


def test_one_card_has_no_pair_and_the_session_says_so() -> None:
    assert links(Gpus.open(FakeNvml())) == []
    assert capture(Gpus.open(FakeNvml())).interconnect == []
    assert capture(Gpus.open(FakeNvml(cards=2))).interconnect == [
        {"a": 0, "b": 1, "path": "phb", "nvlinks": 0, "p2p": True}
    ]


def test_what_changes_how_gpus_talk_is_recorded_and_nothing_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    monkeypatch.setenv("NCCL_ALGO", "$(cat ~/.netrc)")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth-of-the-client")
    assert settings({"NCCL_P2P_LEVEL": "NVL"}) == {"NCCL_NVLS_ENABLE": "0", "NCCL_P2P_LEVEL": "NVL"}
    told = capture(Gpus.open(FakeNvml(cards=2)), env={"NCCL_P2P_LEVEL": "NVL"}).software
    assert (told["NCCL_NVLS_ENABLE"], told["NCCL_P2P_LEVEL"]) == ("0", "NVL")
    assert not [name for name in capture(Gpus.open(FakeNvml())).software if name.startswith("NCCL")]
