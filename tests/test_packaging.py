"""The wheel holds everything that a box or a site build needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
    ]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for source, inside in ((ROOT / "collector", "collector"), (ROOT / "site" / "quantcase", "quantcase")):
        for path in source.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(source).as_posix()}" in names
    assert not any(n.startswith(("tests/", "site/", "docs/", "results/")) for n in names)
    text = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    for line in (
        "collect = collector.cli:main",
        "quantcase = quantcase.plugin:QuantcasePlugin",
        "site = quantcase.commands:site",
        "report = quantcase.report.command:report",
        "publish-cards = quantcase.publish_cards:publish_cards",
    ):
        assert line in text
