"""One run over engines and replies with all that can be wrong with them, and its resume when nothing is wrong any more.

The run and its resume happen once; every test reads what they left.
"""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from collector.bundle.check import outcome
from collector.bundle.read import open_bundle
from collector.bundle.schema import RequestRow, Status, VariantRow
from collector.cli import cli
from tests.faults.server import REPLIES, TOKENS
from tests.faults.tools import (
    TIMEOUT_S,
    bundle_in,
    collected,
    error_of,
    last_starts,
    levels,
    mended,
    nothing_left,
    rows_on_disk,
    study,
)

VARIANTS = {
    "bf16": "fine", "mixed": "replies", "broken": "broken", "killed": "killed", "oom": "oom", "gone": "gone",
    "hang": "hang", "stuck": "stuck", "no-memory": "no-memory", "at-start": "killed-at-start", "late": "late",
}  # fmt: skip
CRASHED = {"broken", "killed", "oom", "gone", "hang", "stuck", "at-start"}
N = len(REPLIES)


class Stage(NamedTuple):
    """What a run left, read at once: the next one writes to the same bundle."""

    done: subprocess.CompletedProcess[str]
    folder: Path
    rows: set[str]
    variants: dict[str, VariantRow]
    cells: set[tuple[str, str]]
    requests: list[RequestRow]
    logs: dict[str, str]
    status: Status
    grave: list[str]
    checked: Result
    broken_rules: frozenset[str]


def stage(done: subprocess.CompletedProcess[str], folder: Path) -> Stage:
    bundle = open_bundle(folder)
    logs = {p.name: gzip.decompress(p.read_bytes()).decode() for p in (folder / "logs").iterdir()}
    found, checked = outcome(folder), CliRunner().invoke(cli, ["check", str(folder)])
    return Stage(
        done, folder, rows_on_disk(folder), last_starts(bundle), {(c.variant, c.load) for c in bundle.cells()},
        list(bundle.requests()), logs, bundle.info.status, levels(folder), checked, found.broken,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, Stage]:
    """The run with the faults, and its resume without them."""
    folder = tmp_path_factory.mktemp("faults")
    ran = collected("run", study(folder, VARIANTS), "--gpu", "cpu", "--out", folder / "out")
    nothing_left(folder)
    first = stage(ran, bundle_in(folder / "out"))
    mended(folder)
    ran = collected("run", "--resume", first.folder)
    nothing_left(folder)
    return first, stage(ran, first.folder)


def test_the_run_ends_with_one_line_that_names_every_crash_and_how_to_go_on(runs: tuple[Stage, Stage]) -> None:
    first, _ = runs
    assert first.done.returncode == 1
    line = error_of(first.done)
    for name in CRASHED:
        assert f"{name}: " in line
    assert line.endswith(f"go on with: collect run --resume {first.folder}")


def test_the_bundle_is_interrupted_and_check_says_just_that(runs: tuple[Stage, Stage]) -> None:
    first, _ = runs
    assert (first.status, first.grave) == ("interrupted", ["interrupted"])
    assert first.checked.exit_code == 1
    planned = 2 * len(VARIANTS)
    assert f"10 of {planned} cell repeats are measured; finish it with" in first.checked.output


def test_what_was_measured_before_a_crash_is_kept_to_the_byte(runs: tuple[Stage, Stage]) -> None:
    first, after = runs
    for name in ("killed", "oom", "gone", "hang"):
        assert (name, "c1") in first.cells
        assert (name, "c2") not in first.cells
    assert len(first.rows) == 10 * (1 + N)
    assert first.rows <= after.rows


def test_resume_measures_what_is_missing_and_nothing_else(runs: tuple[Stage, Stage]) -> None:
    _, after = runs
    assert after.done.returncode == 0, after.done.stderr
    assert (after.status, after.grave, after.checked.exit_code) == ("complete", [], 0)
    assert after.cells == {(name, load) for name in VARIANTS if name != "no-memory" for load in ("c1", "c2")}
    assert {name for name, v in after.variants.items() if v.start == 2} == CRASHED
    assert all(v.exit_state == "ok" for name, v in after.variants.items() if name != "no-memory")


ENDS = {
    "killed": "the engine died during chat c2",
    "oom": "the engine died during chat c2",
    "gone": "the engine ",  # died before, or during, the warm-up: it ends by itself, in a pause
    "hang": f"no request of the warm-up of chat c2, and none alone, was answered within {TIMEOUT_S:g} s",
    "stuck": "the engine hangs in chat c1: no reply got a byte for ",
    "broken": f"all {N} requests of chat c1 failed: HTTP 500: out of cheese",
    "at-start": "the engine was ended by SIGKILL",
}


@pytest.mark.parametrize("name", sorted(ENDS))
def test_a_crash_has_its_reason_in_the_row_of_its_start(runs: tuple[Stage, Stage], name: str) -> None:
    row = runs[0].variants[name]
    assert row.exit_state == "crash"
    assert ENDS[name] in (row.error or "")
    if name == "gone":
        assert "died" in (row.error or "")
    if name == "stuck":  # of 21 requests 17 were left: each would have waited for its own time limit
        assert (row.error or "").endswith(f"then a short request alone none in {TIMEOUT_S:g} s")


def test_an_engine_that_does_not_fit_is_a_finding_and_not_tried_again(runs: tuple[Stage, Stage]) -> None:
    first, after = runs
    assert (first.variants["no-memory"].exit_state, first.variants["no-memory"].start) == ("oom", 1)
    assert after.variants["no-memory"] == first.variants["no-memory"]


def test_the_log_says_who_was_killed_and_keeps_the_engines_last_words(runs: tuple[Stage, Stage]) -> None:
    logs = runs[0].logs
    told = "quantcase: the engine was ended by SIGKILL (the kernel does that when the machine's memory is full"
    assert told in logs["killed-1.log.gz"]
    assert "torch.OutOfMemoryError: CUDA out of memory" in logs["oom-1.log.gz"].split(told)[0]
    assert "quantcase:" not in logs["gone-1.log.gz"]  # it ended by itself
    assert "quantcase:" not in logs["bf16-1.log.gz"]  # we ended it


def test_an_engine_that_answers_503_at_first_is_waited_for(runs: tuple[Stage, Stage]) -> None:
    row = runs[0].variants["late"]
    assert (row.exit_state, row.error) == ("ok", None)
    assert (row.healthy_s or 0) > (row.port_s or 0)


# What each reply becomes: its status, and words of its error.
ROWS = {
    "reset": ("error", "the connection was closed: [Errno 104] Connection reset by peer"),
    "half-event": ("error", "the connection was closed early"),
    "bad-utf8": ("error", "a chunk is not UTF-8"),
    "garbage": ("error", "a chunk is not JSON"),
    "deep": ("error", "a chunk is not JSON"),
    "error-event": ("error", "in the stream: a kernel failed"),
    "refused-429": ("error", "HTTP 429: slow down (Retry-After: 7)"),
    "refused-503": ("error", "HTTP 503: Loading model"),
    "no-usage": ("error", "the server stated no token usage; tokens cannot be counted"),
    "bad-usage": ("error", "the server stated no token usage; tokens cannot be counted"),
    "zero-tokens": ("error", "the reply held no text"),
    "tool-calls": ("error", "the reply held no text"),
    "reasoning": ("ok", None),
    "several-tokens": ("ok", None),
    "usage-with-choices": ("ok", None),
    "ignores-max": ("ok", None),
    "megabyte": ("ok", None),
    "long-word": ("ok", None),
    "bad-length": ("ok", None),
    "bad-chunk-size": ("error", "the reply held no text"),
    "slow-loris": ("timeout", "no end within the time limit"),
}
COUNTS = {  # tokens by the server's word, and content chunks
    "reasoning": (TOKENS, TOKENS), "several-tokens": (TOKENS, 2), "usage-with-choices": (TOKENS, TOKENS),
    "ignores-max": (2 * TOKENS, 2 * TOKENS), "megabyte": (TOKENS, TOKENS + 1), "long-word": (TOKENS, TOKENS),
    "bad-length": (TOKENS, TOKENS),
}  # fmt: skip


def mixed(requests: list[RequestRow], kind: str) -> RequestRow:
    (row,) = [r for r in requests if (r.variant, r.load, r.index) == ("mixed", "c1", REPLIES.index(kind))]
    return row


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_is_told_for_what_it_is(runs: tuple[Stage, Stage], kind: str) -> None:
    row = mixed(runs[0].requests, kind)
    assert (row.status, row.error) == ROWS[kind]
    if kind in COUNTS:
        assert (row.output_tokens, row.chunks) == COUNTS[kind]
        assert row.ttft_ms is not None


def test_a_bad_reply_takes_no_other_with_it_and_is_counted(runs: tuple[Stage, Stage]) -> None:
    """Failed requests are in the count of their cell, out of its figures, and `check` warns of them."""
    _, after = runs
    cells = [c for c in open_bundle(after.folder).cells() if c.variant == "mixed"]
    bad = sum(status == "error" for status, _ in ROWS.values())
    assert [(c.n, c.ok, c.errors, c.timeouts, c.cut) for c in cells] == [
        (N, N - bad - 1, bad, 1, 0), (N, N, 0, 0, 0),
    ]  # fmt: skip
    assert {"Q904", "Q706"} <= after.broken_rules  # many failed; one answered more than it was asked for


def test_words_of_a_server_stay_short_and_on_one_line(runs: tuple[Stage, Stage]) -> None:
    reason = mixed(runs[0].requests, "long-word").finish_reason
    assert reason is not None
    assert reason.startswith("stop")
    assert len(reason) <= 40
    assert reason.isprintable()
