"""How long a site takes: `python -m benchmarks.site` writes its part of benchmarks/SITE.md.

Bundles are made by a seed and labelled simulated. The same pages are built three ways in one run: with nothing made
before, again with nothing changed, and by MkDocs alone from the same Markdown. Beside them asv, where it is installed,
publishes the same runs. Ends with 1 and says so when a budget is not kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.keep import put
from benchmarks.peers import asv_publish
from tests.makers import make_bundle

ROOT = Path(__file__).parent.parent
PAGE = "# Methodology\n\nWhat the pages link to.\n"
CONFIG = """site_name: Benchmark
docs_dir: docs
site_dir: public
theme: {name: material, font: false, features: [navigation.tabs, navigation.top, navigation.indexes, toc.follow]}
markdown_extensions:
  [admonition, attr_list, md_in_html, tables, toc: {permalink: true}, pymdownx.details, pymdownx.highlight,
   pymdownx.superfences]
validation: {links: {anchors: ignore, not_found: ignore}, nav: {omitted_files: ignore}}
nav: [index.md, {Cases: [cases/index.md]}, costs/index.md, methodology.md]
"""
IN_MENU = 40  # as the plugin has it
MOST_TIMES_ALONE = 2.0  # a full build by the clock, in builds of the same Markdown by MkDocs alone
MOST_BYTES = 10**9  # of memory, in any of our builds


@dataclass(frozen=True)
class Cost:
    """One build: seconds by the clock, seconds of processor time, peak resident memory of all its processes."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def measured(command: list[str], cwd: Path) -> Cost:
    """Run a command to its end. Memory is read ten times a second and added up over the process and its children."""
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    begun = time.monotonic()
    with (cwd / "said.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=said, stderr=said)
    peak = 0.0
    while True:
        done, status, used = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        peak = max(peak, _resident(process.pid))
        time.sleep(0.1)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(cwd / 'said.txt').read_text()[-2000:]}")
    return Cost(time.monotonic() - begun, used.ru_utime + used.ru_stime, max(peak, used.ru_maxrss / 1024))


def _resident(pid: int) -> float:
    """MiB of a process and all below it; what ended meanwhile counts nothing."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [c for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(_resident(int(c)) for c in children)


def project(home: Path, plugins: str, cases: str = "") -> Path:
    """A site's folder."""
    (home / "docs").mkdir(parents=True)
    (home / "docs" / "methodology.md").write_text(PAGE)
    config = CONFIG.replace("[cases/index.md]", f"[cases/index.md{cases}]")
    (home / "mkdocs.yml").write_text(f"{config}plugins: {plugins}\n")
    return home


def rounds(home: Path, count: int, repeats: int) -> tuple[dict[str, list[Cost]], int, float]:
    """(way -> its builds, pages, MiB of Markdown) for so many bundles."""
    results = home / "results"
    for seed in range(count):
        make_bundle(results, name=f"simulated-{seed:04}", grade="simulated", seed=seed)
    ours = project(home / "ours", f"[search, {{quantcase: {{results: {results}}}}}]")
    python = [sys.executable, "-m"]
    found: dict[str, list[Cost]] = {"full": [], "rebuild": [], "alone": []}
    plain = home / "plain"
    published = asv_publish.project(results, home / "asv")
    for _ in range(repeats):
        shutil.rmtree(ours / ".cache", ignore_errors=True)
        found["full"].append(measured([*python, "mkdocs", "build", "-q"], ours))
        found["rebuild"].append(measured([*python, "mkdocs", "build", "-q"], ours))
        if not plain.exists():
            listed = "".join(f", cases/simulated-{i:04}/index.md" for i in range(min(count, IN_MENU)))
            project(plain, "[search]", listed)
            out = [*python, "collector.cli", "site", "--results", str(results), "--out", str(plain / "docs")]
            measured(out, ours)
        found["alone"].append(measured([*python, "mkdocs", "build", "-q"], plain))
        if asv_publish.version():
            found.setdefault("asv", []).append(measured(published, home / "asv"))
    pages = list((plain / "docs").rglob("*.md"))
    return found, len(pages), sum(p.stat().st_size for p in pages) / 2**20


def median(costs: list[Cost]) -> Cost:
    """The middle of each figure."""
    return Cost(*(statistics.median(getattr(c, f) for c in costs) for f in ("wall_s", "cpu_s", "peak_mib")))


def table(rows: list[tuple[int, int, float, dict[str, Cost]]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| Bundles | Pages | Markdown, MiB | Build | Wall, s | Wall, × alone | CPU, s | CPU, × alone | CPU, s a bundle "
        "| Peak, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = {"full": "full", "rebuild": "nothing changed", "alone": "MkDocs alone, same Markdown", "asv": "asv publish"}
    for bundles, pages, size, costs in rows:
        for way, cost in costs.items():
            made = ("", "") if way == "asv" else (f"{pages:,}", f"{size:.1f}")
            shares = (cost.wall_s / costs["alone"].wall_s, cost.cpu_s / costs["alone"].cpu_s)
            lines.append(
                f"| {bundles:,} | {made[0]} | {made[1]} | {names[way]} | {cost.wall_s:.1f} | {shares[0]:.2f} "
                f"| {cost.cpu_s:.1f} | {shares[1]:.2f} | {cost.cpu_s / bundles:.2f} | {cost.peak_mib:,.0f} |"
            )
    return "\n".join(lines)


def report(rows: list[tuple[int, int, float, dict[str, Cost]]], repeats: int, load: float) -> str:
    """The measured part of SITE.md."""
    versions = ", ".join(f"{n} {version(n)}" for n in ("mkdocs", "mkdocs-material", "vl-convert-python"))
    today, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    peer = asv_publish.version()
    beside = f"""
"asv publish" (asv {peer}) has the same runs as commits, and {len(asv_publish.METRICS)} metrics of each variant and load
point as its benchmarks: one dashboard of graphs over commits, drawn in the reader's browser. Ours is `history/`.
""" if peer else ""  # fmt: skip
    return f"""Written by `python -m benchmarks.site` on {today}: Python {python}, {versions},
{os.cpu_count()} cores, 1-minute load {load:.1f} before the first build. Bundles are made by a seed and simulated: four
variants at five load points, three repeats each, no answers. Medians of {repeats}.

On a machine that others use the clock says little: compare processor seconds. They include the generator's processes.
Peak is the resident memory of all processes together, read ten times a second; pages that they share count for each.

{table(rows)}

"Full" begins without anything kept: every bundle is checked, every chart drawn. "Nothing changed" is the next build.
"MkDocs alone" has no plugin of ours: the pages of `collect site`, Material and its search.
{beside}"""


def over(bundles: int, costs: dict[str, Cost]) -> list[str]:
    """The budgets that were not kept, in words."""
    times, peak = costs["full"].wall_s / costs["alone"].wall_s, max(costs[w].peak_mib for w in ("full", "rebuild"))
    found = []
    if times > MOST_TIMES_ALONE:
        found.append(
            f"{bundles} bundles: a full build takes {times:.2f} times MkDocs alone, at most {MOST_TIMES_ALONE:g}"
        )
    if peak * 2**20 > MOST_BYTES:
        found.append(f"{bundles} bundles: {peak:.0f} MiB of memory, at most {MOST_BYTES / 2**20:.0f}")
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "SITE.md")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    rows, missed = [], []
    for count in asked.bundles:
        with tempfile.TemporaryDirectory(prefix="quantcase-bench-") as home:
            found, pages, size = rounds(Path(home), count, asked.repeats)
        costs = {way: median(each) for way, each in found.items()}
        rows.append((count, pages, size, costs))
        missed += over(count, costs)
        put(asked.out, "building", report(rows, asked.repeats, load))
        print(table(rows[-1:]), flush=True)
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
