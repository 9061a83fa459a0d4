"""A box with four GPUs, as its driver would answer for them: which cards a server gets, and what is written of each."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from tests.faults.server import TOKENS
from tests.faults.tools import SERVER, bundle_in, nothing_left, patched, ran

ROOT = Path(__file__).parents[2]

_BOX = """
import sys
sys.path.insert(0, {root!r})
from tests.probes import fake_nvml
sys.modules['pynvml'] = fake_nvml.FakeNvml(cards=4, nvlinks=0, used_mib=321)
"""

_STUDY = """
id = "pair"
title = "One GPU or two"
gpu = "rtx2000"
base_model = "x/y"
baseline = "two"
weights = "dummy"
repeats = 1
context_tokens = 256
[price]
usd_per_hour = 3600.0
source = "this test"
date = "2026-11-21"
[engine]
name = "vllm"
command = ["sh", "{wrapper}"]
[engine.env]
FAULTS_SWITCH = "{switch}"
[[variants]]
name = "two"
model = "slow"
tensor_parallel = 2
[[variants]]
name = "one"
model = "slow"
[[workloads]]
name = "chat"
input_tokens = 32
output_tokens = {tokens}
concurrency = [1]
requests_per_stream = 2
min_requests = 4
warmup_requests = 1
"""


def study(folder: Path) -> Path:
    wrapper = folder / "serve.sh"
    wrapper.write_text(f'echo "cards $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"\nexec {sys.executable} {SERVER} "$@"\n')
    path = folder / "pair.toml"
    path.write_text(_STUDY.format(wrapper=wrapper, switch=folder / "faults-last", tokens=TOKENS))
    return path


def test_each_server_gets_its_cards_and_every_card_is_written_of(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = patched(
        _BOX.format(root=str(ROOT)), "run", study(tmp_path), "--gpu", "rtx2000", "--gpus", "1,3", "--out", out
    )
    done = ran(command)
    assert done.returncode == 0, done.stderr
    nothing_left(tmp_path)
    folder = bundle_in(out)
    assert errors(check(folder)) == []
    bundle = open_bundle(folder)
    two, one = (next(v for v in bundle.variants() if v.variant == name) for name in ("two", "one"))
    assert (two.gpus, two.tensor_parallel, two.gpu_indices) == (2, 2, "1|3")
    assert (one.gpus, one.tensor_parallel, one.gpu_indices) == (1, 1, "1")
    # 321 MiB on each card: a server's memory is the sum, the fullest card is one of them.
    assert (two.vram_idle_mib, two.vram_peak_mib, two.vram_peak_fullest_mib) == (642, 642, 321)
    assert (one.vram_idle_mib, one.vram_peak_mib, one.vram_peak_fullest_mib) == (321, 321, 321)
    for row, cards in ((two, "1,3"), (one, "1")):
        log = gzip.decompress((folder / "logs" / f"{row.variant}-1.log.gz").read_bytes()).decode()
        assert f"cards {cards} PCI_BUS_ID" in log
    assert {s.gpu for s in bundle.telemetry()} == {1, 3}
    session = bundle.environment().sessions[0]
    assert len(session.gpus) == 4
    assert [(p["a"], p["b"], p["path"]) for p in session.interconnect][:2] == [(0, 1, "phb"), (0, 2, "sys")]
    # Two GPUs are held while the run lasts: at 3,600 $/h each, two dollars a second.
    assert session.usd is not None
    assert session.minutes is not None
    assert abs(session.usd - 120 * session.minutes) < 0.1


def test_a_box_with_too_few_gpus_is_told_before_anything_starts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = patched(
        _BOX.format(root=str(ROOT)), "run", study(tmp_path), "--gpu", "rtx2000", "--gpus", "2", "--out", out
    )
    done = ran(command)
    assert done.returncode == 1
    assert "variant two takes 2 GPUs, this run may use 1" in done.stderr
    assert not out.exists()
