"""The rule book: each rule finds what breaks it, and nothing else does; a sound bundle breaks none."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from collector.bundle import check_view
from collector.bundle.check import LEVELS, RULES, Fault, Outcome, check, errors, outcome
from collector.bundle.rules import FAMILIES
from collector.bundle.rules.base import REGISTRY, rule
from collector.bundle.rules.enough import least_n
from collector.cli import cli
from tests.bundle import breakers_files, breakers_rows, breakers_trust
from tests.bundle.breaking import BREAKERS, Box, sound_bundle
from tests.real import RESULTS
from tools.rules_page import PAGE, page

__all__ = ["breakers_files", "breakers_rows", "breakers_trust"]  # importing them registers what they break

# Rules about grades and files that a measured bundle of our own does not have.
ABSENT = {"Q1202", "Q1205", "Q1206", "Q1207"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / sound.name))


def test_a_sound_bundle_is_judged_by_every_rule_and_breaks_none(sound: Path) -> None:
    said = outcome(sound)
    assert said.faults == []
    assert RULES.keys() - said.applied == ABSENT
    assert said.passed == said.applied


@pytest.mark.parametrize("id_", RULES)
def test_what_breaks_a_rule_breaks_just_that_rule(id_: str, copied: Path) -> None:
    assert id_ in BREAKERS, f"no bundle in tests/bundle/breakers_*.py breaks {id_}"
    breaker = BREAKERS[id_]
    breaker.act(Box(copied))
    faults = check(copied)
    assert {f.rule for f in faults} == {id_, *breaker.also}, [str(f) for f in faults]
    for fault in faults:
        assert fault.level == RULES[fault.rule].level
        assert fault.where
        assert fault.problem
        assert fault.fix


def test_no_breaker_is_of_a_rule_that_is_gone() -> None:
    assert BREAKERS.keys() == RULES.keys()


def test_every_rule_is_of_a_family_and_says_what_holds_why_and_what_to_do() -> None:
    for id_, one in RULES.items():
        assert id_ == one.id
        assert one.family in FAMILIES
        assert one.level in LEVELS
        assert one.sentence.endswith(".")
        assert one.why.endswith(".")
        assert one.fix
        assert not one.fix.endswith(".")
    assert len({r.sentence for r in RULES.values()}) == len(RULES)


def test_two_rules_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="two rules are called Q101"):
        rule("Q101", "note", "x", why="x", fix="x")(REGISTRY["Q101"].find)


def test_the_guide_is_the_rule_book() -> None:
    assert page() == PAGE.read_text("utf-8"), "run python -m tools.rules_page"
    for one in RULES.values():
        assert f"| `{one.id}` | {one.level} | {one.sentence} | {one.why} | {one.fix} |" in PAGE.read_text("utf-8")


@pytest.mark.parametrize("p", [0.95, 0.99])
def test_the_least_n_is_the_first_at_which_the_largest_value_bounds_the_quantile(p: float) -> None:
    n = least_n(p)
    assert p**n <= 0.025 < p ** (n - 1)
    assert n == {0.95: 72, 0.99: 368}[p]


@pytest.mark.parametrize("name", sorted(p.name for p in RESULTS.iterdir() if p.is_dir()))
def test_the_bundles_in_results_have_no_errors(name: str) -> None:
    assert [str(f) for f in check(RESULTS / name) if f.level == "error"] == []


def test_checking_eight_thousand_requests_takes_under_two_seconds() -> None:
    began = time.process_time()
    outcome(RESULTS / "2026-11-21-h200-h200-shape")
    assert time.process_time() - began < 2


def test_only_errors_and_unfinished_runs_are_errors() -> None:
    faults = [Fault(level, "x", "y", rule="Q101") for level in LEVELS]
    assert [f.level for f in errors(faults)] == ["error", "interrupted"]
    assert str(Fault("note", "cells.csv", "is odd", "look", "Q906")) == "Q906 note: cells.csv: is odd; look"


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_counts_and_names_the_rule_in_one_line_a_finding(copied: Path) -> None:
    box = Box(copied)
    box.seen(0, loop_lag_ms_p99=4.9)
    ran = CliRunner().invoke(cli, ["check", str(copied)])
    first, second, third = ran.stdout.splitlines()
    assert first.startswith(f"{copied.name}: ok (measured, weights real, 6 cell repeats, ")
    judged = len(RULES) - len(ABSENT)
    assert second == f"  {judged - 1} of {judged} rules passed, {len(ABSENT)} did not apply, 1 note"
    assert third.startswith(
        "  Q1002  note        client.json: lag is over a tenth of TTFT in 1 of 6 repeats; most 4.9 ms"
    )
    assert ran.exit_code == 0


def test_warnings_fail_when_strict_and_notes_never(copied: Path) -> None:
    box = Box(copied)
    box.seen(0, tokens_per_chunk=2.0)
    assert CliRunner().invoke(cli, ["check", "--strict", str(copied)]).exit_code == 0
    box.client.pop()
    box.save()
    assert CliRunner().invoke(cli, ["check", str(copied)]).exit_code == 0
    assert CliRunner().invoke(cli, ["check", "--strict", str(copied)]).exit_code == 1


def test_errors_and_unfinished_runs_fail(copied: Path) -> None:
    Box(copied).seal(status="interrupted")
    ran = CliRunner().invoke(cli, ["check", str(copied)])
    assert (ran.exit_code, "interrupted" in ran.stdout) == (1, True)
    Box(copied).seal(status="complete", cells_done=7)
    ran = CliRunner().invoke(cli, ["check", str(copied)])
    assert (ran.exit_code, "not sound" in ran.stdout, "Q105" in ran.stdout) == (1, True, True)


def test_an_unfinished_run_may_be_allowed_and_an_error_in_it_never(copied: Path) -> None:
    Box(copied).seal(status="interrupted")
    ran = CliRunner().invoke(cli, ["check", "--allow-interrupted", "--strict", str(copied)])
    assert (ran.exit_code, f"{copied.name}: interrupted" in ran.stdout) == (0, True)
    ran = CliRunner().invoke(cli, ["check", "--allow-interrupted", "--json", str(copied)])
    assert [b["passes"] for b in json.loads(ran.stdout)["bundles"]] == [True]
    (copied / "cells.csv").write_text("x\n")
    assert CliRunner().invoke(cli, ["check", "--allow-interrupted", str(copied)]).exit_code == 1


def test_json_holds_every_finding_and_what_passed(copied: Path) -> None:
    Box(copied).sample(3, temperature_c=330.0)
    ran = CliRunner().invoke(cli, ["check", "--json", "--strict", str(copied)])
    (said,) = json.loads(ran.stdout)["bundles"]
    assert (said["bundle"], said["verdict"], said["passes"]) == (copied.name, "ok", False)
    (finding,) = said["findings"]
    assert (finding["rule"], finding["level"], finding["where"]) == ("Q407", "warning", "telemetry.csv.gz")
    assert set(said["not_applied"]) == ABSENT
    assert {*said["passed"], *said["not_applied"], "Q407"} == RULES.keys()
    assert ran.exit_code == 1


def test_the_rules_are_listed_within_80_columns() -> None:
    ran = CliRunner().invoke(cli, ["check", "--rules"])
    assert ran.exit_code == 0
    assert max(len(line) for line in ran.stdout.splitlines()) <= 80
    for one in RULES.values():
        assert f"  {one.id} " in ran.stdout
    listed = json.loads(CliRunner().invoke(cli, ["check", "--rules", "--json"]).stdout)["rules"]
    assert [r["id"] for r in listed] == list(RULES)


def test_a_thousand_findings_of_one_rule_are_counted_and_a_terminal_gets_no_control_characters(sound: Path) -> None:
    many = [Fault("error", f"line {i}", "a \x1b[2J time is negative", "", "Q702") for i in range(1000)]
    words = check_view.found_text(sound, Outcome(many, frozenset({"Q702"})), 80)
    assert "990 more of Q702" in " ".join(words.split())
    assert "\x1b" not in words
    assert max(len(line) for line in words.splitlines()[1:]) <= 80
    assert len(words.splitlines()) < 20


def test_an_older_collectors_gaps_in_what_it_wrote_are_no_fault(copied: Path) -> None:
    box = Box(copied)
    box.client = [replace(c, usage_tokens=None, client_limited=None, engine_tokens=None) for c in box.client]
    box.session(0, minutes=None)
    assert check(copied) == []
