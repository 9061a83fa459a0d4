"""How soon an edit is seen under `mkdocs serve`: `python -m benchmarks.serving` writes its part of benchmarks/SITE.md.

A real server over a real socket, without --dirty: from the write of the file to the new words over HTTP, MkDocs's own
polling and waiting included. Beside it MkDocs alone serves the same Markdown. Bundles are made by a seed (simulated).
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.keep import put
from benchmarks.site import IN_MENU, ROOT, measured, project
from tests.makers import make_bundle

_PAUSE_S = 2.0  # between edits: a person reads
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Seen:
    """One edit: seconds by the clock until it is seen, and of the server's processor meanwhile."""

    wall_s: float
    cpu_s: float


class Server:
    """A `mkdocs serve` that runs."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self._home, self._process, self._port = home, process, port

    def cpu_s(self) -> float:
        """Processor seconds of the server so far; processes that it waited for count."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def shows(self, page: str, words: str) -> None:
        """Wait until a page says so."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{page}", timeout=_PATIENCE_S) as answer:
                    if words in answer.read().decode():
                        return
            except OSError:
                if self._process.poll() is not None:
                    break
            time.sleep(0.02)
        raise SystemExit(f"{page} never said {words!r}:\n{(self._home / 'said.txt').read_text()[-2000:]}")

    def edit(self, path: Path, page: str, content: str, words: str) -> Seen:
        """Write a file, and wait for its words."""
        time.sleep(_PAUSE_S)
        cpu, begun = self.cpu_s(), time.monotonic()
        path.write_text(f"{content}\n{words}\n")
        self.shows(page, words)
        return Seen(time.monotonic() - begun, self.cpu_s() - cpu)


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """The site of that folder, from when its first page is there until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "mkdocs", "serve", "-a", f"127.0.0.1:{port}"]
    with (home / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=home, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, stdout=said, stderr=said
        )
    try:
        server = Server(home, process, port)
        server.shows("methodology/", "Methodology")
        yield server
    finally:
        process.terminate()
        process.wait()


def edits(home: Path, bundles: int, repeats: int) -> dict[str, list[Seen]]:
    """Kind of edit -> what each took."""
    results, found = home / "results", dict[str, list[Seen]]()
    for seed in range(bundles):
        make_bundle(results, name=f"simulated-{seed:04}", grade="simulated", seed=seed)
    ours, plain = project(home / "ours", f"[search, {{quantcase: {{results: {results}}}}}]"), home / "plain"
    listed = "".join(f", cases/simulated-{i:04}/index.md" for i in range(min(bundles, IN_MENU)))
    project(plain, "[search]", listed)
    written = [sys.executable, "-m", "collector.cli", "site", "--results", str(results)]
    measured([*written, "--out", str(plain / "docs")], ours)

    def seen(kind: str, server: Server, path: Path, page: str, content: str) -> None:
        words = f"{kind} {len(found.setdefault(kind, []))}".replace(" ", "-")
        found[kind].append(server.edit(path, page, content, words))

    for whose, site in (("ours", ours), ("MkDocs alone", plain)):
        with serving(site) as server:
            for n in range(repeats):
                case = f"cases/simulated-{n % bundles:04}"
                docs = site / "docs" / "methodology.md"
                seen(f"{whose}: a page of the docs", server, docs, "methodology/", docs.read_text())
                if whose == "ours":
                    note = results / f"simulated-{n % bundles:04}" / "notes.md"
                    for kind in ("a first note", "a second note"):
                        seen(f"ours: {kind}", server, note, f"{case}/", "## What I learned\n")
                else:
                    page = site / "docs" / case / "index.md"
                    seen(
                        "MkDocs alone: the same words in a case's Markdown", server, page, f"{case}/", page.read_text()
                    )
    return found


def report(found: dict[str, list[Seen]], bundles: int, load: float) -> str:
    """The figures as Markdown."""
    kinds, today = len(next(iter(found.values()))), f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [
        f"Written by `python -m benchmarks.serving` on {today}: {bundles} bundles, {os.cpu_count()} cores, 1-minute",
        f"load {load:.1f} before. Medians, and the slowest, of {kinds} edits a kind, each to another case.",
        "",
        "| Edit | Until it is seen, s | Slowest, s | CPU, s |",
        "|---|---|---|---|",
    ]
    for kind, all_seen in found.items():
        wall = [s.wall_s for s in all_seen]
        cpu = statistics.median(s.cpu_s for s in all_seen)
        lines.append(f"| {kind} | {statistics.median(wall):.2f} | {max(wall):.2f} | {cpu:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "SITE.md")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="quantcase-bench-") as home:
        found = edits(Path(home), asked.bundles, asked.repeats)
    put(asked.out, "serving", report(found, asked.bundles, load))
    print(report(found, asked.bundles, load))


if __name__ == "__main__":
    main()
