"""Locust's CSV files: failures stay in, rounding is said, names are not mixed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from collector.bundle.imported import read_document, read_rows
from collector.errors import QuantcaseError
from collector.importers.base import Hints, Imported, Point, get
from collector.importers.store import Read, Said, write_bundle

SAMPLES = Path(__file__).parent.parent / "samples" / "peers" / "locust"
STATS, HISTORY, FAILURES = (SAMPLES / f"run_{kind}.csv" for kind in ("stats", "stats_history", "failures"))


def read(*paths: Path) -> Imported:
    return get("locust").read(paths, Hints())


def point(found: Imported, workload: str) -> Point:
    return next(p for p in found.points if p.workload == workload)


def values(p: Point) -> dict[str, float]:
    return {f.metric.name: f.value for f in p.figures}


def edited(folder: Path, source: Path, line: int, column: str, value: str) -> Path:
    """A file with one field of one line (the header is line 1) changed."""
    rows = list(csv.reader(io.StringIO(source.read_text(), newline="")))
    rows[line - 1][rows[0].index(column)] = value
    path = folder / source.name
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    return path


@pytest.fixture(scope="module")
def whole() -> Imported:
    return read(SAMPLES)


def test_each_name_is_a_workload_and_all_together_is_another(whole: Imported) -> None:
    assert [(p.workload, p.load) for p in whole.points] == [
        ("post-v1-chat-completions", "8 users"), ("get-v1-models", "8 users"), ("all-requests", "8 users"),
    ]  # fmt: skip
    assert any("mix 2 names" in n for n in whole.notes)
    assert "Workload post-v1-chat-completions is POST /v1/chat/completions." in whole.notes


def test_figures_are_those_of_the_file(whole: Imported) -> None:
    chat = values(point(whole, "post-v1-chat-completions"))
    assert chat["locust.p95_ms"] == 350
    assert chat["locust.p99.9_ms"] == 1400
    assert chat["locust.median_ms"] == 110
    assert chat["locust.mean_ms"] == pytest.approx(141.61245298675564)
    assert chat["locust.requests_per_s"] == pytest.approx(54.49728592864368)
    assert {f.n for f in point(whole, "post-v1-chat-completions").figures} == {983}


def test_the_percentile_says_that_it_is_rounded_and_holds_failures(whole: Imported) -> None:
    """100 % is above the maximum: 1391.5 ms was kept as 1400. So it is never compared with an exact one."""
    figures = {f.metric.name: f for f in point(whole, "all-requests").figures}
    assert figures["locust.p100_ms"].value > figures["locust.max_ms"].value
    words = figures["locust.p95_ms"].metric.definition
    assert "rounded to two significant digits" in words
    assert "failed ones included" in words
    assert "not rounded" in figures["locust.max_ms"].metric.definition


def test_failures_stay_failures(whole: Imported) -> None:
    chat = point(whole, "post-v1-chat-completions")
    assert (chat.requests, chat.ok, chat.failed) == (983, 843, 140)
    assert chat.messages == {"LocustBadStatusCode(code=503)": 140}
    assert point(whole, "get-v1-models").messages == {}


def test_without_the_other_files_what_is_missing_is_said() -> None:
    found = read(STATS)
    assert {p.load for p in found.points} == {"users unknown"}
    assert any("140 requests failed; why" in m for m in found.missing)
    assert any("How many users" in m for m in found.missing)


def test_users_that_change_make_no_load_point(tmp_path: Path) -> None:
    rows = HISTORY.read_text().splitlines()
    stepped = [rows[0], *(r.replace(",8,", f",{2 + i // 12},", 1) for i, r in enumerate(rows[2:]))]
    path = tmp_path / "x_stats_history.csv"
    path.write_text("\n".join(stepped) + "\n")
    found = read(STATS, path)
    assert found.points[0].load == "2 to 6 users"
    assert any(n.startswith("Users went from 2 to 6") for n in found.notes)


def test_steps_of_our_own_load_test_are_loads(tmp_path: Path) -> None:
    path = tmp_path / "s_stats.csv"
    path.write_text(
        STATS.read_text().replace("/v1/chat/completions", "10 users").replace("/v1/models", "between steps")
    )
    found = read(path)
    assert [(p.load, p.workload) for p in found.points] == [
        ("10 users", ""), ("between steps", ""), ("users unknown", ""),
    ]  # fmt: skip


def test_it_becomes_a_bundle_that_warns(tmp_path: Path) -> None:
    said = Said(gpu="h200", baseline="bf16", base_model="m")
    folder = write_bundle([Read(variant="bf16", imported=read(SAMPLES))], tmp_path, said)
    rows = {(r.workload, r.metric): r for r in read_rows(folder)}
    assert rows["post-v1-chat-completions", "locust.p95_ms"].value == 350
    document = read_document(folder)
    assert document is not None
    assert [(p.workload, p.failed) for p in document.points] == [
        ("post-v1-chat-completions", 140), ("get-v1-models", 0), ("all-requests", 140),
    ]  # fmt: skip
    assert {f.name for f in document.sources[0].files} == {p.name for p in SAMPLES.glob("*.csv")}


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("Failure Count", "984", r"run_stats\.csv line 2, column 'Failure Count': 984 of 983 requests failed"),
        ("95%", "3", r"line 2, column '95%': 3 ms is less than a lower percentile"),
        ("95%", "-1", r"line 2, column '95%': -1 is not between 0"),
        ("95%", "1e400", r"line 2, column '95%': '1e400' is too large a number"),
        ("95%", "3,5", r"line 2, column '95%': '3,5' is no number; write numbers with a decimal point"),
        ("Average Response Time", "2000", r"2000 ms is not between minimum 17\.1164 and maximum 1391\.55"),
        ("Request Count", "nan", r"column 'Request Count': 'nan' is no number"),
        ("Request Count", "9.5", r"9\.5 is no whole number"),
    ],
)
def test_what_locust_cannot_have_written_is_refused(tmp_path: Path, column: str, value: str, says: str) -> None:
    with pytest.raises(QuantcaseError, match=says) as e:
        read(edited(tmp_path, STATS, 2, column, value))
    assert "\n" not in str(e.value)


def test_times_in_microseconds_are_found_by_littles_law(tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(STATS.read_text(), newline="")))
    names = [c for c in rows[0] if c.endswith("Response Time") or c.endswith("%")]
    for row in rows[1:]:
        for name in names:
            row[rows[0].index(name)] = str(1000 * float(row[rows[0].index(name)]))
    path = tmp_path / STATS.name
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)
    with pytest.raises(QuantcaseError, match=r"in flight, of 8 users; are its times in milliseconds\?"):
        read(path, HISTORY)


def test_a_truncated_file_and_two_tests_at_once_are_refused(tmp_path: Path) -> None:
    cut = tmp_path / STATS.name
    cut.write_text(STATS.read_text()[:-40])
    with pytest.raises(QuantcaseError, match=r"run_stats\.csv line 4: \d+ fields, the header has 22"):
        read(cut)
    with pytest.raises(QuantcaseError, match="are both stats; import one test at a time"):
        read(STATS, STATS)
    with pytest.raises(QuantcaseError, match=r"there is no _stats\.csv"):
        read(HISTORY)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(QuantcaseError, match=r"other\.csv line 1: its columns are not those of a CSV of Locust"):
        read(other)
