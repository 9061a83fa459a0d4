"""Faults of the box: signals, a second collector, the disk, the clock, the driver."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from collector.bundle.read import open_bundle
from collector.card import Card
from collector.probes.nvml import Gpus
from tests.e2e.tools import COLLECT, start
from tests.faults.tools import (
    bundle_in,
    cells_on_disk,
    collected,
    error_of,
    last_starts,
    levels,
    mended,
    nothing_left,
    patched,
    ran,
    rows_on_disk,
    study,
    until,
)
from tests.probes.fake_nvml import FakeNvml

ROOT = Path(__file__).parents[2]
SLOW = {"bf16": "slow", "awq": "slow"}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Stopped(NamedTuple):
    folder: Path  # where study and bundle lie
    bundle: Path
    second: subprocess.CompletedProcess[str]  # the collector that came second
    code: int
    stderr: str
    kept: set[str]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A run that had a second collector beside it, and was ended by TERM in the middle of a cell."""
    folder = tmp_path_factory.mktemp("stopped")
    out = folder / "out"
    first = start("run", study(folder, SLOW, repeats=2, requests=8), "--gpu", "cpu", "--out", out)
    until(lambda: cells_on_disk(out) >= 1)
    second = collected("run", "--resume", bundle_in(out))
    first.send_signal(signal.SIGTERM)
    _, stderr = first.communicate(timeout=60)
    nothing_left(folder)
    mended(folder)  # what is resumed need not be slow
    return Stopped(folder, bundle_in(out), second, first.returncode, stderr, rows_on_disk(bundle_in(out)))


@pytest.fixture
def copy(stopped: Stopped, tmp_path: Path) -> Path:
    """The stopped bundle, to be resumed in many ways."""
    return shutil.copytree(stopped.bundle, tmp_path / stopped.bundle.name)


def test_a_second_collector_is_refused_and_spoils_nothing(stopped: Stopped) -> None:
    assert stopped.second.returncode == 1
    said = error_of(stopped.second)
    assert f"{stopped.bundle.name} is being written by another collector; wait for its end, or stop it" in said
    assert len(open_bundle(stopped.bundle).environment().sessions) == 1


def test_term_closes_the_bundle_and_says_how_to_go_on(stopped: Stopped) -> None:
    assert stopped.code == 1
    assert stopped.stderr.strip() == f"error: interrupted; go on with: collect run --resume {stopped.bundle}"
    bundle = open_bundle(stopped.bundle)
    assert (bundle.info.status, levels(stopped.bundle)) == ("interrupted", ["interrupted"])
    assert bundle.variants()[-1].error == "stopped by the user"
    assert bundle.manifest.resources, "it was closed: every file has its hash"


def test_a_stopped_run_is_completed_by_resume(stopped: Stopped, copy: Path) -> None:
    done = collected("run", "--resume", copy)
    assert done.returncode == 0, done.stderr
    assert (open_bundle(copy).info.status, levels(copy)) == ("complete", [])
    assert stopped.kept <= rows_on_disk(copy)
    assert len(open_bundle(copy).cells()) == 2 * 2 * 2


def no_override() -> None:
    """In the child: even root keeps to the modes of files from its next exec on (CAP_DAC_OVERRIDE, bounding set)."""
    pr_capbset_drop, cap_dac_override = 24, 1
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def test_a_bundle_that_cannot_be_written_to_stays_as_it_is(copy: Path) -> None:
    before = content(copy)
    with read_only(copy):
        done = ran([*COLLECT, "run", "--resume", str(copy)], preexec=no_override)
    assert done.returncode == 1
    assert f"{copy} cannot be written: Permission denied; make it writable; go on with:" in error_of(done)
    assert content(copy) == before


def test_an_out_folder_that_cannot_be_written_to_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "closed"
    out.mkdir()
    path = study(tmp_path, {"bf16": "fine"})
    with read_only(out):
        done = ran([*COLLECT, "run", str(path), "--gpu", "cpu", "--out", str(out)], preexec=no_override)
    assert done.returncode == 1
    assert f"{out} cannot be written: Permission denied; choose another folder with --out" in error_of(done)
    assert not list(out.iterdir())
    nothing_left(tmp_path)


def test_a_clock_behind_the_bundle_is_refused_before_anything_is_written(copy: Path) -> None:
    before = content(copy)
    code = "import time\nnow = time.time\ntime.time = lambda: now() - 3600"
    done = ran(patched(code, "run", "--resume", copy))
    assert done.returncode == 1
    assert "s behind the last measurement in" in error_of(done)
    assert "set the clock (timedatectl), then resume" in error_of(done)
    assert content(copy) == before


def test_a_wall_clock_that_is_set_back_in_the_middle_moves_no_row(tmp_path: Path) -> None:
    """Two hours back once the first repeat is on disk: all times are of the monotonic clock."""
    out = tmp_path / "out"
    code = (
        "import glob, time\nnow = time.time\n"
        f"moved = lambda: any(open(f).read().count('\\n') > 1 for f in glob.glob({str(out)!r} + '/*/cells.csv'))\n"
        "time.time = lambda: now() - 7200 * moved()"
    )
    path = study(tmp_path, {"bf16": "fine", "awq": "fine"}, requests=4)
    began = time.monotonic()
    done = ran(patched(code, "run", path, "--gpu", "cpu", "--out", out))
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    folder = bundle_in(out)
    starts = [r.started_s for r in open_bundle(folder).requests()]
    assert starts == sorted(starts)
    assert 0 < starts[0] <= starts[-1] < took_s
    minutes = open_bundle(folder).environment().sessions[0].minutes
    assert minutes is not None
    assert 0 < minutes < took_s / 60
    assert levels(folder) == []


def test_a_second_ctrl_c_ends_at_once_an_engine_that_will_not_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = study(tmp_path, {"bf16": "stubborn"}, repeats=9, requests=8, stop_s=200)
    running = start("run", path, "--gpu", "cpu", "--out", out)
    until(lambda: cells_on_disk(out) >= 1)
    running.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(1.0)  # it waits for its engine, which has 200 s
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    folder = bundle_in(out)
    assert (running.returncode, len(stderr.strip().splitlines())) == (1, 1), stderr
    assert f"collect run --resume {folder}" in stderr
    nothing_left(tmp_path)
    assert levels(folder) == ["interrupted"]
    assert open_bundle(folder).cells()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[subprocess.Popen[str]], Callable[[], object]]]:
    """A folder on a disk that can be filled: a tmpfs where we may mount one, else a limit on the size of files.

    Gives what fills it up under a running collector, which gives what makes room again.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(running: subprocess.Popen[str]) -> Callable[[], object]:
        if not mounted:
            size = (bundle_in(folder) / "requests.csv").stat().st_size
            resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (size, size))
            return lambda: None
        filler = folder.parent / "filler" if not mounted else folder / ".filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as f:
            while True:
                f.write(b"\0" * 4096)
        return filler.unlink

    try:
        yield fill
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_keeps_what_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "disk"
    with small_disk(out) as fill:
        path = study(tmp_path, SLOW, repeats=3, requests=8)
        running = start("run", path, "--gpu", "cpu", "--out", out)
        until(lambda: cells_on_disk(out) >= 1)
        make_room = fill(running)
        _, stderr = running.communicate(timeout=90)
        nothing_left(tmp_path)
        folder = next(p for p in out.iterdir() if p.is_dir())
        assert running.returncode == 1
        assert len(stderr.strip().splitlines()) == 1, stderr
        assert f"make room; go on with: collect run --resume {folder}" in stderr
        assert "No space left on device" in stderr or "File too large" in stderr
        assert open_bundle(folder).info.status == "interrupted"
        assert levels(folder) == ["interrupted"]
        kept = rows_on_disk(folder)
        assert kept
        make_room()
        mended(tmp_path)  # quicker
        done = collected("run", "--resume", folder)
        assert done.returncode == 0, done.stderr
        assert (open_bundle(folder).info.status, levels(folder)) == ("complete", [])
        assert kept <= rows_on_disk(folder)


# -- the driver ------------------------------------------------------------------------------------------------------

# Half an RTX 2000 Ada (MIG slices answer no utilization); once the first repeat is on disk the card is lost.
_LOST_CARD = """
import glob, sys
sys.path.insert(0, {root!r})
from tests.probes import fake_nvml
def lost():
    return any(open(f).read().count(chr(10)) > 1 for f in glob.glob({out!r} + '/*/cells.csv'))
class Slice(fake_nvml.FakeNvml):
    def __getattr__(self, name):
        ask = super().__getattr__(name)
        def asked(*arguments):
            if lost():
                raise fake_nvml.NVMLError('GPU is lost')
            return ask(*arguments)
        return asked
sys.modules['pynvml'] = Slice(
    mig=1, total_mib=8000, used_mib=321, unsupported=frozenset({{'nvmlDeviceGetUtilizationRates'}})
)
"""


def test_a_slice_of_a_card_is_not_the_card_and_a_lost_driver_takes_no_row_with_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = _LOST_CARD.format(root=str(ROOT), out=str(out))
    path = study(tmp_path, {"bf16": "slow", "awq": "slow"}, gpu="rtx2000", requests=4)
    refused = ran(patched(code, "run", path, "--gpu", "rtx2000", "--out", out))
    assert refused.returncode == 1
    assert "`--allow-other-gpu` to record both" in error_of(refused)
    assert not out.exists()
    done = ran(patched(code, "run", path, "--gpu", "rtx2000", "--out", out, "--allow-other-gpu"))
    assert done.returncode == 0, done.stderr
    assert "WARNING the driver no longer answers" in done.stdout
    folder = bundle_in(out)
    bundle = open_bundle(folder)
    assert (bundle.info.status, levels(folder)) == ("complete", [])
    card = bundle.environment().sessions[0].gpus[0]
    assert (card["mig"], card["vram_mib"]) == (True, 8000)
    samples = list(bundle.telemetry())
    assert all(a.t_s <= b.t_s for a, b in pairwise(samples))
    assert (samples[0].vram_used_mib, samples[0].power_w, samples[0].utilisation_pct) == (321, 68.5, None)
    assert samples[-1].vram_used_mib is samples[-1].power_w is None  # said to be unknown, not zero
    rows = last_starts(bundle)
    assert (rows["bf16"].vram_idle_mib, rows["bf16"].vram_peak_mib) == (321, 321)
    assert rows["awq"].vram_idle_mib is rows["awq"].vram_peak_mib is None
    assert {(c.variant, c.load, c.ok) for c in bundle.cells()} == {
        (v, load, 4) for v in ("bf16", "awq") for load in ("c1", "c2")
    }


async def test_memory_that_is_still_held_is_told_and_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(used_mib=12_003)
    said: list[str] = []
    card = Card(Gpus.open(nvml), 0)
    monkeypatch.setattr("collector.card._RELEASE_S", 0.3)
    await card.released(3.0, said.append)
    assert said == ["WARNING 12000 MiB of VRAM are still held after the engine was stopped"]
    nvml.used_mib = 250  # give or take what a display holds
    await card.released(3.0, said.append)
    assert len(said) == 1
