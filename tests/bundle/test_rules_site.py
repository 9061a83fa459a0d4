"""What the site makes of the rule book: each broken rule is named on the data page, and an error takes the verdict."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

from collector.bundle.check import RULES, check_bundle, outcome
from collector.bundle.read import open_bundle
from quantcase.catalog import Case
from quantcase.pages.data import page
from quantcase.pages.view import CaseView, Options
from tests.bundle.breaking import Box, sound_bundle


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / sound.name))


def view_of(folder: Path) -> CaseView:
    bundle = open_bundle(folder)
    return CaseView(Case(bundle, bundle.study(), check_bundle(bundle)), Options())


def section(folder: Path) -> str:
    """The part of the data page that tells what check said, as text with its tags."""
    return html.unescape(page(view_of(folder)).split("## What check says")[1].split("## Files")[0])


def rows(words: str) -> list[list[str]]:
    body = words.partition("<tbody>")[2]
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]


def test_a_sound_bundle_says_so_with_the_number_of_rules(sound: Path) -> None:
    words = section(sound)
    judged = len(outcome(sound).applied)
    assert "found the bundle whole, unchanged, and true to its own definitions." in words
    assert f"{judged} of the {judged} rules that apply to it passed; {len(RULES) - judged} are about something" in words
    assert rows(words) == []


def test_a_note_stands_with_its_rule_and_takes_no_verdict(copied: Path) -> None:
    Box(copied).seen(0, tokens_per_chunk=2.0)
    words = section(copied)
    assert [row[:3] for row in rows(words)] == [["Q1005", "note", "client.json"]]
    assert rows(words)[0][4] == RULES["Q1005"].fix
    judged = len(outcome(copied).applied)
    assert f"{judged - 1} of the {judged} rules" in words
    assert view_of(copied).case.sound


def test_an_error_stands_first_and_no_verdict_is_given(copied: Path) -> None:
    box = Box(copied)
    box.client[0].tokens_per_chunk = 2.0
    box.answers[0].score = 7.0
    box.save()
    words, view = section(copied), view_of(copied)
    assert [row[:2] for row in rows(words)] == [["Q714", "error"], ["Q1005", "note"]]
    assert "no verdict is given" in words
    assert not view.case.sound
    assert {v.rule for v in view.verdicts} == {"unsound"}
