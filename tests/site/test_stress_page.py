"""What a client reads of the stress of a server, held against the rows."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from collector.bundle.stress import STRESS, StressRow, append_row
from quantcase.analysis.stress import stressed
from quantcase.catalog import Case, load
from quantcase.pages.stress import section
from quantcase.pages.view import CaseView, Options
from tests.makers import make_bundle

HOSTILE = "<script>x</script> {{ 7*7 }} [a](javascript:b) | **c**"


def row(variant: str, step: int, verdict: str = "good", **more: Any) -> StressRow:
    """A step of the concurrency ladder: 32 in flight at the first, doubled at each."""
    good = verdict in ("good", "missed_budget", "preempted")
    n = 64 * 2 ** (step - 1)
    given: dict[str, Any] = {
        "start": 1, "ladder": "concurrency", "concurrency": n // 2, "input_tokens": 256, "output_tokens": 32, "n": n,
        "ok": n if good else 0, "errors": 0 if good else n, "timeouts": 0, **more,
    }  # fmt: skip
    return StressRow(variant=variant, step=step, verdict=verdict, **given)  # type: ignore[arg-type]


def case_of(out: Path, rows: list[StressRow]) -> Case:
    folder = make_bundle(out, only=("bf16",))
    for one in rows:
        append_row(folder, one)
    (found,) = load(out).cases
    return found


def cells(page: str, table: str) -> list[list[str]]:
    """The body of a table, cell by cell, without markup."""
    block = page.split(f'id="table-{table}"')[1].split("</table>")[0].split("<tbody>")[1]
    rows = re.findall(r"<tr>(.*?)</tr>", block)
    return [
        [html.unescape(re.sub(r"<[^>]*>", "", c)) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r)] for r in rows
    ]


ROWS = [
    row("fp8", 1, throughput_tok_s=4321.5, ttft_ms_p95=80.25, tpot_ms_p95=7.5, preemptions=0, kv_usage_max=0.42),
    row("fp8", 2),
    row("fp8", 3, "died", words="torch.OutOfMemoryError: CUDA out of memory", after="gone"),
    row("bf16", 1),
    row("bf16", 2, "preempted", words="17 preemptions by the engine's counter", preemptions=17, after="answers"),
    row("bf16", 1, ladder="context", concurrency=4, input_tokens=1024, n=8, ok=8),
    row(
        "bf16", 2, "refused", ladder="context", concurrency=4, input_tokens=8192, n=8, errors=8, after="answers",
        words="HTTP 400: maximum context length is 4096",
    ),
    row("awq", 1, "timeouts", errors=0, timeouts=64, after="silent"),
]  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> str:
    return section(CaseView(case_of(tmp_path, ROWS), Options()))


def test_each_variant_has_its_last_good_point_what_gave_and_the_words(page: str) -> None:
    assert cells(page, "stress") == [
        [
            "bf16 baseline", "prompt length", "1,024 tokens", "8,192 tokens", "✗ refused",
            "HTTP 400: maximum context length is 4096", "it answered again", "–",
        ],
        [
            "bf16 baseline", "requests in flight", "32 in flight", "64 in flight", "! preempted requests",
            "17 preemptions by the engine's counter", "it answered again", "–",
        ],
        [
            "fp8", "requests in flight", "64 in flight", "128 in flight", "✗ the server died",
            "torch.OutOfMemoryError: CUDA out of memory", "the server was gone", "1 step further",
        ],
        ["awq", "requests in flight", "none", "32 in flight", "✗ timed out", "–", "it did not answer any more",
         "not comparable"],
    ]  # fmt: skip


def test_what_was_not_stressed_is_named(page: str) -> None:
    assert html.unescape(page).count("Not stressed: fp8 (prompt length), awq (prompt length), bf16-fp8kv.") == 1


def test_every_step_is_shown_with_its_figures(page: str) -> None:
    steps = cells(page, "stress-steps")
    assert len(steps) == len(ROWS)
    assert steps[4] == [
        "fp8", "requests in flight", "32", "256", "64 of 64", "0", "0", "4,322", "80.2", "7.50", "0", "42", "✓ good",
    ]  # fmt: skip
    assert steps[6][4:13] == ["0 of 256", "256", "0", "–", "–", "–", "–", "–", "✗ the server died"]


def test_the_sentence_before_it_tells_the_load_of_the_rows(page: str) -> None:
    words = page.split("\n\n")[0]
    assert "prompt length from 1,024 up, with 4 in flight and 32 tokens out" in words
    assert "requests in flight from 32 up, with prompts of about 256 tokens and 32 tokens out" in words


def test_a_ladder_without_an_end_did_not_break(tmp_path: Path) -> None:
    page = section(CaseView(case_of(tmp_path, [row("bf16", 1), row("bf16", 2)]), Options()))
    assert cells(page, "stress")[0][2:6] == ["64 in flight", "none up to there", "did not break", "–"]


def test_a_run_that_was_not_stressed_says_so(tmp_path: Path) -> None:
    page = section(CaseView(case_of(tmp_path, []), Options()))
    assert page.startswith('<p class="qc-none">This run was not stressed')
    assert "table" not in page


def test_a_file_that_cannot_be_read_is_told_and_breaks_no_page(tmp_path: Path) -> None:
    case = case_of(tmp_path, [row("bf16", 1)])
    with (case.bundle.folder / STRESS).open("a") as f:
        f.write('{"variant": "<b>"}\n')
    assert "line 2" in stressed(case).unreadable
    assert "cannot be read" in section(CaseView(case, Options()))


def test_a_servers_words_stay_text(tmp_path: Path) -> None:
    page = section(CaseView(case_of(tmp_path, [row("bf16", 1, "refused", words=HOSTILE)]), Options()))
    assert cells(page, "stress")[0][5] == HOSTILE
    for part in ("<script", "{{", "](", "**", " | "):
        assert part not in page
