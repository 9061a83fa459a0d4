"""asv, the benchmark site that Python projects publish: the same runs as its results, for `asv publish` beside a build.

A run is a commit there. Its results are the medians over repeats of what `cells.csv` holds: a benchmark a metric, with
variant and load point as its parameters. asv makes one dashboard of graphs over commits: what `history/` is here.
"""

from __future__ import annotations

import csv
import itertools
import json
import statistics
import subprocess
from pathlib import Path

from benchmarks.peers.process import installed

__all__ = ["METRICS", "VENV", "project", "version"]

VENV = Path(__file__).parents[2] / ".cache" / "peers" / "asv"
METRICS = {
    "throughput_tok_s": "tok/s", "ttft_ms_p50": "ms", "ttft_ms_p95": "ms", "tpot_ms_p50": "ms", "e2e_ms_p95": "ms",
}  # fmt: skip


def version() -> str | None:
    """Its version; None when it is not installed."""
    return installed(VENV, "asv")


def project(results: Path, home: Path) -> list[str]:
    """Lay the runs below `results` out as asv has them, in `home`; gives the command that publishes them there."""
    runs = sorted(p for p in results.iterdir() if (p / "cells.csv").is_file())
    commits = _commits(home, len(runs))
    machine = {"machine": "box", "os": "", "arch": "", "cpu": "", "num_cpu": "", "ram": ""}
    _write(home / "results" / "box" / "machine.json", {**machine, "version": 1})
    for n, (run, commit) in enumerate(zip(runs, commits, strict=True)):
        medians, names, loads = _medians(run / "cells.csv")
        grid = [[repr(name) for name in names], [repr(load) for load in loads]]
        if not n:
            _write(home / "results" / "benchmarks.json", {m: _benchmark(m, grid) for m in METRICS} | {"version": 2})
        found = {
            metric: [[medians.get((metric, *at)) for at in itertools.product(names, loads)], grid, "1"]
            for metric in METRICS
        }
        _write(
            home / "results" / "box" / f"{commit[:8]}-python.json",
            {
                "commit_hash": commit, "env_name": "python", "date": _date(n) * 1000, "params": machine, "python": "3",
                "requirements": {}, "env_vars": {}, "result_columns": ["result", "params", "version"], "results": found,
                "durations": {}, "version": 2,
            },
        )  # fmt: skip
    _write(
        home / "asv.conf.json",
        {"version": 1, "project": "runs", "repo": str(home / "repo"), "branches": ["main"], "results_dir": "results",
         "html_dir": "html", "environment_type": "virtualenv"},
    )  # fmt: skip
    return [str(VENV / "bin" / "asv"), "publish", "--no-pull"]


def _medians(path: Path) -> tuple[dict[tuple[str, str, str], float], list[str], list[str]]:
    """(metric, variant, load point) -> the median of its repeats; the variants and the load points in their order."""
    values: dict[tuple[str, str, str], list[float]] = {}
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            for metric in METRICS:
                at = metric, row["variant"], f"{row['workload']} {row['load']}"
                values.setdefault(at, []).append(float(row[metric]))
    names, loads = (list(dict.fromkeys(at[i] for at in values)) for i in (1, 2))
    return {at: statistics.median(found) for at, found in values.items()}, names, loads


def _benchmark(name: str, grid: list[list[str]]) -> dict[str, object]:
    return {
        "name": name, "type": "track", "unit": METRICS[name], "params": grid, "param_names": ["variant", "load"],
        "version": "1", "code": "", "timeout": 60,
    }  # fmt: skip


def _commits(home: Path, count: int) -> list[str]:
    """So many empty commits, one an hour; their hashes, oldest first."""
    git = ["git", "-C", str(home / "repo")]
    subprocess.run(["git", "init", "-q", "-b", "main", str(home / "repo")], check=True)
    stream = "".join(
        f"commit refs/heads/main\ncommitter Q <q@localhost> {_date(n)} +0000\ndata 0\n\n" for n in range(count)
    )
    subprocess.run([*git, "fast-import", "--quiet"], input=stream.encode(), check=True)
    told = subprocess.run([*git, "rev-list", "--reverse", "main"], capture_output=True, text=True, check=True)
    return told.stdout.split()


def _date(n: int) -> int:
    return 1_760_000_000 + 3600 * n


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
