"""Files that somebody damaged or forged: whatever they hold, there is one line that says what is wrong, or a result."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from collector.bundle.migrate import migrate
from collector.errors import QuantcaseError
from collector.importers.base import Hints, get

TESTS = Path(__file__).parent.parent
PEERS = TESTS / "samples" / "peers"
LM_EVAL = TESTS / "quality" / "data" / "lm_eval" / "base" / "chat"
DAY = TESTS / "samples" / "format-0" / "day004"
BITS = [
    b"", b"null", b"-1", b"1e999", b"NaN", b"Infinity", b"{}", b"[]", b'"x"', b"true", b"{", b"[", b"\x00", b"\xff",
    b"\n", b",", b'"', b"9" * 400, b"\\ud800", b"\xe2\x80\xae",
]  # fmt: skip


def damaged(path: Path, rng: random.Random) -> None:
    """A few bytes replaced by what a parser may trip over."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.choice([0, 1, 3, 10, 60])] = rng.choice(BITS)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("tool", "source", "columns"),
    [
        ("llama-bench", PEERS / "llama-bench" / "q4_k_m.jsonl", ""),
        ("llama-bench", PEERS / "llama-bench" / "q4_k_m.csv", ""),
        ("locust", PEERS / "locust", ""),
        ("lm-eval", LM_EVAL, ""),
        ("csv", PEERS / "csv" / "sweep.csv", str(PEERS / "csv" / "sweep.toml")),
        ("migrate", DAY, ""),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, tool: str, source: Path, columns: str) -> None:
    told: list[str] = []
    for seed in range(12 if tool == "migrate" else 40):
        rng = random.Random(f"{tool} {seed}")
        folder = tmp_path / f"{seed}"
        if source.is_dir():
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("README.md"))
        else:
            folder.mkdir()
            shutil.copy(source, folder)
        damaged(rng.choice(sorted(p for p in folder.rglob("*") if p.is_file())), rng)
        try:
            if tool == "migrate":
                migrate(folder, tmp_path / "out")
            else:
                get(tool).read([folder] if source.is_dir() else [folder / source.name], Hints(columns=columns))
        except QuantcaseError as e:
            told.append(str(e))
    assert len(told) >= 3  # most damage shows; some of it hits a text that may hold anything
    assert all("\n" not in line and len(line) < 900 for line in told)
