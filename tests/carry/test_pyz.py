"""collect.pyz in an empty environment: no package, no pip, nothing but Python."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from collector import __version__
from collector.bundle import archive
from collector.bundle.check import check
from collector.bundle.read import open_bundle

ROOT = Path(__file__).parents[2]
STUDY = """
id = "small"
title = "A replay, as short as can be"
gpu = "demo"
base_model = "Llama-3.1-8B (shape only)"
baseline = "bf16"
weights = "dummy"
repeats = 1
[engine]
name = "replay"
[[variants]]
name = "bf16"
model = "bf16"
[[workloads]]
name = "chat"
input_tokens = 32
output_tokens = 16
concurrency = [2]
requests_per_stream = 2
min_requests = 4
warmup_requests = 1
"""


class Box:
    """A machine with a bare Python: an environment without packages, and an empty home."""

    def __init__(self, folder: Path, pyz: Path) -> None:
        self.folder, self.pyz = folder, pyz
        (folder / "home").mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "bare")], check=True)

    def collect(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bare" / "bin" / "python"), "-I", "-S", str(self.pyz), *args],
            env={"HOME": str(self.folder / "home"), "PATH": os.defpath},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    folder = tmp_path_factory.mktemp("box")
    here = "{}.{}".format(*sys.version_info[:2])
    env = {**os.environ, "PYTHON": sys.executable, "PYTHONS": here, "MACHINES": platform.machine()}
    made = subprocess.run(
        ["bash", "tools/make_pyz.sh", str(folder / "collect.pyz")],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return Box(folder, folder / "collect.pyz")


def test_it_runs_without_a_single_package(box: Box) -> None:
    bare = [str(box.folder / "bare" / "bin" / "python"), "-c", "import msgspec"]
    assert subprocess.run(bare, capture_output=True, check=False).returncode == 1
    assert box.collect("--version").stdout.strip() == f"quantcase, version {__version__}"
    assert "h200-shape" in box.collect("studies").stdout


def test_it_measures_packs_and_what_it_packed_is_sound(box: Box, tmp_path: Path) -> None:
    """A whole run on the replay engine: the server and the workers are processes of their own."""
    (box.folder / "small.toml").write_text(STUDY)
    ran = box.collect("run", "small.toml", "--gpu", "demo", "--quick", "--workers", "2", "--out", "results")
    assert ran.returncode == 0, ran.stderr
    (bundle,) = (box.folder / "results").iterdir()
    assert [f for f in check(bundle) if f.level == "error"] == []
    assert open_bundle(bundle).info.status == "complete"
    arrived = archive.unpack(archive.pack(bundle, tmp_path / "x.zip").file, tmp_path / "out")
    assert open_bundle(arrived.folder).info.grade == "simulated"


def test_it_unpacks_once_into_a_folder_of_its_own(box: Box) -> None:
    box.collect("--version")
    (unpacked,) = (box.folder / "home" / ".cache" / "quantcase").iterdir()
    before = unpacked.stat().st_ctime_ns
    box.collect("--version")
    assert unpacked.stat().st_ctime_ns == before
    assert unpacked.parent.stat().st_mode & 0o777 == 0o700
    names = {p.name for p in unpacked.rglob("*.so")}
    assert names
    assert all(sys.implementation.cache_tag.removeprefix("cpython-") in n for n in names)
    assert not list(unpacked.rglob("mkdocs*"))


def test_a_python_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    source = (ROOT / "collector" / "carry" / "pyz_main.py").read_text()
    for words, expected in (
        ({"@PYTHONS@": "3.99"}, "collect.pyz runs on CPython 3.99, this is cpython 3."),
        ({"@PYTHONS@": "3.11 3.12 3.13", "@MACHINES@": "riscv64"}, "collect.pyz is for Linux with glibc on riscv64"),
    ):
        text = source
        for old, new in words.items():
            text = text.replace(old, new)
        (tmp_path / "main.py").write_text(text)
        done = subprocess.run([sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {expected}")
        assert len(done.stderr.splitlines()) == 1
