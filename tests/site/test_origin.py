"""Where a bundle's figures come from: what is said of each grade is what was done."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.bundle.migrate import migrate
from collector.importers.command import import_results
from quantcase.catalog import Case, load, read
from quantcase.pages import case as case_page
from quantcase.pages import data, log, origin
from quantcase.pages.view import CaseView, Options
from tests.bundle.test_migrate import DAY
from tests.makers import make_bundle
from tests.real import RESULTS

GOLDEN = Path(__file__).parents[1] / "golden" / "format-1"
OURS = "Same harness, same prompts"


def plain(markdown: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markdown)).split())


def golden(kind: str) -> Case:
    return read(next(GOLDEN.glob(f"*-golden-{kind}")))


def end_of(case: Case) -> str:
    """The end of the data page."""
    return plain(data.page(CaseView(case, Options())).partition("## Do it again")[2])


def test_a_measured_bundle_is_run_again_from_its_own_study() -> None:
    case = golden("measured")
    assert plain(origin.method(case)).startswith(OURS)
    assert f"collect run results/{case.id}/study.toml --gpu h200" in end_of(case)


def test_an_interrupted_one_is_finished_and_no_path_of_this_machine_is_shown() -> None:
    case = golden("interrupted")
    assert f"collect run --resume results/{case.id} collect check" in end_of(case)
    assert "/golden/format-1" not in html.unescape(data.page(CaseView(case, Options())))


def test_an_imported_one_names_tool_files_and_what_is_not_known() -> None:
    case = golden("imported")
    view = CaseView(case, Options())
    said, end = plain(case_page.page(view)), end_of(case)
    assert OURS not in said
    assert "Read by collector 0.1.0 from files of vllm-bench (version not stated)" in said
    assert "server start" not in said.partition("Can I trust this?")[0]
    assert "as imported" in said
    assert "request_rate bf16 inf" in said  # of the tool's file, not of the form in study.toml
    assert "prose, seed 1" not in said
    assert "The command that ran vllm-bench for bf16 does not stand in its files." in end
    assert "collect run" not in end + plain(log.page(view)).partition("## Appendix")[2]
    assert "prose, seed" not in plain(log.page(view))


def test_the_import_command_that_is_shown_reads_the_files_again(tmp_path: Path) -> None:
    case = golden("imported")
    command = next(c for c in origin.commands(case) if c.startswith("collect import"))
    words = shlex.split(command)[2:]
    samples = Path(__file__).parents[1] / "samples"
    found = next(samples.rglob("vllm-0.32-completions.json"))
    words[words.index("vllm-0.32-completions.json")] = str(found)
    done = CliRunner().invoke(import_results, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    again = load(tmp_path).cases[0]
    assert (again.title, again.study.id, again.baseline) == (case.title, case.study.id, case.baseline)
    assert (again.bundle.folder / "requests.csv.gz").stat().st_size > 0
    assert again.bundle.cells() == case.bundle.cells()


def test_published_figures_are_not_said_to_be_run() -> None:
    case = read(RESULTS / "2025-10-09-gh200-shimmy-moe")
    view = CaseView(case, Options())
    assert "nothing was measured by this collector" in plain(origin.method(case))
    assert "collect run" not in end_of(case)
    assert "No command of this collector made these figures" in end_of(case)
    experiments = plain(log.page(view))
    assert "Somebody else ran these experiments" in experiments
    assert "Experiment 1" not in experiments
    assert "No verdict is given on any variant" in plain(case_page.page(view))


def test_a_simulated_one_says_that_it_replays(tmp_path: Path) -> None:
    made = read(make_bundle(tmp_path, grade="simulated"))
    assert "replay of recorded timings: nothing was measured" in plain(origin.method(made))
    assert "These lines replay and check it again" in end_of(made)


def test_a_replay_that_is_not_finished_is_said_to_be_that(tmp_path: Path) -> None:
    end = end_of(read(make_bundle(tmp_path, grade="simulated", status="interrupted")))
    assert "The run is not finished." in end
    assert "collect run --resume" in end


def test_a_redacted_one_says_what_it_lacks_and_where_the_whole_is() -> None:
    end = end_of(golden("redacted"))
    assert "This bundle is a copy, from which was taken out: prompts" in end
    assert re.search(r"sha256, [0-9a-f]{64}", end)


def test_a_migrated_one_can_be_migrated_again_from_what_it_kept(tmp_path: Path) -> None:
    made = migrate(DAY, tmp_path)
    assert made is not None
    case = read(made)
    assert "Brought forward from files of format 0" in plain(origin.method(case))
    assert "the old files lie unchanged" in end_of(case)
    shown = shlex.split(next(c for c in origin.commands(case) if "migrate" in c))
    assert shown[2] == f"results/{case.id}/format-0"
    again = migrate(
        made / "format-0", tmp_path / "again", gpu=shown[shown.index("--gpu") + 1],
        baseline=shown[shown.index("--baseline") + 1],
    )  # fmt: skip
    assert again is not None
    assert read(again).bundle.cells() == case.bundle.cells()


@pytest.mark.parametrize("kind", ["imported", "interrupted"])
def test_where_nothing_was_compared_no_gain_is_denied(kind: str) -> None:
    view = CaseView(golden(kind), Options())
    said = plain(case_page.page(view))
    assert "No answer yet: nothing was measured beside the baseline." in said
    assert "beyond the noise" not in said
