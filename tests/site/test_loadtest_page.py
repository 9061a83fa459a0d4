"""The load test on the page: the cells are those of Locust's files, and what is not known is said."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.dom import minidom

import pytest

from collector.bundle import loadtest
from quantcase.analysis.loadtest import batch_limit, errors, load_tests, rows
from quantcase.catalog import Case, load
from quantcase.pages.loadtest import section
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle

STEPS = {10: (480, 0, 1000, 1200, 1400, 10.0), 50: (2100, 0, 1100, 1500, 1900, 41.0)}  # n, failed, p50, p95, p99, RPS


def add(
    folder: Path, variant: str, steps: dict[int, tuple[int, int, int, int, int, float]], error: str = "HTTP 500"
) -> None:
    """Locust's three files; each step takes 60 s."""
    stats = "Type,Name,Request Count,Failure Count,50%,95%,99%\n"
    history = "Timestamp,User Count,Type,Name,Total Request Count,Total Failure Count\n"
    failures = "Method,Name,Error,Occurrences\n"
    now, ended = 1000, 0.0
    for users, (n, failed, p50, p95, p99, rps) in steps.items():
        stats += f"POST,{users} users,{n},{failed},{p50},{p95},{p99}\n"
        for _ in range(60):
            now, ended = now + 1, ended + rps
            history += f"{now},{users},,Aggregated,{ended:.0f},0\n"
        if failed:
            failures += f'POST,{users} users,"{error}",{failed}\n'
    total, bad = sum(s[0] for s in steps.values()), sum(s[1] for s in steps.values())
    stats += f",Aggregated,{total},{bad},1000,1900,1900\n"
    for name, text in zip(loadtest.names(variant), (stats, history, failures), strict=True):
        (folder / name).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def case_of(folder: Path) -> Case:
    (case,) = load(folder.parent).cases
    return case


def shown(folder: Path) -> str:
    return section(CaseView(case_of(folder), Options()))


def cells(page: str, name: str = "loadtest") -> list[list[str]]:
    """The table as a reader sees it."""
    block = page.split(f'id="table-{name}"')[1].split("</table>")[0].split("<tbody>")[1]
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", c)) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in block.split("</tr>")[:-1]
    ]


def test_without_a_load_test_there_is_a_sentence(folder: Path) -> None:
    assert shown(folder) == '<p class="qc-none">No Locust load test was run for this bundle.</p>'


def test_the_table_is_the_seeds_and_its_cells_are_locusts(folder: Path) -> None:
    add(folder, "fp8", {10: (600, 0, 800, 900, 980, 12.5), 50: (2600, 0, 900, 1100, 1300, 52.0)})
    add(folder, "bf16", STEPS)
    page = shown(folder)
    head = page.split('id="table-loadtest"')[1].split("</thead>")[0]
    assert re.findall(r"<th [^>]*>(.*?)</th>", head) == [
        "Quantization", "Batch size", "Users", "RPS", "P95 (ms)", "P99 (ms)", "Failures", "Notes",
    ]  # fmt: skip
    assert cells(page) == [  # the baseline first; its server's command line names no limit
        ["bf16", "not stated", "10", "10.0", "1,200", "1,400", "0 of 480", "–"],
        ["bf16", "not stated", "50", "41.0", "1,500", "1,900", "0 of 2,100", "–"],
        ["fp8 fp8", "not stated", "10", "12.5", "900", "980", "0 of 600", "–"],
        ["fp8 fp8", "not stated", "50", "52.0", "1,100", "1,300", "0 of 2,600", "–"],
    ]
    assert "10 to 50 users in 2 steps, about 2.0 min a variant" in page
    assert "None of 5,780 requests failed" in page
    assert "no intervals" in page


def test_the_chart_says_who_waits_longest(folder: Path) -> None:
    add(folder, "bf16", STEPS)
    add(folder, "fp8", {10: (600, 0, 800, 900, 980, 12.5), 50: (2600, 0, 900, 1100, 1300, 52.0)})
    page = shown(folder)
    assert page.count("<figure") == 1
    assert "With 50 users: 95th percentile 1,100 ms for fp8 to 1,500 ms for bf16." in page
    drawing = page.split('<div class="qc-chart">')[1].split("</svg>")[0] + "</svg>"
    minidom.parseString(drawing)
    assert len(re.findall(r"stroke-dasharray", drawing)) >= 2  # medians are dashed: colour is not the only sign


def test_too_few_requests_give_no_percentile(folder: Path) -> None:
    add(folder, "bf16", {10: (99, 0, 1000, 1200, 1400, 2.0)})
    page = shown(folder)
    assert cells(page)[0][4:6] == ["n = 99, too few", "n = 99, too few"]
    assert "With 10 users: median 1,000 ms for bf16." in page
    add(folder, "bf16", {10: (399, 0, 1000, 1200, 1400, 2.0)})
    assert cells(shown(folder))[0][4:6] == ["1,200", "n = 399, too few"]


def test_failures_are_told_with_their_share_and_their_words(folder: Path) -> None:
    add(folder, "bf16", {10: (400, 20, 1000, 1200, 1400, 8.0), 20: (500, 500, 5, 6, 7, 8.0)}, "<b>*HTTP* {{ 500 }}</b>")
    page = shown(folder)
    first, second = cells(page)
    assert first[6:] == ["20 of 400", "5.0 % failed; these are in RPS and in the percentiles"]
    assert second[6:] == ["500 of 500", "every request failed; RPS +0.0 % against 10 users"]
    assert cells(page, "loadtest-failures") == [["bf16", "<b>*HTTP* {{ 500 }}</b>", "520"]]
    assert "<b>*" not in page
    assert "{{" not in page


def test_the_notes_say_when_users_wait_and_when_more_bring_no_more(folder: Path) -> None:
    variants = folder / "variants.csv"
    argv = '"[""vllm"", ""serve"", ""model"", ""--max-num-seqs"", ""16""]"'
    variants.write_text(variants.read_text().replace('"[""vllm"", ""serve"", ""model""]"', argv))
    add(folder, "bf16", {10: (480, 0, 1000, 1200, 1400, 10.0), 20: (480, 0, 2000, 2400, 2800, 9.0)})
    first, second = cells(shown(folder))
    assert (first[1], first[7]) == ("16", "–")
    assert second[7] == "more users than the server runs at once (16): some wait; RPS −10.0 % against 10 users"


@pytest.mark.parametrize(
    ("argv", "limit"),
    [
        (["vllm", "serve", "m", "--max-num-seqs", "32"], 32),
        (["--max-num-seqs=8", "--max-num-seqs", "4"], 4),
        (["llama-server", "-np", "2"], 2),
        (["--max-num-seqs"], None),
        (["--max-num-seqs", "many"], None),
        ([], None),
    ],
)
def test_the_servers_limit_is_read_off_its_command_line(argv: list[str], limit: int | None) -> None:
    assert batch_limit(argv) == limit


def test_errors_of_all_steps_are_one_line_each(folder: Path) -> None:
    add(folder, "bf16", {10: (400, 2, 1, 1, 1, 8.0), 20: (500, 3, 5, 6, 7, 8.0)})
    case = case_of(folder)
    tests, faults = load_tests(case)
    assert faults == []
    (error,) = errors(tests)
    assert (error.variant, error.error, error.count) == ("bf16", "HTTP 500", 5)
    assert [row.failures for row in rows(case, tests)] == [2, 3]


def test_a_torn_file_is_told_and_costs_the_others_nothing(folder: Path) -> None:
    add(folder, "bf16", STEPS)
    add(folder, "fp8", STEPS)
    (folder / "loadtest_fp8_stats.csv").write_text("<script>,\n")
    page = shown(folder)
    assert "A load test cannot be read: loadtest_fp8_stats.csv has no column" in html.unescape(page)
    assert {row[0] for row in cells(page)} == {"bf16"}
    (folder / "loadtest_bf16_history.csv").unlink()
    assert "table-loadtest" not in shown(folder)
