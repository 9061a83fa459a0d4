"""Model cards on their way to the Hub: nothing leaves unless asked, and what was not measured never does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from collector.bundle.read import QuantcaseError
from collector.bundle.schema import Grade
from quantcase.pages import cards
from quantcase.pages.view import CaseView
from quantcase.publish_cards import publish_cards, refusal, repository
from tests.makers import make_bundle
from tests.site.card_bundles import small, study, the_hub, view_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("cards"), asked=study())


@pytest.fixture(scope="module")
def view(folder: Path) -> CaseView:
    return view_of(folder)


@pytest.fixture(scope="module")
def hub() -> Any:
    return the_hub()


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(publish_cards, [str(folder), *arguments])


def test_by_default_nothing_leaves_and_what_would_go_where_is_shown(
    folder: Path, view: CaseView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not even imported
    result = run(folder, "--repo-prefix", "acme/llama")
    assert result.exit_code == 0
    size = len(cards.readme(view, "awq").encode())
    assert f"would upload README.md ({size:,} bytes) of awq to https://huggingface.co/acme/llama-awq\n" in result.output
    assert "acme/llama-fp8" in result.output
    assert "bf16" not in result.output  # neither the baseline nor a KV cache makes another checkpoint
    assert "    base_model_relation: quantized" in result.output
    assert result.output.endswith("nothing was uploaded: add --upload\n")
    assert "ORG/NAME-awq" in run(folder, "--variant", "awq").output
    assert "acme/llama-bf16-fp8kv" in run(folder, "--variant", "bf16-fp8kv", "--repo-prefix", "acme/llama").output


def test_an_upload_goes_to_each_repository_with_the_token_of_the_environment(
    folder: Path, view: CaseView, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    calls: list[dict[str, Any]] = []

    class Api:
        def __init__(self, token: str) -> None:
            self.token = token

        def upload_file(self, **given: Any) -> Any:
            calls.append({**given, "token": self.token})
            return SimpleNamespace(commit_url="https://huggingface.co/acme/llama-fp8/commit/1")

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = run(folder, "--repo-prefix", "acme/llama", "--variant", "fp8", "--upload")
    assert result.exit_code == 0, result.output
    (call,) = calls
    assert (call["repo_id"], call["path_in_repo"], call["repo_type"]) == ("acme/llama-fp8", "README.md", "model")
    assert call["path_or_fileobj"].decode() == cards.readme(view, "fp8")
    assert call["token"] == "hf_secret"
    assert view.case.bundle.id in call["commit_message"]
    assert "hf_secret" not in result.output
    assert "uploaded: https://huggingface.co/acme/llama-fp8/commit/1" in result.output


def test_what_is_missing_is_named_with_its_mend(folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Any) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    upload = ("--repo-prefix", "acme/llama", "--upload")
    assert "HF_TOKEN" in str(run(folder, *upload).exception)
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "huggingface_hub", None)
        missing = run(folder, *upload).exception
    assert isinstance(missing, QuantcaseError)
    assert missing.fix == "pip install 'quantcase[cards]'"
    assert run(folder, "--upload").exit_code == 2
    assert run(folder, "--repo-prefix", "no-owner").exit_code == 2
    assert "no card of nope" in str(run(folder, "--variant", "nope").exception)
    with pytest.raises(QuantcaseError, match="no name that the Hub takes"):
        repository("acme/llama", "a--b")


def test_a_failed_upload_says_why_and_keeps_the_token_to_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    class Api:
        def __init__(self, token: str) -> None:
            self.token = token

        def upload_file(self, **given: Any) -> Any:
            raise ConnectionError(f"no route\nwith {self.token}")

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    failed = run(folder, "--repo-prefix", "acme/llama", "--variant", "fp8", "--upload").exception
    assert isinstance(failed, QuantcaseError)
    assert "acme/llama-fp8: the upload failed: no route with ***" in str(failed)


@pytest.mark.parametrize(("weights", "grade"), [("dummy", "measured"), ("real", "simulated"), ("real", "published")])
def test_what_was_not_measured_on_a_real_model_is_never_uploaded(
    tmp_path: Path, weights: str, grade: Grade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    asked = small(weights)
    made = make_bundle(tmp_path, asked=asked, grade=grade)
    assert refusal(view_of(made).case)
    assert "would refuse" in run(made).output
    assert "nothing is uploaded" in str(run(made, "--repo-prefix", "acme/llama", "--upload").exception)
