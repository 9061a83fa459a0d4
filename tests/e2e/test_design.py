"""Interleaved starts, the control, and precision, through the real command line on the replay engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.bundle.check import check, errors
from collector.bundle.read import open_bundle
from tests.e2e.tools import STUDY, collect
from tests.makers import make_bundle

OPEN = """
[[workloads]]
name = "arrivals"
input_tokens = 32
output_tokens = 8
schedule = "poisson"
rates = [8]
search = "slo"
duration_s = 0.7
ttft_limit_ms = 2000
warmup_requests = 1
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    source = make_bundle(tmp_path / "source", only=("bf16", "awq"))
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(source=source))
    return path


def test_variants_take_turns_and_the_baseline_meets_itself(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = collect(
        "run", study_file, "--gpu", "demo", "--out", out, "--starts", "2", "--repeats", "1", "--control", timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    assert "ended because all that was planned is measured" in ran.stdout
    (folder,) = out.iterdir()
    bundle = open_bundle(folder)
    assert errors(check(folder)) == []
    assert bundle.study().control == "bf16-again"
    starts = [(v.variant, v.start) for v in bundle.variants()]
    assert sorted(starts) == [(v, s) for v in ("awq", "bf16", "bf16-again") for s in (1, 2)]
    assert {s for _, s in starts[:3]} == {1}  # a whole round before anybody's second start
    assert {c.start for c in bundle.cells()} == {1, 2}
    session = bundle.environment().sessions[0]
    assert session.ended_by == "all that was planned is measured"
    seen = bundle.client()
    assert seen.loopback_floor_ms is not None
    assert 0 < seen.loopback_floor_ms < 50
    assert all(c.engine_tokens == c.usage_tokens for c in seen.cells)
    assert all(c.client_limited in (True, False) for c in seen.cells)


def test_until_precise_goes_on_and_says_what_ended_it(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--repeats", "1", "--until-precise", "60%"]
    ran = collect("run", study_file, "--gpu", "demo", "--out", out, *options, timeout=200)
    assert ran.returncode == 0, ran.stderr
    (folder,) = out.iterdir()
    bundle = open_bundle(folder)
    assert "every ratio is known to 60.0%" in (bundle.environment().sessions[0].ended_by or "")
    assert max(v.start for v in bundle.variants()) >= 2  # one repeat tells nothing: a second start was needed
    assert errors(check(folder)) == []
    assert bundle.info.cells_planned == bundle.info.cells_done == len(bundle.cells())


def test_a_search_for_an_slo_is_in_the_bundle_and_on_the_page(study_file: Path, tmp_path: Path) -> None:
    text = study_file.read_text()
    head, _, _ = text.partition("[[workloads]]")
    study_file.write_text(head + OPEN)
    out = tmp_path / "out"
    ran = collect("run", study_file, "--gpu", "demo", "--out", out, "--repeats", "1", "--variant", "bf16", timeout=250)
    assert ran.returncode == 0, ran.stderr
    (folder,) = out.iterdir()
    bundle = open_bundle(folder)
    assert errors(check(folder)) == []
    rows = bundle.cells()
    assert len({c.load for c in rows}) >= 3  # the first rate, and what followed from it
    assert all(c.load.startswith("r") and c.offered_req_s and c.ttft_due_ms_p95 for c in rows)
    assert all(r.due_s is not None and r.started_s >= r.due_s - 1e-6 for r in bundle.requests())
    site = collect("site", "--results", out, "--out", tmp_path / "pages")
    assert site.returncode == 0, site.stderr
    page = (tmp_path / "pages" / "cases" / folder.name / "index.md").read_text()
    assert "arriving at random" in page


def test_a_resumed_bundle_keeps_its_design(study_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collect("run", study_file, "--gpu", "demo", "--out", out, "--max-minutes", "0.02")
    (folder,) = out.iterdir()
    ran = collect("run", "--resume", folder, "--starts", "3")
    assert ran.returncode == 2
    assert "keeps its design" in ran.stderr
    refused = collect("run", study_file, "--gpu", "demo", "--out", tmp_path / "new", "--max-usd", "1")
    assert refused.returncode == 2
    assert "needs a price" in refused.stderr
    assert not (tmp_path / "new").exists()
