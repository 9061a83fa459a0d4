"""Other tools' files: finite figures, or one line that says where."""

from __future__ import annotations

import math
import shutil
import tempfile
from functools import cache
from pathlib import Path

from collector.errors import QuantcaseError
from collector.importers.base import Hints, get
from tests.fuzz.guard import one_line

__all__ = ["one", "seeds"]

_TESTS = Path(__file__).parents[2]
_PEERS = _TESTS / "samples" / "peers"
_COLUMNS = _PEERS / "csv" / "sweep.toml"
# Tool, folder, and the file of it that is damaged.
_FILES: tuple[tuple[str, Path, str], ...] = (
    ("vllm-bench", _PEERS, "vllm-0.32-completions.json"),
    ("guidellm", _PEERS, "guidellm-0.8-failed.json"),
    ("aiperf", _PEERS / "aiperf-0.13-failed", "profile_export.jsonl"),
    ("aiperf", _PEERS / "aiperf-0.13-failed", "profile_export_aiperf.json"),
    ("llama-bench", _PEERS / "llama-bench", "q4_k_m.jsonl"),
    ("llama-bench", _PEERS / "llama-bench", "q4_k_m.csv"),
    ("locust", _PEERS / "locust", "run_stats.csv"),
    ("locust", _PEERS / "locust", "run_stats_history.csv"),
    ("lm-eval", _TESTS / "quality" / "data" / "lm_eval" / "plain" / "tiny__model", "*.json"),
    ("lm-eval", _TESTS / "quality" / "data" / "lm_eval" / "plain" / "tiny__model", "*.jsonl"),
    ("csv", _PEERS / "csv", "sweep.csv"),
    ("csv", _PEERS / "csv", "sweep.toml"),
)
_READERS = {tool: get(tool) for tool, _, _ in _FILES}  # imported now, so that atheris can watch them
_FOLDERS = ("aiperf", "locust", "lm-eval")  # tools whose files are read together


def _path(number: int) -> Path:
    _, folder, name = _FILES[number]
    return next(iter(sorted(folder.glob(name))))


@cache
def seeds() -> list[bytes]:
    """Real files of each tool; the first byte is the number of the file."""
    return [bytes([i]) + _path(i).read_bytes() for i in range(len(_FILES))]


def one(data: bytes) -> None:
    """Read the file that the first byte names. Only QuantcaseError may come of it."""
    number = data[0] % len(_FILES) if data else 0
    tool, folder, _ = _FILES[number]
    with tempfile.TemporaryDirectory(prefix="qc-fuzz-") as name:
        room = Path(name)
        target = room / _path(number).name
        if tool in _FOLDERS:
            shutil.copytree(folder, room, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))
        target.write_bytes(data[1:])
        columns = str(target if target.suffix == ".toml" else _COLUMNS) if tool == "csv" else ""
        paths = [_PEERS / "csv" / "sweep.csv" if target.suffix == ".toml" else room if tool in _FOLDERS else target]
        try:
            found = _READERS[tool].read(paths, Hints(columns=columns))
        except QuantcaseError as e:
            one_line(e)
            return
    for point in found.points:
        assert all(math.isfinite(f.value) for f in point.figures)
        for row in point.rows:
            assert all(t is None or (math.isfinite(t) and t >= 0) for t in (row.ttft_ms, row.tpot_ms, row.e2e_ms))
