"""Secrets of every kind, put in wherever text comes into a bundle: none is in the bundle, none is in its site."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from collector.api_key import from_file, given
from collector.bundle.check import check, errors
from collector.bundle.door import public_url, restored, warnings
from collector.bundle.manifest import self_hash_ok
from collector.bundle.read import open_bundle
from collector.bundle.redaction import REDACTED, TAKEN_OUT, Redacted, Wish, read_redacted, redacted_copy
from collector.bundle.seal import seal
from collector.cli import cli
from collector.engines.base import StartFailed
from collector.engines.endpoint import Endpoint
from collector.engines.process import EngineProcess, free_port
from collector.errors import QuantcaseError, UsageFault
from collector.redact_command import redact as command
from quantcase.analysis.quality import Quality, qualities
from quantcase.catalog import Case
from tests.planted import KINDS, LABELS, asked, everything, leaks, needle, pages, write


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(write(tmp_path_factory.mktemp("secrets") / "results"))


def found(folder: Path) -> list[Quality]:
    b = open_bundle(folder)
    return qualities(Case(b, b.study(), []))


# -- written -----------------------------------------------------------------------------------------------------


def test_no_planted_secret_is_in_the_bundle(bundle: Path) -> None:
    assert leaks(everything(bundle)) == []
    assert errors(check(bundle)) == []


def test_what_is_no_secret_is_still_there(bundle: Path) -> None:
    b = open_bundle(bundle)
    assert b.study().engine.env["VLLM_USE_V1"] == "1"
    assert [v.model for v in b.study().variants] == ["org/model-8B", "org/model-8B-FP8"]
    assert b.environment().sessions[0].software["cudnn"] == "9.10.2.21"
    assert [v.kernel_path for v in b.variants()][1] == "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod"
    assert {v.argv.count("[removed]") > len(KINDS) / 2 for v in b.variants()} == {True}
    assert b.quality_items()[0].prompt == "ZqPROMPT number 0"  # what was asked is what was measured


def test_no_planted_secret_is_in_the_site(bundle: Path) -> None:
    texts = list(pages(bundle.parent))
    assert len(texts) > 10
    assert leaks(iter(texts)) == []


def test_a_study_of_a_bundle_takes_its_secrets_from_the_environment(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_bundle(bundle).study()
    plain = msgspec.structs.replace(
        study, engine=msgspec.structs.replace(study.engine, args=["--x"]), variants=study.variants[:1]
    )
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(QuantcaseError, match=r"HF_TOKEN of engine was taken out.*; set HF_TOKEN in the environment"):
        restored(plain, "study.toml")
    monkeypatch.setenv("HF_TOKEN", "t")
    assert restored(plain, "study.toml").engine.env == {"VLLM_USE_V1": "1", "CACHE": f"{Path.home()}/cache"}
    with pytest.raises(QuantcaseError, match="an argument of engine was taken out as a secret"):
        restored(study, "study.toml")


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://llm.customer.example/v1", "https://[removed]"),
        ("http://10.0.0.5:8000", "http://[removed]:8000"),
        ("", ""),
    ],
)
def test_an_endpoints_address_stays_only_where_it_is_this_machine(url: str, public: str) -> None:
    assert public_url(url) == public
    assert public_url(public) == public


def test_an_endpoint_of_a_bundle_has_to_be_named_again() -> None:
    study = asked()
    study.engine.url = "http://[removed]:8000"
    with pytest.raises(QuantcaseError, match="not in the bundle; give it again with --endpoint URL"):
        Endpoint().check(study)


def test_a_persons_own_words_stay_and_are_warned_of(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / bundle.name
    shutil.copytree(bundle, copy)
    (copy / "notes.md").write_text(
        f"# Notes\n\nask {needle('NOTES', 'e-mail')}@example.org\n\nhf_{needle('NOTES', 'openai')}AbCdEf\n"
    )
    assert seal(copy) == ["notes.md"]
    told = warnings(copy)
    assert told == ["notes.md line 3: looks like: e-mail address", "notes.md line 5: looks like: key or token"]
    assert needle("NOTES", "e-mail") in (copy / "notes.md").read_text()
    place, _ = redacted_copy(copy, tmp_path / "out", Wish(notes=True, logs=True, host=True))
    assert leaks(everything(place)) == []
    assert leaks(pages(place.parent)) == []


# -- redacted ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return redacted_copy(bundle, tmp_path_factory.mktemp("redacted"), Wish())[0]


def test_a_redacted_copy_holds_no_prompt_and_no_answer_and_is_sound(copy: Path) -> None:
    for name, said in everything(copy):
        for word in ("ZqPROMPT", "ZqANSWER", *LABELS, "late_delivery", "refund_wish"):
            assert word not in said, name
    assert errors(check(copy)) == []
    assert self_hash_ok(copy, open_bundle(copy).manifest)


def test_the_manifest_says_what_was_taken(bundle: Path, copy: Path) -> None:
    said = read_redacted(copy)
    assert isinstance(said, Redacted)
    assert said.salt == "thrown away"
    assert said.source_manifest_sha256 == open_bundle(bundle).info.manifest_sha256
    resource = next(r for r in open_bundle(copy).manifest.resources if r.path == REDACTED)
    assert resource.description.startswith("this is a redacted copy: it lacks prompts, references, answers")
    assert read_redacted(bundle) is None


def test_figures_of_a_redacted_copy_are_those_of_the_bundle(bundle: Path, copy: Path) -> None:
    whole, marked = found(bundle), found(copy)
    assert [q.variant for q in whole] == ["fp8"]
    (a,), (b,) = whole, marked
    assert a.accuracy is not None
    assert a.accuracy.variant_right == 51  # 60 less the 9 of range(0, 60, 7)
    assert a.fidelity is not None
    assert a.divergence is not None
    assert a.tasks[0].macro_f1 is not None
    for name in ("accuracy", "tasks", "fidelity", "divergence", "form", "length"):
        assert getattr(a, name) == getattr(b, name), name
    for q, r in zip(open_bundle(bundle).cells(), open_bundle(copy).cells(), strict=True):
        assert q == r


def test_the_quality_page_of_a_redacted_copy_says_that_texts_were_taken_out(copy: Path) -> None:
    texts = dict(pages(copy.parent))
    page = texts[f"cases/{copy.name}/quality/index.md"]
    assert TAKEN_OUT in page
    assert leaks(iter(texts.items())) == []
    assert not any("ZqPROMPT" in t or "ZqANSWER" in t or "Late delivery" in t for t in texts.values())


def test_marks_tell_nothing_of_how_often_a_word_occurs(copy: Path) -> None:
    """The same token at another position, or to another prompt, has another mark."""
    marks = [t for row in open_bundle(copy).quality() if row.variant == "fp8" for t in (row.tokens or [])]
    assert len(set(marks)) == len(marks) == 240
    likely = [t for row in open_bundle(copy).quality_items() for t in (row.token_ids or [])]
    assert len(set(likely)) == len(likely) == 72


def test_copies_with_one_salt_have_the_same_marks_and_others_do_not(bundle: Path, tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    made = [redacted_copy(bundle, tmp_path / n, Wish(), salt_file=salt)[0] for n in ("a", "b")]
    other = redacted_copy(bundle, tmp_path / "c", Wish())[0]
    assert salt.stat().st_mode & 0o777 == 0o600
    assert (made[0] / "quality.jsonl").read_bytes() == (made[1] / "quality.jsonl").read_bytes()
    assert (made[0] / "quality.jsonl").read_bytes() != (other / "quality.jsonl").read_bytes()
    assert salt.read_text().strip() not in "".join(t for _, t in everything(made[0]))
    with pytest.raises(UsageFault, match="salt must not lie in a bundle"):
        redacted_copy(bundle, tmp_path / "d", Wish(), salt_file=bundle / "salt")


def test_logs_host_notes_and_columns_go_when_asked_for(bundle: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command,
        [str(bundle), "--out", str(tmp_path), "--logs", "--host", "--notes", "--column", "cells.ttft_ms_p99"],
    )
    assert result.exit_code == 0, result.output
    b = open_bundle(tmp_path / bundle.name)
    assert not (b.folder / "logs").exists()
    assert not (b.folder / "notes.md").exists()
    assert b.environment().sessions[0].host == {}
    assert b.columns_of("cells") >= {"ttft_ms_p95"}
    assert "ttft_ms_p99" not in b.columns_of("cells")
    assert "cells.ttft_ms_p99" in (read_redacted(b.folder) or Redacted(taken=[])).columns
    assert errors(check(b.folder)) == []
    assert "the engines' logs" in result.output


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("cells.nothing",), "--column cells.nothing: no such column"),
        (("nowhere.x",), "--column nowhere.x: no such table"),
        (("requests.variant",), "is needed to tell rows apart"),
        (("requests.ttft_ms",), "the copy would not be sound"),
    ],
)
def test_columns_that_cannot_be_missed_are_refused_and_leave_nothing(
    bundle: Path, tmp_path: Path, columns: tuple[str, ...], says: str
) -> None:
    with pytest.raises(QuantcaseError, match=says):
        redacted_copy(bundle, tmp_path, Wish(columns=columns))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_writes_over_nothing_and_hides_no_fault(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="is there already"):
        redacted_copy(bundle, bundle.parent, Wish())
    bad = tmp_path / bundle.name
    shutil.copytree(bundle, bad)
    (bad / "cells.csv").write_text((bad / "cells.csv").read_text() + "\n")
    with pytest.raises(QuantcaseError, match="is not sound"):
        redacted_copy(bad, tmp_path / "out", Wish())


# -- the key of an endpoint --------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTCASE_API_KEY", "")  # so that what from_file() leaves there is taken back
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-service")
    assert given() is None
    monkeypatch.setenv("QUANTCASE_API_KEY", " k1\n")
    assert given() == "k1"
    file = tmp_path / "key"
    file.write_text("k2\n")
    assert from_file(file) == "k2"
    assert given() == "k2"
    assert from_file(None) == "k2"
    for bad in ("", "two words", "é"):
        file.write_text(bad)
        with pytest.raises(UsageFault):
            from_file(file)
    with pytest.raises(UsageFault, match="No such file"):
        from_file(tmp_path / "none")


def test_no_option_takes_a_key_on_the_command_line() -> None:
    options = {o for c in cli.commands.values() for p in c.params for o in p.opts}
    assert not options & {"--api-key", "--key", "--token"}


async def test_an_engine_of_ours_never_sees_the_key_to_an_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTCASE_API_KEY", "ZqKEY")
    log = tmp_path / "log"
    process = EngineProcess([sys.executable, "-c", "import os; print(dict(os.environ))"], env={"A": "1"}, log_path=log)
    with pytest.raises(StartFailed):
        await process.wait_healthy("http://127.0.0.1:9/", free_port(), 30)
    assert "'A': '1'" in log.read_text()
    assert "ZqKEY" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
